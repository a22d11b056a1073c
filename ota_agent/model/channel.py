"""What a device follows: a branch, a range of tags, or one commit.

branch:main             the tip of a branch; branch:HEAD is the remote's default branch
tag:*                   every tag that is a version, pre-releases aside
tag:>=1.4,<2            versions that every bound allows
commit:<40 or 64 hex>   one commit
"""

from __future__ import annotations

import operator
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from typing_extensions import override

from ota_agent.model.version import parse_version

if TYPE_CHECKING:
    from collections.abc import Callable

    from semver import Version

ALLOWED = "allowed are branch:NAME, tag:* or tag:RANGE such as tag:>=1.4,<2, and commit:SHA"
DEFAULT_BRANCH = "HEAD"
MAX_LENGTH = 512

# The order is that of the canonical text: lower bounds first.
_OPERATORS: dict[str, Callable[[int, int], bool]] = {
    ">=": operator.ge,
    ">": operator.gt,
    "=": operator.eq,
    "!=": operator.ne,
    "<=": operator.le,
    "<": operator.lt,
}
_RANK = {name: rank for rank, name in enumerate(_OPERATORS)}
_BOUND = re.compile(r"(>=|<=|!=|>|<|=|)[ \t]*([0-9A-Za-z.-]+)")
_NUMBERS = re.compile(r"(?:0|[1-9][0-9]{0,9})(?:\.(?:0|[1-9][0-9]{0,9})){0,2}")
_SHA = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
# What git-check-ref-format(1) forbids anywhere in a name.
_NOT_IN_BRANCH = re.compile(r"[\x00-\x20\x7f~^:?*\[\\\ud800-\udfff]|\.\.|@\{|//")


@dataclass(frozen=True, slots=True)
class Bound:
    """One condition on a version.

    Attributes:
        operator: one of `>=`, `>`, `=`, `!=`, `<=`, `<`.
        numbers: the one to three numbers that are named. Only these are compared: `=1.4` and
            `<=1.4` allow 1.4.7, `>1.4` begins at 1.5.0, `<2` ends before 2.0.0-alpha.
        whole: the version where all three numbers are named, None otherwise.

    """

    operator: str
    numbers: tuple[int, ...]
    whole: Version | None = None

    def allows(self, version: Version) -> bool:
        """Tell whether the version meets this condition, pre-releases in SemVer's order."""
        if self.whole is not None:
            order = version.compare(self.whole)
        else:
            named = (version.major, version.minor, version.patch)[: len(self.numbers)]
            order = (named > self.numbers) - (named < self.numbers)
        return _OPERATORS[self.operator](order, 0)

    def names_pre_release_of(self, version: Version) -> bool:
        """Tell whether it asks for pre-releases of the same major.minor.patch.

        `!=` takes one away, it asks for none.
        """
        return (
            self.operator != "!="
            and self.whole is not None
            and self.whole.prerelease is not None
            and self.whole.finalize_version() == version.finalize_version()
        )

    @override
    def __str__(self) -> str:
        return f"{self.operator}{self.whole or '.'.join(map(str, self.numbers))}"


@dataclass(frozen=True, slots=True)
class Range:
    """Versions that meet every bound; without a bound, all but pre-releases."""

    bounds: tuple[Bound, ...] = ()

    def allows(self, version: Version) -> bool:
        """Tell whether the version is in the range.

        A pre-release is in it only when a bound names a pre-release of the same
        major.minor.patch (npm's rule): `>=1.4.0-rc.1` allows 1.4.0-rc.2 and 1.5.0, not 1.5.0-rc.1.
        """
        if version.prerelease and not any(b.names_pre_release_of(version) for b in self.bounds):
            return False
        return all(bound.allows(version) for bound in self.bounds)

    @override
    def __str__(self) -> str:
        return ",".join(map(str, self.bounds)) or "*"


@dataclass(frozen=True, slots=True)
class Branch:
    """The tip of a branch; `name` None is the remote's default branch."""

    name: str | None = None

    @override
    def __str__(self) -> str:
        return f"branch:{self.name or DEFAULT_BRANCH}"


@dataclass(frozen=True, slots=True)
class Tags:
    """The tags that are versions in a range."""

    range: Range

    @override
    def __str__(self) -> str:
        return f"tag:{self.range}"


@dataclass(frozen=True, slots=True)
class Commit:
    """One commit: 40 or 64 hex digits, lower case."""

    sha: str

    @override
    def __str__(self) -> str:
        return f"commit:{self.sha}"


Channel: TypeAlias = Branch | Tags | Commit


def parse_channel(text: str | None) -> Channel:
    """Read a channel; None is the remote's default branch. `str()` of it gives canonical text.

    Raises:
        ValueError: one sentence that says what is wrong and what is allowed.

    """
    if text is None:
        return Branch()
    if len(text) > MAX_LENGTH:
        raise ValueError(f"channel is longer than {MAX_LENGTH} characters; {ALLOWED}")
    form, colon, rest = text.partition(":")
    match form if colon else None:
        case "branch":
            return _parse_branch(text, rest)
        case "tag":
            return Tags(_parse_range(text, rest))
        case "commit":
            sha = rest.lower()
            if _SHA.fullmatch(sha) is None:
                raise ValueError(f"channel {text!r} needs all 40 (or 64) hex digits of a commit")
            return Commit(sha)
        case "release":
            raise ValueError(f"channel {text!r}: GitLab Releases are not available yet; {ALLOWED}")
        case _:
            raise ValueError(f"channel {text!r} has no known form; {ALLOWED}")


def _parse_branch(text: str, name: str) -> Branch:
    if name == DEFAULT_BRANCH:
        return Branch()
    if name.startswith("refs/"):
        raise ValueError(f"channel {text!r} needs the branch's short name, such as branch:main")
    is_ref = (
        name not in {"", "@"}
        and _NOT_IN_BRANCH.search(name) is None
        and not name.startswith("-")  # would be read as an option
        and not name.endswith((".", "/"))
        and not any(part.startswith(".") or part.endswith(".lock") for part in name.split("/"))
        and not name.startswith("/")
    )
    if not is_ref:
        raise ValueError(f"channel {text!r} names no branch that git allows, such as branch:main")
    return Branch(name)


def _parse_range(text: str, spec: str) -> Range:
    if spec.strip() == "*":
        return Range()
    bounds = {_parse_bound(text, part.strip()) for part in spec.split(",")}
    # Sorted, so that one range has one text: high-water marks are kept under it.
    order = sorted(bounds, key=lambda b: (_RANK[b.operator], b.numbers, str(b)))
    return Range(tuple(order))


def _parse_bound(text: str, part: str) -> Bound:
    bound = _BOUND.fullmatch(part)
    if bound is not None:
        comparison, named = bound[1] or "=", bound[2]
        whole = parse_version(named)
        if whole is not None:
            return Bound(comparison, (whole.major, whole.minor, whole.patch), whole)
        if _NUMBERS.fullmatch(named.removeprefix("v")) is not None:
            return Bound(comparison, tuple(map(int, named.removeprefix("v").split("."))))
    raise ValueError(
        f"channel {text!r}: {part!r} is no bound of a range; allowed are * alone, or a version"
        " (1.4.0, 1.4 or 1) after >=, >, <=, <, =, != or nothing, with commas between bounds"
    )
