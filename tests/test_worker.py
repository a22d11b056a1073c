from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from fakes.clock import FakeClock
from ota_agent.errors import DeadlineExceeded, SourceUnreachable, Stopped, Superseded
from ota_agent.model.deployment import Phase
from ota_agent.worker import FINISHES_FIRST, GRACE_S, PhaseProgress, Unwatched, Worker

if TYPE_CHECKING:
    from collections.abc import Callable

PATIENCE_S = 20.0  # for other threads; nothing waits so long unless it hangs
FOR_EVER_S = 3600.0


@dataclass
class Bench:
    """A worker, its clock, and a way to hold it at a place that the test chooses."""

    clock: FakeClock = field(default_factory=FakeClock)
    woken: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    arrived: threading.Event = field(default_factory=threading.Event)
    go_on: threading.Event = field(default_factory=threading.Event)

    def start(self, work: Callable[[PhaseProgress], object], *, deadline_s: float = 10.0) -> Worker:
        worker = Worker("work", work, self.woken.release, self.clock, deadline_s)
        worker.start()
        return worker

    def hold(self) -> None:
        """Called by the work: wait here until the test says `go_on`."""
        self.arrived.set()
        assert self.go_on.wait(PATIENCE_S)

    def meet(self) -> None:
        """Called by the test: wait until the work is held."""
        assert self.arrived.wait(PATIENCE_S)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def ending_of(worker: Worker) -> BaseException | None:
    """Give what the work ended with, None for an ordinary end."""
    assert worker.join(PATIENCE_S)
    assert worker.is_done
    try:
        worker.result()
    except (Stopped, Superseded, DeadlineExceeded, SourceUnreachable, ZeroDivisionError) as error:
        return error
    return None


# --- work that nobody ends ------------------------------------------------------------------------


def test_work_gives_its_result_and_wakes_the_loop(bench: Bench) -> None:
    worker = bench.start(lambda _: threading.current_thread().name)

    assert worker.result() == "ota-work"
    assert bench.woken.acquire(timeout=PATIENCE_S)


def test_loop_that_is_woken_at_the_end_finds_the_work_done(bench: Bench) -> None:
    seen: list[bool] = []
    worker = Worker("work", lambda _: None, lambda: seen.append(worker.is_done), bench.clock, 1)

    worker.start()
    worker._thread.join(PATIENCE_S)

    assert seen == [True]


@pytest.mark.parametrize("failure", [SourceUnreachable("down"), ZeroDivisionError("a bug")])
def test_what_the_work_raises_is_raised_where_its_result_is_asked_for(
    bench: Bench, failure: Exception
) -> None:
    def work(_: PhaseProgress) -> None:
        raise failure

    assert ending_of(bench.start(work)) is failure
    assert bench.woken.acquire(timeout=PATIENCE_S)


def test_worker_that_was_not_started_is_not_done(bench: Bench) -> None:
    worker = Worker("work", lambda _: None, bench.woken.release, bench.clock, 10)

    assert not worker.is_done
    assert not worker.join(0)


def test_work_that_hangs_does_not_keep_the_process_from_ending(bench: Bench) -> None:
    worker = bench.start(lambda _: bench.hold())
    bench.meet()

    assert not worker.join(0)
    assert worker._thread.daemon  # the interpreter waits for all others

    bench.go_on.set()
    assert ending_of(worker) is None


def test_bytes_that_moved_are_seen_and_begin_anew_with_the_next_phase(bench: Bench) -> None:
    def work(progress: PhaseProgress) -> tuple[int, int | None]:
        progress.begin(Phase.FETCH, 120)
        progress.advance(10, 100)
        progress.advance()
        progress.advance(20)
        moved = worker.done_bytes, worker.total_bytes
        progress.begin(Phase.VERIFY, 120)
        return moved

    worker = Worker("work", work, bench.woken.release, bench.clock, 10)
    assert not worker.has_phase
    worker.start()

    assert worker.result() == (20, 100)
    assert (worker.done_bytes, worker.total_bytes) == (0, None)
    assert (worker.phase, worker.has_phase) == (Phase.VERIFY, True)


# --- the end --------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["check", "advance", "wait"])
def test_ended_work_ends_at_its_next_call(bench: Bench, call: str) -> None:
    def work(progress: PhaseProgress) -> None:
        bench.hold()
        match call:
            case "check":
                progress.check()
            case "advance":
                progress.advance(1)
            case _:
                progress.wait(FOR_EVER_S)

    worker = bench.start(work)
    bench.meet()
    reason = Superseded("a newer one is there")
    worker.end(reason)
    bench.go_on.set()

    assert ending_of(worker) is reason


def test_work_that_waits_is_woken_by_its_end(bench: Bench) -> None:
    def work(progress: PhaseProgress) -> None:
        bench.arrived.set()
        progress.wait(FOR_EVER_S)

    worker = bench.start(work)
    bench.meet()
    worker.end(Stopped("the agent ends"))

    assert isinstance(ending_of(worker), Stopped)


def test_wait_that_is_over_lets_the_work_go_on(bench: Bench) -> None:
    worker = bench.start(lambda progress: progress.wait(0.001))

    assert ending_of(worker) is None


def test_first_reason_to_end_is_the_one_that_is_told(bench: Bench) -> None:
    def work(progress: PhaseProgress) -> None:
        bench.hold()
        progress.check()

    worker = bench.start(work)
    bench.meet()
    first = Superseded("first")
    worker.end(first)
    worker.end(Superseded("second"))
    bench.go_on.set()

    assert ending_of(worker) is first


def test_child_is_killed_when_the_work_has_to_end(bench: Bench) -> None:
    killed = threading.Event()

    def work(progress: PhaseProgress) -> None:
        with progress.ended_by(killed.set):
            bench.arrived.set()
            assert killed.wait(PATIENCE_S)
            progress.check()

    worker = bench.start(work)
    bench.meet()
    worker.end(Stopped("the agent ends"))

    assert isinstance(ending_of(worker), Stopped)


def test_child_that_comes_after_the_end_is_killed_at_once(bench: Bench) -> None:
    killed: list[str] = []

    def work(progress: PhaseProgress) -> None:
        bench.hold()
        with progress.ended_by(lambda: killed.append("late")):
            pass
        progress.check()

    worker = bench.start(work)
    bench.meet()
    worker.end(Stopped("the agent ends"))
    bench.go_on.set()

    assert isinstance(ending_of(worker), Stopped)
    assert killed == ["late"]


def test_child_that_has_ended_is_not_killed_again(bench: Bench) -> None:
    killed: list[str] = []

    def work(progress: PhaseProgress) -> None:
        with progress.ended_by(lambda: killed.append("gone")):
            pass
        bench.hold()
        progress.check()

    worker = bench.start(work)
    bench.meet()
    worker.end(Superseded("newer"))
    bench.go_on.set()

    assert isinstance(ending_of(worker), Superseded)
    assert killed == []


# --- what is live is being changed ----------------------------------------------------------------


@pytest.mark.parametrize("phase", list(Phase)[:10])
def test_stop_lets_only_phases_that_change_what_is_live_finish(bench: Bench, phase: Phase) -> None:
    killed: list[str] = []

    def work(progress: PhaseProgress) -> str:
        progress.begin(phase, 100)
        with progress.ended_by(lambda: killed.append("child")):
            bench.hold()
            progress.check()
        return "finished"

    worker = bench.start(work)
    bench.meet()
    worker.end(Stopped("the agent ends"))
    bench.go_on.set()

    if phase in FINISHES_FIRST:
        assert worker.result() == "finished"
        assert killed == []
    else:
        assert isinstance(ending_of(worker), Stopped)
        assert killed == ["child"]


def test_phases_that_finish_before_a_stop_are_those_that_would_cost_a_rollback() -> None:
    assert {Phase.ACTIVATE, Phase.RESTORE, Phase.COMMIT} == FINISHES_FIRST


def test_forced_stop_ends_those_too(bench: Bench) -> None:
    def work(progress: PhaseProgress) -> None:
        progress.begin(Phase.RESTORE, 100)
        bench.arrived.set()
        progress.wait(FOR_EVER_S)

    worker = bench.start(work)
    bench.meet()
    worker.end(Stopped("the agent ends"))
    assert not worker.join(0)

    worker.end(Stopped("now"), forced=True)

    assert isinstance(ending_of(worker), Stopped)


def test_phase_that_is_overdue_ends_although_it_changes_what_is_live(bench: Bench) -> None:
    def work(progress: PhaseProgress) -> None:
        progress.begin(Phase.ACTIVATE, 100)
        bench.arrived.set()
        progress.wait(FOR_EVER_S)

    worker = bench.start(work)
    bench.meet()
    bench.clock.advance(101)
    worker.watch()

    assert isinstance(ending_of(worker), DeadlineExceeded)


# --- from one phase to the next -------------------------------------------------------------------


def ended_between(bench: Bench, reason: Exception, first: Phase, then: Phase) -> Worker:
    """End the work after the last look of one phase, before the next begins."""

    def work(progress: PhaseProgress) -> None:
        progress.begin(first, 100)
        bench.hold()
        progress.begin(then, 100)
        progress.check()

    worker = bench.start(work)
    bench.meet()
    worker.end(reason)
    bench.go_on.set()
    return worker


def test_stop_outlives_the_phase_that_it_came_in(bench: Bench) -> None:
    stopped = Stopped("the agent ends")

    assert ending_of(ended_between(bench, stopped, Phase.ACTIVATE, Phase.CONFIRM)) is stopped


def test_stop_raises_before_the_next_phase_has_begun(bench: Bench) -> None:
    began: list[str] = []

    def work(progress: PhaseProgress) -> None:
        progress.begin(Phase.COMMIT, 100)
        bench.hold()
        progress.begin(Phase.FETCH, 100)
        began.append("fetch")

    worker = bench.start(work)
    bench.meet()
    worker.end(Stopped("the agent ends"))
    bench.go_on.set()

    assert isinstance(ending_of(worker), Stopped)
    assert began == []


@pytest.mark.parametrize("then", [Phase.VERIFY, Phase.BACKUP])
def test_command_to_make_way_is_not_lost_between_two_phases(bench: Bench, then: Phase) -> None:
    newer = Superseded("the operator rolls back")

    assert ending_of(ended_between(bench, newer, Phase.FETCH, then)) is newer


@pytest.mark.parametrize("then", [Phase.ACTIVATE, Phase.DISCARD, Phase.RESTORE])
def test_phase_that_does_not_leave_live_alone_is_not_superseded(bench: Bench, then: Phase) -> None:
    newer = Superseded("the operator rolls back")

    assert ending_of(ended_between(bench, newer, Phase.HOLD, then)) is None


def test_deadline_of_one_phase_does_not_end_the_next(bench: Bench) -> None:
    late = DeadlineExceeded("fetch made no progress")

    assert ending_of(ended_between(bench, late, Phase.FETCH, Phase.DISCARD)) is None


# --- deadlines ------------------------------------------------------------------------------------


def test_work_without_progress_is_ended_at_its_deadline(bench: Bench) -> None:
    def work(progress: PhaseProgress) -> None:
        progress.begin(Phase.FETCH, 120)
        bench.arrived.set()
        progress.wait(FOR_EVER_S)

    worker = bench.start(work)
    bench.meet()
    bench.clock.advance(120)
    worker.watch()
    assert not worker.join(0)

    bench.clock.advance(0.5)
    worker.watch()

    ended = ending_of(worker)
    assert isinstance(ended, DeadlineExceeded)
    assert str(ended) == "fetch made no progress for 120 s"


def test_progress_begins_the_deadline_anew(bench: Bench) -> None:
    def work(progress: PhaseProgress) -> None:
        bench.hold()
        progress.advance(1)
        bench.woken.release()
        progress.wait(FOR_EVER_S)

    worker = bench.start(work, deadline_s=10)
    bench.meet()
    bench.clock.advance(9)
    bench.go_on.set()
    assert bench.woken.acquire(timeout=PATIENCE_S)
    bench.clock.advance(9)
    worker.watch()
    assert not worker.is_overdue

    worker.end(Stopped("enough"))
    assert isinstance(ending_of(worker), Stopped)


def test_waiting_is_no_progress(bench: Bench) -> None:
    def work(progress: PhaseProgress) -> None:
        progress.wait(0.001)
        bench.hold()
        progress.check()

    worker = bench.start(work, deadline_s=10)
    bench.clock.advance(11)
    bench.meet()
    worker.watch()
    bench.go_on.set()

    assert isinstance(ending_of(worker), DeadlineExceeded)


def test_wall_clock_that_jumps_ends_nothing(bench: Bench) -> None:
    worker = bench.start(lambda _: bench.hold())
    bench.meet()
    bench.clock.jump(10 * 365 * 86400)
    worker.watch()

    assert not worker.is_overdue
    bench.go_on.set()
    assert ending_of(worker) is None


def test_work_that_is_done_is_never_overdue_for_the_keepalive(bench: Bench) -> None:
    worker = bench.start(lambda _: "done")
    assert worker.join(PATIENCE_S)
    bench.clock.advance(FOR_EVER_S)
    worker.watch()

    assert not worker.is_beyond_help
    assert worker.result() == "done"


def test_work_that_does_not_end_when_told_is_beyond_help(bench: Bench) -> None:
    worker = bench.start(lambda _: bench.hold(), deadline_s=10)
    bench.meet()
    bench.clock.advance(10 + GRACE_S)
    worker.watch()
    was_beyond_help = [worker.is_beyond_help]
    bench.clock.advance(1)
    was_beyond_help.append(worker.is_beyond_help)
    bench.go_on.set()
    assert ending_of(worker) is None
    was_beyond_help.append(worker.is_beyond_help)

    assert was_beyond_help == [False, True, False]


# --- short work -----------------------------------------------------------------------------------


def test_short_work_that_nobody_watches_goes_to_its_end() -> None:
    killed: list[str] = []
    progress = Unwatched()
    with progress.ended_by(lambda: killed.append("child")):
        progress.advance(1, 2)
        progress.check()
        progress.wait(0)

    assert killed == []
