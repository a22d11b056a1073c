"""The device's two times."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ota_agent.ports import Clock

# A device without a battery wakes in 1970, or on the day its image was built.
_FIRST_CREDIBLE_YEAR = 2020


class SystemClock:
    """The kernel's clocks behind `ports.Clock`."""

    def now(self) -> datetime:
        """Give the wall-clock time, UTC, aware."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Give seconds that only grow."""
        return time.monotonic()


def clock_is_set(now: datetime) -> bool:
    """Tell whether the wall clock can be right: before 2020 there was no release to follow."""
    return now.year >= _FIRST_CREDIBLE_YEAR


if TYPE_CHECKING:
    _: Clock = SystemClock()
