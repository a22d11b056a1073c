from __future__ import annotations

from contextlib import closing
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from fakes.clock import BEGIN, FakeClock
from ota_agent.model.deployment import Deployment, Kind, Phase
from ota_agent.model.release import Release
from ota_agent.store import records
from ota_agent.store.bounds import trim
from ota_agent.store.database import Database
from ota_agent.store.journal import Journal
from ota_agent.store.records import Failures

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from pathlib import Path


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with closing(Database.open(tmp_path / "state.db")) as opened:
        yield opened


def save(database: Database, name: str, succeeded_at: datetime | None = None) -> None:
    release = Release(name, name, name, None, "", 1, 1, BEGIN, None, succeeded_at)
    with database.transaction() as transaction:
        records.save_release(transaction, release)


def deploy(database: Database, name: str, *, ends: bool = True) -> Deployment:
    journal = Journal(database, FakeClock())
    begun = journal.begin(
        Deployment(
            id="",
            kind=Kind.UPDATE,
            commit=name,
            ref="",
            phase=Phase.FETCH,
            started_at=BEGIN,
            entered_at=BEGIN,
            release=name,
            from_release=f"before {name}",
        )
    )
    return journal.enter(begun, Phase.ABANDONED) if ends else begun


def test_history_keeps_its_newest_deployments_and_the_one_in_flight(database: Database) -> None:
    for number in range(5):
        deploy(database, f"r{number}")
    trim(database, [], max_rows=3)
    journal = Journal(database, FakeClock())
    assert [found.commit for found, _ in journal.history()] == ["r4", "r3", "r2"]
    stuck = deploy(database, "stuck", ends=False)
    trim(database, [], max_rows=0)
    assert [found.id for found, _ in journal.history()] == [stuck.id]
    assert journal.in_flight() == stuck


def test_commits_that_were_not_seen_for_the_longest_time_are_forgotten(database: Database) -> None:
    for name in ("a", "b", "c", "a"):
        with database.transaction() as transaction:
            records.set_facts(transaction, name, {"tree": name})
            records.set_failures(transaction, name, Failures(1, None, 0, "x", None))
            records.set_attempts(transaction, name, 1, None)
    trim(database, [], max_rows=2)
    assert records.facts(database).keys() == {"c", "a"}
    assert records.failures(database).keys() == {"c", "a"}
    assert [records.attempts(database, tree) for tree in "abc"] == [1, 0, 1]


def test_release_is_known_while_anything_needs_it(database: Database) -> None:
    deploy(database, "in the history")
    for name in ("kept", "gone", "in the history", "before in the history"):
        save(database, name)
    for number in range(4):
        save(database, f"good {number}", BEGIN + timedelta(days=number))
    trim(database, ["kept"], max_rows=2)
    assert records.releases(database).keys() == {
        *("kept", "in the history", "before in the history", "good 2", "good 3")
    }
