from __future__ import annotations

from datetime import UTC, datetime

import pytest

from ota_agent.model.deployment import ENDINGS, Deployment, Kind, Phase

NOW = datetime(2024, 5, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize("phase", list(Phase))
def test_a_deployment_has_an_ending_once_it_is_over(phase: Phase) -> None:
    deployment = Deployment("1-abcdef", Kind.FIRST, "0" * 40, "", phase, NOW, NOW)
    assert phase.is_ending is (phase in ENDINGS)
    assert deployment.ending == (phase if phase in ENDINGS else None)


def test_nothing_that_is_live_changes_before_backup() -> None:
    alone = [phase for phase in Phase if phase.leaves_live_alone]
    assert alone == [Phase.FETCH, Phase.VERIFY, Phase.STAGE, Phase.HOLD]


@pytest.mark.parametrize(
    ("ref", "release", "name"),
    [
        ("", None, "000000000000"),
        ("refs/tags/v1.0.0", None, "v1.0.0 (commit 000000000000)"),
        ("refs/heads/feature/x", None, "feature/x (commit 000000000000)"),
        ("refs/tags/v1.0.0", "1.0.0-aaaaaa-000000000000", "1.0.0-aaaaaa-000000000000"),
    ],
)
def test_release_without_an_id_is_named_by_its_tag(
    ref: str, release: str | None, name: str
) -> None:
    deployment = Deployment(
        "1-abcdef", Kind.FIRST, "0" * 40, ref, Phase.FETCH, NOW, NOW, release=release
    )
    assert deployment.name == name
