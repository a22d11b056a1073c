"""Failures that the device's operator has to act on."""

from __future__ import annotations

from ota_agent.errors.base import DeviceError


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


class DatabaseDamaged(DiskFault):
    """The database of the agent cannot be read; only a start of the agent sets it aside."""

    code = "device.database_damaged"
    hint = "Restart the agent: it sets the database aside and goes on, only history is lost."


class DatabaseBusy(DiskFault):
    """Another process holds the database of the agent."""

    code = "device.database_busy"
    hint = "End the program that holds private/state.db; the agent tries again."


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
