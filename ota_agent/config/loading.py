"""The order in which a configuration is put together.

Defaults, file, environment, credentials, command line: the later goes before the earlier. `load`
reads only what it is given and the files named there, so it can be called again for a reload.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from ota_agent.config import credentials, document
from ota_agent.config.document import dotted
from ota_agent.config.environment import Setting, from_command_line, from_environment
from ota_agent.config.explain import Problem, explain, refuse
from ota_agent.config.values import Config, Section, Settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from ota_agent.config.document import Document


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
    to OTA_AGENT_CONFIG, else /etc/ota-agent/config.json. `overrides` are texts by dotted key.

    Raises:
        ConfigError: one error that names every wrong key, its place and what is allowed.

    """
    name, text = document.read(source, environ)
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
