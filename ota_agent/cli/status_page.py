"""The page that `status` shows: one fact a line, 80 columns.

Reads the object of `status --json` (docs/json.md) and nothing else, so that both tell the same.
"""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

import click

from ota_agent.cli.phrases import ago, clock, size
from ota_agent.config.document import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime

    Status = Mapping[str, Any]

WIDTH = 80
LABEL_WIDTH = 12
SHOWN_PATHS = 5

_COLOURS = {"ONLINE": "green", "UPDATING": "cyan", "ERROR": "red", "OFFLINE": "yellow"}


def lines(status: Status, now: datetime) -> list[str]:
    """Write the page; `now` is what times are told from."""
    colour = _COLOURS.get(status["status"])
    page = _fact("device", f"{status['device_id']}  {status['status']}", colour)
    for label, key in (("runs", "live"), ("previous", "previous"), ("last good", "last_good")):
        page += _fact(label, _release(status[key], now))
    page += _fact("target", _target(status["target"]))
    page += _fact("doing", *_doing(status, now))
    page += _fact("waits for", *_waiting(status["waiting"], now))
    page += _fact("drift", *_drift(status["drift"], now))
    page += _fact("quarantine", *_quarantine(status["quarantine"], now))
    page += _fact("last error", *_error(status["last_error"], now))
    page += _fact("outbox", *_outbox(status["outbox"], now))
    connections = status["connections"]
    page += _fact("source", *_connection(connections["source"], now, "not known, no agent runs"))
    page += _fact("supabase", *_connection(connections["supabase"], now, "not used"))
    page += _fact("agent", *_agent(status["agent"], now))
    return page


def _fact(label: str, text: str, colour: str | None = None) -> list[str]:
    """Write one fact, wrapped beside its label; an empty one is left out."""
    if not text:
        return []
    width = WIDTH - LABEL_WIDTH
    # A line of the text stays a line; a path or an id without blanks is never cut.
    parts = [
        part
        for line in printable(text).split("\n")
        for part in textwrap.wrap(line, width, break_long_words=False, break_on_hyphens=False)
    ]
    styled = [click.style(part, fg=colour) if colour else part for part in parts]
    first = click.style(f"{label:<{LABEL_WIDTH}}", dim=True)
    return [first + styled[0], *(" " * LABEL_WIDTH + part for part in styled[1:])]


def _at(text: str | None, now: datetime) -> str:
    return f"{clock(text)} UTC ({ago(text, now)})" if text else "an unknown time"


def _release(release: Status | None, now: datetime) -> str:
    if release is None:
        return "nothing"
    since = f", since {_at(release['since'], now)}" if release["since"] else ""
    name, _, identity = _target(release).partition("\n")
    return f"{name}{since}\n{identity}"


def _target(release: Status | None) -> str:
    """Name a release by its version, and by its id in a line of its own."""
    if release is None:
        return "none"
    # What is in flight has no id before its content is known.
    identity = release["release"] or release["commit"][:12]
    return f"{release['version']}\n{identity}" if release["version"] else identity


def _doing(status: Status, now: datetime) -> tuple[str, str | None]:
    deployment = status["deployment"]
    if status["phase"] is None or deployment is None:
        return ("nothing" if status["phase"] is None else status["phase"]), None
    target = deployment["release"] or deployment["commit"][:12]
    started = _at(deployment["started_at"], now)
    return f"{status['phase']} of {deployment['kind']} to {target}\nbegun {started}", "cyan"


def _waiting(waiting: Status | None, now: datetime) -> tuple[str, str | None]:
    if waiting is None:
        return "", None
    text = str(waiting["reason"])
    if waiting["owner"]:
        text += f", held by {waiting['owner']}"
    text += f"\nsince {_at(waiting['since'], now)}"
    if waiting["until"]:
        text += f"\nuntil {_at(waiting['until'], now)}"
    return text, "yellow"


def _drift(drift: Status | None, now: datetime) -> tuple[str, str | None]:
    if drift is None or drift["checked_at"] is None:
        return "not looked for yet", None
    looked = f"looked {ago(drift['checked_at'], now)}, mode {drift['mode']}"
    files: Sequence[str] = drift["files"] or []
    if not files:
        return f"none, {looked}", None
    noun = "file differs" if len(files) == 1 else "files differ"
    shown = "\n".join(_some(files))
    return f"{len(files)} {noun} from the release, {looked}\n{shown}", "yellow"


def _some(files: Sequence[str]) -> Iterator[str]:
    # A name may hold a line break, and must not pass for two.
    yield from (name.replace("\n", "\\n") for name in files[:SHOWN_PATHS])
    if len(files) > SHOWN_PATHS:
        yield f"... and {len(files) - SHOWN_PATHS} more, see --json"


def _quarantine(entries: Sequence[Status] | None, now: datetime) -> tuple[str, str | None]:
    if not entries:
        return "empty", None
    listed = [
        f"{entry['release'] or entry['tree'][:12]}\n{entry['code']}, {_at(entry['at'], now)}"
        for entry in entries
    ]
    return "\n".join(listed), "red"


def _error(error: Status | None, now: datetime) -> tuple[str, str | None]:
    if error is None:
        return "none", None
    return (
        f"{error['message']}\nhint: {error['hint']}\n{error['code']}, {_at(error['at'], now)}",
        "red",
    )


def _outbox(outbox: Status | None, now: datetime) -> tuple[str]:
    if outbox is None or not outbox["rows"]:
        return ("empty",)
    noun = "event" if outbox["rows"] == 1 else "events"
    oldest = f", the oldest {ago(outbox['oldest_at'], now)}" if outbox["oldest_at"] else ""
    return (f"{outbox['rows']} {noun}, {size(outbox['bytes'] or 0)}{oldest}",)


def _connection(connection: Status | None, now: datetime, none: str) -> tuple[str, str | None]:
    if connection is None:
        return none, None
    text = str(connection["state"] or "unknown")
    if connection["since"]:
        text += f", since {_at(connection['since'], now)}"
    if connection["breaker"] not in {None, "closed"}:
        text += f"\nbreaker {connection['breaker']}"
    if connection["last_error"]:
        text += f"\n{connection['last_error']}"
    return text, None


def _agent(agent: Status | None, now: datetime) -> tuple[str, str | None]:
    if agent is None:
        return "not running", "yellow"
    return f"{agent['version']}, pid {agent['pid']}, since {_at(agent['started_at'], now)}", None
