"""What the sealed tree of a release consists of: its files, directories and persistent links."""

from __future__ import annotations

import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ota_agent.errors import ManifestInvalid, TreeHostile
from ota_agent.model.tree import MODE_EXECUTABLE, MODE_FILE, MODE_SYMLINK
from ota_agent.store.paths import PERSIST

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ota_agent.model.tree import Entry

DIRECTORY_MODE = 0o555

# What lstat says of the files of a sealed tree, by git's mode.
ST_MODES = {MODE_FILE: stat.S_IFREG | 0o444, MODE_EXECUTABLE: stat.S_IFREG | 0o555}

TOP = "."  # the tree's own directory, among the paths below it


@dataclass(frozen=True, slots=True)
class Layout:
    """The tree of one release; paths are relative to it, `/` between their parts.

    Attributes:
        directories: parents before what is in them; `TOP` is not among them.
        entries: files and symbolic links of the release, without what is persistent.
        links: persistent path to the text of the link that stands in its place.

    """

    directories: tuple[str, ...]
    entries: Mapping[str, Entry]
    links: Mapping[str, str]

    @classmethod
    def of(cls, entries: Sequence[Entry], persist: Sequence[str]) -> Layout:
        """Lay out a listing; what lies at or under a path in `persist` is the device's.

        Raises:
            ManifestInvalid: a persistent path leads through a file of the release.
            TreeHostile: a path is both a file and a directory.

        """
        outer = _outermost(persist)
        staged = {entry.path: entry for entry in entries}
        if outer:
            inside = tuple(f"{path}/" for path in outer)
            for path in [path for path in staged if f"{path}/".startswith(inside)]:
                del staged[path]
        links = {path: f"{'../' * (path.count('/') + 2)}{PERSIST}/{path}" for path in outer}
        for path in links:
            for parent in parents_of(path):
                if parent in staged:
                    raise ManifestInvalid(
                        f"The persistent path {path} leads through {parent}, which is a file."
                    )
        innermost = {parent_of(path) for path in (*staged, *links)} - {TOP}
        directories = innermost.union(*map(parents_of, innermost))
        for path in directories & staged.keys():
            raise TreeHostile(f"The release has {path} both as a file and as a directory.")
        return cls(tuple(sorted(directories)), staged, links)


def is_symlink(entry: Entry) -> bool:
    """Whether the entry is a symbolic link, whose content is the text of its target."""
    return entry.mode == MODE_SYMLINK


def parent_of(path: str) -> str:
    """Give the directory that a path lies in, `TOP` at the top."""
    return path.rpartition("/")[0] or TOP


def is_sealed(mode: int) -> bool:
    """Whether this is the `st_mode` of a directory as a sealed tree has them."""
    return stat.S_ISDIR(mode) and stat.S_IMODE(mode) == DIRECTORY_MODE


def parents_of(path: str) -> list[str]:
    """Give the directories that a path lies in, outermost first, without `TOP`."""
    parts = path.split("/")[:-1]
    return ["/".join(parts[:count]) for count in range(1, len(parts) + 1)]


def _outermost(paths: Sequence[str]) -> tuple[str, ...]:
    """Leave out what lies under another one: the link above it leads there already."""
    # With the slash a path sorts right before all that lies under it.
    ordered = sorted({f"{path.strip('/')}/" for path in paths})
    outer = ordered[:1]
    for path in ordered[1:]:
        if not path.startswith(outer[-1]):
            outer.append(path)
    return tuple(path[:-1] for path in outer)
