"""The power is cut at every side effect; the next start has to bring the device to a whole release.

`(live is new) == (ending is succeeded)`, the persistent data match the live release, nothing else
is left behind, and the next update goes through.
"""

from __future__ import annotations

import os
import random
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING
from unittest import mock

import pytest
from cutting import count_effects, cut_after
from device import Machine, no_syncing
from trees import contents

from fakes.object_store import Executable
from ota_agent.config import Backups
from ota_agent.model.deployment import Deployment, Kind, Phase
from ota_agent.update import manager
from ota_agent.update.retention import prune

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from device import Files

    from fakes.host import Ran
    from ota_agent.model.release import Offer

SEED = 20260301
# One in so many first cuts is followed by a cut of its recovery; 1 for a long run.
EVERY = int(os.environ.get("CRASH_MATRIX_EVERY", "5"))


def release(number: int, *, probe: str = "") -> Files:
    """Make a release that migrates the device's data to its own schema, and can undo nothing."""
    more = '[[persist]]\npath = "var/extra"\nbackup = true\n' if number > 1 else ""
    manifest = f"""
        version = "{number}.0.0"
        [hooks]
        post_activate = ["bin/migrate", "{number}"]
        [[persist]]
        path = "data"
        backup = true
        [[persist]]
        path = "cache"
        {more}{probe}
    """
    return {
        "app/main": b"program %d" % number,
        "app/same": b"the same in all",
        "bin/migrate": Executable(b"#!/bin/sh\n"),
        "cache/index": b"seed",
        "data/db": b"seed",
        "var/extra/conf": b"seed of %d" % number,
        "ota.toml": manifest.encode(),
    }


RED = '[[probe]]\ntcp = "127.0.0.1:9"\ninterval_s = 1\nrequired = 1\n'


def migrate(ran: Ran) -> None:
    """Do what the hook of a release would do to the data."""
    data = ran.cwd / "data"  # through the link of the release
    (data / "db").write_bytes(b"schema " + ran.argv[1].encode())


def device(tmp_path: Path) -> Machine:
    machine = Machine(tmp_path / "device")
    for number in range(1, 10):
        machine.host.command_answers(["bin/migrate", str(number)], migrate)
    machine.host.probe_answers("127.0.0.1:9", "refused")
    return machine


def data_of(machine: Machine) -> dict[str, bytes]:
    return contents(machine.paths.persist_dir)


@dataclass(frozen=True)
class Scenario:
    """What is done before the power may fail, what is done while it may, what is right after it.

    Attributes:
        data: what the persistent data are when the old release is live, and when the new one is.

    """

    prepare: Callable[[Machine], list[Offer]]
    act: Callable[[Machine], object]
    data: tuple[dict[str, bytes], dict[str, bytes]]
    ending: Phase | None  # where nothing is cut; None where nothing is deployed
    is_first: bool = False
    is_good_offer: bool = False  # nothing speaks against what is published last


def first(machine: Machine) -> list[Offer]:
    return [machine.publish(release(1))]


def begin_first(machine: Machine) -> None:
    machine.start()
    machine.update()


def one(machine: Machine) -> list[Offer]:
    offers = first(machine)
    begin_first(machine)
    machine.data("data/log").write_bytes(b"written under 1")
    machine.edit("app/main", b"edited by hand")
    return [*offers, machine.publish(release(2))]


def one_then_bad(machine: Machine) -> list[Offer]:
    return [*one(machine), machine.publish(release(2, probe=RED))]


def many(machine: Machine) -> list[Offer]:
    machine.config["backups"] = Backups(keep=1)
    offers = one(machine)
    for number in (3, 4):
        machine.update()
        offers.append(machine.publish(release(number)))
    with mock.patch.object(manager, "prune"):
        machine.update()
    return offers


def two(machine: Machine) -> list[Offer]:
    offers = one(machine)
    machine.update()
    machine.data("data/log").write_bytes(b"written under 2")
    return offers


UNDER_1 = {
    "cache/index": b"seed",
    "data/db": b"schema 1",
    "data/log": b"written under 1",
}
UNDER_2 = {
    "cache/index": b"seed",
    "data/db": b"schema 2",
    "data/log": b"written under 2",
    "var/extra/conf": b"seed of 2",
}
SCENARIOS = {
    "first deployment": Scenario(
        first,
        begin_first,
        ({}, {"cache/index": b"seed", "data/db": b"schema 1"}),
        Phase.SUCCEEDED,
        is_first=True,
        is_good_offer=True,
    ),
    "update": Scenario(
        one,
        Machine.update,
        (UNDER_1, {**UNDER_2, "data/log": b"written under 1"}),
        Phase.SUCCEEDED,
        is_good_offer=True,
    ),
    "pruning": Scenario(
        many,
        lambda machine: prune(machine.device, machine.progress),
        ({**UNDER_2, "data/db": b"schema 4", "data/log": b"written under 1"}, {}),
        None,
    ),
    "failing update": Scenario(one_then_bad, Machine.update, (UNDER_1, {}), Phase.ROLLED_BACK),
    "rollback by hand": Scenario(
        two, Machine.roll_back, (UNDER_2, {**UNDER_2, "data/db": b"schema 1"}), Phase.SUCCEEDED
    ),
    "rollback by hand with data": Scenario(
        two,
        lambda machine: machine.roll_back(with_data=True),
        (UNDER_2, UNDER_1),
        Phase.SUCCEEDED,
    ),
}


def crash(machine: Machine, act: Callable[[Machine], object], effects: int) -> Phase | None:
    """Do it with the power failing after so many effects; give the phase that it failed in."""
    with cut_after(effects) as cutter:
        act(machine)
    assert cutter.was_cut
    machine.power_off()
    return machine.phase_on_disk()


def assert_property(machine: Machine, scenario: Scenario, before: Before) -> Deployment | None:
    """Hold the disk against how the deployment ended; None where it had not begun."""
    machine.assert_whole()
    machine.assert_tidy()
    history = [one for one, _ in machine.disk.journal.history()]
    began = [one for one in history if one.id not in before.deployments]
    assert len(began) <= 1
    if not began:
        assert (machine.live, machine.disk.releases.previous()) == before.links
        assert data_of(machine) == scenario.data[0]
        return None
    ended = began[0]
    succeeded = ended.phase is Phase.SUCCEEDED
    assert (machine.live == ended.release and ended.release is not None) == succeeded
    expected = (ended.release, before.links[0]) if succeeded else before.links
    assert (machine.live, machine.disk.releases.previous()) == expected
    found = data_of(machine)
    if before.links[0] is None and not succeeded:
        found.pop("cache/index", None)  # not marked for backup: the device's once it was made
    assert found == scenario.data[succeeded]
    return ended


def assert_blame(
    machine: Machine, ended: Deployment | None, offers: list[Offer], lost_in: list[Phase | None]
) -> None:
    """A crash alone never quarantines at once, and each crashed activation counts."""
    refused = {}
    if ended is not None and ended.error is not None and ended.error.code != "agent.crashed":
        assert ended.error.code == "release.probe_failed"
        refused = {ended.commit: "release.probe_failed"}
    elif ended is not None and ended.kind is Kind.ROLLBACK and ended.phase is Phase.SUCCEEDED:
        refused = {offers[-1].commit: "operator.rolled_back"}
    assert machine.quarantine == refused
    if ended is None:
        return
    crashes = sum(phase in {Phase.ACTIVATE, Phase.CONFIRM} for phase in lost_in)
    attempts = machine.attempts(ended.commit)
    if ended.phase is Phase.SUCCEEDED:
        assert attempts == 0
    else:
        assert min(1, crashes) <= attempts <= crashes


def assert_goes_on(machine: Machine, scenario: Scenario, ended: Deployment | None) -> None:
    """The next update goes through: of the same release where only a crash spoke against it."""
    has_succeeded = ended is not None and ended.phase is Phase.SUCCEEDED
    if has_succeeded or not scenario.is_good_offer:
        machine.publish(release(9))
    updated = machine.update()
    assert updated.phase is Phase.SUCCEEDED, updated
    machine.assert_whole()
    machine.assert_tidy()
    number = updated.version and updated.version[0]
    assert data_of(machine)["data/db"] == f"schema {number}".encode()


@dataclass(frozen=True)
class Before:
    """What the device was like when the power began to be unsafe."""

    links: tuple[str | None, str | None]
    deployments: frozenset[str]


def prepared(scenario: Scenario, tmp_path: Path) -> tuple[Machine, Before, list[Offer]]:
    machine = device(tmp_path)
    offers = scenario.prepare(machine)
    if scenario.is_first:
        return machine, Before((None, None), frozenset()), offers
    releases = machine.disk.releases
    links = releases.live(), releases.previous()
    return (
        machine,
        Before(links, frozenset(d.id for d, _ in machine.disk.journal.history())),
        offers,
    )


class Case:
    """One device, and how its power fails."""

    def __init__(self, scenario: Scenario, tmp_path: Path) -> None:
        self.scenario = scenario
        self.machine, self.before, self.offers = prepared(scenario, tmp_path)
        self.ending = "none"

    def run(self, *places: int) -> list[str]:
        """Cut the work at the first place, its recovery at the others; give its last effects."""
        act, lost_in = self.scenario.act, []
        for place in places:
            lost_in.append(crash(self.machine, act, place))
            act = Machine.start_again
        with count_effects() as recovery:
            self.machine.start_again()
        ended = assert_property(self.machine, self.scenario, self.before)
        self.ending = "not begun" if ended is None else ended.phase.value
        assert_blame(self.machine, ended, self.offers, lost_in)
        assert_goes_on(self.machine, self.scenario, ended)
        self.machine.power_off()
        return recovery.effects


@contextmanager
def noted(note: str) -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        error.add_note(note)
        raise


@pytest.mark.slow
@pytest.mark.parametrize("name", SCENARIOS)
def test_power_cut_at_any_side_effect_leaves_a_whole_release_and_the_truth_about_it(
    name: str, disk: Path, tally: Counter[tuple[str, str]]
) -> None:
    scenario, dice = SCENARIOS[name], random.Random(SEED)  # noqa: S311 - a seed makes a failure come again
    with no_syncing():
        bench, before, _ = prepared(scenario, disk / "whole")
        with count_effects() as cutter:
            scenario.act(bench)
        ended = assert_property(bench, scenario, before)
        assert (ended and ended.phase) is scenario.ending
        assert len(cutter) > 10
        for place, effect in enumerate(cutter.effects):
            case = Case(scenario, disk / f"{place}")
            with noted(f"cut {place}, before {effect}"):
                recovery = case.run(place)
            tally[name, case.ending] += 1
            if place % EVERY or not recovery:
                continue
            again = dice.randrange(len(recovery))
            case = Case(scenario, disk / f"{place}-{again}")
            with noted(f"cut {place}, before {effect}; then {again}, before {recovery[again]}"):
                case.run(place, again)
            tally[f"{name}, and its recovery", case.ending] += 1
