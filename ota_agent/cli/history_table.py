"""The table that `history` shows: one deployment a line, 80 columns, newest first."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

import click

from ota_agent.cli.phrases import clock, middle, size, span
from ota_agent.config.document import printable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

WIDTH = 80
INDENT = "  "

_HEADS = ("STARTED (UTC)", "KIND", "RELEASE", "ENDING", "TOOK", "FETCHED")
_WIDTHS = (16, 8, 25, 11, 7, 8)
_COLOURS = {"succeeded": "green", "abandoned": "yellow", "rolled_back": "red", "stuck": "red"}


def lines(deployments: Sequence[Mapping[str, Any]]) -> list[str]:
    """Write the table; what went wrong stands in a line of its own below its deployment."""
    table = [click.style(_row(_HEADS), dim=True)]
    for deployment in deployments:
        table += _deployment(deployment)
    return table


def _deployment(deployment: Mapping[str, Any]) -> list[str]:
    ending = deployment["ending"]
    # What is in flight has no ending yet: it is named by its phase.
    name = ending or f"{deployment['phase']}..."
    duration, fetched = deployment["duration_s"], deployment["bytes_fetched"]
    row = _row(
        (
            clock(deployment["started_at"]),
            deployment["kind"],
            middle(deployment["release"] or deployment["commit"][:12], _WIDTHS[2]),
            name,
            "" if duration is None else span(duration),
            size(fetched) if fetched else "",
        )
    )
    styled = row.replace(name, click.style(name, fg=_COLOURS.get(ending or "", "cyan")), 1)
    return [styled, *_error(deployment["error"])]


def _error(error: Mapping[str, Any] | None) -> list[str]:
    if error is None:
        return []
    text = printable(f"{error['code']}: {error['message']}")
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=INDENT,
        subsequent_indent=INDENT,
        break_long_words=False,
        max_lines=2,
        placeholder=" ...",
    )


def _row(cells: Sequence[str]) -> str:
    return " ".join(f"{c:<{w}}" for c, w in zip(cells, _WIDTHS, strict=True)).rstrip()
