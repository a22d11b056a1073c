"""Answers: what a person or a script is told of how a command went."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ota_agent.model import history
from ota_agent.model.command import Exit, Outcome
from ota_agent.model.deployment import Phase

if TYPE_CHECKING:
    from ota_agent.errors import AgentError, NotYet
    from ota_agent.model.deployment import Deployment
    from ota_agent.model.verdict import Candidate, NoCandidate


def candidate(found: Candidate) -> Outcome:
    """Tell that there is something to deploy."""
    offer = found.offer
    return Outcome(
        Exit.DONE,
        f"{offer.name} (commit {offer.commit[:12]}) is to be deployed",
        {"candidate": {"commit": offer.commit, "ref": offer.ref, "kind": found.kind.value}},
    )


def nothing(verdict: NoCandidate) -> Outcome:
    """Give the outcome of a poll that found nothing to deploy."""
    return Outcome(
        Exit.NOTHING,
        verdict.message,
        {
            "reason": verdict.reason.value,
            "hint": verdict.hint,
            "commit": verdict.offer and verdict.offer.commit,
        },
    )


def failed(error: AgentError) -> Outcome:
    """Give the outcome of what an expected failure ended."""
    data = {"code": error.code, "hint": error.hint}
    return Outcome(Exit.FAILED, error.message, data)


def of_deployment(deployment: Deployment, last_phase: Phase) -> Outcome:
    """Give the outcome of a deployment that ended; `last_phase` is the last that was no ending."""
    data: dict[str, Any] = {"deployment": history.as_json(deployment, last_phase)}
    name = deployment.name
    if deployment.phase is Phase.SUCCEEDED:
        return Outcome(Exit.DONE, f"{name} is live", data)
    error = deployment.error
    why = "" if error is None else f": {error.message}"
    if error is not None:
        data |= {"code": error.code, "hint": error.hint}
    ending = deployment.phase.value.replace("_", " ")
    return Outcome(Exit.FAILED, f"{name} was {ending}{why}", data)


def left(deployment: Deployment) -> Outcome:
    """Tell that the agent ended before a deployment did."""
    name = deployment.name
    return Outcome(
        Exit.NO_AGENT,
        f"the {deployment.kind} to {name} was begun as {deployment.id};"
        " the next start of the agent finishes it",
        {"deployment": history.as_json(deployment, deployment.phase)},
    )


def held(deployment: Deployment | None, reason: NotYet) -> Outcome:
    """Tell that a deployment has to wait."""
    shown = None if deployment is None else history.as_json(deployment, deployment.phase)
    return Outcome(Exit.NOTHING, f"waiting: {reason}", {"reason": "waiting", "deployment": shown})
