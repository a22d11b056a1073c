"""Compares the tree of a release on disk with what it should be; changes nothing in it.

Costs little more than one lstat a file: content is read only where the inode record does not tell.
"""

from __future__ import annotations

import fnmatch
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ota_agent.store import atomic, blobs
from ota_agent.store.layout import TOP, is_sealed, is_symlink, parents_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from ota_agent.ports import Progress
    from ota_agent.store.inodes import Inodes
    from ota_agent.store.layout import Layout


_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW


@dataclass(frozen=True, slots=True)
class Drift:
    """How a tree differs from its release; paths relative to it, sorted.

    Attributes:
        changed: other content, permissions, owner or kind. A directory is named where its
            permissions are other than sealed, the tree's own as `layout.TOP`.
        missing: files and links that are gone.
        added: what the release does not have. A directory is named once, with a slash at its end.

    """

    changed: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    added: tuple[str, ...] = ()

    @property
    def damage(self) -> tuple[str, ...]:
        """What a repair brings back; what was added stays."""
        return (*self.changed, *self.missing)

    @property
    def paths(self) -> tuple[str, ...]:
        """All of it."""
        return tuple(sorted((*self.changed, *self.missing, *self.added)))


def scan(
    tree: Path, layout: Layout, ignore: Sequence[str], inodes: Inodes, progress: Progress
) -> Drift:
    """Find the differences.

    Args:
        tree: must exist; programs may change it meanwhile.
        layout: what it should be.
        ignore: patterns of what is no difference; one matches a part of the path (`__pycache__`) or
            the path as a whole (`var/*.log`, where `*` crosses slashes).
        inodes: gets the records of files that had to be read and were right.
        progress: advanced with each directory and each part of a file that is read.

    """
    with atomic.disk_errors(tree):
        found = _Scan(tree, layout, inodes, progress)
        found.run()
    if found.confirmed:
        atomic.sync_filesystem(tree)  # of each file: one may be gone by now
    for oid, metadata in found.confirmed:
        inodes.note(metadata, oid)
    missing = [path for path in (*layout.entries, *layout.links) if path not in found.seen]
    covered = _Patterns(ignore)
    return Drift(
        covered.without(set(found.changed)),
        covered.without(missing),
        covered.without(name for name in found.added if _holds_a_file(tree, name, covered)),
    )


class _Scan:
    """One walk over a tree."""

    def __init__(self, tree: Path, layout: Layout, inodes: Inodes, progress: Progress) -> None:
        self.seen: set[str] = set()
        self.changed: list[str] = []
        self.added: list[str] = []
        self.confirmed: list[tuple[str, os.stat_result]] = []
        self._tree = os.fspath(tree)
        self._layout = layout
        self._directories = frozenset(layout.directories)
        self._inodes = inodes
        self._progress = progress

    def run(self) -> None:
        waiting = [TOP]
        while waiting:
            directory = waiting.pop()
            try:
                # Names are looked up in the open directory: the shorter the way, the faster.
                descriptor = os.open(f"{self._tree}/{directory}", _DIRECTORY)
                try:
                    if not is_sealed(os.fstat(descriptor).st_mode):
                        self.changed.append(directory)
                    with os.scandir(descriptor) as listing:
                        self._look_into(directory, listing, waiting)
                finally:
                    os.close(descriptor)
            except PermissionError:  # closed by its owner, who is not root
                self.changed.append(directory)
            except (FileNotFoundError, NotADirectoryError):
                pass  # gone since its parent was listed: its files count as missing
            self._progress.advance()

    def _look_into(
        self, directory: str, listing: Iterable[os.DirEntry[str]], waiting: list[str]
    ) -> None:
        """Compare what is in one directory; those in it that are to be walked too go to `waiting`.

        Runs for every file of every scan: what is untouched is told in one lstat.
        """
        prefix = "" if directory == TOP else f"{directory}/"
        entries, is_untouched, seen = self._layout.entries, self._inodes.is_untouched, self.seen
        for item in listing:
            path = prefix + item.name
            entry = entries.get(path)
            try:
                if entry is None and path in self._directories and _is_dir(item):
                    waiting.append(path)
                elif (
                    entry is not None
                    and item.is_file(follow_symlinks=False)
                    and is_untouched(item.stat(follow_symlinks=False), entry)
                ) or self._is_right(path, item):
                    seen.add(path)
                elif path in entries or path in self._layout.links or path in self._directories:
                    seen.add(path)
                    self.changed.append(path)
                elif item.name.startswith(atomic.TEMP_PREFIX):
                    self.changed.append(directory)  # an interrupted repair: the next cleans up
                else:
                    self.added.append(f"{path}/" if _is_dir(item) else path)
            except FileNotFoundError:
                pass  # gone since its directory was listed

    def _is_right(self, path: str, item: os.DirEntry[str]) -> bool:
        """Look closer at what is not plainly an untouched file."""
        where = f"{self._tree}/{path}"
        if path in self._layout.links:
            return item.is_symlink() and os.readlink(where) == self._layout.links[path]
        entry = self._layout.entries.get(path)
        if entry is None:
            return False
        if is_symlink(entry):
            return blobs.target_of(where, entry) is not None
        match = self._inodes.match(where, item.stat(follow_symlinks=False), entry, self._advance)
        if match is None:
            return False
        self.confirmed.append((entry.oid, match.found))
        return True

    def _advance(self, _: int) -> None:
        self._progress.advance()


class _Patterns:
    """What the configuration says is no drift."""

    def __init__(self, patterns: Sequence[str]) -> None:
        self._regex = re.compile("|".join(map(fnmatch.translate, patterns)) or r"(?!)")

    def cover(self, path: str) -> bool:
        """Whether a path is ignored: it, one of its parts, or a directory that it is in."""
        path = path.rstrip("/")
        names = (*path.split("/"), *parents_of(path), path)
        return any(map(self._regex.match, names))

    def without(self, paths: Iterable[str]) -> tuple[str, ...]:
        return tuple(sorted(path for path in paths if not self.cover(path)))


def _holds_a_file(tree: Path, added: str, ignored: _Patterns) -> bool:
    """Whether what was added is more than directories and what is ignored."""
    if not added.endswith("/"):
        return True
    below = os.walk(tree / added)
    return any(
        not ignored.cover(f"{os.path.relpath(directory, tree)}/{name}")
        for directory, subdirectories, files in below
        for name in (*files, *_links_among(directory, subdirectories))
    )


def _links_among(directory: str, names: Iterable[str]) -> list[str]:
    return [name for name in names if os.path.islink(f"{directory}/{name}")]


def _is_dir(item: os.DirEntry[str]) -> bool:
    return item.is_dir(follow_symlinks=False)
