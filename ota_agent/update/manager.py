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
    DatabaseBusy,
    DiskFault,
    DiskFull,
    ReleaseRefused,
    ReleaseRejected,
    StoreDamaged,
    Superseded,
)
from ota_agent.model.deployment import STUCK, Deployment, Failure, Kind, Phase
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

JOURNAL_RETRY_S = 5.0
JOURNAL_TRIES = 12  # SQLite waits 10 s in each: three minutes
# Phases in which damaged objects mean that the store is to be fetched again.
REBUILD = frozenset({Phase.FETCH, Phase.VERIFY, Phase.STAGE})
# Phases that run neither a command nor a probe.
UNCOMMANDED = REBUILD | {Phase.COMMIT, Phase.DISCARD}


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
                # The mark that a success raises is that of what was followed when it began.
                notes={
                    **notes,
                    "project": self._device.source.project,
                    "channel": self._device.channel,
                },
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
        # A restart on a full disk must not keep a bad release live either.
        return self._device.disk.ballast.relieve(lambda: self._resumed(deployment))

    def _resumed(self, deployment: Deployment) -> Deployment:
        if deployment.phase is Phase.STUCK:
            return self._journal.enter(deployment, Phase.RESTORE)
        if deployment.clean_stop or flow.only_waits(deployment):
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
        if phase is Phase.STUCK:
            deployment = _with_cause(deployment, error)
        deployment = self._with_error(deployment, error)
        also += self._verdicts.of_crash(deployment, error, attempts)
        return self._enter(deployment, phase, *also)

    def supersede(self, deployment: Deployment, reason: str) -> Deployment:
        """Turn a deployment that waits, and whose live tree is untouched, towards its end."""
        return self._failed(deployment, flow.FLOW[deployment.phase].failed, Superseded(reason))

    def stopped(self) -> None:
        """Write that the agent was asked to end: the next start goes on, and counts no crash."""
        self._device.disk.ballast.relieve(self._journal.stopped)

    def forgive(self, refused: Mapping[str, str]) -> None:
        """Lift what speaks against these trees and commits, see `names.find_refused`."""
        self._verdicts.forgive(refused)

    def _step(self, deployment: Deployment, progress: PhaseProgress) -> Deployment:
        row = flow.FLOW[deployment.phase]
        job = Job(deployment, self._device, progress)
        _log.info("phase begins", deployment=deployment.id, phase=deployment.phase)
        try:
            progress.begin(deployment.phase, self._deadline_s(job))
            return self._done(row.do(job), row, progress)
        except DatabaseBusy:
            raise  # somebody holds it: that says nothing about the phase, which is run again
        except AgentError as error:
            return self._not_done(job, error)
        except OSError as error:
            # A file that has to be there is not: the disk's failure, and no bug.
            return self._not_done(job, DiskFault(f"the disk is not as it was left: {error}"))

    def _done(self, done: Deployment, row: flow.Row, progress: PhaseProgress) -> Deployment:
        """Write that a step is done; a journal that takes no record now does not undo the step."""

        def write() -> Deployment:
            also = self._verdicts.of_success(done) if row.ok is Phase.SUCCEEDED else []
            return self._enter(done, row.ok, *also)

        tries = 1
        while True:
            try:
                if row.failed in {Phase.DISCARD, done.phase}:
                    return write()
                return self._device.disk.ballast.relieve(write)
            except DiskFault:
                if tries == JOURNAL_TRIES:
                    raise
                tries += 1
                progress.wait(JOURNAL_RETRY_S)

    def _not_done(self, job: Job, error: AgentError) -> Deployment:
        phase = job.deployment.phase
        failed = flow.after_failure(phase, error)
        _log.warning(
            "phase failed", deployment=job.deployment.id, phase=phase,
            code=error.code, error=error.message,
        )  # fmt: skip
        is_last_resort = failed in {phase, Phase.STUCK}
        if is_last_resort and isinstance(error, DiskFull) and self._device.disk.ballast.drop():
            return job.deployment  # at once, before somebody else takes the space
        if failed is phase:
            job.progress.wait(JOURNAL_RETRY_S)
            return job.deployment
        if isinstance(error, StoreDamaged) and phase in REBUILD:
            # A healthy store is what kept releases are compared with: one release that lacks
            # something must not cost it.
            objects = self._device.disk.objects
            if objects.is_damaged(job.progress):
                objects.set_aside()
        return self._failed(job.deployment, failed, error)

    def _deadline_s(self, job: Job) -> float:
        if job.deployment.phase in UNCOMMANDED:
            return flow.DEADLINE_S[job.deployment.phase]
        probes = [*job.known_manifest(job.deployment.release).probes]
        probes += job.known_manifest(job.deployment.from_release).probes
        commands_s = [self._device.config.commands.timeout_s, *(p.timeout_s for p in probes)]
        return flow.deadline_s(job.deployment.phase, command_s=max(commands_s))

    def _failed(self, deployment: Deployment, phase: Phase, error: AgentError) -> Deployment:
        """Write down who is to blame before anything is undone."""
        if phase is Phase.STUCK:
            deployment = _with_cause(deployment, error)
        if deployment.error is None:
            blames = next(
                root.__name__ for root in (ReleaseRejected, ReleaseRefused, AgentError)
                if isinstance(error, root)
            )  # fmt: skip
            deployment = replace(deployment, notes={**deployment.notes, "blames": blames})
        failed = self._with_error(deployment, error)
        # A full disk must not keep a bad release live for want of a few bytes.
        return self._device.disk.ballast.relieve(
            lambda: self._enter(failed, phase, *self._verdicts.of_failure(deployment, error))
        )

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


def _with_cause(deployment: Deployment, error: AgentError) -> Deployment:
    """Say what keeps the device stuck; the first failure stays the deployment's error."""
    cause = {"code": error.code, "message": error.message, "hint": error.hint}
    return replace(deployment, notes={**deployment.notes, STUCK: cause})
