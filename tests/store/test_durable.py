from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ota_agent.errors import DiskFault
from ota_agent.store import durable

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of what was synced, and "everything"."""
    names: list[str] = []

    def fsync(descriptor: int) -> None:
        names.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)

    def syncfs(_: int) -> int:
        names.append("everything")
        return 0

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(durable, "_syncfs", lambda: syncfs)
    return names


@pytest.fixture(autouse=True)
def fresh_library() -> Iterator[None]:
    durable._syncfs.cache_clear()
    yield
    if hasattr(durable._syncfs, "cache_clear"):
        durable._syncfs.cache_clear()


def test_file_system_is_synced(tmp_path: Path) -> None:
    durable.sync_filesystem(tmp_path)


def test_library_without_syncfs_syncs_every_file_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: object())
    monkeypatch.setattr(os, "sync", lambda: calls.append("sync"))
    durable.sync_filesystem(tmp_path)
    assert calls == ["sync"]


def test_failed_sync_of_the_file_system_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: int) -> int:
        ctypes.set_errno(errno.EIO)
        return -1

    monkeypatch.setattr(durable, "_syncfs", lambda: fail)
    with pytest.raises(DiskFault, match=str(tmp_path)):
        durable.sync_filesystem(tmp_path)


def test_few_changes_are_synced_one_by_one(tmp_path: Path, synced: list[str]) -> None:
    (tmp_path / "file").touch()
    durable.sync_tree(tmp_path, ["file"], ["."])
    assert synced == ["file", tmp_path.name]


def test_many_changes_are_synced_at_once(tmp_path: Path, synced: list[str]) -> None:
    names = [str(number) for number in range(durable.SYNC_EACH_AT_MOST)]
    for name in names:
        (tmp_path / name).touch()
    durable.sync_tree(tmp_path, names, ["."])
    assert synced == ["everything"]
