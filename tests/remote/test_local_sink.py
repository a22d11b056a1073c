from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING

import pytest

from fakes.clock import BEGIN
from fakes.status_sink import FakeStatusSink
from ota_agent.errors import DiskFault, DiskFull
from ota_agent.model.report import Event, Report
from ota_agent.remote.local_sink import MAX_EVENTS, LocalSink, _failure
from ota_agent.store import atomic

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ota_agent.ports import StatusSink


def report(sequences: Sequence[int], *, epoch: str = "epoch-1", phase: str = "fetch") -> Report:
    events = [Event(number, "phase", BEGIN, {"number": number}) for number in sequences]
    return Report("device-1", epoch, {"phase": phase}, events)


def rows(file: Path, sql: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(file)) as database:
        return database.execute(sql).fetchall()


def local(file: Path, max_events: int = MAX_EVENTS) -> LocalSink:
    move_aside = partial(atomic.rename, replace=True)
    return LocalSink(file, move_aside=move_aside, max_events=max_events)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "reports.db"


@pytest.fixture(params=["fake", "local"])
def sink(request: pytest.FixtureRequest, file: Path) -> StatusSink:
    return FakeStatusSink() if request.param == "fake" else local(file)


def test_events_are_accepted_in_order_and_once(sink: StatusSink) -> None:
    assert sink.sync(report([])).accepted_through == 0
    assert sink.sync(report([1, 2])).accepted_through == 2
    assert sink.sync(report([2, 3])).accepted_through == 3
    assert sink.sync(report([])).accepted_through == 3


def test_epochs_are_counted_apart(sink: StatusSink) -> None:
    sink.sync(report([1, 2, 3]))
    assert sink.sync(report([1], epoch="epoch-2")).accepted_through == 1
    assert sink.sync(report([4])).accepted_through == 4


def test_last_heartbeat_and_every_event_are_there_to_read(file: Path) -> None:
    sink = local(file)
    sink.sync(report([1]))
    sink.sync(report([1, 2], phase="stage"))
    ((device, epoch, body),) = rows(file, "SELECT device_id, epoch, body FROM heartbeat")
    assert (device, epoch, json.loads(str(body))) == ("device-1", "epoch-1", {"phase": "stage"})
    events = rows(file, "SELECT epoch, sequence, kind, at, body FROM events ORDER BY number")
    assert [event[:3] for event in events] == [("epoch-1", 1, "phase"), ("epoch-1", 2, "phase")]
    assert json.loads(str(events[1][4])) == {"number": 2}


def test_only_the_newest_events_are_held(file: Path) -> None:
    sink = local(file, max_events=3)
    assert sink.sync(report(range(1, 8))).accepted_through == 7
    assert rows(file, "SELECT sequence FROM events ORDER BY number") == [(5,), (6,), (7,)]
    assert sink.sync(report(range(8, 10))).accepted_through == 9
    assert rows(file, "SELECT sequence FROM events ORDER BY number") == [(7,), (8,), (9,)]


def test_damaged_file_is_set_aside_and_begun_anew(file: Path) -> None:
    for content in (b"first", b"second"):
        file.write_bytes(content * 300)
        file.with_name("reports.db-journal").write_bytes(b"no journal")
        assert local(file).sync(report([7])).accepted_through == 7
        assert rows(file, "SELECT sequence FROM events") == [(7,)]
        assert file.with_name("reports.db.damaged").read_bytes() == content * 300


def test_damaged_file_whose_place_takes_no_new_one_is_the_operators(file: Path) -> None:
    def block(damaged: Path, aside: Path) -> None:
        damaged.rename(aside)
        damaged.mkdir()

    file.write_bytes(b"no database at all" * 100)
    with pytest.raises(DiskFault, match=r"reports\.db"):
        LocalSink(file, move_aside=block).sync(report([1]))


def test_directory_that_is_not_there_is_the_operators(tmp_path: Path) -> None:
    with pytest.raises(DiskFault):
        local(tmp_path / "nowhere/reports.db").sync(report([1]))


def test_full_disk_is_told_from_a_broken_one(file: Path) -> None:
    full = sqlite3.OperationalError("database or disk is full")
    full.sqlite_errorcode = sqlite3.SQLITE_FULL
    assert type(_failure(file, full)) is DiskFull
    assert type(_failure(file, sqlite3.OperationalError("disk I/O error"))) is DiskFault
