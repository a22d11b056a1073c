"""Takes the power from a piece of code at a chosen side effect, as often as there are any.

Run the work once under `count_effects`, then again and again under `cut_after(0)`, `cut_after(1)`
and so on: so many effects happen, the next one and everything after it raises `Cut`, clean-up too.
What is on disk then is what a killed process leaves. Effects are seen by the interpreter's audit
events, whichever thread has them, commits of the database by themselves, what fakes keep by their
own word (`effect`); writes into a file that is open already are none.
"""

from __future__ import annotations

import os
import sys
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from unittest import mock

from ota_agent.store.database import Database

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

_CHANGES = frozenset(
    {
        "os.chmod",
        "os.chown",
        "os.link",
        "os.mkdir",
        "os.remove",
        "os.rename",
        "os.rmdir",
        "os.symlink",
        "os.truncate",
        "os.utime",
        "subprocess.Popen",  # its effects are its own; none happens after the cut
    }
)

# What the interpreter, and not the code, writes.
_FOREIGN = ("/dev/null", "/dev/tty", "/dev/urandom", "/proc/")
_HELD = "/proc/self/fd/"  # the code's own: names in a directory that it holds open
_FOREIGN_PARTS = ("__pycache__", ".coverage")


class Cut(BaseException):
    """The power is gone. No `except Exception`, no `suppress(OSError)` stops it."""


@dataclass
class Cutter:
    """What happened under it.

    Attributes:
        limit: effects that may happen; None for all.
        effects: what happened, `os.rename /path`, in order.
        was_cut: the limit was reached.

    """

    limit: int | None = None
    effects: list[str] = field(default_factory=list)
    was_cut: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __len__(self) -> int:
        return len(self.effects)

    def effect(self, name: str) -> None:
        """Count one effect that is about to happen, or prevent it."""
        with self._lock:
            if self.was_cut or (self.limit is not None and len(self.effects) >= self.limit):
                self.was_cut = True
                raise Cut(name)
            self.effects.append(name)


class _Hook:
    """An audit hook cannot be taken back: one for all, idle without a cutter."""

    def __init__(self) -> None:
        self.cutter: Cutter | None = None
        self.is_installed = False

    def audit(self, event: str, arguments: tuple[object, ...]) -> None:
        cutter = self.cutter
        if cutter is None:
            return
        if event == "open":
            path, _, flags = arguments
            if isinstance(path, int) or not isinstance(flags, int) or not flags & _WRITES:
                return
        elif event not in _CHANGES:
            return
        path = arguments[0]
        text = os.fsdecode(path) if isinstance(path, str | bytes | os.PathLike) else ""
        if text.startswith(_FOREIGN) and not text.startswith(_HELD):
            return
        if any(part in text for part in _FOREIGN_PARTS):
            return
        cutter.effect(f"{event} {text}")


_hook = _Hook()


@contextmanager
def count_effects() -> Iterator[Cutter]:
    """Let everything happen and tell what did: `len()` of what is given."""
    with _under(Cutter()) as cutter:
        yield cutter


@contextmanager
def cut_after(effects: int) -> Iterator[Cutter]:
    """Let so many effects happen, then none; the block ends when `Cut` comes out of it."""
    with _under(Cutter(effects)) as cutter:
        try:
            yield cutter
        except Cut:
            cutter.was_cut = True


def effect(name: str) -> None:
    """Count what a fake keeps beyond the crash, and no file of it: its own side effect."""
    if _hook.cutter is not None:
        _hook.cutter.effect(name)


@contextmanager
def _under(cutter: Cutter) -> Iterator[Cutter]:
    if not _hook.is_installed:
        sys.addaudithook(_hook.audit)
        _hook.is_installed = True
    original = Database.transaction

    @contextmanager
    def transaction(database: Database) -> Iterator[sqlite3.Connection]:
        # Raising inside rolls the transaction back, as the next start would.
        with original(database) as connection:
            yield connection
            cutter.effect("commit")

    with mock.patch.object(Database, "transaction", transaction):
        _hook.cutter = cutter
        try:
            yield cutter
        finally:
            _hook.cutter = None
