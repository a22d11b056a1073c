"""`ota.toml` as it is written: the keys, their types and bounds, and the sentences about them."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any, NoReturn
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from ota_agent.errors import ManifestInvalid
from ota_agent.model.manifest import (
    FILE_NAME,
    Hooks,
    Manifest,
    Persist,
    ProbeKind,
    ProbeSpec,
    SyntaxGlobs,
)
from ota_agent.model.tree import path_fault
from ota_agent.model.version import parse_partial, parse_version

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic_core import ErrorDetails

DAY_S = 86_400.0
HOUR_S = 3_600.0
MAX_ITEMS = 1_000
MAX_TEXT = 4_096
MAX_PORT = 65_535
SHOWN_PROBLEMS = 10

_KINDS = tuple(kind.value for kind in ProbeKind)
_HOST_PORT = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):([0-9]{1,5})")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def _version(text: str) -> str:
    version = parse_version(text)
    if version is None:
        raise ValueError("is no SemVer version such as 1.4.0")
    return str(version)


def _partial_version(text: str) -> str:
    version = parse_partial(text)
    if version is None:
        raise ValueError("is no version such as 0.3 or 0.3.1")
    return str(version)


def _url(text: str) -> str:
    try:
        url = urlsplit(text)
        good = url.scheme in {"http", "https"} and bool(url.hostname) and url.port != 0
    except ValueError:  # a port that is no number, a broken IPv6 address
        good = False
    if not good or not text.isascii() or " " in text:
        raise ValueError("is no http or https URL")
    return text


def _host_port(text: str) -> str:
    address = _HOST_PORT.fullmatch(text)
    if address is None or not 0 < int(address[1]) <= MAX_PORT:
        raise ValueError("is no host:port such as 127.0.0.1:8080 or [::1]:8080")
    return text


def _own_path(text: str) -> str:
    fault = path_fault(text)
    if fault is not None:
        raise ValueError(f"is no plain relative path: it {fault}")
    if text == FILE_NAME:
        raise ValueError(f"is {FILE_NAME} itself")
    return text


def _any_path(text: str) -> str:
    return text if text.startswith("/") and text != "/" else _own_path(text)


def _glob(text: str) -> str:
    parts = text.split("/")
    if not all(parts) or {".", ".."} & set(parts):
        raise ValueError("is no glob of paths in the release such as config/*.json or **/*.json")
    return text


def _no_control(text: str) -> str:
    if _CONTROL.search(text):
        raise ValueError("holds a control character")
    return text


def _argv(words: list[str]) -> list[str]:
    if not words[0].strip():
        raise ValueError("names no program")
    if any("\0" in word for word in words):
        raise ValueError("holds a NUL character")
    return words


def _later(_: object) -> NoReturn:
    raise ValueError(
        "is not supported by this agent version (a release that needs it names the agent that has"
        " it in min_agent)"
    )


_Text = Annotated[str, Field(min_length=1, max_length=MAX_TEXT), AfterValidator(_no_control)]
_Texts = Annotated[list[_Text], Field(max_length=MAX_ITEMS)]
_Globs = Annotated[list[Annotated[_Text, AfterValidator(_glob)]], Field(max_length=MAX_ITEMS)]
_Argv = Annotated[
    list[Annotated[str, Field(max_length=MAX_TEXT)]],
    Field(min_length=1, max_length=MAX_ITEMS),
    AfterValidator(_argv),
]
_Seconds = Annotated[float, Field(gt=0, le=HOUR_S)]
_Later = Annotated[None, BeforeValidator(_later)]


class _Table(BaseModel):
    """What every table has in common: no coercion, no unknown key, no NaN."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


class _Probation(_Table):
    seconds: Annotated[float, Field(ge=0, le=DAY_S)] | None = None


class _Probe(_Table):
    http: Annotated[_Text, AfterValidator(_url)] | None = None
    tcp: Annotated[_Text, AfterValidator(_host_port)] | None = None
    command: _Argv | None = None
    file: Annotated[_Text, AfterValidator(_any_path)] | None = None
    unit: _Later = None
    timeout_s: _Seconds = 5.0
    interval_s: _Seconds = 2.0
    required: Annotated[int, Field(ge=1, le=MAX_ITEMS)] = 3

    @model_validator(mode="after")
    def _looks_at_one_thing(self) -> _Probe:
        if len(self.model_fields_set & set(_KINDS)) != 1:
            raise ValueError(f"needs exactly one of {', '.join(_KINDS)}")
        return self

    def to_spec(self) -> ProbeSpec:
        """Give the value that the rest of the agent knows."""
        (kind,) = self.model_fields_set & set(_KINDS)
        return ProbeSpec(
            kind=ProbeKind(kind),
            target=self.http or self.tcp or self.file or "",
            argv=tuple(self.command or ()),
            timeout_s=self.timeout_s,
            interval_s=self.interval_s,
            required=self.required,
        )


class _Hooks(_Table):
    pre_activate: _Argv | None = None
    post_activate: _Argv | None = None
    post_restore: _Argv | None = None


class _Persist(_Table):
    path: Annotated[_Text, AfterValidator(_own_path)]
    backup: bool = False


class _Syntax(_Table):
    json_globs: _Globs = Field(default=[], alias="json")
    toml_globs: _Globs = Field(default=[], alias="toml")
    yaml_globs: _Globs = Field(default=[], alias="yaml")


def _apart(persist: list[_Persist]) -> list[_Persist]:
    # Case aside: two links that differ in case alone are one on the publisher's laptop.
    paths = sorted(item.path.casefold() + "/" for item in persist)
    for outer, inner in pairwise(paths):
        if inner.startswith(outer):
            raise ValueError(f"holds {inner[:-1]!r} twice or inside {outer[:-1]!r}")
    return persist


class _File(_Table):
    version: Annotated[_Text, AfterValidator(_version)] | None = None
    min_agent: Annotated[_Text, AfterValidator(_partial_version)] | None = None
    compatible: _Texts = []
    probation: _Probation = _Probation()
    probe: Annotated[list[_Probe], Field(max_length=MAX_ITEMS)] = []
    hooks: _Hooks = _Hooks()
    persist: Annotated[list[_Persist], Field(max_length=MAX_ITEMS), AfterValidator(_apart)] = []
    syntax: _Syntax = _Syntax()
    service: _Later = None
    on_change: _Later = None


_TABLES: dict[str, type[_Table]] = {
    "probation": _Probation,
    "probe": _Probe,
    "hooks": _Hooks,
    "persist": _Persist,
    "syntax": _Syntax,
}
_ARRAYS = frozenset({"probe", "persist"})
# pydantic's own words around what is wrong: the key is the subject of our sentence.
_FRAME = re.compile(r"^(?:Value error, |(?:Input|List|String) )| after validation, not \d+$")


def validate(raw: Mapping[str, Any]) -> Manifest:
    """Make a manifest of what tomllib read.

    Raises:
        ManifestInvalid: one sentence with each wrong key, its place and what is allowed.

    """
    try:
        file = _File.model_validate(raw)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
        problems = [_sentence(problem) for problem in found[:SHOWN_PROBLEMS]]
        if len(found) > SHOWN_PROBLEMS:
            problems.append(f"{len(found) - SHOWN_PROBLEMS} more")
        raise ManifestInvalid(f"{FILE_NAME}: {'; '.join(problems)}") from error
    return Manifest(
        version=file.version,
        min_agent=file.min_agent,
        compatible=tuple(file.compatible),
        probation_seconds=file.probation.seconds,
        probes=tuple(probe.to_spec() for probe in file.probe),
        hooks=Hooks(
            pre_activate=tuple(file.hooks.pre_activate or ()),
            post_activate=tuple(file.hooks.post_activate or ()),
            post_restore=tuple(file.hooks.post_restore or ()),
        ),
        persist=tuple(Persist(item.path, backup=item.backup) for item in file.persist),
        syntax=SyntaxGlobs(
            json=tuple(file.syntax.json_globs),
            toml=tuple(file.syntax.toml_globs),
            yaml=tuple(file.syntax.yaml_globs),
        ),
    )


def _sentence(problem: ErrorDetails) -> str:
    """Say one problem with its place: `[[probe]] 2: unknown key 'htpp' (allowed: ...)`."""
    loc = list(problem["loc"])
    table: type[_Table] = _File
    place = ""
    if len(loc) > 1 and loc[0] in _TABLES:
        name = str(loc.pop(0))
        table = _TABLES[name]
        place = f"[[{name}]] {int(loc.pop(0)) + 1}: " if name in _ARRAYS else f"[{name}] "
    key = _spell(loc)
    match problem["type"]:
        case "extra_forbidden":
            what = f"unknown key {key!r} (allowed: {', '.join(_allowed(table))})"
        case "missing":
            what = f"{key} is missing"
        case "list_type" if key in _ARRAYS and table is _File:
            what = f"{key} is written as [[{key}]]"
        case "model_type":
            what = f"{key} has to be a table".lstrip()
        case _:
            what = f"{key} {_FRAME.sub('', problem['msg'])}".lstrip()
    return place + what


def _allowed(table: type[_Table]) -> list[str]:
    fields = table.model_fields.items()
    return sorted(f.alias or name for name, f in fields if f.annotation is not type(None))


def _spell(loc: list[int | str]) -> str:
    words = [f"item {part + 1}" if isinstance(part, int) else part[:60] for part in loc]
    return " ".join(words)
