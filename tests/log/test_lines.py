from __future__ import annotations

import io
import json
import logging
import os
import subprocess
import sys
import types
from typing import TYPE_CHECKING

import pytest
from typing_extensions import override

from ota_agent import log
from ota_agent.log import lines

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

Capsys = pytest.CaptureFixture[str]

PROGRAM = """
from ota_agent import log
log.configure(None, "info")
log.get_logger("agent").info("release staged", release="1.4.0")
"""


def fail(text: str) -> None:
    raise OSError(text)


def run_program(
    environment: Mapping[str, str] | None = None, *, wrapper: str = "", stderr: int
) -> None:
    subprocess.run(
        [sys.executable, "-c", wrapper + PROGRAM],
        check=True,
        env={"PYTHONPATH": ":".join(sys.path), **(environment or {})},
        stderr=stderr,
    )


def on_terminal(environment: Mapping[str, str]) -> str:
    ours, theirs = os.openpty()
    try:
        run_program(environment, stderr=theirs)
        return os.read(ours, 10_000).decode()
    finally:
        os.close(theirs)
        os.close(ours)


# --- which format -------------------------------------------------------------------------------


@pytest.mark.process
def test_terminal_gets_colours_for_people() -> None:
    line = on_terminal({"TERM": "xterm"})
    assert "release staged" in line
    assert "\x1b[" in line


@pytest.mark.process
def test_terminal_of_somebody_who_wants_none_gets_no_colours() -> None:
    line = on_terminal({"TERM": "xterm", "NO_COLOR": "1"})
    assert "release=1.4.0" in line
    assert "\x1b[" not in line


@pytest.mark.process
def test_pipe_gets_json(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w+b") as file:
        run_program(stderr=file.fileno())
        file.seek(0)
        assert json.loads(file.read())["release"] == "1.4.0"


@pytest.mark.process
def test_stream_of_the_journal_gets_lines_with_their_priority(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w+b") as file:
        status = os.fstat(file.fileno())
        here = "from ota_agent.log import lines; lines._JOURNALD = lines.Path('/no/journal')\n"
        stream = {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}
        run_program(stream, wrapper=here, stderr=file.fileno())
        file.seek(0)
        assert file.read() == b"<6>release staged logger=agent release=1.4.0\n"


@pytest.mark.process
def test_journal_of_another_stream_is_not_meant(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w+b") as file:
        run_program({"JOURNAL_STREAM": "1:2"}, stderr=file.fileno())
        file.seek(0)
        assert file.read().startswith(b"{")


def test_closed_stderr_has_a_format_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "_STDERR", 987_654)
    assert lines.default_format() == "json"


# --- the journal --------------------------------------------------------------------------------


class Journal(types.ModuleType):
    """systemd's module, as far as it is used; journald may be away."""

    def __init__(self) -> None:
        super().__init__("systemd.journal")
        self.entries: list[dict[str, str]] = []
        self.is_away = False

    def sendv(self, *fields: bytes) -> None:
        if self.is_away:
            raise ConnectionRefusedError
        split = [field.decode().partition("=") for field in fields]
        self.entries.append({name: value for name, _, value in split})


@pytest.fixture
def journal(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Journal:
    (tmp_path / "journal").touch()
    monkeypatch.setattr(lines, "_JOURNALD", tmp_path / "journal")
    made = Journal()
    package = types.ModuleType("systemd")
    package.journal = made  # type: ignore[attr-defined]  # a module made here
    monkeypatch.setitem(sys.modules, "systemd", package)
    monkeypatch.setitem(sys.modules, "systemd.journal", made)
    return made


def test_journal_gets_fields_to_search_for(journal: Journal, capsys: Capsys) -> None:
    log.configure("journal", "info")
    log.get_logger("update").info("release staged", release="1.4.0-ab", why="two words", n=3)
    assert journal.entries == [
        {
            "MESSAGE": 'release staged logger=update release=1.4.0-ab why="two words" n=3',
            "PRIORITY": "6",
            "SYSLOG_IDENTIFIER": "ota-agent",
            "OTA_EVENT": "release staged",
            "OTA_LOGGER": "update",
            "OTA_RELEASE": "1.4.0-ab",
            "OTA_WHY": "two words",
            "OTA_N": "3",
        }
    ]
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("level", "priority"), [("debug", "7"), ("info", "6"), ("warning", "4"), ("error", "3")]
)
def test_priority_is_the_level_s(journal: Journal, level: str, priority: str) -> None:
    log.configure("journal", "debug")
    getattr(log.get_logger("agent"), level)("said")
    assert journal.entries[0]["PRIORITY"] == priority


def test_keys_become_names_that_journald_takes(journal: Journal) -> None:
    log.configure("journal", "info")
    keys = {"a-b.c": {"d": 1}, "e" * 99: "x", "f": "\udc80", "g": ""}
    log.get_logger("agent").info("said", **keys)
    (entry,) = journal.entries
    assert entry["OTA_A_B_C"] == '{"d": 1}'
    assert entry["OTA_" + "E" * 60] == "x"
    assert entry["OTA_F"] == "\\udc80"
    assert entry["OTA_G"] == ""


def test_traceback_is_part_of_the_message(journal: Journal) -> None:
    log.configure("journal")
    try:
        fail("the disk went away")
    except OSError:
        log.get_logger("agent").exception("it failed")
    first, *_, last = journal.entries[0]["MESSAGE"].splitlines()
    assert first == "it failed logger=agent"
    assert last == "OSError: the disk went away"


def test_journald_that_is_away_loses_nothing(journal: Journal, capsys: Capsys) -> None:
    log.configure("journal", "info")
    journal.is_away = True
    log.get_logger("agent").info("said")
    assert capsys.readouterr().err == "<6>said logger=agent\n"


def test_journal_without_systemd_s_module_gets_lines(
    journal: Journal, capsys: Capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "systemd", None)
    log.configure("journal")
    try:
        fail("the disk went away")
    except OSError:
        log.get_logger("agent").exception("it failed")
    assert journal.entries == []
    assert all(line.startswith("<3>") for line in capsys.readouterr().err.splitlines())


# --- lines --------------------------------------------------------------------------------------


@pytest.mark.parametrize("log_format", ["console", "json", "journal"])
def test_terminal_carries_out_nothing_that_a_stranger_wrote(
    capsys: Capsys, log_format: log.Format
) -> None:
    log.configure(log_format, "info")
    log.get_logger("agent").info("said \x1b[2J", branch="\x1b]0;mine\x07", path="\udc80")
    err = capsys.readouterr().err
    assert "mine" in err
    assert "\x1b" not in err
    assert "\x07" not in err


@pytest.mark.parametrize("error", [BrokenPipeError, OSError, ValueError])
def test_log_that_cannot_be_written_does_not_stop_the_agent(
    monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    class Broken(io.StringIO):
        @override
        def write(self, text: str, /) -> int:
            raise error

    monkeypatch.setattr(sys, "stderr", Broken())
    log.configure("json", "info")
    log.get_logger("agent").info("said")


# --- libraries ----------------------------------------------------------------------------------


@pytest.mark.parametrize("library", ["git", "urllib3", "httpx"])
def test_libraries_are_heard_from_warnings_on(capsys: Capsys, library: str) -> None:
    log.configure("json", "debug")
    logger = logging.getLogger(library)
    monkeyed = logger.level
    logger.setLevel(logging.DEBUG)
    try:
        logger.debug("unheard")
        logger.info("unheard")
        logger.warning("retrying %s", "soon")
        logger.critical("gave up")
    finally:
        logger.setLevel(monkeyed)
    said = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(line["level"], line["logger"], line["event"]) for line in said] == [
        ("warning", library, "retrying soon"),
        ("error", library, "gave up"),
    ]


def test_library_s_traceback_and_secret_are_handled_as_ours(capsys: Capsys) -> None:
    log.register_secret("glpat-1234")
    log.configure("json")
    log.configure("json")
    try:
        fail("with glpat-1234")
    except OSError:
        logging.getLogger("urllib3").exception("failed with %s", "glpat-1234")
    (line,) = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert line["event"] == "failed with ***"
    assert "OSError: with ***" in line["exception"]


def test_library_that_formats_wrongly_is_heard_all_the_same(capsys: Capsys) -> None:
    log.configure("json")
    root = logging.getLogger()
    # pytest's own handlers would take it for a mistake of the test.
    root.handlers[:] = [ours for ours in root.handlers if isinstance(ours, lines._FromLibrary)]
    logging.getLogger("urllib3").warning("%d times", "many")
    assert json.loads(capsys.readouterr().err)["event"] == "%d times"
