"""A clock that stands until it is told to move."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

BEGIN = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


class FakeClock:
    """Both times move together with `advance`; `jump` moves the wall clock alone."""

    def __init__(self, now: datetime = BEGIN) -> None:
        self._now = now
        self._monotonic = 1000.0

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return self._monotonic

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self._monotonic += seconds
        self._now += timedelta(seconds=seconds)

    def jump(self, seconds: float) -> None:
        """Set the wall clock forward or back, as NTP or an operator does."""
        self._now += timedelta(seconds=seconds)
