from __future__ import annotations

import errno
import os
import socket
from pathlib import Path
from typing import NoReturn

import pytest
from trees import contents, plant, seen
from typing_extensions import override

from fakes.progress import FakeProgress
from ota_agent.errors import BackupUnusable, DiskFault, Stopped
from ota_agent.store.copying import BLOCK_BYTES, CHUNK_BYTES, MAX_DEPTH, Copying, measure


@pytest.fixture
def source(tmp_path: Path) -> Path:
    root = tmp_path / "source"
    plant(root, {"config": b"a = 1\n", "db/rows": b"\0" * (CHUNK_BYTES + 5), "db/empty": b""})
    (root / "config").chmod(0o4750)
    (root / "link").symlink_to("/etc/passwd")
    (root / "dangling").symlink_to("nowhere")
    (root / "sealed").mkdir()
    (root / "sealed/file").write_bytes(b"x")
    (root / "sealed").chmod(0o555)
    for number, one in enumerate(sorted([root, *root.rglob("*")], reverse=True)):
        os.utime(one, ns=(number, 1_000_000_007 + number), follow_symlinks=False)
    return root


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "target"


def copy(source: Path, target: Path) -> list[str]:
    copying = Copying(FakeProgress())
    copying.copy(source, target, "data")
    return copying.skipped


def test_copy_is_the_same_in_all_that_matters(source: Path, target: Path) -> None:
    assert copy(source, target) == []
    assert seen(target) == seen(source)


@pytest.mark.root
def test_owners_are_kept_where_the_agent_is_root(source: Path, target: Path) -> None:
    for path in source.rglob("*"):
        os.chown(path, 1234, 4321, follow_symlinks=False)
    (source / "config").chmod(0o4750)
    copy(source, target)
    for name in ("config", "link", "db", "db/rows"):
        found = (target / name).lstat()
        assert (found.st_uid, found.st_gid) == (1234, 4321)
    assert (target / "config").stat().st_mode & 0o7777 == 0o4750


@pytest.mark.parametrize("uid", [0, 1000])
def test_whoever_the_agent_is_its_own_files_stay_its_own(
    source: Path, target: Path, uid: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    copy(source, target)
    assert seen(target) == seen(source)


def test_single_file_is_copied(source: Path, target: Path) -> None:
    copy(source / "config", target)
    assert seen(target) == seen(source / "config")


def test_link_itself_is_copied_not_what_it_leads_to(source: Path, target: Path) -> None:
    copy(source / "link", target)
    assert target.readlink() == Path("/etc/passwd")


def test_what_is_not_there_is_not_made(source: Path, target: Path) -> None:
    copy(source / "absent", target)
    assert not os.path.lexists(target)


def test_hard_links_stay_hard_links_of_each_other(source: Path, target: Path) -> None:
    (source / "db/second").hardlink_to(source / "config")
    copy(source, target)
    first, second = (target / "config").stat(), (target / "db/second").stat()
    assert first.st_ino == second.st_ino
    assert first.st_ino != (source / "config").stat().st_ino


def test_pipes_and_sockets_are_left_out_and_named(
    source: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(source / "db/pipe")
    monkeypatch.chdir(source)  # the path of a socket may not be long
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
    assert sorted(copy(source, target)) == ["data/db/pipe", "data/socket"]
    assert not (target / "db/pipe").exists()


def test_pipe_in_the_place_of_a_file_does_not_block(source: Path, target: Path) -> None:
    (source / "config").unlink()
    os.mkfifo(source / "config")
    regular = (source / "db/rows").stat()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "stat", lambda _path, **_options: regular)
        Copying(FakeProgress()).copy(source / "config", target, "data")
    assert target.read_bytes() == b""


def test_what_vanishes_meanwhile_is_left_out(source: Path, target: Path) -> None:
    class Vanishing(FakeProgress):
        @override
        def advance(self, done_bytes: int = 0, total_bytes: int | None = None) -> None:
            (source / "db/rows").unlink(missing_ok=True)

    Copying(Vanishing()).copy(source, target, "data")
    assert sorted(contents(target)) == ["config", "db/empty", "sealed/file"]


def test_copy_ends_in_the_middle_of_a_file_when_it_is_told_to(source: Path, target: Path) -> None:
    progress = FakeProgress()
    progress.end_after(2, Stopped())
    with pytest.raises(Stopped):
        Copying(progress).copy(source / "db/rows", target, "data")


def test_attributes_are_kept(source: Path, target: Path) -> None:
    try:
        os.setxattr(source / "config", "user.note", b"value")
    except OSError:
        pytest.skip("this file system has no attributes")
    copy(source, target)
    assert os.getxattr(target / "config", "user.note") == b"value"


def test_attribute_that_only_root_may_set_is_left_out(
    source: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_args: object) -> NoReturn:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "listxattr", lambda _descriptor: ["security.label"])
    monkeypatch.setattr(os, "getxattr", lambda _descriptor, _name: b"label")
    monkeypatch.setattr(os, "setxattr", refuse)
    copy(source, target)
    assert contents(target) == contents(source)


def test_file_system_without_attributes_is_fine(
    source: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_args: object) -> NoReturn:
        raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr(os, "listxattr", refuse)
    copy(source, target)
    assert seen(target) == seen(source)


def test_directories_without_end_are_refused_in_words(source: Path, target: Path) -> None:
    source.joinpath(*["d"] * MAX_DEPTH).mkdir(parents=True)
    with pytest.raises(BackupUnusable, match=r"data/d/d/d.*more than 100 directories deep"):
        copy(source, target)


def test_file_that_cannot_be_read_is_a_fault_of_the_device(
    source: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_args: object, **_options: object) -> NoReturn:
        raise PermissionError(errno.EACCES, "Permission denied", "config")

    monkeypatch.setattr(os, "readlink", refuse)
    with pytest.raises(DiskFault, match="config"):
        copy(source, target)


# --- measure ------------------------------------------------------------------------------------


def test_size_counts_whole_blocks_and_every_inode(tmp_path: Path) -> None:
    plant(tmp_path / "one", {"a": b"1", "b/c": b"2" * (BLOCK_BYTES + 1)})
    size, inodes = measure(tmp_path / "one")
    directories = sum(
        -(-path.stat().st_size // BLOCK_BYTES) * BLOCK_BYTES
        for path in (tmp_path / "one", tmp_path / "one/b")
    )
    assert size == directories + 3 * BLOCK_BYTES
    assert inodes == 4


def test_size_counts_hard_links_once_and_follows_no_link(tmp_path: Path) -> None:
    plant(tmp_path / "one", {"a": b"1"})
    before = measure(tmp_path / "one")
    (tmp_path / "one/second").hardlink_to(tmp_path / "one/a")
    assert measure(tmp_path / "one") == before
    (tmp_path / "one/link").symlink_to(tmp_path)
    assert measure(tmp_path / "one")[1] == before[1] + 1


def test_size_of_nothing_is_nothing(tmp_path: Path) -> None:
    assert measure(tmp_path / "absent") == (0, 0)
