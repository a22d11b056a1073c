from __future__ import annotations

import threading
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from fakes.clock import BEGIN
from ota_agent.model.deployment import Deployment, Kind, Phase
from ota_agent.model.trust import Entry, Mark, Trust, Unproven
from ota_agent.store import records
from ota_agent.store.database import Database
from ota_agent.store.memory import Memory
from ota_agent.store.trust import TrustFile

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BAD = Entry("1.0-a-b", "release.probe_failed", "the probe is red", ("b" * 40,), BEGIN, 1)
WORSE = Entry("1.1-c-d", "release.takes_device_down", "down", ("d" * 40,), BEGIN, 3)
DEPLOYMENT = Deployment(
    id="7-abcdef",
    kind=Kind.UPDATE,
    commit="c" * 40,
    ref="",
    phase=Phase.ACTIVATE,
    started_at=BEGIN,
    entered_at=BEGIN,
    tree="t",
    release="2.0-e-f",
)
UNPROVEN = Unproven(release="2.0-e-f", tree="t", deployment="7-abcdef", commit="c" * 40)


@pytest.fixture
def file(tmp_path: Path) -> TrustFile:
    return TrustFile(tmp_path / "trust.json")


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with closing(Database.open(tmp_path / "state.db")) as opened:
        yield opened


@pytest.fixture
def memory(database: Database, file: TrustFile) -> Memory:
    return Memory(database, file)


def quarantine(database: Database, tree: str, entry: Entry) -> None:
    with database.transaction() as transaction:
        records.add_quarantine(transaction, tree, entry)


def test_what_the_database_holds_is_written_to_the_file(
    memory: Memory, database: Database, file: TrustFile
) -> None:
    with database.transaction() as transaction:
        records.add_quarantine(transaction, "t", BAD)
        records.set_mark(transaction, "git.example.com/fw", "tag:*", Mark("c", "1.0.0"))

    memory.remember()

    assert file.read().trust == Trust(
        epoch=database.epoch,
        quarantine={"t": BAD},
        marks={("git.example.com/fw", "tag:*"): Mark("c", "1.0.0")},
    )


def test_what_was_lost_with_the_database_comes_back_from_the_file(
    memory: Memory, database: Database, file: TrustFile
) -> None:
    known = Trust(
        epoch="an earlier one",
        quarantine={"t": BAD},
        marks={("p q", "tag:>=1 <2"): Mark("c", "1.0.0")},
        unproven=UNPROVEN,
    )
    file.write(known)

    reading = memory.reconcile()

    assert reading.trust == known
    assert records.quarantine(database) == {"t": BAD}
    assert records.marks(database) == {("p q", "tag:>=1 <2"): Mark("c", "1.0.0")}


def test_the_stricter_of_both_holds(memory: Memory, database: Database, file: TrustFile) -> None:
    seen_again = replace(BAD, commits=("e" * 40,), attempts=2, at=BEGIN + timedelta(1))
    quarantine(database, "both", BAD)
    quarantine(database, "database only", WORSE)
    with database.transaction() as transaction:
        records.set_mark(transaction, "p", "old", Mark("a", "2.0.0"))
        records.set_mark(transaction, "p", "new", Mark("b", "1.0.0"))
    file.write(
        Trust(
            epoch="x",
            quarantine={"both": seen_again, "file only": WORSE},
            marks={
                ("p", "old"): Mark("c", "1.0.0"),
                ("p", "new"): Mark("d", "2.0.0"),
            },
        )
    )

    memory.reconcile()

    assert records.quarantine(database) == {
        "both": replace(BAD, commits=("b" * 40, "e" * 40), attempts=2),
        "database only": WORSE,
        "file only": WORSE,
    }
    assert records.marks(database) == {
        ("p", "old"): Mark("a", "2.0.0"),
        ("p", "new"): Mark("d", "2.0.0"),
    }


def test_refusal_survives_a_cut_before_its_transaction(memory: Memory, database: Database) -> None:
    memory.remember_refusal("t", BAD)
    assert records.quarantine(database) == {}  # the power is cut here

    memory.reconcile()

    assert records.quarantine(database) == {"t": BAD}


def test_lift_that_was_cut_short_is_forgotten_and_not_half_done(
    memory: Memory, database: Database
) -> None:
    quarantine(database, "t", BAD)
    memory.remember()
    with database.transaction() as transaction:
        records.lift_quarantine(transaction, "t")  # the power is cut before the file is written

    memory.reconcile()

    assert records.quarantine(database) == {"t": BAD}


def test_lift_that_was_finished_holds(memory: Memory, database: Database) -> None:
    quarantine(database, "t", BAD)
    memory.remember()
    with database.transaction() as transaction:
        records.lift_quarantine(transaction, "t")
    memory.remember()

    memory.reconcile()

    assert records.quarantine(database) == {}


def test_refusal_of_the_live_release_does_not_make_it_proven(
    memory: Memory, database: Database, file: TrustFile
) -> None:
    memory.remember_unproven(DEPLOYMENT)

    memory.remember_refusal("t", BAD)

    assert file.read().trust == Trust(
        epoch=database.epoch, quarantine={"t": BAD}, unproven=UNPROVEN
    )


def test_ending_proves_or_undoes_what_was_unproven(memory: Memory, file: TrustFile) -> None:
    memory.remember_unproven(DEPLOYMENT)
    assert file.read().trust.unproven == UNPROVEN

    memory.remember()

    assert file.read().trust.unproven is None


def test_start_of_a_new_device_finds_nothing(memory: Memory, database: Database) -> None:
    reading = memory.reconcile()

    assert reading.absent
    assert not reading.lost
    assert records.quarantine(database) == {}


def test_lost_file_is_told_and_the_database_still_holds(
    memory: Memory, database: Database, tmp_path: Path
) -> None:
    quarantine(database, "t", BAD)
    memory.remember()
    for name in ("trust.json", "trust.json.2"):
        (tmp_path / name).write_bytes(b"\0" * 100)

    reading = memory.reconcile()

    assert reading.lost
    assert records.quarantine(database) == {"t": BAD}


def test_lift_during_a_refusal_keeps_the_refusal_and_lifts_the_other(
    memory: Memory, database: Database, file: TrustFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    quarantine(database, "lifted", BAD)
    memory.remember()
    write, is_writing, may_go_on = file.write, threading.Event(), threading.Event()

    def slowly(trust: Trust) -> None:
        is_writing.set()
        may_go_on.wait(20)
        write(trust)

    monkeypatch.setattr(file, "write", slowly)
    worker = threading.Thread(target=memory.remember_refusal, args=("new", WORSE))
    worker.start()
    is_writing.wait(20)
    with database.transaction() as transaction:
        records.lift_quarantine(transaction, "lifted")
    lift = threading.Thread(target=memory.remember_lift, args=(["lifted"],))
    lift.start()
    may_go_on.set()
    worker.join()
    lift.join()

    assert file.read().trust.quarantine == {"new": WORSE}
