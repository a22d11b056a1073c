"""Poller: when to look at the source again, on a worker of its own."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, TypeAlias

from ota_agent.errors import AgentError, SourceBusy, Stopped
from ota_agent.model.verdict import Candidate, NoCandidate
from ota_agent.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable

    from ota_agent.config import Config
    from ota_agent.detect.lookout import Lookout
    from ota_agent.ports import Clock
    from ota_agent.store.paths import Paths

JITTER = 0.1  # a fleet that was switched on together must not poll together
LONGEST_BACKOFF_S = 900.0
LONGEST_ASKED_S = 86400.0  # a Retry-After of a year must not end the updates
MAX_DOUBLINGS = 16  # a device that is offline for weeks must not reach what no float can hold
CLOCK_RETRY_S = 5.0
DEADLINE_S = 300.0

Answer: TypeAlias = Candidate | NoCandidate | AgentError


class Poller:
    """At most one poll at a time; each failure in a row doubles the pause, drawn at random."""

    def __init__(
        self,
        lookout: Lookout,
        clock: Clock,
        wake: Callable[[], None],
        config: Config,
        paths: Paths,
    ) -> None:
        """Poll through `lookout` every `poll_interval_s` seconds; the first time at once."""
        self._lookout = lookout
        self._clock = clock
        self._wake = wake
        self._interval_s = config.poll_interval_s
        self._wake_file = paths.wake_file
        self._wake_seen = self._woken_at()
        self._failures = 0
        self.worker: Worker | None = None
        self.due_at = clock.monotonic()

    def interval_s(self) -> float:
        """Give the time to the next look, jitter included."""
        return self._interval_s * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 - no secret

    def hurry(self) -> None:
        """Look as soon as possible."""
        self.due_at = self._clock.monotonic()

    def heed_wake_file(self) -> None:
        """Look as soon as possible when somebody has touched the wake file."""
        woken_at = self._woken_at()
        if woken_at != self._wake_seen:
            self._wake_seen = woken_at
            self.hurry()

    def wait_for_clock(self) -> None:
        """Look later: the wall clock is not set yet."""
        self.due_at = self._clock.monotonic() + CLOCK_RETRY_S

    @property
    def is_due(self) -> bool:
        """Whether a poll should begin now."""
        return self.worker is None and self._clock.monotonic() >= self.due_at

    def begin(self, *, fresh: bool, accept_deletions: bool) -> None:
        """Begin a poll, see `Lookout.look`."""
        self.worker = Worker(
            "poll",
            lambda work: self._lookout.look(work, fresh=fresh, accept_deletions=accept_deletions),
            self._wake,
            self._clock,
            deadline_s=DEADLINE_S,
        )
        self.worker.start()

    def watch(self) -> Answer | None:
        """Look after the poll; give its answer, once."""
        worker = self.worker
        if worker is None:
            return None
        worker.watch()
        if not worker.is_done:
            return None
        self.worker = None
        now = self._clock.monotonic()
        self.due_at = now + self.interval_s()
        try:
            answer: Answer = worker.result()
        except AgentError as error:
            self._failures += 1
            self.due_at += self._pause_s(error)
            return error
        except Stopped:
            return None
        self._failures = 0
        return answer

    def _woken_at(self) -> float:
        try:
            return self._wake_file.stat().st_mtime
        except OSError:
            return 0.0

    def _pause_s(self, error: AgentError) -> float:
        doublings = min(self._failures, MAX_DOUBLINGS)
        longest = min(self._interval_s * 2**doublings, LONGEST_BACKOFF_S)
        pause_s = random.uniform(0, longest)  # noqa: S311 - spreads load, guards nothing
        asked_s = error.retry_after_s if isinstance(error, SourceBusy) else None
        return max(pause_s, min(asked_s or 0.0, LONGEST_ASKED_S))
