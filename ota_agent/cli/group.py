"""The list of commands, imported as they are named, and what a failure looks like."""

from __future__ import annotations

import importlib
import os
from typing import IO, TYPE_CHECKING, Any

import click
from typing_extensions import override

from ota_agent import __version__
from ota_agent.cli.answer import show
from ota_agent.cli.options import AS_JSON
from ota_agent.errors import AgentError, ConfigError, ReleaseMissing, ReleaseRefused
from ota_agent.model.command import Exit, Outcome

if TYPE_CHECKING:
    from collections.abc import Mapping

# What a shell reports for a program that SIGINT ended.
INTERRUPTED = 130

EXIT_CODES = (
    "Exit codes: 0 done, 1 failed, 2 usage, 3 nothing to do, 4 refused, 5 no answer of the agent,"
    " 78 configuration."
)

# In the order of the help; the module below `cli` that holds each.
COMMANDS: Mapping[str, str] = {
    "run": "run",
    "status": "status",
    "history": "history",
    "check": "ask",
    "update": "ask",
    "rollback": "ask",
    "retry": "ask",
    "verify": "verify",
    "config": "settings",
    "demo": "demo",
}


class Failure(click.ClickException):
    """An expected failure, as a person and as a script wants it: sentence, remedy, code."""

    def __init__(self, error: AgentError, *, as_json: bool = False) -> None:
        super().__init__(str(error))
        self.exit_code = exit_code_of(error)  # type: ignore[misc]  # click reads it from here
        self._as_json = as_json
        data = {"code": error.code, "hint": error.hint}
        self._outcome = Outcome(Exit(self.exit_code), self.message, data)

    @override
    def show(self, file: IO[Any] | None = None) -> None:
        show(self._outcome, as_json=self._as_json)


class Interrupted(click.ClickException):
    """Ctrl-C: no failure of anything, and nothing to read a traceback for."""

    exit_code = INTERRUPTED

    @override
    def show(self, file: IO[Any] | None = None) -> None:
        click.echo(f"interrupted{self.message}", file, err=True)


class Commands(click.Group):
    """Imports a command when it is named: `--version` pays for none."""

    @override
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    @override
    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"ota_agent.cli.{COMMANDS[cmd_name]}")
        command: click.Command = getattr(module, cmd_name)
        return command

    @override
    def invoke(self, ctx: click.Context) -> Any:
        if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
            ctx.color = False
        try:
            return super().invoke(ctx)
        except AgentError as error:
            raise Failure(error, as_json=ctx.meta.get(AS_JSON, False)) from error
        except KeyboardInterrupt as error:
            raise Interrupted(str(error)) from error


def exit_code_of(error: AgentError) -> Exit:
    """Tell the exit code of a command that this error ended."""
    match error:
        case ConfigError():
            return Exit.CONFIG
        case ReleaseMissing() | ReleaseRefused():
            return Exit.REFUSED
        case _:
            return Exit.FAILED


@click.group(
    cls=Commands, context_settings={"help_option_names": ["-h", "--help"]}, epilog=EXIT_CODES
)
@click.version_option(__version__, message="%(prog)s %(version)s")
def ota_agent() -> None:
    """Keep this device on the newest release that it is allowed to run.

    Every command takes --config: a file, JSON itself, or - for standard input. Without it,
    OTA_AGENT_CONFIG names the file, else it is /etc/ota-agent/config.json.
    """
