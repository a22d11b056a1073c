from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from ota_agent import log

if TYPE_CHECKING:
    from typing import Any

Capsys = pytest.CaptureFixture[str]


def fail(text: str) -> None:
    raise OSError(text)


def said(capsys: Capsys) -> list[dict[str, Any]]:
    out, err = capsys.readouterr()
    assert out == ""
    return [json.loads(line) for line in err.splitlines()]


def test_event_is_said_on_stderr_with_its_keys(capsys: Capsys) -> None:
    log.configure("json", "info")
    log.get_logger("ota_agent.store.staging").info("release staged", release="1.4.0", bytes=3)
    (line,) = said(capsys)
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "level": "info",
        "logger": "store.staging",
        "event": "release staged",
        "release": "1.4.0",
        "bytes": 3,
    }


def test_bound_keys_go_with_each_event(capsys: Capsys) -> None:
    log.configure("json", "info")
    bound = log.get_logger("agent").bind(device="d1").bind(phase="fetch")
    bound.info("one")
    bound.info("two", phase="stage")
    assert [(line["device"], line["phase"]) for line in said(capsys)] == [
        ("d1", "fetch"),
        ("d1", "stage"),
    ]


@pytest.mark.parametrize("level", ["debug", "info", "warning", "error"])
def test_level_is_the_least_that_is_said(capsys: Capsys, level: log.Level) -> None:
    log.configure("json", level)
    logger = log.get_logger("agent")
    logger.debug("debug")
    logger.info("info")
    logger.warning("warning")
    logger.error("error")
    levels = ["debug", "info", "warning", "error"]
    assert [line["level"] for line in said(capsys)] == levels[levels.index(level) :]


def test_log_may_be_set_up_again(capsys: Capsys) -> None:
    logger = log.get_logger("agent")
    log.configure("json", "error")
    logger.info("unheard")
    log.configure("json", "debug")
    logger.debug("heard")
    assert [line["event"] for line in said(capsys)] == ["heard"]


def test_log_that_nobody_set_up_says_what_is_wrong_and_no_more(capsys: Capsys) -> None:
    logger = log.get_logger("agent")
    logger.info("unheard")
    logger.warning("heard")
    assert "heard" in (err := capsys.readouterr().err)
    assert "unheard" not in err


def test_key_that_is_called_as_a_part_of_the_line_does_no_harm(capsys: Capsys) -> None:
    log.configure("json", "info")
    keys = {"event": "e", "level": "l", "logger": "n", "timestamp": "t"}
    log.get_logger("agent").info("said", **keys)
    (line,) = said(capsys)
    assert (line["event"], line["level"], line["logger"]) == ("said", "info", "agent")


def test_exception_is_said_with_its_traceback(capsys: Capsys) -> None:
    log.configure("json")
    try:
        fail("the disk went away")
    except OSError:
        log.get_logger("agent").exception("it failed")
    (line,) = said(capsys)
    assert (line["level"], line["event"]) == ("error", "it failed")
    assert "Traceback" in line["exception"]
    assert "OSError: the disk went away" in line["exception"]


@pytest.mark.process
def test_command_that_says_nothing_pays_for_no_logging() -> None:
    program = """
import sys
from ota_agent import log
log.get_logger("ota_agent.cli").info("not heard")
heavy = {"structlog", "logging", "json", "typing_extensions", "systemd"} & set(sys.modules)
sys.exit(f"imported: {heavy}" if heavy else 0)
"""
    environment = {"PYTHONPATH": ":".join(sys.path)}
    # -S: what the environment's own start imports is not the log's doing.
    command = [sys.executable, "-S", "-c", program]
    assert subprocess.run(command, check=False, env=environment).returncode == 0
