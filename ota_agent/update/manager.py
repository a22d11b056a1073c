"""OTAManager: drives a deployment through the flow, and finishes what a crash left behind.

Each change of phase is one durable transaction together with all that it means: who is to blame,
what is quarantined, which mark rises, and the event that reports it. trust.json, which outlives a
lost database, is written before a transaction that adds a refusal and after one that lifts it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ota_agent import log
from ota_agent.errors import (
    AgentError,
    Crashed,
    DiskFull,
    ReleaseRefused,
    ReleaseRejected,
    StoreDamaged,
    Superseded,
)
from ota_agent.model.deployment import Deployment, Failure, Kind, Phase
from ota_agent.update import flow
from ota_agent.update.device import Device, Job
from ota_agent.update.retention import prune, sweep
from ota_agent.update.verdicts import Verdicts

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Mapping

    from ota_agent.model.verdict import Candidate
    from ota_agent.store.memory import Memory
    from ota_agent.worker import PhaseProgress

_log = log.get_logger(__name__)

COMMIT_RETRY_S = 5.0
# Phases in which damaged objects mean that the store is to be fetched again.
REBUILD = frozenset({Phase.FETCH, Phase.VERIFY, Phase.STAGE})


class OTAManager:
    """The one who changes what is live; used by the agent's loop only."""

    def __init__(self, device: Device, memory: Memory) -> None:
        """Drive deployments of `device`; refusals go into `memory` too."""
        self._device = device
        self._journal = device.disk.journal
        self._verdicts = Verdicts(device, memory)

    def begin(self, candidate: Candidate, notes: Mapping[str, Any]) -> Deployment:
        """Open the deployment of a candidate; `notes` tell who asked, and what they accept."""
        offer = candidate.offer
        return self._journal.begin(
            self._new(
                kind=candidate.kind,
                commit=offer.commit,
                ref=offer.ref,
                phase=Phase.FETCH,
                version=None if offer.version is None else str(offer.version),
                tag_object=offer.tag_object,
                notes=dict(notes),
            )
        )

    def begin_rollback(self, release: str, notes: Mapping[str, Any]) -> Deployment:
        """Open the deployment of a kept release, by hand: no network, no windows.

        `notes` hold asked_by, allow_again and with_data.
        """
        known = self._device.release(release)
        assert known is not None  # noqa: S101 - the agent has looked it up
        return self._journal.begin(
            self._new(
                kind=Kind.ROLLBACK,
                commit=known.commit,
                ref="",
                phase=Phase.BACKUP,
                version=known.version,
                tree=known.tree,
                release=release,
                notes=dict(notes),
            )
        )

    def deploy(self, deployment: Deployment, progress: PhaseProgress) -> Deployment:
        """Take a deployment to its end, phase by phase.

        Raises:
            NotYet: it has to wait and stays in its phase.
            Stopped: the agent was asked to end.
            AgentError: the journal itself could not be written; to be tried again.

        """
        while deployment.ending is None:
            progress.begin(deployment.phase, flow.DEADLINE_S[deployment.phase])
            deployment = self._step(deployment, progress)
        if deployment.phase is Phase.SUCCEEDED:
            prune(self._device, progress)
            self._device.disk.ballast.hold()
        elif deployment.phase is not Phase.STUCK:
            sweep(self._device)
        return deployment

    def resume(self) -> Deployment | None:
        """Find the deployment that a crash or a stop left, and choose its way on."""
        deployment = self._journal.in_flight()
        if deployment is None:
            return None
        if deployment.phase is Phase.STUCK:
            return self._journal.enter(deployment, Phase.RESTORE)
        if deployment.clean_stop:
            return self._journal.update(replace(deployment, clean_stop=False))
        return self.crashed(deployment)

    def crashed(self, deployment: Deployment) -> Deployment:
        """Take a deployment that went down inside its phase the way of the table's column."""
        if deployment.phase is Phase.STUCK:
            return deployment  # it waits, and nothing of it was at work
        deployment = replace(deployment, crashes=deployment.crashes + 1)
        tree, also, attempts = deployment.tree, [], 0
        if tree is not None and flow.counts_as_attempt(deployment, None):
            attempts, change = self._verdicts.one_more_attempt(tree)
            also.append(change)
        phase = flow.after_crash(deployment, attempts)
        error = Crashed(f"the agent or the device went down during {deployment.phase}")
        _log.warning(
            "resumed after a crash", deployment=deployment.id, phase=deployment.phase, then=phase
        )
        if phase is deployment.phase:
            return self._journal.update(deployment, *also)
        deployment = self._with_error(deployment, error)
        also += self._verdicts.of_crash(deployment, error, attempts)
        return self._enter(deployment, phase, *also)

    def supersede(self, deployment: Deployment, reason: str) -> Deployment:
        """Turn a deployment that waits, and whose live tree is untouched, towards its end."""
        return self._failed(deployment, flow.FLOW[deployment.phase].failed, Superseded(reason))

    def stopped(self) -> Deployment | None:
        """Write that the agent was asked to end: the next start goes on, and counts no crash."""
        deployment = self._journal.in_flight()
        if deployment is None or deployment.phase is Phase.STUCK:
            return deployment
        return self._journal.update(replace(deployment, clean_stop=True))

    def forgive(self, refused: Mapping[str, str]) -> None:
        """Lift what speaks against these trees and commits, see `names.find_refused`."""
        self._verdicts.forgive(refused)

    def _step(self, deployment: Deployment, progress: PhaseProgress) -> Deployment:
        row = flow.FLOW[deployment.phase]
        job = Job(deployment, self._device, progress)
        _log.info("phase begins", deployment=deployment.id, phase=deployment.phase)
        try:
            done = row.do(job)
            if row.ok is Phase.SUCCEEDED:
                return self._enter(done, row.ok, *self._verdicts.of_success(done))
            return self._enter(done, row.ok)
        except AgentError as error:
            _log.warning(
                "phase failed", deployment=deployment.id, phase=deployment.phase,
                code=error.code, error=error.message,
            )  # fmt: skip
            if row.failed is deployment.phase:
                progress.wait(COMMIT_RETRY_S)
                return job.deployment
            return self._failed(job.deployment, row.failed, error)

    def _failed(self, deployment: Deployment, phase: Phase, error: AgentError) -> Deployment:
        """Write down who is to blame before anything is undone."""
        if phase is Phase.STUCK:
            # The first failure stays the error; what keeps the device stuck has its own place.
            stuck = {"code": error.code, "message": error.message, "hint": error.hint}
            deployment = replace(deployment, notes={**deployment.notes, "stuck": stuck})
        if deployment.error is None:
            blames = next(
                root.__name__ for root in (ReleaseRejected, ReleaseRefused, AgentError)
                if isinstance(error, root)
            )  # fmt: skip
            deployment = replace(deployment, notes={**deployment.notes, "blames": blames})
        if isinstance(error, StoreDamaged) and deployment.phase in REBUILD:
            self._device.disk.objects.set_aside()
        failed = self._with_error(deployment, error)
        try:
            return self._enter(failed, phase, *self._verdicts.of_failure(deployment, error))
        except DiskFull:
            # A full disk must not keep a bad release live for want of a few bytes.
            if not self._device.disk.ballast.drop():
                raise
            return self._enter(failed, phase, *self._verdicts.of_failure(deployment, error))

    def _enter(
        self,
        deployment: Deployment,
        phase: Phase,
        *also: Callable[[sqlite3.Connection], None],
    ) -> Deployment:
        if phase is Phase.ACTIVATE:
            self._verdicts.is_unproven(deployment)
        entered = self._journal.enter(deployment, phase, *also)
        if phase.is_ending:
            self._verdicts.ended(entered)
            _log.info(
                "deployment ended", deployment=entered.id, release=entered.release,
                ending=entered.phase, code=entered.error and entered.error.code,
            )  # fmt: skip
        return entered

    def _with_error(self, deployment: Deployment, error: AgentError) -> Deployment:
        """Keep the first failure: a failing undo never hides it."""
        if deployment.error is not None:
            return deployment
        failure = Failure(error.code, error.message, error.hint, self._device.clock.now())
        return replace(deployment, error=failure)

    def _new(self, **fields: object) -> Deployment:
        now = self._device.clock.now()
        releases = self._device.disk.releases
        return Deployment(
            id="",
            started_at=now,
            entered_at=now,
            from_release=releases.live(),
            from_previous=releases.previous(),
            **fields,  # type: ignore[arg-type]  # the two callers above name real fields
        )
