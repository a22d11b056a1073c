from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from fakes.clock import BEGIN, FakeClock
from ota_agent import log
from ota_agent.errors import (
    AgentError,
    SourceNotFound,
    SourceUnreachable,
    Superseded,
    TokenRefused,
)
from ota_agent.heartbeat import picture
from ota_agent.heartbeat.display import Display
from ota_agent.model.deployment import Deployment, Failure, Kind, Phase
from ota_agent.model.verdict import NoCandidate, Reason
from ota_agent.status import Connection, StatusBoard
from ota_agent.store.database import Database
from ota_agent.store.paths import Paths

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

AT = "2026-03-01T12:00:00.000Z"
FAILURE = Failure("release.probe_failed", "the probe is red", "Correct it.", BEGIN)
ENDED = Deployment(
    id="7-abcdef",
    kind=Kind.UPDATE,
    commit="c" * 40,
    ref="",
    phase=Phase.ROLLED_BACK,
    started_at=BEGIN,
    entered_at=BEGIN,
    error=FAILURE,
)


class Screen:
    """A display, and all that it may be looked at through."""

    def __init__(self, work_dir: Path) -> None:
        self.paths = Paths(work_dir)
        self.clock = FakeClock()
        self.board = StatusBoard()
        self.database = Database.open(work_dir / "state.db")
        self.shown: dict[str, Any] = {"status": "ONLINE"}
        self.display = Display(
            self.paths, self.database, self.board, self.clock, lambda: self.shown
        )

    @property
    def error(self) -> dict[str, Any] | None:
        found: dict[str, Any] | None = self.database.get(picture.LAST_ERROR)
        return found


@pytest.fixture
def screen(tmp_path: Path) -> Iterator[Screen]:
    made = Screen(tmp_path)
    yield made
    made.database.close()


# --- status.json ----------------------------------------------------------------------------------


def test_status_is_written_for_every_local_user(screen: Screen) -> None:
    screen.display.refresh()

    assert json.loads(screen.paths.status_file.read_text()) == {"status": "ONLINE"}
    assert screen.paths.status_file.stat().st_mode & 0o777 == 0o644


def test_status_that_did_not_change_is_not_written_again(screen: Screen) -> None:
    screen.display.refresh()
    before = screen.paths.status_file.stat()

    screen.display.refresh()
    assert screen.paths.status_file.stat().st_ino == before.st_ino

    screen.shown = {"status": "UPDATING"}
    screen.database.put("phase", "fetch")
    screen.display.refresh()
    assert json.loads(screen.paths.status_file.read_text()) == {"status": "UPDATING"}

    screen.shown = {"status": "UPDATING", "waiting": "for the window"}
    screen.board.wait_for("the window", BEGIN)
    screen.display.refresh()
    assert json.loads(screen.paths.status_file.read_text()) == screen.shown


def test_status_that_could_not_be_written_is_written_as_soon_as_it_can_be(screen: Screen) -> None:
    screen.paths.status_file.mkdir()
    screen.display.refresh()

    screen.paths.status_file.rmdir()
    screen.display.refresh()

    assert json.loads(screen.paths.status_file.read_text()) == {"status": "ONLINE"}


# --- waiting --------------------------------------------------------------------------------------


def test_waiting_is_shown_with_and_without_an_agent(screen: Screen) -> None:
    until = BEGIN + timedelta(minutes=1)
    screen.display.waits("the hook says: not yet", until, "1.1.0")

    waiting = screen.board.doing.waiting
    assert waiting is not None
    assert (waiting.reason, waiting.since, waiting.until) == (
        "the hook says: not yet",
        BEGIN,
        until,
    )
    assert screen.database.get(picture.WAITING) == {
        "reason": "the hook says: not yet",
        "since": AT,
        "until": "2026-03-01T12:01:00.000Z",
        "owner": "1.1.0",
    }


def test_same_reason_keeps_its_beginning_and_another_one_begins_anew(screen: Screen) -> None:
    screen.display.waits("a lock")
    screen.clock.advance(60)
    screen.display.waits("a lock")
    assert screen.database.get(picture.WAITING)["since"] == AT

    screen.display.waits("a window")
    assert screen.database.get(picture.WAITING)["since"] == "2026-03-01T12:01:00.000Z"


def test_what_goes_on_waits_no_longer(screen: Screen) -> None:
    screen.display.waits("a lock")
    screen.display.goes_on()

    assert screen.board.doing.waiting is None
    assert screen.database.get(picture.WAITING) is None


def test_what_an_earlier_agent_waited_for_is_over_too(screen: Screen) -> None:
    screen.database.put(picture.WAITING, {"reason": "a lock"})

    screen.display.goes_on()

    assert screen.database.get(picture.WAITING) is None


def test_nothing_is_written_where_nothing_was_waited_for(screen: Screen) -> None:
    before = screen.database.rows("SELECT total_changes()")[0][0]

    screen.display.goes_on()

    assert screen.database.rows("SELECT total_changes()")[0][0] == before


# --- the source -----------------------------------------------------------------------------------


def test_device_that_is_offline_for_a_while_has_no_error(screen: Screen) -> None:
    screen.display.source_failed(SourceUnreachable("no route"))

    assert screen.board.doing.source == Connection(
        "offline", BEGIN, "closed", "source.unreachable: no route"
    )
    assert screen.error is None


@pytest.mark.parametrize(
    ("error", "state", "breaker"),
    [
        (TokenRefused("401"), "refused", "open"),
        (SourceNotFound("404"), "offline", "closed"),
    ],
)
def test_failure_that_the_operator_has_to_act_on_is_an_error_until_the_source_answers(
    screen: Screen, error: AgentError, state: str, breaker: str
) -> None:
    screen.display.source_failed(error)
    source = screen.board.doing.source
    assert (source.state, source.breaker) == (state, breaker)
    assert screen.error == {
        "code": error.code,
        "message": error.message,
        "hint": error.hint,
        "at": AT,
        "origin": "source",
    }

    screen.display.source_answered()
    assert screen.board.doing.source == Connection("online", BEGIN)
    assert screen.error is None


def test_source_that_answers_does_not_hide_what_a_deployment_failed_with(screen: Screen) -> None:
    screen.display.deployment_ended(ENDED)

    screen.display.source_answered()

    assert screen.error is not None
    assert screen.error["code"] == "release.probe_failed"


@pytest.fixture
def open_log() -> None:
    """Have the log written for this test."""
    log.configure("json", "info")


@pytest.mark.usefixtures("open_log")
def test_nothing_new_is_said_once_and_again_when_the_reason_changes(
    screen: Screen, capsys: pytest.CaptureFixture[str]
) -> None:
    up_to_date = NoCandidate(Reason.UP_TO_DATE, "v1.0.0 is live", "")
    quarantined = NoCandidate(Reason.QUARANTINED, "v1.1.0 is in quarantine", "")
    for verdict in (up_to_date, up_to_date, quarantined, quarantined, up_to_date):
        screen.display.nothing_new(verdict)

    said = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["message"] for line in said] == [
        "v1.0.0 is live",
        "v1.1.0 is in quarantine",
        "v1.0.0 is live",
    ]


# --- deployments ----------------------------------------------------------------------------------


def test_failed_deployment_is_an_error_until_one_succeeds(screen: Screen) -> None:
    screen.display.deployment_ended(ENDED)
    assert screen.error == {
        "code": "release.probe_failed",
        "message": "the probe is red",
        "hint": "Correct it.",
        "at": AT,
        "origin": "deployment",
    }

    screen.display.deployment_ended(replace(ENDED, phase=Phase.SUCCEEDED, error=None))
    assert screen.error is None


def test_stuck_device_says_what_bars_the_way_back_and_keeps_the_first_failure(
    screen: Screen,
) -> None:
    cause = {"code": "device.backup_unusable", "message": "there is no backup", "hint": "Look."}
    screen.display.deployment_ended(replace(ENDED, phase=Phase.STUCK, notes={"stuck": cause}))

    assert screen.error is not None
    assert screen.error["code"] == "release.probe_failed"
    waiting = screen.board.doing.waiting
    assert waiting is not None
    assert "there is no backup" in waiting.reason


def test_deployment_that_made_way_is_no_error(screen: Screen) -> None:
    newer = Failure(Superseded.code, "v1.2.0 is newer", "", BEGIN)
    screen.display.deployment_ended(replace(ENDED, phase=Phase.ABANDONED, error=newer))
    screen.display.deployment_ended(replace(ENDED, phase=Phase.ABANDONED, error=None))

    assert screen.error is None


def test_what_is_odd_to_wait_for_is_a_warning_that_commands_show(
    screen: Screen, capsys: pytest.CaptureFixture[str]
) -> None:
    screen.display.waits("a window")
    screen.display.waits("the clock is not set", is_odd=True)

    (said,) = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert (said["level"], said["reason"]) == ("warning", "the clock is not set")
