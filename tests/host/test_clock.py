from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from ota_agent.host.clock import SystemClock, clock_is_set


def test_wall_clock_is_utc_and_aware() -> None:
    now = SystemClock().now()
    assert now.tzinfo is UTC
    assert abs(now - datetime.now(UTC)) < timedelta(minutes=1)


def test_monotonic_clock_does_not_go_back() -> None:
    clock = SystemClock()
    assert clock.monotonic() <= clock.monotonic()


@pytest.mark.parametrize(
    ("now", "is_set"),
    [
        (datetime(1970, 1, 1, tzinfo=UTC), False),
        (datetime(2019, 12, 31, 23, 59, 59, tzinfo=UTC), False),
        (datetime(2020, 1, 1, tzinfo=UTC), True),
        (datetime(2026, 3, 1, tzinfo=UTC), True),
    ],
)
def test_clock_before_2020_is_not_set(now: datetime, is_set: bool) -> None:
    assert clock_is_set(now) == is_set
