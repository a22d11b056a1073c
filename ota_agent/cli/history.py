"""`history`: what was deployed here, newest first."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ota_agent.cli.answer import print_json
from ota_agent.cli.options import json_option, with_outline

if TYPE_CHECKING:
    from ota_agent.config import Outline


@click.command()
@click.option(
    "--limit", type=click.IntRange(min=1), default=20, show_default=True, help="How many to show."
)
@json_option
@with_outline
def history(outline: Outline, limit: int, as_json: bool) -> None:
    """Show the deployments of this device, newest first."""
    from ota_agent import wiring
    from ota_agent.cli.history_table import lines

    deployments = wiring.read_history(outline, limit)
    if as_json:
        print_json(deployments)
    elif not deployments:
        click.echo(f"nothing was deployed in {outline.work_dir} yet")
    else:
        click.echo("\n".join(lines(deployments)))
