"""What a device must not forget, even when its database is lost."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from semver import Version

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class Entry:
    """Content in quarantine; its git tree hash is the key.

    Attributes:
        release: id under which it was refused last.
        code, message: why.
        commits: every commit that was seen with this content.
        attempts: activations that ended in a crash.

    """

    release: str
    code: str
    message: str
    commits: tuple[str, ...]
    at: datetime
    attempts: int


@dataclass(frozen=True, slots=True)
class Mark:
    """High-water mark of a channel: the newest commit that this device declared good there."""

    commit: str
    version: str | None


@dataclass(frozen=True, slots=True)
class Unproven:
    """The live release while its probation is not over."""

    release: str
    tree: str
    deployment: str
    commit: str


@dataclass(frozen=True, slots=True)
class Trust:
    """All of it.

    Attributes:
        epoch: of the database that wrote it; empty when nothing was ever written.
        quarantine: by git tree hash.
        marks: by project and channel.
        project_pin: the project's stable identity at first contact.

    """

    epoch: str = ""
    quarantine: Mapping[str, Entry] = field(default_factory=dict)
    marks: Mapping[tuple[str, str], Mark] = field(default_factory=dict)
    project_pin: str | None = None
    unproven: Unproven | None = None


def stricter(a: Trust, b: Trust) -> Trust:
    """Combine two memories so that neither a refusal nor a mark is lost.

    Where they contradict each other without one being stricter (a branch's mark, the pin, the
    epoch), `a` holds: give the newer one first.
    """
    return Trust(
        epoch=a.epoch or b.epoch,
        quarantine=_union(a.quarantine, b.quarantine, _both_refusals),
        marks=_union(a.marks, b.marks, _higher_mark),
        project_pin=a.project_pin or b.project_pin,
        unproven=a.unproven or b.unproven,
    )


def _union(
    a: Mapping[_Key, _Value], b: Mapping[_Key, _Value], both: Callable[[_Value, _Value], _Value]
) -> dict[_Key, _Value]:
    return {
        **a,
        **{key: both(a[key], value) if key in a else value for key, value in b.items()},
    }


def _both_refusals(a: Entry, b: Entry) -> Entry:
    return Entry(
        release=a.release,
        code=a.code,
        message=a.message,
        commits=tuple(sorted({*a.commits, *b.commits})),
        at=a.at,
        attempts=max(a.attempts, b.attempts),
    )


def _higher_mark(a: Mark, b: Mark) -> Mark:
    ours, theirs = _parsed(a), _parsed(b)
    if ours is not None and theirs is not None and theirs > ours:
        return b
    return a


def _parsed(mark: Mark) -> Version | None:
    if mark.version is None or not Version.is_valid(mark.version):
        return None
    return Version.parse(mark.version)
