from __future__ import annotations

from datetime import UTC, datetime

import pytest

from ota_agent.cli import phrases

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 ms"),
        (0.0421, "42 ms"),
        (1, "1.0 s"),
        (59, "59 s"),
        (90, "1.5 min"),
        (3600, "1.0 h"),
        (86400 * 40, "40 d"),
    ],
)
def test_duration_has_one_unit(seconds: float, text: str) -> None:
    assert phrases.span(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1536, "1.5 KiB"),
        (2**40, "1.0 TiB"),
        (2**50, "1024 TiB"),
        (15 * 2**20, "15 MiB"),
    ],
)
def test_size_has_the_unit_that_fits(count: int, text: str) -> None:
    assert phrases.size(count) == text


def test_time_is_told_from_now() -> None:
    assert phrases.clock("2026-03-01T11:58:30.5Z") == "2026-03-01 11:58"
    assert phrases.ago("2026-03-01T11:59:30Z", NOW) == "30 s ago"
    assert phrases.ago("2026-03-01T12:00:30Z", NOW) == "in 30 s"
    assert phrases.ago("2026-03-01T11:59:59.5Z", NOW) == "just now"


def test_long_text_keeps_both_ends() -> None:
    assert phrases.middle("1.4.0-abcdef-0123456789ab", 40) == "1.4.0-abcdef-0123456789ab"
    short = phrases.middle("feature-of-a-long-name-abcdef-0123456789ab", 24)
    assert short == "feature-..f-0123456789ab"
    assert len(short) == 24
