from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ota_agent.cli import ask as module
from ota_agent.errors import ReleaseMissing, SourceUnreachable, WorkDirUnusable
from ota_agent.model.command import Ask, Exit, Outcome

if TYPE_CHECKING:
    from collections.abc import Callable

    from click.testing import Result

    from fakes.wiring import FakeWiring

ACTING: list[tuple[list[str], Ask, dict[str, Any]]] = [
    (["update"], Ask.UPDATE, {"accept_deletions": False}),
    (["update", "--accept-deletions"], Ask.UPDATE, {"accept_deletions": True}),
    (["rollback"], Ask.ROLLBACK, {"release": None, "allow_again": False, "with_data": False}),
    (
        ["rollback", "1.2.0", "--allow-again", "--with-data"],
        Ask.ROLLBACK,
        {"release": "1.2.0", "allow_again": True, "with_data": True},
    ),
    (["retry", "1.3.0"], Ask.RETRY, {"release": "1.3.0"}),
]


@pytest.mark.parametrize(("arguments", "ask", "args"), [*ACTING, (["check"], Ask.CHECK, {})])
def test_running_agent_is_asked(
    arguments: list[str],
    ask: Ask,
    args: dict[str, Any],
    device: FakeWiring,
    command: Callable[..., Result],
) -> None:
    device.pid = 77
    result = command(*arguments)
    assert (result.exit_code, result.stdout) == (0, "done\n")
    assert "pid 77" in result.stderr
    assert [(asked.ask, dict(asked.args)) for asked in device.asked] == [(ask, args)]
    assert device.built == []


@pytest.mark.parametrize(("arguments", "ask", "args"), ACTING)
def test_command_is_the_agent_where_none_runs(
    arguments: list[str],
    ask: Ask,
    args: dict[str, Any],
    device: FakeWiring,
    command: Callable[..., Result],
) -> None:
    result = command(*arguments)
    assert (result.exit_code, result.stdout) == (0, "done\n")
    assert "no agent runs here" in result.stderr
    assert [(done.ask, dict(done.args)) for done in device.executed] == [(ask, args)]
    assert [agent.closed for agent in device.agents] == [True]


@pytest.mark.parametrize("name", ["check", "update", "rollback"])
def test_user_beside_another_users_agent_is_told_to_ask_as_that_one(
    name: str, device: FakeWiring, command: Callable[..., Result]
) -> None:
    device.stranger = WorkDirUnusable("it belongs to the agent of user root", hint="Ask with sudo.")
    result = command(name)
    assert result.exit_code == 1
    assert result.stderr.splitlines() == [
        "error: it belongs to the agent of user root",
        "hint: Ask with sudo.",
        "code: device.work_dir_unusable",
    ]


def test_check_without_an_agent_looks_by_itself(
    device: FakeWiring, command: Callable[..., Result]
) -> None:
    device.answer = Outcome(Exit.NOTHING, "1.3.0 is the newest release", {"reason": "newest"})
    result = command("check")
    assert (result.exit_code, result.stdout) == (3, "1.3.0 is the newest release\n")
    assert (device.asked, device.built) == ([], [])


def test_agent_that_starts_in_between_is_asked(
    device: FakeWiring, command: Callable[..., Result]
) -> None:
    device.starts_late = True
    assert command("update").exit_code == 0
    assert len(device.asked) == 1


def test_lock_that_nobody_can_be_asked_about_is_a_failure(
    device: FakeWiring, command: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    device.pid = 77
    monkeypatch.setattr(device, "running_agent", lambda _: None)
    result = command("update")
    assert result.exit_code == 1
    assert "code: device.locked" in result.stderr


def test_failing_command_closes_its_agent(
    device: FakeWiring, command: Callable[..., Result]
) -> None:
    device.answer = SourceUnreachable("git.example.com does not answer")
    result = command("update")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.splitlines()[-3:] == [
        "error: git.example.com does not answer",
        f"hint: {SourceUnreachable.hint}",
        "code: source.unreachable",
    ]
    assert device.agents[0].closed


def test_failure_and_refusal_have_one_json_shape(
    device: FakeWiring, command: Callable[..., Result]
) -> None:
    device.answer = SourceUnreachable("git.example.com does not answer")
    failed = command("update", "--json")
    assert json.loads(failed.stdout) == {
        "message": "git.example.com does not answer",
        "code": "source.unreachable",
        "hint": SourceUnreachable.hint,
    }
    assert failed.stderr == "error: git.example.com does not answer\n"
    device.answer = Outcome(Exit.REFUSED, "there is no previous release to go back to")
    assert json.loads(command("rollback", "--json").stdout) == {
        "message": "there is no previous release to go back to",
        "code": None,
        "hint": None,
    }


def test_release_that_is_not_kept_is_a_refusal(
    device: FakeWiring, command: Callable[..., Result]
) -> None:
    device.answer = ReleaseMissing("9.9.9 is not kept here")
    assert command("rollback", "9.9.9").exit_code == 4


@pytest.mark.parametrize(
    ("code", "is_failure"),
    [
        (Exit.DONE, False),
        (Exit.NOTHING, False),
        (Exit.FAILED, True),
        (Exit.REFUSED, True),
        (Exit.NO_AGENT, True),
    ],
)
def test_outcome_goes_to_the_stream_that_it_belongs_to(
    code: Exit, is_failure: bool, device: FakeWiring, command: Callable[..., Result]
) -> None:
    device.answer = Outcome(code, "so it went", {"key": 1})
    plain = command("update")
    assert plain.exit_code == code
    assert ("so it went" in plain.stderr, "so it went" in plain.stdout) == (
        is_failure,
        not is_failure,
    )
    as_json = command("update", "--json")
    assert as_json.exit_code == code
    assert json.loads(as_json.stdout) == {
        "message": "so it went",
        "code": None,
        "hint": None,
        "key": 1,
    }
    assert as_json.stderr == ("error: so it went\n" if is_failure else "")


def test_retry_without_a_release_is_a_usage_error(command: Callable[..., Result]) -> None:
    assert command("retry").exit_code == 2


def test_interrupted_command_says_so_without_a_traceback(
    device: FakeWiring, command: Callable[..., Result]
) -> None:
    device.answer = KeyboardInterrupt()
    result = command("update")
    assert result.exit_code == 130
    assert result.stderr.splitlines()[-1] == "interrupted"
    device.answer = KeyboardInterrupt(": the agent goes on with it")
    assert "interrupted: the agent goes on" in command("update").stderr


def test_history_names_who_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUDO_USER", "anna")
    monkeypatch.setattr(os, "ttyname", lambda _: "/dev/pts/3")
    with Path(os.devnull).open(encoding="utf-8") as terminal:
        monkeypatch.setattr("sys.stdin", terminal)
        assert module.asked_by() == "anna@pts/3"


def test_user_without_a_name_and_a_terminal_is_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SUDO_USER", raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 4_000_000)
    monkeypatch.setattr("sys.stdin", None)
    assert module.asked_by() == "4000000"
