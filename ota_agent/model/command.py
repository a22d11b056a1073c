"""What the command line asks of the agent's loop, and what it gets back."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


class Exit(IntEnum):
    """Exit codes of every command."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    NOTHING = 3  # nothing to do: nothing new, or the only candidate is refused or waiting
    REFUSED = 4  # a command that names a release which may not be had
    NO_AGENT = 5  # the agent that was asked ended, or does not answer
    CONFIG = 78


class Ask(StrEnum):
    """The commands that only the loop may carry out."""

    CHECK = "check"  # poll now; args: none
    UPDATE = "update"  # poll now and deploy; args: accept_deletions
    ROLLBACK = "rollback"  # args: release (or None: the previous one), allow_again, with_data
    RETRY = "retry"  # args: release (id, version, tag or commit prefix)


@dataclass(frozen=True, slots=True)
class Command:
    """One command in the mailbox.

    Attributes:
        args: JSON values, see `Ask`.
        asked_by: who asked, for the history: `user@tty` or the like.

    """

    ask: Ask
    args: Mapping[str, Any] = field(default_factory=dict)
    asked_by: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a command went.

    Attributes:
        text: one or a few sentences for people; goes to stderr where `exit` is not DONE or NOTHING.
        data: what `--json` prints; JSON values, stable keys.

    """

    exit: Exit
    text: str
    data: Mapping[str, Any] = field(default_factory=dict)
