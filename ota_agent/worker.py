"""Long work on a thread of its own; the loop can end it, and sees it when it hangs."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future, wait
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Protocol

from typing_extensions import override

from ota_agent.errors import AgentError, DeadlineExceeded, NotYet, Stopped, Superseded
from ota_agent.model.deployment import Phase
from ota_agent.ports import Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

    from ota_agent.ports import Clock


# What is live is being changed: to leave these half done would cost a rollback at the next start.
FINISHES_FIRST = frozenset({Phase.ACTIVATE, Phase.RESTORE, Phase.COMMIT})
GRACE_S = 60.0


class PhaseProgress(Progress, Protocol):
    """A progress that knows phases: each has its own deadline."""

    def begin(self, phase: str, deadline_s: float) -> None:
        """Say which phase begins and how long it may go without progress."""
        ...


class Worker(PhaseProgress):
    """One piece of work on its thread; the loop looks after it by `watch`."""

    def __init__(
        self,
        name: str,
        work: Callable[[PhaseProgress], Any],
        wake: Callable[[], None],
        clock: Clock,
        deadline_s: float,
    ) -> None:
        """Prepare `work`, which may go `deadline_s` without progress until it says otherwise.

        `wake` is called when it has ended or changed its phase.
        """
        self.phase = name
        self.has_phase = False
        self.done_bytes = 0
        self.total_bytes: int | None = None
        self._work = work
        self._wake = wake
        self._clock = clock
        self._deadline_s = deadline_s
        self._advanced_at = clock.monotonic()
        self._changed = threading.Condition()
        self._ending: Exception | None = None
        self._is_forced = False
        self._enders: list[Callable[[], None]] = []
        self._future: Future[Any] = Future()
        # A daemon: work that hangs for good must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name=f"ota-{name}", daemon=True)

    def start(self) -> None:
        """Begin the work."""
        self._thread.start()

    @property
    def is_done(self) -> bool:
        """Whether the work has ended."""
        return self._future.done()

    @property
    def has_bug(self) -> bool:
        """Whether the work ended by something that nobody expects."""
        error = self._future.exception() if self.is_done else None
        return error is not None and not isinstance(error, AgentError | NotYet | Stopped)

    def result(self) -> Any:  # noqa: ANN401 - what the work gives
        """Give what the work gave, or raise what it raised; waits for the end."""
        return self._future.result()

    def end(self, reason: Exception, *, forced: bool = False) -> None:
        """Have the work end with `reason` at its next safe point; its children are killed.

        A phase that changes what is live finishes before a `Stopped`, unless forced.
        """
        with self._changed:
            if self._ending is None:
                self._ending = reason
            self._is_forced = self._is_forced or forced
            enders = list(self._enders) if self._must_end else []
            self._changed.notify_all()
        for ender in enders:
            ender()

    def join(self, timeout_s: float) -> bool:
        """Wait for the end; tells whether it came."""
        return bool(wait([self._future], max(0.0, timeout_s)).done)

    @property
    def is_overdue(self) -> bool:
        """Whether the phase went without progress for longer than it may."""
        return self._clock.monotonic() - self._advanced_at > self._deadline_s

    @property
    def _must_end(self) -> bool:
        if self._ending is None:
            return False
        finishes = isinstance(self._ending, Stopped) and self.phase in FINISHES_FIRST
        return self._is_forced or not finishes

    @property
    def is_beyond_help(self) -> bool:
        """Whether it was told to end because it is overdue, and did not."""
        idle_s = self._clock.monotonic() - self._advanced_at
        return not self.is_done and idle_s > self._deadline_s + GRACE_S

    def watch(self) -> None:
        """End work that is overdue."""
        if self.is_overdue and self._ending is None and not self.is_done:
            message = f"{self.phase} made no progress for {self._deadline_s:g} s"
            self.end(DeadlineExceeded(message))

    # --- Progress: called by the work, from its thread ---

    @override
    def begin(self, phase: str, deadline_s: float) -> None:
        """Say which phase begins.

        A stop outlives the phase that it came in, and so does what supersedes the deployment as
        long as that leaves what is live alone: a command must not be lost between two phases.
        """
        with self._changed:
            is_early = Phase(phase).leaves_live_alone or phase == Phase.BACKUP
            is_pointless = isinstance(self._ending, Superseded) and is_early
            if not isinstance(self._ending, Stopped) and not is_pointless:
                self._ending = None
            self.phase, self.has_phase, self._deadline_s = phase, True, deadline_s
            self.done_bytes, self.total_bytes = 0, None
            self._advanced_at = self._clock.monotonic()
        self._wake()
        if isinstance(self._ending, Stopped):
            self.check()

    @override
    def advance(self, done_bytes: int = 0, total_bytes: int | None = None) -> None:
        """Say that something moved."""
        self.check()
        self.done_bytes = done_bytes or self.done_bytes
        self.total_bytes = total_bytes or self.total_bytes
        self._advanced_at = self._clock.monotonic()

    @override
    def check(self) -> None:
        """Raise what has to end the work."""
        if self._ending is not None and self._must_end:
            raise self._ending

    @override
    def wait(self, seconds: float) -> None:
        """Sleep until woken by the end of the work."""
        with self._changed:
            self._changed.wait_for(lambda: self._must_end, timeout=seconds)
        self.check()

    @override
    @contextmanager
    def ended_by(self, end: Callable[[], None]) -> Iterator[None]:
        """Have `end` called when the work has to end."""
        with self._changed:
            self._enders.append(end)
            is_late = self._must_end
        try:
            if is_late:
                end()
            yield
        finally:
            with self._changed:
                self._enders.remove(end)

    def _run(self) -> None:
        with _HandsOver(self._future):
            self._future.set_result(self._work(self))
        self._wake()


class _HandsOver:
    """Puts what a block raises, whatever it is, before the thread that asks for the result."""

    def __init__(self, future: Future[Any]) -> None:
        self._future = future

    def __enter__(self) -> None:
        """Begin the block."""

    def __exit__(
        self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None
    ) -> bool:
        if error is not None:
            self._future.set_exception(error)
        return True


class Unwatched:
    """The progress of short work on this disk: nobody listens, nobody ends it."""

    def advance(self, done_bytes: int = 0, total_bytes: int | None = None) -> None:
        """Tell nobody."""

    def check(self) -> None:
        """Go on."""

    def wait(self, seconds: float) -> None:
        """Sleep."""
        time.sleep(seconds)

    def ended_by(self, end: Callable[[], None]) -> AbstractContextManager[None]:  # noqa: ARG002 - the port's
        """Never end it."""
        return nullcontext()
