"""A device's disk for tests: a work_dir with its database, an object store, and releases on it."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, TypeAlias

from fakes.object_store import Executable, FakeObjectStore, Link
from fakes.progress import FakeProgress
from ota_agent.model.release import release_id
from ota_agent.store import atomic, workdir
from ota_agent.store.database import Database
from ota_agent.store.paths import Paths
from ota_agent.store.releases import ReleaseStore, Staged

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from fakes.object_store import Content
    from ota_agent.model.tree import Entry
    from ota_agent.store.scan import Drift

# What lies at a path: a kind, its permissions, and what it holds.
Found: TypeAlias = tuple[str, int, bytes]


class Shelf:
    """Stages and compares releases; `reopen` is what the next start of the agent sees."""

    def __init__(self, work_dir: Path) -> None:
        self.paths = Paths(work_dir)
        workdir.prepare(self.paths)
        self.objects = FakeObjectStore()
        self.progress = FakeProgress()
        self.database = Database.open(self.paths.database_file)
        self.store = ReleaseStore(self.paths, self.objects, self.database)
        self.staged: Staged | None = None
        self._commits: dict[str, str] = {}
        self._persist: dict[str, Sequence[str]] = {}

    def reopen(self) -> None:
        """End the agent and start it again: what crashes left is cleared up."""
        self.database.close()
        workdir.prepare(self.paths)
        workdir.clear_litter(self.paths)
        self.database = Database.open(self.paths.database_file)
        self.store = ReleaseStore(self.paths, self.objects, self.database)
        self.store.empty_staging()

    def publish(self, files: Mapping[str, Content], persist: Sequence[str] = ()) -> str:
        """Put a release into the object store; give its id."""
        commit = self.objects.publish(files)
        release = release_id(
            version="1.0", ref="", commit=commit, tree=self.objects.tree_of(commit)
        )
        self._commits[release] = commit
        self._persist[release] = persist
        return release

    def entries(self, release: str) -> list[Entry]:
        tree = self.objects.tree_of(self._commits[release])
        return self.objects.listing(tree, self.progress)

    def stage(self, release: str, deployment: str = "7-abcdef") -> Staged:
        return self.store.stage(
            deployment,
            release,
            self._commits[release],
            self.entries(release),
            self._persist[release],
            self.progress,
        )

    def put(self, files: Mapping[str, Content], persist: Sequence[str] = ()) -> str:
        """Publish and stage."""
        release = self.publish(files, persist)
        self.staged = self.stage(release)
        return release

    def go_live(self, release: str) -> None:
        self.store.set_previous(self.store.live())
        self.store.make_live(release)

    def scan(self, release: str, ignore: Sequence[str] = ()) -> Drift:
        return self.store.scan(
            release, self.entries(release), self._persist[release], ignore, self.progress
        )

    def mend(self, release: str, paths: Sequence[str]) -> int:
        return self.store.mend(
            release, paths, self.entries(release), self._persist[release], self.progress
        )

    def local_changes(self, release: str) -> bytes:
        return self.store.local_changes(
            release,
            self.scan(release),
            self.entries(release),
            self._persist[release],
            self.progress,
        )

    def dir(self, release: str) -> Path:
        return self.paths.release_dir(release)

    def left_over(self) -> list[str]:
        """Name what no finished work leaves behind."""
        litter = [
            path.relative_to(self.paths.work_dir).as_posix()
            for path in self.paths.work_dir.rglob(f"{atomic.TEMP_PREFIX}*")
        ]
        return litter + [path.name for path in self.paths.staging_dir.iterdir()]


def tree_of(files: Mapping[str, Content], persist: Sequence[str] = ()) -> dict[str, Found]:
    """Tell how the sealed tree of these files looks on disk."""
    found: dict[str, Found] = {".": ("directory", 0o555, b"")}
    links = {path: Link(f"{'../' * (path.count('/') + 2)}persist/{path}") for path in persist}
    for path, content in {**files, **links}.items():
        if path not in links and f"{path}/".startswith(tuple(f"{link}/" for link in links)):
            continue
        match content:
            case Executable():
                found[path] = ("file", 0o555, content.content)
            case Link():
                found[path] = ("link", 0o777, content.target.encode())
            case bytes():
                found[path] = ("file", 0o444, content)
            case _:
                raise AssertionError(content)
        parts = path.split("/")[:-1]
        for count in range(1, len(parts) + 1):
            found["/".join(parts[:count])] = ("directory", 0o555, b"")
    return found


def names_in(directory: Path) -> list[str]:
    """List a directory, sorted."""
    return sorted(path.name for path in directory.iterdir())


def tree_at(root: Path) -> dict[str, Found]:
    """Tell how a tree looks on disk."""
    return {
        path.relative_to(root).as_posix(): _look(path) for path in (root, *sorted(root.rglob("*")))
    }


def _look(path: Path) -> Found:
    found = path.lstat()
    mode = stat.S_IMODE(found.st_mode)
    if stat.S_ISLNK(found.st_mode):
        return "link", mode, os.fsencode(path.readlink())
    if stat.S_ISDIR(found.st_mode):
        return "directory", mode, b""
    return "file", mode, path.read_bytes()
