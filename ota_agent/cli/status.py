"""`status`: what this device runs, and what the agent is doing."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from ota_agent.cli.answer import print_json
from ota_agent.cli.options import json_option, with_outline

if TYPE_CHECKING:
    from ota_agent.config import Outline


@click.command()
@json_option
@with_outline
def status(outline: Outline, as_json: bool) -> None:
    """Show what this device runs, and what the agent is doing.

    Works without an agent, too.
    """
    from ota_agent import wiring
    from ota_agent.cli.status_page import lines

    found = wiring.read_status(outline)
    if as_json:
        print_json(found)
    elif found["device_id"] is None:
        click.echo(f"no agent has run in {outline.work_dir} yet")
    else:
        click.echo("\n".join(lines(found, datetime.now(UTC))))
