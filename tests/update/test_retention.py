from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from device import Machine
from shelf import names_in

from fakes.progress import FakeProgress
from ota_agent.config import Backups
from ota_agent.errors import Stopped
from ota_agent.update.retention import make_room, prune

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MANIFEST = b'[[persist]]\npath = "data"\nbackup = true\n'


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    made = Machine(tmp_path / "device", {"backups": Backups(keep=2, keep_data=1)})
    made.start()
    yield made
    made.power_off()


def deploy(machine: Machine, *names: str) -> list[str]:
    ids = []
    for name in names:
        machine.publish({"ota.toml": MANIFEST, "app.py": name.encode()})
        ended = machine.update()
        assert ended.release is not None
        ids.append(ended.release)
    return ids


def backups(machine: Machine) -> list[str]:
    return [backup.deployment for backup in machine.disk.backups.list()]


def test_success_keeps_so_many_backups_and_the_releases_that_they_name(machine: Machine) -> None:
    ids = deploy(machine, "a", "b", "c", "d", "e")

    # The two newest backups name the releases before `e` and before `d`, and what was before them.
    assert machine.disk.releases.kept() == sorted([ids[4], ids[3], ids[2], ids[1]])
    assert len(backups(machine)) == 2
    assert set(machine.objects.held()) == set(machine.disk.releases.kept())
    assert machine.objects.tidied == 5
    machine.assert_tidy()


def test_directory_that_is_no_release_is_left_alone(machine: Machine) -> None:
    theirs = machine.paths.releases_dir / "20260101"
    theirs.mkdir()
    (theirs / "app").write_bytes(b"theirs")

    deploy(machine, "a", "b", "c", "d", "e")

    assert (theirs / "app").read_bytes() == b"theirs"


def test_only_the_newest_backup_keeps_its_data(machine: Machine) -> None:
    deploy(machine, "a")
    machine.data("data/n").write_bytes(b"1")
    ids = deploy(machine, "b", "c", "d")

    assert machine.disk.backups.newest_with_data_of(ids[1]) is not None
    assert machine.disk.backups.newest_with_data_of(ids[0]) is None


def test_data_that_a_restore_moved_aside_go_with_the_next_success(machine: Machine) -> None:
    deploy(machine, "a", "b")
    newest = machine.disk.backups.list()[0].deployment
    displaced = machine.paths.backups_dir / newest / "displaced"
    displaced.mkdir()
    (displaced / "data").write_bytes(b"what the bad release wrote")

    prune(machine.device, FakeProgress())

    assert not displaced.exists()


def test_failing_to_prune_fails_nothing_and_is_made_up_for_later(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    deploy(machine, "a", "b", "c")
    drop = machine.objects.drop

    def fail(_: str) -> None:
        machine.objects.tree_of("no such commit")

    monkeypatch.setattr(machine.objects, "drop", fail)
    deploy(machine, "d", "e")
    monkeypatch.setattr(machine.objects, "drop", drop)
    ids = deploy(machine, "f")

    assert machine.disk.releases.live() == ids[0]
    machine.assert_tidy()


def test_agent_that_ends_while_it_prunes_has_succeeded(machine: Machine) -> None:
    deploy(machine, "a", "b")
    progress = FakeProgress()
    progress.end(Stopped("the agent was asked to end"))

    with pytest.raises(Stopped):
        prune(machine.device, progress)

    machine.assert_tidy()


# --- under pressure -------------------------------------------------------------------------------


def test_room_is_made_from_the_spare_then_from_the_oldest_backup(machine: Machine) -> None:
    ids = deploy(machine, "a", "b", "c", "d", "e")
    kept = backups(machine)

    given = []
    for _ in range(3):
        assert make_room(machine.device)
        machine.assert_tidy()
        given.append((machine.disk.releases.has_spare, backups(machine)))

    assert given == [(False, kept), (True, kept[:1]), (False, kept[:1])]
    assert machine.disk.releases.kept() == sorted([ids[4], ids[3], ids[2]])
    assert not make_room(machine.device)


def test_way_back_of_the_live_release_is_never_given_up(machine: Machine) -> None:
    ids = deploy(machine, "a", "b", "c", "d")
    while make_room(machine.device):
        pass

    back = machine.roll_back()

    assert back.phase == "succeeded"
    assert machine.disk.releases.live() == ids[2]


def test_new_device_has_no_room_to_make(machine: Machine) -> None:
    assert not make_room(machine.device)
    assert names_in(machine.paths.backups_dir) == []
