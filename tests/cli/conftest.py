from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner, Result

import ota_agent
from fakes.wiring import FakeWiring
from ota_agent.cli import ota_agent as commands

if TYPE_CHECKING:
    from collections.abc import Callable

CONFIG = json.dumps({"source": {"type": "git", "url": "/srv/fw.git"}})


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> FakeWiring:
    """Put a device in memory in the place of the real one."""
    fake = FakeWiring()
    monkeypatch.setitem(sys.modules, "ota_agent.wiring", fake)
    monkeypatch.setattr(ota_agent, "wiring", fake, raising=False)
    return fake


@pytest.fixture
def command(device: FakeWiring, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Run one command line with the smallest configuration."""
    monkeypatch.setenv("OTA_AGENT_CONFIG", CONFIG)

    def run(*arguments: str, **options: object) -> Result:
        return CliRunner().invoke(commands, arguments, prog_name="ota-agent", **options)  # type: ignore[arg-type]  # handed on as they are

    return run
