"""How what was found is printed, and how an outcome becomes an exit code."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NoReturn

import click

from ota_agent.model.command import Exit

if TYPE_CHECKING:
    from ota_agent.model.command import Outcome


UP_TO_DATE = "release.up_to_date"  # there is nothing to advise


def print_json(value: object) -> None:
    """Print a value for programs. ASCII only: a path may hold bytes that are no text."""
    click.echo(json.dumps(value, indent=2))


def finish(outcome: Outcome, *, as_json: bool) -> NoReturn:
    """Print an outcome and exit."""
    show(outcome, as_json=as_json)
    click.get_current_context().exit(int(outcome.exit))


def show(outcome: Outcome, *, as_json: bool) -> None:
    """Print an outcome: what went well to stdout, a failure to stderr, JSON to stdout always."""
    is_good = outcome.exit in {Exit.DONE, Exit.NOTHING}
    if as_json:
        print_json({"message": outcome.text, "code": None, "hint": None, **outcome.data})
    elif is_good:
        click.echo(outcome.text)
    if not is_good:
        click.echo(f"{click.style('error:', fg='red', bold=True)} {outcome.text}", err=True)
    if not as_json and outcome.data.get("reason") != UP_TO_DATE:
        for key in ("hint", "code"):
            if outcome.data.get(key):
                click.echo(f"{key}: {outcome.data[key]}", err=True)
