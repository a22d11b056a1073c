"""How the story is shown: 80 columns, line by line while it happens."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Iterable

WIDTH = 80
INDENT = "   "


class Unexpected(Exception):
    """Something did not come as the story has it."""

    def __init__(self, what: str, expected: object, found: object) -> None:
        super().__init__(what)
        self.what = what
        self.expected = str(expected)
        self.found = str(found)


class Teller:
    """Writes to stdout; `act` is the one that is being told."""

    def __init__(self) -> None:
        """Begin at the front of a line."""
        self.act = ""
        self._column = 0

    def begin_act(self, title: str) -> None:
        """Begin an act."""
        self.act = title
        self.line()
        self.line(click.style(title, bold=True))

    def say(self, text: str) -> None:
        """Tell one thing, in sentences."""
        self.lines(_wrapped(text, INDENT, INDENT))

    def proof(self, text: str) -> None:
        """Tell what was looked at, and is as it should be."""
        first, *more = _wrapped(text, f"{INDENT}ok  ", f"{INDENT}    ")
        self.line(first.replace("ok", click.style("ok", fg="green"), 1))
        self.lines(more)

    def typed(self, command: str) -> None:
        """Show a command as it would be typed."""
        self.line(INDENT + click.style(f"$ {command}", fg="cyan"))

    def output(self, text: str) -> None:
        """Show what a command printed."""
        for line in text.splitlines():
            self.lines(_wrapped(line, f"{INDENT}  ", f"{INDENT}  "))

    def phase(self, name: str, *, is_first: bool) -> None:
        """Add a phase of the agent's to the line of its deployment."""
        if is_first or self._column + len(name) >= WIDTH:
            self._end_line()
        self._write(f" {name}" if self._column else f"{INDENT}agent: {name}")

    def lines(self, lines: Iterable[str]) -> None:
        """Write lines as they are."""
        for line in lines:
            self.line(line)

    def line(self, text: str = "") -> None:
        """Write one line as it is."""
        self._end_line()
        click.echo(text)

    def _write(self, text: str) -> None:
        click.echo(text, nl=False)
        self._column += len(text)

    def _end_line(self) -> None:
        if self._column:
            click.echo()
        self._column = 0


def _wrapped(text: str, first: str, others: str) -> list[str]:
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=first,
        subsequent_indent=others,
        break_long_words=False,
        break_on_hyphens=False,
    )
