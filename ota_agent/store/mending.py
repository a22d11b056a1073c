"""Brings damaged paths of a sealed tree back, while programs use it.

Each file is written beside and renamed over: a reader sees the old content or the right one, and
other releases that shared the old inode keep what they have.
"""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from typing import TYPE_CHECKING

from ota_agent.errors import DeviceError
from ota_agent.store import atomic, blobs
from ota_agent.store.layout import DIRECTORY_MODE, ST_MODES, TOP, is_symlink, parent_of, parents_of
from ota_agent.store.staging import OPEN_MODE

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from ota_agent.ports import ObjectStore, Progress
    from ota_agent.store.inodes import Inodes
    from ota_agent.store.layout import Layout


class Mender:
    """Repairs one tree; running it again after a crash finishes what was begun."""

    def __init__(self, tree: Path, layout: Layout, inodes: Inodes, progress: Progress) -> None:
        """Work on `tree`, which may be live."""
        self._tree = tree
        self._layout = layout
        self._inodes = inodes
        self._progress = progress
        self._temps: dict[str, str] = {}  # path to bring back -> temporary one beside it
        self._open: list[str] = []
        self._written_bytes = 0

    def mend(self, paths: Iterable[str], objects: ObjectStore) -> int:
        """Bring back what `Drift.damage` names; gives the bytes written. Durable when it returns.

        What is not of the release is left alone, but for what has the place of a file that is.

        Raises:
            StoreDamaged: an object is missing or is not what its id says.
            DiskFull, DiskFault: the disk refused.

        """
        damaged = set(paths)
        layout = self._layout
        files = sorted(damaged & (layout.entries.keys() | layout.links.keys()))
        directories = damaged & {TOP, *layout.directories}
        for path in files:
            directories.update((TOP, parent_of(path)))
        for path in list(directories - {TOP}):
            directories.update(parents_of(path))
        try:
            with atomic.disk_errors(self._tree):
                for path in sorted(directories, key=lambda path: (path != TOP, path)):
                    self._open_up(path)
                self._write_beside(files, objects)
                regular = [
                    temp
                    for path, temp in self._temps.items()
                    if path in layout.entries and not is_symlink(layout.entries[path])
                ]
                atomic.sync_tree(self._tree, regular, ())
                for path in files:
                    self._replace(path)
        except BaseException:
            with suppress(OSError, DeviceError):  # the first failure is the one to tell
                self._close()
            raise
        self._close()
        return self._written_bytes

    def _open_up(self, directory: str) -> None:
        """Make a directory writable for its owner, and a directory again if it is something else.

        `TOP` comes first, and parents before what is in them.
        """
        path = self._tree / directory
        if not path.is_dir() or path.is_symlink():
            atomic.remove_tree(path, unlink=self._inodes.unlink, durable=False)
            path.mkdir(OPEN_MODE)
        path.chmod(OPEN_MODE)
        self._open.append(directory)

    def _write_beside(self, files: list[str], objects: ObjectStore) -> None:
        for path in files:
            beside = "" if (parent := parent_of(path)) == TOP else f"{parent}/"
            self._temps[path] = f"{beside}{atomic.TEMP_PREFIX}{secrets.token_hex(8)}"
        for path in files:
            if path in self._layout.links:
                atomic.make_symlink(self._tree / self._temps[path], self._layout.links[path])
        wanted = [self._layout.entries[path] for path in files if path in self._layout.entries]
        if not wanted:
            return
        contents = objects.contents((entry.oid for entry in wanted), self._progress)
        for entry, (_, stream) in zip(wanted, contents, strict=True):
            temp = self._tree / self._temps[entry.path]
            if is_symlink(entry):
                atomic.make_symlink(temp, os.fsdecode(blobs.read_whole(stream, entry)))
            else:
                blobs.write_new(temp, stream, entry, ST_MODES[entry.mode], self._advance)
            self._written_bytes += entry.size_bytes

    def _replace(self, path: str) -> None:
        target = self._tree / path
        temp = self._tree / self._temps[path]
        if target.is_dir() and not target.is_symlink():
            atomic.remove_tree(target, unlink=self._inodes.unlink, durable=False)
        with suppress(FileNotFoundError):
            before = target.lstat()
            if before.st_nlink == 1:
                self._inodes.forget(before.st_ino)
        atomic.rename(temp, target, replace=True, durable=False)
        entry = self._layout.entries.get(path)
        if entry is not None and not is_symlink(entry):
            self._inodes.note(target.lstat(), entry.oid)  # renaming moves the ctime too

    def _close(self) -> None:
        """Seal again what was opened; what is left of an interrupted repair goes."""
        for directory in self._open:
            path = self._tree / directory
            atomic.remove_litter(path)
            path.chmod(DIRECTORY_MODE)
        atomic.sync_tree(self._tree, (), self._open)

    def _advance(self, _: int) -> None:
        self._progress.advance(self._written_bytes)
