"""The hooks of a release, and what their endings mean."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from ota_agent import log
from ota_agent.errors import AgentError, HookFailed, NotYet

if TYPE_CHECKING:
    from ota_agent.model.deployment import Deployment
    from ota_agent.update.device import Job

_log = log.get_logger(__name__)

EXIT_NOT_YET = 75  # sysexits.h: EX_TEMPFAIL
EXIT_LATE = 124  # of a command that had to be ended, see `ports.CommandResult`
HOOK_RETRY = timedelta(minutes=1)
AT_WORK = "pre_activate_at_work"  # note of HOLD


def ask(job: Job) -> None:
    """Ask pre_activate whether the release may go live; NotYet when it says so.

    Until it has ended once, the device going down may be its doing: `is_suspected` tells.
    """
    is_first = AT_WORK not in job.deployment.notes and job.manifest(job.target).hooks.pre_activate
    if is_first:
        job.note(**{AT_WORK: True})
    try:
        run(job, "pre_activate", job.target, may_wait=True)
    except NotYet:
        if job.deployment.notes[AT_WORK]:
            job.note(**{AT_WORK: False})
        raise


def is_suspected(deployment: Deployment) -> bool:
    """Tell whether pre_activate was at work, and had never ended before."""
    return bool(deployment.notes.get(AT_WORK))


def run(job: Job, name: str, release: str, *, may_wait: bool = False) -> None:
    """Run a hook of a release, where it has that one.

    Raises:
        NotYet: it ended with EXIT_NOT_YET, and `may_wait`.
        HookFailed: it ended with another exit code than 0, or not in time.

    """
    argv = getattr(job.manifest(release).hooks, name)
    if not argv:
        return
    device, limit_s = job.device, job.device.config.commands.timeout_s
    began = device.clock.monotonic()
    result = device.host.run_command(
        argv,
        device.disk.paths.release_dir(release),
        limit_s,
        job.environment(release) | {"OTA_HOOK": name},
        job.progress,
    )
    if result.exit_code == 0:
        return
    last = result.output.strip().splitlines()[-1:] or ["no output"]
    if may_wait and result.exit_code == EXIT_NOT_YET:
        raise NotYet(f"{name} says: not yet: {last[0]}", device.clock.now() + HOOK_RETRY, release)
    how = f"ended with exit code {result.exit_code}: {last[0]}"
    if result.exit_code == EXIT_LATE and device.clock.monotonic() - began >= limit_s:
        how = f"did not end within {limit_s:g} s (commands.timeout_s)"
    _log.warning("hook failed", hook=name, release=release, how=how, output=result.output)
    raise HookFailed(f"the hook {name} of {release} {how}")


def undo(job: Job) -> None:
    """Tell the release that it is left; the way back must not depend on what it says."""
    try:
        run(job, "post_restore", job.target)
    except AgentError as error:
        _log.warning("post_restore failed, restoring all the same", error=error.message)
