from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fakes.clock import FakeClock
from fakes.progress import FakeProgress
from ota_agent.errors import (
    AgentError,
    DiskFull,
    SourceBusy,
    SourceChanged,
    SourceUnreachable,
    Stopped,
    TokenRefused,
)
from ota_agent.remote.connection import (
    Breaker,
    BreakerState,
    Connection,
    ConnectionState,
    Retries,
)
from ota_agent.wiring.building import ONCE

if TYPE_CHECKING:
    from collections.abc import Callable


class Work:
    """Fails in the ways it is given, then answers."""

    def __init__(self, *errors: AgentError) -> None:
        self.errors = list(errors)
        self.done = 0

    def __call__(self) -> str:
        self.done += 1
        if self.errors:
            raise self.errors.pop(0)
        return "answer"


def state_of(connection: Connection) -> ConnectionState:
    return connection.state


def breaker_of(connection: Connection) -> BreakerState:
    return connection.breaker.state


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def progress(clock: FakeClock) -> FakeProgress:
    return FakeProgress(clock)


def unreachable() -> AgentError:
    return SourceUnreachable("no answer")


def busy() -> AgentError:
    return SourceBusy("later")


@pytest.mark.parametrize("passing", [unreachable, busy])
def test_passing_failure_is_tried_again(
    clock: FakeClock, progress: FakeProgress, passing: Callable[[], AgentError]
) -> None:
    work = Work(passing(), passing())
    assert Connection(clock, retries=Retries(attempts=3)).call(work, progress) == "answer"
    assert work.done == 3
    assert len(progress.waits) == 2


@pytest.mark.parametrize("error", [SourceChanged("moved"), DiskFull("full"), TokenRefused("no")])
def test_what_does_not_pass_by_itself_is_not_tried_again(
    clock: FakeClock, progress: FakeProgress, error: AgentError
) -> None:
    work = Work(error)
    with pytest.raises(type(error)):
        Connection(clock, retries=Retries(attempts=5)).call(work, progress)
    assert work.done == 1


def test_attempts_are_counted(clock: FakeClock, progress: FakeProgress) -> None:
    work = Work(*(unreachable() for _ in range(9)))
    with pytest.raises(SourceUnreachable):
        Connection(clock, retries=Retries(attempts=4)).call(work, progress)
    assert work.done == 4


def test_one_attempt_is_the_default(clock: FakeClock, progress: FakeProgress) -> None:
    work = Work(unreachable())
    with pytest.raises(SourceUnreachable):
        Connection(clock).call(work, progress)
    assert (work.done, progress.waits) == (1, [])


def test_retries_end_in_time_however_many_there_may_be(
    clock: FakeClock, progress: FakeProgress
) -> None:
    began = clock.monotonic()
    work = Work(*(unreachable() for _ in range(10_000)))
    with pytest.raises(SourceUnreachable):
        Connection(clock, retries=Retries(attempts=10_000, total_s=60)).call(work, progress)
    assert clock.monotonic() - began <= 60
    assert work.done > 3


def test_source_that_accepts_and_says_nothing_is_given_up_within_a_minute(
    clock: FakeClock, progress: FakeProgress
) -> None:
    began = clock.monotonic()
    attempts: list[float] = []

    def say_nothing() -> str:
        attempts.append(clock.monotonic())
        clock.advance(25)
        raise unreachable()

    with pytest.raises(SourceUnreachable):
        Connection(clock, retries=ONCE).call(say_nothing, progress)
    assert clock.monotonic() - began <= 60
    assert len(attempts) == 2


@pytest.mark.parametrize("retries", [Retries(2, 60), ONCE])
def test_transfer_that_moved_for_long_may_still_be_tried_again(
    clock: FakeClock, progress: FakeProgress, retries: Retries
) -> None:
    failures = [unreachable()]

    def transfer() -> str:
        clock.advance(3600)
        if failures:
            raise failures.pop()
        return "answer"

    assert Connection(clock, retries=retries).call(transfer, progress) == "answer"


def test_pauses_grow_and_never_undercut_what_is_asked_for(
    clock: FakeClock, progress: FakeProgress
) -> None:
    work = Work(SourceBusy("later", retry_after_s=20), *(unreachable() for _ in range(7)))
    Connection(clock, retries=Retries(9, 3600, first_s=1, longest_s=8)).call(work, progress)
    asked, *others = progress.waits
    assert asked == 20
    bounds = [2, 4, 8, 8, 8, 8, 8]
    assert all(0 <= pause <= bound for pause, bound in zip(others, bounds, strict=True))


def test_server_that_asks_for_more_than_there_is_time_is_left_alone(
    clock: FakeClock, progress: FakeProgress
) -> None:
    work = Work(SourceBusy("later", retry_after_s=600))
    with pytest.raises(SourceBusy):
        Connection(clock, retries=Retries(9, 60)).call(work, progress)
    assert (work.done, progress.waits) == (1, [])


def test_pause_ends_when_the_work_has_to(clock: FakeClock, progress: FakeProgress) -> None:
    progress.end_after(0, Stopped())
    with pytest.raises(Stopped):
        Connection(clock, retries=Retries(9)).call(Work(unreachable()), progress)


def test_connection_says_since_when_it_is_so(clock: FakeClock, progress: FakeProgress) -> None:
    connection = Connection(clock)
    assert state_of(connection) is ConnectionState.UNKNOWN
    clock.advance(10)
    for _ in range(2):
        with pytest.raises(SourceUnreachable):
            connection.call(Work(unreachable()), progress)
        clock.advance(10)
    assert state_of(connection) is ConnectionState.DOWN
    assert (clock.now() - connection.since).total_seconds() == 20
    assert connection.last_error is not None
    assert connection.last_error.code == "source.unreachable"
    connection.call(Work(), progress)
    assert state_of(connection) is ConnectionState.UP
    assert connection.since == clock.now()


def test_full_disk_says_nothing_about_the_connection(
    clock: FakeClock, progress: FakeProgress
) -> None:
    connection = Connection(clock)
    with pytest.raises(DiskFull):
        connection.call(Work(DiskFull("full")), progress)
    assert state_of(connection) is ConnectionState.UNKNOWN
    assert connection.last_error is None


def refused(connection: Connection, progress: FakeProgress) -> Work:
    work = Work(TokenRefused("no"))
    with pytest.raises(TokenRefused):
        connection.call(work, progress)
    return work


def test_refused_token_is_not_sent_again_until_the_time_is_over(
    clock: FakeClock, progress: FakeProgress
) -> None:
    connection = Connection(clock, breaker=Breaker(clock, first_s=600, longest_s=2000))
    for pause_s in (600, 1200, 2000, 2000):
        assert refused(connection, progress).done == 1
        assert breaker_of(connection) is BreakerState.OPEN
        clock.advance(pause_s - 1)
        assert refused(connection, progress).done == 0
        clock.advance(1)
        assert breaker_of(connection) is BreakerState.HALF_OPEN
    assert connection.breaker.since < clock.now()


def test_accepted_token_closes_the_breaker_and_forgets(
    clock: FakeClock, progress: FakeProgress
) -> None:
    connection = Connection(clock)
    refused(connection, progress)
    clock.advance(600)
    assert connection.call(Work(), progress) == "answer"
    assert breaker_of(connection) is BreakerState.CLOSED
    assert connection.breaker.since == clock.now()
    assert connection.breaker.last_error is not None
    refused(connection, progress)
    clock.advance(600)
    assert breaker_of(connection) is BreakerState.HALF_OPEN


def test_operator_gets_an_attempt_at_once(clock: FakeClock, progress: FakeProgress) -> None:
    connection = Connection(clock)
    refused(connection, progress)
    connection.breaker.reset()
    assert connection.call(Work(), progress) == "answer"


def test_refusal_that_is_not_asked_again_says_so(clock: FakeClock, progress: FakeProgress) -> None:
    connection = Connection(clock)
    refused(connection, progress)
    with pytest.raises(TokenRefused, match="not asked again for another 600 s"):
        connection.call(Work(), progress)
