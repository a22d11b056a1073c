from __future__ import annotations

import errno
import os
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pytest
from cutting import cut_after
from trees import contents, plant, seen

from fakes.object_store import Content, Executable, FakeObjectStore, Link
from fakes.progress import FakeProgress
from ota_agent.errors import DiskFull, Stopped, StoreDamaged, WorkDirUnusable
from ota_agent.store import atomic, persist
from ota_agent.store.paths import Paths

if TYPE_CHECKING:
    from collections.abc import Mapping

RELEASE: dict[str, Content] = {
    "app.py": b"print()",
    "data/rows": b"seed",
    "data/sub/deep/tool": Executable(b"#!/bin/sh\n"),
    "data/sub/link": Link("../rows"),
    "database": b"not below data/",
    "state.json": b"{}",
    "run.sh": Executable(b"#!/bin/sh\n"),
}
SPECS = ["data", "state.json", "run.sh", "var/lib/app"]


class Device:
    """A `work_dir` that has taken nothing yet, and a release in an object store."""

    def __init__(self, root: Path, release: Mapping[str, Content] = RELEASE) -> None:
        self.paths = Paths(root)
        self.persist = self.paths.persist_dir
        self.persist.mkdir(parents=True)
        self.paths.scratch_dir.mkdir(parents=True)
        self.objects = FakeObjectStore()
        self.entries = self.objects.trees[self.objects.tree_of(self.objects.publish(release))]

    def ensure(
        self,
        *specs: str,
        owner: tuple[int, int] | None = None,
        progress: FakeProgress | None = None,
    ) -> list[str]:
        return persist.ensure(
            self.paths, specs, self.entries, self.objects, owner, progress or FakeProgress()
        )


@pytest.fixture
def device(tmp_path: Path) -> Device:
    return Device(tmp_path)


def test_new_paths_are_seeded_from_the_release(device: Device) -> None:
    assert device.ensure(*SPECS) == SPECS
    assert contents(device.persist) == {
        "data/rows": b"seed",
        "data/sub/deep/tool": b"#!/bin/sh\n",
        "state.json": b"{}",
        "run.sh": b"#!/bin/sh\n",
    }
    assert (device.persist / "data/sub/link").readlink() == Path("../rows")
    assert list((device.persist / "var/lib/app").iterdir()) == []
    assert list(device.paths.scratch_dir.iterdir()) == []


def test_modes_are_writable_whatever_the_umask(device: Device) -> None:
    before = os.umask(0o077)
    try:
        device.ensure(*SPECS)
    finally:
        os.umask(before)
    modes = {
        path.relative_to(device.persist).as_posix(): path.stat().st_mode & 0o7777
        for path in device.persist.rglob("*")
    }
    executables = {"data/sub/deep/tool", "run.sh"}
    assert {name for name, mode in modes.items() if mode == 0o755} == executables | {
        name for name in modes if (device.persist / name).is_dir()
    }
    assert set(modes.values()) == {0o755, 0o644}


def test_what_is_there_is_the_device_s(device: Device) -> None:
    plant(device.persist, {"data/mine": b"1", "state.json": b"mine"})
    (device.persist / "run.sh").symlink_to("nowhere")
    before = seen(device.persist)
    assert device.ensure("data", "state.json", "run.sh") == []
    assert seen(device.persist) == before


def test_second_run_changes_nothing(device: Device) -> None:
    device.ensure(*SPECS)
    (device.persist / "data/rows").write_bytes(b"changed")
    before = seen(device.persist)
    assert device.ensure(*SPECS) == []
    assert seen(device.persist) == before


def test_release_without_persistent_paths_makes_nothing(device: Device) -> None:
    assert device.ensure() == []
    assert list(device.persist.iterdir()) == []


def test_path_that_a_program_makes_meanwhile_is_the_device_s(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync = atomic.sync_filesystem

    def meanwhile(path: Path) -> None:
        plant(device.persist, {"data/mine": b"1"})
        sync(path)

    monkeypatch.setattr(atomic, "sync_filesystem", meanwhile)
    assert device.ensure("data", "state.json") == ["state.json"]
    assert contents(device.persist) == {"data/mine": b"1", "state.json": b"{}"}
    assert list(device.paths.scratch_dir.iterdir()) == []


def test_link_on_the_way_leads_no_write_out_of_persist(device: Device, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (device.persist / "var").symlink_to("../outside")
    with pytest.raises(WorkDirUnusable, match="'var'"):
        device.ensure("var/lib/app")
    assert list((tmp_path / "outside").iterdir()) == []


@pytest.mark.parametrize("uid", [0, 1000])
def test_owner_counts_where_the_agent_is_root(
    device: Device, uid: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[tuple[str, int, int]] = []

    def chown(path: str | Path, user: int, group: int, *, follow_symlinks: bool) -> None:
        assert not follow_symlinks
        given.append((Path(path).name, user, group))

    monkeypatch.setattr(os, "geteuid", lambda: uid)
    monkeypatch.setattr(os, "chown", chown)
    device.ensure("data", owner=(33, 44))
    everything = ["0", "deep", "link", "rows", "sub", "tool"]
    assert sorted(given) == ([(name, 33, 44) for name in everything] if uid == 0 else [])


@pytest.mark.root
def test_owner_gets_the_path_and_the_agent_keeps_what_is_above(device: Device) -> None:
    device.ensure(*SPECS, owner=(1234, 4321))
    owners = {
        path.relative_to(device.persist).as_posix(): (path.lstat().st_uid, path.lstat().st_gid)
        for path in device.persist.rglob("*")
    }
    agent_s = {name for name, owner in owners.items() if owner != (1234, 4321)}
    assert agent_s == {"var", "var/lib"}


def test_wrong_content_is_not_taken(device: Device) -> None:
    oid = next(entry.oid for entry in device.entries if entry.path == "data/rows")
    device.objects.blobs[oid] = b"rot!"
    with pytest.raises(StoreDamaged):
        device.ensure("data")
    assert list(device.persist.iterdir()) == []
    assert list(device.paths.scratch_dir.iterdir()) == []


def test_full_disk_leaves_nothing_behind(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_args: object) -> NoReturn:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "somewhere")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fchmod", full)
        with pytest.raises(DiskFull):
            device.ensure("state.json")
    assert list(device.persist.iterdir()) == []
    assert list(device.paths.scratch_dir.iterdir()) == []
    assert device.ensure("state.json") == ["state.json"]


def test_work_that_is_ended_leaves_nothing_behind(device: Device) -> None:
    progress = FakeProgress()
    progress.end_after(2, Stopped())
    with pytest.raises(Stopped):
        device.ensure("data", progress=progress)
    assert list(device.persist.iterdir()) == []
    assert list(device.paths.scratch_dir.iterdir()) == []


def test_power_cut_leaves_each_path_whole_or_absent(tmp_path: Path) -> None:
    whole = Device(tmp_path / "whole")
    whole.ensure(*SPECS)
    for cuts in count():
        device = Device(tmp_path / str(cuts))
        with cut_after(cuts) as cut:
            device.ensure(*SPECS)
        for spec in SPECS:
            if (device.persist / spec).exists():
                assert contents(device.persist / spec) == contents(whole.persist / spec)
        device.ensure(*SPECS)
        assert contents(device.persist) == contents(whole.persist)
        assert seen(device.persist).keys() == seen(whole.persist).keys()
        if not cut.was_cut:
            break
