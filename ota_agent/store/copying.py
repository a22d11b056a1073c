"""Whole copies of what applications keep below `persist/`, made without following a link."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING

from ota_agent.errors import BackupUnusable
from ota_agent.store import atomic
from ota_agent.store.beneath import DIRECTORY

if TYPE_CHECKING:
    from pathlib import Path

    from ota_agent.ports import Progress

CHUNK_BYTES = 1024 * 1024
BLOCK_BYTES = 4096
# Each level holds a descriptor open; data that goes deeper could not be removed again either.
MAX_DEPTH = 100


def measure(path: Path) -> tuple[int, int]:
    """Give the bytes (in whole blocks) and inodes that a copy of `path` takes; 0, 0 without it."""
    size = inodes = 0
    seen: set[tuple[int, int]] = set()
    waiting = [str(path)]
    while waiting:
        one = waiting.pop()
        with atomic.disk_errors(path), suppress(FileNotFoundError, NotADirectoryError):
            found = os.lstat(one)
            if (found.st_dev, found.st_ino) in seen:
                continue
            if found.st_nlink > 1:
                seen.add((found.st_dev, found.st_ino))
            inodes += 1
            size += -(-found.st_size // BLOCK_BYTES) * BLOCK_BYTES
            if stat.S_ISDIR(found.st_mode):
                with os.scandir(one) as entries:
                    waiting.extend(entry.path for entry in entries)
    return size, inodes


class Copying:
    """Copies one or more trees: modes, times, attributes, and owners where the agent is root.

    Links stay links, hard links among what is copied stay hard links. Sockets, pipes and devices
    are left out and named in `skipped`. What vanishes meanwhile is left out: its owner may be at
    work. Durable only once the file system is synced.
    """

    def __init__(self, progress: Progress) -> None:
        """Tell `progress` about every file, so that a copy can be ended in the middle of one."""
        self._progress = progress
        self._linked: dict[tuple[int, int], Path] = {}
        self.skipped: list[str] = []

    def copy(self, source: Path, target: Path, shown: str) -> None:
        """Copy `source`, whatever it is, to `target`, whose directory is there and empty of it.

        `shown` is how its path is named to people. Nothing is made when there is no `source`.
        """
        with atomic.disk_errors(source):
            directory = os.open(source.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                self._entry(directory, source.name, target, shown, depth=0)
            finally:
                os.close(directory)

    def _entry(self, above: int, name: str, target: Path, shown: str, depth: int) -> None:
        self._progress.advance()
        with suppress(FileNotFoundError):
            found = os.stat(name, dir_fd=above, follow_symlinks=False)
            if stat.S_ISDIR(found.st_mode):
                self._directory(above, name, target, shown, depth)
            elif stat.S_ISLNK(found.st_mode):
                atomic.make_symlink(target, os.readlink(name, dir_fd=above))
                if os.geteuid() == 0:
                    os.chown(target, found.st_uid, found.st_gid, follow_symlinks=False)
                os.utime(target, ns=(found.st_atime_ns, found.st_mtime_ns), follow_symlinks=False)
            elif stat.S_ISREG(found.st_mode):
                self._file(above, name, target)
            else:
                self.skipped.append(shown)

    def _directory(self, above: int, name: str, target: Path, shown: str, depth: int) -> None:
        if depth == MAX_DEPTH:
            raise BackupUnusable(
                f"{shown} cannot be backed up: it is more than {MAX_DEPTH} directories deep.",
                hint="Remove what is nested so deep from the persistent data.",
            )
        source = os.open(name, DIRECTORY, dir_fd=above)
        try:
            target.mkdir(mode=0o700)
            for inner in os.listdir(source):  # noqa: PTH208 - a descriptor, no path
                self._entry(source, inner, target / inner, f"{shown}/{inner}", depth + 1)
            copied = os.open(target, DIRECTORY)
            try:
                _dress(source, copied)
            finally:
                os.close(copied)
        finally:
            os.close(source)

    def _file(self, above: int, name: str, target: Path) -> None:
        # A pipe that has taken the file's place must not block the agent.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        source = os.open(name, flags, dir_fd=above)
        with os.fdopen(source, "rb", buffering=0) as reading:
            found = os.fstat(source)
            identity = (found.st_dev, found.st_ino)
            if identity in self._linked:
                os.link(self._linked[identity], target)
                return
            with target.open("xb") as writing:
                while chunk := reading.read(CHUNK_BYTES):
                    writing.write(chunk)
                    self._progress.advance()
                writing.flush()  # a later one would change the time that is set now
                _dress(source, writing.fileno())
            if found.st_nlink > 1:
                self._linked[identity] = target


def _dress(source: int, target: int) -> None:
    """Give the copy its original's owner, attributes, mode and times, in the order that holds."""
    found = os.fstat(source)
    if os.geteuid() == 0:
        os.fchown(target, found.st_uid, found.st_gid)  # first: it takes set-id bits away
    for name in _attributes(source):
        with suppress(PermissionError):  # security labels are root's to set
            os.setxattr(target, name, os.getxattr(source, name))
    os.fchmod(target, stat.S_IMODE(found.st_mode))
    os.utime(target, ns=(found.st_atime_ns, found.st_mtime_ns))


def _attributes(descriptor: int) -> list[str]:
    try:
        return os.listxattr(descriptor)
    except OSError:  # this file system has none
        return []
