from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from ota_agent.errors import Locked, WorkDirForeign
from ota_agent.model.command import Exit, Outcome

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from click.testing import Result

    from fakes.wiring import FakeWiring


def test_daemon_runs_until_it_is_told_to_end(
    device: FakeWiring, command: Callable[..., Result]
) -> None:
    result = command("run", "--device-id", "kiosk-7")
    assert (result.exit_code, result.stdout) == (0, "")
    [(_, device_id, once)] = device.built
    assert (device_id, once) == ("kiosk-7", False)
    assert device.agents[0].closed


@pytest.mark.parametrize("code", [Exit.DONE, Exit.FAILED, Exit.NOTHING])
def test_one_round_exits_by_its_last_deployment(
    code: Exit, device: FakeWiring, command: Callable[..., Result]
) -> None:
    device.answer = Outcome(code, "so it went")
    result = command("run", "--device-id", "kiosk-7", "--once")
    assert result.exit_code == code
    assert "so it went" in (result.stderr if code == Exit.FAILED else result.stdout)
    assert device.agents[0].closed


def test_one_round_has_a_json_answer(device: FakeWiring, command: Callable[..., Result]) -> None:
    result = command("run", "--device-id", "kiosk-7", "--once", "--json")
    assert json.loads(result.stdout) == {
        "message": "done",
        "code": None,
        "hint": None,
        "did": "it",
    }


def test_daemon_has_no_json_answer(command: Callable[..., Result]) -> None:
    assert command("run", "--device-id", "kiosk-7", "--json").exit_code == 2


@pytest.mark.parametrize("device_id", ["a/b", "", ".hidden", "x" * 65, "a b"])
def test_device_id_is_refused_with_the_rule(
    device_id: str, device: FakeWiring, command: Callable[..., Result]
) -> None:
    result = command("run", "--device-id", device_id)
    assert result.exit_code == 2
    assert "1 to 64 of the characters A-Z a-z 0-9 . _ -" in " ".join(result.stderr.split())
    assert device.built == []


def test_device_id_is_required(command: Callable[..., Result]) -> None:
    assert command("run").exit_code == 2


def test_second_agent_is_told_who_works_there(
    device: FakeWiring, command: Callable[..., Result]
) -> None:
    device.pid = 77
    result = command("run", "--device-id", "kiosk-7")
    assert result.exit_code == 1
    assert "pid 77" in result.stderr
    assert f"code: {Locked.code}" in result.stderr


def test_agent_is_closed_when_it_fails(device: FakeWiring, command: Callable[..., Result]) -> None:
    device.answer = WorkDirForeign("it belongs to kiosk-8")
    assert command("run", "--device-id", "kiosk-7").exit_code == 1
    assert device.agents[0].closed


def test_log_says_that_reports_stay_local(
    device: FakeWiring, command: Callable[..., Result], capfd: pytest.CaptureFixture[str]
) -> None:
    settings = ("--set", "supabase_url=https://fleet.supabase.co", "--set", "log.format=json")
    result = command("run", "--device-id", "kiosk-7", *settings)
    assert result.exit_code == 0
    assert "reports stay local" in result.stderr + capfd.readouterr().err


def test_warnings_of_the_configuration_are_logged_and_secrets_masked(
    device: FakeWiring,
    command: Callable[..., Result],
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    token = tmp_path / "token-in-its-name"
    token.write_text("token-in-its-name", encoding="utf-8")
    token.chmod(0o644)
    result = command(
        *("run", "--device-id", "kiosk-7", "--set", "log.format=json"),
        env={"GITLAB_TOKEN_FILE": str(token)},
    )
    logged = result.stderr + capfd.readouterr().err
    assert "every user of this device can read it" in logged
    assert "token-in-its-name" not in logged
