"""The five roots of what may go wrong, and the two signals that are no failures."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from typing_extensions import override

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

    @override
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


class NotYet(Exception):
    """A step has to wait: for what, until when (None: until something changes), held by whom."""

    def __init__(
        self, reason: str, until: datetime | None = None, owner: str | None = None
    ) -> None:
        """`reason` is a sentence that status shows."""
        super().__init__(reason)
        self.reason = reason
        self.until = until
        self.owner = owner


class SourceNotAsked(NotYet):
    """What waited may have been withdrawn meanwhile: the source is asked first."""

    def __init__(self) -> None:
        """Wait for the answer of the next poll."""
        super().__init__("the source is asked whether the staged release is still wanted")


class Stopped(Exception):
    """The agent was asked to end; the phase is run again by the next start."""
