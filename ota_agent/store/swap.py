"""Putting one set of persistent data in the place of another, by renames alone.

Nothing is copied and nothing removed, so it needs no space, and a crash at any point is continued
by running it again:

    persist/<path>         -> <backup>/<aside>/<path>     unless nothing is there
    <backup>/<data>/<path> -> persist/<path>              unless the path is to be absent

Two marks in the backup's directory say how far it came. `<name>.began` is durable before the first
rename: from then on, data that are not at their source have been put in place. `<name>.done` is
durable after the last: from then on nothing is moved, whatever applications have written since.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ota_agent.errors import BackupUnusable, DiskFault
from ota_agent.store import atomic
from ota_agent.store.backup_record import Kept
from ota_agent.store.beneath import held, is_there

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


class Swap:
    """One exchange between `persist/` and a backup's directory; may be run any number of times."""

    def __init__(
        self, persist_dir: Path, backup_dir: Path, *, name: str, data: str, aside: str
    ) -> None:
        """Move `backup_dir`/`data` in, and what it displaces to `backup_dir`/`aside`."""
        self._persist_dir = persist_dir
        self._backup_dir = backup_dir
        self._data = backup_dir / data
        self._aside = aside
        self._began = backup_dir / f"{name}.began"
        self._done = backup_dir / f"{name}.done"

    def run(self, kept: Mapping[str, Kept]) -> None:
        """Bring every path to what was kept of it.

        Raises:
            BackupUnusable: data are missing; nothing was moved.
            WorkDirUnusable: a link bars the way to a path; the paths before it are moved, and
                another run continues.

        """
        if self._done.exists():
            return
        if not self._began.exists():
            for path, what in kept.items():
                if what is Kept.COPIED and not os.path.lexists(self._data / path):
                    raise BackupUnusable(f"The backup {self._backup_dir} lacks the data of {path}.")
            atomic.write_file(self._began, b"", mode=0o600)
        try:
            for path, what in kept.items():
                if what is Kept.COPIED:
                    self._put(path)
                else:
                    self._clear(path)
        except (FileNotFoundError, FileExistsError) as error:
            raise DiskFault(
                f"{error.filename} changed while it was moved.",
                hint="Stop what writes to the persistent data; the agent goes on with the move.",
            ) from error
        atomic.write_file(self._done, b"", mode=0o600)

    def _put(self, path: str) -> None:
        source = self._data / path
        if not os.path.lexists(source):
            return  # in place since an earlier run
        with held(self._persist_dir, path, create=True) as target:
            self._set_aside(target, path)
            atomic.rename(source, target)

    def _clear(self, path: str) -> None:
        if os.path.lexists(self._backup_dir / self._aside / path):
            return  # out of the way since an earlier run; what is there now is new
        if is_there(self._persist_dir, path):
            with held(self._persist_dir, path) as target:
                self._set_aside(target, path)

    def _set_aside(self, target: Path, path: str) -> None:
        """Move what is there, also what an application has made there between two runs."""
        if not os.path.lexists(target):
            return
        number = 0
        while os.path.lexists(slot := self._slot(number) / path):
            number += 1  # taken in an earlier run, and not to be lost either
        for directory in reversed(slot.relative_to(self._backup_dir).parents[:-1]):
            atomic.make_dir(self._backup_dir / directory, 0o700)
        atomic.rename(target, slot)

    def _slot(self, number: int) -> Path:
        return self._backup_dir / (f"{self._aside}.{number}" if number else self._aside)
