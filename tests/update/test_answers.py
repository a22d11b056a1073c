from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from fakes.clock import BEGIN
from ota_agent.errors import NotYet, SourceUnreachable
from ota_agent.model import history
from ota_agent.model.command import Exit, Outcome
from ota_agent.model.deployment import Deployment, Failure, Kind, Phase
from ota_agent.model.release import Offer
from ota_agent.model.verdict import Candidate, NoCandidate, Reason
from ota_agent.update import answers

COMMIT = "c" * 40
OFFER = Offer(COMMIT, "refs/tags/v1.1.0")
ENDED = Deployment(
    id="7-abcdef",
    kind=Kind.UPDATE,
    commit=COMMIT,
    ref="refs/tags/v1.1.0",
    phase=Phase.SUCCEEDED,
    started_at=BEGIN,
    entered_at=BEGIN,
    release="1.1.0-aaaaaa-cccccccccccc",
    finished_at=BEGIN,
)
FAILURE = Failure("release.probe_failed", "the probe is red", "Correct it.", BEGIN)


def test_candidate_is_named_with_its_commit() -> None:
    assert answers.candidate(Candidate(OFFER, Kind.UPDATE)) == Outcome(
        Exit.DONE,
        "v1.1.0 (commit cccccccccccc) is to be deployed",
        {"candidate": {"commit": COMMIT, "ref": "refs/tags/v1.1.0", "kind": "update"}},
    )


@pytest.mark.parametrize(("offer", "commit"), [(OFFER, COMMIT), (None, None)])
def test_nothing_to_deploy_says_why(offer: Offer | None, commit: str | None) -> None:
    verdict = NoCandidate(Reason.QUARANTINED, "v1.1.0 is in quarantine", "Publish.", offer)

    assert answers.nothing(verdict) == Outcome(
        Exit.NOTHING,
        "v1.1.0 is in quarantine",
        {"reason": "release.quarantined", "hint": "Publish.", "commit": commit},
    )


def test_failure_is_told_by_its_code() -> None:
    error = SourceUnreachable("no route")

    assert answers.failed(error) == Outcome(
        Exit.FAILED, "no route", {"code": "source.unreachable", "hint": error.hint}
    )


def test_deployment_that_succeeded_is_live() -> None:
    outcome = answers.of_deployment(ENDED, Phase.COMMIT)

    assert outcome == Outcome(
        Exit.DONE,
        "1.1.0-aaaaaa-cccccccccccc is live",
        {"deployment": history.as_json(ENDED, Phase.COMMIT)},
    )


@pytest.mark.parametrize(
    ("phase", "text"),
    [
        (Phase.ROLLED_BACK, "1.1.0-aaaaaa-cccccccccccc was rolled back: the probe is red"),
        (Phase.ABANDONED, "1.1.0-aaaaaa-cccccccccccc was abandoned: the probe is red"),
        (Phase.STUCK, "1.1.0-aaaaaa-cccccccccccc was stuck: the probe is red"),
    ],
)
def test_deployment_that_failed_says_how_and_why(phase: Phase, text: str) -> None:
    ended = replace(ENDED, phase=phase, error=FAILURE)

    assert answers.of_deployment(ended, Phase.COMMIT) == Outcome(
        Exit.FAILED,
        text,
        {
            "deployment": history.as_json(ended, Phase.COMMIT),
            "code": "release.probe_failed",
            "hint": "Correct it.",
        },
    )


def test_deployment_that_read_nothing_is_named_by_its_tag_and_commit() -> None:
    ended = replace(ENDED, phase=Phase.ABANDONED, release=None)
    outcome = answers.of_deployment(ended, Phase.COMMIT)

    assert outcome.text == "v1.1.0 (commit cccccccccccc) was abandoned"
    assert outcome.data.keys() == {"deployment"}


def test_deployment_that_waits_is_nothing_to_do_now() -> None:
    waits = replace(ENDED, phase=Phase.HOLD, finished_at=None)
    reason = NotYet("the hook says: not yet", BEGIN + timedelta(minutes=1))

    assert answers.held(waits, reason) == Outcome(
        Exit.NOTHING,
        "waiting: the hook says: not yet",
        {"reason": "waiting", "deployment": history.as_json(waits, Phase.HOLD)},
    )
    assert answers.held(None, reason).data == {"reason": "waiting", "deployment": None}


def test_deployment_whose_agent_ended_is_finished_by_the_next_start() -> None:
    outcome = answers.left(replace(ENDED, phase=Phase.BACKUP))

    assert outcome.exit is Exit.NO_AGENT
    assert f"was begun as {ENDED.id}; the next start of the agent finishes it" in outcome.text
    assert outcome.data["deployment"]["phase"] == "backup"
