"""What the agent tells the operator's side, and what it is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened; its key is (device, epoch, sequence)."""

    sequence: int
    kind: str
    at: datetime
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Report:
    """One sync: the heartbeat (made when sent, the object of `status --json`) and events."""

    device_id: str
    epoch: str
    heartbeat: Mapping[str, Any]
    events: Sequence[Event]


@dataclass(frozen=True, slots=True)
class Directives:
    """The answer to a report.

    Attributes:
        accepted_through: highest event sequence that is stored for good; 0 for none.
        next_sync_s: when to come back; None leaves it to the configuration.

    """

    accepted_through: int
    next_sync_s: float | None = None
