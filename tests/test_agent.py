from __future__ import annotations

import json
import signal
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from unittest import mock

import pytest
from device import Machine
from typing_extensions import override

from fakes.status_sink import FakeStatusSink
from ota_agent import agent as agent_module
from ota_agent.agent import Agent, Parts
from ota_agent.config import Source
from ota_agent.errors import SourceUnreachable, TokenRefused
from ota_agent.heartbeat import picture
from ota_agent.heartbeat.display import Display
from ota_agent.heartbeat.sender import Heartbeat
from ota_agent.host.sdnotify import Notifier
from ota_agent.model.command import Ask, Command, Exit, Outcome
from ota_agent.model.deployment import Deployment, Phase
from ota_agent.model.report import Directives
from ota_agent.status import StatusBoard
from ota_agent.store import atomic
from ota_agent.store.lock import Owner
from ota_agent.store.mailbox import Mailbox
from ota_agent.update import flow
from ota_agent.update.manager import OTAManager
from ota_agent.wiring.reading import take_picture
from ota_agent.worker import FINISHES_FIRST, GRACE_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from ota_agent.model.report import Report
    from ota_agent.update.device import Job

PATIENCE_S = 20.0
FOR_EVER_S = 3600.0
POLL_S = 200.0
STEP_S = 50.0  # less than any deadline: who works meanwhile is not overdue

GOOD = {"app.py": b"1"}
BETTER = {"app.py": b"2"}
BEST = {"app.py": b"3"}
HOOK = b'[hooks]\npre_activate = ["/bin/may-i"]\n'
HELD = {"ota.toml": HOOK, "app.py": b"2"}


class Turns(Notifier):
    """systemd's ear: counts the turns that the loop was well in."""

    def __init__(self) -> None:
        super().__init__()
        self.turned = threading.Semaphore(0)
        self.said: list[str] = []

    @override
    def ready(self) -> None:
        self.said.append("ready")

    @override
    def stopping(self) -> None:
        self.said.append("stopping")

    @override
    def keepalive(self) -> None:
        self.turned.release()


class Sink(FakeStatusSink):
    """Sees the heartbeats, and leaves the events in the outbox for the test to look at."""

    @override
    def sync(self, report: Report) -> Directives:
        super().sync(report)
        return Directives(0)


class Daemon:
    """The agent of a device on fakes, its loop on a thread; `machine` outlives its ends."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.sink = Sink()
        self.clock_is_set = True
        self.breaker_resets = 0
        self._thread: threading.Thread | None = None
        self.came: int | BaseException | None = None

    # --- life ---------------------------------------------------------------------------------

    def build(self) -> Agent:
        """Wire an agent as `wiring` does."""
        self.machine.power_off()
        with mock.patch.object(OTAManager, "resume", return_value=None):  # the loop does it
            self.machine.start()
        device, database = self.machine.device, self.machine.disk.database
        board, owner = StatusBoard(), Owner(pid=1)
        self.notifier, self.mailbox = Turns(), Mailbox(database)

        def take() -> dict[str, Any]:
            return take_picture(device.config, database, board, owner)

        def reset_breaker() -> None:
            self.breaker_resets += 1

        self.agent = Agent(
            Parts(
                device=replace(device, clock_is_set=lambda: self.clock_is_set),
                manager=self.machine.manager,
                lookout=self.machine.lookout,
                mailbox=self.mailbox,
                display=Display(self.machine.paths, database, board, self.machine.clock, take),
                board=board,
                heartbeat=Heartbeat(self.sink, database, take, FOR_EVER_S),
                notifier=self.notifier,
                reset_breaker=reset_breaker,
                close=self.machine.power_off,
            )
        )
        return self.agent

    def start(self) -> None:
        """Start the daemon."""
        agent, self.came = self.build(), None

        def run() -> None:
            try:
                self.came = agent.run()
            except BaseException as error:  # noqa: BLE001 - the test tells it
                self.came = error

        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()

    def signal(self, number: int) -> None:
        """Have the process get a signal."""
        self.agent._wake.on_signal(number, None)

    def end(self) -> int | BaseException | None:
        """Wait for the daemon's end; give its exit code."""
        assert self._thread is not None
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()
        self._thread = None
        return self.came

    def stop(self) -> None:
        """SIGTERM, and a clean end."""
        if self._thread is not None:
            self.signal(signal.SIGTERM)
            assert self.end() == Exit.DONE

    # --- what is seen -------------------------------------------------------------------------

    def until(self, is_so: Callable[[], object]) -> None:
        """Let the loop turn until something is so."""
        last = time.monotonic() + PATIENCE_S
        self.signal(signal.SIGUSR1)
        while not is_so():
            assert self.came is None, self.came
            if time.monotonic() > last:
                pytest.fail(str(self.status()))
            if not self.notifier.turned.acquire(timeout=0.02):
                self.signal(signal.SIGUSR1)  # the clock of the test may have moved

    def status(self) -> dict[str, Any]:
        """Give what every local user sees."""
        try:
            found: dict[str, Any] = json.loads(self.machine.paths.status_file.read_text())
        except FileNotFoundError:
            return picture.nothing("report")
        return found

    def pass_until(self, is_so: Callable[[], object]) -> None:
        """Let time pass, and the loop do what is due meanwhile, until something is so."""
        for _ in range(100):
            self.until(lambda: is_so() or self.is_quiet())
            if is_so():
                return
            self.machine.clock.advance(STEP_S)
            while self.notifier.turned.acquire(blocking=False):
                pass
            for _ in range(2):  # the first turn may have begun before the time had passed
                self.signal(signal.SIGUSR1)
                self.notifier.turned.acquire(timeout=1)
        pytest.fail(str(self.status()))

    def is_quiet(self) -> bool:
        """Whether nobody is at work: who is, must not be overdue when time passes."""
        workers = (self.agent._poller.worker, self.agent._drift.worker, self.agent._flight.worker)
        return workers == (None, None, None)

    @property
    def source_state(self) -> str | None:
        """How it stands with the source, as status shows it."""
        source = self.status()["connections"]["source"]
        return source and str(source["state"])

    def has_polled(self) -> bool:
        """Whether a poll was begun, and none is under way."""
        return self.machine.source.polls > 0 and self.agent._poller.worker is None

    def ask(self, what: Ask, **args: object) -> Outcome:
        """Ask the running agent as the command line does."""
        number = self.leave(what, **args)
        self.until(lambda: self.mailbox.outcome(number))
        outcome = self.mailbox.outcome(number)
        assert outcome is not None
        return outcome

    def leave(self, what: Ask, **args: object) -> int:
        """Leave a command in the mailbox."""
        return self.mailbox.put(Command(what, args, "operator"))

    def is_live(self, commit: str) -> bool:
        """Whether a commit is live and its deployment over, with all that comes after."""
        return self.machine.live_commit == commit and self.agent._flight.is_idle

    @property
    def in_flight(self) -> Deployment | None:
        return self.machine.disk.journal.in_flight()

    @property
    def history(self) -> list[tuple[str, str, str | None]]:
        """Kind, ending and error of each deployment, oldest first."""
        return [
            (one.kind.value, one.phase.value, None if one.error is None else one.error.code)
            for one, _ in reversed(self.machine.disk.journal.history())
        ]


@pytest.fixture(autouse=True)
def handlers(monkeypatch: pytest.MonkeyPatch) -> dict[int, object]:
    """Keep the handlers: only the main thread may set them for good."""
    kept: dict[int, object] = {}
    monkeypatch.setattr(signal, "signal", kept.__setitem__)
    return kept


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "device", {"poll_interval_s": POLL_S})


@pytest.fixture
def daemon(machine: Machine) -> Iterator[Daemon]:
    made = Daemon(machine)
    yield made
    made.stop()
    machine.power_off()


class Barrier:
    """Holds the first run of a phase until the test lets it go on, or the work has to end."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, phase: Phase) -> None:
        self.arrived = threading.Event()
        self.go_on = threading.Event()
        self._row = flow.FLOW[phase]
        monkeypatch.setitem(flow.FLOW, phase, replace(self._row, do=self._do))

    def _do(self, job: Job) -> Deployment:
        if not self.arrived.is_set():
            self.arrived.set()
            if job.deployment.phase in FINISHES_FIRST:
                assert self.go_on.wait(PATIENCE_S)
            else:
                job.progress.wait(FOR_EVER_S)
        return self._row.do(job)

    def meet(self) -> None:
        assert self.arrived.wait(PATIENCE_S)


# --- the ordinary life ----------------------------------------------------------------------------


def test_daemon_deploys_what_is_offered_and_follows_what_comes(
    daemon: Daemon, machine: Machine
) -> None:
    first = machine.publish(GOOD)
    daemon.start()
    daemon.until(lambda: daemon.is_live(first.commit))

    second = machine.publish(BETTER)
    daemon.pass_until(lambda: daemon.is_live(second.commit))

    daemon.until(lambda: daemon.status()["status"] == "ONLINE")
    assert daemon.status()["live"]["commit"] == second.commit
    assert daemon.history == [("first", "succeeded", None), ("update", "succeeded", None)]
    daemon.stop()
    assert daemon.notifier.said == ["ready", "stopping"]
    assert daemon.sink.heartbeats[-1]["device_id"] is None  # nobody has named this one
    machine.start()
    machine.paths.status_file.unlink()
    machine.assert_whole()
    machine.assert_tidy()


def test_touched_wake_file_makes_the_agent_look_at_once(daemon: Daemon, machine: Machine) -> None:
    first = machine.publish(GOOD)
    daemon.start()
    daemon.until(lambda: daemon.is_live(first.commit))
    second = machine.publish(BETTER)

    machine.paths.wake_file.touch()

    daemon.until(lambda: daemon.is_live(second.commit))
    machine.paths.wake_file.unlink()


def test_drift_is_found_while_nothing_is_in_flight(daemon: Daemon, machine: Machine) -> None:
    first = machine.publish(GOOD)
    daemon.start()
    daemon.until(lambda: daemon.is_live(first.commit))
    machine.edit("app.py", b"edited by hand")
    daemon.pass_until(lambda: daemon.status()["drift"]["files"] == ["app.py"])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_end_the_daemon_and_another_one_only_wakes_it(
    daemon: Daemon, machine: Machine, handlers: dict[int, object], number: int
) -> None:
    daemon.start()
    daemon.until(daemon.has_polled)
    assert {signal.SIGTERM, signal.SIGINT, signal.SIGUSR1} <= handlers.keys()
    assert set(handlers.values()) == {daemon.agent._wake.on_signal}

    daemon.signal(signal.SIGUSR1)
    daemon.until(daemon.has_polled)
    daemon.signal(number)
    daemon.signal(signal.SIGUSR1)

    assert daemon.end() == Exit.DONE


def test_hangup_that_was_ignored_at_the_start_stays_so(
    daemon: Daemon, handlers: dict[int, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signal, "getsignal", lambda _: signal.SIG_IGN)
    daemon.start()
    daemon.until(daemon.has_polled)

    assert handlers == {}


# --- one round ------------------------------------------------------------------------------------


def run_once(daemon: Daemon) -> Outcome:
    agent = daemon.build()
    try:
        return agent.run_once()
    finally:
        agent.close()


def test_one_round_deploys_and_the_next_has_nothing_to_do(daemon: Daemon, machine: Machine) -> None:
    machine.publish(GOOD)

    first, second = run_once(daemon), run_once(daemon)

    assert (first.exit, first.data["deployment"]["ending"]) == (Exit.DONE, "succeeded")
    assert (second.exit, second.data["reason"]) == (Exit.NOTHING, "release.up_to_date")
    assert daemon.breaker_resets == 2  # whatever is on record binds the daemon's own polls alone


def test_one_round_with_the_source_out_of_reach_fails(daemon: Daemon, machine: Machine) -> None:
    machine.source.fail(SourceUnreachable("no route"))

    outcome = run_once(daemon)

    assert (outcome.exit, outcome.data["code"]) == (Exit.FAILED, "source.unreachable")


def test_one_round_finishes_what_an_earlier_life_left_and_tells_its_end(
    daemon: Daemon, machine: Machine
) -> None:
    machine.publish(GOOD)
    machine.start()
    begun = machine.begin()
    machine.power_off()

    outcome = run_once(daemon)

    assert outcome.exit is Exit.DONE
    assert outcome.data["deployment"]["deployment"] == begun.id


def test_one_round_goes_on_to_the_next_release_when_the_newest_is_rejected(
    tmp_path: Path,
) -> None:
    source = Source(type="git", url="https://git.example.com/fw.git", channel="tag:*")  # type: ignore[arg-type]  # as text
    machine = Machine(tmp_path / "device", {"source": source})
    machine.source.publish_tag("v1.0.0", GOOD)
    machine.source.publish_tag("v1.1.0", HELD)
    machine.host.command_answers(["/bin/may-i"], 1)
    daemon = Daemon(machine)

    outcome = run_once(daemon)

    assert outcome.exit is Exit.DONE
    assert outcome.data["deployment"]["release"].startswith("1.0.0-")
    machine.start()
    assert daemon.history == [
        ("first", "abandoned", "release.hook_failed"),
        ("first", "succeeded", None),
    ]
    machine.power_off()


def test_one_round_that_has_to_wait_says_so_and_the_next_goes_on(
    daemon: Daemon, machine: Machine
) -> None:
    machine.publish(HELD)
    machine.host.command_answers(["/bin/may-i"], 75, 0)

    waits, done = run_once(daemon), run_once(daemon)

    assert (waits.exit, waits.data["reason"]) == (Exit.NOTHING, "waiting")
    assert waits.data["deployment"]["phase"] == "hold"
    assert done.exit is Exit.DONE
    assert done.data["deployment"]["deployment"] == waits.data["deployment"]["deployment"]


def test_one_round_that_is_stopped_says_that_the_next_goes_on(
    daemon: Daemon, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.publish(GOOD)
    agent = daemon.build()
    barrier = Barrier(monkeypatch, Phase.STAGE)

    def stop() -> None:
        barrier.meet()
        daemon.signal(signal.SIGTERM)

    stopper = threading.Thread(target=stop)
    stopper.start()
    outcome = agent.run_once()
    stopper.join(PATIENCE_S)

    assert outcome == Outcome(Exit.FAILED, "stopped; the next run goes on")
    agent.close()


# --- commands -------------------------------------------------------------------------------------


def test_check_tells_what_there_is(daemon: Daemon, machine: Machine) -> None:
    machine.publish(GOOD)
    daemon.start()
    daemon.until(lambda: daemon.is_live(machine.source._refs["refs/heads/main"].commit))
    assert daemon.ask(Ask.CHECK).data["reason"] == "release.up_to_date"

    offer = machine.publish(BETTER)
    outcome = daemon.ask(Ask.CHECK)

    assert outcome.exit is Exit.DONE
    assert outcome.data["candidate"]["commit"] == offer.commit


def test_update_is_answered_when_the_release_is_live(daemon: Daemon, machine: Machine) -> None:
    daemon.start()
    daemon.until(daemon.has_polled)
    offer = machine.publish(GOOD)

    outcome = daemon.ask(Ask.UPDATE)

    assert outcome.exit is Exit.DONE
    assert outcome.data["deployment"]["commit"] == offer.commit
    deployment, _ = machine.disk.journal.history()[0]
    assert deployment.notes["asked_by"] == "operator"


def test_rollback_goes_back_and_the_next_poll_does_not_undo_it(
    daemon: Daemon, machine: Machine
) -> None:
    first = machine.publish(GOOD)
    daemon.start()
    daemon.until(lambda: daemon.is_live(first.commit))
    machine.publish(BETTER)
    assert daemon.ask(Ask.UPDATE).exit is Exit.DONE

    outcome = daemon.ask(Ask.ROLLBACK)

    assert outcome.exit is Exit.DONE
    assert daemon.is_live(first.commit)
    assert daemon.ask(Ask.UPDATE).data["reason"] == "release.quarantined"
    assert daemon.is_live(first.commit)


def test_retry_lets_a_release_be_taken_again_at_once(daemon: Daemon, machine: Machine) -> None:
    first = machine.publish(GOOD)
    daemon.start()
    daemon.until(lambda: daemon.is_live(first.commit))
    second = machine.publish(BETTER)
    daemon.ask(Ask.UPDATE)
    daemon.ask(Ask.ROLLBACK)

    outcome = daemon.ask(Ask.RETRY, release=second.commit)

    assert outcome.exit is Exit.DONE
    daemon.until(lambda: daemon.is_live(second.commit))


def test_rollback_ends_a_deployment_that_has_not_touched_what_is_live(
    daemon: Daemon, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = machine.publish(GOOD)
    daemon.start()
    daemon.until(lambda: daemon.is_live(first.commit))
    second = machine.publish(BETTER)
    daemon.ask(Ask.UPDATE)
    barrier = Barrier(monkeypatch, Phase.FETCH)
    machine.publish(BEST)
    daemon.pass_until(barrier.arrived.is_set)

    outcome = daemon.ask(Ask.ROLLBACK)

    assert outcome.exit is Exit.DONE
    assert machine.quarantine == {second.commit: "operator.rolled_back"}
    assert daemon.history[2:4] == [
        ("update", "abandoned", "release.superseded"),
        ("rollback", "succeeded", None),
    ]


def test_command_is_answered_while_a_release_proves_itself(
    daemon: Daemon, machine: Machine
) -> None:
    offer = machine.publish({"ota.toml": b"[probation]\nseconds = 3600\n", "app.py": b"1"})
    daemon.start()
    daemon.until(lambda: daemon.in_flight and daemon.in_flight.phase is Phase.CONFIRM)

    assert daemon.ask(Ask.CHECK).data["reason"] == "release.up_to_date"

    assert daemon.in_flight is not None
    assert daemon.status()["status"] == "UPDATING"
    assert machine.live_commit == offer.commit


def test_command_that_an_earlier_agent_left_is_answered(daemon: Daemon, machine: Machine) -> None:
    machine.start()
    mailbox = Mailbox(machine.disk.database)
    number = mailbox.put(Command(Ask.CHECK))
    mailbox.take()
    machine.power_off()

    daemon.start()
    daemon.until(lambda: daemon.mailbox.outcome(number))

    outcome = daemon.mailbox.outcome(number)
    assert outcome is not None
    assert "ask again" in outcome.text


def test_one_shot_agent_finishes_the_rollback_that_it_took_up(
    daemon: Daemon, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.publish(GOOD)
    run_once(daemon)
    machine.publish(BETTER)
    agent = daemon.build()
    barrier = Barrier(monkeypatch, Phase.COMMIT)
    numbers: list[int] = []

    def ask() -> None:
        barrier.meet()
        numbers.append(daemon.leave(Ask.ROLLBACK))
        daemon.signal(signal.SIGUSR1)
        barrier.go_on.set()

    asker = threading.Thread(target=ask)
    asker.start()
    own = agent.run_once()
    asker.join(PATIENCE_S)

    assert own.exit is Exit.DONE
    told = daemon.mailbox.outcome(numbers[0])
    assert told is not None or daemon.mailbox.withdraw(numbers[0])
    assert daemon.in_flight is None
    agent.close()


def test_rollback_asked_again_after_a_stop_is_done_once(daemon: Daemon, machine: Machine) -> None:
    machine.publish(GOOD)
    run_once(daemon)
    first = machine.live
    machine.publish(BETTER)
    run_once(daemon)
    machine.start()
    begun = machine.manager.begin_rollback(first or "", {"allow_again": False, "with_data": False})
    machine.stop()

    agent = daemon.build()
    outcome = agent.execute(Command(Ask.ROLLBACK))

    assert outcome.exit is Exit.DONE
    assert outcome.data["deployment"]["deployment"] == begun.id
    assert machine.live == first
    assert len(daemon.history) == 3
    agent.close()


# --- waiting --------------------------------------------------------------------------------------


def hold(daemon: Daemon, machine: Machine) -> None:
    """Have the daemon hold a release whose hook says that it is not the time."""
    machine.host.command_answers(["/bin/may-i"], 75)
    machine.publish(HELD)
    daemon.start()
    daemon.until(lambda: daemon.status()["waiting"])


def test_deployment_that_waits_shows_for_what_and_is_asked_again(
    daemon: Daemon, machine: Machine
) -> None:
    hold(daemon, machine)
    status = daemon.status()
    assert (status["status"], status["phase"]) == ("ONLINE", "hold")
    assert status["waiting"]["reason"].startswith("pre_activate says: not yet")
    assert status["waiting"]["owner"] == status["target"]["release"]

    machine.host.command_answers(["/bin/may-i"], 0)
    machine.clock.advance(61)
    daemon.until(lambda: machine.live is not None and daemon.in_flight is None)

    daemon.until(lambda: daemon.status()["waiting"] is None)


def test_newer_release_takes_the_place_of_one_that_waits(daemon: Daemon, machine: Machine) -> None:
    hold(daemon, machine)
    newer = machine.publish(BEST)
    daemon.pass_until(lambda: daemon.is_live(newer.commit))

    assert daemon.history == [
        ("first", "abandoned", "release.superseded"),
        ("first", "succeeded", None),
    ]
    assert daemon.status()["last_error"] is None


def test_source_is_asked_once_while_the_superseded_deployment_ends(
    daemon: Daemon, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = flow.FLOW[Phase.HOLD]
    arrived, go_on = threading.Event(), threading.Event()

    def end_late(job: Job) -> Deployment:
        if not arrived.is_set():
            arrived.set()
            assert go_on.wait(PATIENCE_S)
        return row.do(job)

    monkeypatch.setitem(flow.FLOW, Phase.HOLD, replace(row, do=end_late))
    machine.publish(GOOD)
    daemon.start()
    daemon.until(arrived.is_set)
    polls, newer = machine.source.polls, machine.publish(BETTER)
    daemon.leave(Ask.CHECK)
    for _ in range(10):
        daemon.until(lambda: machine.source.polls > polls and daemon.agent._poller.worker is None)
        daemon.signal(signal.SIGUSR1)
        assert daemon.notifier.turned.acquire(timeout=PATIENCE_S)

    assert machine.source.polls == polls + 1
    go_on.set()
    daemon.until(lambda: daemon.is_live(newer.commit))
    assert daemon.history == [
        ("first", "abandoned", "release.superseded"),
        ("first", "succeeded", None),
    ]


def test_drift_is_found_while_a_deployment_only_waits(daemon: Daemon, machine: Machine) -> None:
    first = machine.publish(GOOD)
    daemon.start()
    daemon.until(lambda: daemon.is_live(first.commit))
    machine.host.command_answers(["/bin/may-i"], 75)
    machine.publish(HELD)
    daemon.pass_until(lambda: daemon.status()["waiting"])
    machine.edit("app.py", b"edited by hand")

    daemon.pass_until(lambda: daemon.status()["drift"]["files"] == ["app.py"])

    assert daemon.status()["phase"] == "hold"


def test_update_asks_a_deployment_that_waits_again_at_once(
    daemon: Daemon, machine: Machine
) -> None:
    hold(daemon, machine)
    assert daemon.ask(Ask.UPDATE).data["reason"] == "waiting"
    daemon.until(daemon.is_quiet)  # else it may be asking the hook once more just now
    machine.host.command_answers(["/bin/may-i"], 0)

    assert daemon.ask(Ask.UPDATE).exit is Exit.DONE


def test_clock_before_2020_is_waited_for_and_said(daemon: Daemon, machine: Machine) -> None:
    offer = machine.publish(GOOD)
    daemon.clock_is_set = False
    daemon.start()
    daemon.until(lambda: daemon.status()["waiting"])
    daemon.pass_until(lambda: daemon.status()["waiting"])
    assert "before 2020" in daemon.status()["waiting"]["reason"]
    assert machine.source.polls == 0

    daemon.clock_is_set = True
    machine.clock.advance(5)

    daemon.until(lambda: daemon.is_live(offer.commit))
    daemon.until(lambda: daemon.status()["waiting"] is None)


# --- what goes wrong ------------------------------------------------------------------------------


def test_source_that_is_out_of_reach_is_asked_again_later(daemon: Daemon, machine: Machine) -> None:
    offer = machine.publish(GOOD)
    machine.source.fail(SourceUnreachable("no route"), times=2)
    daemon.start()
    daemon.until(lambda: daemon.source_state == "offline")
    assert machine.source.polls == 1
    assert daemon.status()["status"] == "ONLINE"
    assert daemon.status()["last_error"] is None

    daemon.pass_until(lambda: daemon.is_live(offer.commit))
    daemon.until(lambda: daemon.source_state == "online")


def test_refused_token_is_an_error_until_the_source_answers(
    daemon: Daemon, machine: Machine
) -> None:
    machine.source.fail(TokenRefused("401"))
    daemon.start()
    daemon.until(lambda: daemon.status()["status"] == "ERROR")
    source = daemon.status()["connections"]["source"]
    assert (source["state"], source["breaker"]) == ("refused", "open")
    assert daemon.status()["last_error"]["code"] == "source.token_refused"
    assert daemon.breaker_resets == 0

    machine.publish(GOOD)
    assert daemon.ask(Ask.UPDATE).exit is Exit.DONE

    daemon.until(lambda: daemon.status()["status"] == "ONLINE")
    assert daemon.breaker_resets > 0


def test_check_is_answered_when_the_source_is_out_of_reach(
    daemon: Daemon, machine: Machine
) -> None:
    daemon.start()
    daemon.until(daemon.has_polled)
    machine.source.fail(SourceUnreachable("no route"))

    assert daemon.ask(Ask.CHECK) == Outcome(
        Exit.FAILED,
        "no route",
        {"code": "source.unreachable", "hint": SourceUnreachable("").hint},
    )


def break_phase(monkeypatch: pytest.MonkeyPatch, phase: Phase) -> None:
    def bug(_: Job) -> Deployment:
        raise ZeroDivisionError

    row = flow.FLOW[phase]
    monkeypatch.setitem(flow.FLOW, phase, replace(row, do=bug))


def test_bug_in_a_step_is_survived_and_counted_like_a_crash(
    daemon: Daemon, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_phase(monkeypatch, Phase.STAGE)
    machine.publish(GOOD)
    daemon.start()
    daemon.until(lambda: daemon.in_flight and daemon.in_flight.crashes == 1)
    machine.clock.advance(11)
    daemon.until(lambda: daemon.in_flight and daemon.in_flight.crashes == 2)
    machine.clock.advance(11)
    daemon.until(lambda: daemon.in_flight and daemon.in_flight.phase is Phase.DISCARD)
    machine.clock.advance(11)
    daemon.until(lambda: daemon.status()["last_error"])

    assert daemon.history[0] == ("first", "abandoned", "agent.crashed")
    assert daemon.status()["last_error"]["code"] == "agent.crashed"


def test_bug_that_cannot_be_counted_is_survived(
    daemon: Daemon, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = threading.Event()

    def fail(*_: object) -> Deployment:
        tried.set()
        raise SourceUnreachable("as good as any failure that is expected")

    with monkeypatch.context() as broken:
        break_phase(broken, Phase.STAGE)
        broken.setattr(OTAManager, "crashed", fail)
        offer = machine.publish(GOOD)
        daemon.start()
        daemon.until(tried.is_set)
        daemon.until(lambda: daemon.agent._flight.worker is None)

    daemon.pass_until(lambda: daemon.is_live(offer.commit))
    assert daemon.history == [("first", "succeeded", None)]


def test_bug_of_the_loop_does_not_count_against_a_deployment_that_only_waits(
    daemon: Daemon, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold(daemon, machine)
    refresh, bugs = daemon.agent._parts.display.refresh, threading.Semaphore(0)

    def fail() -> None:
        bugs.release()
        raise ZeroDivisionError

    monkeypatch.setattr(daemon.agent._parts.display, "refresh", fail)
    for _ in range(4):
        daemon.signal(signal.SIGUSR1)
        assert bugs.acquire(timeout=PATIENCE_S)
    monkeypatch.setattr(daemon.agent._parts.display, "refresh", refresh)

    in_flight = daemon.in_flight
    assert in_flight is not None
    assert (in_flight.phase, in_flight.crashes) == (Phase.HOLD, 0)


def test_bug_answers_who_asked_for_the_update(
    daemon: Daemon, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_phase(monkeypatch, Phase.STAGE)
    daemon.start()
    daemon.until(daemon.has_polled)
    machine.publish(GOOD)

    outcome = daemon.ask(Ask.UPDATE)

    assert outcome.exit is Exit.FAILED
    assert "ZeroDivisionError" in outcome.text


def test_bug_in_a_poll_is_survived(
    daemon: Daemon, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon.start()
    daemon.until(daemon.has_polled)
    machine.source.fail(ZeroDivisionError())
    assert daemon.ask(Ask.CHECK).exit is Exit.FAILED

    offer = machine.publish(GOOD)
    assert daemon.ask(Ask.UPDATE).exit is Exit.DONE
    assert daemon.is_live(offer.commit)


def test_disk_that_takes_no_record_ends_neither_the_loop_nor_the_deployment_that_waits(
    daemon: Daemon, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ota_agent.update.manager.JOURNAL_RETRY_S", 0.001)
    hold(daemon, machine)
    database = machine.disk.database
    database.rows("PRAGMA query_only=1")
    machine.host.command_answers(["/bin/may-i"], 0)
    machine.clock.advance(61)
    for _ in range(3):
        daemon.until(lambda: daemon.agent._flight.due_at > machine.clock.monotonic())
        machine.clock.advance(11)

    database.rows("PRAGMA query_only=0")
    daemon.pass_until(lambda: machine.live is not None and daemon.in_flight is None)

    assert daemon.history == [("first", "succeeded", None)]


def test_deployment_that_cannot_be_opened_is_told_and_tried_again(
    daemon: Daemon, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon.start()
    daemon.until(daemon.has_polled)
    offer = machine.publish(GOOD)
    begin = machine.manager.begin

    def refuse(*_: object) -> Deployment:
        raise SourceUnreachable("as good as any failure that is expected")

    monkeypatch.setattr(machine.manager, "begin", refuse)
    assert daemon.ask(Ask.UPDATE).exit is Exit.FAILED

    monkeypatch.setattr(machine.manager, "begin", begin)
    assert daemon.ask(Ask.UPDATE).exit is Exit.DONE
    assert daemon.is_live(offer.commit)


# --- stuck ----------------------------------------------------------------------------------------


def test_stuck_device_says_so_refuses_to_go_on_and_finds_its_way_back(
    daemon: Daemon, machine: Machine
) -> None:
    good = machine.publish(GOOD)
    daemon.start()
    daemon.until(lambda: daemon.is_live(good.commit))
    before = machine.live
    assert before is not None
    aside = machine.paths.work_dir / "aside"

    def break_the_way_back(_: object) -> int:
        atomic.rename(machine.paths.release_dir(before), aside)  # it is sealed
        return 1

    machine.host.command_answers(["/bin/break"], break_the_way_back, 1)
    machine.publish({"ota.toml": b'[hooks]\npost_activate = ["/bin/break"]\n', "app.py": b"2"})
    outcome = daemon.ask(Ask.UPDATE)
    assert (outcome.exit, outcome.data["code"]) == (Exit.FAILED, "release.hook_failed")
    assert outcome.text.endswith("was stuck: " + outcome.text.partition("was stuck: ")[2])
    daemon.until(lambda: daemon.status()["phase"] == "stuck")
    assert daemon.status()["status"] == "ERROR"

    refused = daemon.ask(Ask.ROLLBACK)
    assert refused.exit is Exit.FAILED
    assert "stuck" in refused.text
    assert daemon.ask(Ask.CHECK).exit is Exit.NOTHING  # it is in quarantine
    assert daemon.ask(Ask.UPDATE).exit is Exit.FAILED
    newer = machine.publish(BEST)
    assert daemon.ask(Ask.CHECK).data["candidate"]["commit"] == newer.commit

    atomic.rename(aside, machine.paths.release_dir(before))
    daemon.pass_until(lambda: daemon.is_live(newer.commit))
    assert daemon.history[1:] == [
        ("update", "rolled_back", "release.hook_failed"),
        ("update", "succeeded", None),
    ]


# --- the end --------------------------------------------------------------------------------------

FAILING = {
    Phase.DISCARD: b'[hooks]\npre_activate = ["/bin/no"]\n',
    Phase.RESTORE: b'[hooks]\npost_activate = ["/bin/no"]\n',
}


@pytest.mark.parametrize("phase", list(flow.FLOW))
def test_stop_in_any_phase_is_no_crash_and_the_next_start_goes_on(
    daemon: Daemon, machine: Machine, monkeypatch: pytest.MonkeyPatch, phase: Phase
) -> None:
    good = machine.publish(GOOD)
    daemon.start()
    daemon.until(lambda: daemon.is_live(good.commit))
    machine.host.command_answers(["/bin/no"], 1)
    offer = machine.publish({"ota.toml": FAILING.get(phase, b""), "app.py": b"2"})
    barrier = Barrier(monkeypatch, phase)
    daemon.pass_until(barrier.arrived.is_set)

    daemon.signal(signal.SIGTERM)
    barrier.go_on.set()
    assert daemon.end() == Exit.DONE

    daemon.start()
    fails = phase in FAILING
    daemon.until(lambda: len(daemon.history) > 1 and daemon.in_flight is None)
    daemon.until(lambda: daemon.is_live(good.commit if fails else offer.commit))
    assert machine.attempts(offer.commit) == 0
    code = "release.hook_failed" if fails else None
    ending = {Phase.DISCARD: "abandoned", Phase.RESTORE: "rolled_back"}.get(phase, "succeeded")
    assert daemon.history[1] == ("update", ending, code)
    machine.assert_whole()


def test_work_that_hangs_does_not_keep_the_agent_from_ending(
    daemon: Daemon, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent_module, "STOP_S", 0.01)
    monkeypatch.setattr(agent_module, "FORCED_STOP_S", 0.01)
    barrier = Barrier(monkeypatch, Phase.ACTIVATE)
    machine.publish(GOOD)
    daemon.start()
    daemon.until(barrier.arrived.is_set)

    daemon.signal(signal.SIGTERM)

    assert daemon.end() == Exit.FAILED
    in_flight = daemon.in_flight
    assert in_flight is not None
    assert in_flight.clean_stop
    worker = daemon.agent._flight.worker
    assert worker is not None
    barrier.go_on.set()
    assert worker.join(PATIENCE_S)


def test_stop_that_has_to_force_a_hook_is_no_crash(
    daemon: Daemon, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent_module, "STOP_S", 0.01)
    offer = machine.publish(GOOD)
    row = flow.FLOW[Phase.ACTIVATE]
    arrived = threading.Event()

    def lasts(job: Job) -> Deployment:
        arrived.set()
        job.progress.wait(FOR_EVER_S)
        return row.do(job)

    for _ in range(3):
        monkeypatch.setitem(flow.FLOW, Phase.ACTIVATE, replace(row, do=lasts))
        arrived.clear()
        daemon.start()
        daemon.until(arrived.is_set)
        daemon.signal(signal.SIGTERM)
        assert daemon.end() == Exit.DONE
        assert machine.attempts(offer.commit) == 0

    monkeypatch.setitem(flow.FLOW, Phase.ACTIVATE, row)
    daemon.start()
    daemon.until(lambda: daemon.is_live(offer.commit))
    assert daemon.history == [("first", "succeeded", None)]


def test_stop_beside_a_poll_that_hangs_is_no_crash(
    daemon: Daemon, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent_module, "STOP_S", 0.01)
    monkeypatch.setattr(agent_module, "FORCED_STOP_S", 0.01)
    hold(daemon, machine)
    goes_on, hangs = threading.Event(), threading.Event()

    def hang(*_: object, **__: object) -> None:
        hangs.set()
        goes_on.wait(PATIENCE_S)

    monkeypatch.setattr(machine.lookout, "look", hang)
    daemon.leave(Ask.CHECK)
    daemon.until(hangs.is_set)
    daemon.signal(signal.SIGTERM)

    assert daemon.end() == Exit.FAILED
    in_flight = daemon.in_flight
    assert in_flight is not None
    assert in_flight.clean_stop
    goes_on.set()
    worker = daemon.agent._poller.worker
    assert worker is not None
    assert worker.join(PATIENCE_S)


def test_stop_on_a_disk_that_takes_no_record_is_a_stop(daemon: Daemon, machine: Machine) -> None:
    hold(daemon, machine)
    machine.disk.database.rows("PRAGMA query_only=1")

    daemon.stop()


def test_systemd_hears_nothing_while_a_worker_is_past_all_help(
    daemon: Daemon, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    barrier = Barrier(monkeypatch, Phase.ACTIVATE)
    machine.publish(GOOD)
    daemon.start()
    daemon.until(barrier.arrived.is_set)
    machine.clock.advance(flow.DEADLINE_S[Phase.ACTIVATE] + GRACE_S + 1)
    while daemon.notifier.turned.acquire(timeout=0.2):
        pass  # what was said before

    daemon.signal(signal.SIGUSR1)
    assert not daemon.notifier.turned.acquire(timeout=0.2)

    barrier.go_on.set()
    daemon.until(lambda: daemon.in_flight is None)


def test_repair_makes_room_for_a_deployment(
    daemon: Daemon, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    scans = threading.Event()

    def scan(_: object, progress: Any) -> None:  # noqa: ANN401 - a progress
        scans.set()
        progress.wait(FOR_EVER_S)

    monkeypatch.setattr("ota_agent.update.drift.look", scan)
    daemon.start()
    daemon.until(daemon.has_polled)
    daemon.until(scans.is_set)
    offer = machine.publish(GOOD)

    machine.clock.advance(1.2 * POLL_S)  # the scan is not overdue yet

    daemon.until(lambda: daemon.is_live(offer.commit))
