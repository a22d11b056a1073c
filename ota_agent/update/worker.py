"""Long work on a thread of its own, watched by the loop: it can be ended, and cannot hang unseen."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from ota_agent.errors import DeadlineExceeded
from ota_agent.ports import Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ota_agent.ports import Clock


class PhaseProgress(Progress, Protocol):
    """A progress that knows phases: each has its own deadline."""

    def begin(self, phase: str, deadline_s: float) -> None:
        """Say which phase begins and how long it may go without progress."""
        ...


class Worker(PhaseProgress):
    """One piece of work on its thread; the loop looks after it by `watch`."""

    def __init__(
        self, name: str, work: Callable[[PhaseProgress], Any], wake: Callable[[], None], clock: Clock
    ) -> None:
        """Prepare `work`; `wake` is called when it has ended or changed its phase."""
        self.name = name
        self.phase = name
        self.done_bytes = 0
        self.total_bytes: int | None = None
        self._work = work
        self._wake = wake
        self._clock = clock
        self._deadline_s = float("inf")
        self._advanced_at = clock.monotonic()
        self._changed = threading.Condition()
        self._ending: Exception | None = None
        self._enders: list[Callable[[], None]] = []
        self._outcome: tuple[Any, BaseException | None] | None = None
        self._thread = threading.Thread(target=self._run, name=f"ota-{name}", daemon=True)

    def start(self) -> None:
        """Begin the work."""
        self._thread.start()

    @property
    def is_done(self) -> bool:
        """Whether the work has ended."""
        return self._outcome is not None

    def result(self) -> Any:
        """Give what the work gave, or raise what it raised."""
        self._thread.join()
        assert self._outcome is not None  # noqa: S101 - the thread has set it
        value, error = self._outcome
        if error is not None:
            raise error
        return value

    def end(self, reason: Exception) -> None:
        """Have the work end with `reason` at its next safe point; its children are killed."""
        with self._changed:
            if self._ending is None:
                self._ending = reason
            enders = list(self._enders)
            self._changed.notify_all()
        for ender in enders:
            ender()

    def join(self, timeout_s: float) -> bool:
        """Wait for the end; tells whether it came."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    @property
    def is_overdue(self) -> bool:
        """Whether the phase went without progress for longer than it may."""
        return self._clock.monotonic() - self._advanced_at > self._deadline_s

    def watch(self) -> None:
        """End work that is overdue."""
        if self.is_overdue and self._ending is None and not self.is_done:
            message = f"{self.phase} made no progress for {self._deadline_s:g} s"
            self.end(DeadlineExceeded(message))

    # --- Progress: called by the work, from its thread ---

    def begin(self, phase: str, deadline_s: float) -> None:
        """Say which phase begins; an overdue end of the phase before does not outlive it."""
        with self._changed:
            if isinstance(self._ending, DeadlineExceeded):
                self._ending = None
            self.phase, self._deadline_s = phase, deadline_s
            self.done_bytes, self.total_bytes = 0, None
            self._advanced_at = self._clock.monotonic()
        self._wake()
        self.check()

    def advance(self, done_bytes: int = 0, total_bytes: int | None = None) -> None:
        """Say that something moved."""
        self.check()
        self.done_bytes = done_bytes or self.done_bytes
        self.total_bytes = total_bytes or self.total_bytes
        self._advanced_at = self._clock.monotonic()

    def check(self) -> None:
        """Raise what has to end the work."""
        if self._ending is not None:
            raise self._ending

    def wait(self, seconds: float) -> None:
        """Sleep until woken by the end of the work."""
        with self._changed:
            self._changed.wait_for(lambda: self._ending is not None, timeout=seconds)
        self.check()

    @contextmanager
    def ended_by(self, end: Callable[[], None]) -> Iterator[None]:
        """Have `end` called when the work has to end."""
        with self._changed:
            self._enders.append(end)
            is_late = self._ending is not None
        try:
            if is_late:
                end()
            yield
        finally:
            with self._changed:
                self._enders.remove(end)

    def _run(self) -> None:
        value, error = None, None
        try:
            value = self._work(self)
        except BaseException as raised:  # noqa: BLE001 - handed to the loop, which raises it again
            error = raised
        self._outcome = (value, error)
        self._wake()
