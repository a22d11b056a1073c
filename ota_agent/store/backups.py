"""What RESTORE needs to bring the device back: one directory for each deployment.

    backups/<deployment>/
      backup.json          what is kept of which release; a directory without it is no backup
      data/<path>          copy of persist/<path>, moved back by RESTORE
      local.patch          drift that the live tree had
      displaced/<path>     what RESTORE found in the place of the data
      incoming/<path>      an older backup's data, for a rollback with its data
      outgoing/<path>      what these replaced

A backup is built under a name that begins with a dot and renamed when it is whole and durable.
"""

from __future__ import annotations

import os
from contextlib import ExitStack, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from ota_agent.errors import AgentError, BackupUnusable, WorkDirUnusable
from ota_agent.store import atomic, backup_record, mounts
from ota_agent.store.backup_record import Backup, Kept
from ota_agent.store.beneath import held
from ota_agent.store.copying import Copying, measure
from ota_agent.store.swap import Swap

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from ota_agent.ports import Progress
    from ota_agent.store.paths import Paths

RECORD = "backup.json"
DATA = "data"
PATCH = "local.patch"
DISPLACED = "displaced"
INCOMING = "incoming"
OUTGOING = "outgoing"


class BackupStore:
    """The backups of one device. Only the agent's loop uses it, one call at a time."""

    def __init__(self, paths: Paths) -> None:
        """Keep the backups where `paths` says."""
        self._paths = paths

    # --- taking -----------------------------------------------------------------------------------

    def data_size(self, data_paths: Iterable[str]) -> tuple[int, int]:
        """Give the bytes and inodes that a copy of these persistent paths takes."""
        size = inodes = 0
        for path in data_paths:
            with suppress(FileNotFoundError), held(self._paths.persist_dir, path) as source:
                more_bytes, more_inodes = measure(source)
                size += more_bytes
                inodes += more_inodes
        return size, inodes

    def take(  # noqa: PLR0913, PLR0917 - each is a part of the record
        self,
        deployment_id: str,
        release: str | None,
        previous: str | None,
        data_paths: Sequence[str],
        patch: bytes,
        why: str,
        progress: Progress,
    ) -> Backup:
        """Back up; durable on return. A whole one of this deployment is kept as it is.

        Raises:
            DiskFull: nothing is left behind.
            WorkDirUnusable: a path is a mount point, so that RESTORE could not move it.
            BackupUnusable: the data cannot be copied.

        """
        with suppress(BackupUnusable):
            return self.read(deployment_id)
        self.discard(deployment_id)
        self._refuse_mounts(data_paths)
        building = self._building(deployment_id)
        with ExitStack() as undo:
            undo.callback(_remove_quietly, building)
            atomic.make_dir(building, 0o700)
            kept, skipped = self._copy_data(data_paths, building / DATA, progress)
            if patch:
                atomic.write_file(building / PATCH, patch, mode=0o600, durable=False)
            backup = Backup(
                deployment=deployment_id,
                sequence=1 + max((one.sequence for one in self.list()), default=0),
                at=datetime.now(UTC),
                why=why,
                release=release,
                previous=previous,
                data=kept,
                skipped=skipped,
            )
            atomic.write_file(
                building / RECORD, backup_record.pack(backup), mode=0o600, durable=False
            )
            atomic.sync_filesystem(building)
            atomic.rename(building, self._dir(deployment_id))
            undo.pop_all()
        return self.read(deployment_id)

    def incoming(self, deployment_id: str, from_backup_id: str, progress: Progress) -> None:
        """Copy an older backup's data beside this deployment's; durable on return, may run again.

        Only paths that this deployment's own backup covers: RESTORE could not undo the others.

        Raises:
            BackupUnusable: the older one has no data any more.
            DiskFull: nothing of it is left behind.

        """
        into = self._dir(deployment_id)
        if (into / INCOMING).exists():
            return
        own, older = self.read(deployment_id), self.read(from_backup_id)
        if not self._has_data(older):
            raise BackupUnusable(f"The backup {from_backup_id} no longer holds its data.")
        wanted = {path: what for path, what in older.data.items() if path in own.data}
        building = into / f".{INCOMING}"
        atomic.remove_tree(building)
        with ExitStack() as undo:
            undo.callback(_remove_quietly, building)
            atomic.make_dir(building, 0o700)
            copying = Copying(progress)
            for path, what in wanted.items():
                if what is Kept.COPIED:
                    source = self._dir(from_backup_id) / DATA / path
                    copying.copy(source, _make_above(building, path), path)
            record = backup_record.pack(replace(older, data=wanted))
            atomic.write_file(into / f"{INCOMING}.json", record, mode=0o600)
            atomic.sync_filesystem(building)
            atomic.rename(building, into / INCOMING)
            undo.pop_all()

    # --- putting back -----------------------------------------------------------------------------

    def restore_data(self, deployment_id: str) -> None:
        """Move the data of this backup back, and aside what is in their place; may run again.

        Raises:
            BackupUnusable: the backup is damaged or lacks data; nothing was moved.

        """
        backup = self.read(deployment_id)
        self._swap(deployment_id, "restore", DATA, DISPLACED).run(backup.data)

    def put_incoming(self, deployment_id: str) -> None:
        """Move the older data that `incoming` prepared in; may run again.

        Raises:
            BackupUnusable: nothing was prepared; nothing was moved.

        """
        older = backup_record.read(self._dir(deployment_id) / f"{INCOMING}.json")
        self._swap(deployment_id, "exchange", INCOMING, OUTGOING).run(older.data)

    # --- looking ----------------------------------------------------------------------------------

    def read(self, deployment_id: str) -> Backup:
        """Give one backup; BackupUnusable where it is missing or damaged."""
        return backup_record.read(self._dir(deployment_id) / RECORD)

    def list(self) -> Sequence[Backup]:
        """List what is whole, newest first."""
        whole = []
        for name in self._names():
            if name.startswith("."):
                continue  # being built or dropped, whatever is in it
            with suppress(BackupUnusable):
                whole.append(self.read(name))
        return sorted(whole, key=lambda backup: backup.sequence, reverse=True)

    def newest_with_data_of(self, release: str) -> Backup | None:
        """Give the newest backup that still holds the data as they were when `release` was left."""
        for backup in self.list():
            if backup.release == release and self._has_data(backup):
                return backup
        return None

    def named_releases(self) -> set[str]:
        """Give every release that a backup names: none of them may be pruned."""
        named = {name for backup in self.list() for name in (backup.release, backup.previous)}
        return {name for name in named if name is not None}

    # --- dropping ---------------------------------------------------------------------------------

    def prune(self, keep: int, keep_data: int, never: Collection[str]) -> None:
        """Drop all but the newest `keep` backups, and all but the newest `keep_data` data copies.

        Deployments in `never` are not touched. What is no whole backup is dropped as well.
        """
        kept_data = 0
        whole = self.list()
        for place, backup in enumerate(whole):
            has_data = self._has_data(backup)
            kept_data += has_data
            if backup.deployment in never:
                continue
            if place >= keep:
                self.discard(backup.deployment)
            elif has_data and kept_data > keep_data:
                self._drop(self._dir(backup.deployment) / DATA)
        for name in self._names() - {backup.deployment for backup in whole} - {*never}:
            atomic.remove_tree(self._paths.backups_dir / name)

    def drop_displaced(self, *deployment_ids: str) -> None:
        """Drop what these deployments moved aside; after the next success nobody needs it."""
        for deployment_id in deployment_ids:
            into = self._dir(deployment_id)
            for path in into.iterdir() if into.is_dir() else ():
                if path.name.partition(".")[0] in {DISPLACED, OUTGOING} or path.name == INCOMING:
                    atomic.remove_tree(path)

    def discard(self, deployment_id: str) -> None:
        """Drop one backup with all that is in it, whole or half; none is fine."""
        atomic.remove_tree(self._building(deployment_id))
        if os.path.lexists(self._dir(deployment_id)):
            self._drop(self._dir(deployment_id))

    def _drop(self, path: Path) -> None:
        """Remove a tree that a crash must not leave half: it loses its name first."""
        dropping = self._paths.backups_dir / ".drop"
        atomic.remove_tree(dropping)
        atomic.rename(path, dropping)
        atomic.remove_tree(dropping)

    # --- parts ------------------------------------------------------------------------------------

    def _dir(self, deployment_id: str) -> Path:
        return self._paths.backups_dir / deployment_id

    def _building(self, deployment_id: str) -> Path:
        return self._paths.backups_dir / f".new-{deployment_id}"

    def _names(self) -> set[str]:
        return {path.name for path in self._paths.backups_dir.iterdir()}

    def _has_data(self, backup: Backup) -> bool:
        data = self._dir(backup.deployment) / DATA
        # The directory is looked at too: of paths that were absent it holds nothing, and it has
        # been dropped all the same.
        return (
            bool(backup.data)
            and data.is_dir()
            and all(
                what is Kept.ABSENT or os.path.lexists(data / path)
                for path, what in backup.data.items()
            )
        )

    def _swap(self, deployment_id: str, name: str, data: str, aside: str) -> Swap:
        into = self._dir(deployment_id)
        return Swap(self._paths.persist_dir, into, name=name, data=data, aside=aside)

    def _refuse_mounts(self, data_paths: Iterable[str]) -> None:
        """Refuse now what RESTORE could not move later."""
        points = mounts.below(self._paths.persist_dir)
        for path in (self._paths.persist_dir / name for name in data_paths):
            for point in points:
                if point.is_relative_to(path) or path.is_relative_to(point):
                    raise WorkDirUnusable(
                        f"{point} is a mount point: its data cannot be moved back by renaming.",
                        hint="Mount it around the whole work_dir, or publish without its backup.",
                    )

    def _copy_data(
        self, data_paths: Iterable[str], into: Path, progress: Progress
    ) -> tuple[dict[str, Kept], tuple[str, ...]]:
        kept = {}
        copying = Copying(progress)
        atomic.make_dir(into, 0o700)
        for path in data_paths:
            target = _make_above(into, path)
            with suppress(FileNotFoundError), held(self._paths.persist_dir, path) as source:
                copying.copy(source, target, path)
            kept[path] = Kept.COPIED if os.path.lexists(target) else Kept.ABSENT
        return kept, tuple(copying.skipped)


def _make_above(root: Path, relative: str) -> Path:
    """Make the directories between `root` and the path; give the path."""
    for above in reversed(Path(relative).parents[:-1]):
        atomic.make_dir(root / above, 0o700)
    return root / relative


def _remove_quietly(path: Path) -> None:
    with suppress(AgentError):  # the failure that led here is the one to tell
        atomic.remove_tree(path)
