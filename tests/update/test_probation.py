from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from device import Drive, Machine

from ota_agent.errors import ConnectivityLost, ProbeFailed
from ota_agent.update.device import Job
from ota_agent.update.probation import REACHABLE_BEFORE, RED_BEFORE, baseline, prove

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

ADDRESS = "https://git.example.com/fw.git"
RED = "health answered 503"


def url(name: str) -> str:
    return f"http://127.0.0.1/{name}"


def probe(name: str, *, interval_s: float = 2, required: int = 3) -> str:
    return f'[[probe]]\nhttp = "{url(name)}"\ninterval_s = {interval_s}\nrequired = {required}\n'


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    made = Machine(tmp_path / "device", {"connectivity_grace_s": 60.0})
    made.start()
    yield made
    made.power_off()


@pytest.fixture
def job(machine: Machine) -> Callable[..., Job]:
    """Give the job of a release with this manifest that went live a moment ago."""

    def make(manifest: str, **notes: object) -> Job:
        machine.publish({"ota.toml": manifest.encode(), "app.py": b"1"})
        ended = machine.update()
        assert ended.ending == "succeeded", ended.error
        made = Job(replace(ended, notes=notes), machine.device, Drive(machine.clock))
        machine.host.probed.clear()
        return made

    return make


def took_s(job: Job) -> float:
    """Prove the release; give how long it took."""
    clock = job.device.clock
    before = clock.monotonic()
    prove(job)
    return clock.monotonic() - before


# --- probes ---------------------------------------------------------------------------------------


def test_release_without_probes_and_probation_is_good_at_once(job: Callable[..., Job]) -> None:
    assert took_s(job("")) == 0


def test_probation_without_probes_is_waited_for(job: Callable[..., Job]) -> None:
    assert took_s(job("[probation]\nseconds = 90\n")) == 90


def test_release_that_stays_green_takes_its_whole_probation(
    job: Callable[..., Job], machine: Machine
) -> None:
    made = job("[probation]\nseconds = 20\n" + probe("health", interval_s=5))

    assert took_s(made) == 20
    assert machine.host.probed == [url("health")] * 5


def test_probation_of_no_length_still_takes_so_many_greens_in_a_row(
    job: Callable[..., Job], machine: Machine
) -> None:
    made = job("[probation]\nseconds = 0\n" + probe("health"))

    assert took_s(made) == 4
    assert len(machine.host.probed) == 3


def test_each_probe_has_its_own_pace(job: Callable[..., Job], machine: Machine) -> None:
    made = job(
        "[probation]\nseconds = 12\n" + probe("slow", interval_s=6) + probe("fast", interval_s=4)
    )
    took_s(made)

    assert machine.host.probed.count(url("slow")) == 3
    assert machine.host.probed.count(url("fast")) == 4


def test_slow_start_is_no_failure(job: Callable[..., Job], machine: Machine) -> None:
    made = job("[probation]\nseconds = 20\n" + probe("health"))
    machine.host.probe_answers(url("health"), *[RED] * 5, None)

    assert took_s(made) == 20


def test_probe_that_begins_to_be_green_at_the_end_may_finish_its_row(
    job: Callable[..., Job], machine: Machine
) -> None:
    made = job("[probation]\nseconds = 10\n" + probe("health"))
    machine.host.probe_answers(url("health"), *[RED] * 5, None)

    assert took_s(made) == 14


def test_probe_that_never_turns_green_fails_at_the_end_of_probation(
    job: Callable[..., Job], machine: Machine
) -> None:
    made = job("[probation]\nseconds = 10\n" + probe("health"))
    machine.host.probe_answers(url("health"), RED)
    began = machine.clock.monotonic()

    with pytest.raises(ProbeFailed) as failed:
        prove(made)

    assert failed.value.message == (
        f"the probe http {url('health')} is not green at the end of probation: {RED}"
    )
    assert machine.clock.monotonic() - began == 10


def test_probe_that_turns_red_for_good_fails_at_once(
    job: Callable[..., Job], machine: Machine
) -> None:
    made = job("[probation]\nseconds = 3600\n" + probe("health"))
    machine.host.probe_answers(url("health"), None, None, None, RED)
    began = machine.clock.monotonic()

    with pytest.raises(ProbeFailed) as failed:
        prove(made)

    assert "turned red during probation" in failed.value.message
    assert machine.clock.monotonic() - began == 10


def test_single_red_look_fails_nothing(job: Callable[..., Job], machine: Machine) -> None:
    made = job("[probation]\nseconds = 20\n" + probe("health"))
    machine.host.probe_answers(url("health"), None, None, None, RED, RED, None)

    assert took_s(made) == 20


def test_red_looks_before_the_first_green_row_do_not_add_up(
    job: Callable[..., Job], machine: Machine
) -> None:
    made = job("[probation]\nseconds = 20\n" + probe("health"))
    machine.host.probe_answers(url("health"), None, RED, RED, RED, RED, None)

    assert took_s(made) == 20


def test_probe_that_goes_red_at_the_very_end_is_waited_for(
    job: Callable[..., Job], machine: Machine
) -> None:
    made = job("[probation]\nseconds = 6\n" + probe("health"))
    machine.host.probe_answers(url("health"), None, None, None, RED, None)

    with pytest.raises(ProbeFailed):
        prove(made)


def test_one_red_probe_of_several_fails_the_release(
    job: Callable[..., Job], machine: Machine
) -> None:
    made = job("[probation]\nseconds = 10\n" + probe("good") + probe("bad"))
    machine.host.probe_answers(url("bad"), RED)

    with pytest.raises(ProbeFailed, match="bad"):
        prove(made)


@pytest.mark.parametrize("answers", [(RED,), (RED, None, None, None, RED), (None, None, None, RED)])
def test_probe_that_was_red_before_only_warns(
    job: Callable[..., Job], machine: Machine, answers: tuple[str | None, ...]
) -> None:
    made = job(
        "[probation]\nseconds = 20\n" + probe("health"), **{RED_BEFORE: [f"http {url('health')}"]}
    )
    machine.host.probe_answers(url("health"), *answers)

    assert took_s(made) == 20


def test_bug_of_another_probe_is_not_excused_by_one_that_was_red_before(
    job: Callable[..., Job], machine: Machine
) -> None:
    made = job(
        "[probation]\nseconds = 10\n" + probe("old") + probe("new"),
        **{RED_BEFORE: [f"http {url('old')}"]},
    )
    machine.host.probe_answers(url("old"), RED)
    machine.host.probe_answers(url("new"), RED)

    with pytest.raises(ProbeFailed, match="new"):
        prove(made)


def test_long_probation_never_looks_stuck(job: Callable[..., Job]) -> None:
    made = job("[probation]\nseconds = 3600\n" + probe("health", interval_s=60))
    prove(made)

    assert isinstance(made.progress, Drive)
    assert len(made.progress.advances) >= 60


# --- what was so before ---------------------------------------------------------------------------


def test_first_release_has_no_baseline_but_the_connection(
    job: Callable[..., Job], machine: Machine
) -> None:
    made = job(probe("health"))
    made.deployment = replace(made.deployment, from_release=None)

    assert baseline(made) == {RED_BEFORE: [], REACHABLE_BEFORE: [ADDRESS]}
    assert machine.host.probed == []


def test_probe_that_both_releases_have_and_is_red_now_is_noted(
    job: Callable[..., Job], machine: Machine
) -> None:
    first = job(probe("kept") + probe("green") + probe("dropped"))
    second = job(probe("kept") + probe("green") + probe("added"))
    assert second.deployment.from_release == first.deployment.release
    for name in ("kept", "dropped", "added"):
        machine.host.probe_answers(url(name), RED)

    assert baseline(second) == {
        RED_BEFORE: [f"http {url('kept')}"],
        REACHABLE_BEFORE: [ADDRESS],
    }


def test_probe_that_was_changed_is_another_one(job: Callable[..., Job], machine: Machine) -> None:
    job(probe("health", required=2))
    second = job(probe("health", required=3))
    machine.host.probe_answers(url("health"), RED)

    assert baseline(second)[RED_BEFORE] == []


def test_source_that_is_out_of_reach_before_is_not_asked_for_after(
    job: Callable[..., Job], machine: Machine
) -> None:
    made = job("")
    machine.host.address_answers(ADDRESS, False)

    assert baseline(made) == {RED_BEFORE: [], REACHABLE_BEFORE: []}


def test_source_without_network_needs_no_connection(
    job: Callable[..., Job], machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = job("")
    monkeypatch.setattr(type(machine.source), "address", None)

    assert baseline(made)[REACHABLE_BEFORE] == []


# --- the connection -------------------------------------------------------------------------------


def test_host_that_still_answers_is_enough(job: Callable[..., Job], machine: Machine) -> None:
    made = job("", **{REACHABLE_BEFORE: ["https://a.example.com", "https://b.example.com"]})
    machine.host.address_answers("https://a.example.com", False)

    assert took_s(made) == 0


def test_network_that_comes_back_within_the_grace_time_is_waited_for(
    job: Callable[..., Job], machine: Machine
) -> None:
    made = job("", **{REACHABLE_BEFORE: [ADDRESS]})
    machine.host.address_answers(ADDRESS, False, False, False, True)

    assert took_s(made) == 30


def test_release_that_cuts_the_device_off_is_put_back_after_the_grace_time(
    job: Callable[..., Job], machine: Machine
) -> None:
    made = job("", **{REACHABLE_BEFORE: [ADDRESS]})
    machine.host.address_answers(ADDRESS, False)
    began = machine.clock.monotonic()

    with pytest.raises(ConnectivityLost) as lost:
        prove(made)

    assert machine.clock.monotonic() - began == 60
    assert lost.value.message == (
        f"{ADDRESS} was reachable before the release went live and has been out of reach"
        " for 60 s since"
    )


def test_network_that_is_gone_for_a_moment_at_the_end_of_a_long_probation_is_forgiven(
    job: Callable[..., Job], machine: Machine
) -> None:
    made = job("[probation]\nseconds = 3600\n", **{REACHABLE_BEFORE: [ADDRESS]})
    machine.host.address_answers(ADDRESS, False, True)

    assert took_s(made) == 3610
