from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
from typing_extensions import override

from fakes.clock import BEGIN
from fakes.status_sink import FakeStatusSink
from ota_agent.errors import DiskFull, SourceUnreachable
from ota_agent.heartbeat.sender import Heartbeat
from ota_agent.model.report import Directives
from ota_agent.store import records
from ota_agent.store.database import Database
from ota_agent.store.outbox import EVENTS_A_SYNC, Outbox

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ota_agent.model.report import Report

PATIENCE_S = 20.0
INTERVAL_S = 3600.0


class Sink(FakeStatusSink):
    """A sink that tells when a report came, accepted or not."""

    def __init__(self) -> None:
        super().__init__()
        self.came = threading.Semaphore(0)
        self.accepts = True

    @override
    def sync(self, report: Report) -> Directives:
        try:
            answer = super().sync(report)
            return answer if self.accepts else Directives(0)
        finally:
            self.came.release()

    def wait(self) -> None:
        """Wait for the next report."""
        assert self.came.acquire(timeout=PATIENCE_S)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database.open(tmp_path / "state.db")
    yield opened
    opened.close()


@pytest.fixture
def sink() -> Sink:
    return Sink()


@pytest.fixture
def heartbeat(sink: Sink, database: Database) -> Heartbeat:
    return Heartbeat(sink, database, lambda: {"device_id": "door-7", "n": 1}, INTERVAL_S)


def add(database: Database, count: int) -> None:
    with database.transaction() as transaction:
        for number in range(count):
            records.add_event(transaction, f"event {number}", BEGIN, {"number": number})


# --- one report -----------------------------------------------------------------------------------


def test_report_carries_the_picture_and_the_events_and_clears_the_outbox(
    heartbeat: Heartbeat, sink: Sink, database: Database
) -> None:
    add(database, 2)

    assert heartbeat.sync() == INTERVAL_S

    assert sink.heartbeats == [{"device_id": "door-7", "n": 1}]
    assert list(sink.events) == [(database.epoch, 1), (database.epoch, 2)]
    assert Outbox(database).depth().rows == 0


def test_report_without_events_is_sent_all_the_same(heartbeat: Heartbeat, sink: Sink) -> None:
    assert heartbeat.sync() == INTERVAL_S
    assert len(sink.heartbeats) == 1


def test_device_that_is_behind_sends_on_at_once_until_nothing_waits(
    heartbeat: Heartbeat, sink: Sink, database: Database
) -> None:
    add(database, 2 * EVENTS_A_SYNC + 1)

    assert [heartbeat.sync() for _ in range(3)] == [0.0, 0.0, INTERVAL_S]

    assert len(sink.events) == 2 * EVENTS_A_SYNC + 1
    assert Outbox(database).depth().rows == 0


def test_sink_that_accepts_nothing_is_not_asked_over_and_over(
    heartbeat: Heartbeat, sink: Sink, database: Database
) -> None:
    add(database, EVENTS_A_SYNC + 1)
    sink.accepts = False

    assert heartbeat.sync() == INTERVAL_S
    assert Outbox(database).depth().rows == EVENTS_A_SYNC + 1


def test_other_side_may_ask_for_a_slower_pace(heartbeat: Heartbeat, sink: Sink) -> None:
    sink.next_sync_s = 7200.0

    assert heartbeat.sync() == 7200.0


def test_events_that_were_not_accepted_stay_in_order(
    heartbeat: Heartbeat, sink: Sink, database: Database
) -> None:
    add(database, 2)
    sink.fail(SourceUnreachable("no route"))

    with pytest.raises(SourceUnreachable):
        heartbeat.sync()

    assert [event.sequence for event in Outbox(database).next_events()] == [1, 2]
    heartbeat.sync()
    assert [sequence for _, sequence in sink.events] == [1, 2]


# --- the thread -----------------------------------------------------------------------------------


def test_heartbeat_reports_at_once_when_hurried_and_once_more_at_the_end(
    heartbeat: Heartbeat, sink: Sink
) -> None:
    heartbeat.start()
    sink.wait()
    heartbeat.hurry()
    sink.wait()
    heartbeat.stop(timeout_s=PATIENCE_S)
    sink.wait()

    assert len(sink.heartbeats) == 3
    assert not heartbeat._thread.is_alive()


@pytest.mark.parametrize("error", [SourceUnreachable("no route"), DiskFull("full")])
def test_failing_report_does_not_end_the_heartbeat(
    heartbeat: Heartbeat, sink: Sink, error: Exception
) -> None:
    sink.fail(error)
    heartbeat.start()
    sink.wait()
    assert sink.heartbeats == []

    heartbeat.hurry()
    sink.wait()
    heartbeat.stop(timeout_s=PATIENCE_S)

    assert sink.heartbeats != []


def test_failing_last_report_does_not_hold_up_the_end(heartbeat: Heartbeat, sink: Sink) -> None:
    heartbeat.start()
    sink.wait()
    sink.fail(SourceUnreachable("no route"))

    heartbeat.stop(timeout_s=PATIENCE_S)

    assert not heartbeat._thread.is_alive()


def test_sink_that_hangs_holds_up_the_end_for_a_bounded_time(
    database: Database, sink: Sink
) -> None:
    hangs, go_on = threading.Event(), threading.Event()

    def picture() -> dict[str, object]:
        hangs.set()
        assert go_on.wait(PATIENCE_S)
        return {"device_id": "door-7"}

    heartbeat = Heartbeat(sink, database, picture, INTERVAL_S)
    heartbeat.start()
    assert hangs.wait(PATIENCE_S)

    heartbeat.stop(timeout_s=0.01)

    assert heartbeat._thread.daemon  # the process may end without it
    go_on.set()
    heartbeat._thread.join(PATIENCE_S)


def test_heartbeat_that_never_began_ends(heartbeat: Heartbeat, sink: Sink) -> None:
    heartbeat.stop(timeout_s=PATIENCE_S)

    assert sink.heartbeats == []
