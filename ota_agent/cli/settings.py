"""`config show|schema|check`: look at the configuration, and try it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from ota_agent.cli.answer import print_json
from ota_agent.cli.options import json_option, with_config
from ota_agent.config.document import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ota_agent.config import Loaded


@click.group()
def config() -> None:
    """Look at the configuration, and try it."""


@config.command()
@json_option
@with_config
def show(loaded: Loaded, as_json: bool) -> None:
    """Print every value in effect and where it is from, secrets masked."""
    values = loaded.config.model_dump(mode="json")
    if as_json:
        print_json({"file": loaded.source_name, "values": values, "origins": dict(loaded.origins)})
        return
    rows = [(key, json.dumps(value, ensure_ascii=False)) for key, value in _flat(values)]
    key_width = max(len(key) for key, _ in rows)
    value_width = max(len(value) for _, value in rows if len(value) < 80 - key_width)
    for key, value in rows:
        origin = click.style(printable(loaded.origins.get(key, "default")), dim=True)
        click.echo(f"{key:<{key_width}}  {printable(value):<{value_width}}  {origin}")


@config.command()
def schema() -> None:
    """Print the JSON Schema of the configuration."""
    from ota_agent.config import schema

    print_json(schema())


@config.command()
@with_config
def check(loaded: Loaded) -> None:
    """Try the configuration; exits 78 and names every wrong key where it is not good.

    Nothing but the configuration is looked at: not the source, not the work_dir.
    """
    for warning in loaded.warnings:
        click.echo(f"warning: {printable(warning)}", err=True)
    source = loaded.config.source
    click.echo(
        f"{loaded.source_name} is good: {loaded.config.work_dir} follows {source.channel}"
        f" of {source.url}"
    )


def _flat(values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from ((f"{key}.{leaf}", part) for leaf, part in value.items())
        else:
            yield key, value
