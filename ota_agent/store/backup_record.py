"""`backup.json`: what a backup holds, and of which release."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from ota_agent.errors import BackupUnusable
from ota_agent.model.moment import to_text, to_time
from ota_agent.store import atomic

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from pathlib import Path


class Kept(StrEnum):
    """What a backup holds of a persistent path."""

    COPIED = "copied"
    ABSENT = "absent"  # nothing was there


@dataclass(frozen=True, slots=True)
class Backup:
    """One backup.

    Attributes:
        sequence: grows with every backup; the order does not hang on the device's clock.
        release, previous: where the links pointed, None on a first deployment.
        data: by persistent path.
        skipped: sockets, pipes and devices below these paths, which no copy was made of.

    """

    deployment: str
    sequence: int
    at: datetime
    why: str
    release: str | None
    previous: str | None
    data: Mapping[str, Kept]
    skipped: tuple[str, ...] = ()


def pack(backup: Backup) -> bytes:
    """Write a backup down, see `read`."""
    return json.dumps({**asdict(backup), "at": to_text(backup.at)}, indent=1).encode()


def read(path: Path) -> Backup:
    """Read what `pack` wrote; BackupUnusable where it is missing or damaged."""
    try:
        with atomic.disk_errors(path):
            found = json.loads(path.read_bytes())
        return Backup(
            deployment=str(found["deployment"]),
            sequence=int(found["sequence"]),
            at=to_time(found["at"]),
            why=str(found["why"]),
            release=found["release"],
            previous=found["previous"],
            data={key: Kept(value) for key, value in found["data"].items()},
            skipped=tuple(found["skipped"]),
        )
    except FileNotFoundError as error:
        raise BackupUnusable(f"There is no backup at {path.parent}.") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BackupUnusable(f"The backup at {path.parent} is damaged: {path.name}.") from error
