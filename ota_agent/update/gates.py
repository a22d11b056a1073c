"""What may hold a deployment before it touches the live release: pure decisions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ota_agent.errors import DiskFull

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from ota_agent.model.tree import Entry
    from ota_agent.store.space import Space

BLOCK_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Need:
    """What a deployment will take from the disk before anything is given back."""

    bytes: int
    inodes: int

    def __add__(self, other: Need) -> Need:
        """Add up two needs."""
        return Need(self.bytes + other.bytes, self.inodes + other.inodes)


def need_of(entries: Sequence[Entry], on_disk: Collection[tuple[str, str]]) -> Need:
    """Count what staging has to write: whole blocks of every file that cannot be linked.

    `on_disk` holds (path, oid) of the files that the live release has. Every directory is new.
    """
    directories = {path for entry in entries for path in _parents(entry.path)}
    new = [entry for entry in entries if (entry.path, entry.oid) not in on_disk]
    blocks = sum(-(-entry.size_bytes // BLOCK_BYTES) for entry in new) + len(directories)
    return Need(bytes=blocks * BLOCK_BYTES, inodes=len(new) + len(directories))


def require_space(need: Need, free: Space, reserve: Need) -> None:
    """Refuse to begin what the disk cannot hold besides the reserve.

    Raises:
        DiskFull: with the numbers, so that the operator knows how much to free.

    """
    short = need.bytes + reserve.bytes - free.bytes
    if short > 0:
        message = (
            f"the release needs {_mib(need.bytes)} and {_mib(reserve.bytes)} stay in reserve,"
            f" but only {_mib(free.bytes)} are free: {_mib(short)} short"
        )
        raise DiskFull(message)
    if free.inodes is None:
        return
    short = need.inodes + reserve.inodes - free.inodes
    if short > 0:
        message = (
            f"the release needs {need.inodes} inodes and {reserve.inodes} stay in reserve,"
            f" but only {free.inodes} are free: {short} short"
        )
        raise DiskFull(message)


def _parents(path: str) -> list[str]:
    parts = path.split("/")[:-1]
    return ["/".join(parts[: depth + 1]) for depth in range(len(parts))]


def _mib(size: int) -> str:
    return f"{size / 1024 / 1024:.1f} MiB"
