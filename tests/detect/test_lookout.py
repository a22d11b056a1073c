from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from device import Machine

from fakes.clock import BEGIN
from fakes.progress import FakeProgress
from ota_agent.config import Source
from ota_agent.detect.lookout import FULL_DISK_PAUSE, GROWTH_BYTES
from ota_agent.errors import SourceNotAsked, SourceUnreachable
from ota_agent.model.deployment import Deployment, Kind, Phase
from ota_agent.model.trust import Entry, Mark
from ota_agent.model.verdict import Candidate, Facts, NoCandidate, Reason
from ota_agent.store import records, space
from ota_agent.store.records import Failures

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ota_agent.model.release import Offer

FILES = {"app.py": b"print(1)\n"}
LATER = BEGIN + timedelta(minutes=10)
MUCH_LATER = BEGIN + timedelta(hours=5)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    source = Source(type="git", url="https://git.example.com/fw.git")
    made = Machine(tmp_path / "device", {"source": source, "labels": ("arm64",)})
    made.start()
    yield made
    made.power_off()


def tagged(tmp_path: Path) -> Machine:
    source = Source(type="git", url="https://git.example.com/fw.git", channel="tag:*")  # type: ignore[arg-type]  # as text
    made = Machine(tmp_path / "tagged", {"source": source})
    made.start()
    return made


def of(offer: Offer, **changes: Any) -> Deployment:  # noqa: ANN401 - any of its fields
    deployment = Deployment(
        id="1-abcdef",
        kind=Kind.UPDATE,
        commit=offer.commit,
        ref=offer.ref,
        phase=Phase.HOLD,
        started_at=BEGIN,
        entered_at=BEGIN,
    )
    return replace(deployment, **changes)


def remember(machine: Machine, offer: Offer, facts: Facts) -> None:
    with machine.disk.database.transaction() as transaction:
        records.set_facts(transaction, offer.commit, facts.to_json())


def tree_of(machine: Machine, offer: Offer) -> str:
    return machine.source.upstream.tree_of(offer.commit)


def reason_of(verdict: Candidate | NoCandidate) -> tuple[Reason, object]:
    assert isinstance(verdict, NoCandidate)
    return verdict.reason, verdict.until


# --- what is looked at ----------------------------------------------------------------------------


def test_new_device_takes_what_is_offered(machine: Machine) -> None:
    offer = machine.source.publish(FILES)

    assert machine.look() == Candidate(offer, Kind.FIRST)


def test_source_that_has_nothing_offers_nothing(machine: Machine) -> None:
    assert reason_of(machine.look()) == (Reason.CHANNEL_EMPTY, None)


def test_device_that_has_it_has_nothing_to_do(machine: Machine) -> None:
    machine.publish(FILES)
    machine.update()

    assert reason_of(machine.look()) == (Reason.UP_TO_DATE, None)


def test_content_that_was_good_here_before_is_deployed_again(machine: Machine) -> None:
    first = machine.publish(FILES)
    machine.update()
    machine.publish({"app.py": b"print(2)\n"})
    machine.update()
    machine.source.rewind(first.commit)
    with machine.disk.database.transaction() as transaction:
        transaction.execute("DELETE FROM marks")

    verdict = machine.look()

    assert isinstance(verdict, Candidate)
    assert verdict.kind is Kind.REDEPLOY


def test_live_release_that_nobody_knows_any_more_is_replaced(machine: Machine) -> None:
    machine.publish(FILES)
    machine.update()
    with machine.disk.database.transaction() as transaction:
        transaction.execute("DELETE FROM releases")

    assert isinstance(machine.look(), Candidate)


def test_branch_that_does_not_follow_the_mark_of_this_channel_is_refused(
    machine: Machine,
) -> None:
    machine.publish(FILES)
    machine.update()
    machine.source.publish({"app.py": b"rewritten\n"}, rewrite=True)

    assert reason_of(machine.look())[0] is Reason.REWRITTEN


def test_mark_of_another_channel_or_project_binds_nothing(machine: Machine) -> None:
    offer = machine.publish(FILES)
    with machine.disk.database.transaction() as transaction:
        records.set_mark(transaction, machine.source.project, "branch:other", Mark("0" * 40, None))
        records.set_mark(transaction, "elsewhere", "branch:HEAD", Mark("0" * 40, None))

    assert machine.look() == Candidate(offer, Kind.FIRST)


def test_source_that_is_down_is_told_and_the_last_answer_stays(machine: Machine) -> None:
    offer = machine.publish(FILES)
    machine.look()
    machine.source.fail(SourceUnreachable("no route"))

    with pytest.raises(SourceUnreachable):
        machine.look()

    assert machine.lookout.reconsider(of(offer)) is None


# --- what holds a release back --------------------------------------------------------------------


@pytest.mark.parametrize("by", ["commit", "tree"])
def test_quarantine_declines_by_commit_and_by_content(machine: Machine, by: str) -> None:
    offer = machine.publish(FILES)
    tree = tree_of(machine, offer)
    commits = (offer.commit,) if by == "commit" else ("0" * 40,)
    entry = Entry("1.0", "release.probe_failed", "red", commits, BEGIN, 1)
    with machine.disk.database.transaction() as transaction:
        records.add_quarantine(transaction, tree if by == "tree" else "other", entry)
    remember(machine, offer, Facts(tree))

    for fresh in (False, True):
        assert reason_of(machine.look(fresh=fresh))[0] is Reason.QUARANTINED


def test_commit_that_failed_lately_waits_unless_the_operator_asks(machine: Machine) -> None:
    offer = machine.publish(FILES)
    with machine.disk.database.transaction() as transaction:
        failures = Failures(3, LATER, 0, "source.unreachable", None)
        records.set_failures(transaction, offer.commit, failures)

    assert reason_of(machine.look()) == (Reason.BACKING_OFF, LATER)
    assert machine.look(fresh=True) == Candidate(offer, Kind.FIRST)

    machine.clock.advance(600)
    assert machine.look() == Candidate(offer, Kind.FIRST)


def test_pause_that_was_written_while_the_clock_was_far_ahead_does_not_bind(
    machine: Machine,
) -> None:
    offer = machine.publish(FILES)
    in_2086 = BEGIN + timedelta(days=60 * 365)
    with machine.disk.database.transaction() as transaction:
        failures = Failures(3, in_2086, 0, "source.unreachable", None)
        records.set_failures(transaction, offer.commit, failures)
        records.set_attempts(transaction, tree_of(machine, offer), 2, in_2086)
    remember(machine, offer, Facts(tree_of(machine, offer)))

    assert machine.look() == Candidate(offer, Kind.FIRST)


def test_commit_that_failed_once_does_not_wait(machine: Machine) -> None:
    offer = machine.publish(FILES)
    with machine.disk.database.transaction() as transaction:
        records.set_failures(transaction, offer.commit, Failures(1, None, 0, "x", None))

    assert machine.look() == Candidate(offer, Kind.FIRST)


def test_content_that_took_the_device_down_waits_under_every_commit(machine: Machine) -> None:
    first = machine.publish(FILES)
    again = machine.publish(FILES)
    with machine.disk.database.transaction() as transaction:
        records.set_attempts(transaction, tree_of(machine, first), 2, LATER)
    assert isinstance(machine.look(), Candidate)  # nobody knows its content yet

    remember(machine, again, Facts(tree_of(machine, again)))

    assert reason_of(machine.look()) == (Reason.BACKING_OFF, LATER)


@pytest.mark.parametrize(
    ("crash", "failure"), [(LATER, MUCH_LATER), (MUCH_LATER, LATER), (MUCH_LATER, None)]
)
def test_later_of_two_waits_holds(machine: Machine, crash: Any, failure: Any) -> None:  # noqa: ANN401 - times
    offer = machine.publish(FILES)
    with machine.disk.database.transaction() as transaction:
        records.set_attempts(transaction, tree_of(machine, offer), 2, crash)
        records.set_failures(transaction, offer.commit, Failures(3, failure, 0, "x", None))
    remember(machine, offer, Facts(tree_of(machine, offer)))

    assert reason_of(machine.look()) == (Reason.BACKING_OFF, MUCH_LATER)


def fail_full(machine: Machine, offer: Offer, free_bytes: int | None) -> None:
    with machine.disk.database.transaction() as transaction:
        failures = Failures(1, None, 0, "device.disk_full", free_bytes)
        records.set_failures(transaction, offer.commit, failures)


def test_release_that_did_not_fit_waits_until_there_is_more_space(machine: Machine) -> None:
    offer = machine.publish(FILES)
    free = space.free(machine.paths.private_dir).bytes
    fail_full(machine, offer, free + 2**40)
    assert reason_of(machine.look()) == (Reason.BACKING_OFF, BEGIN + FULL_DISK_PAUSE)

    # The rest of the machine uses the disk too: half of what is free is growth enough.
    fail_full(machine, offer, free // 2 - GROWTH_BYTES)
    assert machine.look() == Candidate(offer, Kind.FIRST)


def test_full_disk_of_unknown_size_holds_nothing_back(
    machine: Machine,
) -> None:
    offer = machine.publish(FILES)
    fail_full(machine, offer, None)

    assert machine.look() == Candidate(offer, Kind.FIRST)


def test_facts_that_cannot_be_read_are_read_anew(machine: Machine) -> None:
    offer = machine.publish(FILES)
    with machine.disk.database.transaction() as transaction:
        records.set_facts(transaction, offer.commit, {"tree": 7})

    assert machine.look() == Candidate(offer, Kind.FIRST)


def test_release_for_other_devices_is_declined_by_what_is_remembered(machine: Machine) -> None:
    offer = machine.publish(FILES)
    facts = Facts(tree_of(machine, offer), compatible=("x86*",))
    remember(machine, offer, facts)
    assert reason_of(machine.look())[0] is Reason.INCOMPATIBLE

    remember(machine, offer, replace(facts, compatible=("arm*",)))
    assert machine.look() == Candidate(offer, Kind.FIRST)


def test_mass_deletion_is_taken_only_when_it_is_acknowledged(machine: Machine) -> None:
    offer = machine.publish(FILES)
    remember(machine, offer, Facts(tree_of(machine, offer), deleted_files=40))

    assert reason_of(machine.look())[0] is Reason.TOO_MANY_DELETIONS
    assert machine.look(accept_deletions=True) == Candidate(offer, Kind.FIRST)


# --- judging and reconsidering a deployment -------------------------------------------------------


def test_content_is_judged_once_it_was_read(machine: Machine) -> None:
    offer = machine.publish(FILES)
    tree = tree_of(machine, offer)

    assert machine.lookout.judge(of(offer), Facts(tree)) is None
    assert machine.lookout.judge(of(offer, version="1.0.0"), Facts(tree)) is None
    refusal = machine.lookout.judge(of(offer), Facts(tree, min_agent="99.0.0"))
    assert refusal is not None
    assert refusal.reason is Reason.AGENT_TOO_OLD


def test_backoff_does_not_end_a_deployment_under_way(machine: Machine) -> None:
    offer = machine.publish(FILES)
    machine.look()
    with machine.disk.database.transaction() as transaction:
        records.set_failures(transaction, offer.commit, Failures(3, LATER, 0, "x", None))

    assert machine.lookout.judge(of(offer), Facts(tree_of(machine, offer))) is None
    assert machine.lookout.reconsider(of(offer)) is None


@pytest.mark.parametrize(("notes", "refused"), [({}, True), ({"accept_deletions": True}, False)])
def test_acknowledged_deletion_stays_acknowledged_for_its_deployment(
    machine: Machine, notes: dict[str, Any], refused: bool
) -> None:
    offer = machine.publish(FILES)
    machine.look()
    facts = Facts(tree_of(machine, offer), deleted_files=40)
    remember(machine, offer, facts)
    deployment = of(offer, notes=notes)

    assert (machine.lookout.judge(deployment, facts) is not None) == refused
    assert (machine.lookout.reconsider(deployment) is not None) == refused


def test_deployment_of_an_earlier_life_waits_until_the_source_was_asked(
    machine: Machine,
) -> None:
    offer = machine.publish(FILES)
    machine.look()
    machine.power_off()
    machine.start()
    machine.publish({"app.py": b"print(2)\n"})
    with pytest.raises(SourceNotAsked):
        machine.lookout.reconsider(of(offer))

    machine.look()

    assert machine.lookout.reconsider(of(offer)) == "main is to be deployed instead"


@pytest.mark.parametrize(
    ("notes", "why"),
    [
        ({"channel": "branch:stable"}, "the device follows branch:HEAD now, not branch:stable"),
        ({"project": "git.example.com/other"}, "the device follows another project now"),
    ],
)
def test_deployment_of_what_is_followed_no_longer_is_not_wanted(
    machine: Machine, notes: dict[str, str], why: str
) -> None:
    offer = machine.publish(FILES)
    machine.look()

    assert machine.lookout.reconsider(replace(of(offer), notes=notes)) == why


def test_tag_that_was_withdrawn_is_not_deployed_any_more(tmp_path: Path) -> None:
    machine = tagged(tmp_path)
    older = machine.source.publish_tag("v1.0.0", FILES)
    newer = machine.source.publish_tag("v1.1.0", FILES)
    machine.look()
    assert machine.lookout.reconsider(of(newer)) is None
    assert machine.lookout.reconsider(of(older)) == "v1.1.0 is to be deployed instead"

    machine.source.withdraw("refs/tags/v1.1.0")
    machine.look()
    assert machine.lookout.reconsider(of(newer)) == "v1.0.0 is to be deployed instead"

    machine.source.withdraw("refs/tags/v1.0.0")
    machine.lookout.look(FakeProgress())
    why = machine.lookout.reconsider(of(older))
    assert why is not None
    assert "is empty" in why
    machine.power_off()
