"""What the documents say of the program is so."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pytest
from flow_diagram import DESIGN, made, written

from ota_agent import config
from ota_agent.cli import ota_agent as commands
from ota_agent.model.manifest import parse_manifest
from ota_agent.model.verdict import Reason

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
TEXTS = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in DOCUMENTS}

LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
CODE_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
# At the beginning of a line or of a code span; more words may follow, a description may not.
COMMAND = re.compile(r"(?:^|`|\$ )ota-agent((?: +[\w\[\]<>./:=-]+)+)", re.MULTILINE)
LIMIT = 80


def blocks(text: str, language: str) -> list[str]:
    return [body for name, body in CODE_BLOCK.findall(text) if name == language]


def anchors(text: str) -> set[str]:
    """Give the names that a reader's browser has for the headings."""
    plain = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in HEADING.findall(text)]
    return {name.replace(" ", "-") for name in plain}


def links() -> Iterator[tuple[str, str]]:
    for name, text in TEXTS.items():
        prose = CODE_BLOCK.sub("", text)
        yield from ((name, link) for link in LINK.findall(prose) if "://" not in link)


def named_commands() -> Iterator[tuple[str, str]]:
    for name, text in TEXTS.items():
        yield from ((name, words.strip()) for words in COMMAND.findall(text))


def fault_of(words: list[str]) -> str | None:
    """Say what is wrong with a command line without its first word; None when nothing is."""
    command: click.Command = commands
    options = {"--help", "--version"}
    for word in words:
        name = re.split(r"[=\]]", word.lstrip("["))[0]
        if name.startswith("-"):
            if name not in options and name != "-":
                return f"no option {name}"
        elif isinstance(command, click.Group):
            found = command.get_command(click.Context(command), name)
            if found is None:
                return f"no command {name}"
            command = found
            options |= {option for one in command.params for option in one.opts}
    return None


@pytest.mark.parametrize(("document", "link"), list(links()))
def test_link_leads_somewhere(document: str, link: str) -> None:
    path, _, anchor = link.partition("#")
    target = (ROOT / document).parent / path if path else ROOT / document
    assert target.exists()
    assert not anchor or anchor in anchors(target.read_text(encoding="utf-8"))


def test_links_are_found_at_all() -> None:
    assert ("README.md", "docs/design.md") in list(links())


@pytest.mark.parametrize(("document", "line"), sorted(set(named_commands())))
def test_command_that_is_named_exists(document: str, line: str) -> None:
    assert fault_of(line.split()) is None, f"{document}: ota-agent {line}"


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("rollback [RELEASE] [--with-data]", None),
        ("run --device-id ID --once", None),
        ("config show --json", None),
        ("levitate", "no command levitate"),
        ("config levitate", "no command levitate"),
        ("rollback --sideways", "no option --sideways"),
    ],
)
def test_command_that_exists_is_told_from_one_that_does_not(line: str, fault: str | None) -> None:
    assert fault_of(line.split()) == fault


def test_target_of_make_that_is_named_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {target for text in TEXTS.values() for target in re.findall(r"`make ([a-z-]+)", text)}
    named |= {
        target
        for text in TEXTS.values()
        for body in blocks(text, "sh")
        for target in re.findall(r"^make ([a-z-]+)", body, re.MULTILINE)
    }
    assert {"demo", "test"} <= named <= targets


@pytest.mark.parametrize("document", ["README.md", "docs/configuration.md"])
def test_configuration_that_is_shown_loads(document: str) -> None:
    shown = [body for body in blocks(TEXTS[document], "json") if '"work_dir"' in body]
    assert shown
    example = json.loads((ROOT / "examples/config.json").read_text(encoding="utf-8"))
    assert json.loads(shown[0]) == example
    for text in shown:
        config.load(text, environ={})


def test_manifest_that_is_shown_is_valid() -> None:
    shown = [body for text in TEXTS.values() for body in blocks(text, "toml")]
    assert shown
    for text in shown:
        parse_manifest(text)


def test_flow_that_is_drawn_is_the_flow() -> None:
    assert written(DESIGN.read_text(encoding="utf-8")) == made(), "run `make docs`"


def test_every_part_of_the_package_is_in_the_design() -> None:
    design = DESIGN.read_text(encoding="utf-8")
    parts = {
        path.stem for path in (ROOT / "ota_agent").iterdir() if not path.name.startswith((".", "_"))
    }
    layers = design[design.index("## Layers") : design.index("## The loop")]
    assert [part for part in sorted(parts - {"py"}) if part not in layers] == []


def test_every_reason_is_documented() -> None:
    reasons = TEXTS["docs/errors.md"].partition("## Reasons")[2]
    assert [reason for reason in Reason if f"| `{reason}` |" not in reasons] == []


def test_every_variable_of_a_hook_is_documented() -> None:
    update = ROOT / "ota_agent/update"
    source = "".join((update / name).read_text() for name in ("device.py", "hooks.py", "steps.py"))
    variables = set(re.findall(r'"(OTA_[A-Z_]+)"', source))
    documented = set(re.findall(r"`(OTA_[A-Z_]+)`", TEXTS["docs/publishing.md"]))
    assert variables
    assert variables == documented


def test_every_decision_is_listed() -> None:
    directory = ROOT / "docs/decisions"
    records = sorted(path.name for path in directory.glob("[0-9]*.md"))
    listed = re.findall(
        r"^\| \[\d{4}\]\(([^)]+)\)", TEXTS["docs/decisions/README.md"], re.MULTILINE
    )
    assert listed == records
    assert [name[:4] for name in records] == [f"{n:04}" for n in range(1, len(records) + 1)]


def test_what_changed_since_the_last_release_has_its_place() -> None:
    assert "## [Unreleased]" in TEXTS["CHANGELOG.md"]


def test_output_that_is_shown_fits_a_terminal_but_for_errors() -> None:
    lines = [line for body in blocks(TEXTS["README.md"], "console") for line in body.splitlines()]
    assert lines
    assert [line for line in lines if len(line) > LIMIT and not line.startswith("error:")] == []
