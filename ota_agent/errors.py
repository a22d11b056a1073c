"""Every expected failure of the agent, sorted by who has to act.

    AgentError                code, hint
      TransientError          nobody: try again later, never quarantine
      ReleaseRejected         the publisher: quarantine this release
      DeviceError             the device's operator: report, keep running, do not deploy
      ConfigError             whoever wrote the configuration: exit 78

A code is stable and documented in docs/errors.md; a message may change. `NotYet` and `Stopped` are
no failures: the first says that a step has to wait, the second that the agent was asked to end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from datetime import datetime


class AgentError(Exception):
    """An expected failure.

    Attributes:
        code: stable, dotted, the same in logs, reports and `--json`.
        hint: one sentence that says what to do about it.

    """

    code: ClassVar[str] = "agent.error"
    hint: str = "Look at the log of the agent for what happened before."

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        """Make a failure that reads `message`; `hint` replaces the class's own sentence."""
        super().__init__(message)
        self.message = message
        if hint is not None:
            self.hint = hint

    def __str__(self) -> str:
        return self.message


class TransientError(AgentError):
    """Nobody has to act: it may pass by itself, and the release is not to blame."""

    code = "agent.transient"


class ReleaseRejected(AgentError):
    """The publisher has to act: this content is not tried again on this device by itself."""

    code = "release.rejected"


class DeviceError(AgentError):
    """The device's operator has to act: it is reported, the agent keeps running."""

    code = "device.error"


class ConfigError(AgentError):
    """Whoever wrote the configuration has to act: exit 78, no restart."""

    code = "config.invalid"
    hint = "Correct the configuration; `ota-agent config check` tries it."


class DatabaseNewer(ConfigError):
    """The state belongs to a newer agent: it is not corrupt, and must not be set aside."""

    code = "config.database_newer"
    hint = "Install the newer agent again, or give this one a work_dir of its own."


# --- transient ----------------------------------------------------------------------------------


class SourceUnreachable(TransientError):
    """The source of releases gave no usable answer."""

    code = "source.unreachable"
    hint = "Check the device's network and the address in source.url; the agent tries again."


class SourceBusy(TransientError):
    """The source asked to come back later (429, 503, overload)."""

    code = "source.busy"
    hint = "Nothing to do: the agent comes back later."

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        """`retry_after_s`: what the source asked for, where it did."""
        super().__init__(message)
        self.retry_after_s = retry_after_s


class SourceChanged(TransientError):
    """What was offered is no longer there (moved tag, deleted branch) or is not what it was."""

    code = "source.changed"
    hint = "Nothing to do: the next check looks at what is offered now."


class StoreDamaged(TransientError):
    """The object store lacks or garbles what it should hold; it is set aside and fetched again."""

    code = "device.store_damaged"
    hint = "The agent fetches it again; if it comes back, check the device's storage."


class DeadlineExceeded(TransientError):
    """A phase made no progress for longer than it may."""

    code = "agent.deadline"
    hint = "The agent tries again later; if it comes back, look at what the phase waits for."


class ConnectivityLost(TransientError):
    """Every host that was reachable before activation is out of reach with the new release."""

    code = "device.connectivity_lost"
    hint = "Check that the release leaves the network as it found it."


class Superseded(TransientError):
    """A newer candidate, a quarantine or the operator made this deployment pointless."""

    code = "release.superseded"
    hint = "Nothing to do: the newer one follows."


class Crashed(TransientError):
    """The agent or the device went down inside this phase."""

    code = "agent.crashed"
    hint = "Look at the journal of the device for why it went down."


# --- the release --------------------------------------------------------------------------------


class ManifestInvalid(ReleaseRejected):
    """`ota.toml` cannot be read, has an unknown key or a wrong value."""

    code = "release.manifest_invalid"
    hint = "Correct ota.toml and publish a new release."


class HookNotExecutable(ReleaseRejected):
    """A hook or a probe's command is not an executable file of the release."""

    code = "release.hook_not_executable"
    hint = "Set the executable bit (git update-index --chmod=+x FILE) and publish a new release."


class TreeHostile(ReleaseRejected):
    """The tree holds what a release may not hold: escapes, submodules, collisions, limits."""

    code = "release.tree_hostile"
    hint = "Remove what is named from the repository and publish a new release."


class ReleaseEmpty(ReleaseRejected):
    """The release holds no file."""

    code = "release.empty"
    hint = "Publish a release that holds files."


class SyntaxRejected(ReleaseRejected):
    """A file that the manifest declares does not parse."""

    code = "release.syntax_invalid"
    hint = "Correct the file and publish a new release."


class VersionMismatch(ReleaseRejected):
    """Tag, tag object and manifest do not agree on the version."""

    code = "release.version_mismatch"
    hint = "Make the tag and the manifest's version agree and publish a new release."


class HookFailed(ReleaseRejected):
    """A hook of the release failed or ran over its time limit."""

    code = "release.hook_failed"
    hint = "Look at the hook's output in the journal and publish a new release."


class ProbeFailed(ReleaseRejected):
    """The release did not prove healthy during its probation."""

    code = "release.probe_failed"
    hint = "Correct what the probe saw and publish a new release."


class TakesDeviceDown(ReleaseRejected):
    """The device went down three times with this release."""

    code = "release.takes_device_down"
    hint = "Find out why the device went down; `ota-agent retry RELEASE` tries it again."


class Quarantined(ReleaseRejected):
    """The same content was rejected before, under this or another name."""

    code = "release.quarantined"
    hint = "Publish a corrected release, or lift it with `ota-agent retry RELEASE`."


class RolledBackByOperator(ReleaseRejected):
    """The operator went back from this release by hand."""

    code = "operator.rolled_back"
    hint = "`ota-agent retry RELEASE` lets the device take it again."


# --- the device ---------------------------------------------------------------------------------


class ReleaseRefused(DeviceError):
    """The release may be good, and this device does not take it; `code` is the checker's reason."""

    code = "release.refused"

    def __init__(self, code: str, message: str, hint: str) -> None:
        """`code` is one of `model.verdict.Reason`."""
        super().__init__(message, hint=hint)
        self.code = code  # type: ignore[misc]  # the reason is the code, one class serves all


class TokenRefused(DeviceError):
    """The source refused the device's credentials; retrying would get the whole site banned."""

    code = "source.token_refused"
    hint = "Give the device a valid token (GITLAB_TOKEN_FILE) and restart the agent."


class SourceNotFound(DeviceError):
    """There is no such repository, or this token may not see it."""

    code = "source.not_found"
    hint = "Check source.url and the rights of the token."


class SourceRedirected(DeviceError):
    """The source answered with a redirect, which is never followed with a token."""

    code = "source.redirected"
    hint = "Put the project's present address into source.url."


class SourceUntrusted(DeviceError):
    """The source's certificate or host key is not trusted."""

    code = "source.untrusted"
    hint = "Check the device's clock, its CA certificates or its known_hosts file."


class DiskFull(DeviceError):
    """There are not enough bytes or inodes for the release and the reserve."""

    code = "device.disk_full"
    hint = "Free space on the file system of work_dir; the agent tries again when it grew."


class DiskFault(DeviceError):
    """The disk refused to read or write (I/O error, read-only)."""

    code = "device.disk_fault"
    hint = "Check the device's storage and its mount options."


class WorkDirUnusable(DeviceError):
    """`work_dir` cannot serve: not a directory, read-only, or its file system lacks something."""

    code = "device.work_dir_unusable"
    hint = "Give work_dir a directory of its own on a local Linux file system."


class WorkDirForeign(DeviceError):
    """`work_dir` belongs to another device."""

    code = "device.work_dir_foreign"
    hint = "Give each device a work_dir of its own."


class Locked(DeviceError):
    """Another agent works on this `work_dir`."""

    code = "device.locked"
    hint = "Stop the other agent, or use another work_dir."


class GitUnusable(DeviceError):
    """There is no git, or it is older than 2.39."""

    code = "device.git_unusable"
    hint = "Install git 2.39 or newer."


class CommandsUnusable(DeviceError):
    """This device cannot run a publisher's command, whatever the command is."""

    code = "device.commands_unusable"
    hint = "Let commands.user read work_dir and all that is above it, and mount it without noexec."


class ReleaseMissing(DeviceError):
    """The release named is not kept on this device."""

    code = "device.release_missing"
    hint = "`ota-agent history` lists the releases; only kept ones can be rolled back to."


class BackupUnusable(DeviceError):
    """What RESTORE needs is missing or damaged."""

    code = "device.backup_unusable"
    hint = "The device stays on the last whole release; look at its storage."


# --- no failures --------------------------------------------------------------------------------


class NotYet(Exception):  # noqa: N818 - it is no error: the deployment stays in its phase
    """A step has to wait: for what, until when (None: until something changes), held by whom."""

    def __init__(
        self, reason: str, until: datetime | None = None, owner: str | None = None
    ) -> None:
        """`reason` is a sentence that status shows."""
        super().__init__(reason)
        self.reason = reason
        self.until = until
        self.owner = owner


class Stopped(Exception):  # noqa: N818 - it is no error: the agent was asked to end
    """The agent was asked to end; the phase is run again by the next start."""
