"""What goes live, or comes back, is exactly its release: nothing that was edited meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING
from unittest import mock

import pytest
from device import Drive, Machine
from shelf import tree_at, tree_of
from typing_extensions import override

from fakes.object_store import Executable
from ota_agent.errors import DiskFull, Stopped
from ota_agent.model.deployment import Phase
from ota_agent.store import atomic, space
from ota_agent.store.releases import ReleaseStore
from ota_agent.store.space import Space

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from device import Files

    from fakes.host import Ran
    from ota_agent.model.deployment import Deployment

PROBE = "127.0.0.1:9"
FAILS = f'[[probe]]\ntcp = "{PROBE}"\ninterval_s = 1\nrequired = 1\n'


class Meanwhile(Drive):
    """Does something when a phase begins."""

    def __init__(self, machine: Machine, phase: Phase, act: Callable[[], object]) -> None:
        super().__init__(machine.clock)
        self._phase, self._act = phase, act

    @override
    def begin(self, phase: str, deadline_s: float) -> None:
        super().begin(phase, deadline_s)
        if phase == self._phase:
            self._act()


def release(text: str, manifest: str = "") -> Files:
    return {
        "app": text.encode(),
        "same": b"the same in all",
        "bin/run": Executable(b"#!/bin/sh\n"),
        "ota.toml": manifest.encode(),
    }


@pytest.fixture
def machine(disk: Path) -> Iterator[Machine]:
    """Give a device with two releases, and a red probe for those that declare it."""
    machine = Machine(disk / "device")
    machine.start()
    for text in ("one", "two"):
        machine.publish(release(text))
        assert machine.update().phase is Phase.SUCCEEDED
    machine.host.probe_answers(PROBE, "red")
    yield machine
    machine.power_off()


def deploy(machine: Machine, phase: Phase, act: Callable[[], object]) -> Deployment:
    return machine.manager.deploy(machine.begin(), Meanwhile(machine, phase, act))


def staged(machine: Machine) -> Path:
    in_flight = machine.disk.journal.in_flight()
    assert in_flight is not None
    assert in_flight.release is not None
    return machine.paths.release_dir(in_flight.release)


def lose_contents(machine: Machine) -> None:
    """Have the object store still list what it does not hold any more."""
    trees = dict(machine.objects.trees)
    machine.objects.blobs.clear()
    machine.objects.listing = lambda tree, progress: trees[tree]  # type: ignore[method-assign]


def live_tree(machine: Machine) -> object:
    assert machine.live is not None
    return tree_at(machine.paths.release_dir(machine.live))


# --- what goes live -------------------------------------------------------------------------------


def test_edit_of_a_shared_file_while_a_release_waits_does_not_go_live_with_it(
    machine: Machine,
) -> None:
    files = release("three")
    machine.publish(files)
    ended = deploy(machine, Phase.HOLD, lambda: machine.edit("same", b"by hand"))

    assert ended.phase is Phase.SUCCEEDED
    assert live_tree(machine) == tree_of(files)
    assert b"by hand" in (machine.paths.backups_dir / ended.id / "local.patch").read_bytes()


def test_staged_tree_that_is_damaged_while_it_waits_goes_live_whole(machine: Machine) -> None:
    def damage() -> None:
        tree = staged(machine)
        tree.chmod(0o755)
        (tree / "same").unlink()
        (tree / "app").chmod(0o644)
        (tree / "app").write_bytes(b"damaged")

    files = release("three")
    machine.publish(files)

    assert deploy(machine, Phase.HOLD, damage).phase is Phase.SUCCEEDED
    assert live_tree(machine) == tree_of(files)


def test_edit_while_the_agent_is_stopped_before_activation_does_not_go_live(
    machine: Machine,
) -> None:
    def stop() -> None:
        raise Stopped("SIGTERM")

    files = release("three")
    machine.publish(files)
    with pytest.raises(Stopped):
        deploy(machine, Phase.ACTIVATE, stop)
    machine.stop()
    resumed = machine.start()
    assert resumed is not None
    assert resumed.phase is Phase.ACTIVATE
    machine.edit("same", b"by hand")
    ended = machine.settle(resumed)

    assert ended is not None
    assert ended.phase is Phase.SUCCEEDED
    assert live_tree(machine) == tree_of(files)


def test_activation_that_was_stopped_in_its_hook_leaves_what_is_live_by_then_as_it_is(
    machine: Machine,
) -> None:
    def edit_and_stop(_: Ran) -> None:
        machine.edit("app", b"by the hook")
        raise Stopped("SIGTERM")

    machine.publish(release("three", '[hooks]\npost_activate = ["bin/run"]\n'))
    machine.host.command_answers(("bin/run",), edit_and_stop, 0)
    with pytest.raises(Stopped):
        machine.update()
    machine.stop()
    ended = machine.settle(machine.start())

    assert ended is not None
    assert ended.phase is Phase.SUCCEEDED
    assert (machine.paths.live_link / "app").read_bytes() == b"by the hook"


def test_damaged_tree_that_nothing_can_mend_does_not_go_live(machine: Machine) -> None:
    def damage() -> None:
        tree = staged(machine)
        tree.chmod(0o755)
        (tree / "app").unlink()
        lose_contents(machine)

    before = machine.live
    machine.publish(release("three"))
    ended = deploy(machine, Phase.HOLD, damage)

    assert ended.phase is Phase.ABANDONED
    assert ended.error is not None
    assert ended.error.code == "device.store_damaged"
    assert machine.live == before
    assert machine.quarantine == {}


# --- what comes back ------------------------------------------------------------------------------


def fail(machine: Machine, *also: Callable[[], object]) -> Deployment:
    """Deploy a release that writes into a file which it shares, and then fails."""

    def write() -> None:
        machine.edit("same", b"by the bad release")
        for act in also:
            act()

    machine.publish(release("three", FAILS))
    return deploy(machine, Phase.CONFIRM, write)


def test_restored_release_has_none_of_what_the_failing_one_wrote_into_shared_files(
    machine: Machine,
) -> None:
    assert fail(machine).phase is Phase.ROLLED_BACK
    assert live_tree(machine) == tree_of(release("two"))


def test_lost_object_store_does_not_bar_the_way_back(machine: Machine) -> None:
    before = machine.live
    ended = fail(machine, machine.objects.set_aside)

    assert ended.phase is Phase.ROLLED_BACK
    assert machine.live == before


def test_content_that_is_gone_does_not_bar_the_way_back(machine: Machine) -> None:
    before = machine.live
    ended = fail(machine, lambda: lose_contents(machine))

    assert ended.phase is Phase.ROLLED_BACK
    assert machine.live == before


def test_full_disk_on_the_way_back_costs_the_ballast_and_not_the_release(machine: Machine) -> None:
    mend = ReleaseStore.mend

    def full_while_the_ballast_is_held(*given: object) -> int:
        if (machine.paths.private_dir / "ballast").exists():
            raise DiskFull("no space left")
        return mend(*given)  # type: ignore[arg-type]

    with mock.patch.object(ReleaseStore, "mend", full_while_the_ballast_is_held):
        ended = fail(machine)

    assert ended.phase is Phase.ROLLED_BACK
    assert live_tree(machine) == tree_of(release("two"))


def test_disk_that_stays_full_brings_the_release_back_as_it_is(machine: Machine) -> None:
    before = machine.live
    with mock.patch.object(ReleaseStore, "mend", side_effect=DiskFull("no space left")):
        ended = fail(machine)

    assert ended.phase is Phase.ROLLED_BACK
    assert machine.live == before


def test_previous_release_that_is_gone_does_not_keep_the_device_stuck(machine: Machine) -> None:
    before, previous = machine.live, machine.disk.releases.previous()
    assert previous is not None
    ended = fail(machine, lambda: atomic.remove_tree(machine.paths.release_dir(previous)))

    assert ended.phase is Phase.ROLLED_BACK
    assert machine.live == before
    assert machine.disk.releases.previous() is None


def test_undo_hook_that_fails_does_not_bar_the_way_back(machine: Machine) -> None:
    before = machine.live
    machine.publish(release("three", '[hooks]\npost_restore = ["bin/run"]\n' + FAILS))
    machine.host.command_answers(("bin/run",), 1)

    assert machine.update().phase is Phase.ROLLED_BACK
    assert machine.live == before


# --- what is not there ----------------------------------------------------------------------------


def test_staged_tree_that_is_gone_ends_the_deployment_and_blames_nobody(machine: Machine) -> None:
    before = machine.live
    machine.publish(release("three"))
    ended = deploy(machine, Phase.HOLD, lambda: atomic.remove_tree(staged(machine)))

    assert ended.phase is Phase.ABANDONED
    assert machine.live == before
    assert machine.quarantine == {}
    assert machine.update().phase is Phase.SUCCEEDED


def test_rollback_with_data_that_no_backup_holds_changes_nothing(machine: Machine) -> None:
    before = machine.live
    ended = machine.roll_back(with_data=True)

    assert ended.phase is Phase.ABANDONED
    assert ended.error is not None
    assert ended.error.code == "device.backup_unusable"
    assert machine.live == before


def test_release_that_is_made_live_once_more_is_not_its_own_previous_one(machine: Machine) -> None:
    previous = machine.disk.releases.previous()

    assert machine.roll_back(machine.live).phase is Phase.SUCCEEDED
    assert machine.disk.releases.previous() == previous


def test_spare_tree_gives_way_to_a_release_that_needs_the_space(machine: Machine) -> None:
    machine.publish(release("three", FAILS))
    machine.update()
    assert machine.disk.releases.has_spare
    real = space.free

    def free(directory: Path) -> Space:
        is_full = machine.disk.releases.has_spare
        return Space(bytes=0, inodes=None) if is_full else real(directory)

    machine.publish(release("four"))
    with mock.patch.object(space, "free", free):
        assert machine.update().phase is Phase.SUCCEEDED
