"""Builds the tree of a release, at the cost of what changed.

What the tree holds already (when it was the spare) is kept where its inode is known to be
untouched; what another release has is linked; the rest is written from its objects in one pass.
Whatever was there before, the tree is exactly the release afterwards: running it again is safe.
"""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ota_agent.store import atomic, blobs, reflink
from ota_agent.store.layout import (
    DIRECTORY_MODE,
    ST_MODES,
    TOP,
    is_sealed,
    is_symlink,
    parent_of,
    parents_of,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ota_agent.model.tree import Entry
    from ota_agent.ports import ObjectStore, Progress
    from ota_agent.store.inodes import Inodes
    from ota_agent.store.layout import Layout
    from ota_agent.store.paths import Paths

# The file system or this one file does not do (more) hard links: the file is written instead.
_NOT_LINKABLE = frozenset(
    {errno.EMLINK, errno.EXDEV, errno.EPERM, errno.EACCES, errno.EOPNOTSUPP, errno.ENOENT}
)


OPEN_MODE = 0o755


@dataclass(frozen=True, slots=True)
class Built:
    """What building took: bytes written from objects, files kept or linked."""

    written_bytes: int
    reused: int


class TreeBuilder:
    """Brings one directory, there or not, to a layout; nobody else may use it meanwhile."""

    def __init__(self, tree: Path, layout: Layout, inodes: Inodes, progress: Progress) -> None:
        """Work on `tree`, which is on one file system with the trees that files come from."""
        self._tree = tree
        self._layout = layout
        self._inodes = inodes
        self._progress = progress
        self._missing = dict(layout.entries)
        self._missing_links = dict(layout.links)
        self._directories: set[str] = set()  # that are there
        self._open: set[str] = set()  # that are writable now
        self._unsynced: dict[str, tuple[str, os.stat_result]] = {}  # path -> what it holds
        self._written_bytes = 0
        self._can_clone = True

    def build(self, sources: Sequence[Path], objects: ObjectStore) -> Built:
        """Make the tree, sealed and durable; `sources` are trees to link from, best first.

        Raises:
            StoreDamaged: an object is missing or is not what its id says.
            DiskFull, DiskFault: the disk refused.

        """
        with atomic.disk_errors(self._tree):
            if os.path.lexists(self._tree):
                self._keep_untouched()
            self._make_directories()
            for source in sources:
                self._reuse(source)
            reused = len(self._layout.entries) - len(self._missing)
            self._write(objects)
            for path in self._open:
                os.chmod(self._at(path), DIRECTORY_MODE)
        atomic.sync_tree(self._tree, self._unsynced, self._open)
        for oid, found in self._unsynced.values():
            self._inodes.note(found, oid)
        return Built(self._written_bytes, reused)

    # --- what is there --------------------------------------------------------------------------

    def _keep_untouched(self) -> None:
        """Remove from the tree what does not belong, and note what need not be made anew."""
        wanted = set(self._layout.directories)
        waiting = [TOP]
        while waiting:
            directory = waiting.pop()
            self._directories.add(directory)
            if not is_sealed(os.lstat(self._at(directory)).st_mode):
                self._open_up(directory)
            with os.scandir(self._at(directory)) as listing:
                found = list(listing)
            for item in found:
                path = item.name if directory == TOP else f"{directory}/{item.name}"
                if path in wanted and item.is_dir(follow_symlinks=False):
                    waiting.append(path)
                elif not self._keeps(path, item):
                    self._open_up(directory)
                    atomic.remove_tree(Path(item.path), unlink=self._inodes.unlink, durable=False)
            self._progress.advance()

    def _keeps(self, path: str, item: os.DirEntry[str]) -> bool:
        """Tell whether what is there is what should be; it is not missing any more then."""
        if path in self._missing_links:
            if item.is_symlink() and os.readlink(item.path) == self._missing_links[path]:
                del self._missing_links[path]
                return True
            return False
        entry = self._missing.get(path)
        if entry is None:
            return False
        if is_symlink(entry):
            if blobs.target_of(item.path, entry) is None:
                return False
        else:
            found = item.stat(follow_symlinks=False)
            match = self._inodes.match(item.path, found, entry, self._advance)
            if match is None:
                return False
            if not match.is_known:
                self._unsynced[path] = (entry.oid, match.found)
        del self._missing[path]
        return True

    # --- what other releases have ---------------------------------------------------------------

    def _make_directories(self) -> None:
        if TOP not in self._directories:
            os.mkdir(self._tree, OPEN_MODE)
            self._open.add(TOP)
        for path in self._layout.directories:
            if path not in self._directories:
                self._open_up(parent_of(path))
                os.mkdir(self._at(path), OPEN_MODE)
                self._open.add(path)
        for path, target in self._missing_links.items():
            self._open_up(parent_of(path))
            atomic.make_symlink(self._tree / path, target)

    def _reuse(self, source: Path) -> None:
        """Link from another release what it has at the same path."""
        # A link among the parents would lead to what is not the release's: to persistent data.
        real = {TOP}
        for directory in sorted({parent for path in self._missing for parent in parents_of(path)}):
            if parent_of(directory) in real and _is_dir(f"{source}/{directory}"):
                real.add(directory)
        for path, entry in list(self._missing.items()):
            if parent_of(path) in real and self._takes(f"{source}/{path}", path, entry):
                del self._missing[path]
            self._progress.advance()

    def _takes(self, source: str, path: str, entry: Entry) -> bool:
        self._open_up(parent_of(path))
        if is_symlink(entry):
            target = blobs.target_of(source, entry)
            if target is None:
                return False
            atomic.make_symlink(self._tree / path, target)
            return True
        try:
            found = os.lstat(source)
            match = self._inodes.match(source, found, entry, self._advance)
            if match is not None and self._clones(source, match.found, path, entry):
                return True
            linked = match and self._inodes.link(source, match.found, self._at(path))
        except OSError as error:
            if error.errno not in _NOT_LINKABLE:
                raise
            return False
        if match is None or linked is None:
            return False
        if match.is_known:
            self._inodes.note(linked, entry.oid)
        else:
            self._unsynced[path] = (entry.oid, linked)
        return True

    def _clones(self, source: str, found: os.stat_result, path: str, entry: Entry) -> bool:
        """Copy by sharing blocks; asked once of a file system that cannot."""
        if not self._can_clone:
            return False
        copied = reflink.clone(source, found, self._at(path), ST_MODES[entry.mode])
        if copied is None:
            self._can_clone = False
            return False
        self._unsynced[path] = (entry.oid, copied)
        return True

    # --- what nobody has ------------------------------------------------------------------------

    def _write(self, objects: ObjectStore) -> None:
        """Write what is still missing, in one pass over the object store."""
        if not self._missing:
            return
        contents = objects.contents((entry.oid for entry in self._missing.values()), self._progress)
        for (path, entry), (_, stream) in zip(self._missing.items(), contents, strict=True):
            self._open_up(parent_of(path))
            file = self._tree / path
            if is_symlink(entry):
                atomic.make_symlink(file, os.fsdecode(blobs.read_whole(stream, entry)))
            else:
                found = blobs.write_new(file, stream, entry, ST_MODES[entry.mode], self._advance)
                self._unsynced[path] = (entry.oid, found)
            self._written_bytes += entry.size_bytes

    # --- small parts ----------------------------------------------------------------------------

    def _at(self, path: str) -> str:
        return f"{self._tree}/{path}"

    def _open_up(self, directory: str) -> None:
        """Let its owner, who need not be root, change a sealed directory until the end."""
        if directory not in self._open:
            os.chmod(self._at(directory), OPEN_MODE)
            self._open.add(directory)

    def _advance(self, _: int) -> None:
        self._progress.advance(self._written_bytes)


def empty(paths: Paths) -> None:
    """Remove the trees that crashes left half built; one becomes the spare if there is none.

    Half a tree is as good a spare as a whole one: what it lacks is linked or written.
    """
    with atomic.disk_errors(paths.staging_dir):
        trees = [paths.staging_dir / name for name in sorted(os.listdir(paths.staging_dir))]
    for tree in trees:
        if os.path.lexists(paths.spare_dir):
            atomic.remove_tree(tree)
        else:
            atomic.rename(tree, paths.spare_dir)


def _is_dir(path: str) -> bool:
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except OSError:
        return False
