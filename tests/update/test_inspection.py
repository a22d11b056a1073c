"""What VERIFY finds of an offer, and when it takes away too much of what is live."""

from __future__ import annotations

from typing import TYPE_CHECKING
from unittest import mock

import pytest
from device import Machine

from ota_agent.config import Source
from ota_agent.model.channel import parse_channel
from ota_agent.model.deployment import Phase
from ota_agent.model.verdict import NoCandidate, Reason
from ota_agent.store import records

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from device import Files

    from ota_agent.model.deployment import Deployment

MANIFEST = b'[[persist]]\npath = "data"\n'
MANY: Files = {"ota.toml": MANIFEST, **{f"lib/{n}": b"%d" % n for n in range(60)}}
FEW: Files = {"ota.toml": MANIFEST, "lib/0": b"0"}


def lose_nothing(_: Machine) -> None:
    """Leave the device as it is."""


def lose_the_store(machine: Machine) -> None:
    machine.objects.set_aside()


def lose_store_and_record(machine: Machine) -> None:
    machine.objects.set_aside()
    with machine.disk.database.transaction() as transaction:
        transaction.execute("DELETE FROM releases")


LOSSES = [lose_nothing, lose_the_store, lose_store_and_record]


@pytest.fixture
def machine(disk: Path) -> Iterator[Machine]:
    """Give a device whose live release has many files."""
    machine = Machine(disk / "device")
    machine.publish(MANY)
    machine.start()
    assert machine.update().phase is Phase.SUCCEEDED
    yield machine
    machine.power_off()


def code_of(deployment: Deployment) -> str | None:
    return None if deployment.error is None else deployment.error.code


@pytest.mark.parametrize("lose", LOSSES)
def test_mass_deletion_is_refused_even_when_only_the_live_tree_tells_what_there_was(
    machine: Machine, lose: Callable[[Machine], None]
) -> None:
    before = machine.live
    machine.publish(FEW)
    lose(machine)
    ended = machine.update()

    assert (ended.phase, code_of(ended)) == (Phase.ABANDONED, Reason.TOO_MANY_DELETIONS)
    assert machine.live == before
    refusal = machine.look()
    assert isinstance(refusal, NoCandidate)
    assert refusal.reason is Reason.TOO_MANY_DELETIONS
    assert records.quarantine(machine.disk.database) == {}


@pytest.mark.parametrize("lose", LOSSES)
def test_update_that_keeps_most_files_goes_live_whatever_was_lost(
    machine: Machine, lose: Callable[[Machine], None]
) -> None:
    files = dict(list(MANY.items())[:40])
    offer = machine.publish(files)
    lose(machine)

    assert machine.update().phase is Phase.SUCCEEDED
    assert machine.live_commit == offer.commit


def test_persistent_paths_are_no_files_that_a_release_takes_away(disk: Path) -> None:
    paths = [f"data/{n}" for n in range(25)]
    manifest = "".join(f'[[persist]]\npath = "{path}"\n' for path in paths)
    machine = Machine(disk / "other")
    machine.publish({"ota.toml": manifest.encode(), "app": b"1"})
    machine.start()
    machine.update()
    machine.publish({"app": b"2"})
    machine.objects.set_aside()

    assert machine.update().phase is Phase.SUCCEEDED
    machine.power_off()


@pytest.mark.parametrize(("needed", "phase"), [("1.0", Phase.SUCCEEDED), ("99.0", Phase.ABANDONED)])
def test_release_for_a_newer_agent_is_left_to_it(
    machine: Machine, needed: str, phase: Phase
) -> None:
    machine.publish({**MANY, "ota.toml": f'min_agent = "{needed}"\n'.encode() + MANIFEST})
    ended = machine.update()

    assert ended.phase is phase
    assert code_of(ended) == (None if phase is Phase.SUCCEEDED else Reason.AGENT_TOO_OLD)
    assert machine.quarantine == {}


def test_tag_and_manifest_that_name_two_versions_are_the_publishers(disk: Path) -> None:
    channel = parse_channel("tag:*")
    source = Source(type="git", url="https://git.example.com/fw.git", channel=channel)
    machine = Machine(disk / "other", {"source": source})
    offer = machine.source.publish_tag("v1.2.0", {"app": b"1", "ota.toml": b'version = "1.3.0"\n'})
    machine.start()

    assert code_of(machine.update()) == "release.version_mismatch"
    assert machine.quarantine == {offer.commit: "release.version_mismatch"}
    machine.power_off()


def test_object_store_that_gives_less_than_it_was_asked_for_is_damaged(machine: Machine) -> None:
    machine.publish(FEW)
    with mock.patch.object(machine.objects, "contents", return_value=iter(())):
        ended = machine.update()

    assert (ended.phase, code_of(ended)) == (Phase.ABANDONED, "device.store_damaged")
    assert machine.quarantine == {}
