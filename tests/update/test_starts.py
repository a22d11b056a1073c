"""Starts on a disk that fails, and with less left than a lost database alone takes."""

from __future__ import annotations

from typing import TYPE_CHECKING
from unittest import mock

import pytest
from cutting import Cut
from device import Machine

from fakes.object_store import Executable
from ota_agent.errors import DiskFault, DiskFull, StoreDamaged
from ota_agent.model.deployment import Phase
from ota_agent.store.backups import BackupStore
from ota_agent.store.trust import TrustFile

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from device import Files

HOOK = ("bin/hook",)
PROBE = "127.0.0.1:9"
DATA = '[[persist]]\npath = "data"\nbackup = true\n'
PROBED = f'[[probe]]\ntcp = "{PROBE}"\ninterval_s = 1\nrequired = 1\n'
HOOKED = '[hooks]\npost_activate = ["bin/hook"]\n'


def release(text: str, manifest: str = "") -> Files:
    return {
        "app": text.encode(),
        "bin/hook": Executable(b"#!/bin/sh\n"),
        "data/db": b"seed",
        "ota.toml": (manifest + DATA).encode(),
    }


@pytest.fixture
def machine(disk: Path) -> Iterator[Machine]:
    """Give a device that has its first release."""
    machine = Machine(disk / "device")
    machine.publish(release("one"))
    machine.start()
    assert machine.update().phase is Phase.SUCCEEDED
    yield machine
    machine.power_off()


def lose_database(machine: Machine) -> None:
    machine.power_off()
    for file in machine.paths.private_dir.glob("state.db*"):
        file.unlink()


# --- starts on a disk that fails ------------------------------------------------------------------


def quarantined(machine: Machine) -> dict[str, str]:
    """Have a release fail in its activation; give what is refused then."""
    machine.publish(release("bad", HOOKED))
    machine.host.command_answers(HOOK, 1)
    assert machine.update().phase is Phase.ROLLED_BACK
    return machine.quarantine


def test_quarantine_survives_when_both_copies_of_trust_are_damaged(machine: Machine) -> None:
    refused = quarantined(machine)
    machine.power_off()
    copies = [machine.paths.trust_file, machine.paths.trust_file.with_name("trust.json.2")]
    for copy in copies:
        copy.write_bytes(b"damaged")
    machine.start()
    assert machine.quarantine == refused
    lose_database(machine)
    machine.start()  # what was written anew at the last start is known to this one
    assert machine.quarantine == refused


def test_full_disk_does_not_keep_the_agent_from_starting(machine: Machine) -> None:
    machine.publish(release("two"))
    with mock.patch.object(TrustFile, "write", side_effect=[None, DiskFull("full")]):
        assert machine.update().phase is Phase.SUCCEEDED
    live = machine.live
    machine.power_off()
    with mock.patch.object(TrustFile, "write", side_effect=DiskFull("full")):
        assert machine.start() is None
    assert machine.live == live
    machine.start_again()
    machine.assert_tidy()


def test_disk_that_fails_while_it_is_tidied_does_not_keep_the_agent_from_starting(
    machine: Machine,
) -> None:
    live = machine.live
    with mock.patch.object(BackupStore, "prune", side_effect=DiskFault("bad sector")):
        assert machine.start_again() is None
    assert machine.live == live


# --- probation without a way back -----------------------------------------------------------------


@pytest.mark.parametrize(("red", "ending"), [(None, Phase.SUCCEEDED), ("refused", Phase.STUCK)])
def test_release_in_probation_whose_backup_is_lost_too_stays_or_waits_for_somebody(
    machine: Machine, red: str | None, ending: Phase
) -> None:
    before = machine.live
    machine.publish(release("two", PROBED))
    machine.host.probe_answers(PROBE, Cut("the device goes down"))
    with pytest.raises(Cut):
        machine.update()
    lose_database(machine)
    for backup in machine.paths.backups_dir.iterdir():
        backup.rename(machine.work_dir.parent / backup.name)
    machine.host.probe_answers(PROBE, red)
    ended = machine.start_again()
    assert ended is not None
    assert (ended.phase, ended.from_release) == (ending, before)
    assert machine.live == ended.release
    machine.assert_whole()


def test_release_whose_content_is_damaged_is_known_by_its_tree_after_a_lost_database(
    machine: Machine,
) -> None:
    live = machine.live
    lose_database(machine)
    with mock.patch.object(machine.objects, "listing", side_effect=StoreDamaged("bad sector")):
        machine.start()
    assert machine.live == live
    assert machine.device.release(live) is not None


def test_live_release_that_the_database_forgot_is_known_again(machine: Machine) -> None:
    live = machine.live
    with machine.disk.database.transaction() as transaction:
        transaction.execute("DELETE FROM releases")
    machine.start_again()
    known = machine.device.release(live)
    assert known is not None
    assert known.succeeded_at is not None
    assert (
        machine.disk.database.rows("SELECT 1 FROM outbox WHERE kind = 'device.database_lost'") == []
    )
    machine.assert_tidy()
