from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cutting import count_effects, cut_after
from plain_user import as_plain_user
from shelf import Shelf, tree_at, tree_of

from fakes.object_store import Executable, Link
from ota_agent.errors import ReleaseMissing
from ota_agent.store import inodes
from ota_agent.store.scan import Drift

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fakes.object_store import Content

FILES: dict[str, Content] = {
    "app/main.py": b"one\n",
    "app/run": Executable(b"#!/bin/sh\n"),
    "app/deep/er/file": b"deep",
    "latest": Link("app/main.py"),
    "data/seed": b"seed",
}
CHANGED: dict[str, Content] = FILES | {
    "app/main.py": b"two\n",
    "app/new/file": b"new",
    "latest": Link("app/run"),
}
del CHANGED["app/deep/er/file"]
PERSIST = ["data"]


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[Shelf]:
    shelf = Shelf(tmp_path / "device")
    yield shelf
    shelf.database.close()


@pytest.fixture
def unread(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Forbid the reading of files from here on: records have to tell."""
    return lambda: monkeypatch.setattr("ota_agent.store.blobs.oid_on_disk", None)


def inodes_known(shelf: Shelf) -> set[int]:
    return {row["ino"] for row in shelf.database.rows("SELECT ino FROM inodes")}


def inodes_on(*trees: Path) -> set[int]:
    return {
        path.lstat().st_ino
        for tree in trees
        for path in tree.rglob("*")
        if path.is_file() and not path.is_symlink()
    }


# --- live and previous --------------------------------------------------------------------------


def test_fresh_device_has_nothing(shelf: Shelf) -> None:
    assert (shelf.store.live(), shelf.store.previous(), shelf.store.kept()) == (None, None, [])
    assert not shelf.store.is_sealed("1.0-abcdef-0123")


def test_live_and_previous_are_relative_links_that_programs_can_follow(shelf: Shelf) -> None:
    first, second = shelf.put(FILES, PERSIST), shelf.put(CHANGED, PERSIST)
    shelf.go_live(first)
    shelf.go_live(second)
    assert (shelf.store.live(), shelf.store.previous()) == (second, first)
    assert shelf.paths.live_link.readlink() == Path("releases") / second
    assert (shelf.paths.live_link / "app/main.py").read_bytes() == b"two\n"
    (shelf.paths.persist_dir / "data").mkdir()
    assert (shelf.paths.live_link / "data").samefile(shelf.paths.persist_dir / "data")
    assert shelf.store.kept() == sorted([first, second])


def test_links_are_taken_away(shelf: Shelf) -> None:
    shelf.go_live(shelf.put(FILES))
    shelf.store.make_live(None)
    shelf.store.make_live(None)
    shelf.store.set_previous(None)
    assert (shelf.store.live(), shelf.store.previous()) == (None, None)
    assert not shelf.paths.live_link.is_symlink()


@pytest.mark.parametrize(
    "target",
    ["releases/gone", "/etc", "releases/..", "releases/", "elsewhere", "releases/1.0/app", "live"],
)
def test_link_that_leads_to_no_release_is_none(shelf: Shelf, target: str) -> None:
    shelf.paths.live_link.symlink_to(target)
    assert shelf.store.live() is None


def test_release_whose_tree_is_not_there_does_not_go_live(shelf: Shelf) -> None:
    release = shelf.put(FILES)
    shelf.go_live(release)
    with pytest.raises(ReleaseMissing, match=r"1\.0-never"):
        shelf.store.make_live("1.0-never")
    assert shelf.store.live() == release


def test_tree_that_a_crash_left_open_is_sealed_when_it_goes_live(shelf: Shelf) -> None:
    release = shelf.put(FILES)
    shelf.dir(release).chmod(0o755)
    shelf.store.make_live(release)
    assert tree_at(shelf.dir(release)) == tree_of(FILES)


# --- staging ------------------------------------------------------------------------------------


def test_first_release_is_written_whole_and_sealed(shelf: Shelf) -> None:
    before = os.umask(0o077)
    try:
        release = shelf.put(FILES, PERSIST)
    finally:
        os.umask(before)
    assert tree_at(shelf.dir(release)) == tree_of(FILES, PERSIST)
    assert shelf.objects.kept == {release: shelf._commits[release]}
    size = len(b"one\n" + b"#!/bin/sh\n" + b"deep" + b"app/main.py")
    assert shelf.staged is not None
    assert (shelf.staged.files, shelf.staged.reused) == (4, 0)
    assert (shelf.staged.size_bytes, shelf.staged.written_bytes) == (size, size)
    assert shelf.left_over() == []
    assert inodes_known(shelf) == inodes_on(shelf.dir(release))


def test_unchanged_files_are_linked_from_live_and_changed_ones_written(
    shelf: Shelf, unread: Callable[[], None]
) -> None:
    first = shelf.put(FILES, PERSIST)
    shelf.go_live(first)
    unread()
    second = shelf.put(CHANGED, PERSIST)
    assert tree_at(shelf.dir(second)) == tree_of(CHANGED, PERSIST)
    assert tree_at(shelf.dir(first)) == tree_of(FILES, PERSIST)
    assert shelf.staged is not None
    assert (shelf.staged.reused, shelf.staged.written_bytes) == (1, len(b"two\nnewapp/run"))
    assert (shelf.dir(second) / "app/run").samefile(shelf.dir(first) / "app/run")
    assert [shelf.scan(release) for release in (first, second)] == [Drift(), Drift()]


def test_what_live_has_changed_is_linked_from_previous(
    shelf: Shelf, unread: Callable[[], None]
) -> None:
    first, second = shelf.put(FILES), shelf.put(CHANGED)
    shelf.go_live(first)
    shelf.go_live(second)
    unread()
    third = shelf.put(FILES | {"third": b"3"})
    assert shelf.staged is not None
    assert shelf.staged.written_bytes == 1
    assert (shelf.dir(third) / "app/main.py").samefile(shelf.dir(first) / "app/main.py")


def test_spare_tree_becomes_the_next_release(shelf: Shelf, unread: Callable[[], None]) -> None:
    first, second = shelf.put(FILES, PERSIST), shelf.put(CHANGED, PERSIST)
    shelf.go_live(second)
    kept = (shelf.dir(first) / "app/deep/er/file").stat().st_ino
    shelf.store.retire(first)
    unread()
    third = shelf.put(FILES | {"app/main.py": b"three\n"}, PERSIST)
    assert tree_at(shelf.dir(third)) == tree_of(FILES | {"app/main.py": b"three\n"}, PERSIST)
    assert tree_at(shelf.dir(second)) == tree_of(CHANGED, PERSIST)
    assert shelf.staged is not None
    assert (shelf.staged.reused, shelf.staged.written_bytes) == (4 - 1, len(b"three\n"))
    assert (shelf.dir(third) / "app/deep/er/file").stat().st_ino == kept
    assert not shelf.paths.spare_dir.exists()
    assert [shelf.scan(release) for release in (second, third)] == [Drift(), Drift()]
    assert inodes_known(shelf) == inodes_on(shelf.dir(second), shelf.dir(third))


def test_strange_things_in_the_spare_do_not_reach_a_release(shelf: Shelf, tmp_path: Path) -> None:
    first = shelf.put(FILES, PERSIST)
    shelf.store.retire(first)
    spare = shelf.paths.spare_dir
    for directory in (spare, spare / "app", spare / "app/deep"):
        directory.chmod(0o700)
    (spare / "app/main.py").chmod(0o644)
    (spare / "app/main.py").write_bytes(b"eno\n")
    (spare / "app/main.py").chmod(0o444)
    (spare / "app/run").chmod(0o777)
    (spare / "latest").unlink()
    (spare / "latest").mkdir()
    (spare / "data").unlink()
    (spare / "data").mkdir()
    (spare / "added/below").mkdir(parents=True)
    (spare / "app/deep/er").chmod(0o755)
    (spare / "app/deep/er/file").unlink()
    (spare / "app/deep/er").rmdir()
    (spare / "app/deep/er").symlink_to(tmp_path)
    second = shelf.publish(FILES | {"new": b""}, PERSIST)
    shelf.stage(second)
    assert tree_at(shelf.dir(second)) == tree_of(FILES | {"new": b""}, PERSIST)


def test_persistent_data_are_never_linked_into_a_release(shelf: Shelf) -> None:
    first = shelf.put(FILES, PERSIST)
    shelf.go_live(first)
    data = shelf.paths.persist_dir / "data"
    data.mkdir()
    (data / "seed").write_bytes(b"seed")
    (data / "seed").chmod(0o444)
    second = shelf.put(FILES)  # whose data are the release's own
    assert not (shelf.dir(second) / "data/seed").samefile(data / "seed")
    assert tree_at(shelf.dir(second)) == tree_of(FILES)


def test_file_edited_in_the_live_tree_is_written_anew(shelf: Shelf) -> None:
    first = shelf.put(FILES)
    shelf.go_live(first)
    file = shelf.dir(first) / "app/main.py"
    file.chmod(0o644)
    file.write_bytes(b"eno\n")
    file.chmod(0o444)
    second = shelf.put(FILES | {"new": b"new"})
    assert tree_at(shelf.dir(second)) == tree_of(FILES | {"new": b"new"})
    assert file.read_bytes() == b"eno\n"


def test_file_edited_while_it_is_linked_is_written_anew(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = shelf.put(FILES)
    shelf.go_live(first)
    file = shelf.dir(first) / "app/main.py"
    link = os.link

    def edit_and_link(source: str, target: str, **named: bool) -> None:
        file.chmod(0o644)
        file.write_bytes(b"edited")
        link(source, target, **named)

    monkeypatch.setattr(os, "link", edit_and_link)
    second = shelf.put(FILES | {"new": b"new"})
    assert tree_at(shelf.dir(second)) == tree_of(FILES | {"new": b"new"})


def test_lost_records_cost_a_read_of_each_file_and_nothing_else(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = shelf.put(FILES), shelf.put(CHANGED)
    shelf.go_live(second)
    shelf.store.retire(first)
    with inodes.opened(shelf.database) as records:
        records.forget_others(())
    third = shelf.put(CHANGED | {"latest": Link("app"), "app/deep/er/file": b"deep"})
    assert shelf.staged is not None
    assert shelf.staged.written_bytes == len(b"app")
    monkeypatch.setattr("ota_agent.store.blobs.oid_on_disk", None)
    assert shelf.scan(third) == Drift()


@pytest.mark.parametrize("code", [1, 18, 31, 95], ids=["EPERM", "EXDEV", "EMLINK", "EOPNOTSUPP"])
def test_where_files_cannot_be_linked_they_are_written(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse(*_arguments: object, **_named: object) -> None:
        raise OSError(code, os.strerror(code))

    shelf.go_live(shelf.put(FILES))
    monkeypatch.setattr(os, "link", refuse)
    second = shelf.put(CHANGED)
    assert tree_at(shelf.dir(second)) == tree_of(CHANGED)
    assert shelf.staged is not None
    assert shelf.staged.reused == 0


def test_many_files_are_staged(shelf: Shelf) -> None:
    files: dict[str, Content] = {f"d{number}/f": b"%d" % number for number in range(50)}
    release = shelf.put(files)
    assert tree_at(shelf.dir(release)) == tree_of(files)


def test_staging_tells_its_progress(shelf: Shelf) -> None:
    shelf.put(FILES)
    assert max(done for done, _ in shelf.progress.advances) > 0


def test_release_staged_again_is_mended_and_used(shelf: Shelf) -> None:
    release = shelf.put(FILES, PERSIST)
    file = shelf.dir(release) / "app/main.py"
    file.chmod(0o644)
    file.write_bytes(b"edited")
    shelf.objects.drop(release)
    staged = shelf.stage(release, "8-abcdef")
    assert tree_at(shelf.dir(release)) == tree_of(FILES, PERSIST)
    assert (staged.files, staged.reused, staged.written_bytes) == (4, 3, 4)
    assert release in shelf.objects.kept


def test_plain_user_stages_from_a_spare() -> None:
    with as_plain_user() as place:
        shelf = Shelf(place / "device")
        first, second = shelf.put(FILES, PERSIST), shelf.put(CHANGED, PERSIST)
        shelf.go_live(second)
        shelf.store.retire(first)
        third = shelf.put(FILES | {"third": b"3"}, PERSIST)
        assert tree_at(shelf.dir(third)) == tree_of(FILES | {"third": b"3"}, PERSIST)
        shelf.database.close()


# --- retention ----------------------------------------------------------------------------------


def test_retired_release_becomes_the_spare_and_the_older_spare_goes(shelf: Shelf) -> None:
    first, second = shelf.put(FILES), shelf.put(CHANGED)
    third = shelf.put(FILES | {"third": b"3"})
    shelf.go_live(third)
    shelf.store.retire(first)
    shelf.store.retire(second)
    shelf.store.retire(second)
    assert shelf.store.kept() == [third]
    assert list(shelf.objects.kept) == [third]
    assert tree_at(shelf.paths.spare_dir) == tree_of(CHANGED)
    assert inodes_known(shelf) == inodes_on(shelf.dir(third), shelf.paths.spare_dir)


def test_deleting_a_spare_leaves_shared_files_known(
    shelf: Shelf, unread: Callable[[], None]
) -> None:
    first, second = shelf.put(FILES), shelf.put(FILES | {"second": b"2"})
    shelf.go_live(second)
    shelf.store.retire(first)
    shelf.store.drop_spare()
    shelf.store.drop_spare()
    unread()
    assert shelf.scan(second) == Drift()
    assert inodes_known(shelf) == inodes_on(shelf.dir(second))


def test_release_in_use_is_not_retired(shelf: Shelf) -> None:
    first, second = shelf.put(FILES), shelf.put(CHANGED)
    shelf.go_live(first)
    shelf.go_live(second)
    for release in (first, second):
        with pytest.raises(ValueError, match="in use"):
            shelf.store.retire(release)
        shelf.store.discard("7-abcdef", release)
    assert shelf.store.kept() == sorted([first, second])


def test_abandoned_deployment_gives_its_tree_back(shelf: Shelf) -> None:
    release = shelf.put(FILES)
    for _ in range(2):
        shelf.store.discard("7-abcdef", release)
        assert shelf.store.kept() == []
        assert shelf.objects.kept == {}
        assert tree_at(shelf.paths.spare_dir) == tree_of(FILES)


def test_deployment_abandoned_while_staging_gives_back_what_it_had(shelf: Shelf) -> None:
    first = shelf.put(FILES)
    shelf.store.retire(first)
    second = shelf.publish(CHANGED)
    shelf.progress.end_after(3, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        shelf.stage(second)
    assert shelf.left_over() == ["7-abcdef"]
    shelf.progress = type(shelf.progress)()
    shelf.store.discard("7-abcdef", None)
    assert shelf.left_over() == []
    assert shelf.store.kept() == []
    shelf.stage(second)
    assert tree_at(shelf.dir(second)) == tree_of(CHANGED)


def test_start_keeps_one_unfinished_tree_as_the_spare(shelf: Shelf) -> None:
    release = shelf.put(FILES)
    for name in ("7-abcdef", "8-abcdef"):
        (shelf.paths.staging_dir / name / "app").mkdir(parents=True)
    shelf.store.empty_staging()
    assert shelf.left_over() == []
    assert shelf.paths.spare_dir.is_dir()
    assert tree_at(shelf.dir(release)) == tree_of(FILES)


def test_start_forgets_inodes_that_are_gone(shelf: Shelf) -> None:
    release = shelf.put(FILES)
    shelf.dir(release).chmod(0o755)
    (shelf.dir(release) / "app").chmod(0o755)
    (shelf.dir(release) / "app/main.py").unlink()
    shelf.store.empty_staging()
    assert inodes_known(shelf) == inodes_on(shelf.dir(release))


# --- crashes ------------------------------------------------------------------------------------


def a_device(work_dir: Path) -> tuple[Shelf, str, str]:
    """Give a device with a live release, an older one as the spare, and one to come."""
    shelf = Shelf(work_dir)
    old = shelf.put(FILES | {"old": b"old", "app/main.py": b"zero\n"}, PERSIST)
    live = shelf.put(FILES, PERSIST)
    shelf.go_live(live)
    shelf.store.retire(old)
    return shelf, live, shelf.publish(CHANGED, PERSIST)


def assert_whole(shelf: Shelf, live: str, new: str, where: str) -> None:
    assert shelf.store.live() == live, where
    assert tree_at(shelf.dir(live)) == tree_of(FILES, PERSIST), where
    assert tree_at(shelf.dir(new)) == tree_of(CHANGED, PERSIST), where
    assert shelf.scan(live) == shelf.scan(new) == Drift(), where
    assert shelf.left_over() == [], where
    assert new in shelf.objects.kept, where


@pytest.mark.slow
def test_staging_cut_at_any_effect_is_done_again(tmp_path: Path) -> None:
    shelf, _, new = a_device(tmp_path / "whole")
    with count_effects() as whole:
        shelf.stage(new)
    shelf.database.close()
    assert len(whole) > 20
    for effects in range(len(whole)):
        shelf, live, new = a_device(tmp_path / str(effects))
        with cut_after(effects) as first:
            shelf.stage(new)
        assert first.was_cut
        if shelf.store.is_sealed(new):
            assert shelf.scan(new).missing == ()
        shelf.reopen()
        assert tree_at(shelf.dir(live)) == tree_of(FILES, PERSIST), whole.effects[effects]
        with cut_after(effects // 2) as second:
            shelf.stage(new)
        if second.was_cut:
            shelf.reopen()
            shelf.stage(new)
        assert_whole(shelf, live, new, whole.effects[effects])
        shelf.database.close()


def test_link_cut_at_any_effect_is_the_old_or_the_new_one(tmp_path: Path) -> None:
    for effects, is_new in ((0, False), (1, False), (2, True)):
        shelf, live, new = a_device(tmp_path / str(effects))
        shelf.stage(new)
        with cut_after(effects) as cutter:
            shelf.store.make_live(new)
        assert cutter.was_cut != is_new
        assert shelf.store.live() == (new if is_new else live)
        shelf.reopen()
        assert shelf.left_over() == []
        shelf.store.make_live(new)
        assert shelf.store.live() == new
        shelf.database.close()


@pytest.mark.slow
def test_retiring_cut_at_any_effect_is_done_again(tmp_path: Path) -> None:
    def prepared(name: str) -> tuple[Shelf, str, str]:
        shelf, live, new = a_device(tmp_path / name)
        third = shelf.put(FILES | {"third": b"3"}, PERSIST)
        shelf.stage(new)
        shelf.store.discard("7-abcdef", third)
        return shelf, live, new

    shelf, _, new = prepared("whole")
    with count_effects() as whole:
        shelf.store.retire(new)
    shelf.database.close()
    assert len(whole) > 5
    for effects in range(len(whole)):
        shelf, live, new = prepared(str(effects))
        with cut_after(effects) as cutter:
            shelf.store.retire(new)
        assert cutter.was_cut
        shelf.reopen()
        assert tree_at(shelf.dir(live)) == tree_of(FILES, PERSIST)
        shelf.store.retire(new)
        assert shelf.store.kept() == [live]
        assert list(shelf.objects.kept) == [live]
        # A plain user has to open the tree's own directory to move it.
        open_or_sealed = {".": tree_at(shelf.paths.spare_dir)["."]}
        assert tree_at(shelf.paths.spare_dir) == tree_of(CHANGED, PERSIST) | open_or_sealed
        assert shelf.scan(live) == Drift()
        assert shelf.left_over() == []
        assert inodes_known(shelf) <= inodes_on(shelf.dir(live), shelf.paths.spare_dir)
        shelf.database.close()
