from __future__ import annotations

from dataclasses import fields, replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from fakes.clock import BEGIN, FakeClock
from ota_agent.errors import DiskFault
from ota_agent.model.deployment import ENDINGS, Deployment, Failure, Kind, Phase
from ota_agent.store import records
from ota_agent.store.database import Database
from ota_agent.store.journal import Journal
from ota_agent.store.outbox import Outbox

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator
    from pathlib import Path

NEW = Deployment(
    id="",
    kind=Kind.UPDATE,
    commit="c" * 40,
    ref="refs/tags/v1.1.0",
    phase=Phase.FETCH,
    started_at=BEGIN,
    entered_at=BEGIN,
    version="1.1.0",
    tag_object="d" * 40,
    from_release="1.0.0-aaaaaa-bbbbbbbbbbbb",
    notes={"asked_by": "operator"},
)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database.open(tmp_path / "state.db")
    yield opened
    opened.close()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def journal(database: Database, clock: FakeClock) -> Journal:
    return Journal(database, clock)


def test_new_device_has_nothing_in_flight_and_no_history(journal: Journal) -> None:
    assert journal.in_flight() is None
    assert journal.history() == []


def test_deployment_gets_a_number_that_no_other_had(journal: Journal, database: Database) -> None:
    ids = []
    for _ in range(3):
        begun = journal.begin(NEW)
        ids.append(begun.id)
        journal.enter(begun, Phase.ABANDONED)

    assert ids == [f"{number}-{database.epoch[:6]}" for number in (1, 2, 3)]


def test_next_start_finds_everything_that_was_written(
    journal: Journal, database: Database, clock: FakeClock
) -> None:
    begun = journal.begin(NEW)
    changed = replace(
        begun,
        kind=Kind.REDEPLOY,
        tree="e" * 40,
        release="1.1.0-ffffff-cccccccccccc",
        from_previous="0.9.0-aaaaaa-999999999999",
        crashes=2,
        clean_stop=True,
        error=Failure("agent.crashed", "it went down", "Look.", BEGIN + timedelta(seconds=1)),
        bytes_fetched=12345,
        notes={"stopped": ["a.service"], "nested": {"a": None}},
    )
    journal.update(changed)

    found = Journal(database, clock).in_flight()

    assert found == changed
    # Every field was given a value of its own above, so none can be forgotten unseen.
    default = {field.name for field in fields(Deployment) if field.default is None}
    empty = {name for name in default if getattr(changed, name) is None}
    assert empty == {"finished_at"}


def test_phase_is_on_disk_when_it_begins_and_starts_with_a_clean_slate(
    journal: Journal, clock: FakeClock
) -> None:
    begun = journal.update(replace(journal.begin(NEW), crashes=2, clean_stop=True))
    clock.advance(5)

    entered = journal.enter(begun, Phase.VERIFY)

    assert journal.in_flight() == entered
    assert (entered.phase, entered.crashes, entered.clean_stop) == (Phase.VERIFY, 0, False)
    assert entered.entered_at == BEGIN + timedelta(seconds=5)
    assert entered.started_at == BEGIN
    assert entered.finished_at is None


def test_clean_stop_is_written_into_the_phase_that_is_on_disk(journal: Journal) -> None:
    begun = journal.begin(NEW)
    journal.enter(begun, Phase.VERIFY)

    journal.stopped()

    found = journal.in_flight()
    assert found is not None
    assert (found.phase, found.clean_stop) == (Phase.VERIFY, True)


def test_stop_says_nothing_of_what_is_stuck_or_over(journal: Journal) -> None:
    over = journal.enter(journal.begin(NEW), Phase.ABANDONED)
    stuck = journal.enter(journal.begin(NEW), Phase.STUCK)

    journal.stopped()

    assert [one for one, _ in journal.history()] == [stuck, over]


@pytest.mark.parametrize("ending", sorted(ENDINGS - {Phase.STUCK}))
def test_ending_closes_the_deployment(journal: Journal, clock: FakeClock, ending: Phase) -> None:
    begun = journal.begin(NEW)
    clock.advance(7)

    ended = journal.enter(begun, ending)

    assert journal.in_flight() is None
    assert ended.finished_at == BEGIN + timedelta(seconds=7)
    assert journal.history() == [(ended, Phase.FETCH)]


def test_stuck_deployment_stays_in_flight(journal: Journal) -> None:
    stuck = journal.enter(journal.begin(NEW), Phase.STUCK)

    assert journal.in_flight() == stuck
    assert stuck.ending is Phase.STUCK


def test_deployment_that_left_stuck_has_no_end_any_more(journal: Journal) -> None:
    stuck = journal.enter(journal.begin(NEW), Phase.STUCK)

    again = journal.enter(stuck, Phase.RESTORE)

    assert again.finished_at is None
    assert journal.in_flight() == again


def test_second_deployment_cannot_begin_beside_the_first(
    journal: Journal, database: Database
) -> None:
    first = journal.begin(NEW)

    with pytest.raises(DiskFault):
        journal.begin(NEW)

    assert journal.in_flight() == first
    assert len(journal.history()) == 1
    assert len(Outbox(database).next_events()) == 1


def test_note_is_added_to_what_was_noted(journal: Journal) -> None:
    begun = journal.begin(NEW)

    noted = journal.note(begun, red_before=["tcp :80"])

    assert noted.notes == {"asked_by": "operator", "red_before": ["tcp :80"]}
    assert journal.in_flight() == noted


@pytest.mark.parametrize("how", ["enter", "update"])
def test_deployment_and_what_goes_with_it_are_written_together_or_not_at_all(
    journal: Journal, database: Database, how: str
) -> None:
    def good(transaction: sqlite3.Connection) -> None:
        records.put_state(transaction, "with it", value=True)

    def bad(_: sqlite3.Connection) -> None:
        raise ZeroDivisionError

    begun = journal.begin(NEW)
    changed = replace(begun, crashes=1)

    def write(*also: object) -> None:
        if how == "enter":
            journal.enter(changed, Phase.VERIFY, *also)  # type: ignore[arg-type]
        else:
            journal.update(changed, *also)  # type: ignore[arg-type]

    with pytest.raises(ZeroDivisionError):
        write(good, bad)

    assert journal.in_flight() == begun
    assert database.get("with it") is None
    assert len(Outbox(database).next_events()) == 1

    write(good)

    assert journal.in_flight() != begun
    assert database.get("with it") is True


def test_history_is_newest_first_and_says_how_far_each_came(
    journal: Journal, clock: FakeClock
) -> None:
    for last in (Phase.VERIFY, Phase.CONFIRM, Phase.COMMIT):
        deployment = journal.begin(replace(NEW, started_at=clock.now()))
        deployment = journal.enter(deployment, last)
        ended = journal.enter(deployment, Phase.ABANDONED)
        assert journal.last_phase(ended) is last
        clock.jump(-3600)  # the order is that of the numbers, whatever the clock does

    found = journal.history()

    assert [last for _, last in found] == [Phase.COMMIT, Phase.CONFIRM, Phase.VERIFY]
    assert [deployment.id[0] for deployment, _ in found] == ["3", "2", "1"]
    assert journal.history(limit=2) == found[:2]
    assert journal.history(limit=0) == []


def test_each_change_of_phase_is_reported_and_an_ending_is_marked_as_one(
    journal: Journal, database: Database, clock: FakeClock
) -> None:
    deployment = journal.begin(NEW)
    clock.advance(1)
    deployment = journal.enter(deployment, Phase.VERIFY)
    failure = Failure("release.empty", "there is no file", "Publish.", clock.now())
    clock.advance(1)
    journal.enter(replace(deployment, release="r", error=failure), Phase.ABANDONED)

    events = Outbox(database).next_events()

    assert [event.body for event in events] == [
        {
            "deployment": deployment.id,
            "kind": "update",
            "phase": phase,
            "release": release,
            "commit": NEW.commit,
            "error": error,
        }
        for phase, release, error in [
            ("fetch", None, None),
            ("verify", None, None),
            ("abandoned", "r", "release.empty"),
        ]
    ]
    assert [event.at - BEGIN for event in events] == [timedelta(seconds=n) for n in range(3)]
    rows = database.rows("SELECT terminal FROM outbox ORDER BY sequence")
    assert [row["terminal"] for row in rows] == [0, 0, 1]
