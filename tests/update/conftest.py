"""A fast disk for the many devices of these tests; their count is told at the end of the run."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ota_agent.store import atomic

if TYPE_CHECKING:
    from collections.abc import Iterator

MEMORY = Path("/dev/shm")

TALLY = pytest.StashKey[Counter[tuple[str, str]]]()


@pytest.fixture
def tally(request: pytest.FixtureRequest) -> Counter[tuple[str, str]]:
    """Count cuts by scenario and ending."""
    return request.config.stash.setdefault(TALLY, Counter())


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Give a directory that is fast where there is one in memory: for hundreds of devices."""
    if not os.access(MEMORY, os.W_OK):
        yield tmp_path
        return
    place = Path(tempfile.mkdtemp(prefix="ota-agent-", dir=MEMORY))
    yield place
    atomic.remove_tree(place, durable=False)  # sealed trees are in it


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    counted = config.stash.get(TALLY, None)
    if not counted:
        return
    terminalreporter.section("power cuts by scenario and ending")
    for name in sorted({name for name, _ in counted}):
        endings = {ending: count for (one, ending), count in counted.items() if one == name}
        told = ", ".join(f"{ending} {count}" for ending, count in sorted(endings.items()))
        terminalreporter.line(f"{name}: {sum(endings.values())} cuts: {told}")
    terminalreporter.line(f"in all: {counted.total()} cuts")
