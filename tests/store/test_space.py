from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from ota_agent.store.space import Space, free

if TYPE_CHECKING:
    from pathlib import Path


def filesystem(*, files: int, available: int) -> os.statvfs_result:
    # bsize, frsize, blocks, bfree, bavail, files, ffree, favail, flag, namemax
    return os.statvfs_result((65536, 4096, 100, 50, 40, files, available + 9, available, 0, 255))


def test_reserve_of_root_is_not_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "statvfs", lambda _path: filesystem(files=1000, available=300))
    assert free(tmp_path) == Space(bytes=40 * 4096, inodes=300)


def test_file_system_that_makes_inodes_as_needed_has_no_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "statvfs", lambda _path: filesystem(files=0, available=0))
    assert free(tmp_path).inodes is None


def test_space_is_told_of_a_real_file_system(tmp_path: Path) -> None:
    assert free(tmp_path).bytes > 0


def test_path_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        free(tmp_path / "absent")
