from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ota_agent.model.moment import maybe_text, maybe_time, to_text, to_time

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        (NOON, "2026-03-01T12:00:00.000Z"),
        (NOON.replace(microsecond=123_999), "2026-03-01T12:00:00.123Z"),
        (datetime(2026, 3, 1, 14, tzinfo=timezone(timedelta(hours=2))), "2026-03-01T12:00:00.000Z"),
        (datetime(1970, 1, 1, tzinfo=UTC), "1970-01-01T00:00:00.000Z"),
    ],
)
def test_time_is_written_in_utc_with_milliseconds(moment: datetime, text: str) -> None:
    assert to_text(moment) == text


@given(st.datetimes(timezones=st.just(UTC)))
def test_time_that_is_read_back_differs_by_less_than_a_millisecond(moment: datetime) -> None:
    back = to_time(to_text(moment))

    assert back.tzinfo is not None
    assert timedelta() <= moment - back < timedelta(milliseconds=1)


@given(st.lists(st.datetimes(timezones=st.just(UTC), min_value=datetime(1970, 1, 1)), min_size=1))  # noqa: DTZ001 - hypothesis adds the zone
def test_texts_sort_as_their_times_do(moments: list[datetime]) -> None:
    texts = sorted(map(to_text, moments))

    assert texts == [to_text(moment) for moment in sorted(moments)]


def test_no_time_is_no_text() -> None:
    assert maybe_text(None) is None
    assert maybe_time(None) is None
    assert maybe_time(maybe_text(NOON)) == NOON
