"""File systems that are mounted below a directory: what lies there cannot be renamed out of it."""

from __future__ import annotations

import os
import re
from pathlib import Path

# Bind mounts of the same device are told here and nowhere else.
MOUNTINFO = Path("/proc/self/mountinfo")
_MOUNT_POINT = 4  # the field, counted from 0
_ESCAPED = re.compile(rb"\\([0-7]{3})")


def below(directory: Path) -> list[Path]:
    """List the mount points below `directory`, itself left out; none where they are not told."""
    try:
        lines = MOUNTINFO.read_bytes().splitlines()
    except OSError:
        return []
    real = Path(os.path.realpath(directory))
    points = [Path(os.fsdecode(_unescaped(line.split()[_MOUNT_POINT]))) for line in lines]
    return sorted(directory / point.relative_to(real) for point in points if real in point.parents)


def _unescaped(field: bytes) -> bytes:
    return _ESCAPED.sub(lambda match: bytes([int(match[1], 8)]), field)
