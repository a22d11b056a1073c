"""The state of the connection to one remote: retries, what is known of it, and the breaker.

A refused token is never tried again by itself: thirty refusals get a whole site's address banned.
The breaker refuses for ten minutes, then lets one attempt through, and doubles up to a day. A fresh
process begins with a closed one; an operator's command resets it.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, TypeVar

from ota_agent.errors import (
    AgentError,
    SourceBusy,
    SourceNotFound,
    SourceRedirected,
    SourceUnreachable,
    SourceUntrusted,
    TokenRefused,
)
from ota_agent.model.deployment import Failure

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from tenacity import RetryCallState

    from ota_agent.ports import Clock, Progress

Answer = TypeVar("Answer")

FIRST_REFUSAL_S = 600.0
LONGEST_REFUSAL_S = 86_400.0

# What a source says, or does not say, when it is not there for this device.
_DOWN = (SourceBusy, SourceNotFound, SourceRedirected, SourceUnreachable, SourceUntrusted)


class BreakerState(StrEnum):
    """Whether attempts are let through."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Breaker:
    """Stops attempts after a refused token.

    Attributes:
        since: when the present state of affairs began.
        last_error: the refusal, None while there was none.

    """

    def __init__(
        self,
        clock: Clock,
        *,
        first_s: float = FIRST_REFUSAL_S,
        longest_s: float = LONGEST_REFUSAL_S,
    ) -> None:
        self._clock = clock
        self._first_s = first_s
        self._longest_s = longest_s
        self._refusal: TokenRefused | None = None
        self._pause_s = 0.0
        self._open_until = 0.0
        self.since: datetime = clock.now()
        self.last_error: Failure | None = None

    @property
    def state(self) -> BreakerState:
        """Tell whether the next attempt is refused (open), on trial (half open) or free."""
        if self._refusal is None:
            return BreakerState.CLOSED
        is_over = self._clock.monotonic() >= self._open_until
        return BreakerState.HALF_OPEN if is_over else BreakerState.OPEN

    def check(self) -> None:
        """Refuse an attempt while open.

        Raises:
            TokenRefused: as the source last did.

        """
        if self._refusal is not None and self.state is BreakerState.OPEN:
            left_s = self._open_until - self._clock.monotonic()
            raise TokenRefused(
                f"{self._refusal.message} (not asked again for another {left_s:.0f} s)"
            )

    def trip(self, error: TokenRefused) -> None:
        """Open, for twice as long as the time before."""
        if self._refusal is None:
            self.since = self._clock.now()
        self._refusal = error
        self._pause_s = min(self._pause_s * 2 or self._first_s, self._longest_s)
        self._open_until = self._clock.monotonic() + self._pause_s
        self.last_error = _failure(error, self._clock)

    def reset(self) -> None:
        """Close: the token was accepted, or the operator wants an attempt now."""
        if self._refusal is not None:
            self.since = self._clock.now()
        self._refusal = None
        self._pause_s = 0.0


class ConnectionState(StrEnum):
    """What the last attempt showed."""

    UNKNOWN = "unknown"
    UP = "up"
    DOWN = "down"


@dataclass(frozen=True, slots=True)
class Retries:
    """How often and how long a failing attempt is repeated.

    Attributes:
        attempts: in all; 1 leaves repeating to the caller.
        total_s: no attempt begins later than so long after the first one failed.
        first_s, longest_s: bounds of the pause, drawn at random and doubled each time.
        silent_s: how long a source that says nothing is borne. So much of the first attempt, and
            of the one that would begin, counts into `total_s`; what moved for longer does not.

    """

    attempts: int = 1
    total_s: float = 60.0
    first_s: float = 1.0
    longest_s: float = 30.0
    silent_s: float = 0.0


class Connection:
    """Makes attempts and remembers how they went.

    Attributes:
        state: what the last attempt showed.
        since: when it began to be so.
        last_error: the last failure of the connection, kept when it is up again.

    """

    def __init__(
        self, clock: Clock, *, retries: Retries | None = None, breaker: Breaker | None = None
    ) -> None:
        self._clock = clock
        self._retries = retries or Retries()
        self.breaker = breaker or Breaker(clock)
        self.state = ConnectionState.UNKNOWN
        self.since: datetime = clock.now()
        self.last_error: Failure | None = None

    def call(self, work: Callable[[], Answer], progress: Progress) -> Answer:
        """Do the work, again where it may have been a passing failure; waits through `progress`.

        Raises:
            TokenRefused: the breaker is open, or the source refused the token.
            AgentError: what the work raised last.

        """
        self.breaker.check()
        try:
            answer = self._repeated(work, progress)
        except TokenRefused as error:
            self.breaker.trip(error)
            self._note(ConnectionState.DOWN, error)
            raise
        except _DOWN as error:
            self._note(ConnectionState.DOWN, error)
            raise
        self.breaker.reset()
        self._note(ConnectionState.UP)
        return answer

    def _repeated(self, work: Callable[[], Answer], progress: Progress) -> Answer:
        from tenacity import Retrying, retry_if_exception_type

        began: list[float] = []
        counted: list[float] = []

        def attempt() -> Answer:
            began.append(self._clock.monotonic())
            return work()

        def is_over(state: RetryCallState) -> bool:
            now = self._clock.monotonic()
            took_s = min(now - began[-1], self._retries.silent_s)
            counted.append(now - took_s)
            is_late = now + state.upcoming_sleep + took_s - counted[0] > self._retries.total_s
            return state.attempt_number >= self._retries.attempts or is_late

        retrying = Retrying(
            retry=retry_if_exception_type((SourceBusy, SourceUnreachable)),
            wait=self._pause,
            stop=is_over,
            sleep=progress.wait,
            reraise=True,
        )
        return retrying(attempt)

    def _pause(self, state: RetryCallState) -> float:
        """Draw a pause at random (a fleet must not come back as one), never below the asked."""
        longest = min(
            self._retries.first_s * 2 ** (state.attempt_number - 1), self._retries.longest_s
        )
        pause = random.uniform(0, longest)  # noqa: S311 - spreads load, guards nothing
        error = state.outcome.exception() if state.outcome is not None else None
        asked = error.retry_after_s if isinstance(error, SourceBusy) else None
        return max(pause, asked or 0.0)

    def _note(self, state: ConnectionState, error: AgentError | None = None) -> None:
        if state is not self.state:
            self.state = state
            self.since = self._clock.now()
        if error is not None:
            self.last_error = _failure(error, self._clock)


def _failure(error: AgentError, clock: Clock) -> Failure:
    return Failure(error.code, error.message, error.hint, clock.now())
