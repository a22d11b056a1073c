"""Supervisor: the deployment in flight and the worker that carries it, as the loop sees them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from ota_agent import log
from ota_agent.errors import AgentError, NotYet, Stopped, Superseded
from ota_agent.model.deployment import Phase
from ota_agent.worker import PhaseProgress, Worker

if TYPE_CHECKING:
    from collections.abc import Callable

    from ota_agent.model.deployment import Deployment
    from ota_agent.ports import Clock
    from ota_agent.store.journal import Journal
    from ota_agent.update.manager import OTAManager

_log = log.get_logger(__name__)

BROKEN_RETRY_S = 10.0
STUCK_RETRY_S = 600.0
FIRST_DEADLINE_S = 300.0


@dataclass(frozen=True, slots=True)
class Ended:
    """A deployment came to its end.

    Attributes:
        is_own: this process began it.
        made_way: for a newer one, or for a rollback by hand.

    """

    deployment: Deployment
    is_own: bool
    made_way: bool


@dataclass(frozen=True, slots=True)
class Held:
    """A deployment has to wait."""

    deployment: Deployment | None
    reason: NotYet


@dataclass(frozen=True, slots=True)
class Broken:
    """A deployment can neither go on nor end now; it is tried again."""

    error: AgentError


News: TypeAlias = Ended | Held | Broken


class Supervisor:
    """At most one deployment, on at most one worker."""

    def __init__(
        self,
        manager: OTAManager,
        journal: Journal,
        clock: Clock,
        wake: Callable[[], None],
        interval_s: Callable[[], float],
    ) -> None:
        """Have `manager` deploy; what waits without a term is asked again each interval."""
        self._manager = manager
        self._journal = journal
        self._clock = clock
        self._wake = wake
        self._interval_s = interval_s
        self._worker: Worker | None = None
        self._is_own = False
        self._made_way = False
        self._has_bug = False
        self.deployment: Deployment | None = None
        self.due_at = clock.monotonic()

    @property
    def worker(self) -> Worker | None:
        """The worker that carries the deployment; None while it waits."""
        return self._worker

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing in flight."""
        return self.deployment is None and self._worker is None

    @property
    def leaves_live_alone(self) -> bool:
        """Whether nobody is at what is live, nor was since a deployment began: it may only wait."""
        return self._worker is None and (self.deployment is None or self.is_replaceable)

    @property
    def is_stuck(self) -> bool:
        """Whether the way back failed: nothing new goes live before it succeeds."""
        return self.deployment is not None and self.deployment.phase is Phase.STUCK

    @property
    def is_replaceable(self) -> bool:
        """Whether the deployment has not touched what is live."""
        if self.deployment is None:
            return False
        phase = self.deployment.phase
        if self._worker is not None and self._worker.has_phase:
            phase = Phase(self._worker.phase)
        return phase.leaves_live_alone

    @property
    def waits_no_more(self) -> bool:
        """Whether a worker is at it, and not only asking whether it may go on."""
        worker = self._worker
        return worker is not None and worker.has_phase and worker.phase != Phase.HOLD

    def resume(self) -> None:
        """Find what an earlier life left."""
        self.deployment = self._manager.resume()

    def take(self, deployment: Deployment) -> None:
        """Carry out a deployment that was begun just now."""
        self.deployment, self._is_own, self._made_way = deployment, True, False
        self.due_at = self._clock.monotonic()

    def hurry(self) -> None:
        """Ask a deployment that waits again as soon as possible."""
        self.due_at = self._clock.monotonic()

    @property
    def is_due(self) -> bool:
        """Whether a deployment should be put on a worker now."""
        may_begin = self.deployment is not None and self._worker is None
        return may_begin and self._clock.monotonic() >= self.due_at

    def begin_if_due(self) -> None:
        """Put the deployment on a worker when its time has come."""
        deployment = self.deployment
        if deployment is not None and self.is_due:
            self._worker = Worker(
                "deploy",
                lambda work: self._deploy(deployment, work),
                self._wake,
                self._clock,
                deadline_s=FIRST_DEADLINE_S,
            )
            self._worker.start()

    def watch(self) -> News | None:
        """Look after the worker; tell what came of it, once."""
        worker = self._worker
        if worker is None:
            return None
        worker.watch()
        if not worker.is_done:
            return None
        self._worker, self._has_bug = None, worker.has_bug
        now = self._clock.monotonic()
        # Should the result be a bug's, this is where the loop finds the deployment again.
        self.deployment, self.due_at = self._journal.in_flight(), now + BROKEN_RETRY_S
        try:
            ended: Deployment = worker.result()
        except NotYet as reason:
            pause_s = self._interval_s()
            if reason.until is not None:
                pause_s = max(0.0, (reason.until - self._clock.now()).total_seconds())
            self.due_at = now + pause_s
            return Held(self.deployment, reason)
        except Stopped:
            return None
        except AgentError as error:
            # The journal itself could not be written: nothing is decided, the phase runs again.
            _log.error("deployment cannot go on now", code=error.code, error=error.message)
            return Broken(error)
        self.due_at = now + STUCK_RETRY_S
        return Ended(ended, self._is_own, self._made_way)

    def make_way(self, reason: str) -> None:
        """End a deployment that has not touched what is live; a later one comes to its own end."""
        if self.deployment is None or self._made_way or not self.is_replaceable:
            return
        self._made_way = True
        if self._worker is not None:
            self._worker.end(Superseded(reason))
        else:
            self.deployment = self._manager.supersede(self.deployment, reason)
        self.due_at = self._clock.monotonic()

    def survive(self) -> bool:
        """After a bug of the worker: the table's column for a crash decides, its patience ends.

        A bug of the loop says nothing about the deployment. Tells whether none is on a worker.
        """
        has_bug, self._has_bug = self._has_bug, False
        try:
            if has_bug and self.deployment is not None:
                self.deployment = self._manager.crashed(self.deployment)
        except AgentError as error:
            _log.warning("crash not counted", code=error.code, error=error.message)
        return self._worker is None

    def _deploy(self, deployment: Deployment, work: PhaseProgress) -> Deployment:
        if deployment.phase is Phase.STUCK:
            deployment = self._manager.resume() or deployment
        return self._manager.deploy(deployment, work)
