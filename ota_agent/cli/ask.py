"""What only the agent's loop may do: `check`, `update`, `rollback`, `retry`.

A running agent is asked through its mailbox; where none runs, the command is the agent for as long
as it takes.
"""

from __future__ import annotations

import os
import pwd
import sys
from typing import TYPE_CHECKING, Any

import click

from ota_agent.cli.answer import finish
from ota_agent.cli.logs import open_log
from ota_agent.cli.options import json_option, with_config
from ota_agent.errors import Locked
from ota_agent.model.command import Ask, Command

if TYPE_CHECKING:
    from ota_agent.config import Config, Loaded
    from ota_agent.model.command import Outcome


@click.command()
@json_option
@with_config
def check(loaded: Loaded, as_json: bool) -> None:
    """Look at the source now, and say what would be deployed.

    Nothing is deployed by this command; a running agent goes on as its configuration says.
    """
    from ota_agent import wiring

    if wiring.running_agent(loaded.config) is None:
        wiring.require_own(loaded.config)
        _say("looking at the source", as_json=as_json)
        open_log(loaded.config, quiet=True)
        finish(wiring.check_now(loaded.config), as_json=as_json)
    _act(loaded, "look at the source", Ask.CHECK, as_json=as_json)


@click.command()
@click.option(
    "--accept-deletions",
    is_flag=True,
    help="Accept a release that takes away most of the files.",
)
@json_option
@with_config
def update(loaded: Loaded, accept_deletions: bool, as_json: bool) -> None:
    """Look at the source now, and deploy what is found."""
    _act(
        loaded,
        "look at the source and deploy what is found",
        Ask.UPDATE,
        {"accept_deletions": accept_deletions},
        as_json=as_json,
    )


@click.command()
@click.argument("release", required=False)
@click.option(
    "--allow-again", is_flag=True, help="Do not quarantine the release that is left by this."
)
@click.option(
    "--with-data", is_flag=True, help="Put the persistent data of that release back, too."
)
@json_option
@with_config
def rollback(
    loaded: Loaded, release: str | None, allow_again: bool, with_data: bool, as_json: bool
) -> None:
    """Go back to a kept RELEASE, or to the previous one.

    The release that is left is quarantined, so that the next look does not bring it back;
    `ota-agent retry` lifts that.
    """
    _act(
        loaded,
        f"go back to {release or 'the previous release'}",
        Ask.ROLLBACK,
        {"release": release, "allow_again": allow_again, "with_data": with_data},
        as_json=as_json,
    )


@click.command()
@click.argument("release")
@json_option
@with_config
def retry(loaded: Loaded, release: str, as_json: bool) -> None:
    """Let a quarantined RELEASE be tried again.

    RELEASE is its id, version, tag, or the beginning of its commit.
    """
    _act(loaded, f"let {release} be tried again", Ask.RETRY, {"release": release}, as_json=as_json)


def _act(
    loaded: Loaded, intent: str, ask: Ask, args: dict[str, Any] | None = None, *, as_json: bool
) -> None:
    """Have the command carried out by the running agent, or by this process; print and exit."""
    from ota_agent import wiring

    config = loaded.config
    command = Command(ask, args or {}, asked_by())
    pid = wiring.running_agent(config)
    if pid is None:
        wiring.require_own(config)
        _say(f"no agent runs here, so this command does it itself: {intent}", as_json=as_json)
        open_log(config, quiet=True)
        try:
            finish(_execute(config, command), as_json=as_json)
        except Locked:
            # An agent was started between the look and the lock: it does the work.
            pid = wiring.running_agent(config)
            if pid is None:
                raise
    _say(f"asking the agent (pid {pid}) to {intent}", as_json=as_json)
    outcome = wiring.ask_agent(config, command, lambda text: click.echo(text, err=True))
    finish(outcome, as_json=as_json)


def _execute(config: Config, command: Command) -> Outcome:
    from ota_agent import wiring

    agent = wiring.build_agent(config, None, once=True)
    try:
        return agent.execute(command)
    finally:
        agent.close()


def _say(intent: str, *, as_json: bool) -> None:
    if not as_json:
        click.echo(intent, err=True)


def asked_by() -> str:
    """Name who asks, for the history: `user`, or `user@pts/0` on a terminal."""
    uid = os.getuid()
    try:
        name = os.environ.get("SUDO_USER") or pwd.getpwuid(uid).pw_name
    except KeyError:
        name = str(uid)
    try:
        return f"{name}@{os.ttyname(sys.stdin.fileno()).removeprefix('/dev/')}"
    except (OSError, ValueError, AttributeError):
        # Not a terminal, or closed: `<&-` leaves no stdin at all.
        return name
