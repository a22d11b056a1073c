"""Starts after a device lost more than its database."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from cutting import Cut
from device import Drive, Machine

from ota_agent.config import Source
from ota_agent.model.channel import parse_channel
from ota_agent.model.deployment import Phase
from ota_agent.model.trust import Mark
from ota_agent.model.verdict import NoCandidate, Reason
from ota_agent.store import records
from ota_agent.store.outbox import Outbox
from ota_agent.update.drift import look

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PROBE = "127.0.0.1:9"
PROBED = f'[[probe]]\ntcp = "{PROBE}"\ninterval_s = 1\nrequired = 1\n'.encode()


def on_tags(disk: Path) -> Machine:
    url = "https://git.example.com/fw.git"
    source = Source(type="git", url=url, channel=parse_channel("tag:*"))
    return Machine(disk / "device", {"source": source})


def tag(machine: Machine, name: str, files: dict[str, bytes]) -> str:
    offer = machine.source.publish_tag(name, files)
    machine.files[offer.commit] = files
    return offer.commit


@pytest.fixture
def machine(disk: Path) -> Iterator[Machine]:
    """Give a device that follows tags and has its first release."""
    machine = on_tags(disk)
    tag(machine, "v1.0.0", {"app": b"one"})
    machine.start()
    assert machine.update().phase is Phase.SUCCEEDED
    yield machine
    machine.power_off()


def lose_database(machine: Machine) -> None:
    machine.power_off()
    for file in machine.paths.private_dir.glob("state.db*"):
        file.unlink()


def lose_trust(machine: Machine) -> None:
    for file in machine.paths.private_dir.glob("trust.json*"):
        file.unlink()


def goes_down_in_probation(machine: Machine) -> None:
    tag(machine, "v2.0.0", {"app": b"two", "ota.toml": PROBED})
    machine.host.probe_answers(PROBE, Cut("the device goes down"))
    with pytest.raises(Cut):
        machine.settle(machine.begin())


def refusal(machine: Machine) -> Reason | None:
    verdict = machine.look()
    return verdict.reason if isinstance(verdict, NoCandidate) else None


def test_bad_release_goes_back_when_database_and_object_store_are_lost_in_probation(
    machine: Machine,
) -> None:
    before = machine.live
    goes_down_in_probation(machine)
    lose_database(machine)
    machine.objects.set_aside()
    machine.host.probe_answers(PROBE, "red")
    ended = machine.start_again()
    assert ended is not None
    assert (ended.phase, machine.live) == (Phase.ROLLED_BACK, before)
    assert "release.probe_failed" in machine.quarantine.values()
    assert refusal(machine) is Reason.QUARANTINED


def test_good_release_stays_when_database_and_object_store_are_lost_in_probation(
    machine: Machine,
) -> None:
    goes_down_in_probation(machine)
    lose_database(machine)
    machine.objects.set_aside()
    machine.host.probe_answers(PROBE, None)
    ended = machine.start_again()
    assert ended is not None
    assert ended.phase is Phase.SUCCEEDED
    assert refusal(machine) is Reason.UP_TO_DATE


def test_live_release_is_known_when_database_and_object_store_are_lost(machine: Machine) -> None:
    commit, tree = machine.live_commit, machine.device.release(machine.live)
    lose_database(machine)
    machine.objects.set_aside()
    assert machine.start() is None
    assert machine.live_commit == commit
    assert refusal(machine) is Reason.UP_TO_DATE
    # The next look at the live tree fetches what it should hold, and knows it again.
    look(machine.device, Drive(machine.clock))
    known = machine.device.release(machine.live)
    assert known is not None
    assert tree is not None
    assert (known.tree, known.files, known.size_bytes) == (tree.tree, 1, 3)
    machine.power_off()
    assert machine.start() is None
    kinds = [event.kind for event in Outbox(machine.disk.database).next_events()]
    assert kinds == ["device.database_lost"]


def test_live_release_is_known_when_database_and_trust_are_lost(machine: Machine) -> None:
    commit = machine.live_commit
    lose_database(machine)
    lose_trust(machine)
    assert machine.start() is None
    assert machine.live_commit == commit
    assert refusal(machine) is Reason.UP_TO_DATE


def test_device_that_lost_everything_but_its_trees_takes_what_is_offered(machine: Machine) -> None:
    for _ in range(2):
        lose_database(machine)
        lose_trust(machine)
        machine.objects.set_aside()
        assert machine.start() is None
        assert machine.live_commit is None
    # What is offered turns out to be live: it is known from then on.
    assert machine.update().phase is Phase.ABANDONED
    assert refusal(machine) is Reason.UP_TO_DATE
    tag(machine, "v2.0.0", {"app": b"two"})
    assert machine.update().phase is Phase.SUCCEEDED
    machine.assert_whole()


def test_version_of_a_release_that_proved_itself_after_a_lost_database_is_not_undercut(
    machine: Machine,
) -> None:
    goes_down_in_probation(machine)
    lose_database(machine)
    machine.host.probe_answers(PROBE, None)
    machine.start_again()
    assert machine.live_commit is not None
    mark = Mark(machine.live_commit, "2.0.0")
    assert [*records.marks(machine.disk.database).values()] == [mark]
