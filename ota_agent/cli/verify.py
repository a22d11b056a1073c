"""`verify`: compare the live tree with its release."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ota_agent.cli.answer import finish
from ota_agent.cli.options import json_option, with_config
from ota_agent.config.document import printable

if TYPE_CHECKING:
    from ota_agent.config import Loaded


@click.command()
@json_option
@with_config
def verify(loaded: Loaded, as_json: bool) -> None:
    """Compare every file of the live tree with its release.

    Nothing is changed. Exits 1 where something differs.
    """
    from ota_agent import wiring

    def report(line: str) -> None:
        if not as_json:
            click.echo(printable(line))

    finish(wiring.verify_live(loaded.config, report), as_json=as_json)
