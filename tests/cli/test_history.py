from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click
import pytest

from ota_agent.cli.history_table import lines

if TYPE_CHECKING:
    from collections.abc import Callable

    from click.testing import Result

    from fakes.wiring import FakeWiring

COMMIT = "0123456789abcdef0123456789abcdef01234567"

SUCCEEDED: dict[str, Any] = {
    "deployment": "2-abcdef",
    "kind": "update",
    "release": "1.4.0-abc123-0123456789ab",
    "commit": COMMIT,
    "from": "1.3.0-abc123-0123456789ab",
    "phase": "succeeded",
    "ending": "succeeded",
    "error": None,
    "started_at": "2026-03-01T09:00:00Z",
    "finished_at": "2026-03-01T09:00:02.5Z",
    "duration_s": 2.5,
    "bytes_fetched": 4_404_019,
}
FAILED = {
    **SUCCEEDED,
    "release": "a-branch-with-a-long-name-abc123-0123456789ab",
    "phase": "rolled_back",
    "ending": "rolled_back",
    "error": {
        "code": "release.probe_failed",
        "message": "http://127.0.0.1:8080/healthz answers 500 " * 6,
        "hint": "Publish a new release.",
        "at": "2026-03-01T09:00:02Z",
    },
    "bytes_fetched": 0,
}
IN_FLIGHT = {
    **SUCCEEDED,
    "kind": "first",
    "release": None,
    "phase": "fetch",
    "ending": None,
    "finished_at": None,
    "duration_s": None,
    "bytes_fetched": 0,
}


def test_table_has_one_deployment_a_line_in_80_columns() -> None:
    table = [click.unstyle(line) for line in lines([IN_FLIGHT, FAILED, SUCCEEDED])]
    assert table == [
        "STARTED (UTC)    KIND     RELEASE                   ENDING      TOOK    FETCHED",
        "2026-03-01 09:00 first    0123456789ab              fetch...",
        "2026-03-01 09:00 update   a-branch..23-0123456789ab rolled_back 2.5 s",
        "  release.probe_failed: http://127.0.0.1:8080/healthz answers 500",
        "  http://127.0.0.1:8080/healthz answers 500 http://127.0.0.1:8080/healthz ...",
        "2026-03-01 09:00 update   1.4.0-abc123-0123456789ab succeeded   2.5 s   4.2 MiB",
    ]
    assert max(map(len, table)) <= 80


@pytest.mark.parametrize("deployment", [SUCCEEDED, FAILED, IN_FLIGHT])
def test_colour_changes_no_column(deployment: dict[str, Any]) -> None:
    row = lines([deployment])[1]
    assert "\x1b[" in row
    assert click.unstyle(row).index(str(deployment["ending"] or "fetch")) == 52


def test_command_prints_the_table_newest_first(
    device: FakeWiring, command: Callable[..., Result]
) -> None:
    device.history = [SUCCEEDED, FAILED]
    assert len(command("history").stdout.splitlines()) == 5
    assert len(command("history", "--limit", "1").stdout.splitlines()) == 2


def test_command_prints_the_array_as_it_is(
    device: FakeWiring, command: Callable[..., Result]
) -> None:
    device.history = [SUCCEEDED]
    assert json.loads(command("history", "--json").stdout) == [SUCCEEDED]


def test_device_without_a_history_is_told_in_a_sentence(
    device: FakeWiring, command: Callable[..., Result]
) -> None:
    result = command("history")
    assert result.exit_code == 0
    assert result.stdout == "nothing was deployed in /var/lib/ota-agent yet\n"
    assert json.loads(command("history", "--json").stdout) == []


def test_limit_is_at_least_one(command: Callable[..., Result]) -> None:
    assert command("history", "--limit", "0").exit_code == 2
