from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from ota_agent.model.deployment import Deployment, Failure, Kind, Phase
from ota_agent.model.history import as_json

BEGIN = datetime(2026, 3, 1, 12, tzinfo=UTC)
COMMIT = "c" * 40
IN_FLIGHT = Deployment(
    id="7-abcdef",
    kind=Kind.UPDATE,
    commit=COMMIT,
    ref="refs/tags/v1.1.0",
    phase=Phase.FETCH,
    started_at=BEGIN,
    entered_at=BEGIN,
)


def test_deployment_in_flight_has_every_key_and_null_for_what_is_not_known_yet() -> None:
    assert as_json(IN_FLIGHT, Phase.FETCH) == {
        "deployment": "7-abcdef",
        "kind": "update",
        "release": None,
        "commit": COMMIT,
        "from": None,
        "phase": "fetch",
        "ending": None,
        "error": None,
        "started_at": "2026-03-01T12:00:00.000Z",
        "finished_at": None,
        "duration_s": None,
        "bytes_fetched": 0,
    }


def test_deployment_that_failed_shows_where_why_and_how_long_it_took() -> None:
    at = BEGIN + timedelta(seconds=61.5)
    ended = replace(
        IN_FLIGHT,
        phase=Phase.ROLLED_BACK,
        release="1.1.0-aaaaaa-cccccccccccc",
        from_release="1.0.0-bbbbbb-dddddddddddd",
        error=Failure("release.probe_failed", "the probe is red", "Correct it.", at),
        finished_at=at,
        bytes_fetched=4096,
    )

    assert as_json(ended, Phase.RESTORE) == {
        "deployment": "7-abcdef",
        "kind": "update",
        "release": "1.1.0-aaaaaa-cccccccccccc",
        "commit": COMMIT,
        "from": "1.0.0-bbbbbb-dddddddddddd",
        "phase": "restore",
        "ending": "rolled_back",
        "error": {
            "code": "release.probe_failed",
            "message": "the probe is red",
            "hint": "Correct it.",
            "at": "2026-03-01T12:01:01.500Z",
        },
        "started_at": "2026-03-01T12:00:00.000Z",
        "finished_at": "2026-03-01T12:01:01.500Z",
        "duration_s": 61.5,
        "bytes_fetched": 4096,
    }


def test_clock_that_was_set_back_meanwhile_makes_no_negative_duration() -> None:
    ended = replace(IN_FLIGHT, phase=Phase.SUCCEEDED, finished_at=BEGIN - timedelta(hours=1))

    assert as_json(ended, Phase.COMMIT)["duration_s"] == 0.0
