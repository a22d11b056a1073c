from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pytest

from ota_agent import config
from ota_agent.cli import ota_agent as commands
from ota_agent.cli.group import INTERRUPTED
from ota_agent.model.command import Exit

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
COMMANDS = (ROOT / "docs/commands.md").read_text(encoding="utf-8")
CONFIGURATION = (ROOT / "docs/configuration.md").read_text(encoding="utf-8")
DEFAULTS = dict(re.findall(r"^\| `([a-z_.]+)` \| (.+?) \|", CONFIGURATION, flags=re.MULTILINE))


def shown_values() -> Iterator[tuple[str, object]]:
    found = config.load(str(ROOT / "examples/config.json"), {}).config
    for key, value in found.model_dump(mode="json", exclude={"credentials"}).items():
        if isinstance(value, dict):
            yield from ((f"{key}.{leaf}", part) for leaf, part in value.items())
        else:
            yield key, value


def parameters(command: click.Command, name: str) -> Iterator[str]:
    yield name
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            yield max(parameter.opts, key=len)
    if isinstance(command, click.Group):
        for child, nested in command.commands.items():
            yield from parameters(nested, f"{name} {child}")


def test_every_key_is_documented() -> None:
    assert set(DEFAULTS) == {key for key, _ in shown_values()}


@pytest.mark.parametrize(("key", "value"), list(shown_values()))
def test_documented_default_is_the_one_in_effect(key: str, value: object) -> None:
    if key not in {"source.type", "source.url", "source.channel", "source.token_host"}:
        assert DEFAULTS[key] == f"`{json.dumps(value)}`"


def test_documented_example_is_the_example() -> None:
    example = re.findall(r"```json\n(.+?)```", CONFIGURATION, flags=re.DOTALL)[0]
    assert example == (ROOT / "examples/config.json").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", commands.list_commands(click.Context(commands)))
def test_every_command_and_option_is_documented(name: str) -> None:
    command = commands.get_command(click.Context(commands), name)
    assert command is not None
    assert [word for word in parameters(command, name) if word not in COMMANDS] == []


def test_every_exit_code_is_documented() -> None:
    table = {int(code) for code in re.findall(r"^\| (\d+) \|", COMMANDS, flags=re.MULTILINE)}
    assert table == {*map(int, Exit), INTERRUPTED}
