"""One deployment as `history --json`, status and reports show it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ota_agent.model.moment import maybe_text, to_text

if TYPE_CHECKING:
    from ota_agent.model.deployment import Deployment, Failure, Phase


def as_json(deployment: Deployment, last_phase: Phase) -> dict[str, Any]:
    """Give a deployment as JSON values; `last_phase` is the last one that was no ending."""
    finished = deployment.finished_at
    duration_s = None
    if finished is not None:
        # The wall clock may have been set back meanwhile.
        duration_s = max(0.0, round((finished - deployment.started_at).total_seconds(), 3))
    return {
        "deployment": deployment.id,
        "kind": deployment.kind.value,
        "release": deployment.release,
        "commit": deployment.commit,
        "from": deployment.from_release,
        "phase": last_phase.value,
        "ending": deployment.ending and deployment.ending.value,
        "error": deployment.error and failure_as_json(deployment.error),
        "started_at": to_text(deployment.started_at),
        "finished_at": maybe_text(finished),
        "duration_s": duration_s,
        "bytes_fetched": deployment.bytes_fetched,
    }


def failure_as_json(failure: Failure) -> dict[str, Any]:
    """Give a failure as JSON values."""
    return {
        "code": failure.code,
        "message": failure.message,
        "hint": failure.hint,
        "at": to_text(failure.at),
    }
