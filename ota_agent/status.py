"""StatusBoard: what the agent is doing now, for whoever asks from another thread."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime


@dataclass(frozen=True, slots=True)
class Waiting:
    """What the agent waits for; it is no error."""

    reason: str
    since: datetime
    until: datetime | None = None
    owner: str | None = None


@dataclass(frozen=True, slots=True)
class Connection:
    """How it stands with one remote: `unknown`, `online`, `offline` or `refused`."""

    state: str = "unknown"
    since: datetime | None = None
    breaker: str = "closed"
    last_error: str | None = None


@dataclass(frozen=True, slots=True)
class Doing:
    """One moment of the agent."""

    waiting: Waiting | None = None
    source: Connection = Connection()
    supabase: Connection = Connection()
    done_bytes: int = 0
    total_bytes: int | None = None


class StatusBoard:
    """The present moment, replaced as a whole."""

    def __init__(self) -> None:
        """Begin with nothing known."""
        self._lock = threading.Lock()
        self._doing = Doing()

    @property
    def doing(self) -> Doing:
        """What was written last."""
        return self._doing

    def wait_for(
        self, reason: str, now: datetime, until: datetime | None = None, owner: str | None = None
    ) -> None:
        """Write what is waited for; the same reason keeps its `since`."""
        with self._lock:
            before = self._doing.waiting
            since = before.since if before is not None and before.reason == reason else now
            self._doing = replace(self._doing, waiting=Waiting(reason, since, until, owner))

    def go_on(self) -> None:
        """Write that nothing is waited for."""
        with self._lock:
            self._doing = replace(self._doing, waiting=None)

    def source_is(
        self, state: str, now: datetime, *, breaker: str = "closed", error: str | None = None
    ) -> None:
        """Write how it stands with the source; `since` tells when the state changed."""
        with self._lock:
            self._doing = replace(
                self._doing, source=_moved(self._doing.source, state, now, breaker, error)
            )

    def moved(self, done_bytes: int, total_bytes: int | None) -> None:
        """Write how far the present phase is."""
        with self._lock:
            self._doing = replace(self._doing, done_bytes=done_bytes, total_bytes=total_bytes)


def _moved(
    before: Connection, state: str, now: datetime, breaker: str, error: str | None
) -> Connection:
    since = before.since if before.state == state else now
    return Connection(state, since, breaker, error)
