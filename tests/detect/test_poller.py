from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from fakes.clock import FakeClock
from ota_agent.config import Config, Source
from ota_agent.detect.poller import CLOCK_RETRY_S, DEADLINE_S, LONGEST_BACKOFF_S, Poller
from ota_agent.errors import (
    AgentError,
    DeadlineExceeded,
    SourceBusy,
    SourceUnreachable,
    Stopped,
    TokenRefused,
)
from ota_agent.model.verdict import NoCandidate, Reason
from ota_agent.store.paths import Paths

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ota_agent.detect.poller import Answer
    from ota_agent.model.verdict import Verdict
    from ota_agent.ports import Progress

PATIENCE_S = 20.0
DAY_S = 86400.0
INTERVAL_S = 300.0
NOTHING = NoCandidate(Reason.UP_TO_DATE, "v1.0.0 is live", "Nothing to do.")
DOWN = SourceUnreachable("no route to host")


class Eyes:
    """A lookout that sees what it is told, and notes how it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[bool, bool]] = []
        self.see: Callable[[Progress], Verdict] = lambda _: NOTHING

    def look(
        self, progress: Progress, *, fresh: bool = False, accept_deletions: bool = False
    ) -> Verdict:
        self.asked.append((fresh, accept_deletions))
        return self.see(progress)

    def fail(self, error: Exception) -> None:
        def see(_: Progress) -> Verdict:
            raise error

        self.see = see


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def eyes() -> Eyes:
    return Eyes()


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths(tmp_path)


@pytest.fixture
def poller(eyes: Eyes, clock: FakeClock, paths: Paths) -> Poller:
    config = Config(
        work_dir=paths.work_dir,
        source=Source(type="git", url="https://git.example.com/fw.git"),
        poll_interval_s=INTERVAL_S,
    )
    return Poller(eyes, clock, lambda: None, config, paths)  # type: ignore[arg-type]  # it can look


@pytest.fixture
def worst_luck(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every drawn pause be the longest."""
    monkeypatch.setattr("random.uniform", lambda _, longest: longest)


def poll(poller: Poller, *, fresh: bool = False) -> Answer | None:
    poller.begin(fresh=fresh, accept_deletions=False)
    assert poller.worker is not None
    assert poller.worker.join(PATIENCE_S)
    return poller.watch()


def pause_s(poller: Poller, clock: FakeClock) -> float:
    return poller.due_at - clock.monotonic()


def test_first_poll_is_due_at_once(poller: Poller) -> None:
    assert poller.is_due
    assert poller.watch() is None


def test_answer_is_given_once_and_the_next_poll_is_due_an_interval_later(
    poller: Poller, clock: FakeClock
) -> None:
    assert poll(poller) is NOTHING
    assert poller.watch() is None

    assert 0.9 * INTERVAL_S <= pause_s(poller, clock) <= 1.1 * INTERVAL_S
    was_due = poller.is_due
    clock.advance(1.1 * INTERVAL_S)
    assert (was_due, poller.is_due) == (False, True)


def test_fleet_that_was_switched_on_together_does_not_poll_together(
    poller: Poller, clock: FakeClock
) -> None:
    pauses = {poller.interval_s() for _ in range(50)}

    assert len(pauses) > 25
    assert min(pauses) >= 0.9 * INTERVAL_S
    assert max(pauses) <= 1.1 * INTERVAL_S


@pytest.mark.parametrize("fresh", [True, False])
@pytest.mark.parametrize("accept_deletions", [True, False])
def test_what_the_operator_asked_for_reaches_the_lookout(
    poller: Poller, eyes: Eyes, fresh: bool, accept_deletions: bool
) -> None:
    poller.begin(fresh=fresh, accept_deletions=accept_deletions)
    assert poller.worker is not None
    assert poller.worker.join(PATIENCE_S)

    assert eyes.asked == [(fresh, accept_deletions)]


def test_there_is_one_poll_at_a_time(poller: Poller, eyes: Eyes, clock: FakeClock) -> None:
    go_on = threading.Event()

    def see(_: Progress) -> Verdict:
        assert go_on.wait(PATIENCE_S)
        return NOTHING

    eyes.see = see
    poller.begin(fresh=False, accept_deletions=False)
    clock.advance(1)
    poller.hurry()

    assert not poller.is_due
    assert poller.watch() is None

    go_on.set()
    assert poller.worker is not None
    assert poller.worker.join(PATIENCE_S)
    assert poller.watch() is NOTHING


def test_poll_that_hangs_is_ended_at_its_deadline(
    poller: Poller, eyes: Eyes, clock: FakeClock
) -> None:
    def see(progress: Progress) -> Verdict:
        progress.wait(3600)
        return NOTHING

    eyes.see = see
    poller.begin(fresh=False, accept_deletions=False)
    worker = poller.worker
    assert worker is not None
    clock.advance(DEADLINE_S + 1)
    poller.watch()  # tells it to end; it may take a moment
    assert worker.join(PATIENCE_S)

    assert poller.worker is None or isinstance(poller.watch(), DeadlineExceeded)


def test_hurry_makes_the_next_poll_due_at_once(poller: Poller, clock: FakeClock) -> None:
    poll(poller)
    poller.hurry()

    assert poller.is_due


def test_wake_file_that_is_touched_makes_the_next_poll_due_once(
    poller: Poller, clock: FakeClock, paths: Paths
) -> None:
    due = []
    for touch in (False, True, False):
        poll(poller)
        if touch:
            paths.wake_file.touch()
        poller.heed_wake_file()
        due.append(poller.is_due)

    assert due == [False, True, False]


def test_wake_file_that_was_there_before_the_start_wakes_nobody(
    eyes: Eyes, clock: FakeClock, paths: Paths, request: pytest.FixtureRequest
) -> None:
    paths.wake_file.touch()
    poller: Poller = request.getfixturevalue("poller")
    poll(poller)

    poller.heed_wake_file()

    assert not poller.is_due


def test_clock_that_is_not_set_is_looked_at_again_soon(poller: Poller, clock: FakeClock) -> None:
    poller.wait_for_clock()

    was_due = poller.is_due
    clock.advance(CLOCK_RETRY_S)
    assert (was_due, poller.is_due) == (False, True)


@pytest.mark.usefixtures("worst_luck")
def test_each_failure_in_a_row_doubles_the_pause_up_to_a_bound(
    poller: Poller, eyes: Eyes, clock: FakeClock
) -> None:
    eyes.fail(DOWN)
    pauses = []
    for _ in range(4):
        poll(poller)
        pauses.append(pause_s(poller, clock) - 1.1 * INTERVAL_S)

    assert pauses == pytest.approx([600, LONGEST_BACKOFF_S, LONGEST_BACKOFF_S, LONGEST_BACKOFF_S])


@pytest.mark.usefixtures("worst_luck")
def test_success_forgets_the_failures_before(poller: Poller, eyes: Eyes, clock: FakeClock) -> None:
    eyes.fail(DOWN)
    poll(poller)
    poll(poller)
    eyes.see = lambda _: NOTHING
    poll(poller)
    assert pause_s(poller, clock) == pytest.approx(1.1 * INTERVAL_S)

    eyes.fail(DOWN)
    poll(poller)
    assert pause_s(poller, clock) == pytest.approx(1.1 * INTERVAL_S + 600)


def test_pause_after_a_failure_is_drawn_at_random(
    poller: Poller, eyes: Eyes, clock: FakeClock
) -> None:
    eyes.fail(DOWN)
    pauses = set()
    for _ in range(20):
        poll(poller)
        pauses.add(pause_s(poller, clock))

    assert len(pauses) > 10
    assert min(pauses) >= 0.9 * INTERVAL_S


def test_device_that_was_offline_for_months_still_counts(
    poller: Poller, eyes: Eyes, clock: FakeClock
) -> None:
    eyes.fail(DOWN)
    poller._failures = 50_000

    assert poll(poller) is DOWN
    assert pause_s(poller, clock) <= 1.1 * INTERVAL_S + LONGEST_BACKOFF_S


def test_source_that_names_a_time_is_not_asked_before(
    poller: Poller, eyes: Eyes, clock: FakeClock
) -> None:
    eyes.fail(SourceBusy("429", retry_after_s=5000))
    poll(poller)

    assert pause_s(poller, clock) >= 5000


def test_source_that_asks_for_a_year_is_asked_again_the_next_day(
    poller: Poller, eyes: Eyes, clock: FakeClock
) -> None:
    eyes.fail(SourceBusy("429", retry_after_s=365 * DAY_S))
    poll(poller)

    assert DAY_S <= pause_s(poller, clock) <= DAY_S + 1.1 * INTERVAL_S


@pytest.mark.parametrize(
    "error", [TokenRefused("401"), SourceBusy("503"), AgentError("anything expected")]
)
def test_every_expected_failure_is_an_answer(poller: Poller, eyes: Eyes, error: AgentError) -> None:
    eyes.fail(error)

    assert poll(poller) is error
    assert poller.worker is None


def test_poll_that_ends_with_the_agent_has_no_answer(poller: Poller, eyes: Eyes) -> None:
    eyes.fail(Stopped("the agent was asked to end"))

    assert poll(poller) is None


def test_bug_in_a_poll_reaches_the_loop_and_the_next_poll_begins_later(
    poller: Poller, eyes: Eyes, clock: FakeClock
) -> None:
    eyes.fail(ZeroDivisionError())

    with pytest.raises(ZeroDivisionError):
        poll(poller)

    assert poller.worker is None
    assert pause_s(poller, clock) >= 0.9 * INTERVAL_S
