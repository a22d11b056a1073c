from __future__ import annotations

from contextlib import closing
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from fakes.clock import BEGIN
from ota_agent.model.report import Event
from ota_agent.store import records
from ota_agent.store.database import Database
from ota_agent.store.outbox import EVENTS_A_SYNC, Depth, Outbox

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with closing(Database.open(tmp_path / "state.db")) as opened:
        yield opened


def add(database: Database, count: int) -> None:
    with database.transaction() as transaction:
        for number in range(count):
            at = BEGIN + timedelta(seconds=number)
            records.add_event(transaction, "drift", at, {"files": [f"{number}"]})


def test_empty_outbox_has_no_oldest_event(database: Database) -> None:
    assert Outbox(database).depth() == Depth(0, 0, None)
    assert Outbox(database).next_events() == []


def test_events_are_given_in_order_as_many_as_one_sync_carries(database: Database) -> None:
    add(database, EVENTS_A_SYNC + 3)

    events = Outbox(database).next_events()

    assert [event.sequence for event in events] == list(range(1, EVENTS_A_SYNC + 1))
    assert events[1] == Event(2, "drift", BEGIN + timedelta(seconds=1), {"files": ["1"]})


def test_events_that_were_accepted_are_forgotten_and_their_numbers_never_come_again(
    database: Database,
) -> None:
    outbox = Outbox(database)
    add(database, 3)

    outbox.accepted(2)
    assert [event.sequence for event in outbox.next_events()] == [3]

    outbox.accepted(3)
    add(database, 1)
    assert [event.sequence for event in outbox.next_events()] == [4]


def test_depth_tells_how_much_waits_and_since_when(database: Database) -> None:
    add(database, 2)

    assert Outbox(database).depth() == Depth(2, 2 * len('{"files": ["0"]}'), BEGIN)
