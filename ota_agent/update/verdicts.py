"""What an outcome changes beyond the deployment itself: blame, attempts, marks, last good release.

Each method gives the statements that belong into the deployment's own transaction, and writes
trust.json before it where a refusal is added: a power cut between the two leaves the stricter one.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ota_agent import log
from ota_agent.errors import (
    AgentError,
    Crashed,
    DiskFull,
    ReleaseRefused,
    RolledBackByOperator,
    Superseded,
    TakesDeviceDown,
)
from ota_agent.model.deployment import Deployment, Kind, Phase
from ota_agent.model.moment import maybe_text
from ota_agent.model.release import release_id
from ota_agent.model.trust import Entry, Mark
from ota_agent.store import records, space
from ota_agent.store.records import Failures
from ota_agent.update import flow

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Mapping

    from ota_agent.store.memory import Memory
    from ota_agent.update.device import Device

    Change = Callable[[sqlite3.Connection], None]

_log = log.get_logger(__name__)

LAST_GOOD = "last_good"


class Verdicts:
    """Knows what follows from how a deployment went."""

    def __init__(self, device: Device, memory: Memory) -> None:
        """Decide for `device`; `memory` is what outlives its database."""
        self._device = device
        self._memory = memory

    def of_success(self, deployment: Deployment) -> list[Change]:
        """Raise the mark, remember the release as good, forgive it; quarantine what was left."""
        now = self._device.clock.now()
        release = self._device.release(deployment.release)
        assert release is not None  # noqa: S101 - STAGE has saved it
        good = replace(release, live_at=now, succeeded_at=release.succeeded_at or now)
        changes: list[Change] = [
            lambda transaction: records.save_release(transaction, good),
            lambda transaction: records.put_state(transaction, LAST_GOOD, good.id),
            lambda transaction: records.forgive(
                transaction, commit=deployment.commit, tree=deployment.tree
            ),
        ]
        if deployment.kind is Kind.ROLLBACK:
            changes += self._leave_by_hand(deployment)
        else:
            project = deployment.notes.get("project", self._device.source.project)
            channel = deployment.notes.get("channel", self._device.channel)
            mark = self._mark(deployment, project, channel)
            changes.append(
                lambda transaction: records.set_mark(transaction, project, channel, mark)
            )
        return changes

    def of_failure(self, deployment: Deployment, error: AgentError) -> list[Change]:
        """Quarantine what is to blame, count what is not; `deployment` as it was before `error`."""
        if flow.is_blamed(deployment, error, has_succeeded_here=self._has_succeeded(deployment)):
            return [self._quarantine(deployment, error)]
        changes: list[Change] = []
        if flow.counts_as_attempt(deployment, error) and deployment.tree is not None:
            attempts, change = self.one_more_attempt(deployment.tree)
            changes.append(change)
            if attempts >= flow.MAX_CRASHES and not self._is_spared(deployment):
                changes.append(self._quarantine(deployment, error, attempts=attempts))
        if deployment.error is None and deployment.kind is not Kind.ROLLBACK:
            changes += self._one_more_failure(deployment, error)
        return changes

    def one_more_attempt(self, tree: str) -> tuple[int, Change]:
        """Count a crashed activation of this content; gives the new count."""
        attempts = records.attempts(self._device.disk.database, tree) + 1
        backoff = flow.crash_backoff(attempts)
        not_before = None if backoff is None else self._device.clock.now() + backoff
        return attempts, lambda transaction: records.set_attempts(
            transaction, tree, attempts, not_before
        )

    def of_crash(self, deployment: Deployment, crash: Crashed, attempts: int) -> list[Change]:
        """Quarantine content that the device went down with once too often, or count a failure."""
        is_untouched = flow.FLOW[deployment.phase].failed is Phase.DISCARD
        if is_untouched and deployment.kind is not Kind.ROLLBACK:
            # Else what takes the agent down before it is live would be tried for ever, at once.
            return self._one_more_failure(deployment, crash)
        if attempts < flow.MAX_CRASHES or self._is_spared(deployment):
            return []
        error = TakesDeviceDown(f"the device went down {attempts} times with this release")
        return [self._quarantine(deployment, error, attempts=attempts)]

    def is_unproven(self, deployment: Deployment) -> None:
        """Say in trust.json that what goes live now has not proved itself."""
        self._memory.remember_unproven(deployment)

    def ended(self, deployment: Deployment) -> None:
        """Bring trust.json up to date once the ending is on disk.

        A stuck deployment may have left its release live: that has still not proved itself.
        """
        if deployment.phase is Phase.STUCK:
            return
        try:
            self._memory.remember()
        except AgentError as error:
            # The verdict stands; until the next start the file is only stricter than it need be.
            _log.warning("trust.json not updated", deployment=deployment.id, error=error.message)

    def forgive(self, refused: Mapping[str, str]) -> None:
        """Lift what speaks against these trees and commits."""
        now = self._device.clock.now()
        with self._device.disk.database.transaction() as transaction:
            for key, name in refused.items():
                records.lift_quarantine(transaction, key)
                records.forgive(transaction, commit=key, tree=key)
                records.add_event(transaction, "release.lifted", now, {"release": name})
        self._memory.remember_lift(refused)

    def _is_spared(self, deployment: Deployment) -> bool:
        return flow.is_spared(deployment, has_succeeded_here=self._has_succeeded(deployment))

    def _mark(self, deployment: Deployment, project: str, channel: str) -> Mark:
        """Raise the mark to a deployment; what its version is called is not forgotten."""
        known = records.marks(self._device.disk.database).get((project, channel))
        version = deployment.version
        if version is None and known is not None and known.commit == deployment.commit:
            version = known.version
        return Mark(deployment.commit, version)

    def _has_succeeded(self, deployment: Deployment) -> bool:
        known = self._device.release(deployment.release)
        return known is not None and known.succeeded_at is not None

    def _leave_by_hand(self, deployment: Deployment) -> list[Change]:
        left = self._device.release(deployment.from_release)
        if left is None or left.tree == deployment.tree or deployment.notes.get("allow_again"):
            return []
        error = RolledBackByOperator(f"the operator went back to {deployment.release}")
        return [self._quarantine_content(left.tree, left.id, left.commit, error, 0)]

    def _quarantine(
        self, deployment: Deployment, error: AgentError, *, attempts: int = 1
    ) -> Change:
        # Refused before its tree was read (a tag object that lies, a tree that git itself refuses):
        # the commit stands for the content, or it would be fetched again at once, for ever.
        return self._quarantine_content(
            deployment.tree or deployment.commit,
            deployment.release or _would_be(deployment),
            deployment.commit,
            error,
            attempts,
        )

    def _quarantine_content(
        self, tree: str, release: str, commit: str, error: AgentError, attempts: int
    ) -> Change:
        entry = Entry(
            release=release,
            code=error.code,
            message=error.message,
            commits=(commit,),
            at=self._device.clock.now(),
            attempts=attempts,
        )
        self._memory.remember_refusal(tree, entry)
        return lambda transaction: records.add_quarantine(transaction, tree, entry)

    def _one_more_failure(self, deployment: Deployment, error: AgentError) -> list[Change]:
        # What was superseded or refused is not tried again as it is.
        if isinstance(error, Superseded | ReleaseRefused):
            return []
        before = records.failures(self._device.disk.database).get(deployment.commit)
        count = 1 + (before.count if before else 0)
        backoff = flow.failure_backoff(count)
        is_full = isinstance(error, DiskFull)
        failures = Failures(
            count=count,
            not_before=None if backoff is None else self._device.clock.now() + backoff,
            wasted_bytes=deployment.bytes_fetched + (before.wasted_bytes if before else 0),
            code=error.code,
            # After ENOSPC the same commit is tried again only when there is more space than now.
            free_bytes=space.free(self._device.disk.paths.work_dir).bytes if is_full else None,
        )
        _log.warning(
            "deployment failed, not the release's fault", commit=deployment.commit, failures=count,
            not_before=maybe_text(failures.not_before), wasted_bytes=failures.wasted_bytes,
        )  # fmt: skip
        return [lambda transaction: records.set_failures(transaction, deployment.commit, failures)]


def _would_be(deployment: Deployment) -> str:
    """Name what was refused before it had an id: by it a person finds it, and lifts it."""
    return release_id(
        version=deployment.version,
        ref=deployment.ref,
        commit=deployment.commit,
        tree=deployment.tree or deployment.commit,
    )
