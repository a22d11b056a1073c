"""Failures that may pass by themselves: nobody has to act, nothing is quarantined."""

from __future__ import annotations

from ota_agent.errors.base import TransientError


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
