"""The options that commands share: --config, --set and --json."""

from __future__ import annotations

import functools
import os
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

# Where the context keeps --json for whoever prints a failure.
AS_JSON = "ota_agent.as_json"


def _keep(context: click.Context, _parameter: click.Parameter, given: bool) -> bool:
    context.meta[AS_JSON] = given
    return given


json_option = click.option("--json", "as_json", is_flag=True, callback=_keep, help="Print JSON.")


def with_config(command: Callable[..., None]) -> Callable[..., None]:
    """Add --config and --set; the command gets a `Loaded` as its first argument.

    A wrong configuration ends the command with a ConfigError before it does anything.
    """

    @functools.wraps(command)
    def wrapped(source: str | None, overrides: dict[str, str], **arguments: Any) -> None:  # noqa: ANN401 - each command has its own
        from ota_agent.config import load

        command(load(source, os.environ, overrides), **arguments)

    return _source_options(wrapped)


def with_outline(command: Callable[..., None]) -> Callable[..., None]:
    """Add --config and --set; the command gets an `Outline`, which costs far less to load."""

    @functools.wraps(command)
    def wrapped(source: str | None, overrides: dict[str, str], **arguments: Any) -> None:  # noqa: ANN401 - each command has its own
        from ota_agent.config import glance

        command(glance(source, os.environ, overrides), **arguments)

    return _source_options(wrapped)


def _source_options(command: Callable[..., None]) -> Callable[..., None]:
    overrides = click.option(
        "--set",
        "overrides",
        metavar="KEY=VALUE",
        multiple=True,
        callback=_parse_overrides,
        help="Set one key for this command, as in --set log.level=debug.",
    )
    source = click.option(
        "--config",
        "source",
        metavar="FILE|JSON|-",
        help="The configuration: a file, JSON itself, or - for standard input.",
    )
    return source(overrides(command))


def _parse_overrides(
    _context: click.Context, _parameter: click.Parameter, given: Sequence[str]
) -> dict[str, str]:
    overrides = {}
    for text in given:
        key, separator, value = text.partition("=")
        if not separator:
            raise click.BadParameter(f"{key!r} is not KEY=VALUE, as in log.level=debug")
        overrides[key] = value
    return overrides
