from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from fakes.clock import BEGIN
from ota_agent.model.release import Release
from ota_agent.model.trust import Entry, Mark
from ota_agent.store import records
from ota_agent.store.database import Database
from ota_agent.store.outbox import Outbox
from ota_agent.store.records import Failures

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ENTRY = Entry(
    release="1.0.0-aaaaaa-bbbbbbbbbbbb",
    code="release.probe_failed",
    message="the probe is red",
    commits=("b" * 40,),
    at=BEGIN,
    attempts=1,
)
RELEASE = Release(
    id="1.0.0-aaaaaa-bbbbbbbbbbbb",
    commit="b" * 40,
    tree="t",
    version="1.0.0",
    manifest='version = "1.0.0"\n',
    files=3,
    size_bytes=70,
    staged_at=BEGIN,
)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database.open(tmp_path / "state.db")
    yield opened
    opened.close()


# --- quarantine -----------------------------------------------------------------------------------


def test_refused_content_is_found_by_its_tree_oldest_first(database: Database) -> None:
    with database.transaction() as transaction:
        records.add_quarantine(transaction, "later", replace(ENTRY, at=BEGIN + timedelta(1)))
        records.add_quarantine(transaction, "first", ENTRY)

    assert list(records.quarantine(database)) == ["first", "later"]
    assert records.quarantine(database)["first"] == ENTRY


def test_content_refused_again_keeps_its_first_reason_and_gains_the_commit(
    database: Database,
) -> None:
    again = Entry("other", "release.quarantined", "again", ("a" * 40,), BEGIN + timedelta(1), 3)
    with database.transaction() as transaction:
        records.add_quarantine(transaction, "t", ENTRY)
        records.add_quarantine(transaction, "t", again)
        records.add_quarantine(transaction, "t", replace(again, attempts=0))

    assert records.quarantine(database) == {
        "t": replace(ENTRY, commits=("a" * 40, "b" * 40), attempts=3)
    }


def test_content_that_is_let_in_again_has_a_clean_slate(database: Database) -> None:
    with database.transaction() as transaction:
        for tree in ("t", "other"):
            records.add_quarantine(transaction, tree, ENTRY)
            records.set_attempts(transaction, tree, 3, BEGIN)
        records.lift_quarantine(transaction, "t")

    assert list(records.quarantine(database)) == ["other"]
    assert records.attempts(database, "t") == 0
    assert records.attempts(database, "other") == 3


# --- attempts and failures ------------------------------------------------------------------------


def test_crashed_activations_are_counted_by_content(database: Database) -> None:
    later = BEGIN + timedelta(minutes=10)
    with database.transaction() as transaction:
        records.set_attempts(transaction, "once", 1, None)
        records.set_attempts(transaction, "twice", 1, None)
        records.set_attempts(transaction, "twice", 2, later)

    assert records.attempts(database, "never") == 0
    assert records.attempts(database, "once") == 1
    assert records.attempts(database, "twice") == 2
    assert records.crash_backoffs(database) == {"twice": later}


@pytest.mark.parametrize(
    "failures",
    [
        Failures(1, None, 0, "source.unreachable", None),
        Failures(4, BEGIN, 70_000_000_000, "device.disk_full", 4096),
    ],
)
def test_failures_of_a_commit_are_remembered_whole(database: Database, failures: Failures) -> None:
    with database.transaction() as transaction:
        records.set_failures(transaction, "c", replace(failures, count=0))
        records.set_failures(transaction, "c", failures)

    assert records.failures(database) == {"c": failures}


def test_forgiven_release_has_nothing_against_it_and_others_keep_theirs(
    database: Database,
) -> None:
    failures = Failures(1, None, 0, "source.unreachable", None)
    with database.transaction() as transaction:
        for name in ("a", "b", "c"):
            records.set_failures(transaction, f"commit {name}", failures)
            records.set_attempts(transaction, f"tree {name}", 2, BEGIN)
        records.forgive(transaction, commit="commit a", tree="tree a")
        records.forgive(transaction, commit="commit b", tree=None)

    assert set(records.failures(database)) == {"commit c"}
    assert set(records.crash_backoffs(database)) == {"tree b", "tree c"}


# --- marks, facts, releases -----------------------------------------------------------------------


def test_each_channel_of_each_project_has_its_own_mark(database: Database) -> None:
    with database.transaction() as transaction:
        records.set_mark(transaction, "p", "tag:*", Mark("a", "1.0.0"))
        records.set_mark(transaction, "p", "branch:main", Mark("b", None))
        records.set_mark(transaction, "q", "tag:*", Mark("c", "3.0.0"))
        records.set_mark(transaction, "p", "tag:*", Mark("d", "1.1.0"))

    assert records.marks(database) == {
        ("p", "tag:*"): Mark("d", "1.1.0"),
        ("p", "branch:main"): Mark("b", None),
        ("q", "tag:*"): Mark("c", "3.0.0"),
    }


def test_facts_of_a_commit_are_replaced_as_a_whole(database: Database) -> None:
    with database.transaction() as transaction:
        records.set_facts(transaction, "c", {"tree": "t", "compatible": ["a"]})
        records.set_facts(transaction, "c", {"tree": "u"})

    assert records.facts(database) == {"c": {"tree": "u"}}


@pytest.mark.parametrize(
    "release",
    [
        RELEASE,
        replace(RELEASE, version=None, manifest=""),
        replace(RELEASE, live_at=BEGIN + timedelta(1), succeeded_at=BEGIN + timedelta(2)),
    ],
)
def test_release_is_remembered_whole(database: Database, release: Release) -> None:
    with database.transaction() as transaction:
        records.save_release(transaction, replace(release, files=0))
        records.save_release(transaction, release)

    assert records.releases(database) == {release.id: release}


def test_state_that_is_put_in_a_transaction_is_the_databases_own(database: Database) -> None:
    with database.transaction() as transaction:
        records.put_state(transaction, "key", {"a": [1]})

    assert database.get("key") == {"a": [1]}


# --- events ---------------------------------------------------------------------------------------


def kinds(database: Database) -> list[str]:
    return [row["kind"] for row in database.rows("SELECT kind FROM outbox ORDER BY sequence")]


def test_full_outbox_lets_the_oldest_event_that_is_no_ending_go(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "OUTBOX_MAX_ROWS", 10)
    with database.transaction() as transaction:
        records.add_event(transaction, "ending 0", BEGIN, {}, is_terminal=True)
        for number in range(9):
            records.add_event(transaction, f"event {number}", BEGIN, {})
    assert len(kinds(database)) == 10

    with database.transaction() as transaction:
        records.add_event(transaction, "event 9", BEGIN, {})

    assert kinds(database) == ["ending 0", *(f"event {number}" for number in range(1, 10))]


def test_endings_go_last_and_oldest_first(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "OUTBOX_MAX_ROWS", 3)
    with database.transaction() as transaction:
        for number in range(5):
            records.add_event(transaction, f"ending {number}", BEGIN, {}, is_terminal=True)

    assert kinds(database) == ["ending 2", "ending 3", "ending 4"]


def test_outbox_is_bounded_by_bytes_too(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "OUTBOX_MAX_BYTES", 1000)
    with database.transaction() as transaction:
        for number in range(20):
            records.add_event(transaction, f"event {number}", BEGIN, {"files": "x" * 180})

    assert Outbox(database).depth().bytes <= 1000
    assert kinds(database) == [f"event {number}" for number in range(15, 20)]


def test_much_goes_at_once_so_that_a_full_outbox_is_not_full_again_at_once(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "OUTBOX_MAX_ROWS", 100)
    with database.transaction() as transaction:
        for number in range(101):
            records.add_event(transaction, f"event {number}", BEGIN, {})

    assert kinds(database) == [f"event {number}" for number in range(10, 101)]
