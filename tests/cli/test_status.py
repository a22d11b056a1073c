from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from ota_agent.cli.status_page import lines

if TYPE_CHECKING:
    from collections.abc import Callable

    from click.testing import Result

    from fakes.wiring import FakeWiring

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
COMMIT = "0123456789abcdef0123456789abcdef01234567"

NOTHING: dict[str, Any] = {
    "device_id": None,
    "status": "OFFLINE",
    "phase": None,
    "waiting": None,
    "live": None,
    "previous": None,
    "last_good": None,
    "target": None,
    "deployment": None,
    "drift": {"mode": "report", "files": [], "checked_at": None},
    "quarantine": [],
    "last_error": None,
    "outbox": {"rows": 0, "bytes": 0, "oldest_at": None},
    "connections": {"source": None, "supabase": None},
    "agent": None,
}


def release(version: str | None, since: str | None = "2026-03-01T09:00:00Z") -> dict[str, Any]:
    label = version or "main"
    return {
        "release": f"{label}-abc123-0123456789ab",
        "commit": COMMIT,
        "version": version,
        "since": since,
    }


BUSY = {
    **NOTHING,
    "device_id": "kiosk-7",
    "status": "UPDATING",
    "phase": "hold",
    "waiting": {
        "reason": "an application holds the lock cashier, which it took for a payment at the till",
        "since": "2026-03-01T11:50:00Z",
        "until": "2026-03-01T12:30:00Z",
        "owner": "pid 815",
    },
    "live": release("1.3.0"),
    "previous": release("1.2.0"),
    "last_good": release("1.3.0"),
    "target": release("1.4.0", since="2026-03-01T11:45:00Z"),
    "deployment": {
        "deployment": "12-abcdef",
        "kind": "update",
        "release": "1.4.0-abc123-0123456789ab",
        "commit": COMMIT,
        "started_at": "2026-03-01T11:45:00Z",
    },
    "drift": {
        "mode": "report",
        "files": [f"app/{n}.py" for n in range(7)],
        "checked_at": "2026-03-01T11:59:00Z",
    },
    "quarantine": [
        {
            "tree": "f" * 40,
            "release": "1.3.9-abc123-0123456789ab",
            "code": "release.probe_failed",
            "at": "2026-02-28T12:00:00Z",
            "attempts": 1,
        },
        {
            "tree": "e" * 40,
            "release": None,
            "code": "release.empty",
            "at": "2026-02-28T12:00:00Z",
            "attempts": 0,
        },
    ],
    "last_error": {
        "code": "source.unreachable",
        "message": "git.example.com does not answer",
        "hint": "Check the network.",
        "at": "2026-03-01T10:00:00Z",
    },
    "outbox": {"rows": 3, "bytes": 2048, "oldest_at": "2026-03-01T11:00:00Z"},
    "connections": {
        "source": {
            "state": "offline",
            "since": "2026-03-01T10:00:00Z",
            "breaker": "open",
            "last_error": "no answer within 10 s",
        },
        "supabase": None,
    },
    "agent": {
        "version": "0.1.0",
        "pid": 77,
        "started_at": "2026-03-01T08:00:00Z",
        "boot_id": "b",
    },
}

PAGE = """\
device      kiosk-7  UPDATING
runs        1.3.0, since 2026-03-01 09:00 UTC (3.0 h ago)
            1.3.0-abc123-0123456789ab
previous    1.2.0, since 2026-03-01 09:00 UTC (3.0 h ago)
            1.2.0-abc123-0123456789ab
last good   1.3.0, since 2026-03-01 09:00 UTC (3.0 h ago)
            1.3.0-abc123-0123456789ab
target      1.4.0
            1.4.0-abc123-0123456789ab
doing       hold of update to 1.4.0-abc123-0123456789ab
            begun 2026-03-01 11:45 UTC (15 min ago)
waits for   an application holds the lock cashier, which it took for a payment
            at the till, held by pid 815
            since 2026-03-01 11:50 UTC (10 min ago)
            until 2026-03-01 12:30 UTC (in 30 min)
drift       7 files differ from the release, looked 1.0 min ago, mode report
            app/0.py
            app/1.py
            app/2.py
            app/3.py
            app/4.py
            ... and 2 more, see --json
quarantine  1.3.9-abc123-0123456789ab
            release.probe_failed, 2026-02-28 12:00 UTC (1.0 d ago)
            eeeeeeeeeeee
            release.empty, 2026-02-28 12:00 UTC (1.0 d ago)
last error  git.example.com does not answer
            hint: Check the network.
            source.unreachable, 2026-03-01 10:00 UTC (2.0 h ago)
outbox      3 events, 2.0 KiB, the oldest 1.0 h ago
source      offline, since 2026-03-01 10:00 UTC (2.0 h ago)
            breaker open
            no answer within 10 s
supabase    not used
agent       0.1.0, pid 77, since 2026-03-01 08:00 UTC (4.0 h ago)"""


def page(status: dict[str, Any]) -> str:
    return click.unstyle("\n".join(lines(status, NOW)))


def test_page_tells_everything_in_80_columns() -> None:
    told = page(BUSY)
    assert told == PAGE
    assert max(map(len, told.splitlines())) <= 80


def test_quiet_device_has_a_short_page() -> None:
    quiet = {
        **NOTHING,
        "device_id": "kiosk-7",
        "status": "ONLINE",
        "live": release(None, since=None),
        "drift": {"mode": "repair", "files": [], "checked_at": "2026-03-01T11:59:00Z"},
        "connections": {
            "source": {"state": "online", "since": None, "breaker": "closed", "last_error": None},
            "supabase": None,
        },
    }
    assert page(quiet).splitlines() == [
        "device      kiosk-7  ONLINE",
        "runs        main-abc123-0123456789ab",
        "previous    nothing",
        "last good   nothing",
        "target      none",
        "doing       nothing",
        "drift       none, looked 1.0 min ago, mode repair",
        "quarantine  empty",
        "last error  none",
        "outbox      empty",
        "source      online",
        "supabase    not used",
        "agent       not running",
    ]


def test_what_is_not_known_is_said_in_words() -> None:
    status = {
        **BUSY,
        "deployment": {**BUSY["deployment"], "release": None, "started_at": None},
        "waiting": {**BUSY["waiting"], "owner": None, "until": None},
        "drift": {"mode": "report", "files": ["a"], "checked_at": "2026-03-01T11:59:00Z"},
        "target": {"release": None, "commit": COMMIT, "version": None, "since": None},
        "outbox": {"rows": 1, "bytes": 10, "oldest_at": None},
    }
    told = page(status)
    assert "target      0123456789ab\n" in told
    assert "hold of update to 0123456789ab\n            begun an unknown time" in told
    assert "1 file differs" in told
    assert "outbox      1 event, 10 B\n" in told
    assert "held by" not in told
    assert "until" not in told
    assert "drift       not looked for yet" in page(NOTHING)
    assert "doing       restore" in page({**BUSY, "phase": "restore", "deployment": None})


def test_page_obeys_no_control_characters_and_no_broken_names() -> None:
    files = ["a\x1b[2J\udcff", "b\nagent       not running"]
    drift = {"mode": "report", "files": files, "checked_at": "2026-03-01T11:59:00Z"}
    told = page({**BUSY, "drift": drift})
    assert "\x1b" not in told
    assert "\nagent       not running" not in told
    told.encode()


def test_status_is_told_by_colour_on_a_terminal() -> None:
    assert lines(BUSY, NOW)[0].endswith("\x1b[36mkiosk-7  UPDATING\x1b[0m")


def test_command_prints_the_page(device: FakeWiring, command: Callable[..., Result]) -> None:
    device.status = BUSY
    result = command("status")
    assert result.exit_code == 0
    assert result.stdout.startswith("device      kiosk-7  UPDATING\n")


def test_command_prints_the_object_as_it_is(
    device: FakeWiring, command: Callable[..., Result]
) -> None:
    device.status = BUSY
    assert json.loads(command("status", "--json").stdout) == BUSY


def test_fresh_machine_is_told_in_a_sentence(
    device: FakeWiring, command: Callable[..., Result]
) -> None:
    device.status = NOTHING
    result = command("status")
    assert (result.exit_code, result.stdout) == (
        0,
        "no agent has run in /var/lib/ota-agent yet\n",
    )
    assert json.loads(command("status", "--json").stdout)["live"] is None
