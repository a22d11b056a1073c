from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest

from ota_agent.errors import DiskFault, DiskFull
from ota_agent.store.ballast import SIZE_BYTES, Ballast
from ota_agent.store.paths import Paths

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    paths = Paths(tmp_path)
    paths.private_dir.mkdir()
    return paths.private_dir / "ballast"


@pytest.fixture
def ballast(file: Path, tmp_path: Path) -> Ballast:
    return Ballast(Paths(tmp_path))


class FullDisk:
    """A disk that takes a write once the ballast is gone, or never."""

    def __init__(self, file: Path, *, helps: bool = True) -> None:
        self._file = file
        self._helps = helps

    def write(self) -> str:
        if self._helps and not self._file.exists():
            return "written"
        raise DiskFull("no space left")


def test_ballast_takes_its_space_once(ballast: Ballast, file: Path) -> None:
    ballast.hold()
    before = file.stat()
    ballast.hold()

    assert file.stat().st_ino == before.st_ino
    assert before.st_size == SIZE_BYTES
    assert before.st_blocks * 512 >= SIZE_BYTES  # a file of holes would give nothing back
    assert before.st_mode & 0o777 == 0o600


def test_ballast_is_given_up_once(ballast: Ballast, file: Path) -> None:
    ballast.hold()

    assert ballast.drop()
    assert not file.exists()
    assert not ballast.drop()


def test_disk_without_room_for_it_has_to_do_without(
    ballast: Ballast, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fsync(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fsync)
    ballast.hold()

    assert list(file.parent.iterdir()) == []
    assert not ballast.drop()


def test_what_must_not_fail_for_want_of_a_few_bytes_is_done_without_the_ballast(
    ballast: Ballast, file: Path
) -> None:
    ballast.hold()

    assert ballast.relieve(FullDisk(file).write) == "written"
    assert not file.exists()


def test_disk_that_is_not_full_keeps_its_ballast(ballast: Ballast, file: Path) -> None:
    ballast.hold()

    assert ballast.relieve(lambda: "written") == "written"
    assert file.exists()


def test_disk_that_stays_full_says_so(ballast: Ballast, file: Path) -> None:
    ballast.hold()

    for _ in range(2):  # with something to give up, and without
        with pytest.raises(DiskFull):
            ballast.relieve(FullDisk(file, helps=False).write)
    assert not file.exists()


def test_other_faults_of_the_disk_do_not_cost_the_ballast(ballast: Ballast, file: Path) -> None:
    def write() -> None:
        raise DiskFault("input/output error")

    ballast.hold()

    with pytest.raises(DiskFault):
        ballast.relieve(write)
    assert file.exists()
