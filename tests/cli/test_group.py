from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pytest

from ota_agent import __version__, cli
from ota_agent.cli.group import COMMANDS, Failure, exit_code_of
from ota_agent.errors import ConfigError, DatabaseNewer, DiskFull, ReleaseMissing, ReleaseRefused

if TYPE_CHECKING:
    from collections.abc import Callable

    from click.testing import Result

    from fakes.wiring import FakeWiring

PROGRAM = [sys.executable, "-m", "ota_agent"]


def process(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PROGRAM, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environ},
        stdin=subprocess.DEVNULL,
    )


def test_version_is_told(command: Callable[..., Result]) -> None:
    assert command("--version").stdout == f"ota-agent {__version__}\n"


def test_help_lists_every_command_in_its_order(command: Callable[..., Result]) -> None:
    text = command("--help").stdout
    places = [text.index(f"\n  {name} ") for name in COMMANDS]
    assert places == sorted(places)
    assert "78 configuration" in " ".join(text.split())


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name: str, command: Callable[..., Result]) -> None:
    result = command(name, "--help")
    assert result.exit_code == 0
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_unknown_command_is_a_usage_error(command: Callable[..., Result]) -> None:
    assert command("stauts").exit_code == 2


@pytest.mark.parametrize("given", ["level", "log.level", ""])
def test_override_without_a_value_is_a_usage_error(
    given: str, command: Callable[..., Result]
) -> None:
    result = command("status", "--set", given)
    assert result.exit_code == 2
    assert "KEY=VALUE" in result.stderr


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("x"), 78),
        (DatabaseNewer("x"), 78),
        (ReleaseMissing("x"), 4),
        (ReleaseRefused("release.incompatible", "x", "y"), 4),
        (DiskFull("x"), 1),
    ],
)
def test_exit_code_is_that_of_the_kind_of_error(error: ConfigError, code: int) -> None:
    assert exit_code_of(error) == code
    assert Failure(error).exit_code == code


@pytest.mark.parametrize("variables", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_colour_is_left_out_where_it_is_not_wanted(
    variables: dict[str, str], device: FakeWiring, command: Callable[..., Result]
) -> None:
    assert "\x1b" not in command("config", "show", env=variables, color=True).stdout


def test_colour_is_there_on_a_terminal(
    command: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert click.unstyle("\x1b[2mx\x1b[0m") == "x"
    assert "\x1b" in command("config", "show", color=True).stdout


@pytest.mark.process
def test_bad_configuration_exits_78_with_nothing_on_stdout() -> None:
    result = process("status", "--config", '{"sorce": 1}')
    assert (result.returncode, result.stdout) == (78, "")
    assert result.stderr.splitlines() == [
        "error: the inline configuration has 2 errors:",
        (
            "  source: is missing; it takes an object with the keys type, url, channel,"
            " token_host, ssh_key_file, ssh_known_hosts_file"
        ),
        "  sorce: unknown key; did you mean source?",
        "hint: Correct the configuration; `ota-agent config check` tries it.",
        "code: config.invalid",
    ]


@pytest.mark.process
def test_missing_file_exits_78_and_names_it(tmp_path: Path) -> None:
    result = process("status", OTA_AGENT_CONFIG=str(tmp_path / "none.json"))
    assert (result.returncode, result.stdout) == (78, "")
    assert str(tmp_path / "none.json") in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.process
def test_reader_that_goes_away_is_no_failure_to_tell_about() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as pipe:
        result = subprocess.run(
            [*PROGRAM, "config", "schema"], stdout=pipe, stderr=subprocess.PIPE, check=False
        )
    assert result.stderr == b""


@pytest.mark.process
def test_version_imports_no_client_and_no_pydantic() -> None:
    script = (
        "import json, sys\nfrom ota_agent.cli import main\n"
        "sys.argv = ['ota-agent', '--version']\n"
        "try:\n    main()\nexcept SystemExit:\n    print(json.dumps(sorted(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    modules = set(json.loads(result.stdout.splitlines()[-1]))
    assert not modules & {"pydantic", "git", "gitlab", "supabase", "structlog", "tenacity"}


@pytest.mark.process
@pytest.mark.parametrize("arguments", [["--version"], ["config", "schema"]])
def test_full_stdout_is_a_sentence_and_no_traceback(arguments: list[str]) -> None:
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        result = subprocess.run(
            [*PROGRAM, *arguments], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )

    assert result.returncode == 1
    assert result.stderr == "error: stdout takes nothing more: No space left on device\n"


def test_error_of_the_system_that_is_not_stdouts_stays_what_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(**_: object) -> None:
        raise OSError("a bug")

    monkeypatch.setattr(cli.ota_agent, "main", fail)
    with pytest.raises(OSError, match="a bug"):
        cli.main()
