"""Ballast: space that is given up to write the verdict when the disk is full."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from ota_agent import log
from ota_agent.errors import DeviceError, DiskFull
from ota_agent.store import atomic

if TYPE_CHECKING:
    from collections.abc import Callable

    from ota_agent.store.paths import Paths

_log = log.get_logger(__name__)

_Value = TypeVar("_Value")

# A journal entry, a quarantine in both copies of trust.json and a link, many times over.
SIZE_BYTES = 1024 * 1024


class Ballast:
    """A file of no use but its size. Without it a full disk would keep a bad release live."""

    def __init__(self, paths: Paths) -> None:
        """Keep it in the private directory of `paths`."""
        self._file = paths.private_dir / "ballast"

    def hold(self) -> None:
        """Make it if it is not there; a disk that is full already has to do without."""
        if self._file.exists():
            return
        try:
            atomic.write_file(self._file, b"\0" * SIZE_BYTES, mode=0o600)
        except DeviceError as error:
            _log.warning("no room for the ballast", code=error.code, error=error.message)

    def drop(self) -> bool:
        """Give it up; tells whether there was anything to give."""
        if not self._file.exists():
            return False
        _log.warning("disk full, the ballast goes")
        atomic.remove_file(self._file)
        return True

    def relieve(self, write: Callable[[], _Value]) -> _Value:
        """Do what must not fail for want of a few bytes: on a full disk once more without it."""
        try:
            return write()
        except DiskFull:
            if not self.drop():
                raise
            return write()
