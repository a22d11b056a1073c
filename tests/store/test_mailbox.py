from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from ota_agent.model.command import Ask, Command, Exit, Outcome
from ota_agent.store.database import Database
from ota_agent.store.mailbox import KEPT_OUTCOMES, Mailbox

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DONE = Outcome(Exit.DONE, "1.1.0 is live", {"deployment": {"ending": "succeeded"}})
RETRY = Command(Ask.RETRY, {"release": "1.0.0"}, "operator@tty1")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


@pytest.fixture
def ours(file: Path) -> Iterator[Mailbox]:
    with closing(Database.open(file)) as database:
        yield Mailbox(database)


@pytest.fixture
def theirs(ours: Mailbox, file: Path) -> Iterator[Mailbox]:
    """Give the mailbox as another process has it: over a connection of its own."""
    with closing(Database.open(file)) as database:
        yield Mailbox(database)


def test_empty_mailbox_gives_nothing(ours: Mailbox) -> None:
    assert ours.take() == []
    assert ours.outcome(1) is None


def test_command_of_another_process_is_taken_once_and_its_outcome_found(
    ours: Mailbox, theirs: Mailbox
) -> None:
    number = theirs.put(RETRY)

    assert ours.take() == [(number, RETRY)]
    assert ours.take() == []
    assert theirs.outcome(number) is None

    ours.answer(number, DONE)

    assert theirs.outcome(number) == DONE


def test_command_of_a_newer_command_line_is_answered_and_costs_no_other_its_answer(
    ours: Mailbox, theirs: Mailbox
) -> None:
    unknown = theirs.put(Command("pin"))  # type: ignore[arg-type]  # of another version
    known = theirs.put(RETRY)

    assert ours.take() == [(known, RETRY)]
    outcome = theirs.outcome(unknown)
    assert outcome is not None
    assert outcome.exit is Exit.FAILED
    assert "does not know the command 'pin'" in outcome.text


def test_commands_are_taken_in_the_order_in_which_they_came(ours: Mailbox, theirs: Mailbox) -> None:
    asks = [Ask.UPDATE, Ask.CHECK, Ask.ROLLBACK, Ask.CHECK]
    numbers = [box.put(Command(ask)) for ask, box in zip(asks, [theirs, ours] * 2, strict=True)]

    assert ours.take() == list(zip(numbers, map(Command, asks), strict=True))


def test_each_asker_finds_the_outcome_of_its_own_command(ours: Mailbox, theirs: Mailbox) -> None:
    first, second = theirs.put(Command(Ask.CHECK)), theirs.put(RETRY)
    ours.take()
    ours.answer(second, DONE)

    assert theirs.outcome(first) is None
    assert theirs.outcome(second) == DONE


def test_command_is_taken_back_unless_it_was_taken(ours: Mailbox, theirs: Mailbox) -> None:
    early, late = theirs.put(RETRY), theirs.put(RETRY)

    assert not theirs.is_taken(late)
    assert theirs.withdraw(early)
    assert ours.take() == [(late, RETRY)]
    assert theirs.is_taken(late)
    assert not theirs.withdraw(late)


def test_command_that_goes_on_stays_without_an_answer(ours: Mailbox) -> None:
    number = ours.put(RETRY)
    ours.take()

    ours.clear(but=number)

    assert ours.outcome(number) is None


def test_old_outcomes_are_forgotten(ours: Mailbox) -> None:
    numbers = [ours.put(Command(Ask.CHECK)) for _ in range(KEPT_OUTCOMES + 2)]
    ours.take()
    for number in numbers:
        ours.answer(number, DONE)

    assert [ours.outcome(number) for number in numbers[:3]] == [None, None, DONE]


def test_asker_of_an_agent_that_is_gone_is_told_so_and_a_waiting_command_stays(
    ours: Mailbox, theirs: Mailbox
) -> None:
    answered, left = theirs.put(RETRY), theirs.put(RETRY)
    ours.take()
    ours.answer(answered, DONE)
    waiting = theirs.put(Command(Ask.UPDATE))

    ours.clear()

    gone = theirs.outcome(left)
    assert gone is not None
    assert gone.exit is Exit.FAILED
    assert "ask again" in gone.text
    assert theirs.outcome(answered) == DONE
    assert ours.take() == [(waiting, Command(Ask.UPDATE))]
