from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

import pytest
from plain_user import as_plain_user
from shelf import names_in

from ota_agent.errors import DiskFault, DiskFull
from ota_agent.store import atomic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def closed_umask() -> Iterator[None]:
    before = os.umask(0o077)
    yield
    os.umask(before)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def failing(code: int) -> Callable[..., None]:
    def fail(*_arguments: object, **_named: object) -> None:
        raise OSError(code, os.strerror(code))

    return fail


# --- files --------------------------------------------------------------------------------------


def test_written_file_has_its_content_and_its_mode_whatever_the_umask(
    tmp_path: Path, closed_umask: None
) -> None:
    file = tmp_path / "file"
    atomic.write_file(file, b"one")
    assert (file.read_bytes(), mode_of(file)) == (b"one", 0o644)
    atomic.write_file(file, b"two", mode=0o400, durable=False)
    assert (file.read_bytes(), mode_of(file)) == (b"two", 0o400)
    assert names_in(tmp_path) == ["file"]


def test_writing_takes_the_place_of_a_link_and_leaves_what_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"kept")
    (tmp_path / "link").symlink_to("target")
    atomic.write_file(tmp_path / "link", b"new")
    assert not (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_bytes() == b"kept"


def test_content_is_durable_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []

    def fsync(descriptor: int) -> None:
        is_directory = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        order.append("sync the directory" if is_directory else "sync the content")

    def replace(source: Path, target: Path) -> None:
        order.append("rename")
        source.unlink()

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    atomic.write_file(tmp_path / "file", b"content")
    assert order == ["sync the content", "rename", "sync the directory"]


def test_failed_write_leaves_the_old_content_and_no_litter(tmp_path: Path) -> None:
    file = tmp_path / "file"
    atomic.write_file(file, b"old")
    with pytest.raises(TypeError), atomic.writing(file) as stream:
        stream.writelines([b"new", None])  # type: ignore[list-item]  # that is the failure
    assert file.read_bytes() == b"old"
    assert names_in(tmp_path) == ["file"]


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (errno.ENOSPC, DiskFull),
        (errno.EDQUOT, DiskFull),
        (errno.EROFS, DiskFault),
        (errno.EIO, DiskFault),
        (errno.EACCES, DiskFault),
        (errno.ENOENT, FileNotFoundError),
        (errno.EEXIST, FileExistsError),
    ],
)
def test_failure_of_the_disk_says_who_has_to_act_and_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, error: type[Exception]
) -> None:
    monkeypatch.setattr(os, "fsync", failing(code))
    with pytest.raises(error) as raised:
        atomic.write_file(tmp_path / "file", b"")
    if error in {DiskFull, DiskFault}:
        assert str(tmp_path / "file") in str(raised.value)


def test_failure_names_the_file_that_the_system_names(tmp_path: Path) -> None:
    with pytest.raises(DiskFault, match="/elsewhere: Input/output"), atomic.disk_errors(tmp_path):
        raise OSError(errno.EIO, "Input/output error", "/elsewhere")


def test_failure_without_a_number_is_told_by_its_text(tmp_path: Path) -> None:
    with pytest.raises(DiskFault, match="strange"), atomic.disk_errors(tmp_path):
        raise OSError("strange")


def test_removed_file_is_gone_and_one_that_is_not_there_is_fine(tmp_path: Path) -> None:
    atomic.write_file(tmp_path / "file", b"")
    atomic.remove_file(tmp_path / "file")
    atomic.remove_file(tmp_path / "file")
    assert names_in(tmp_path) == []


# --- links, names -------------------------------------------------------------------------------


def test_link_is_made_and_pointed_elsewhere(tmp_path: Path) -> None:
    link = tmp_path / "link"
    atomic.replace_symlink(link, "one")
    atomic.replace_symlink(link, "two")
    assert link.readlink().name == "two"
    assert names_in(tmp_path) == ["link"]


def test_link_that_cannot_be_pointed_elsewhere_stays_and_leaves_no_litter(tmp_path: Path) -> None:
    (tmp_path / "link").mkdir()
    with pytest.raises(DiskFault):
        atomic.replace_symlink(tmp_path / "link", "one")
    assert names_in(tmp_path) == ["link"]


def test_rename_moves_within_and_between_directories(tmp_path: Path) -> None:
    (tmp_path / "directory").mkdir()
    atomic.write_file(tmp_path / "one", b"content")
    atomic.rename(tmp_path / "one", tmp_path / "two")
    atomic.rename(tmp_path / "two", tmp_path / "directory/three", durable=False)
    assert (tmp_path / "directory/three").read_bytes() == b"content"


def test_rename_replaces_only_where_it_is_told_to(tmp_path: Path) -> None:
    atomic.write_file(tmp_path / "one", b"1")
    (tmp_path / "two").symlink_to("nowhere")
    with pytest.raises(FileExistsError):
        atomic.rename(tmp_path / "one", tmp_path / "two")
    atomic.rename(tmp_path / "one", tmp_path / "two", replace=True)
    assert (tmp_path / "two").read_bytes() == b"1"


def test_sealed_directory_of_a_plain_user_moves_and_stays_sealed() -> None:
    with as_plain_user() as place:
        for name in ("from", "to"):
            (place / name).mkdir()
        sealed = place / "from/sealed"
        sealed.mkdir()
        (sealed / "file").touch()
        sealed.chmod(0o555)
        atomic.rename(sealed, place / "to/sealed")
        assert mode_of(place / "to/sealed") == 0o555
        assert names_in(place / "to/sealed") == ["file"]
        assert names_in(place / "from") == []


def test_rename_out_of_a_closed_directory_is_refused_as_a_fault() -> None:
    with as_plain_user() as place:
        closed = place / "closed"
        closed.mkdir()
        (closed / "file").touch()
        closed.chmod(0o555)
        with pytest.raises(DiskFault, match="Permission denied"):
            atomic.rename(closed / "file", place / "file")


# --- directories --------------------------------------------------------------------------------


def test_directory_gets_its_mode_whatever_the_umask(tmp_path: Path, closed_umask: None) -> None:
    atomic.make_dir(tmp_path / "directory", 0o755)
    assert mode_of(tmp_path / "directory") == 0o755
    atomic.make_dir(tmp_path / "directory", 0o700)
    assert mode_of(tmp_path / "directory") == 0o700
    atomic.make_dir(tmp_path / "directory", 0o700)
    assert mode_of(tmp_path / "directory") == 0o700


def test_directory_is_not_made_of_what_is_something_else(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path)
    for name in ("file", "link"):
        with pytest.raises(FileExistsError):
            atomic.make_dir(tmp_path / name)


def test_sealed_tree_of_a_plain_user_is_removed_and_its_links_are_not_followed() -> None:
    with as_plain_user() as place:
        (place / "outside").mkdir()
        (place / "outside/kept").touch()
        inner = place / "tree/inner"
        inner.mkdir(parents=True)
        (inner / "file").touch()
        (inner / "link").symlink_to(place / "outside")
        inner.chmod(0o555)
        (place / "tree/unreadable").mkdir(mode=0o000)
        (place / "tree").chmod(0o555)
        atomic.remove_tree(place / "tree")
        assert names_in(place) == ["outside"]
        assert names_in(place / "outside") == ["kept"]


def test_removing_takes_single_files_and_what_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("nowhere")
    atomic.remove_tree(tmp_path / "link", durable=False)
    atomic.remove_tree(tmp_path / "link")
    assert names_in(tmp_path) == []


def test_tree_deeper_than_the_stack_is_removed(tmp_path: Path) -> None:
    deep = tmp_path / "tree"
    deep.mkdir()
    for _ in range(1500):
        deep = deep / "d"
        deep.mkdir()
    atomic.remove_tree(tmp_path / "tree")
    assert names_in(tmp_path) == []


def test_litter_of_interrupted_writes_is_removed_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / f"{atomic.TEMP_PREFIX}1").touch()
    (tmp_path / f"{atomic.TEMP_PREFIX}2").mkdir()
    (tmp_path / "kept").touch()
    assert atomic.remove_litter(tmp_path) == 2
    assert names_in(tmp_path) == ["kept"]
