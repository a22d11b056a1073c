from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes.clock import BEGIN
from ota_agent.errors import (
    AgentError,
    ConnectivityLost,
    Crashed,
    DiskFull,
    HookFailed,
    ProbeFailed,
    ReleaseRefused,
    SourceUnreachable,
)
from ota_agent.model.deployment import ENDINGS, Deployment, Kind, Phase
from ota_agent.update import flow, steps
from ota_agent.update.flow import FLOW, MAX_CRASHES

P = Phase
PHASES = [phase for phase in Phase if phase not in ENDINGS]
NEW = Deployment(
    id="1-abcdef",
    kind=Kind.UPDATE,
    commit="c" * 40,
    ref="",
    phase=P.FETCH,
    started_at=BEGIN,
    entered_at=BEGIN,
)


def in_phase(phase: Phase, crashes: int = 1) -> Deployment:
    return replace(NEW, phase=phase, crashes=crashes)


# --- the table ------------------------------------------------------------------------------------


def test_table_is_the_one_of_the_design() -> None:
    assert {phase: (row.do, row.ok, row.failed, row.crashed) for phase, row in FLOW.items()} == {
        P.FETCH: (steps.fetch, P.VERIFY, P.DISCARD, P.FETCH),
        P.VERIFY: (steps.verify, P.STAGE, P.DISCARD, P.VERIFY),
        P.STAGE: (steps.stage, P.HOLD, P.DISCARD, P.STAGE),
        P.HOLD: (steps.hold, P.BACKUP, P.DISCARD, P.HOLD),
        P.BACKUP: (steps.backup, P.ACTIVATE, P.DISCARD, P.BACKUP),
        P.ACTIVATE: (steps.activate, P.CONFIRM, P.RESTORE, P.RESTORE),
        P.CONFIRM: (steps.confirm, P.COMMIT, P.RESTORE, P.CONFIRM),
        P.COMMIT: (steps.commit, P.SUCCEEDED, P.COMMIT, P.COMMIT),
        P.DISCARD: (steps.discard, P.ABANDONED, P.ABANDONED, P.DISCARD),
        P.RESTORE: (steps.restore, P.ROLLED_BACK, P.STUCK, P.RESTORE),
    }


def test_every_phase_that_is_no_ending_has_a_row_and_a_deadline() -> None:
    assert list(FLOW) == PHASES
    assert set(flow.DEADLINE_S) == set(PHASES)
    assert min(flow.DEADLINE_S.values()) >= 120


@pytest.mark.parametrize("phase", [phase for phase in PHASES if phase is not P.COMMIT])
def test_neither_success_nor_failure_leads_back(phase: Phase) -> None:
    order = list(Phase)

    assert order.index(FLOW[phase].ok) > order.index(phase)
    assert order.index(FLOW[phase].failed) > order.index(phase)


@given(st.lists(st.booleans(), min_size=2 * len(PHASES), max_size=2 * len(PHASES)))
def test_deployment_that_does_not_crash_ends_by_construction(outcomes: list[bool]) -> None:
    phase = P.FETCH
    seen = [phase]
    for is_good in outcomes:
        if phase in ENDINGS:
            break
        # COMMIT is retried until it succeeds: the verdict is written, only the disk may refuse.
        row = FLOW[phase]
        phase = row.ok if is_good or phase is P.COMMIT else row.failed
        seen.append(phase)

    assert phase in ENDINGS
    assert len(seen) == len(set(seen))


@given(st.lists(st.sampled_from(["ok", "failed"]), max_size=20))
def test_failure_before_activation_abandons_and_one_after_it_goes_back(outcomes: list[str]) -> None:
    phase, was_active = P.FETCH, False
    for outcome in outcomes:
        if phase in ENDINGS:
            break
        was_active = was_active or phase is P.ACTIVATE
        if phase is P.COMMIT:
            outcome = "ok"  # noqa: PLW2901 - it is retried until it is
        phase = getattr(FLOW[phase], outcome)

    if phase in {P.DISCARD, P.ABANDONED}:
        assert not was_active
    if phase in {P.RESTORE, P.ROLLED_BACK, P.STUCK, P.SUCCEEDED}:
        assert was_active


@given(st.data())
def test_deployment_that_crashes_over_and_over_ends_too(data: st.DataObject) -> None:
    """Crash at random, fail at random: only COMMIT, DISCARD and RESTORE have no last attempt."""
    deployment, attempts = NEW, 0
    for _ in range(200):
        if deployment.phase in ENDINGS:
            break
        row = FLOW[deployment.phase]
        happens = data.draw(st.sampled_from(["ok", "failed", "crash"]))
        if happens == "crash":
            deployment = replace(deployment, crashes=deployment.crashes + 1)
            attempts += flow.counts_as_attempt(deployment, None)
            phase = flow.after_crash(deployment, attempts)
        else:
            phase = getattr(row, happens)
        if phase is not deployment.phase:
            deployment = replace(deployment, phase=phase, crashes=0)
        elif deployment.phase is P.COMMIT:
            deployment = replace(deployment, phase=P.SUCCEEDED)

    assert deployment.phase in ENDINGS


# --- crashes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("phase", PHASES)
def test_crash_takes_the_column_and_the_third_one_in_a_phase_the_failure(phase: Phase) -> None:
    row = FLOW[phase]

    assert flow.after_crash(in_phase(phase, 1), 1) is row.crashed
    assert flow.after_crash(in_phase(phase, MAX_CRASHES - 1), 1) is row.crashed
    assert flow.after_crash(in_phase(phase, MAX_CRASHES), 1) is row.failed


def test_crashes_of_earlier_phases_do_not_use_up_the_patience_of_restore() -> None:
    assert flow.after_crash(in_phase(P.RESTORE, 1), attempts=7) is P.RESTORE


def test_third_activation_that_went_down_is_not_confirmed_any_more() -> None:
    assert flow.after_crash(in_phase(P.CONFIRM, 1), attempts=MAX_CRASHES - 1) is P.CONFIRM
    assert flow.after_crash(in_phase(P.CONFIRM, 1), attempts=MAX_CRASHES) is P.RESTORE


@pytest.mark.parametrize("phase", PHASES)
def test_only_a_crash_with_the_release_live_counts_against_it(phase: Phase) -> None:
    counts = phase in {P.ACTIVATE, P.CONFIRM}

    assert flow.counts_as_attempt(in_phase(phase), None) is counts


@pytest.mark.parametrize(
    ("error", "counts"),
    [
        (ConnectivityLost("gone"), True),
        (SourceUnreachable("gone"), False),
        (ProbeFailed("red"), False),
        (Crashed("down"), False),
    ],
)
def test_only_lost_connectivity_counts_like_a_crash(error: AgentError, counts: bool) -> None:
    assert flow.counts_as_attempt(in_phase(P.CONFIRM), error) is counts


# --- backing off ----------------------------------------------------------------------------------

MINUTES_10 = timedelta(minutes=10)
DAY = timedelta(days=1)


@pytest.mark.parametrize(
    ("attempts", "wait"),
    [
        (0, None),
        (1, None),
        (2, MINUTES_10),
        (3, 2 * MINUTES_10),
        (4, 4 * MINUTES_10),
        (9, 128 * MINUTES_10),
        (10, DAY),
        (100_000, DAY),
    ],
)
def test_content_that_took_the_device_down_waits_twice_as_long_each_time(
    attempts: int, wait: timedelta | None
) -> None:
    assert flow.crash_backoff(attempts) == wait


@pytest.mark.parametrize(
    ("count", "wait"),
    [
        (1, None),
        (2, None),
        (3, MINUTES_10),
        (4, 2 * MINUTES_10),
        (10, 128 * MINUTES_10),
        (11, DAY),
        (100_000, DAY),
    ],
)
def test_commit_that_fails_for_the_third_time_waits_twice_as_long_each_time(
    count: int, wait: timedelta | None
) -> None:
    assert flow.failure_backoff(count) == wait


# --- blame ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize(
    ("error", "blamed"),
    [
        (ProbeFailed("red"), True),
        (HookFailed("exit 1"), True),
        (SourceUnreachable("gone"), False),
        (DiskFull("full"), False),
        (ReleaseRefused("release.incompatible", "for others", ""), False),
        (Crashed("down"), False),
    ],
)
def test_class_of_the_error_decides_who_is_to_blame_and_not_the_phase(
    phase: Phase, error: AgentError, blamed: bool
) -> None:
    assert flow.is_blamed(in_phase(phase), error, has_succeeded_here=False) is blamed
    assert flow.is_blamed(in_phase(phase), error, has_succeeded_here=True) is blamed


def test_release_that_was_good_here_is_not_blamed_for_a_failing_rollback() -> None:
    rollback = replace(in_phase(P.CONFIRM), kind=Kind.ROLLBACK)

    assert not flow.is_blamed(rollback, ProbeFailed("red"), has_succeeded_here=True)
    assert flow.is_blamed(rollback, ProbeFailed("red"), has_succeeded_here=False)


def test_command_may_take_what_the_configuration_grants_it() -> None:
    assert flow.deadline_s(Phase.ACTIVATE, command_s=5) == flow.DEADLINE_S[Phase.ACTIVATE]
    assert flow.deadline_s(Phase.ACTIVATE, command_s=3600) == 3600 + flow.COMMAND_GRACE_S
