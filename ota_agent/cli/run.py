"""`run`: the daemon, or one round of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ota_agent.cli.answer import finish
from ota_agent.cli.logs import log_remarks, open_log
from ota_agent.cli.options import json_option, with_config

if TYPE_CHECKING:
    from ota_agent.config import Loaded


def _device_id(_context: click.Context, _parameter: click.Parameter, text: str) -> str:
    from ota_agent.config import check_device_id

    try:
        return check_device_id(text)
    except ValueError as error:
        raise click.BadParameter(f"{text!r}: {error}") from error


@click.command()
@click.option(
    "--device-id", required=True, metavar="ID", callback=_device_id, help="Name of this device."
)
@click.option("--once", is_flag=True, help="Finish what was begun, look once, deploy, and exit.")
@json_option
@with_config
def run(loaded: Loaded, device_id: str, once: bool, as_json: bool) -> None:
    """Follow the source and keep this device up to date.

    It runs until SIGTERM. With --once it exits by the last deployment of the run: 0 succeeded,
    1 not, 3 nothing to do.
    """
    from ota_agent import wiring

    if as_json and not once:
        raise click.UsageError("--json goes with --once: the daemon speaks through its log")
    open_log(loaded.config)
    log_remarks(loaded)
    agent = wiring.build_agent(loaded.config, device_id, once=once)
    try:
        if once:
            finish(agent.run_once(), as_json=as_json)
        click.get_current_context().exit(agent.run())
    finally:
        agent.close()
