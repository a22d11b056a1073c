"""Stories of deployments that go wrong, on a whole device with fakes around it."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING
from unittest import mock

import pytest
from cutting import Cut, cut_after
from device import Drive, Machine
from shelf import names_in
from trees import contents

from fakes.host import FakeCommandResult
from fakes.object_store import Executable
from ota_agent.config import Backups, Source
from ota_agent.errors import (
    ConfigError,
    DatabaseNewer,
    DiskFull,
    NoCommit,
    Stopped,
    StoreDamaged,
)
from ota_agent.model.channel import parse_channel
from ota_agent.model.deployment import Deployment, Phase
from ota_agent.model.verdict import Candidate, NoCandidate, Reason
from ota_agent.store import records, space
from ota_agent.store.space import Space
from ota_agent.update.drift import KeptTree
from ota_agent.update.verdicts import Verdicts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from device import Files

    from fakes.host import CommandAnswer, Ran

HOOK = ("bin/hook",)
PROBE = "127.0.0.1:9"
GREEN = None
RED = "refused"
DOWN = Cut("the device goes down")


def release(text: str = "one", *, manifest: str = "") -> Files:
    return {
        "app/main": f"program {text}".encode(),
        "app/same": b"the same in all",
        "bin/hook": Executable(b"#!/bin/sh\n"),
        "data/db": f"seed of {text}".encode(),
        "ota.toml": manifest.encode(),
    }


def hook(name: str) -> str:
    return f'[hooks]\n{name} = ["bin/hook"]\n'


def probe(*, seconds: float = 1, required: int = 1) -> str:
    return (
        f"[probation]\nseconds = {seconds}\n"
        f'[[probe]]\ntcp = "{PROBE}"\ninterval_s = 1\nrequired = {required}\n'
    )


DATA = '[[persist]]\npath = "data"\nbackup = true\n'


@pytest.fixture
def machine(disk: Path) -> Iterator[Machine]:
    """Give a device that has its first release and is offered nothing new yet."""
    machine = Machine(disk / "device")
    machine.publish(release(manifest=DATA))
    machine.start()
    assert machine.update().phase is Phase.SUCCEEDED
    yield machine
    machine.power_off()


def answers(machine: Machine, *given: CommandAnswer) -> None:
    machine.host.command_answers(HOOK, *given)


def code_of(deployment: Deployment | None) -> str | None:
    return None if deployment is None or deployment.error is None else deployment.error.code


def goes_down(machine: Machine, deployment: Deployment | None = None) -> None:
    """Deploy until the device goes down."""
    with pytest.raises(Cut):
        machine.settle(deployment or machine.begin())
    machine.power_off()


def refusal(machine: Machine) -> Reason | None:
    verdict = machine.look()
    return verdict.reason if isinstance(verdict, NoCandidate) else None


# --- the way back ---------------------------------------------------------------------------------


def stuck(machine: Machine) -> tuple[Deployment, Path]:
    """Fail an update whose backup is nowhere to be found."""

    def lose_the_backup(ran: Ran) -> None:
        (newest,) = set(names_in(machine.paths.backups_dir)) - known
        (machine.paths.backups_dir / newest).rename(machine.work_dir.parent / newest)

    known = set(names_in(machine.paths.backups_dir))
    machine.publish(release("two", manifest=hook("post_activate") + DATA + probe()))
    machine.host.probe_answers(PROBE, RED)
    answers(machine, lose_the_backup)
    ended = machine.update()
    return ended, machine.work_dir.parent / ended.id


def test_failing_undo_never_hides_the_first_failure(machine: Machine) -> None:
    ended, _ = stuck(machine)
    assert ended.phase is Phase.STUCK
    assert code_of(ended) == "release.probe_failed"
    assert ended.notes["stuck"]["code"] == "device.backup_unusable"
    machine.assert_whole()


def test_stuck_device_tries_again_at_each_start_and_comes_back(machine: Machine) -> None:
    before = machine.live
    ended, backup = stuck(machine)
    again = machine.start_again()
    assert again is not None
    assert (again.id, again.phase) == (ended.id, Phase.STUCK)
    assert code_of(again) == "release.probe_failed"
    machine.assert_whole()
    backup.rename(machine.paths.backups_dir / backup.name)
    back = machine.start_again()
    assert back is not None
    assert back.phase is Phase.ROLLED_BACK
    assert code_of(back) == "release.probe_failed"
    assert machine.live == before
    machine.assert_whole()
    machine.assert_tidy()


def test_way_back_that_takes_the_device_down_three_times_is_stuck_and_says_why(
    machine: Machine,
) -> None:
    before = machine.live
    machine.publish(release("two", manifest=hook("post_restore") + DATA + probe()))
    machine.host.probe_answers(PROBE, RED)
    answers(machine, DOWN, DOWN, DOWN, 0)
    goes_down(machine)
    goes_down(machine, machine.start())
    goes_down(machine, machine.start())
    ended = machine.start()
    assert ended is not None
    assert ended.phase is Phase.STUCK
    assert code_of(ended) == "release.probe_failed"
    assert ended.notes["stuck"]["code"] == "agent.crashed"
    machine.assert_whole()
    back = machine.start_again()
    assert back is not None
    assert back.phase is Phase.ROLLED_BACK
    assert machine.live == before


def test_bug_in_a_turn_of_the_loop_leaves_a_stuck_device_stuck(machine: Machine) -> None:
    ended, _ = stuck(machine)
    assert machine.manager.crashed(ended) == ended


def test_first_deployment_that_fails_leaves_live_absent(disk: Path) -> None:
    machine = Machine(disk / "device")
    machine.publish(release(manifest=DATA + probe()))
    machine.host.probe_answers(PROBE, RED)
    machine.start()
    ended = machine.update()
    assert ended.phase is Phase.ROLLED_BACK
    assert names_in(machine.work_dir) == ["locks", "persist", "private", "releases"]
    assert names_in(machine.paths.releases_dir) == []
    assert contents(machine.paths.persist_dir) == {}
    machine.assert_tidy()
    machine.power_off()


# --- crashes --------------------------------------------------------------------------------------


def test_release_that_takes_the_device_down_in_activation_is_quarantined_the_third_time(
    machine: Machine,
) -> None:
    before = machine.live
    offer = machine.publish(release("two", manifest=hook("post_activate")))
    answers(machine, DOWN)
    for attempt in (1, 2, 3):
        assert isinstance(machine.look(fresh=attempt == 3), Candidate)
        deployment = machine.manager.begin(
            machine.look(fresh=True),  # type: ignore[arg-type]  # a candidate, as asserted
            {},
        )
        goes_down(machine, deployment)
        ended = machine.start_again()
        assert ended is not None
        assert ended.phase is Phase.ROLLED_BACK
        assert code_of(ended) == "agent.crashed"
        assert machine.live == before
        if attempt < 3:
            assert machine.quarantine == {}
            assert machine.attempts(offer.commit) == attempt
    assert machine.quarantine == {offer.commit: "release.takes_device_down"}
    assert refusal(machine) is Reason.QUARANTINED
    machine.assert_tidy()


def test_second_attempt_is_made_at_once_and_the_third_waits(machine: Machine) -> None:
    machine.publish(release("two", manifest=hook("post_activate")))
    answers(machine, DOWN)
    for _ in range(2):
        assert refusal(machine) is None
        goes_down(machine)
        machine.start_again()
    verdict = machine.look()
    assert isinstance(verdict, NoCandidate)
    assert verdict.reason is Reason.BACKING_OFF
    assert verdict.until == machine.clock.now() + timedelta(minutes=10)
    machine.clock.advance(600)
    answers(machine, 0)
    assert machine.update().phase is Phase.SUCCEEDED


def test_release_that_takes_the_device_down_in_probation_is_quarantined_the_third_time(
    machine: Machine,
) -> None:
    before = machine.live
    offer = machine.publish(release("two", manifest=probe()))
    machine.host.probe_answers(PROBE, DOWN)
    goes_down(machine)
    for _ in range(2):
        resumed = machine.start()
        assert resumed is not None
        assert resumed.phase is Phase.CONFIRM
        goes_down(machine, resumed)
    ended = machine.start_again()
    assert ended is not None
    assert ended.phase is Phase.ROLLED_BACK
    assert machine.live == before
    assert machine.quarantine == {offer.commit: "release.takes_device_down"}


def test_interrupted_probation_starts_anew(machine: Machine) -> None:
    machine.publish(release("two", manifest=probe(seconds=60)))
    machine.host.probe_answers(PROBE, *[GREEN] * 50, DOWN, GREEN)
    goes_down(machine)
    resumed_at = machine.clock.monotonic()
    ended = machine.start_again()
    assert ended is not None
    assert ended.phase is Phase.SUCCEEDED
    assert machine.clock.monotonic() - resumed_at >= 60


def test_clean_stop_never_counts(machine: Machine) -> None:
    offer = machine.publish(release("two", manifest=probe(seconds=60)))
    machine.host.probe_answers(PROBE, *[GREEN, Stopped("SIGTERM")] * 5, GREEN)
    deployment: Deployment | None = machine.begin()
    for _ in range(5):
        with pytest.raises(Stopped):
            machine.settle(deployment)
        machine.stop()
        deployment = machine.start()
        assert deployment is not None
        assert deployment.phase is Phase.CONFIRM
        assert machine.attempts(offer.commit) == 0
    ended = machine.settle(deployment)
    assert ended is not None
    assert ended.phase is Phase.SUCCEEDED
    assert ended.crashes == 0


def test_crash_after_a_clean_stop_counts(machine: Machine) -> None:
    offer = machine.publish(release("two", manifest=probe()))
    machine.host.probe_answers(PROBE, Stopped("SIGTERM"), DOWN, GREEN)
    with pytest.raises(Stopped):
        machine.update()
    machine.stop()
    goes_down(machine, machine.start())
    machine.start()
    assert machine.attempts(offer.commit) == 1


def test_three_crashes_in_one_phase_fail_it_without_blame(machine: Machine) -> None:
    offer = machine.publish(release("two"))
    before = machine.live
    machine.source.fail_fetch(DOWN, times=3)
    goes_down(machine)
    goes_down(machine, machine.start())
    goes_down(machine, machine.start())
    ended = machine.start_again()
    assert ended is not None
    assert ended.phase is Phase.ABANDONED
    assert code_of(ended) == "agent.crashed"
    assert machine.live == before
    assert machine.quarantine == {}
    assert machine.attempts(offer.commit) == 0
    machine.assert_tidy()
    assert machine.update().phase is Phase.SUCCEEDED


def test_crashes_are_counted_in_each_phase_apart(machine: Machine) -> None:
    machine.publish(release("two", manifest=hook("pre_activate") + probe()))
    machine.source.fail_fetch(DOWN, times=2)
    answers(machine, DOWN, DOWN, 0)
    machine.host.probe_answers(PROBE, DOWN, DOWN, GREEN)
    goes_down(machine)
    for _ in range(5):
        goes_down(machine, machine.start())
    ended = machine.start_again()
    assert ended is not None
    assert ended.phase is Phase.SUCCEEDED


def test_target_that_takes_the_agent_down_before_it_is_live_waits_longer_and_longer(
    machine: Machine,
) -> None:
    machine.publish(release("two"))
    machine.source.fail_fetch(DOWN, times=9)
    for _ in range(3):
        assert refusal(machine) is None
        goes_down(machine)
        goes_down(machine, machine.start())
        goes_down(machine, machine.start())
        machine.start_again()
    assert refusal(machine) is Reason.BACKING_OFF
    machine.clock.advance(600)
    assert machine.update().phase is Phase.SUCCEEDED


def test_deployment_that_was_only_begun_goes_on_after_a_crash(machine: Machine) -> None:
    machine.publish(release("two"))
    begun = machine.begin()
    ended = machine.start_again()
    assert ended is not None
    assert (ended.id, ended.phase) == (begun.id, Phase.SUCCEEDED)


def test_data_that_a_crashed_deployment_seeded_are_not_taken_for_the_devices_own(
    disk: Path,
) -> None:
    machine = Machine(disk / "device")
    machine.publish(release("bad", manifest=DATA + probe()))
    machine.host.probe_answers(PROBE, RED)
    machine.start()
    with mock.patch.object(Verdicts, "is_unproven", side_effect=DOWN):  # the end of BACKUP
        goes_down(machine)
    ended = machine.start_again()
    assert ended is not None
    assert ended.phase is Phase.ROLLED_BACK
    machine.publish(release("good", manifest=DATA))
    assert machine.update().phase is Phase.SUCCEEDED
    assert contents(machine.paths.persist_dir) == {"data/db": b"seed of good"}
    machine.power_off()


# --- waiting --------------------------------------------------------------------------------------


def test_hook_that_says_not_yet_holds_the_deployment(machine: Machine) -> None:
    before = machine.live
    machine.publish(release("two", manifest=hook("pre_activate")))
    answers(machine, 75, 75, 0)
    held = machine.update()
    assert held.phase is Phase.HOLD
    assert machine.held is not None
    assert "not yet" in machine.held.reason
    assert machine.held.owner == held.release
    assert machine.live == before
    again = machine.start_again()  # a start in between changes nothing
    assert again is not None
    assert again.phase is Phase.HOLD
    ended = machine.settle(again)
    assert ended is not None
    assert ended.phase is Phase.SUCCEEDED


def test_hook_that_fails_before_activation_abandons_and_quarantines(machine: Machine) -> None:
    before = machine.live
    offer = machine.publish(release("two", manifest=hook("pre_activate")))
    answers(machine, 1)
    assert machine.update().phase is Phase.ABANDONED
    assert machine.live == before
    assert machine.quarantine == {offer.commit: "release.hook_failed"}
    machine.assert_tidy()


def test_what_a_failing_hook_wrote_is_in_the_log(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.publish(release("two", manifest=hook("pre_activate")))
    answers(machine, FakeCommandResult(1, "first line\nlast line\n"))

    ended = machine.update()

    assert ended.error is not None
    assert ended.error.message.endswith("ended with exit code 1: last line")
    said = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    (told,) = [line for line in said if line["event"] == "hook failed"]
    assert (told["level"], told["output"]) == ("warning", "first line\nlast line\n")


@pytest.mark.parametrize(
    ("takes_s", "how"),
    [(601, "did not end within 600 s (commands.timeout_s)"), (1, "exit code 124: no output")],
)
def test_hook_that_took_too_long_is_told_with_its_limit(
    machine: Machine, takes_s: int, how: str
) -> None:
    def take(_: Ran) -> int:
        machine.clock.advance(takes_s)
        return 124

    machine.publish(release("two", manifest=hook("pre_activate")))
    answers(machine, take)

    ended = machine.update()

    assert ended.error is not None
    assert ended.error.message.endswith(how)


def test_newer_release_supersedes_one_that_waits(machine: Machine) -> None:
    machine.publish(release("two", manifest=hook("pre_activate")))
    answers(machine, 75)
    held = machine.update()
    newer = machine.publish(release("three"))
    assert isinstance(machine.look(), Candidate)
    ended = machine.settle(held)
    assert ended is not None
    assert ended.phase is Phase.ABANDONED
    assert code_of(ended) == "release.superseded"
    assert machine.quarantine == {}
    machine.assert_tidy()
    machine.update()
    assert machine.live_commit == newer.commit


def test_operator_supersedes_one_that_waits(machine: Machine) -> None:
    machine.publish(release("two", manifest=hook("pre_activate")))
    answers(machine, 75, 0)
    ended = machine.settle(machine.manager.supersede(machine.update(), "the operator rolls back"))
    assert ended is not None
    assert ended.phase is Phase.ABANDONED
    machine.assert_tidy()


def address(machine: Machine, *answered: bool) -> None:
    assert machine.source.address is not None
    machine.host.address_answers(machine.source.address, *answered)


def test_network_that_comes_back_within_the_grace_is_no_failure(machine: Machine) -> None:
    machine.publish(release("two"))
    address(machine, True, *[False] * 30, True)
    assert machine.update().phase is Phase.SUCCEEDED
    assert sum(machine.progress.waits) < 600


def test_network_lost_for_longer_than_the_grace_rolls_back_without_quarantine(
    machine: Machine,
) -> None:
    before = machine.live
    offer = machine.publish(release("two", manifest=DATA))
    for attempt in (1, 2, 3):
        address(machine, True, False)
        candidate = machine.look(fresh=True)
        assert isinstance(candidate, Candidate)
        began = machine.clock.monotonic()
        ended = machine.settle(machine.manager.begin(candidate, {}))
        assert ended is not None
        assert ended.phase is Phase.ROLLED_BACK
        assert code_of(ended) == "device.connectivity_lost"
        assert machine.clock.monotonic() - began >= 600
        assert machine.live == before
        assert machine.attempts(offer.commit) == attempt
        assert (offer.commit in machine.quarantine) == (attempt == 3)


def test_network_that_was_away_before_activation_decides_nothing(machine: Machine) -> None:
    machine.publish(release("two"))
    address(machine, False)
    assert machine.update().phase is Phase.SUCCEEDED


def test_probe_that_was_red_before_activation_only_warns(machine: Machine) -> None:
    machine.publish(release("two", manifest=probe()))
    assert machine.update().phase is Phase.SUCCEEDED
    machine.publish(release("three", manifest=probe()))
    machine.host.probe_answers(PROBE, RED)
    assert machine.update().phase is Phase.SUCCEEDED


# --- blame ----------------------------------------------------------------------------------------


def test_quarantined_content_is_refused_under_another_tag_and_not_fetched_again(
    disk: Path,
) -> None:
    source = Source(
        type="git", url="https://git.example.com/fw.git", channel=parse_channel("tag:*")
    )
    machine = Machine(disk / "device", {"source": source})
    bad = release("bad", manifest=probe())
    machine.host.probe_answers(PROBE, RED)
    machine.source.publish_tag("v1.0.0", bad)
    machine.start()
    assert machine.update().phase is Phase.ROLLED_BACK
    again = machine.source.publish_tag("v1.0.1", bad)
    assert code_of(machine.update()) == "release.quarantined"
    assert again.commit in machine.quarantine
    fetches = machine.source.fetches
    assert refusal(machine) is Reason.QUARANTINED
    machine.start_again()
    assert refusal(machine) is Reason.QUARANTINED
    assert machine.source.fetches == fetches
    machine.assert_tidy()
    machine.power_off()


def went_on(machine: Machine) -> str:
    """Update to a second release; give the first."""
    first = machine.live
    assert first is not None
    machine.publish(release("two", manifest=DATA))
    assert machine.update().phase is Phase.SUCCEEDED
    return first


@pytest.fixture
def probed(disk: Path) -> Iterator[Machine]:
    """Give a device whose previous release has a probe that was green in its time."""
    machine = Machine(disk / "probed")
    machine.publish(release(manifest=probe()))
    machine.start()
    machine.update()
    went_on(machine)
    yield machine
    machine.power_off()


def test_rollback_by_hand_quarantines_the_release_that_it_leaves(machine: Machine) -> None:
    first = went_on(machine)
    left = machine.live_commit
    ended = machine.roll_back()
    assert ended.phase is Phase.SUCCEEDED
    assert machine.live == first
    assert left is not None
    assert machine.quarantine == {left: "operator.rolled_back"}
    assert refusal(machine) is Reason.QUARANTINED
    machine.assert_whole()
    machine.assert_tidy()


def test_rollback_by_hand_that_allows_the_release_again_quarantines_nothing(
    machine: Machine,
) -> None:
    went_on(machine)
    assert machine.roll_back(allow_again=True).phase is Phase.SUCCEEDED
    assert machine.quarantine == {}
    assert machine.update().phase is Phase.SUCCEEDED


def test_release_that_once_succeeded_is_not_quarantined_by_a_failing_rollback(
    probed: Machine,
) -> None:
    live = probed.live
    probed.host.probe_answers(PROBE, RED)
    assert probed.roll_back().phase is Phase.ROLLED_BACK
    assert probed.live == live
    assert probed.quarantine == {}
    probed.assert_whole()
    probed.assert_tidy()


def test_release_that_once_succeeded_is_not_quarantined_by_a_rollback_that_crashes(
    probed: Machine,
) -> None:
    live, target = probed.live, probed.disk.releases.previous()
    assert target is not None
    probed.host.probe_answers(PROBE, DOWN)
    goes_down(probed, probed.manager.begin_rollback(target, {}))
    goes_down(probed, probed.start())
    goes_down(probed, probed.start())
    ended = probed.start_again()
    assert ended is not None
    assert ended.phase is Phase.ROLLED_BACK
    assert probed.live == live
    assert probed.quarantine == {}
    probed.assert_tidy()


def test_release_that_once_succeeded_is_not_quarantined_by_rollbacks_that_lose_the_network(
    probed: Machine,
) -> None:
    for _ in range(3):
        address(probed, True, False)
        assert probed.roll_back().phase is Phase.ROLLED_BACK
    assert probed.quarantine == {}


def test_rollback_interrupted_before_its_backup_is_whole_goes_on(machine: Machine) -> None:
    first = went_on(machine)
    with mock.patch.object(machine.disk.backups, "take", side_effect=DOWN):
        goes_down(machine, machine.manager.begin_rollback(first, {}))
    ended = machine.start_again()
    assert ended is not None
    assert ended.phase is Phase.SUCCEEDED
    assert machine.live == first


def test_rollback_that_cannot_back_up_keeps_the_release_that_it_meant(machine: Machine) -> None:
    first = went_on(machine)
    with mock.patch.object(machine.disk.backups, "take", side_effect=DiskFull("no space")):
        assert machine.roll_back().phase is Phase.ABANDONED
    assert first in names_in(machine.paths.releases_dir)
    assert machine.roll_back().phase is Phase.SUCCEEDED
    machine.assert_tidy()


# --- a lost database ------------------------------------------------------------------------------


def delete(file: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        file.with_name(file.name + suffix).unlink(missing_ok=True)


def spoil(file: Path) -> None:
    delete(file)
    file.write_bytes(b"no database at all" * 1000)


@pytest.mark.parametrize("lose", [delete, spoil])
def test_device_that_loses_its_database_goes_on_with_what_is_live(
    machine: Machine, lose: Callable[[Path], None]
) -> None:
    bad = machine.publish(release("bad", manifest=hook("post_activate")))
    answers(machine, 1)
    machine.update()
    live, commit = machine.live, machine.live_commit
    machine.power_off()
    lose(machine.paths.database_file)
    assert machine.start() is None
    assert (machine.live, machine.live_commit) == (live, commit)
    assert machine.quarantine == {bad.commit: "release.hook_failed"}
    assert refusal(machine) is Reason.QUARANTINED
    machine.publish(release("two", manifest=DATA))
    updated = machine.update()
    assert (updated.phase, updated.from_release) == (Phase.SUCCEEDED, live)
    machine.assert_whole()


@pytest.fixture
def doubted(machine: Machine) -> Machine:
    """Give a device that went down in the probation of a second release and lost its database."""
    machine.publish(release("two", manifest=hook("post_activate") + DATA + probe()))
    answers(machine, lambda ran: (ran.cwd / "data/db").write_bytes(b"migrated") and 0)
    machine.host.probe_answers(PROBE, DOWN)
    goes_down(machine)
    delete(machine.paths.database_file)
    return machine


def test_release_in_probation_when_the_database_was_lost_has_to_prove_itself(
    doubted: Machine,
) -> None:
    doubted.host.probe_answers(PROBE, GREEN)
    resumed = doubted.start()
    assert resumed is not None
    assert resumed.phase is Phase.CONFIRM
    assert doubted.settle(resumed) is not None
    ended = doubted.disk.journal.history()[0][0]
    assert ended.phase is Phase.SUCCEEDED
    assert doubted.live == ended.release
    assert contents(doubted.paths.persist_dir) == {"data/db": b"migrated"}


def test_release_that_fails_after_the_database_was_lost_is_rolled_back_with_its_data(
    doubted: Machine,
) -> None:
    doubted.host.probe_answers(PROBE, RED)
    ended = doubted.start_again()
    assert ended is not None
    assert ended.phase is Phase.ROLLED_BACK
    assert doubted.live == ended.from_release
    assert doubted.disk.releases.previous() is None
    assert contents(doubted.paths.persist_dir) == {"data/db": b"seed of one"}
    assert "release.probe_failed" in doubted.quarantine.values()
    doubted.assert_whole()


def test_start_after_a_lost_database_may_be_cut_anywhere(doubted: Machine) -> None:
    doubted.host.probe_answers(PROBE, RED)
    effects, was_cut = 0, True
    while was_cut:
        with cut_after(effects) as cutter:
            doubted.start_again()
        was_cut = cutter.was_cut
        effects += 1
    assert effects > 5
    doubted.start_again()  # a RESTORE that was cut three times is stuck until the next start
    ended = doubted.disk.journal.history()[0][0]
    assert ended.phase is Phase.ROLLED_BACK
    assert contents(doubted.paths.persist_dir) == {"data/db": b"seed of one"}
    doubted.assert_whole()


def test_release_on_its_way_back_when_the_database_was_lost_does_not_get_another_chance(
    machine: Machine,
) -> None:
    before = machine.live
    machine.publish(release("two", manifest=DATA + probe()))
    machine.host.probe_answers(PROBE, RED)
    with mock.patch.object(machine.disk.backups, "restore_data", side_effect=DOWN):
        goes_down(machine)
    machine.host.probe_answers(PROBE, GREEN)
    delete(machine.paths.database_file)
    ended = machine.start_again()
    assert ended is not None
    assert ended.phase is Phase.ROLLED_BACK
    assert machine.live == before


def test_release_that_proved_itself_just_before_a_crash_is_not_doubted_later(
    machine: Machine,
) -> None:
    machine.publish(release("two", manifest=DATA))
    with mock.patch.object(Verdicts, "ended", side_effect=DOWN):
        goes_down(machine)
    machine.start_again()
    live = machine.live
    machine.power_off()
    delete(machine.paths.database_file)
    assert machine.start() is None
    assert machine.live == live


def test_lifting_a_refusal_in_probation_does_not_make_the_release_proven(
    machine: Machine,
) -> None:
    machine.publish(release("bad", manifest=hook("pre_activate")))
    answers(machine, 1)
    machine.update()
    tree = next(iter(records.quarantine(machine.disk.database)))

    def lift(ran: Ran) -> None:
        machine.manager.forgive({tree: "bad"})

    machine.publish(release("two", manifest=hook("post_activate") + DATA + probe()))
    answers(machine, lift)
    machine.host.probe_answers(PROBE, DOWN)
    goes_down(machine)
    delete(machine.paths.database_file)
    resumed = machine.start()
    assert resumed is not None
    assert resumed.phase is Phase.CONFIRM


def test_database_of_a_newer_agent_is_refused_and_left_as_it_is(machine: Machine) -> None:
    with machine.disk.database.transaction() as transaction:
        transaction.execute("PRAGMA user_version = 999")
    machine.power_off()
    before = machine.paths.database_file.read_bytes()
    with pytest.raises(DatabaseNewer) as caught:
        machine.start()
    assert isinstance(caught.value, ConfigError)  # exit 78
    assert machine.paths.database_file.read_bytes() == before
    delete(machine.paths.database_file)


# --- the disk -------------------------------------------------------------------------------------


def test_verdict_is_written_again_until_the_journal_takes_it(machine: Machine) -> None:
    machine.publish(release("two"))
    write, failures = machine.disk.journal.enter, [DiskFull("no space")] * 3

    def enter(deployment: Deployment, phase: Phase, *also: object) -> Deployment:
        if phase is Phase.SUCCEEDED and failures:
            raise failures.pop()
        return write(deployment, phase, *also)  # type: ignore[arg-type]  # as it was given

    with mock.patch.object(machine.disk.journal, "enter", enter):
        ended = machine.update()
    assert ended.phase is Phase.SUCCEEDED
    assert machine.live == ended.release
    machine.assert_tidy()


def test_full_disk_is_tried_again_only_when_space_grew(machine: Machine) -> None:
    machine.publish(release("two"))
    with mock.patch.object(space, "free", return_value=Space(bytes=1000, inodes=None)):
        ended = machine.update()
        assert ended.phase is Phase.ABANDONED
        assert code_of(ended) == "device.disk_full"
        assert machine.quarantine == {}
        machine.assert_tidy()
        machine.clock.advance(3600)
        assert refusal(machine) is Reason.BACKING_OFF
    assert machine.update().phase is Phase.SUCCEEDED


def test_damaged_object_store_is_set_aside_and_fetched_again(machine: Machine) -> None:
    offer = machine.publish(release("two", manifest=DATA))
    with (
        mock.patch.object(machine.objects, "listing", side_effect=StoreDamaged("bad sector")),
        mock.patch.object(machine.objects, "is_damaged", return_value=True),
    ):
        ended = machine.update()
    assert ended.phase is Phase.ABANDONED
    assert machine.objects.was_set_aside == 1
    assert machine.quarantine == {}
    updated = machine.update()
    assert (updated.phase, updated.commit) == (Phase.SUCCEEDED, offer.commit)
    machine.assert_whole()


def test_healthy_object_store_is_not_thrown_away_for_what_one_release_lacks(
    machine: Machine,
) -> None:
    offer = machine.publish(release("two", manifest=DATA))
    with mock.patch.object(machine.objects, "listing", side_effect=StoreDamaged("it lacks a tree")):
        ended = machine.update()
    assert ended.phase is Phase.ABANDONED
    assert machine.objects.was_set_aside == 0
    assert machine.live in machine.objects.held()
    updated = machine.update()
    assert (updated.phase, updated.commit) == (Phase.SUCCEEDED, offer.commit)


def test_tag_that_leads_to_no_commit_does_not_bar_lower_ones(disk: Path) -> None:
    config = Source(
        type="git", url="https://git.example.com/fw.git", channel=parse_channel("tag:*")
    )
    machine = Machine(disk / "device", {"source": config})
    good = machine.source.publish_tag("v1.0.0", release("one"))
    bad = machine.source.publish_tag("v2.0.0", release("two"))
    machine.source.fail_fetch(NoCommit("v2.0.0 leads to no commit, but to a blob."))
    machine.start()
    ended = machine.update()
    assert (ended.phase, ended.commit) == (Phase.ABANDONED, bad.commit)
    assert machine.quarantine == {bad.commit: "release.no_commit"}
    assert machine.objects.was_set_aside == 0
    updated = machine.update()
    assert (updated.phase, updated.commit) == (Phase.SUCCEEDED, good.commit)
    machine.power_off()


def test_retention_keeps_what_backups_name_and_reuses_the_tree_that_it_drops(
    disk: Path,
) -> None:
    machine = Machine(disk / "device", {"backups": Backups(keep=1)})
    machine.publish(release("0"))
    machine.start()
    kept = []
    for number in range(1, 6):
        machine.update()
        kept.append(len(names_in(machine.paths.releases_dir)))
        machine.publish(release(str(number)))
    assert kept == [1, 2, 3, 3, 3]
    spare = machine.paths.spare_dir.stat().st_ino
    updated = machine.update()
    assert updated.release is not None
    assert machine.paths.release_dir(updated.release).stat().st_ino == spare
    machine.assert_whole()
    machine.assert_tidy()
    machine.power_off()


def test_failing_updates_do_not_pile_up_copies_of_the_data(machine: Machine) -> None:
    machine.host.probe_answers(PROBE, RED)
    for number in range(8):
        machine.publish(release(str(number), manifest=DATA + probe()))
        assert machine.update().phase is Phase.ROLLED_BACK
    assert len(names_in(machine.paths.backups_dir)) == Backups().keep
    machine.assert_tidy()


def test_objects_of_a_release_go_when_a_crash_came_after_its_tree_went(disk: Path) -> None:
    machine = Machine(disk / "device", {"backups": Backups(keep=1)})
    machine.publish(release("0"))
    machine.start()
    for number in range(1, 4):
        machine.update()
        machine.publish(release(str(number)))
    with mock.patch.object(machine.objects, "drop", side_effect=DOWN):
        goes_down(machine)
    machine.start_again()
    machine.assert_tidy()
    machine.power_off()


# --- after a downgrade of the agent ---------------------------------------------------------------


def test_live_manifest_that_this_agent_cannot_read_is_not_held_against_the_next_release(
    machine: Machine,
) -> None:
    live = machine.device.release(machine.live)
    assert live is not None
    with machine.disk.database.transaction() as transaction:
        records.save_release(transaction, replace(live, manifest="[[service]]\nunit = 'kiosk'\n"))
    machine.publish(release("two"))

    assert machine.update().phase is Phase.SUCCEEDED
    assert machine.quarantine == {}


def test_tree_of_a_release_that_this_agent_cannot_read_is_left_alone(machine: Machine) -> None:
    live = machine.device.release(machine.live)
    assert live is not None
    with machine.disk.database.transaction() as transaction:
        records.save_release(transaction, replace(live, manifest="[[service]]\nunit = 'kiosk'\n"))

    assert KeptTree.of(machine.device, live.id, Drive(machine.clock)) is None
