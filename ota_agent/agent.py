"""The loop of the daemon. READ THIS FIRST.

One thread decides: it finishes what an earlier life left, takes commands, looks after the live
tree, polls the source and deploys what is new. Long work runs on workers that it watches, so that
commands, signals and deadlines are heard in every phase. Nothing else changes the device.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, assert_never

from ota_agent import log
from ota_agent.detect.poller import Poller
from ota_agent.errors import AgentError, Crashed, SourceNotAsked, Stopped
from ota_agent.model.command import Ask, Command, Exit, Outcome
from ota_agent.model.verdict import Candidate, NoCandidate
from ota_agent.update.asks import Asks, may_try_another
from ota_agent.update.drift import DriftWatch
from ota_agent.update.supervisor import Broken, Ended, Held, Supervisor
from ota_agent.wake import Wake

if TYPE_CHECKING:
    from collections.abc import Callable

    from ota_agent.detect.lookout import Lookout
    from ota_agent.heartbeat.display import Display
    from ota_agent.heartbeat.sender import Heartbeat
    from ota_agent.host.sdnotify import Notifier
    from ota_agent.status import StatusBoard
    from ota_agent.store.mailbox import Mailbox
    from ota_agent.update.device import Device
    from ota_agent.update.manager import OTAManager
    from ota_agent.worker import Worker

_log = log.get_logger(__name__)

TICK_S = 1.0  # the wake file, and a mailbox filled by a user who may not signal
STOP_S = 20.0
FORCED_STOP_S = 8.0  # longer than a command gets between SIGTERM and SIGKILL


@dataclass(frozen=True, slots=True)
class Parts:
    """What the loop works with; `wiring` puts it together.

    Attributes:
        reset_breaker: let the next poll through, because an operator asked.

    """

    device: Device
    manager: OTAManager
    lookout: Lookout
    mailbox: Mailbox
    display: Display
    board: StatusBoard
    heartbeat: Heartbeat
    notifier: Notifier
    reset_breaker: Callable[[], None]
    close: Callable[[], None]


class Agent:
    """One device's agent."""

    def __init__(self, parts: Parts) -> None:
        """Run the device that `parts` are wired for."""
        self._parts = parts
        self._clock = parts.device.clock
        self._wake = Wake()
        self._asks = Asks(parts.device, parts.manager, parts.mailbox)
        call, paths = self._wake.call, parts.device.disk.paths
        self._poller = Poller(parts.lookout, self._clock, call, parts.device.config, paths)
        self._drift = DriftWatch(parts.device, call)
        journal, interval_s = parts.device.disk.journal, self._poller.interval_s
        self._flight = Supervisor(parts.manager, journal, self._clock, call, interval_s)

    def run(self) -> int:
        """Run as the daemon until SIGTERM or SIGINT; gives the exit code."""
        self._start()
        while not self._wake.is_stopping:
            self._turn()
            self._sleep()
        return self._stop()

    def run_once(self) -> Outcome:
        """Finish what is left, look once, deploy what is new; the last deployment's outcome."""
        return self.execute(Command(Ask.UPDATE, asked_by="run --once"))

    def execute(self, command: Command) -> Outcome:
        """Carry out one command without a daemon."""
        self._start()
        pending = self._asks.add(command)
        self._turn()
        while self._asks.are_open and not self._wake.is_stopping:
            self._sleep()
            self._turn()
        self._stop()
        return pending.outcome or Outcome(Exit.FAILED, "stopped; the next run goes on")

    def close(self) -> None:
        """Let go of the work_dir."""
        self._parts.close()

    def _start(self) -> None:
        self._wake.listen()
        self._flight.resume()
        self._asks.resume(self._flight.deployment)
        self._parts.display.refresh()
        self._parts.heartbeat.start()
        self._parts.notifier.ready()
        device = self._parts.device
        _log.info("agent started", device=device.device_id, live=device.disk.releases.live())

    def _stop(self) -> int:
        """End at the next safe point, in bounded time; a phase that is cut short is no crash."""
        self._parts.notifier.stopping()
        reason, workers = Stopped("the agent was asked to end"), self._workers()
        for timeout_s, is_forced in ((STOP_S, False), (FORCED_STOP_S, True)):
            for worker in workers:
                worker.end(reason, forced=is_forced)
            until = self._clock.monotonic() + timeout_s
            workers = [w for w in workers if not w.join(until - self._clock.monotonic())]
        try:
            self._parts.manager.stopped()
        except AgentError as error:
            _log.warning("stop not written", code=error.code, error=error.message)
        self._parts.display.leave()
        self._parts.heartbeat.stop(timeout_s=5.0)
        _log.info("agent stopped", hanging=[worker.phase for worker in workers])
        return Exit.FAILED if workers else Exit.DONE

    # --- one turn of the loop --------------------------------------------------------------------

    def _turn(self) -> None:
        """Do what there is to do now."""
        try:
            self._hear()
            self._watch_deployment()
            self._watch_poll()
            self._drift.watch()
            self._begin_deployment()
            self._begin_poll()
            if self._flight.leaves_live_alone:
                self._drift.begin_if_due()
            self._parts.display.refresh()
            self._keep_alive()
        except AgentError as error:
            # The disk took no record: nothing is decided, the next turn tries.
            _log.warning("turn cut short", code=error.code, error=error.message)
            self._asks.turn_failed(error, is_flying=self._flight.worker is not None)
        except Exception as error:  # noqa: BLE001 - a bug must not end the updates for good
            _log.exception("unexpected failure, going on", error=repr(error))
            failure = Crashed(f"unexpected failure: {error!r}")
            self._asks.turn_failed(failure, is_flying=not self._flight.survive())

    def _hear(self) -> None:
        for number, command in self._parts.mailbox.take():
            _log.info("command received", command=command.ask, asked_by=command.asked_by)
            self._asks.add(command, number)
        for pending in self._asks.new():
            match pending.command.ask:
                case Ask.ROLLBACK if self._flight.is_stuck:
                    self._asks.refuse_rollbacks()
                case Ask.ROLLBACK:
                    if not self._asks.asks_again(pending):
                        self._flight.make_way("the operator rolls back")
                case Ask.RETRY:
                    self._asks.retry(pending)
                    self._poller.hurry()
                case Ask.CHECK:
                    self._poller.hurry()
                case Ask.UPDATE:
                    self._poller.hurry()
                    self._flight.hurry()
        self._poller.heed_wake_file()

    # --- deployments -----------------------------------------------------------------------------

    def _begin_deployment(self) -> None:
        if self._flight.is_idle:
            rollback = self._asks.begin_rollback()
            if rollback is not None:
                self._flight.take(rollback)
        if not self._flight.is_due:
            return
        if self._drift.worker is not None:
            # Only one hand at a time changes what is live: a repair makes room for a deployment.
            self._drift.worker.end(Stopped("a deployment is due"))
            return
        self._flight.begin_if_due()

    def _watch_deployment(self) -> None:
        worker = self._flight.worker
        if worker is not None:
            self._parts.board.moved(worker.done_bytes, worker.total_bytes)
        if self._flight.waits_no_more:
            self._parts.display.goes_on()
        match self._flight.watch():
            case None:
                return
            case Held(deployment, reason):
                self._parts.display.waits(str(reason), reason.until, reason.owner)
                if not isinstance(reason, SourceNotAsked):  # the poll under way will answer
                    self._asks.held(deployment, reason)
            case Broken(error):
                self._asks.deployment_failed(error)
            case Ended() as news:
                self._ended(news)
            case _ as never:
                assert_never(never)

    def _ended(self, news: Ended) -> None:
        ended, display = news.deployment, self._parts.display
        display.goes_on()
        display.deployment_ended(ended)
        self._parts.heartbeat.hurry()
        self._drift.hurry()
        last_phase = self._parts.device.disk.journal.last_phase(ended)
        self._asks.ended(ended, last_phase, is_own=news.is_own)
        goes_on = not news.is_own or news.made_way or may_try_another(ended)
        if goes_on or self._asks.wants_poll:
            self._poller.hurry()

    # --- polls -----------------------------------------------------------------------------------

    def _begin_poll(self) -> None:
        # Once the live tree is being changed, the answer of a poll would only have to wait.
        has_use = self._flight.is_idle or self._flight.is_replaceable or self._asks.wants_check
        if not has_use or not self._poller.is_due:
            return
        if not self._parts.device.clock_is_set():
            # Every certificate would be refused. The way back needs no clock: nothing else waits.
            reason = "the clock is not set: it shows a year before 2020"
            self._parts.display.waits(reason, is_odd=True)
            self._poller.wait_for_clock()
            return
        is_asked = self._asks.wants_poll
        if is_asked:
            self._parts.reset_breaker()
        self._poller.begin(fresh=is_asked, accept_deletions=self._asks.accepts_deletions)

    def _watch_poll(self) -> None:
        match self._poller.watch():
            case None:
                return
            case AgentError() as error:
                self._parts.display.source_failed(error)
                self._asks.poll_failed(error)
            case NoCandidate() as verdict:
                self._source_answered()
                self._parts.display.nothing_new(verdict)
                self._asks.nothing(verdict, is_idle=self._flight.is_idle)
            case Candidate() as candidate:
                self._source_answered()
                self._deploy(candidate)
            case _ as never:
                assert_never(never)

    def _source_answered(self) -> None:
        self._parts.display.source_answered()
        if self._flight.is_idle:
            self._parts.display.goes_on()
        self._flight.hurry()  # what waits is asked whether it is still wanted

    def _deploy(self, candidate: Candidate) -> None:
        notes = self._asks.notes_for_update()
        self._asks.candidate(candidate)
        deployment = self._flight.deployment
        if deployment is None:
            self._flight.take(self._parts.manager.begin(candidate, notes))
        elif deployment.commit != candidate.offer.commit and self._flight.is_replaceable:
            self._flight.make_way(f"{candidate.offer.name} is newer")

    # --- the rest --------------------------------------------------------------------------------

    def _keep_alive(self) -> None:
        """Tell systemd that the loop turns; not when a worker is past all help."""
        if not any(worker.is_beyond_help for worker in self._workers()):
            self._parts.notifier.keepalive()

    def _workers(self) -> list[Worker]:
        workers = (self._drift.worker, self._poller.worker, self._flight.worker)
        return [worker for worker in workers if worker is not None]

    def _sleep(self) -> None:
        """Sleep until something happens or is due."""
        self._wake.wait(self._pause_s())

    def _pause_s(self) -> float:
        moments = [self._poller.due_at, self._drift.due_at]
        if self._flight.deployment is not None:
            moments.append(self._flight.due_at)
        due_s = min(moments) - self._clock.monotonic()
        # What is due and has not begun waits for a worker, which wakes the loop when it ends.
        return TICK_S if due_s <= 0 else min(TICK_S, due_s)
