"""Stories of deployments that wait, and of what happens to the device meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from cutting import Cut
from device import Machine

from ota_agent.errors import BackupUnusable
from ota_agent.model.deployment import Phase
from ota_agent.update.steps import LINK_PATIENCE, LINK_RETRY

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fakes.host import Ran
    from ota_agent.model.deployment import Deployment

HOOK = ("/bin/hook",)
DAY_S = 86400.0


@pytest.fixture
def machine(disk: Path) -> Iterator[Machine]:
    machine = Machine(disk / "device")
    machine.publish({"app": b"1"})
    machine.start()
    assert machine.update().phase is Phase.SUCCEEDED
    yield machine
    machine.power_off()


def publish(machine: Machine, hook: str) -> None:
    machine.publish({"app": b"2", "ota.toml": f'[hooks]\n{hook} = ["{HOOK[0]}"]\n'.encode()})


def comes_back(machine: Machine) -> Deployment | None:
    """Start again after a power cut; the source is asked, and the deployment goes on."""
    machine.power_off()
    machine.clock.advance(DAY_S)
    begun = machine.start()
    machine.look()
    return machine.settle(begun)


# --- HOLD -----------------------------------------------------------------------------------------


def test_power_cuts_do_not_count_against_a_deployment_that_only_waits(machine: Machine) -> None:
    publish(machine, "pre_activate")
    machine.host.command_answers(HOOK, 75)
    deployment = machine.settle(machine.begin())
    for _ in range(4):
        deployment = comes_back(machine)
        assert deployment is not None
        assert (deployment.phase, deployment.crashes) == (Phase.HOLD, 0)

    machine.host.command_answers(HOOK, 0)
    ended = machine.settle(deployment)

    assert ended is not None
    assert ended.phase is Phase.SUCCEEDED


def test_power_cuts_before_the_source_was_asked_do_not_count(machine: Machine) -> None:
    publish(machine, "pre_activate")
    machine.host.command_answers(HOOK, 75)
    machine.settle(machine.begin())
    for _ in range(4):
        machine.power_off()
        deployment = machine.settle(machine.start())
        assert deployment is not None
        assert (deployment.phase, deployment.crashes) == (Phase.HOLD, 0)


def test_pre_activate_that_takes_the_device_down_is_not_asked_for_ever(machine: Machine) -> None:
    publish(machine, "pre_activate")
    machine.host.command_answers(HOOK, Cut("the device goes down"))
    with pytest.raises(Cut):
        machine.settle(machine.begin())
    for _ in range(2):
        with pytest.raises(Cut):
            comes_back(machine)

    ended = comes_back(machine)

    assert ended is not None
    assert ended.phase is Phase.ABANDONED
    assert ended.error is not None
    assert ended.error.code == "agent.crashed"


# --- COMMIT ---------------------------------------------------------------------------------------


def moves_the_link_away(machine: Machine) -> None:
    """Publish a release, and have somebody move the live link back once it went live."""
    before = machine.live

    def move(_: Ran) -> None:
        machine.disk.releases.make_live(before)

    publish(machine, "post_activate")
    machine.host.command_answers(HOOK, move)


def test_live_link_that_somebody_moved_before_the_commit_is_waited_for(machine: Machine) -> None:
    moves_the_link_away(machine)
    deployment = machine.settle(machine.begin())
    assert deployment is not None
    assert deployment.phase is Phase.COMMIT
    assert machine.held is not None
    assert "look at who moved the link" in machine.held.reason
    assert machine.held.until == machine.clock.now() + LINK_RETRY

    machine.disk.releases.make_live(deployment.release)
    ended = machine.settle(deployment)

    assert ended is not None
    assert ended.phase is Phase.SUCCEEDED


def test_live_link_that_stays_moved_ends_the_deployment_without_blame(machine: Machine) -> None:
    before = machine.live
    moves_the_link_away(machine)
    deployment = machine.settle(machine.begin())
    machine.clock.advance(LINK_PATIENCE.total_seconds())

    ended = machine.settle(deployment)

    assert ended is not None
    assert ended.phase is Phase.ROLLED_BACK
    assert ended.error is not None
    assert ended.error.code == BackupUnusable.code
    assert machine.live == before
    assert machine.quarantine == {}
    machine.assert_whole()
    machine.assert_tidy()
