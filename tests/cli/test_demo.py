from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ota_agent.cli.demo.agent_log import AgentLog
from ota_agent.cli.demo.telling import Teller

if TYPE_CHECKING:
    from collections.abc import Iterator

PROGRAM = [sys.executable, "-m", "ota_agent"]
ACTS = [
    "1. First deployment",
    "2. A new release goes live",
    "3. Somebody edits a live file",
    "4. A release that does not work",
    "5. The agent is killed while a release goes live",
    "6. The operator goes back by hand",
]


@pytest.fixture
def temporary() -> Iterator[Path]:
    """Give a short TMPDIR: the demo shows paths, and 80 columns are to be enough."""
    place = Path(tempfile.mkdtemp())
    yield place
    for directory, _, _ in os.walk(place):
        Path(directory).chmod(0o700)
    shutil.rmtree(place)


def begin(temporary: Path, **environ: str) -> subprocess.Popen[str]:
    # What the shell of a user may hold, and must not reach the demo's agent.
    stray = {"OTA_AGENT_POLL_INTERVAL_S": "nonsense", "GIT_DIR": "/nowhere", "GITLAB_TOKEN": "t"}
    return subprocess.Popen(
        [*PROGRAM, "demo"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **stray, "TERM": "xterm", "TMPDIR": str(temporary), **environ},
    )


def git_that_says(script: str, place: Path) -> str:
    """Give a PATH on which git is a shell script."""
    program = place / "git"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return f"{place}:{os.environ['PATH']}"


def kept(temporary: Path) -> Path:
    (root,) = temporary.glob("ota-agent-demo-*")
    return root


def status(root: Path) -> dict[str, Any]:
    shown = subprocess.run(
        [*PROGRAM, "status", "--json", "--config", root / "config.json"],
        capture_output=True,
        check=True,
    )
    found: dict[str, Any] = json.loads(shown.stdout)
    return found


@pytest.mark.process
@pytest.mark.slow
def test_demo_tells_every_act_of_a_real_agent(temporary: Path) -> None:
    demo = begin(temporary)
    output, errors = demo.communicate()
    assert (demo.returncode, errors) == (0, "")
    lines = output.splitlines()
    assert [line for line in lines if line in ACTS] == ACTS
    assert max(map(len, lines)) <= 80
    assert "\x1b" not in output
    assert "Live " in output
    assert "rolled_back" in output
    assert "release.probe_failed" in output
    assert "$ kill -KILL" in output
    assert "operator.rolled_back" in output
    assert lines.index("   $ ota-agent status") < lines.index("   $ ota-agent history")
    root = kept(temporary)
    assert f"   cd {root}" in lines
    assert (root / "device/live/app/greeting.txt").read_text() == "Hello from 1.1.0\n"
    left = status(root)
    assert left["agent"] is None
    assert left["status"] == "OFFLINE"


@pytest.mark.process
def test_demo_without_a_working_git_fails_in_its_first_act(temporary: Path, tmp_path: Path) -> None:
    path = git_that_says("echo 'git is broken' >&2; exit 3", tmp_path)
    demo = begin(temporary, PATH=path)
    output, errors = demo.communicate()
    assert (demo.returncode, errors) == (1, "")
    assert 'FAILED in "1. First deployment"' in output
    assert "found:     git is broken" in output
    assert str(kept(temporary)) in output.splitlines()[-1]


@pytest.mark.process
def test_demo_without_git_says_so(temporary: Path, tmp_path: Path) -> None:
    demo = begin(temporary, PATH=str(tmp_path))
    output, _ = demo.communicate()
    assert demo.returncode == 1
    assert "expected:  git on the PATH" in output


@pytest.mark.process
def test_demo_whose_agent_ends_shows_what_the_agent_said(temporary: Path, tmp_path: Path) -> None:
    script = 'case "$*" in *version*) echo "git version 2.20.1";; *) exec {} "$@";; esac'
    path = git_that_says(script.format(shutil.which("git")), tmp_path)
    demo = begin(temporary, PATH=path)
    output, errors = demo.communicate()
    assert (demo.returncode, errors) == (1, "")
    assert 'FAILED in "1. First deployment"' in output
    assert "found:     it ended with exit code 1" in output
    assert "device.git_unusable" in output
    assert str(kept(temporary) / "agent.log") in output.splitlines()[-1]


@pytest.mark.process
def test_demo_that_finds_no_place_says_so(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("no directory")
    script = (
        "import os, sys, tempfile\n"
        f"tempfile.tempdir = {str(file)!r}\n"
        "from ota_agent.cli import main\n"
        "sys.argv = ['ota-agent', 'demo']\n"
        "main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: there is no place for the demo")
    assert "TMPDIR" in done.stderr


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 128 + signal.SIGTERM)]
)
def test_demo_that_is_interrupted_leaves_no_agent(
    number: signal.Signals, code: int, temporary: Path
) -> None:
    demo = begin(temporary)
    assert demo.stdout is not None
    for line in demo.stdout:
        if line.startswith("   agent:"):
            break
    demo.send_signal(number)
    _, errors = demo.communicate()
    assert demo.returncode == code
    assert "Traceback" not in errors
    root = kept(temporary)
    assert status(root)["agent"] is None
    if number is signal.SIGINT:
        assert errors == f"interrupted; {root} is kept\n"


def test_phases_of_a_deployment_share_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    teller = Teller()
    for number in range(2):
        for name in ("fetch", "verify", *["confirm"] * 9, "commit"):
            teller.phase(name, is_first=name == "fetch")
        teller.proof(f"{number} is whole")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["agent:", "agent:", "ok"] * 2
    assert max(map(len, lines)) <= 80


def test_log_of_an_agent_that_is_not_there_yet_tells_nothing(tmp_path: Path) -> None:
    file = tmp_path / "agent.log"
    entry = {
        "event": "agent started",
        "timestamp": "2026-03-01T14:05:06.789012Z",
        "level": "info",
        "logger": "x",
        "device": "demo",
        "live": None,
    }
    file.write_text(f'Traceback\n[1]\n{json.dumps(entry)}\n{{"event": "phase begins"')
    log = AgentLog(file)
    assert list(log.new_phases()) == []
    assert log.last_lines(3) == [
        "[1]",
        "14:05:06.789 info: agent started device=demo",
        '{"event": "phase begins"',
    ]
