from __future__ import annotations

from dataclasses import FrozenInstanceError
from datetime import UTC, datetime

import pytest

from ota_agent.model.report import Directives, Event, Report


def test_answer_that_says_nothing_of_the_next_time_leaves_it_to_the_configuration() -> None:
    assert Directives(accepted_through=7).next_sync_s is None


def test_report_cannot_change_while_it_is_sent() -> None:
    event = Event(1, "drift", datetime(2026, 3, 1, tzinfo=UTC), {"files": ["a"]})
    report = Report("door-7", "epoch", {"status": "ONLINE"}, [event])

    with pytest.raises(FrozenInstanceError):
        report.epoch = "another"  # type: ignore[misc]  # that is what is tried
