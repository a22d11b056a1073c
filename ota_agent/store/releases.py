"""The releases on disk: staged, live, kept, and the spare tree that retention dropped last.

What is under `releases/` is whole: a tree gets its name there only once it is complete and durable.
The links say what is live and previous; there is no other record of it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ota_agent.errors import ReleaseMissing
from ota_agent.model.release import is_release_id
from ota_agent.store import atomic, inodes, staging
from ota_agent.store.changes import local_changes
from ota_agent.store.layout import DIRECTORY_MODE, Layout, is_sealed
from ota_agent.store.links import Links
from ota_agent.store.mending import Mender
from ota_agent.store.paths import RELEASES
from ota_agent.store.scan import Drift, scan

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from pathlib import Path

    from ota_agent.model.tree import Entry
    from ota_agent.ports import ObjectStore, Progress
    from ota_agent.store.database import Database
    from ota_agent.store.paths import Paths


@dataclass(frozen=True, slots=True)
class Staged:
    """What was staged.

    Attributes:
        files: files and symbolic links of the release, persistent ones not counted.
        size_bytes: of their content.
        written_bytes: of content that had to be written; the rest was there or was linked.
        reused: files that were there or were linked.

    """

    files: int
    size_bytes: int
    written_bytes: int
    reused: int


class ReleaseStore:
    """All that is done to the two links, `releases/`, `staging/` and `spare/`."""

    def __init__(self, paths: Paths, objects: ObjectStore, database: Database) -> None:
        """`database` holds the inode records, nothing else of this."""
        self._paths = paths
        self._links = Links(paths)
        self._objects = objects
        self._database = database

    # --- what there is --------------------------------------------------------------------------

    def is_sealed(self, release: str) -> bool:
        """Tell whether the whole tree of this release is there."""
        return _is_dir(self._paths.release_dir(release))

    def live(self) -> str | None:
        """Give the release in use; None when the link is absent, dangling or leads elsewhere."""
        return self._links.live()

    def previous(self) -> str | None:
        """Give the release before the live one; None as for `live`."""
        return self._links.previous()

    def kept(self) -> list[str]:
        """List the releases whose trees are there, sorted by name.

        What has another name than a release is not the agent's, and is left alone.
        """
        directory = self._paths.releases_dir
        with atomic.disk_errors(directory):
            return sorted(
                path.name
                for path in directory.iterdir()
                if is_release_id(path.name) and _is_dir(path)
            )

    def paths_in(self, release: str) -> list[str]:
        """List the files and links in the tree of a kept release, whatever it should hold."""
        tree = self._require(release)
        return sorted(os.path.relpath(item.path, tree) for item in _items_in(tree))

    # --- staging --------------------------------------------------------------------------------

    def stage(  # noqa: PLR0913, PLR0917 - the names of a deployment and what it brings
        self,
        deployment_id: str,
        release: str,
        commit: str,
        entries: Sequence[Entry],
        persist: Sequence[str],
        progress: Progress,
    ) -> Staged:
        """Make the release's tree: complete, sealed, durable, held in the object store.

        May run twice: an unfinished tree of this deployment is begun anew, a finished one of this
        release is compared, mended and used.

        Raises:
            StoreDamaged: an object is missing or is not what its id says.
            ManifestInvalid, TreeHostile: see `Layout.of`.
            DiskFull, DiskFault: the disk refused.

        """
        layout = Layout.of(entries, persist)
        sealed = self._paths.release_dir(release)
        with inodes.opened(self._database) as records:
            if _is_dir(sealed):
                damage = scan(sealed, layout, (), records, progress).damage
                written = Mender(sealed, layout, records, progress).mend(damage, self._objects)
                reused = len(layout.entries.keys() - set(damage))
                self._objects.keep(release, commit)
            else:
                tree = self._begin(deployment_id, records)
                sources = [
                    self._paths.release_dir(name) for name in (self.live(), self.previous()) if name
                ]
                builder = staging.TreeBuilder(tree, layout, records, progress)
                built = builder.build(sources, self._objects)
                written, reused = built.written_bytes, built.reused
                # Before the tree is complete: else each of its files would have to be read again.
                records.save()
                self._objects.keep(release, commit)
                atomic.rename(tree, sealed)
        size = sum(entry.size_bytes for entry in layout.entries.values())
        return Staged(len(layout.entries), size, written, reused)

    def _begin(self, deployment_id: str, records: inodes.Inodes) -> Path:
        """Give the place where a tree is built; the spare is there if there is one."""
        tree = self._paths.staging_of(deployment_id)
        atomic.remove_tree(tree, unlink=records.unlink)
        if _is_dir(self._paths.spare_dir):
            atomic.rename(self._paths.spare_dir, tree)
        return tree

    # --- links ----------------------------------------------------------------------------------

    def make_live(self, release: str | None) -> None:
        """Point `live` at a release, atomically and durably; None takes the link away.

        Raises ReleaseMissing when its tree is not there.
        """
        self._point(self._paths.live_link, release)

    def set_previous(self, release: str | None) -> None:
        """Point `previous` at a release, as `make_live` does with `live`."""
        self._point(self._paths.previous_link, release)

    def _point(self, link: Path, release: str | None) -> None:
        if release is None:
            atomic.remove_file(link)
            return
        tree = self._require(release)
        if not is_sealed(tree.lstat().st_mode):  # a crash came between the rename and the seal
            atomic.make_dir(tree, DIRECTORY_MODE)
        atomic.replace_symlink(link, f"{RELEASES}/{release}")

    # --- drift ----------------------------------------------------------------------------------

    def scan(
        self,
        release: str,
        entries: Sequence[Entry],
        persist: Sequence[str],
        ignore: Sequence[str],
        progress: Progress,
    ) -> Drift:
        """Compare a kept release with what it should be, see `scan.scan`; changes nothing in it."""
        tree = self._require(release)
        with inodes.opened(self._database) as records:
            return scan(tree, Layout.of(entries, persist), ignore, records, progress)

    def mend(
        self,
        release: str,
        paths: Collection[str],
        entries: Sequence[Entry],
        persist: Sequence[str],
        progress: Progress,
    ) -> int:
        """Bring back `Drift.damage` of a kept release; gives the bytes written. May run twice."""
        tree = self._require(release)
        with inodes.opened(self._database) as records:
            mender = Mender(tree, Layout.of(entries, persist), records, progress)
            return mender.mend(paths, self._objects)

    def local_changes(
        self,
        release: str,
        drift: Drift,
        entries: Sequence[Entry],
        persist: Sequence[str],
        progress: Progress,
    ) -> bytes:
        """Describe what was edited in a kept release, see `changes.local_changes`."""
        layout = Layout.of(entries, persist)
        return local_changes(self._require(release), drift, layout, self._objects, progress)

    # --- retention ------------------------------------------------------------------------------

    def retire(self, release: str) -> None:
        """Stop keeping a release: its tree becomes the spare. May run twice.

        Raises ValueError for the live or the previous release.
        """
        if release in {self.live(), self.previous()}:
            raise ValueError(f"{release} is in use")
        self._give_to_spare(self._paths.release_dir(release))
        self._objects.drop(release)

    def discard(self, deployment_id: str, release: str | None) -> None:
        """Take back what an abandoned deployment staged; its tree becomes the spare.

        `release` is None when another record (a backup) keeps it. The live and the previous one are
        never taken. May run twice.
        """
        unfinished = self._paths.staging_of(deployment_id)
        if _is_dir(unfinished):
            self._give_to_spare(unfinished)
        if release is not None and release not in {self.live(), self.previous()}:
            self.retire(release)

    @property
    def has_spare(self) -> bool:
        """Whether there is a tree that nobody needs."""
        return _is_dir(self._paths.spare_dir)

    def drop_spare(self) -> None:
        """Delete the spare tree: it is worth less than the space that it takes."""
        with inodes.opened(self._database) as records:
            atomic.remove_tree(self._paths.spare_dir, unlink=records.unlink)

    def empty_staging(self) -> None:
        """Clear up after a crash: nothing is being staged, and gone inodes are forgotten."""
        staging.empty(self._paths)
        trees = [self._paths.spare_dir, *map(self._paths.release_dir, self.kept())]
        with inodes.opened(self._database) as records:
            records.forget_others({item.inode() for tree in trees for item in _items_in(tree)})

    # --- small parts ----------------------------------------------------------------------------

    def _require(self, release: str) -> Path:
        tree = self._paths.release_dir(release)
        if not _is_dir(tree):
            raise ReleaseMissing(f"The release {release} is not kept on this device.")
        return tree

    def _give_to_spare(self, tree: Path) -> None:
        if _is_dir(tree):
            self.drop_spare()
            atomic.rename(tree, self._paths.spare_dir)


def _is_dir(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _items_in(tree: Path) -> Iterator[os.DirEntry[str]]:
    """Give every file and link in a tree, from the directories alone."""
    waiting = [os.fspath(tree)] if tree.is_dir() else []
    while waiting:
        with atomic.disk_errors(tree), os.scandir(waiting.pop()) as listing:
            for item in listing:
                if item.is_dir(follow_symlinks=False):
                    waiting.append(item.path)
                else:
                    yield item
