"""The update flow as one table, and the rules that choose a row: pure decisions, no I/O."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from ota_agent.errors import AgentError, BackupUnusable, ConnectivityLost, ReleaseRejected
from ota_agent.model.deployment import Deployment, Kind, Phase
from ota_agent.update import hooks, steps

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ota_agent.update.device import Job

P = Phase


@dataclass(frozen=True, slots=True)
class Row:
    """What a phase does, and where the flow goes from it."""

    do: Callable[[Job], Deployment]
    ok: Phase
    failed: Phase
    crashed: Phase


FLOW: Final[Mapping[Phase, Row]] = {
    #                do              ok              failed         crashed
    P.FETCH:     Row(steps.fetch,    P.VERIFY,       P.DISCARD,     P.FETCH),
    P.VERIFY:    Row(steps.verify,   P.STAGE,        P.DISCARD,     P.VERIFY),
    P.STAGE:     Row(steps.stage,    P.HOLD,         P.DISCARD,     P.STAGE),
    P.HOLD:      Row(steps.hold,     P.BACKUP,       P.DISCARD,     P.HOLD),
    P.BACKUP:    Row(steps.backup,   P.ACTIVATE,     P.DISCARD,     P.BACKUP),
    # The live tree changes from here on: whatever goes wrong, put it back.
    P.ACTIVATE:  Row(steps.activate, P.CONFIRM,      P.RESTORE,     P.RESTORE),
    P.CONFIRM:   Row(steps.confirm,  P.COMMIT,       P.RESTORE,     P.CONFIRM),
    # The verdict is one transaction and is retried; pruning after it never fails an update.
    P.COMMIT:    Row(steps.commit,   P.SUCCEEDED,    P.COMMIT,      P.COMMIT),
    P.DISCARD:   Row(steps.discard,  P.ABANDONED,    P.ABANDONED,   P.DISCARD),
    P.RESTORE:   Row(steps.restore,  P.ROLLED_BACK,  P.STUCK,       P.RESTORE),
}  # fmt: skip

# Seconds without progress after which a phase fails. FETCH's is on bytes, not on the total: a slow
# link must be able to finish. HOLD waits by design, CONFIRM bounds itself by its probation.
DEADLINE_S: Final[Mapping[Phase, float]] = {
    P.FETCH: 120,
    P.VERIFY: 300,
    P.STAGE: 300,
    P.HOLD: 900,
    P.BACKUP: 300,
    P.ACTIVATE: 900,
    P.CONFIRM: 300,
    P.COMMIT: 300,
    P.DISCARD: 300,
    P.RESTORE: 900,
}

# What a command or a probe may take beyond its limit to be killed and cleared away.
COMMAND_GRACE_S: Final = 60.0

MAX_CRASHES: Final = 3
CRASH_BACKOFF: Final = timedelta(minutes=10)
FAILURE_BACKOFF: Final = timedelta(minutes=10)
LONGEST_BACKOFF: Final = timedelta(days=1)
FAILURES_BEFORE_BACKOFF: Final = 3


def deadline_s(phase: Phase, *, command_s: float) -> float:
    """Give how long a phase may go without progress; its commands and probes bound themselves.

    `command_s` is the longest that one of them may take.
    """
    return max(DEADLINE_S[phase], command_s + COMMAND_GRACE_S)


def after_crash(deployment: Deployment, attempts: int) -> Phase:
    """Choose the phase for a deployment whose agent went down inside its phase.

    `deployment.crashes` counts this crash in; `attempts` are the crashed activations of the tree,
    this one included.
    """
    row = FLOW[deployment.phase]
    worn_out = deployment.crashes >= MAX_CRASHES
    if deployment.phase is P.CONFIRM and attempts >= MAX_CRASHES:
        worn_out = True
    return row.failed if worn_out else row.crashed


def only_waits(deployment: Deployment) -> bool:
    """Tell whether going down says nothing about a deployment: in HOLD, with no hook at work."""
    return deployment.phase is P.HOLD and not hooks.is_suspected(deployment)


def after_failure(phase: Phase, error: AgentError) -> Phase:
    """Choose the phase after one that failed.

    COMMIT is tried again, unless somebody keeps the live link elsewhere.
    """
    if phase is P.COMMIT and isinstance(error, BackupUnusable):
        return P.RESTORE
    return FLOW[phase].failed


def counts_as_attempt(deployment: Deployment, error: AgentError | None) -> bool:
    """Tell whether this failure (None: a crash) adds to the attempts of the tree."""
    if error is None:
        return deployment.phase in {P.ACTIVATE, P.CONFIRM}
    return isinstance(error, ConnectivityLost)


def crash_backoff(attempts: int) -> timedelta | None:
    """Give how long content that took the device down waits: the second attempt not at all."""
    if attempts < 2:  # noqa: PLR2004 - the second attempt may start at once
        return None
    return min(CRASH_BACKOFF * (1 << min(attempts - 2, 16)), LONGEST_BACKOFF)


def failure_backoff(count: int) -> timedelta | None:
    """Give how long a commit that failed without blame waits, growing up to a day."""
    if count < FAILURES_BEFORE_BACKOFF:
        return None
    doubled = 1 << min(count - FAILURES_BEFORE_BACKOFF, 16)
    return min(FAILURE_BACKOFF * doubled, LONGEST_BACKOFF)


def is_spared(deployment: Deployment, *, has_succeeded_here: bool) -> bool:
    """Tell whether the release is never quarantined, however this deployment goes.

    One that once succeeded on this device does not lose its good name to a failing rollback.
    """
    return deployment.kind is Kind.ROLLBACK and has_succeeded_here


def is_blamed(deployment: Deployment, error: AgentError, *, has_succeeded_here: bool) -> bool:
    """Tell whether this failure quarantines the release: its class decides, not the phase."""
    is_rejected = isinstance(error, ReleaseRejected)
    return is_rejected and not is_spared(deployment, has_succeeded_here=has_succeeded_here)
