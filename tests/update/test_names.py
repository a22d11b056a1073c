from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from device import Machine

from fakes.clock import BEGIN
from ota_agent.config import Source
from ota_agent.model.command import Exit, Outcome
from ota_agent.model.deployment import Deployment, Kind, Phase
from ota_agent.model.trust import Entry
from ota_agent.store import records
from ota_agent.store.records import Failures
from ota_agent.update.names import find_kept, find_refused

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def release(version: str) -> dict[str, bytes]:
    return {"ota.toml": f'version = "{version}"\n'.encode(), "app.py": version.encode()}


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    made = Machine(tmp_path / "device")
    made.start()
    yield made
    made.power_off()


def deploy(machine: Machine, *versions: str) -> list[str]:
    """Deploy these versions one after the other; give their ids."""
    ids = []
    for version in versions:
        machine.publish(release(version))
        ended = machine.update()
        assert ended.release is not None
        ids.append(ended.release)
    return ids


def refusal(found: str | dict[str, str] | Outcome) -> tuple[Exit, str]:
    assert isinstance(found, Outcome)
    return found.exit, found.text


# --- a release to go back to ----------------------------------------------------------------------


def test_without_a_name_the_previous_release_is_meant(machine: Machine) -> None:
    ids = deploy(machine, "1.0.0", "1.1.0")

    assert find_kept(machine.device, None) == ids[0]


def test_first_release_has_nothing_to_go_back_to(machine: Machine) -> None:
    deploy(machine, "1.0.0")

    assert refusal(find_kept(machine.device, None)) == (
        Exit.REFUSED,
        "there is no previous release to go back to",
    )


def test_release_is_found_by_everything_that_names_it(machine: Machine) -> None:
    ids = deploy(machine, "1.0.0", "1.1.0", "1.2.0")
    known = machine.device.release(ids[1])
    assert known is not None

    for name in (ids[1], "1.1.0", "v1.1.0", known.commit, known.commit[:6], ids[1][:9]):
        assert find_kept(machine.device, name) == ids[1]


def test_name_of_nothing_lists_what_is_kept(machine: Machine) -> None:
    ids = deploy(machine, "1.0.0", "1.1.0")

    for name in ("9.9.9", "1", "", "1.0."):
        exit_code, text = refusal(find_kept(machine.device, name))
        assert exit_code is Exit.REFUSED
        assert text == f"{name} names no kept release; kept are: {ids[0]}, {ids[1]}"


def test_new_device_keeps_none(machine: Machine) -> None:
    assert refusal(find_kept(machine.device, "1.0.0")) == (
        Exit.REFUSED,
        "1.0.0 names no kept release; kept are: none",
    )


def test_name_of_several_releases_is_refused(machine: Machine) -> None:
    for content in (b"a", b"b"):
        machine.publish({**release("1.0.0"), "app.py": content})
        machine.update()
    deploy(machine, "1.1.0")

    exit_code, text = refusal(find_kept(machine.device, "1.0.0"))

    assert exit_code is Exit.REFUSED
    assert text.startswith("1.0.0 names 2 kept releases; ")


def test_exact_name_goes_before_one_that_only_begins_so(machine: Machine) -> None:
    ids = deploy(machine, "1.0.10", "1.0.1", "2.0.0")

    assert find_kept(machine.device, "1.0.1") == ids[1]
    assert find_kept(machine.device, "1.0.10") == ids[0]


def test_live_release_is_there_already(machine: Machine) -> None:
    ids = deploy(machine, "1.0.0", "1.1.0")

    assert refusal(find_kept(machine.device, "1.1.0")) == (
        Exit.NOTHING,
        f"{ids[1]} is live already",
    )


def test_release_in_quarantine_has_to_be_lifted_first(machine: Machine) -> None:
    ids = deploy(machine, "1.0.0", "1.1.0")
    machine.roll_back()

    exit_code, text = refusal(find_kept(machine.device, "1.1.0"))

    assert exit_code is Exit.REFUSED
    assert text == (
        f"{ids[1]} is in quarantine (operator.rolled_back); `ota-agent retry {ids[1]}` lifts it"
    )


def test_tree_that_nobody_knows_any_more_is_not_offered(machine: Machine) -> None:
    ids = deploy(machine, "1.0.0", "1.1.0")
    with machine.disk.database.transaction() as transaction:
        transaction.execute("DELETE FROM releases WHERE id = ?", (ids[0],))

    assert refusal(find_kept(machine.device, None))[0] is Exit.REFUSED


# --- a release to try again -----------------------------------------------------------------------

TREE, COMMIT, OTHER = "7" * 40, "c" * 40, "d" * 40
NAMED = "1.0.0-aaaaaa-cccccccccccc"


def quarantine(machine: Machine, tree: str, name: str, *commits: str) -> None:
    entry = Entry(name, "release.probe_failed", "red", commits, BEGIN, 1)
    with machine.disk.database.transaction() as transaction:
        records.add_quarantine(transaction, tree, entry)


@pytest.mark.parametrize(
    "name", [NAMED, "1.0.0", "v1.0.0", COMMIT, COMMIT[:4], OTHER[:12], TREE, TREE[:6]]
)
def test_refused_content_is_found_by_everything_that_names_it(machine: Machine, name: str) -> None:
    quarantine(machine, TREE, NAMED, COMMIT, OTHER)
    quarantine(machine, "8" * 40, "2.0.0-bbbbbb-eeeeeeeeeeee", "e" * 40)

    assert find_refused(machine.device, name) == {TREE: NAMED}


@pytest.mark.parametrize("name", ["", "1", "1.0", "c" * 3, "9.9.9", "aaaaaa"])
def test_what_names_nothing_lifts_nothing(machine: Machine, name: str) -> None:
    quarantine(machine, TREE, NAMED, COMMIT)

    assert refusal(find_refused(machine.device, name))[0] is Exit.REFUSED


def test_digits_that_begin_several_refused_commits_lift_none(machine: Machine) -> None:
    quarantine(machine, TREE, NAMED, "c" * 40)
    quarantine(machine, "8" * 40, "2.0.0-bbbbbb-cccccccccccd", "c" * 39 + "d")

    code, text = refusal(find_refused(machine.device, "cccccc"))

    assert code is Exit.REFUSED
    assert "begins several commits" in text


@pytest.mark.parametrize("name", ["v1.0.0", "1.0.0", "the digits"])
def test_hint_names_a_command_that_lifts_what_was_refused_before_it_had_an_id(
    machine: Machine, name: str
) -> None:
    offer = machine.source.publish_tag("v1.0.0", {"ota.toml": b"no manifest"})
    machine.config["source"] = Source(
        type="git",
        url="https://git.example.com/fw.git",
        channel="tag:*",  # type: ignore[arg-type]  # as text
    )
    machine.power_off()
    machine.start()
    ended = machine.update()
    assert (ended.phase, ended.release) == (Phase.ABANDONED, None)
    (entry,) = records.quarantine(machine.disk.database).values()
    assert entry.release.startswith("1.0.0-")

    found = find_refused(machine.device, offer.commit[:6] if name == "the digits" else name)

    assert isinstance(found, dict)
    assert list(found.values()) == [entry.release]


@pytest.mark.parametrize("name", ["feature/x", "0.9.0"])
def test_refused_commit_is_found_by_the_name_that_it_had_once(machine: Machine, name: str) -> None:
    begun = machine.disk.journal.begin(
        Deployment(
            id="",
            kind=Kind.UPDATE,
            commit=COMMIT,
            ref="refs/heads/feature/x",
            phase=Phase.FETCH,
            started_at=BEGIN,
            entered_at=BEGIN,
            version="0.9.0",
        )
    )
    quarantine(machine, TREE, NAMED, begun.commit)
    with machine.disk.database.transaction() as transaction:
        records.set_failures(transaction, COMMIT, Failures(3, BEGIN, 0, "source.unreachable", None))

    assert find_refused(machine.device, name) == {TREE: NAMED, COMMIT: COMMIT[:12]}


def test_version_does_not_lift_its_pre_release(machine: Machine) -> None:
    quarantine(machine, TREE, "1.0.0-rc.1-aaaaaa-cccccccccccc", COMMIT)

    assert refusal(find_refused(machine.device, "1.0.0"))[0] is Exit.REFUSED
    found = find_refused(machine.device, "1.0.0-rc.1")
    assert isinstance(found, dict)
    assert list(found) == [TREE]


def test_commit_that_backs_off_is_found_before_its_content_was_read(machine: Machine) -> None:
    with machine.disk.database.transaction() as transaction:
        for commit in (COMMIT, OTHER):
            failures = Failures(3, BEGIN, 0, "source.unreachable", None)
            records.set_failures(transaction, commit, failures)

    assert find_refused(machine.device, COMMIT[:8]) == {COMMIT: COMMIT[:12]}


def test_content_refused_under_one_name_twice_is_lifted_as_a_whole(machine: Machine) -> None:
    quarantine(machine, TREE, NAMED, COMMIT)
    quarantine(machine, "8" * 40, "1.0.0-bbbbbb-dddddddddddd", OTHER)

    found = find_refused(machine.device, "1.0.0")
    assert isinstance(found, dict)
    assert set(found) == {TREE, "8" * 40}
