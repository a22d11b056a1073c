"""Where the symlinks of a release lead, followed part by part as the system would."""

from __future__ import annotations

import os
import posixpath
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# Linux gives up (ELOOP) after as many.
MAX_LINKS = 40


class _Escape(Exception):
    """The end of a sentence about a symlink that leaves its release."""


@dataclass(frozen=True, slots=True)
class _End:
    """Where a symlink leads: a path in the release (empty: its root), and over how many links."""

    path: str
    links: int


class LinkWalk:
    """Follows the symlinks of one tree; each is resolved once."""

    def __init__(self, targets: Mapping[str, bytes], persist: Sequence[str]) -> None:
        """Walk the links in `targets` (text by path); `persist` paths lead out of the release."""
        self._targets = targets
        self._persist = frozenset(persist)
        self._ends: dict[str, _End] = {}

    def fault(self, path: str) -> str | None:
        """Say where a symlink leads that it may not, as the end of a sentence; None when nowhere.

        A target that does not exist is no fault: it leads nowhere.
        """
        try:
            self._follow(path, 1)
        except _Escape as escape:
            return str(escape)
        return None

    def _follow(self, path: str, depth: int) -> _End:
        known = self._ends.get(path)
        if known is not None:
            return known
        if depth > MAX_LINKS:
            raise _Escape(f"leads in a circle, or over more than {MAX_LINKS} symlinks")
        target = self._target(path)
        here, links = posixpath.dirname(path), 1
        for part in target.split("/"):
            if part == "..":
                here = self._parent(here, target)
            elif part not in {"", "."}:
                here = f"{here}/{part}" if here else part
                if here in self._targets:
                    end = self._follow(here, depth + 1)
                    here, links = end.path, max(links, end.links + 1)
        if links > MAX_LINKS:
            raise _Escape(f"leads over more than {MAX_LINKS} symlinks")
        self._ends[path] = _End(here, links)
        return self._ends[path]

    def _target(self, path: str) -> str:
        target = os.fsdecode(self._targets[path])
        if path in self._persist:
            raise _Escape("is a persistent path, and has to be a file or a directory")
        if target.startswith("/"):
            raise _Escape(f"leads to the absolute path {target!r}")
        if "\0" in target:
            raise _Escape("has a NUL character in its target")
        return target

    def _parent(self, here: str, target: str) -> str:
        if not here:
            raise _Escape(f"climbs out of the release: {target!r}")
        if here in self._persist:
            # Staged, this directory is a link into persist/: its parent is not the release's.
            raise _Escape(f"climbs out of the persistent {here!r}: {target!r}")
        return posixpath.dirname(here)
