"""CONFIRM: the live release proves that it works, or is put back.

A probe is green when it was green `required` times in a row; it has failed for good when it turns
red as often in a row after that, or when it is not green at the end of the probation. A probe that
the release before declared too and that was red before activation only warns: the update did not
break it, and may be the cure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ota_agent import log
from ota_agent.errors import ConnectivityLost, ProbeFailed

if TYPE_CHECKING:
    from ota_agent.model.manifest import ProbeSpec
    from ota_agent.update.device import Job

_log = log.get_logger(__name__)

CONNECTIVITY_INTERVAL_S = 10.0
LONGEST_PAUSE_S = 30.0
RED_BEFORE = "red_before"
REACHABLE_BEFORE = "reachable_before"


class _Watch:
    """One probe's greens and reds in a row."""

    def __init__(self, spec: ProbeSpec, *, only_warns: bool) -> None:
        self.spec = spec
        self.only_warns = only_warns
        self.due_s = 0.0
        self.greens = 0
        self.reds = 0
        self.was_green = False
        self.last_red = "it was not looked at"

    @property
    def is_green(self) -> bool:
        return self.greens >= self.spec.required

    @property
    def has_failed(self) -> bool:
        return self.was_green and self.reds >= self.spec.required

    def look(self, job: Job) -> None:
        device = job.device
        red = device.host.probe(self.spec, job.tree_dir, job.environment(job.target), job.progress)
        self.greens, self.reds = (self.greens + 1, 0) if red is None else (0, self.reds + 1)
        self.last_red = red or self.last_red
        self.was_green = self.was_green or self.is_green


def baseline(job: Job) -> dict[str, list[str]]:
    """Look at the probes and the connection before activation; the notes that CONFIRM reads."""
    device, live = job.device, job.deployment.from_release
    red: list[str] = []
    if live is not None:
        kept = set(job.manifest(job.target).probes)
        tree = device.disk.paths.release_dir(live)
        red = [
            str(spec)
            for spec in job.known_manifest(live).probes
            if spec in kept
            and device.host.probe(spec, tree, job.environment(live), job.progress) is not None
        ]
    address = device.source.address
    reachable = [address] if address and device.host.is_reachable(address, job.progress) else []
    return {RED_BEFORE: red, REACHABLE_BEFORE: reachable}


def prove(job: Job) -> None:
    """Watch the live release until its probation is over; an interrupted one begins anew.

    Raises:
        ProbeFailed: a probe did not stay green; it is the release's fault.
        ConnectivityLost: what was reachable before is not any more; it may be anybody's.

    """
    manifest = job.manifest(job.target)
    red_before = set(job.deployment.notes.get(RED_BEFORE, ()))
    watches = [_Watch(spec, only_warns=str(spec) in red_before) for spec in manifest.probes]
    started = job.device.clock.monotonic()
    while not _is_over(job, watches, manifest.probation_s, started):
        job.progress.advance()
        elapsed_s = job.device.clock.monotonic() - started
        job.progress.wait(_pause_s(watches, elapsed_s, manifest.probation_s))
    for watch in watches:
        if not watch.is_green:
            _log.warning("probe was red before the update and still is", probe=str(watch.spec))
    _require_connection(job)


def _is_over(job: Job, watches: list[_Watch], probation_s: float, started: float) -> bool:
    """Look at what is due; tell whether the release has proved itself, ProbeFailed if it cannot."""
    elapsed_s = job.device.clock.monotonic() - started
    for watch in watches:
        if elapsed_s >= watch.due_s:
            watch.look(job)
            watch.due_s = elapsed_s + watch.spec.interval_s
        if watch.has_failed and not watch.only_warns:
            _fail(watch, "turned red during probation")
    waited_for = [watch for watch in watches if not watch.is_green and not watch.only_warns]
    # Without the second bound a probation of 0 seconds could never see `required` greens in a row.
    rows_s = [watch.spec.interval_s * watch.spec.required for watch in watches]
    if elapsed_s >= max([probation_s, *rows_s]):
        for watch in waited_for:
            # One that has begun to be green may finish its row: slow starters are no failures.
            if watch.greens == 0:
                _fail(watch, "is not green at the end of probation")
    return elapsed_s >= probation_s and not waited_for


def _fail(watch: _Watch, how: str) -> None:
    message = f"the probe {watch.spec} {how}: {watch.last_red}"
    raise ProbeFailed(message)


def _pause_s(watches: list[_Watch], elapsed_s: float, probation_s: float) -> float:
    moments = [watch.due_s for watch in watches]
    if probation_s > elapsed_s:
        moments.append(probation_s)
    # In short steps, each a sign of life: a long probation must not look like a phase that hangs.
    return min(LONGEST_PAUSE_S, max(0.0, min(moments, default=elapsed_s) - elapsed_s))


def _require_connection(job: Job) -> None:
    """Wait for any host that was reachable before; the network may need longer than the probes.

    Nobody has looked during the probation: a network that is gone for a moment at its end gets the
    whole grace time too.
    """
    hosts = job.deployment.notes.get(REACHABLE_BEFORE, ())
    if not hosts:
        return
    clock, grace_s = job.device.clock, job.device.config.connectivity_grace_s
    started = clock.monotonic()
    while not any(job.device.host.is_reachable(host, job.progress) for host in hosts):
        if clock.monotonic() - started >= grace_s:
            message = (
                f"{', '.join(hosts)} was reachable before the release went live and has been"
                f" out of reach for {grace_s:g} s since"
            )
            raise ConnectivityLost(message)
        job.progress.advance()
        job.progress.wait(CONNECTIVITY_INTERVAL_S)
