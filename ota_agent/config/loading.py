"""The order in which a configuration is put together.

Defaults, file, environment, credentials, command line: the later goes before the earlier. `load`
reads only what it is given and the files named there, so it can be called again for a reload.
"""

from __future__ import annotations

import copy
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from ota_agent.config import credentials, document
from ota_agent.config.document import dotted, printable
from ota_agent.config.environment import FILE_VARIABLE, Setting, from_command_line, from_environment
from ota_agent.config.explain import Problem, explain, refuse
from ota_agent.config.values import Config, Section, Settings
from ota_agent.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from ota_agent.config.document import Document

DEFAULT_FILE = Path("/etc/ota-agent/config.json")
MAX_BYTES = 1024 * 1024
INLINE = "the inline configuration"
STDIN = "the configuration on standard input"


@dataclass(frozen=True, slots=True)
class Loaded:
    """A configuration that is good.

    Attributes:
        origins: where each dotted key is from: `default`, `FILE:LINE`, a variable, an option.
        source_name: what the configuration is called in messages, mostly the file's path.
        warnings: sentences on what is accepted, and should still be changed.

    """

    config: Config
    origins: Mapping[str, str]
    source_name: str
    warnings: tuple[str, ...]


def load(
    source: str | None, environ: Mapping[str, str], overrides: Mapping[str, str] | None = None
) -> Loaded:
    """Load the configuration.

    `source` is a path, JSON itself (it begins with `{`) or `-` for standard input; None leaves it
    to OTA_AGENT_CONFIG, else DEFAULT_FILE. `overrides` are texts by dotted key.

    Raises:
        ConfigError: one error that names every wrong key, its place and what is allowed.

    """
    # Empty is not absent: `--config "$(cat FILE)"` without the file must not load another one.
    name, text = _read(environ.get(FILE_VARIABLE) if source is None else source)
    file = document.parse(text, name)
    settings = [*from_environment(environ), *from_command_line(overrides or {})]
    places, origins = _places(file, name, settings)
    origins.setdefault("source.token_host", "host of source.url")
    values = _merge(file.values, settings)

    problems = [s for s in settings if isinstance(s, Problem)]
    problems += _unprintable(values, places)
    try:
        valid = Settings.model_validate(values)
    except ValidationError as error:
        named = {problem.key for problem in problems}
        found = explain(error.errors(include_url=False), places)
        problems += [problem for problem in found if problem.key not in named]
        # The library's own text is jargon, and repeats values that may be secret.
        raise refuse(name, problems) from None
    if problems:
        raise refuse(name, problems)
    secrets = credentials.find(environ)
    # Every part is valid: nothing is to be checked, or built, again.
    config = Config.model_construct(**dict(valid), credentials=secrets.credentials)
    return Loaded(
        config,
        {key: origins.get(key, "default") for key in _leaves(config)} | dict(secrets.origins),
        name,
        secrets.warnings,
    )


def _read(source: str | None) -> tuple[str, str]:
    """Give the name that messages use, and the text."""
    if source is None:
        return str(DEFAULT_FILE), _decode(_bytes_of(DEFAULT_FILE), str(DEFAULT_FILE))
    if source.lstrip("\ufeff \t\r\n").startswith("{"):
        return INLINE, source.lstrip("\ufeff")
    if source == "-":
        return STDIN, _decode(sys.stdin.buffer.read(MAX_BYTES + 1), STDIN)
    if not source.strip():
        raise ConfigError(
            "the configuration is empty: --config got no text",
            hint='Where it reads --config "$(cat FILE)", check that FILE is there.',
        )
    name = printable(source)
    return name, _decode(_bytes_of(Path(source)), name)


def _bytes_of(file: Path) -> bytes:
    try:
        with file.open("rb") as stream:
            return stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(
            f"cannot read the configuration {printable(str(file))}: {error.strerror}",
            hint=f"--config names it, else {FILE_VARIABLE}, else it is {DEFAULT_FILE}.",
        ) from error


def _decode(content: bytes, name: str) -> str:
    if len(content) > MAX_BYTES:
        raise ConfigError(f"{name} is longer than {MAX_BYTES} bytes: no configuration is")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{name} is not UTF-8: line {line} has other bytes") from None


def _places(
    file: Document, name: str, settings: Iterable[Setting | Problem]
) -> tuple[dict[str, str], dict[str, str]]:
    """Say for every key that is set where: for messages about the file, and on its own."""
    places: dict[str, str] = {}
    origins: dict[str, str] = {}
    one_line = max(file.lines.values(), default=1) == 1
    for path, line in file.lines.items():
        key = dotted(path)
        origins[key] = name if one_line else f"{name}:{line}"
        if not one_line:
            places[key] = f"line {line}"
    for setting in settings:
        if isinstance(setting, Setting):
            places[setting.key] = origins[setting.key] = setting.place
    return places, origins


def _merge(values: Mapping[str, Any], settings: Iterable[Setting | Problem]) -> dict[str, Any]:
    merged: dict[str, Any] = copy.deepcopy(dict(values))
    for setting in settings:
        if isinstance(setting, Setting):
            section, _, leaf = setting.key.rpartition(".")
            target = merged.setdefault(section, {}) if section else merged
            # Where the file has no object there, the check of the file says so.
            if isinstance(target, dict):
                target[leaf] = setting.value
    return merged


def _unprintable(values: Mapping[str, Any], places: Mapping[str, str]) -> Iterator[Problem]:
    """Find texts that would break a path, a header or a terminal further on."""
    for key, value in _flatten(values):
        if isinstance(value, str) and not value.isprintable():
            yield Problem(key, places.get(key), "holds a control character or is no Unicode text")


def _flatten(value: object, path: document.KeyPath = ()) -> Iterator[tuple[str, object]]:
    if isinstance(value, dict):
        for key, part in value.items():
            yield from _flatten(part, (*path, key))
    elif isinstance(value, list):
        for index, part in enumerate(value):
            yield from _flatten(part, (*path, index))
    else:
        yield dotted(path), value


def _leaves(config: Config) -> Iterator[str]:
    """List the dotted keys that hold values, sections aside; lists are one value."""
    for key in Settings.model_fields:
        value = getattr(config, key)
        if isinstance(value, Section):
            yield from (f"{key}.{leaf}" for leaf in type(value).model_fields)
        else:
            yield key
