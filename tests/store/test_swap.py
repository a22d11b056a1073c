from __future__ import annotations

from itertools import count
from pathlib import Path

import pytest
from cutting import cut_after
from trees import contents, plant

from ota_agent.errors import BackupUnusable, DiskFault, WorkDirUnusable
from ota_agent.store import atomic
from ota_agent.store.backup_record import Kept
from ota_agent.store.swap import Swap

KEPT = {"data": Kept.COPIED, "var/lib/app": Kept.COPIED, "file": Kept.COPIED, "new": Kept.ABSENT}
OLD = {"data/rows": b"old", "data/sub/x": b"old", "var/lib/app/state": b"old", "file": b"old"}
NEW = {"data/rows": b"new", "var/lib/app/other": b"new", "file": b"new", "new/thing": b"new"}
OTHER = {"other/untouched": b"1"}


class Place:
    """A `persist/` that holds NEW and a backup that holds OLD."""

    def __init__(self, root: Path) -> None:
        self.persist = root / "persist"
        self.backup = root / "backup"
        plant(self.persist, {**NEW, **OTHER})
        plant(self.backup / "data", OLD)

    def run(self) -> None:
        Swap(self.persist, self.backup, name="restore", data="data", aside="displaced").run(KEPT)

    def displaced(self) -> dict[str, bytes]:
        return contents(self.backup / "displaced")


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_data_come_back_and_what_was_there_is_kept(place: Place) -> None:
    place.run()
    assert contents(place.persist) == {**OLD, **OTHER}
    assert place.displaced() == NEW
    assert not (place.persist / "new").exists()


def test_second_run_does_not_touch_what_was_written_after_the_first(place: Place) -> None:
    place.run()
    (place.persist / "data/rows").write_bytes(b"newer")
    plant(place.persist, {"new/thing": b"newer"})
    place.run()
    assert (place.persist / "data/rows").read_bytes() == b"newer"
    assert (place.persist / "new/thing").read_bytes() == b"newer"
    assert place.displaced() == NEW


def test_data_come_back_where_nothing_is_left(place: Place) -> None:
    atomic.remove_tree(place.persist / "var")
    atomic.remove_tree(place.persist / "new")
    place.run()
    assert contents(place.persist) == {**OLD, **OTHER}
    assert (place.persist / "var/lib").stat().st_mode & 0o777 == 0o755


def test_nothing_moves_when_data_are_missing(place: Place) -> None:
    atomic.remove_tree(place.backup / "data/var/lib/app")
    with pytest.raises(BackupUnusable, match="var/lib/app"):
        place.run()
    assert contents(place.persist) == {**NEW, **OTHER}
    assert place.displaced() == {}


def test_link_on_the_way_leads_no_data_out_of_persist(place: Place, tmp_path: Path) -> None:
    atomic.remove_tree(place.persist / "var")
    (tmp_path / "outside/lib").mkdir(parents=True)
    (place.persist / "var").symlink_to("../outside")
    with pytest.raises(WorkDirUnusable):
        place.run()
    assert contents(tmp_path / "outside") == {}
    (place.persist / "var").unlink()
    place.run()
    assert contents(place.persist) == {**OLD, **OTHER}


def test_link_in_the_place_of_data_is_moved_not_followed(place: Place, tmp_path: Path) -> None:
    plant(tmp_path, {"outside/rows": b"mine"})
    atomic.remove_tree(place.persist / "data")
    (place.persist / "data").symlink_to("../outside")
    place.run()
    assert contents(place.persist) == {**OLD, **OTHER}
    assert (place.backup / "displaced/data").readlink() == Path("../outside")
    assert contents(tmp_path / "outside") == {"rows": b"mine"}


def test_sealed_directories_move_too(place: Place) -> None:
    (place.persist / "data").chmod(0o555)
    (place.backup / "data/data").chmod(0o555)
    place.run()
    assert contents(place.persist) == {**OLD, **OTHER}
    modes = [
        path.stat().st_mode & 0o777
        for path in (place.persist / "data", place.backup / "displaced/data")
    ]
    assert modes == [0o555, 0o555]


def test_program_that_makes_a_path_anew_in_that_moment_is_told(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = atomic.rename

    def racing(source: Path, target: Path, *, replace: bool = False) -> None:
        if source == place.backup / "data/file":
            plant(place.persist, {"file": b"raced"})
        rename(source, target, replace=replace)

    with monkeypatch.context() as patch:
        patch.setattr(atomic, "rename", racing)
        with pytest.raises(DiskFault, match="changed while it was moved") as caught:
            place.run()
    assert "Stop what writes" in caught.value.hint
    place.run()
    assert contents(place.persist) == {**OLD, **OTHER}
    assert place.displaced() == NEW
    assert contents(place.backup / "displaced.1") == {"file": b"raced"}


def everything(place: Place) -> list[bytes]:
    return sorted(
        path.read_bytes()
        for path in place.persist.parent.rglob("*")
        if path.is_file() and not path.name.startswith(("restore.", ".ota-tmp-"))
    )


def test_power_cut_at_any_moment_is_continued_and_loses_neither_side(tmp_path: Path) -> None:
    """Cut at every side effect, and again at a fifth of the recovery's, another one each time."""
    runs = 0
    for first in count():
        was_cut = False
        for second in count(first % 5, 5):
            runs += 1
            place = Place(tmp_path / f"{first}-{second}")
            before = everything(place)
            with cut_after(first) as cut:
                place.run()
            was_cut = cut.was_cut
            assert everything(place) == before
            with cut_after(second) as again:
                place.run()
            assert everything(place) == before
            place.run()
            assert contents(place.persist) == {**OLD, **OTHER}
            assert place.displaced() == NEW
            if not again.was_cut:
                break
        if not was_cut:
            break
    assert runs > 50


def test_data_written_between_two_runs_are_kept_beside_the_displaced(tmp_path: Path) -> None:
    for cuts in count():
        place = Place(tmp_path / str(cuts))
        with cut_after(cuts) as cut:
            place.run()
        if not cut.was_cut:
            break
        is_between = not (place.persist / "data").exists()
        plant(place.persist, {"data/late": b"late"})
        place.run()
        assert "data/late" not in contents(place.persist) or not is_between
        kept = contents(place.persist) | contents(place.backup)
        assert b"late" in kept.values()
        expected = {"rows": b"old", "sub/x": b"old"}
        assert contents(place.persist / "data").items() >= expected.items()


def test_marks_stay_in_the_backup(place: Place) -> None:
    place.run()
    assert sorted(path.name for path in place.backup.glob("*.*")) == [
        "restore.began",
        "restore.done",
    ]
