from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from device import Machine

from fakes.clock import BEGIN
from ota_agent.errors import NotYet, SourceUnreachable
from ota_agent.model.command import Ask, Command, Exit, Outcome
from ota_agent.model.deployment import Deployment, Failure, Kind, Phase
from ota_agent.model.release import Offer
from ota_agent.model.trust import Entry
from ota_agent.model.verdict import Candidate, NoCandidate, Reason
from ota_agent.store import records
from ota_agent.store.mailbox import Mailbox
from ota_agent.update.asks import Asks, Pending, may_try_another

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NOTHING = NoCandidate(Reason.UP_TO_DATE, "v1.0.0 is live", "Nothing to do.")
CANDIDATE = Candidate(Offer("c" * 40, "refs/tags/v1.1.0"), Kind.UPDATE)
DOWN = SourceUnreachable("no route")
ENDED = Deployment(
    id="7-abcdef",
    kind=Kind.UPDATE,
    commit="c" * 40,
    ref="refs/tags/v1.1.0",
    phase=Phase.SUCCEEDED,
    started_at=BEGIN,
    entered_at=BEGIN,
    release="1.1.0-aaaaaa-cccccccccccc",
    finished_at=BEGIN,
)
REJECTED = replace(
    ENDED,
    phase=Phase.ROLLED_BACK,
    error=Failure("release.probe_failed", "red", "", BEGIN),
    notes={"blames": "ReleaseRejected"},
)
OFFLINE = replace(
    ENDED,
    phase=Phase.ABANDONED,
    error=Failure("source.unreachable", "no route", "", BEGIN),
    notes={"blames": "AgentError"},
)
STUCK = replace(REJECTED, phase=Phase.STUCK)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    made = Machine(tmp_path / "device")
    made.start()
    yield made
    made.power_off()


@pytest.fixture
def asks(machine: Machine) -> Asks:
    return Asks(machine.device, machine.manager, Mailbox(machine.disk.database))


def ask(asks: Asks, what: Ask, **args: object) -> Pending:
    """Take a command up, and have the loop hear it."""
    pending = asks.add(Command(what, args, "operator"))
    asks.new()
    return pending


def answer(pending: Pending) -> tuple[Exit, str] | None:
    outcome = pending.outcome
    return None if outcome is None else (outcome.exit, outcome.text)


# --- taking up ------------------------------------------------------------------------------------


def test_command_is_new_once(asks: Asks) -> None:
    pending = asks.add(Command(Ask.CHECK))

    assert asks.new() == [pending]
    assert asks.new() == []


def test_command_that_was_not_heard_yet_is_answered_by_nothing(asks: Asks) -> None:
    pending = asks.add(Command(Ask.CHECK))
    asks.nothing(NOTHING, is_idle=True)
    assert pending.outcome is None

    asks.new()
    asks.nothing(NOTHING, is_idle=True)
    assert answer(pending) == (Exit.NOTHING, "v1.0.0 is live")


@pytest.mark.parametrize(
    ("what", "wants"),
    [(Ask.CHECK, True), (Ask.UPDATE, True), (Ask.ROLLBACK, False), (Ask.RETRY, False)],
)
def test_who_waits_for_a_poll_is_bound_by_no_backoff(asks: Asks, what: Ask, wants: bool) -> None:
    assert not asks.wants_poll
    ask(asks, what)

    assert asks.wants_poll is wants


def test_deployment_knows_who_asked_and_what_he_accepts(asks: Asks) -> None:
    assert asks.notes_for_update() == {}

    ask(asks, Ask.UPDATE)
    assert asks.notes_for_update() == {"asked_by": "operator"}
    assert not asks.accepts_deletions

    ask(asks, Ask.UPDATE, accept_deletions=True)
    assert asks.notes_for_update() == {"asked_by": "operator", "accept_deletions": True}


def test_command_from_the_mailbox_is_answered_there(asks: Asks, machine: Machine) -> None:
    mailbox = Mailbox(machine.disk.database)
    number = mailbox.put(Command(Ask.CHECK))
    ((_, command),) = mailbox.take()
    asks.add(command, number)
    asks.new()

    asks.candidate(CANDIDATE)

    outcome = mailbox.outcome(number)
    assert outcome is not None
    assert outcome.text == "v1.1.0 (commit cccccccccccc) is to be deployed"


# --- polls ----------------------------------------------------------------------------------------


def test_candidate_answers_a_check_and_leaves_an_update_to_its_deployment(asks: Asks) -> None:
    check, update = ask(asks, Ask.CHECK), ask(asks, Ask.UPDATE)
    asks.candidate(CANDIDATE)

    assert answer(check) == (Exit.DONE, "v1.1.0 (commit cccccccccccc) is to be deployed")
    assert update.outcome is None


def test_nothing_new_and_a_failing_source_answer_both(asks: Asks) -> None:
    waiting = [ask(asks, Ask.CHECK), ask(asks, Ask.UPDATE)]
    asks.nothing(NOTHING, is_idle=True)
    assert [answer(one) for one in waiting] == [(Exit.NOTHING, "v1.0.0 is live")] * 2

    waiting = [ask(asks, Ask.CHECK), ask(asks, Ask.UPDATE)]
    asks.poll_failed(DOWN)
    assert [answer(one) for one in waiting] == [(Exit.FAILED, "no route")] * 2


def test_poll_beside_a_deployment_answers_a_check_alone(asks: Asks) -> None:
    update = ask(asks, Ask.UPDATE)
    assert not asks.wants_check
    check = ask(asks, Ask.CHECK)
    asks.nothing(NOTHING, is_idle=False)

    assert answer(check) == (Exit.NOTHING, "v1.0.0 is live")
    assert update.outcome is None


def test_answer_that_the_disk_does_not_take_stops_nothing(asks: Asks, machine: Machine) -> None:
    mailbox = Mailbox(machine.disk.database)
    number = mailbox.put(Command(Ask.CHECK))
    pending = asks.add(mailbox.take()[0][1], number)
    asks.new()
    machine.disk.database.rows("PRAGMA query_only=1")

    asks.nothing(NOTHING, is_idle=True)

    assert answer(pending) == (Exit.NOTHING, "v1.0.0 is live")
    assert mailbox.outcome(number) is None


@pytest.mark.parametrize(("is_flying", "rollback_fails"), [(True, False), (False, True)])
def test_failed_turn_leaves_nobody_waiting_but_who_waits_for_a_worker(
    asks: Asks, is_flying: bool, rollback_fails: bool
) -> None:
    waiting = [ask(asks, Ask.CHECK), ask(asks, Ask.UPDATE)]
    rollback = ask(asks, Ask.ROLLBACK)
    asks.turn_failed(DOWN, is_flying=is_flying)

    assert [answer(one) for one in waiting] == [(Exit.FAILED, "no route")] * 2
    assert (rollback.outcome is not None) is rollback_fails


def test_each_command_is_answered_once(asks: Asks) -> None:
    pending = ask(asks, Ask.CHECK)
    asks.nothing(NOTHING, is_idle=True)
    asks.poll_failed(DOWN)

    assert answer(pending) == (Exit.NOTHING, "v1.0.0 is live")


# --- deployments ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ended", "exit_code"),
    [(ENDED, Exit.DONE), (OFFLINE, Exit.FAILED), (STUCK, Exit.FAILED)],
)
def test_update_is_answered_by_the_deployment_that_it_began(
    asks: Asks, ended: Deployment, exit_code: Exit
) -> None:
    update, check = ask(asks, Ask.UPDATE), ask(asks, Ask.CHECK)
    asks.ended(ended, Phase.COMMIT, is_own=True)

    assert update.outcome is not None
    assert update.outcome.exit is exit_code
    assert check.outcome is None


def test_update_goes_on_after_a_release_that_was_rejected_and_tells_its_end(asks: Asks) -> None:
    update = ask(asks, Ask.UPDATE)
    asks.ended(REJECTED, Phase.RESTORE, is_own=True)
    assert update.outcome is None

    asks.nothing(NOTHING, is_idle=True)

    assert answer(update) == (
        Exit.FAILED,
        "1.1.0-aaaaaa-cccccccccccc was rolled back: red",
    )


def test_update_goes_on_after_what_an_earlier_life_left_and_counts_it(asks: Asks) -> None:
    update = ask(asks, Ask.UPDATE)
    asks.ended(ENDED, Phase.COMMIT, is_own=False)
    unanswered = update.outcome
    assert unanswered is None

    asks.nothing(NOTHING, is_idle=True)

    assert answer(update) == (Exit.DONE, "1.1.0-aaaaaa-cccccccccccc is live")
    assert update.outcome is not None
    assert update.outcome.data["deployment"]["phase"] == "commit"  # as the history has it


def test_device_that_is_stuck_since_an_earlier_life_answers_at_once(asks: Asks) -> None:
    update = ask(asks, Ask.UPDATE)
    asks.ended(STUCK, Phase.RESTORE, is_own=False)

    assert update.outcome is not None
    assert update.outcome.exit is Exit.FAILED


def test_update_that_has_to_wait_is_told_so(asks: Asks) -> None:
    update, rollback = ask(asks, Ask.UPDATE), ask(asks, Ask.ROLLBACK)
    asks.held(replace(ENDED, phase=Phase.HOLD), NotYet("the hook says: not yet"))

    assert answer(update) == (Exit.NOTHING, "waiting: the hook says: not yet")
    assert rollback.outcome is None


def test_deployment_that_can_neither_go_on_nor_end_answers_who_waits_for_one(asks: Asks) -> None:
    waiting = [ask(asks, Ask.UPDATE), ask(asks, Ask.ROLLBACK)]
    check = ask(asks, Ask.CHECK)
    asks.deployment_failed(DOWN)

    assert [answer(one) for one in waiting] == [(Exit.FAILED, "no route")] * 2
    assert check.outcome is None


@pytest.mark.parametrize(
    ("ended", "may"),
    [
        (ENDED, False),
        (OFFLINE, False),
        (REJECTED, True),
        (replace(REJECTED, notes={"blames": "ReleaseRefused"}), True),
        (replace(REJECTED, phase=Phase.SUCCEEDED), False),
        (replace(REJECTED, error=None), False),
    ],
)
def test_only_a_release_that_is_refused_or_rejected_lets_another_be_tried_at_once(
    ended: Deployment, may: bool
) -> None:
    assert may_try_another(ended) is may


# --- rollbacks ------------------------------------------------------------------------------------


def deploy_two(machine: Machine) -> list[str]:
    ids = []
    for content in (b"1", b"2"):
        machine.publish({"app.py": content})
        ended = machine.update()
        assert ended.release is not None
        ids.append(ended.release)
    return ids


def test_rollback_begins_once_and_is_answered_by_its_own_end(asks: Asks, machine: Machine) -> None:
    ids = deploy_two(machine)
    rollback = ask(asks, Ask.ROLLBACK, with_data=True)

    begun = asks.begin_rollback()
    assert begun is not None
    assert begun.notes == {
        "asked_by": "operator",
        "command": None,
        "allow_again": False,
        "with_data": True,
    }
    assert asks.begin_rollback() is None

    done = replace(begun, phase=Phase.SUCCEEDED)
    asks.ended(replace(done, id="another"), Phase.COMMIT, is_own=True)
    assert rollback.outcome is None
    asks.ended(done, Phase.COMMIT, is_own=True)
    assert answer(rollback) == (Exit.DONE, f"{ids[0]} is live")


def test_rollback_that_may_not_be_is_refused_and_the_next_one_begins(
    asks: Asks, machine: Machine
) -> None:
    deploy_two(machine)
    refused = ask(asks, Ask.ROLLBACK, release="9.9.9")
    good = ask(asks, Ask.ROLLBACK, allow_again=True)

    begun = asks.begin_rollback()

    assert refused.outcome is not None
    assert refused.outcome.exit is Exit.REFUSED
    assert begun is not None
    assert begun.notes["allow_again"] is True
    assert good.outcome is None


def leave_rollback(machine: Machine, number: int | None = None, **notes: bool) -> Deployment:
    """Begin a rollback as an earlier life did."""
    ids = deploy_two(machine)
    notes = {"allow_again": False, "with_data": False, **notes}
    return machine.manager.begin_rollback(ids[0], {"command": number, **notes})


def test_rollback_that_an_earlier_life_left_answers_who_asked_for_it(
    asks: Asks, machine: Machine
) -> None:
    mailbox = Mailbox(machine.disk.database)
    number, other = mailbox.put(Command(Ask.ROLLBACK)), mailbox.put(Command(Ask.CHECK))
    mailbox.take()
    left = leave_rollback(machine, number)

    asks.resume(left)

    assert asks.new() == []
    assert asks.are_open
    assert mailbox.outcome(number) is None
    assert mailbox.outcome(other) is not None
    asks.ended(replace(left, phase=Phase.SUCCEEDED), Phase.COMMIT, is_own=False)
    told = mailbox.outcome(number)
    assert told is not None
    assert told.exit is Exit.DONE
    assert not asks.are_open


@pytest.mark.parametrize("name", [None, "the id", "the commit"])
def test_rollback_that_is_asked_again_after_a_stop_is_not_done_twice(
    asks: Asks, machine: Machine, name: str | None
) -> None:
    left = leave_rollback(machine)
    asks.resume(left)
    named = {"the id": left.release, "the commit": left.commit}.get(name or "")
    again = asks.add(Command(Ask.ROLLBACK, {"release": named}))

    assert asks.asks_again(again)
    assert asks.begin_rollback() is None
    asks.ended(replace(left, phase=Phase.SUCCEEDED), Phase.COMMIT, is_own=False)

    assert again.outcome is not None
    assert again.outcome.data["deployment"]["deployment"] == left.id
    assert not asks.asks_again(asks.add(Command(Ask.ROLLBACK)))


@pytest.mark.parametrize("args", [{"with_data": True}, {"release": "9.9.9"}])
def test_another_rollback_than_the_one_that_was_left_is_one_of_its_own(
    asks: Asks, machine: Machine, args: dict[str, object]
) -> None:
    asks.resume(leave_rollback(machine))

    assert not asks.asks_again(asks.add(Command(Ask.ROLLBACK, args)))


def test_update_that_was_left_is_no_rollback_that_is_asked_again(asks: Asks) -> None:
    asks.resume(replace(ENDED, phase=Phase.STAGE))

    assert not asks.asks_again(asks.add(Command(Ask.ROLLBACK)))


def test_nobody_asked_for_a_rollback(asks: Asks) -> None:
    ask(asks, Ask.UPDATE)

    assert asks.begin_rollback() is None


def test_rollback_that_waits_for_a_deployment_which_gets_stuck_is_answered(asks: Asks) -> None:
    rollback = ask(asks, Ask.ROLLBACK)
    asks.ended(STUCK, Phase.RESTORE, is_own=True)

    assert answer(rollback) == (
        Exit.FAILED,
        "the device is stuck: nothing new goes live before the way back succeeds",
    )


def test_rollback_that_gets_stuck_itself_is_answered_by_its_error(
    asks: Asks, machine: Machine
) -> None:
    deploy_two(machine)
    rollback = ask(asks, Ask.ROLLBACK)
    begun = asks.begin_rollback()
    assert begun is not None
    error = Failure("device.backup_unusable", "the backup is gone", "", BEGIN)

    asks.ended(replace(begun, phase=Phase.STUCK, error=error), Phase.RESTORE, is_own=True)

    assert rollback.outcome is not None
    assert rollback.outcome.text.endswith("was stuck: the backup is gone")


# --- retry ----------------------------------------------------------------------------------------


def test_retry_lifts_what_speaks_against_a_release(asks: Asks, machine: Machine) -> None:
    name = "1.1.0-aaaaaa-cccccccccccc"
    entry = Entry(name, "release.probe_failed", "red", ("c" * 40,), BEGIN, 1)
    with machine.disk.database.transaction() as transaction:
        records.add_quarantine(transaction, "7" * 40, entry)
    pending = ask(asks, Ask.RETRY, release="1.1.0")

    asks.retry(pending)

    assert pending.outcome == Outcome(
        Exit.DONE, f"{name} may be tried again", {"lifted": ["7" * 40]}
    )
    assert machine.quarantine == {}


@pytest.mark.parametrize("args", [{"release": "9.9.9"}, {}])
def test_retry_of_what_nobody_holds_back_is_refused(asks: Asks, args: dict[str, str]) -> None:
    pending = ask(asks, Ask.RETRY, **args)
    asks.retry(pending)

    assert pending.outcome is not None
    assert pending.outcome.exit is Exit.REFUSED
    assert pending.outcome.text.endswith("is not in quarantine and nothing holds it back")
