from __future__ import annotations

import errno
import os
import sqlite3
import stat
from typing import TYPE_CHECKING
from unittest import mock

import pytest
from plain_user import NOBODY, as_plain_user
from shelf import names_in

from ota_agent.errors import DiskFull, WorkDirUnusable
from ota_agent.store import atomic, workdir
from ota_agent.store.paths import Paths

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths(tmp_path / "a/device")


def modes_of(paths: Paths) -> dict[str, int]:
    return {
        path.relative_to(paths.work_dir).as_posix(): stat.S_IMODE(path.stat().st_mode)
        for path in (paths.work_dir, *sorted(paths.work_dir.rglob("*")))
    }


def modes_of_links_too(paths: Paths) -> dict[str, int]:
    return {
        os.fspath(path): path.lstat().st_mode
        for path in (paths.work_dir, *sorted(paths.work_dir.rglob("*")))
    }


def failing(code: int) -> Callable[..., None]:
    def fail(*_arguments: object, **_named: object) -> None:
        raise OSError(code, os.strerror(code))

    return fail


def test_layout_is_made_with_its_modes_whatever_the_umask(paths: Paths) -> None:
    before = os.umask(0o077)
    try:
        workdir.prepare(paths)
    finally:
        os.umask(before)
    assert modes_of(paths) == {
        ".": 0o755,
        "locks": 0o755,
        "persist": 0o755,
        "private": 0o700,
        "private/backups": 0o700,
        "private/scratch": 0o700,
        "private/staging": 0o700,
        "releases": 0o755,
    }


def test_preparing_again_mends_the_agents_modes_and_leaves_the_devices(paths: Paths) -> None:
    workdir.prepare(paths)
    paths.private_dir.chmod(0o755)
    paths.persist_dir.chmod(0o775)
    paths.locks_dir.chmod(0o1777)
    workdir.prepare(paths)
    modes = modes_of(paths)
    assert (modes["private"], modes["persist"], modes["locks"]) == (0o700, 0o775, 0o1777)


@pytest.mark.parametrize("mode", [0o700, 0o775, 0o1777])
def test_directory_that_was_there_keeps_its_mode(paths: Paths, mode: int) -> None:
    paths.work_dir.mkdir(parents=True)
    paths.work_dir.chmod(mode)
    workdir.prepare(paths)
    workdir.prepare(paths)
    assert modes_of(paths)["."] == mode


def test_preparing_leaves_alone_what_an_agent_is_doing(paths: Paths) -> None:
    workdir.prepare(paths)
    (paths.staging_dir / "7-abcdef").mkdir()
    (paths.scratch_dir / "walk").mkdir()
    (paths.releases_dir / f"{atomic.TEMP_PREFIX}1").touch()
    workdir.prepare(paths)
    assert (paths.staging_dir / "7-abcdef").is_dir()
    assert names_in(paths.scratch_dir) == ["walk"]
    assert names_in(paths.releases_dir) == [f"{atomic.TEMP_PREFIX}1"]


def test_work_dir_may_be_reached_through_a_link(paths: Paths, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to("elsewhere")
    workdir.prepare(Paths(tmp_path / "link"))
    assert (tmp_path / "elsewhere/releases").is_dir()


# --- what cannot serve --------------------------------------------------------------------------


def test_file_as_work_dir_is_refused(paths: Paths) -> None:
    paths.work_dir.parent.mkdir()
    paths.work_dir.touch()
    with pytest.raises(WorkDirUnusable, match="is a file, not a directory"):
        workdir.prepare(paths)


@pytest.mark.parametrize("target", ["absent", "device"])
def test_link_that_leads_to_no_directory_is_refused_as_what_it_is(
    paths: Paths, target: str
) -> None:
    paths.work_dir.parent.mkdir()
    paths.work_dir.symlink_to(target)
    with pytest.raises(WorkDirUnusable, match=r"is a link that leads to no directory\.$"):
        workdir.prepare(paths)


# What another program may have there: with a layout much like ours, or with a `private` of its own.
@pytest.mark.parametrize(
    "theirs",
    [
        ["releases/20260101/app", "releases/20260202/app"],
        ["private/key.pem"],
        ["private/backups/1", "persist/data"],
        ["a", "b", "c", "d"],
    ],
)
def test_directory_of_another_program_is_refused_and_not_touched(
    paths: Paths, theirs: list[str]
) -> None:
    for name in theirs:
        (paths.work_dir / name).parent.mkdir(parents=True, exist_ok=True)
        (paths.work_dir / name).touch()
    paths.previous_link.symlink_to("releases/20260202")
    paths.work_dir.chmod(0o1777)
    before = modes_of_links_too(paths)
    with pytest.raises(WorkDirUnusable, match="holds what no agent made: ") as refused:
        workdir.prepare(paths)
    assert modes_of_links_too(paths) == before
    assert "empty or not there yet" in refused.value.hint
    assert not workdir.is_made(paths)


def test_data_and_the_memory_of_a_former_device_may_be_brought_along(paths: Paths) -> None:
    (paths.work_dir / "persist/data").mkdir(parents=True)
    (paths.work_dir / "lost+found").mkdir()
    workdir.prepare(paths)
    for name in ("releases", "locks", "private/staging", "private/scratch", "private/backups"):
        (paths.work_dir / name).rmdir()
    paths.trust_file.touch()
    workdir.prepare(paths)
    assert paths.releases_dir.is_dir()


def test_crash_while_the_layout_is_made_keeps_no_agent_from_it(
    paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    mkdir, made = os.mkdir, 0

    class PowerCut(BaseException):
        pass

    def cut(*arguments: object, **named: object) -> None:
        nonlocal made
        if not made and not os.path.lexists(arguments[0]):  # type: ignore[arg-type]
            raise PowerCut
        mkdir(*arguments, **named)  # type: ignore[arg-type]
        made -= 1

    paths.work_dir.parent.mkdir()
    monkeypatch.setattr(os, "mkdir", cut)
    for _ in range(8):
        made = 1
        with pytest.raises(PowerCut):
            workdir.prepare(paths)
    monkeypatch.undo()
    workdir.prepare(paths)
    assert workdir.is_made(paths)


def test_failing_disk_is_not_told_as_somebody_elses_directory(
    paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    workdir.prepare(paths)
    paths.private_dir.chmod(0o755)  # else there is nothing to do there
    monkeypatch.setattr(os, "listdir", failing(errno.EIO))
    monkeypatch.setattr(os, "chmod", failing(errno.EIO))
    assert workdir.is_made(paths)
    with pytest.raises(WorkDirUnusable, match="Input/output error"):
        workdir.prepare(paths)


def test_what_may_not_be_looked_at_counts_as_made() -> None:
    with as_plain_user() as place:
        paths = Paths(place / "device")
        workdir.prepare(paths)
        paths.private_dir.chmod(0)
        assert workdir.is_made(paths)


def test_work_dir_that_cannot_be_created_is_refused(paths: Paths) -> None:
    paths.work_dir.parent.touch()
    with pytest.raises(WorkDirUnusable, match="cannot be created: Not a directory"):
        workdir.prepare(paths)


def test_work_dir_that_a_plain_user_may_not_create_is_refused() -> None:
    with as_plain_user() as place:
        place.chmod(0o555)
        with pytest.raises(WorkDirUnusable, match="cannot be created: Permission denied"):
            workdir.prepare(Paths(place / "device"))


def test_read_only_file_system_is_refused(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    class ReadOnly:
        f_flag = os.ST_RDONLY

    monkeypatch.setattr(os, "statvfs", lambda _: ReadOnly())
    with pytest.raises(WorkDirUnusable, match="read-only file system"):
        workdir.prepare(paths)


@pytest.mark.root
@pytest.mark.parametrize("name", [".", "private", "releases"])
def test_directory_of_somebody_else_is_refused(paths: Paths, name: str) -> None:
    workdir.prepare(paths)
    os.chown(paths.work_dir / name, NOBODY, -1)
    with pytest.raises(WorkDirUnusable, match=f"belongs to user {NOBODY}, the agent runs as"):
        workdir.prepare(paths)


@pytest.mark.parametrize("name", ["releases", "persist", "private", "private/staging"])
def test_link_or_file_in_place_of_a_directory_is_refused(paths: Paths, name: str) -> None:
    workdir.prepare(paths)
    atomic.remove_tree(paths.work_dir / name)
    (paths.work_dir / name).symlink_to("/tmp")
    with pytest.raises(WorkDirUnusable, match=f"{name} is a link, where a directory should be"):
        workdir.prepare(paths)
    (paths.work_dir / name).unlink()
    (paths.work_dir / name).touch()
    with pytest.raises(WorkDirUnusable, match=f"{name} is a file, where a directory should be"):
        workdir.prepare(paths)


def test_directory_in_place_of_a_link_is_refused(paths: Paths) -> None:
    workdir.prepare(paths)
    paths.live_link.mkdir()
    with pytest.raises(WorkDirUnusable, match="live is in the way"):
        workdir.prepare(paths)


def test_failing_disk_is_refused(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    workdir.prepare(paths)
    paths.locks_dir.rmdir()
    monkeypatch.setattr(os, "mkdir", failing(errno.EIO))
    with pytest.raises(WorkDirUnusable, match="Input/output error"):
        workdir.prepare(paths)


def test_full_disk_is_told_as_such(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    workdir.prepare(paths)
    monkeypatch.setattr(os, "fchmod", failing(errno.ENOSPC))
    with pytest.raises(DiskFull):
        workdir.prepare(paths)
    assert names_in(paths.scratch_dir) == []


@pytest.mark.parametrize("code", [sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE])
def test_full_disk_is_not_taken_for_a_missing_write_ahead_log(
    paths: Paths, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    error = sqlite3.OperationalError("no space")
    error.sqlite_errorcode = code
    connection = mock.Mock(execute=mock.Mock(side_effect=error))
    monkeypatch.setattr(sqlite3, "connect", lambda _: connection)
    with pytest.raises(DiskFull):
        workdir.prepare(paths)


def test_database_that_is_no_good_there_lacks_a_write_ahead_log(
    paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = sqlite3.OperationalError("locking protocol")
    error.sqlite_errorcode = sqlite3.SQLITE_PROTOCOL
    connection = mock.Mock(execute=mock.Mock(side_effect=error))
    monkeypatch.setattr(sqlite3, "connect", lambda _: connection)
    with pytest.raises(WorkDirUnusable, match="write-ahead log"):
        workdir.prepare(paths)


def test_work_dir_that_served_before_is_not_tried_again(
    paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    workdir.prepare(paths)
    paths.database_file.touch()
    for name in ("open", "link", "symlink", "replace"):
        monkeypatch.setattr(os, name, failing(errno.ENOSPC))
    workdir.prepare(paths)


# --- file systems that lack something -----------------------------------------------------------


def test_file_system_without_hard_links_is_refused_by_name(
    paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "link", failing(errno.EPERM))
    with pytest.raises(WorkDirUnusable, match=r"lacks: hard links\.$"):
        workdir.prepare(paths)


def test_file_system_without_permissions_is_refused_by_name(
    paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fchmod", lambda *_: None)
    with pytest.raises(WorkDirUnusable, match=r"lacks: permissions\.$"):
        workdir.prepare(paths)


def test_all_that_a_file_system_lacks_is_named_at_once(
    paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "symlink", failing(errno.EPERM))
    monkeypatch.setattr("fcntl.flock", lambda *_: None)
    with pytest.raises(WorkDirUnusable, match=r"lacks: symbolic links, locks \(flock\)\.$"):
        workdir.prepare(paths)


def test_file_system_without_write_ahead_log_is_refused_by_name(
    paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite3, "connect", failing(errno.EIO))
    with pytest.raises(WorkDirUnusable, match=r"lacks: SQLite's write-ahead log\.$"):
        workdir.prepare(paths)


@pytest.mark.parametrize(
    ("limit", "failure", "told"),
    [
        ("PRAGMA max_page_count=1", DiskFull, "no space left"),
        ("PRAGMA query_only=1", WorkDirUnusable, "lacks: SQLite's write-ahead log"),
    ],
)
def test_full_disk_is_not_taken_for_a_file_system_without_write_ahead_log(
    paths: Paths, monkeypatch: pytest.MonkeyPatch, limit: str, failure: type[Exception], told: str
) -> None:
    connect = sqlite3.connect

    def connect_limited(file: Path) -> sqlite3.Connection:
        connection = connect(file)
        connection.execute(limit)
        return connection

    monkeypatch.setattr(sqlite3, "connect", connect_limited)
    with pytest.raises(failure, match=told):
        workdir.prepare(paths)


def test_several_file_systems_are_refused_by_name(
    paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = os.replace

    def replace_within(source: Path, target: Path) -> None:
        if target.parent == paths.persist_dir:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        replace(source, target)

    monkeypatch.setattr(os, "replace", replace_within)
    with pytest.raises(WorkDirUnusable, match=r"one file system for \S+private and \S+persist\.$"):
        workdir.prepare(paths)


# --- litter -------------------------------------------------------------------------------------


def test_what_crashes_left_is_cleared_when_told_so(paths: Paths) -> None:
    workdir.prepare(paths)
    directories = (paths.work_dir, paths.releases_dir, paths.persist_dir, paths.private_dir)
    for directory in directories:
        (directory / f"{atomic.TEMP_PREFIX}1").touch()
    (paths.scratch_dir / "walk/below").mkdir(parents=True)
    (paths.staging_dir / "7-abcdef").mkdir()
    (paths.persist_dir / "data").mkdir()
    workdir.clear_litter(paths)
    for directory in directories:
        assert atomic.remove_litter(directory) == 0
    assert names_in(paths.scratch_dir) == []
    assert names_in(paths.staging_dir) == []
    assert names_in(paths.persist_dir) == ["data"]
