"""Long work's way to the loop, without a loop: it records, and ends the work when told to."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from fakes.clock import FakeClock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class FakeProgress:
    """Lets work go on until it is told to end it; `wait` moves its clock and does not sleep.

    `advances` holds (done, total) of every advance, `waits` the seconds of every wait.
    """

    def __init__(self, clock: FakeClock | None = None) -> None:
        self.clock = clock or FakeClock()
        self.advances: list[tuple[int, int | None]] = []
        self.waits: list[float] = []
        self._ending: BaseException | None = None
        self._checks_left: int | None = None
        self._later: BaseException | None = None
        self._ends: list[Callable[[], None]] = []
        self._lock = threading.Lock()

    # --- what a test tells it ---------------------------------------------------------------

    def end(self, error: BaseException) -> None:
        """End the work now: what is registered with `ended_by` is called, checks raise `error`."""
        with self._lock:
            self._ending = error
            ends = list(self._ends)
        for end in ends:
            end()

    def end_after(self, checks: int, error: BaseException) -> None:
        """End the work at the check (or advance, or wait) that follows so many others."""
        self._checks_left = checks
        self._later = error

    # --- the port ---------------------------------------------------------------------------

    def advance(self, done_bytes: int = 0, total_bytes: int | None = None) -> None:
        self.advances.append((done_bytes, total_bytes))
        self.check()

    def check(self) -> None:
        if self._checks_left is not None:
            self._checks_left -= 1
            if self._checks_left < 0 and self._later is not None:
                self._checks_left = None
                self.end(self._later)
        if self._ending is not None:
            raise self._ending

    def wait(self, seconds: float) -> None:
        self.check()
        self.waits.append(seconds)
        self.clock.advance(seconds)
        self.check()

    @contextmanager
    def ended_by(self, end: Callable[[], None]) -> Iterator[None]:
        with self._lock:
            self._ends.append(end)
            is_over = self._ending is not None
        if is_over:
            end()
        try:
            yield
        finally:
            with self._lock:
                self._ends.remove(end)
