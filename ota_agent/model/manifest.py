"""`ota.toml`: what a release says of itself. docs/manifest.md is its reference."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from ota_agent.errors import ManifestInvalid
from ota_agent.model.version import parse_partial

if TYPE_CHECKING:
    from collections.abc import Iterator

    from semver import Version

FILE_NAME = "ota.toml"
MAX_BYTES = 256 * 1024
PROBATION_WITH_PROBES_S = 60.0


class ProbeKind(StrEnum):
    """What a probe looks at."""

    HTTP = "http"
    TCP = "tcp"
    COMMAND = "command"
    FILE = "file"


@dataclass(frozen=True, slots=True)
class ProbeSpec:
    """One health check.

    Attributes:
        target: a URL (HTTP), `host:port` (TCP), a path, absolute or in the release (FILE); empty
            for COMMAND.
        argv: the command of COMMAND, else empty.
        timeout_s: how long one look may take.
        interval_s: from one look's end to the next.
        required: green looks in a row.

    """

    kind: ProbeKind
    target: str = ""
    argv: tuple[str, ...] = ()
    timeout_s: float = 5.0
    interval_s: float = 2.0
    required: int = 3

    @override
    def __str__(self) -> str:
        return f"{self.kind} {self.target or ' '.join(self.argv)}"


@dataclass(frozen=True, slots=True)
class Hooks:
    """Commands of the release, one a phase; empty where there is none."""

    pre_activate: tuple[str, ...] = ()
    post_activate: tuple[str, ...] = ()
    post_restore: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Persist:
    """A path that belongs to the device, linked into each release.

    Attributes:
        path: relative, normal, `/` between its parts.
        backup: copied before activation and put back by the RESTORE of the same deployment.

    """

    path: str
    backup: bool = False


@dataclass(frozen=True, slots=True)
class SyntaxGlobs:
    """Files that must parse before the release may go live; see `model.syntax.matches_glob`."""

    json: tuple[str, ...] = ()
    toml: tuple[str, ...] = ()
    yaml: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Manifest:
    """A valid `ota.toml`.

    Attributes:
        version: SemVer text without a leading `v`; equal to the tag's where there is one.
        min_agent: least version of the agent, all three numbers: `0.3` is "0.3.0".
        compatible: globs of labels; empty for every device.
        probation_seconds: as written, None where it is not; see `probation_s`.

    """

    version: str | None = None
    min_agent: str | None = None
    compatible: tuple[str, ...] = ()
    probation_seconds: float | None = None
    probes: tuple[ProbeSpec, ...] = ()
    hooks: Hooks = Hooks()
    persist: tuple[Persist, ...] = ()
    syntax: SyntaxGlobs = SyntaxGlobs()

    @property
    def probation_s(self) -> float:
        """How long the release has to stay healthy before it is committed."""
        if self.probation_seconds is not None:
            return self.probation_seconds
        return PROBATION_WITH_PROBES_S if self.probes else 0.0

    def commands(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Give each command of the release with its place in `ota.toml`."""
        for name in ("pre_activate", "post_activate", "post_restore"):
            argv = getattr(self.hooks, name)
            if argv:
                yield f"[hooks] {name}", argv
        for number, probe in enumerate(self.probes, start=1):
            if probe.kind is ProbeKind.COMMAND:
                yield f"[[probe]] {number}", probe.argv

    @property
    def has_commands(self) -> bool:
        """Whether the release wants to run programs as `commands.user`."""
        return next(self.commands(), None) is not None


def parse_manifest(text: str | bytes) -> Manifest:
    """Read the text of `ota.toml`; an empty one is the default manifest.

    Ask `min_agent_of` first: a release for a newer agent may use keys that this one refuses.

    Raises:
        ManifestInvalid: one sentence with each wrong key, its place and what is allowed.

    """
    # Only here: importing pydantic is slow, and most readers of this module parse nothing.
    from ota_agent.model.manifest_file import validate

    return validate(_read_toml(text))


def min_agent_of(text: str | bytes) -> Version | None:
    """Read `min_agent` alone, whatever else is in `ota.toml`; None when it names none."""
    try:
        named = _read_toml(text).get("min_agent")
    except ManifestInvalid:
        return None  # parse_manifest says what is wrong
    return parse_partial(named) if isinstance(named, str) else None


def _read_toml(text: str | bytes) -> dict[str, Any]:
    size = len(text) if isinstance(text, bytes) else len(text.encode(errors="surrogatepass"))
    if size > MAX_BYTES:
        raise ManifestInvalid(f"{FILE_NAME}: is larger than {MAX_BYTES // 1024} KiB")
    try:
        return tomllib.loads(text.decode() if isinstance(text, bytes) else text)
    except UnicodeDecodeError as error:
        raise ManifestInvalid(f"{FILE_NAME}: is no UTF-8 text (byte {error.start})") from error
    except tomllib.TOMLDecodeError as error:
        raise ManifestInvalid(f"{FILE_NAME}: {error}") from error
    except ValueError as error:
        raise ManifestInvalid(f"{FILE_NAME}: holds a number of too many digits") from error
    except RecursionError as error:
        raise ManifestInvalid(f"{FILE_NAME}: is nested too deeply") from error
