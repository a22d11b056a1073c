"""One attempt to make one release live on this device, and the phases that it goes through."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime


class Phase(StrEnum):
    """Where a deployment is; written to disk before it begins. The last four are endings."""

    FETCH = "fetch"
    VERIFY = "verify"
    STAGE = "stage"
    HOLD = "hold"
    BACKUP = "backup"
    ACTIVATE = "activate"
    CONFIRM = "confirm"
    COMMIT = "commit"
    DISCARD = "discard"
    RESTORE = "restore"

    SUCCEEDED = "succeeded"
    ABANDONED = "abandoned"
    ROLLED_BACK = "rolled_back"
    STUCK = "stuck"

    @property
    def is_ending(self) -> bool:
        """Whether a deployment stops here."""
        return self in ENDINGS

    @property
    def leaves_live_alone(self) -> bool:
        """Whether the live tree, its services and its data are untouched so far."""
        return self in {Phase.FETCH, Phase.VERIFY, Phase.STAGE, Phase.HOLD}


ENDINGS = frozenset({Phase.SUCCEEDED, Phase.ABANDONED, Phase.ROLLED_BACK, Phase.STUCK})


# Note of a deployment that was begun anew after a lost database: whose backup it goes back by.
BACKUP = "backup"
# Note of a stuck deployment: code, message and hint of what bars the way back.
STUCK = "stuck"


class Kind(StrEnum):
    """Why there is a deployment."""

    FIRST = "first"
    UPDATE = "update"
    ROLLBACK = "rollback"  # by hand, to a kept release
    REDEPLOY = "redeploy"  # the same content as live, or one that was live before


@dataclass(frozen=True, slots=True)
class Failure:
    """What went wrong, as it is kept in the history and reported."""

    code: str
    message: str
    hint: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Deployment:
    """The journal's record: all that a start needs to go on.

    Attributes:
        id: unique over the life of the device: `<number>-<6 hex of the epoch>`.
        tree, release: known once VERIFY has read the content.
        from_release, from_previous: where the links pointed before, None on a first deployment.
        crashes: how often the agent went down inside the present phase.
        clean_stop: the agent was asked to end in this phase; it is no crash.
        error: the first failure; a failing undo never replaces it.
        notes: what steps leave for later steps, JSON values under the step's own keys.

    """

    id: str
    kind: Kind
    commit: str
    ref: str
    phase: Phase
    started_at: datetime
    entered_at: datetime
    version: str | None = None
    tag_object: str | None = None
    tree: str | None = None
    release: str | None = None
    from_release: str | None = None
    from_previous: str | None = None
    crashes: int = 0
    clean_stop: bool = False
    error: Failure | None = None
    bytes_fetched: int = 0
    finished_at: datetime | None = None
    notes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Name the release for people: by its id, before that by its tag or branch."""
        commit = self.commit[:12]
        named = f"{self.ref.split('/', 2)[-1]} (commit {commit})" if self.ref else commit
        return self.release or named

    @property
    def ending(self) -> Phase | None:
        """How it ended, None while it is in flight."""
        return self.phase if self.phase.is_ending else None

    @property
    def backup(self) -> str:
        """Name of the backup that RESTORE needs."""
        return str(self.notes.get(BACKUP, self.id))
