"""How much room a file system has left for the agent."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ota_agent.store import atomic

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Space:
    """What is free.

    Attributes:
        inodes: None where the file system makes them as it needs them (btrfs).

    """

    bytes: int
    inodes: int | None


def free(path: Path) -> Space:
    """Tell what a program without root's reserve may still use where `path` lies."""
    with atomic.disk_errors(path):
        found = os.statvfs(path)
    return Space(
        bytes=found.f_bavail * found.f_frsize,
        inodes=found.f_favail if found.f_files else None,
    )
