"""Trees on the disk as plain values, for tests to make and to compare."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def plant(root: Path, files: Mapping[str, bytes]) -> None:
    """Write files (path below `root` to content) with the directories above them."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def contents(root: Path) -> dict[str, bytes]:
    """Give every regular file below `root` by its path; nothing where there is no `root`."""
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and not path.is_symlink()
    }


def seen(root: Path) -> dict[str, tuple[str, int, int, bytes]]:
    """Give all that is at and below `root`: mode, owner, time and content by path."""
    return {
        path.relative_to(root).as_posix(): _seen(path) for path in (root, *sorted(root.rglob("*")))
    }


def _seen(path: Path) -> tuple[str, int, int, bytes]:
    found = path.lstat()
    if stat.S_ISLNK(found.st_mode):
        content = os.fsencode(path.readlink())
    else:
        content = path.read_bytes() if stat.S_ISREG(found.st_mode) else b""
    return stat.filemode(found.st_mode), found.st_uid, found.st_mtime_ns, content
