"""An object store in memory, with git's own hashes: the same content is the same tree."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, TypeAlias

from ota_agent.errors import StoreDamaged
from ota_agent.model.tree import (
    MODE_EXECUTABLE,
    MODE_FILE,
    MODE_SUBMODULE,
    MODE_SYMLINK,
    Entry,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from ota_agent.ports import Progress

_MODE_DIRECTORY = 0o40000


@dataclass(frozen=True, slots=True)
class Executable:
    """A file with the executable bit."""

    content: bytes


@dataclass(frozen=True, slots=True)
class Link:
    """A symbolic link and where it points."""

    target: str


@dataclass(frozen=True, slots=True)
class Submodule:
    """A commit of another repository, which no release may hold."""

    commit: str = "5" * 40


Content: TypeAlias = bytes | Executable | Link | Submodule


class FakeObjectStore:
    """Trees, commits and contents as dictionaries.

    `kept` maps the releases that are held to their commits, `was_set_aside` counts how often the
    store was begun anew, `tidied` how often it was tidied.
    """

    def __init__(self) -> None:
        self.commits: dict[str, str] = {}
        self.trees: dict[str, list[Entry]] = {}
        self.blobs: dict[str, bytes] = {}
        self.kept: dict[str, str] = {}
        self.was_set_aside = 0
        self.tidied = 0
        self._has_lost = False
        self._published = 0

    # --- what a test tells it ---------------------------------------------------------------

    def publish(self, files: Mapping[str, Content]) -> str:
        """Put in a commit of these files (path to content); give its hash, new each time."""
        entries = []
        for path, content in files.items():
            mode, data = _mode_and_data(content)
            oid = content.commit if isinstance(content, Submodule) else _hash("blob", data)
            if mode != MODE_SUBMODULE:
                self.blobs[oid] = data
            entries.append(Entry(path, mode, oid, len(data)))
        entries.sort(key=lambda entry: _as_bytes(entry.path))
        tree = _tree_hash([(_as_bytes(entry.path), entry) for entry in entries])
        self.trees[tree] = entries
        self._published += 1
        commit = _hash("commit", f"tree {tree}\nnumber {self._published}\n".encode())
        self.commits[commit] = tree
        return commit

    def lose(self, oid: str) -> None:
        """Lose an object (commit, tree or content), as a bad disk does."""
        self._has_lost = True
        for objects in (self.commits, self.trees, self.blobs):
            objects.pop(oid, None)

    def receive(self, other: FakeObjectStore, commit: str) -> int:
        """Take a commit and all it needs from another store; give the bytes that were new."""
        tree = other.commits[commit]
        self.commits[commit] = tree
        self.trees[tree] = other.trees[tree]
        new = {entry.oid for entry in self.trees[tree] if entry.mode != MODE_SUBMODULE}
        new -= self.blobs.keys()
        self.blobs |= {oid: other.blobs[oid] for oid in new}
        return sum(len(self.blobs[oid]) for oid in new)

    # --- the port ---------------------------------------------------------------------------

    def prepare(self) -> None:
        pass

    def is_damaged(self, progress: Progress) -> bool:
        progress.check()
        entries = [entry for listed in self.trees.values() for entry in listed]
        return (
            self._has_lost
            or not self.trees.keys() >= set(self.commits.values())
            or any(e.oid not in self.blobs for e in entries if e.mode != MODE_SUBMODULE)
        )

    def set_aside(self) -> None:
        self.was_set_aside += 1
        self._has_lost = False
        for objects in (self.commits, self.trees, self.blobs, self.kept):
            objects.clear()

    def tree_of(self, commit: str) -> str:
        try:
            return self.commits[commit]
        except KeyError as error:
            raise StoreDamaged(f"Commit {commit} is not in the object store.") from error

    def listing(self, tree: str, progress: Progress) -> list[Entry]:
        progress.check()
        entries = self.trees.get(tree)
        if entries is None:
            raise StoreDamaged(f"Tree {tree} is not in the object store.")
        for entry in entries:
            if entry.mode != MODE_SUBMODULE and entry.oid not in self.blobs:
                raise StoreDamaged(f"The content of {entry.path} is not in the object store.")
        return list(entries)

    def contents(self, oids: Iterable[str], progress: Progress) -> Iterator[tuple[str, IO[bytes]]]:
        done = 0
        for oid in oids:
            progress.check()
            if oid not in self.blobs:
                raise StoreDamaged(f"Object {oid} is not in the object store.")
            yield oid, io.BytesIO(self.blobs[oid])
            done += len(self.blobs[oid])
            progress.advance(done)

    def keep(self, release: str, commit: str) -> None:
        self.tree_of(commit)
        self.kept[release] = commit

    def held(self) -> dict[str, str]:
        return dict(self.kept)

    def drop(self, release: str) -> None:
        self.kept.pop(release, None)

    def tidy(self, progress: Progress) -> None:
        progress.check()
        self.tidied += 1


def _mode_and_data(content: Content) -> tuple[int, bytes]:
    match content:
        case Executable():
            return MODE_EXECUTABLE, content.content
        case Link():
            return MODE_SYMLINK, content.target.encode()
        case Submodule():
            return MODE_SUBMODULE, b""
        case _:
            return MODE_FILE, content


def _as_bytes(path: str) -> bytes:
    return path.encode("utf-8", "surrogateescape")


def _hash(kind: str, data: bytes) -> str:
    return hashlib.sha1(b"%s %d\0%s" % (kind.encode(), len(data), data)).hexdigest()  # noqa: S324 - git's own


def _tree_hash(entries: list[tuple[bytes, Entry]]) -> str:
    """Hash a directory as git does; the paths in `entries` are relative to it."""
    children: dict[bytes, tuple[int, str]] = {}
    below: dict[bytes, list[tuple[bytes, Entry]]] = {}
    for path, entry in entries:
        name, slash, rest = path.partition(b"/")
        if slash:
            below.setdefault(name, []).append((rest, entry))
        else:
            children[name] = (entry.mode, entry.oid)
    for name, inner in below.items():
        children[name] = (_MODE_DIRECTORY, _tree_hash(inner))
    # Git sorts a directory as if its name ended in a slash.
    order = sorted(
        children, key=lambda name: name + (b"/" if children[name][0] == _MODE_DIRECTORY else b"")
    )
    rows = [
        b"%o %s\0%s" % (children[name][0], name, bytes.fromhex(children[name][1])) for name in order
    ]
    return _hash("tree", b"".join(rows))
