"""What the checker says of what is offered."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from datetime import datetime

    from ota_agent.model.deployment import Kind
    from ota_agent.model.release import Offer


class Reason(StrEnum):
    """Why there is no candidate; stable codes, the same in logs, reports and `--json`."""

    UP_TO_DATE = "release.up_to_date"
    CHANNEL_EMPTY = "channel.empty"
    QUARANTINED = "release.quarantined"
    DOWNGRADE = "release.downgrade"
    REWRITTEN = "release.rewritten"
    ANCESTRY_UNKNOWN = "release.ancestry_unknown"
    INCOMPATIBLE = "release.incompatible"
    AGENT_TOO_OLD = "release.agent_too_old"
    COMMANDS_NOT_ALLOWED = "release.commands_not_allowed"
    TOO_MANY_DELETIONS = "release.too_many_deletions"
    BACKING_OFF = "release.backing_off"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A release that the device would deploy."""

    offer: Offer
    kind: Kind


@dataclass(frozen=True, slots=True)
class NoCandidate:
    """There is nothing to deploy.

    Attributes:
        message: one sentence that names what is declined, and why.
        hint: one sentence that says what to do about it.
        offer: what is declined; None where nothing is offered.
        until: when the answer may change by itself; None where it takes somebody.

    """

    reason: Reason
    message: str
    hint: str
    offer: Offer | None = None
    until: datetime | None = None


Verdict: TypeAlias = Candidate | NoCandidate


@dataclass(frozen=True, slots=True)
class Facts:
    """What is remembered of a commit once its content was read.

    Attributes:
        tree: git's hash of the content.
        version, min_agent, compatible, has_commands: as its manifest has them.
        deleted_files: how many files it takes away, where these are too many
            (`model.tree.deletes_too_much`), else None.
        deleted_from: tree that `deleted_files` was counted against; None counts against any.

    """

    tree: str
    version: str | None = None
    min_agent: str | None = None
    compatible: tuple[str, ...] = ()
    has_commands: bool = False
    deleted_files: int | None = None
    deleted_from: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Give it as JSON values."""
        return {
            "tree": self.tree,
            "version": self.version,
            "min_agent": self.min_agent,
            "compatible": list(self.compatible),
            "has_commands": self.has_commands,
            "deleted_files": self.deleted_files,
            "deleted_from": self.deleted_from,
        }

    @classmethod
    def from_json(cls, value: object) -> Facts | None:
        """Read what `to_json` gave; None for anything else: the content is to be read again."""
        match value:
            case {
                "tree": str(tree),
                "version": str() | None as version,
                "min_agent": str() | None as min_agent,
                "compatible": [*compatible],
                "has_commands": bool(has_commands),
                "deleted_files": int() | None as deleted_files,
                "deleted_from": str() | None as deleted_from,
            } if all(isinstance(glob, str) for glob in compatible):
                return cls(
                    tree=tree,
                    version=version,
                    min_agent=min_agent,
                    compatible=tuple(map(str, compatible)),
                    has_commands=has_commands,
                    deleted_files=deleted_files,
                    deleted_from=deleted_from,
                )
            case _:
                return None
