from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from device import Drive, Machine

from ota_agent.model.manifest import Manifest
from ota_agent.update.device import Job

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FILES = {"ota.toml": b'version = "1.0.0"\n', "app.py": b"print(1)\n"}


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    made = Machine(tmp_path / "device")
    made.start()
    yield made
    made.power_off()


def job(machine: Machine) -> Job:
    machine.publish(FILES)
    ended = machine.update()
    return Job(ended, machine.device, Drive(machine.clock))


def test_release_is_known_by_its_id(machine: Machine) -> None:
    made = job(machine)

    known = machine.device.release(made.target)

    assert known is not None
    assert known.version == "1.0.0"
    assert machine.device.release(None) is None
    assert machine.device.release("no such release") is None


def test_content_of_a_release_is_listed(machine: Machine) -> None:
    made = job(machine)

    entries = machine.device.entries(made.target, made.progress)

    assert [entry.path for entry in entries] == ["app.py", "ota.toml"]
    assert machine.device.entries("no such release", made.progress) == []


def test_damaged_object_store_does_not_stop_what_only_looks_at_the_live_release(
    machine: Machine,
) -> None:
    made = job(machine)
    entry = machine.device.entries(made.target, made.progress)[0]
    machine.objects.lose(entry.oid)

    assert machine.device.entries(made.target, made.progress) == []


def test_channel_is_known_by_its_canonical_text(machine: Machine) -> None:
    assert machine.device.channel == "branch:HEAD"


def test_manifest_of_a_release_that_nobody_knows_is_empty(machine: Machine) -> None:
    made = job(machine)

    assert made.manifest(made.target).version == "1.0.0"
    assert made.manifest("no such release") == Manifest()
    assert made.manifest(None) == Manifest()


def test_commands_see_the_device_the_deployment_and_the_release(machine: Machine) -> None:
    made = job(machine)
    release = made.target

    assert made.environment(release) == {
        "OTA_DEVICE_ID": "bench",
        "OTA_DEPLOYMENT": made.deployment.id,
        "OTA_KIND": "first",
        "OTA_RELEASE": release,
        "OTA_VERSION": "1.0.0",
        "OTA_COMMIT": made.deployment.commit,
        "OTA_FROM_RELEASE": "",
        "OTA_RELEASE_DIR": str(machine.paths.releases_dir / release),
        "OTA_PERSIST_DIR": str(machine.paths.persist_dir),
    }
    assert made.tree_dir == machine.paths.releases_dir / release


def test_commands_of_a_release_that_nobody_knows_see_empty_values(machine: Machine) -> None:
    seen = job(machine).environment("lost")

    assert (seen["OTA_VERSION"], seen["OTA_COMMIT"]) == ("", "")


def test_note_is_in_the_journal_before_the_effect(machine: Machine) -> None:
    machine.publish(FILES)
    made = Job(machine.begin(), machine.device, Drive(machine.clock))

    made.note(stopped=["a.service"])

    found = machine.disk.journal.in_flight()
    assert found is not None
    assert found == made.deployment
    assert found.notes["stopped"] == ["a.service"]


def test_offer_is_the_one_that_the_deployment_took_up(machine: Machine) -> None:
    offer = machine.publish(FILES)
    made = Job(machine.begin(), machine.device, Drive(machine.clock))
    assert (made.offer.commit, made.offer.ref, made.offer.version) == (
        offer.commit,
        offer.ref,
        None,
    )

    machine.settle(made.deployment)
    machine.publish({**FILES, "app.py": b"print(2)\n"})
    done = Job(machine.update(), machine.device, Drive(machine.clock))
    assert str(done.offer.version) == "1.0.0"
