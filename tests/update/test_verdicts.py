from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from device import Machine

from ota_agent.errors import AgentError, CommandsUnusable, DeadlineExceeded, DiskFault, ProbeFailed
from ota_agent.model.deployment import Phase
from ota_agent.model.verdict import NoCandidate, Reason
from ota_agent.update.flow import FAILURES_BEFORE_BACKOFF

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MANIFEST = b'[probation]\nseconds = 1\n[[probe]]\ncommand = ["check"]\n'
FILES = {"ota.toml": MANIFEST, "app.py": b"print(1)\n"}


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    machine = Machine(tmp_path / "device")
    machine.start()
    yield machine
    machine.power_off()


@pytest.mark.parametrize(
    "error",
    [CommandsUnusable("no user"), DiskFault("an I/O error"), DeadlineExceeded("it hung")],
)
def test_release_that_the_device_fails_with_again_and_again_has_to_wait(
    machine: Machine, error: AgentError
) -> None:
    """Without blame, and without a wait, what is live would come and go with every poll."""
    machine.publish(FILES)
    machine.host.probe_answers("check", error)
    for _ in range(FAILURES_BEFORE_BACKOFF):
        assert machine.update().phase is Phase.ROLLED_BACK

    verdict = machine.look()
    assert isinstance(verdict, NoCandidate)
    assert verdict.reason is Reason.BACKING_OFF
    assert machine.quarantine == {}


def test_release_that_is_to_blame_is_quarantined_and_not_counted(machine: Machine) -> None:
    machine.publish(FILES)
    machine.host.probe_answers("check", ProbeFailed("red"))
    machine.update()

    verdict = machine.look()
    assert isinstance(verdict, NoCandidate)
    assert verdict.reason is Reason.QUARANTINED
