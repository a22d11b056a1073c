"""Making durable what was written, and telling what the disk answers.

An `OSError` becomes a `DiskFull` or a `DiskFault` that names the path. Only `FileNotFoundError` and
`FileExistsError` pass as they are: they are answers, which callers ask for.
"""

from __future__ import annotations

import ctypes
import errno
import os
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING

from ota_agent.errors import DiskFault, DiskFull

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from pathlib import Path

# Up to so many files and directories are synced one by one: what they cost is bounded by what they
# hold. One sync of the file system beats a hundred of these, but it waits for everything that any
# other program has written and not synced.
SYNC_EACH_AT_MOST = 16

_NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT})


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn the disk's failures inside the block into errors that name the path.

    `path` is named where the failing call does not name one itself.
    """
    try:
        yield
    except (FileNotFoundError, FileExistsError):
        raise
    except OSError as error:
        where = error.filename if isinstance(error.filename, str) else path
        reason = error.strerror or str(error)
        if error.errno in _NO_SPACE:
            raise DiskFull(f"There is no space left for {where}: {reason}.") from error
        raise DiskFault(f"The disk failed at {where}: {reason}.") from error


def sync_file(path: Path) -> None:
    """Make a file's content durable."""
    with disk_errors(path), opened(path, os.O_RDONLY | os.O_NOFOLLOW) as descriptor:
        os.fsync(descriptor)


def sync_dir(path: Path) -> None:
    """Make the names in a directory, and its mode, durable."""
    with disk_errors(path), opened(path, os.O_RDONLY | os.O_DIRECTORY) as descriptor:
        os.fsync(descriptor)


def sync_filesystem(path: Path) -> None:
    """Make everything durable that was written to the file system of `path`, by anyone."""
    syncfs = _syncfs()
    with disk_errors(path):
        if syncfs is None:
            os.sync()
            return
        with opened(path, os.O_RDONLY) as descriptor:
            if syncfs(descriptor) != 0:
                code = ctypes.get_errno()
                raise OSError(code, os.strerror(code), str(path))


def sync_tree(tree: Path, files: Collection[str], directories: Collection[str]) -> None:
    """Make durable what was changed in a tree (paths relative to it), in the cheapest way."""
    if len(files) + len(directories) > SYNC_EACH_AT_MOST:
        sync_filesystem(tree)
        return
    for path in files:
        sync_file(tree / path)
    for path in directories:
        sync_dir(tree / path)


@cache
def _syncfs() -> Callable[[int], int] | None:
    """Find the C library's syncfs; a library without it (musl before 1.1) gives None."""
    function: Callable[[int], int] | None = getattr(
        ctypes.CDLL(None, use_errno=True), "syncfs", None
    )
    return function


@contextmanager
def opened(path: Path, flags: int) -> Iterator[int]:
    """Give a descriptor for the length of the block."""
    descriptor = os.open(path, flags)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
