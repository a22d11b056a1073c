from __future__ import annotations

import threading
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from device import Machine

from ota_agent.errors import DiskFault, NotYet, Stopped
from ota_agent.model.deployment import Deployment, Phase
from ota_agent.update import flow
from ota_agent.update.supervisor import (
    BROKEN_RETRY_S,
    STUCK_RETRY_S,
    Broken,
    Ended,
    Held,
    Supervisor,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from ota_agent.update.device import Job
    from ota_agent.update.supervisor import News
    from ota_agent.worker import Worker

PATIENCE_S = 20.0
FOR_EVER_S = 3600.0
INTERVAL_S = 200.0
FILES = {"app.py": b"print(1)\n"}


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    made = Machine(tmp_path / "device")
    made.start()
    yield made
    made.power_off()


@pytest.fixture
def flight(machine: Machine) -> Supervisor:
    return Supervisor(
        machine.manager, machine.disk.journal, machine.clock, lambda: None, lambda: INTERVAL_S
    )


def begin(flight: Supervisor, machine: Machine) -> Worker:
    """Have a deployment begun and put on its worker."""
    machine.publish(FILES)
    flight.take(machine.begin())
    flight.begin_if_due()
    assert flight.worker is not None
    return flight.worker


def news(flight: Supervisor) -> News | None:
    """Wait for the worker; tell what came of it."""
    assert flight.worker is not None
    assert flight.worker.join(PATIENCE_S)
    return flight.watch()


def pause_s(flight: Supervisor, machine: Machine) -> float:
    return flight.due_at - machine.clock.monotonic()


def do(monkeypatch: pytest.MonkeyPatch, phase: Phase, step: Callable[[Job], Deployment]) -> None:
    monkeypatch.setitem(flow.FLOW, phase, replace(flow.FLOW[phase], do=step))


def hold(job: Job) -> Deployment:
    job.progress.wait(FOR_EVER_S)
    return job.deployment


def fail(error: BaseException) -> Callable[[Job], Deployment]:
    def step(_: Job) -> Deployment:
        raise error

    return step


# --- one deployment at a time ---------------------------------------------------------------------


def test_nothing_is_in_flight_at_first(flight: Supervisor) -> None:
    flight.resume()
    flight.begin_if_due()
    flight.make_way("nobody is there")

    assert flight.is_idle
    assert not flight.is_due
    assert not flight.is_stuck
    assert not flight.is_replaceable
    assert flight.watch() is None
    assert flight.worker is None


def test_deployment_that_ends_is_told_once(flight: Supervisor, machine: Machine) -> None:
    begin(flight, machine)
    assert not flight.is_idle

    told = news(flight)

    assert isinstance(told, Ended)
    assert told.is_own
    assert told.deployment.phase is Phase.SUCCEEDED
    assert flight.watch() is None
    assert flight.is_idle


def test_deployment_of_an_earlier_life_is_not_its_own(machine: Machine, flight: Supervisor) -> None:
    machine.publish(FILES)
    begun = machine.begin()
    flight.resume()
    assert flight.deployment is not None
    assert flight.deployment.id == begun.id
    flight.begin_if_due()

    told = news(flight)

    assert isinstance(told, Ended)
    assert not told.is_own


def test_worker_that_is_at_it_is_left_alone(
    flight: Supervisor, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    do(monkeypatch, Phase.FETCH, hold)
    worker = begin(flight, machine)
    flight.begin_if_due()

    assert flight.worker is worker
    assert flight.watch() is None
    assert not flight.is_due

    worker.end(Stopped("the agent was asked to end"))
    assert news(flight) is None
    assert flight.deployment is not None
    assert flight.deployment.phase is Phase.FETCH


# --- waiting --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("until_s", "pause"), [(None, INTERVAL_S), (60, 60.0), (-60, 0.0), (0, 0.0)]
)
def test_deployment_that_waits_is_asked_again_when_it_said(
    flight: Supervisor,
    machine: Machine,
    monkeypatch: pytest.MonkeyPatch,
    until_s: int | None,
    pause: float,
) -> None:
    until = None if until_s is None else machine.clock.now() + timedelta(seconds=until_s)
    do(monkeypatch, Phase.HOLD, fail(NotYet("a lock is held", until, "app")))
    begin(flight, machine)

    told = news(flight)

    assert isinstance(told, Held)
    assert told.reason.owner == "app"
    assert told.deployment == machine.disk.journal.in_flight()
    assert pause_s(flight, machine) == pause
    assert flight.is_due is (pause == 0)
    assert flight.is_replaceable


def test_wall_clock_that_was_set_meanwhile_does_not_prolong_a_wait(
    flight: Supervisor, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    until = machine.clock.now() + timedelta(seconds=60)
    do(monkeypatch, Phase.HOLD, fail(NotYet("a lock is held", until)))
    begin(flight, machine)
    news(flight)

    machine.clock.jump(-86400)
    machine.clock.advance(60)

    assert flight.is_due


def test_deployment_that_waits_can_be_hurried(
    flight: Supervisor, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    do(monkeypatch, Phase.HOLD, fail(NotYet("a lock is held")))
    begin(flight, machine)
    news(flight)
    was_due = flight.is_due
    flight.hurry()

    assert (was_due, flight.is_due) == (False, True)


# --- making way -----------------------------------------------------------------------------------


def test_deployment_that_waits_makes_way_at_once(
    flight: Supervisor, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    do(monkeypatch, Phase.HOLD, fail(NotYet("a lock is held")))
    begin(flight, machine)
    news(flight)

    flight.make_way("v2 is newer")
    assert not flight.is_replaceable
    flight.begin_if_due()
    told = news(flight)

    assert isinstance(told, Ended)
    assert told.deployment.phase is Phase.ABANDONED
    assert told.deployment.error is not None
    assert told.deployment.error.message == "v2 is newer"


def test_deployment_that_is_at_work_makes_way_too(
    flight: Supervisor, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrived = threading.Event()

    def step(job: Job) -> Deployment:
        arrived.set()
        return hold(job)

    do(monkeypatch, Phase.STAGE, step)
    begin(flight, machine)
    assert arrived.wait(PATIENCE_S)
    assert flight.is_replaceable

    flight.make_way("v2 is newer")
    told = news(flight)

    assert isinstance(told, Ended)
    assert told.deployment.phase is Phase.ABANDONED


def test_deployment_that_changes_what_is_live_comes_to_its_own_end(
    flight: Supervisor, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrived, go_on = threading.Event(), threading.Event()
    row = flow.FLOW[Phase.ACTIVATE]

    def step(job: Job) -> Deployment:
        arrived.set()
        assert go_on.wait(PATIENCE_S)
        return row.do(job)

    do(monkeypatch, Phase.ACTIVATE, step)
    begin(flight, machine)
    assert arrived.wait(PATIENCE_S)
    assert not flight.is_replaceable

    flight.make_way("v2 is newer")
    go_on.set()
    told = news(flight)

    assert isinstance(told, Ended)
    assert told.deployment.phase is Phase.SUCCEEDED


# --- what goes wrong ------------------------------------------------------------------------------


def test_phase_without_progress_is_ended(
    flight: Supervisor, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrived = threading.Event()

    def step(job: Job) -> Deployment:
        arrived.set()
        return hold(job)

    do(monkeypatch, Phase.FETCH, step)
    begin(flight, machine)
    assert arrived.wait(PATIENCE_S)
    machine.clock.advance(flow.DEADLINE_S[Phase.FETCH] + 1)
    flight.watch()

    worker = flight.worker
    told = flight.watch() if worker is None else news(flight)
    assert isinstance(told, Ended)
    assert told.deployment.error is not None
    assert told.deployment.error.code == "agent.deadline"


def test_journal_that_cannot_be_written_decides_nothing(
    flight: Supervisor, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.publish(FILES)
    flight.take(machine.begin())

    def refuse(*_: object) -> Deployment:
        raise DiskFault("read-only")

    monkeypatch.setattr(machine.manager, "deploy", refuse)
    flight.begin_if_due()
    told = news(flight)

    assert isinstance(told, Broken)
    assert told.error.message == "read-only"
    assert flight.deployment is not None
    assert flight.deployment.phase is Phase.FETCH
    assert pause_s(flight, machine) == BROKEN_RETRY_S


def test_bug_is_the_loops_and_costs_the_deployment_a_crash(
    flight: Supervisor, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    do(monkeypatch, Phase.VERIFY, fail(ZeroDivisionError()))
    begin(flight, machine)

    with pytest.raises(ZeroDivisionError):
        news(flight)
    assert flight.survive()

    assert flight.deployment is not None
    assert (flight.deployment.phase, flight.deployment.crashes) == (Phase.VERIFY, 1)
    assert pause_s(flight, machine) == BROKEN_RETRY_S


def test_bug_elsewhere_costs_a_deployment_on_its_worker_nothing(
    flight: Supervisor, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    do(monkeypatch, Phase.FETCH, hold)
    worker = begin(flight, machine)

    assert not flight.survive()

    worker.end(Stopped("enough"))
    news(flight)
    assert flight.deployment is not None
    assert flight.deployment.crashes == 0


def test_bug_on_a_disk_that_takes_no_record_is_survived(
    flight: Supervisor, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    do(monkeypatch, Phase.VERIFY, fail(ZeroDivisionError()))
    begin(flight, machine)
    with pytest.raises(ZeroDivisionError):
        news(flight)
    machine.disk.database.rows("PRAGMA query_only=1")

    assert flight.survive()

    assert flight.deployment is not None
    assert flight.deployment.crashes == 0


def test_bug_without_a_deployment_is_survived(flight: Supervisor) -> None:
    assert flight.survive()
    assert flight.is_idle


def test_stuck_deployment_is_tried_again_later(
    flight: Supervisor, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = flow.FLOW[Phase.RESTORE]
    do(monkeypatch, Phase.CONFIRM, fail(DiskFault("input/output error")))
    do(monkeypatch, Phase.RESTORE, fail(DiskFault("input/output error")))
    begin(flight, machine)

    told = news(flight)
    assert isinstance(told, Ended)
    assert told.deployment.phase is Phase.STUCK
    assert flight.is_stuck
    assert not flight.is_idle
    assert pause_s(flight, machine) == STUCK_RETRY_S

    monkeypatch.setitem(flow.FLOW, Phase.RESTORE, row)
    machine.clock.advance(STUCK_RETRY_S)
    flight.begin_if_due()
    told = news(flight)

    assert isinstance(told, Ended)
    assert told.deployment.phase is Phase.ROLLED_BACK
    assert flight.is_idle


def test_deployment_waits_no_more_once_it_has_left_its_hold(
    flight: Supervisor, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []
    arrived, go_on = threading.Event(), threading.Event()
    row = flow.FLOW[Phase.HOLD]

    def step(job: Job) -> Deployment:
        arrived.set()
        assert go_on.wait(PATIENCE_S)
        return row.do(job)

    do(monkeypatch, Phase.HOLD, step)
    seen.append(flight.waits_no_more)
    begin(flight, machine)
    assert arrived.wait(PATIENCE_S)
    seen.append(flight.waits_no_more)
    go_on.set()
    assert flight.worker is not None
    assert flight.worker.join(PATIENCE_S)
    seen.append(flight.waits_no_more)

    assert seen == [False, False, True]
