from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from cutting import count_effects, cut_after
from plain_user import as_plain_user
from shelf import Shelf, tree_at, tree_of

from fakes.object_store import Executable, Link
from ota_agent.errors import ReleaseMissing, StoreDamaged
from ota_agent.store.scan import Drift

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fakes.object_store import Content

FILES: dict[str, Content] = {
    "app/main.py": b"print()\n",
    "app/run": Executable(b"#!/bin/sh\n"),
    "app/deep/er/file": b"deep",
    "config.json": b"{}",
    "latest": Link("app/main.py"),
}
PERSIST = ["data", "app/cache"]
EXPECTED = tree_of(FILES, PERSIST)


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[Shelf]:
    shelf = Shelf(tmp_path / "device")
    yield shelf
    shelf.database.close()


def damage(tree: Path) -> None:
    """Change, remove, replace and add something of every kind."""
    tree.chmod(0o755)
    for directory in ("app", "app/deep", "app/deep/er"):
        (tree / directory).chmod(0o755)
    (tree / "config.json").chmod(0o644)
    (tree / "config.json").write_bytes(b"[]")
    (tree / "app/main.py").unlink()
    (tree / "app/main.py").mkdir()
    (tree / "app/main.py/inside").touch()
    (tree / "app/run").chmod(0o444)
    (tree / "app/cache").unlink()
    (tree / "latest").unlink()
    (tree / "latest").symlink_to("config.json")
    (tree / "app/deep/er/file").unlink()
    (tree / "app/deep/er").rmdir()
    (tree / "app/deep/er").symlink_to("/tmp")
    (tree / "added").write_bytes(b"kept")


def test_damaged_tree_becomes_the_release_again_and_keeps_what_was_added(shelf: Shelf) -> None:
    release = shelf.put(FILES, PERSIST)
    damage(shelf.dir(release))
    written = shelf.mend(release, shelf.scan(release).damage)
    assert tree_at(shelf.dir(release)) == EXPECTED | {"added": ("file", 0o644, b"kept")}
    assert shelf.scan(release) == Drift(added=("added",))
    assert written == sum(
        len(content) for content in (b"{}", b"print()\n", b"#!/bin/sh\n", b"deep", b"app/main.py")
    )


def test_mended_files_are_known_without_reading(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = shelf.put(FILES, PERSIST)
    damage(shelf.dir(release))
    shelf.mend(release, shelf.scan(release).damage)
    monkeypatch.setattr("ota_agent.store.blobs.oid_on_disk", None)
    assert shelf.scan(release) == Drift(added=("added",))


def test_nothing_to_mend_needs_no_object(shelf: Shelf) -> None:
    release = shelf.put(FILES, PERSIST)
    entries = shelf.entries(release)
    shelf.objects.blobs.clear()
    assert shelf.store.mend(release, [], entries, PERSIST, shelf.progress) == 0
    (shelf.dir(release) / "app").chmod(0o755)
    (shelf.dir(release)).chmod(0o755)
    (shelf.dir(release) / "data").unlink()
    assert shelf.store.mend(release, ["app", ".", "data"], entries, PERSIST, shelf.progress) == 0
    assert tree_at(shelf.dir(release)) == EXPECTED


def test_path_that_is_not_of_the_release_is_left_alone(shelf: Shelf) -> None:
    release = shelf.put(FILES, PERSIST)
    assert shelf.mend(release, ["stranger"]) == 0
    assert tree_at(shelf.dir(release)) == EXPECTED


def test_edit_in_place_of_a_shared_file_reaches_no_other_release_after_mending(
    shelf: Shelf,
) -> None:
    first = shelf.put(FILES)
    shelf.go_live(first)
    second = shelf.put(FILES | {"config.json": b'{"new": 1}'})
    shared = [shelf.dir(release) / "app/main.py" for release in (first, second)]
    assert shared[0].samefile(shared[1])
    shared[1].chmod(0o644)
    shared[1].write_bytes(b"edited\n")
    for release in (first, second):
        assert shelf.scan(release).changed == ("app/main.py",)
    shelf.mend(first, ["app/main.py"])
    assert tree_at(shelf.dir(first)) == tree_of(FILES)
    assert shared[1].read_bytes() == b"edited\n"
    shelf.mend(second, ["app/main.py"])
    assert shelf.scan(second) == Drift()
    assert shelf.scan(first) == Drift()


def test_reader_of_an_open_file_keeps_what_it_opened(shelf: Shelf) -> None:
    release = shelf.put(FILES)
    file = shelf.dir(release) / "config.json"
    file.chmod(0o644)
    file.write_bytes(b"edited")
    with file.open("rb") as reader:
        shelf.mend(release, ["config.json"])
        assert reader.read() == b"edited"
    assert file.read_bytes() == b"{}"


def test_repair_that_fails_leaves_a_sealed_tree_without_litter(shelf: Shelf) -> None:
    release = shelf.put(FILES)
    file = shelf.dir(release) / "config.json"
    file.chmod(0o644)
    file.write_bytes(b"edited")
    entries = shelf.entries(release)
    shelf.objects.lose(next(entry.oid for entry in entries if entry.path == "config.json"))
    with pytest.raises(StoreDamaged):
        shelf.store.mend(release, ["app/main.py", "config.json"], entries, [], shelf.progress)
    expected = tree_of(FILES) | {"config.json": ("file", 0o644, b"edited")}
    assert tree_at(shelf.dir(release)) == expected


def test_plain_user_mends_a_sealed_tree() -> None:
    with as_plain_user() as place:
        shelf = Shelf(place / "device")
        release = shelf.put(FILES, PERSIST)
        damage(shelf.dir(release))
        (shelf.dir(release) / "added").unlink()
        shelf.mend(release, shelf.scan(release).damage)
        assert tree_at(shelf.dir(release)) == EXPECTED
        shelf.database.close()


def test_release_that_is_not_kept_is_not_mended(shelf: Shelf) -> None:
    with pytest.raises(ReleaseMissing):
        shelf.store.mend("1.0-never", [], [], [], shelf.progress)


@pytest.mark.slow
def test_repair_cut_at_any_effect_is_finished_by_the_next(tmp_path: Path) -> None:
    def damaged(name: str) -> tuple[Shelf, str]:
        shelf = Shelf(tmp_path / name)
        release = shelf.put(FILES, PERSIST)
        damage(shelf.dir(release))
        (shelf.dir(release) / "added").unlink()
        return shelf, release

    shelf, release = damaged("whole")
    drift = shelf.scan(release)
    with count_effects() as whole:
        shelf.mend(release, drift.damage)
    shelf.database.close()
    assert len(whole) > 20
    for effects in range(len(whole)):
        shelf, release = damaged(str(effects))
        drift = shelf.scan(release)
        with cut_after(effects) as cutter:
            shelf.mend(release, drift.damage)
        assert cutter.was_cut
        shelf.reopen()
        shelf.mend(release, shelf.scan(release).damage)
        assert tree_at(shelf.dir(release)) == EXPECTED, whole.effects[effects]
        assert shelf.scan(release) == Drift()
        assert shelf.left_over() == []
        shelf.database.close()
