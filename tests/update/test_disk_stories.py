"""Stories of a device whose disk is full, whose database is held or whose files are gone."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING
from unittest import mock

import pytest
from cutting import Cut
from device import Drive, Machine

from ota_agent.errors import DatabaseBusy, DiskFault, DiskFull
from ota_agent.model.deployment import Deployment, Phase
from ota_agent.store.journal import Journal
from ota_agent.store.releases import ReleaseStore

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PROBE = "127.0.0.1:9"
PROBED = f'[[probe]]\ntcp = "{PROBE}"\ninterval_s = 1\nrequired = 1\n'


def release(text: str, manifest: str = "") -> dict[str, bytes]:
    return {"app": text.encode(), "ota.toml": manifest.encode()}


@pytest.fixture
def machine(disk: Path) -> Iterator[Machine]:
    """Give a device that has its first release."""
    machine = Machine(disk / "device")
    machine.publish(release("one"))
    machine.start()
    assert machine.update().phase is Phase.SUCCEEDED
    yield machine
    machine.power_off()


def has_ballast(machine: Machine) -> bool:
    return (machine.paths.private_dir / "ballast").exists()


@contextmanager
def full_but_for_the_ballast(machine: Machine, *, release: str | None = None) -> Iterator[None]:
    """Have no space for the journal, or for the link to `release`, while the ballast is held."""
    enter, update, make_live = Journal.enter, Journal.update, ReleaseStore.make_live

    def require_space() -> None:
        if has_ballast(machine):
            raise DiskFull("no space left")

    def entering(journal: Journal, *arguments: object) -> Deployment:
        require_space()
        return enter(journal, *arguments)  # type: ignore[arg-type]  # as it was given

    def updating(journal: Journal, *arguments: object) -> Deployment:
        require_space()
        return update(journal, *arguments)  # type: ignore[arg-type]  # as it was given

    def making_live(releases: ReleaseStore, target: str | None) -> None:
        if target == release:
            require_space()
        make_live(releases, target)

    with (
        mock.patch.object(Journal, "enter", enter if release else entering),
        mock.patch.object(Journal, "update", update if release else updating),
        mock.patch.object(ReleaseStore, "make_live", making_live if release else make_live),
    ):
        yield


# --- a full disk ----------------------------------------------------------------------------------


def test_bad_release_goes_back_after_a_restart_on_a_full_disk(machine: Machine) -> None:
    before = machine.live
    machine.publish(release("bad", PROBED))
    machine.host.probe_answers(PROBE, Cut("the device goes down"))
    with pytest.raises(Cut):
        machine.settle(machine.begin())
    machine.host.probe_answers(PROBE, "red")
    with full_but_for_the_ballast(machine):
        ended = machine.start_again()
    assert ended is not None
    assert ended.phase is Phase.ROLLED_BACK
    assert machine.live == before


def test_full_disk_on_the_way_back_takes_the_ballast_and_goes_on(machine: Machine) -> None:
    before = machine.live
    machine.publish(release("bad", PROBED))
    machine.host.probe_answers(PROBE, "red")
    with full_but_for_the_ballast(machine, release=before):
        ended = machine.update()
    assert ended.phase is Phase.ROLLED_BACK
    assert machine.live == before


def test_full_disk_at_the_verdict_takes_the_ballast_and_waits_for_nothing(machine: Machine) -> None:
    machine.publish(release("two"))
    began = machine.begin()
    enter = machine.disk.journal.enter

    def entering(deployment: Deployment, phase: Phase, *also: object) -> Deployment:
        if phase is Phase.SUCCEEDED and has_ballast(machine):
            raise DiskFull("no space left")
        return enter(deployment, phase, *also)  # type: ignore[arg-type]  # as it was given

    with mock.patch.object(machine.disk.journal, "enter", entering):
        ended = machine.settle(began)
    assert ended is not None
    assert ended.phase is Phase.SUCCEEDED
    assert machine.progress.waits == []


def test_full_disk_before_anything_is_live_abandons_and_keeps_the_ballast(machine: Machine) -> None:
    before = machine.live
    machine.publish(release("two"))
    began = machine.begin()
    failures = [DiskFull("no space left")]
    enter = machine.disk.journal.enter

    def entering(deployment: Deployment, phase: Phase, *also: object) -> Deployment:
        if failures:
            raise failures.pop()
        return enter(deployment, phase, *also)  # type: ignore[arg-type]  # as it was given

    with mock.patch.object(machine.disk.journal, "enter", entering):
        ended = machine.settle(began)
    assert ended is not None
    assert (ended.phase, machine.live) == (Phase.ABANDONED, before)
    assert has_ballast(machine)


# --- a database that somebody holds ---------------------------------------------------------------


def test_release_that_is_good_stays_while_somebody_holds_the_database(machine: Machine) -> None:
    machine.disk.database.rows("PRAGMA busy_timeout=10")
    good = machine.publish(release("two"))
    began = machine.begin()
    enter = machine.disk.journal.enter
    waits: list[float] = []
    with closing(sqlite3.connect(machine.paths.database_file, isolation_level=None)) as other:

        def entering(deployment: Deployment, phase: Phase, *also: object) -> Deployment:
            if phase is Phase.COMMIT and not waits:
                other.execute("BEGIN IMMEDIATE")
            return enter(deployment, phase, *also)  # type: ignore[arg-type]  # as it was given

        def wait(_: Drive, seconds: float) -> None:
            waits.append(seconds)
            other.execute("ROLLBACK")

        with (
            mock.patch.object(machine.disk.journal, "enter", entering),
            mock.patch.object(Drive, "wait", wait),
        ):
            ended = machine.settle(began)
    assert ended is not None
    assert (ended.phase, ended.error) == (Phase.SUCCEEDED, None)
    assert machine.live_commit == good.commit
    assert len(waits) == 1


def test_database_that_stays_held_decides_nothing(machine: Machine) -> None:
    machine.publish(release("two"))
    began = machine.begin()
    busy = DatabaseBusy("the database is locked")
    with (
        mock.patch.object(machine.disk.journal, "enter", side_effect=busy),
        pytest.raises(DatabaseBusy),
    ):
        machine.settle(began)
    assert machine.disk.journal.in_flight() == began
    ended = machine.settle(began)
    assert ended is not None
    assert ended.phase is Phase.SUCCEEDED
    machine.assert_tidy()


def test_step_that_finds_the_database_held_is_run_again(machine: Machine) -> None:
    machine.publish(release("two"))
    began = machine.begin()
    busy = DatabaseBusy("the database is locked")
    with (
        mock.patch.object(machine.disk.journal, "note", side_effect=busy),
        pytest.raises(DatabaseBusy),
    ):
        machine.settle(began)
    ended = machine.settle(machine.disk.journal.in_flight())
    assert ended is not None
    assert (ended.phase, ended.error) == (Phase.SUCCEEDED, None)


# --- files that are gone --------------------------------------------------------------------------


def test_directory_that_somebody_removed_fails_the_phase_and_is_no_bug(machine: Machine) -> None:
    machine.publish(release("two"))
    began = machine.begin()
    shutil.rmtree(machine.paths.staging_dir)
    ended = machine.settle(began)
    assert ended is not None
    assert ended.error is not None
    assert (ended.phase, ended.error.code) == (Phase.ABANDONED, DiskFault.code)
    assert machine.quarantine == {}
