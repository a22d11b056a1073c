from __future__ import annotations

import errno
import os
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pytest
from cutting import cut_after
from trees import contents, plant, seen

from fakes.progress import FakeProgress
from ota_agent.errors import BackupUnusable, DiskFault, DiskFull, Stopped, WorkDirUnusable
from ota_agent.store import atomic, mounts
from ota_agent.store.backup_record import Backup, Kept
from ota_agent.store.backups import BackupStore
from ota_agent.store.copying import measure
from ota_agent.store.paths import Paths

if TYPE_CHECKING:
    from collections.abc import Sequence

DATA = {"data/rows": b"today", "data/sub/x": b"today", "var/app/state": b"today"}


class Device:
    """A `work_dir` with persistent data, and its backups."""

    def __init__(self, root: Path) -> None:
        self.paths = Paths(root)
        self.persist = self.paths.persist_dir
        self.backups = self.paths.backups_dir
        self.store = BackupStore(self.paths)
        self.backups.mkdir(parents=True)
        plant(self.persist, DATA)

    def take(
        self,
        deployment: str,
        *data: str,
        release: str | None = "1.0.0",
        previous: str | None = None,
        patch: bytes = b"",
    ) -> Backup:
        return self.store.take(
            deployment, release, previous, data, patch, "a reason", FakeProgress()
        )

    def incoming(self, deployment: str, older: str) -> None:
        self.store.incoming(deployment, older, FakeProgress())

    def write(self, content: bytes) -> None:
        plant(self.persist, dict.fromkeys(DATA, content))

    def names(self) -> list[str]:
        return sorted(path.name for path in self.backups.iterdir())


@pytest.fixture
def device(tmp_path: Path) -> Device:
    return Device(tmp_path)


def deployments(backups: Sequence[Backup]) -> list[str]:
    return [backup.deployment for backup in backups]


# --- take ---------------------------------------------------------------------------------------


def test_backup_holds_the_data_and_says_of_what(device: Device) -> None:
    backup = device.take("1-a", "data", "var/app", "new", previous="0.9.0", patch=b"--- a\n")
    assert backup == device.store.read("1-a")
    assert (backup.release, backup.previous, backup.why) == ("1.0.0", "0.9.0", "a reason")
    kept = {"data": Kept.COPIED, "var/app": Kept.COPIED, "new": Kept.ABSENT}
    assert backup.data == kept
    for path in ("data", "var/app"):
        assert seen(device.backups / "1-a/data" / path) == seen(device.persist / path)
    assert (device.backups / "1-a/local.patch").read_bytes() == b"--- a\n"


def test_backup_without_local_changes_has_no_patch(device: Device) -> None:
    device.take("1-a")
    assert sorted(path.name for path in (device.backups / "1-a").iterdir()) == [
        "backup.json",
        "data",
    ]


def test_whole_backup_is_kept_as_it_is(device: Device) -> None:
    first = device.take("1-a", "data")
    device.write(b"later")
    assert device.take("1-a", "data") == first
    assert (device.backups / "1-a/data/data/rows").read_bytes() == b"today"


def test_damaged_backup_is_taken_anew(device: Device) -> None:
    device.take("1-a", "data")
    (device.backups / "1-a/backup.json").write_bytes(b"{")
    device.write(b"later")
    device.take("1-a", "data")
    assert (device.backups / "1-a/data/data/rows").read_bytes() == b"later"


def test_what_cannot_be_copied_is_named(device: Device) -> None:
    os.mkfifo(device.persist / "data/pipe")
    assert device.take("1-a", "data").skipped == ("data/pipe",)


def test_data_that_lie_behind_a_link_are_not_read(device: Device, tmp_path: Path) -> None:
    plant(tmp_path, {"outside/secret": b"mine"})
    (device.persist / "way").symlink_to(tmp_path / "outside")
    with pytest.raises(WorkDirUnusable):
        device.take("1-a", "way/secret")
    assert device.names() == []


@pytest.mark.parametrize("point", ["data", "data/sub", "var"])
def test_mount_point_is_refused_before_it_could_bar_the_way_back(
    device: Device, point: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mounts, "below", lambda directory: [directory / point])
    with pytest.raises(WorkDirUnusable, match=f"{point} is a mount point"):
        device.take("1-a", "data", "var/app")
    assert device.names() == []


def test_mount_point_elsewhere_is_no_matter(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mounts, "below", lambda directory: [directory / "other"])
    device.take("1-a", "data")


def full_disk(*_args: object, **_options: object) -> NoReturn:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "somewhere")


@pytest.mark.parametrize("call", ["mkdir", "utime", "fsync"])
def test_full_disk_leaves_nothing_behind(
    device: Device, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    makes = os.mkdir

    def run_full(path: str | Path, mode: int = 0o777) -> None:
        if Path(path).name == "sub":
            full_disk()
        makes(path, mode)

    with monkeypatch.context() as patch:
        if call == "fsync":
            patch.setattr(atomic, "sync_filesystem", _no_space)
        else:
            patch.setattr(os, call, run_full if call == "mkdir" else full_disk)
        with pytest.raises(DiskFull):
            device.take("1-a", "data")
    assert device.names() == []
    device.take("1-a", "data")


def _no_space(path: Path) -> NoReturn:
    raise DiskFull(f"There is no space left for {path}.")


def test_cleaning_up_that_fails_does_not_hide_why(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fault(path: Path) -> NoReturn:
        monkeypatch.setattr(atomic, "remove_tree", broken)
        raise DiskFull(f"There is no space left for {path}.")

    def broken(path: Path) -> NoReturn:
        raise DiskFault(f"The disk failed at {path}.")

    monkeypatch.setattr(atomic, "sync_filesystem", fault)
    with pytest.raises(DiskFull):
        device.take("1-a", "data")


def test_backup_that_is_ended_in_the_middle_leaves_nothing_behind(device: Device) -> None:
    progress = FakeProgress()
    progress.end_after(3, Stopped())
    with pytest.raises(Stopped):
        device.store.take("1-a", None, None, ["data"], b"", "a reason", progress)
    assert device.names() == []


def test_power_cut_while_backing_up_leaves_a_whole_backup_or_none(tmp_path: Path) -> None:
    for cuts in count():
        device = Device(tmp_path / str(cuts))
        with cut_after(cuts) as cut:
            device.take("1-a", "data", "var/app", patch=b"diff")
        if device.store.list():
            assert contents(device.backups / "1-a/data") == DATA
        device.take("1-a", "data", "var/app", patch=b"diff")
        assert device.names() == ["1-a"]
        assert contents(device.backups / "1-a/data") == DATA
        assert contents(device.persist) == DATA
        if not cut.was_cut:
            break


def test_size_is_what_the_copies_take(device: Device) -> None:
    one, other = measure(device.persist / "data"), measure(device.persist / "var/app")
    together = (one[0] + other[0], one[1] + other[1])
    assert device.store.data_size(["data", "var/app", "new", "none/at/all"]) == together


# --- restore_data -------------------------------------------------------------------------------


def test_restored_data_are_those_of_the_backup(device: Device) -> None:
    device.take("1-a", "data", "var/app", "new")
    device.write(b"migrated")
    plant(device.persist, {"new/thing": b"migrated", "other": b"kept"})
    for _ in range(2):
        device.store.restore_data("1-a")
        assert contents(device.persist) == {**DATA, "other": b"kept"}
    assert contents(device.backups / "1-a/displaced") == {
        **dict.fromkeys(DATA, b"migrated"),
        "new/thing": b"migrated",
    }


def test_restored_data_are_the_copy_in_every_respect(device: Device) -> None:
    (device.persist / "data").chmod(0o700)
    (device.persist / "data/link").symlink_to("rows")
    before = seen(device.persist / "data")
    device.take("1-a", "data")
    device.write(b"migrated")
    device.store.restore_data("1-a")
    assert seen(device.persist / "data") == before


@pytest.mark.parametrize("damage", [None, b"{"])
def test_backup_that_is_missing_or_damaged_moves_nothing(
    device: Device, damage: bytes | None
) -> None:
    device.take("1-a", "data")
    if damage is None:
        atomic.remove_tree(device.backups / "1-a")
    else:
        (device.backups / "1-a/backup.json").write_bytes(damage)
    device.write(b"migrated")
    with pytest.raises(BackupUnusable, match="1-a"):
        device.store.restore_data("1-a")
    assert contents(device.persist) == dict.fromkeys(DATA, b"migrated")


def test_backup_whose_data_were_dropped_moves_nothing(device: Device) -> None:
    device.take("1-a", "data")
    device.take("2-a", "data")
    device.store.prune(5, 1, set())
    with pytest.raises(BackupUnusable, match="lacks the data of data"):
        device.store.restore_data("1-a")
    assert contents(device.persist) == DATA


# --- incoming, put_incoming ---------------------------------------------------------------------


def exchanged(root: Path) -> Device:
    """Give a device with a backup of old data and one of today's, today's in use."""
    device = Device(root)
    device.write(b"old")
    device.take("1-a", "data", "var/app", "new", release="1.0.0")
    device.write(b"today")
    plant(device.persist, {"new/thing": b"today"})
    device.take("2-a", "data", "var/app", "new", release="1.1.0")
    return device


TODAY = {**DATA, "new/thing": b"today"}
OLD = dict.fromkeys(DATA, b"old")


def test_older_data_come_in_and_can_be_taken_back(tmp_path: Path) -> None:
    device = exchanged(tmp_path)
    for _ in range(2):
        device.incoming("2-a", "1-a")
    assert contents(device.persist) == TODAY
    for _ in range(2):
        device.store.put_incoming("2-a")
    assert contents(device.persist) == OLD
    assert contents(device.backups / "2-a/outgoing") == TODAY
    assert contents(device.backups / "1-a/data") == OLD
    device.store.restore_data("2-a")
    assert contents(device.persist) == TODAY
    assert contents(device.backups / "2-a/displaced") == OLD


def test_older_path_that_this_backup_does_not_cover_stays_out(tmp_path: Path) -> None:
    device = Device(tmp_path)
    device.take("1-a", "data", "var/app")
    device.write(b"later")
    device.take("2-a", "data")
    device.incoming("2-a", "1-a")
    device.store.put_incoming("2-a")
    assert contents(device.persist) == {
        "data/rows": b"today",
        "data/sub/x": b"today",
        "var/app/state": b"later",
    }


def test_older_backup_without_data_is_refused(device: Device) -> None:
    device.take("1-a")
    device.take("2-a", "data")
    with pytest.raises(BackupUnusable, match="1-a no longer holds its data"):
        device.incoming("2-a", "1-a")


def test_full_disk_leaves_nothing_of_the_older_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = exchanged(tmp_path)
    before = seen(device.backups)
    with monkeypatch.context() as patch:
        patch.setattr(os, "utime", full_disk)
        with pytest.raises(DiskFull):
            device.incoming("2-a", "1-a")
    assert seen(device.backups).keys() == before.keys()


def test_nothing_comes_in_that_was_not_prepared(device: Device) -> None:
    device.take("1-a", "data")
    with pytest.raises(BackupUnusable):
        device.store.put_incoming("1-a")
    assert contents(device.persist) == DATA


def test_power_cut_while_older_data_come_in_loses_neither_side(tmp_path: Path) -> None:
    for cuts in count():
        device = exchanged(tmp_path / str(cuts))
        with cut_after(cuts) as cut:
            device.incoming("2-a", "1-a")
            device.store.put_incoming("2-a")
        # Both routes that the flow knows: it is gone through with, or taken back.
        if cuts % 2:
            device.incoming("2-a", "1-a")
            device.store.put_incoming("2-a")
            assert contents(device.persist) == OLD
        device.store.restore_data("2-a")
        assert contents(device.persist) == TODAY
        assert contents(device.backups / "1-a/data") == OLD
        if not cut.was_cut:
            break


def test_power_cut_while_restoring_over_older_data_is_continued(tmp_path: Path) -> None:
    for cuts in count():
        device = exchanged(tmp_path / str(cuts))
        device.incoming("2-a", "1-a")
        device.store.put_incoming("2-a")
        with cut_after(cuts) as cut:
            device.store.restore_data("2-a")
        device.store.restore_data("2-a")
        assert contents(device.persist) == TODAY
        assert contents(device.backups / "2-a/displaced") == OLD
        if not cut.was_cut:
            break


# --- looking ------------------------------------------------------------------------------------


def test_backups_are_listed_newest_first_whatever_the_clock_says(device: Device) -> None:
    for number in range(1, 13):
        device.take(f"{number}-a")
    assert deployments(device.store.list()) == [f"{number}-a" for number in range(12, 0, -1)]


def test_damaged_backup_is_not_listed(device: Device) -> None:
    device.take("1-a")
    device.take("2-a")
    (device.backups / "2-a/backup.json").unlink()
    assert deployments(device.store.list()) == ["1-a"]


def test_newest_data_of_a_release_are_found(device: Device) -> None:
    device.take("1-a", "data", release="1.0.0")
    device.take("2-a", "data", release="1.1.0")
    device.take("3-a", "data", release="1.0.0")
    device.take("4-a", release="1.0.0")
    found = device.store.newest_with_data_of("1.0.0")
    assert found is not None
    assert found.deployment == "3-a"
    assert device.store.newest_with_data_of("2.0.0") is None


def test_data_that_were_moved_back_are_no_longer_in_their_backup(device: Device) -> None:
    device.take("1-a", "data", release="1.0.0")
    device.store.restore_data("1-a")
    assert device.store.newest_with_data_of("1.0.0") is None


def test_backup_of_paths_that_were_absent_counts_as_one_with_data(device: Device) -> None:
    device.take("1-a", "new", release="1.0.0")
    assert device.store.newest_with_data_of("1.0.0") is not None


def test_releases_that_backups_name_are_told(device: Device) -> None:
    assert device.store.named_releases() == set()
    device.take("1-a", release=None)
    device.take("2-a", release="1.0.0")
    device.take("3-a", release="1.1.0", previous="0.9.0")
    assert device.store.named_releases() == {"1.0.0", "1.1.0", "0.9.0"}


# --- dropping -----------------------------------------------------------------------------------


def data_kept(device: Device) -> list[str]:
    return [name for name in device.names() if (device.backups / name / "data").exists()]


def test_oldest_backups_go_and_only_the_newest_keeps_its_data(device: Device) -> None:
    for number in range(1, 8):
        device.take(f"{number}-a", "data")
    device.store.prune(5, 1, set())
    assert device.names() == ["3-a", "4-a", "5-a", "6-a", "7-a"]
    assert data_kept(device) == ["7-a"]
    assert deployments(device.store.list())[0] == "7-a"


def test_backup_without_data_does_not_use_up_what_may_be_kept(device: Device) -> None:
    device.take("1-a", "data")
    device.take("2-a", "data")
    device.take("3-a")
    device.store.prune(5, 1, set())
    assert device.store.newest_with_data_of("1.0.0") == device.store.read("2-a")
    assert "1-a" not in data_kept(device)


def test_backup_of_paths_that_were_absent_is_dropped_once(device: Device) -> None:
    device.take("d1", "not/there")
    device.take("d2", "data")
    device.take("d3", "data")
    for _ in range(2):
        device.store.prune(keep=5, keep_data=1, never=set())
        assert data_kept(device) == ["d3"]


def test_deployments_in_need_of_their_backup_keep_it(device: Device) -> None:
    for number in range(1, 5):
        device.take(f"{number}-a", "data")
    (device.backups / "2-a/backup.json").write_bytes(b"{")
    device.store.prune(1, 0, {"1-a", "2-a"})
    assert device.names() == ["1-a", "2-a", "4-a"]
    assert data_kept(device) == ["1-a", "2-a"]


def test_litter_goes(device: Device) -> None:
    device.take("1-a")
    plant(device.backups, {".new-2-a/data/x": b"", ".drop/x": b"", "3-a/no-record": b""})
    device.store.prune(5, 1, set())
    assert device.names() == ["1-a"]


def test_displaced_data_are_dropped_and_nothing_else(tmp_path: Path) -> None:
    device = exchanged(tmp_path)
    device.incoming("2-a", "1-a")
    device.store.put_incoming("2-a")
    device.store.restore_data("2-a")
    plant(device.backups, {"2-a/displaced.1/data/late": b""})
    device.store.drop_displaced("2-a", "1-a", "never-taken")
    assert contents(device.persist) == TODAY
    assert not contents(device.backups / "2-a").keys() & {"displaced", "displaced.1", "outgoing"}
    assert contents(device.backups / "1-a/data") == OLD
    device.store.restore_data("2-a")
    assert contents(device.persist) == TODAY


def test_discarded_backup_leaves_nothing(device: Device) -> None:
    device.take("1-a", "data")
    plant(device.backups, {".new-1-a/half": b"", ".drop/half": b""})
    for _ in range(2):
        device.store.discard("1-a")
        assert device.names() == []


def test_power_cut_while_pruning_leaves_no_half_backup_that_counts(tmp_path: Path) -> None:
    for cuts in count():
        device = Device(tmp_path / str(cuts))
        for number in range(1, 5):
            device.take(f"{number}-a", "data", "var/app")
        with cut_after(cuts) as cut:
            device.store.prune(2, 1, set())
        for backup in device.store.list():
            data = device.backups / backup.deployment / "data"
            assert contents(data) in ({}, DATA)
        assert contents(device.backups / "4-a/data") == DATA
        device.store.prune(2, 1, set())
        assert device.names() == ["3-a", "4-a"]
        assert data_kept(device) == ["4-a"]
        if not cut.was_cut:
            break
