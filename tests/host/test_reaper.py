"""The program by itself, as the agent starts it; what it does for a command is in test_commands."""

from __future__ import annotations

import errno
import os
import pwd
import select
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ota_agent.host import reaper

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.process

SH = "/bin/sh"
DIRECTORY = "/"


class Reaped:
    """A reaper with its lifeline in our hand."""

    def __init__(
        self, *command: str, user: str = "-", grace_s: float = 5, hold: tuple[int, ...] = ()
    ) -> None:
        lifeline_end, self.lifeline = os.pipe()
        self.verdict, verdict_end = os.pipe()
        ends = (str(lifeline_end), str(verdict_end))
        self.process = subprocess.Popen(
            [sys.executable, "-m", reaper.__name__, *ends, str(grace_s), user, *command],
            pass_fds=(lifeline_end, verdict_end, *hold),
            stdout=subprocess.PIPE,
            text=True,
        )
        os.close(lifeline_end)
        os.close(verdict_end)

    def read_line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def cut(self) -> None:
        os.close(self.lifeline)
        self.lifeline = -1

    def end(self) -> list[str]:
        """Wait for its end and give the lines of its verdict, without the command's pid."""
        with self.process, os.fdopen(self.verdict) as verdict:
            first, *lines = verdict.read().splitlines()
        if self.lifeline >= 0:
            self.cut()
        assert self.process.returncode == 0
        assert [line for line in (first, *lines) if line.startswith("pid ")]
        return [line for line in (first, *lines) if not line.startswith("pid ")]


def test_command_that_ends_well_gives_a_verdict_of_one_line() -> None:
    assert Reaped(DIRECTORY, SH, "sh", "-c", "exit 3").end() == ["ended 3"]


def test_end_of_the_lifeline_ends_a_command() -> None:
    reaped = Reaped(DIRECTORY, SH, "sh", "-c", "echo begun; exec sleep 1000")
    assert reaped.read_line() == "begun"
    reaped.cut()
    assert reaped.end() == ["ended 143"]


def test_command_that_ignores_sigterm_is_killed_after_the_grace() -> None:
    script = "trap '' TERM; echo begun; while :; do sleep 0.05; done"
    reaped = Reaped(DIRECTORY, SH, "sh", "-c", script, grace_s=0.1)
    assert reaped.read_line() == "begun"
    reaped.cut()
    assert reaped.end() == ["ended 137"]


def test_processes_left_behind_are_counted_and_ended() -> None:
    script = "sleep 1000 & setsid sleep 1000 &"
    assert Reaped(DIRECTORY, SH, "sh", "-c", script).end() == ["left 2", "ended 0"]


def test_lifeline_that_ends_meanwhile_ends_the_wait_for_those_left_behind() -> None:
    reaped = Reaped(DIRECTORY, SH, "sh", "-c", "sleep 1000 & echo over")
    assert reaped.read_line() == "over"
    reaped.cut()
    assert reaped.end()[-1] in {"ended 0", "ended 143"}


@pytest.mark.parametrize(
    ("directory", "program", "step", "number"),
    [
        ("/no/such/directory", SH, "directory", errno.ENOENT),
        (DIRECTORY, "/no/such/program", "program", errno.ENOENT),
        (DIRECTORY, "/etc/passwd", "program", errno.EACCES),
    ],
)
def test_step_that_fails_is_named(directory: str, program: str, step: str, number: int) -> None:
    lines = Reaped(directory, program, "word").end()
    assert lines == [f"failed {step} {number}", "ended 127"]


@pytest.mark.root
def test_root_s_command_becomes_the_user() -> None:
    nobody = pwd.getpwnam("nobody")
    reaped = Reaped(
        DIRECTORY, SH, "sh", "-c", "id -u", user=f"{nobody.pw_uid},{nobody.pw_gid},{nobody.pw_gid}"
    )
    assert reaped.read_line() == str(nobody.pw_uid)
    assert reaped.end() == ["ended 0"]


@pytest.mark.root
def test_command_of_another_user_cannot_let_go_what_is_held_until_its_end() -> None:
    nobody = pwd.getpwnam("nobody")
    reading, writing = os.pipe()
    reaped = Reaped(
        *(DIRECTORY, SH, "sh", "-c", "ls -x /proc/$$/fd; exec sleep 1000"),
        user=f"{nobody.pw_uid},{nobody.pw_gid},{nobody.pw_gid}",
        hold=(writing,),
    )
    os.close(writing)

    assert reaped.read_line().split() == ["0", "1", "2"]
    assert select.select([reading], [], [], 0)[0] == []  # still held
    reaped.cut()
    assert reaped.end() == ["ended 143"]
    assert os.read(reading, 1) == b""
    os.close(reading)


def test_command_of_the_same_user_holds_what_it_is_handed() -> None:
    reading, writing = os.pipe()
    reaped = Reaped(DIRECTORY, SH, "sh", "-c", "ls -x /proc/$$/fd", hold=(writing,))
    os.close(writing)

    assert set(reaped.read_line().split()) == {"0", "1", "2", str(writing)}
    assert reaped.end() == ["ended 0"]
    os.close(reading)


def test_descendants_are_found_at_every_depth_whatever_their_names_are(
    tmp_path: Path, copy_of_sleep: Callable[[str], Path]
) -> None:
    program = copy_of_sleep("a) S 1 (b")
    script = f"'{program}' 1000 & (sleep 1000 & echo up; wait) & wait"
    with subprocess.Popen([SH, "-c", script], stdout=subprocess.PIPE) as shell:
        assert shell.stdout is not None
        assert shell.stdout.readline() == b"up\n"
        found = reaper.descendants(shell.pid)
        for pid in (shell.pid, *found):
            os.kill(pid, 9)
    assert len(found) == 3


@pytest.fixture
def copy_of_sleep(tmp_path: Path) -> Callable[[str], Path]:
    def copy(name: str) -> Path:
        path = tmp_path / name
        path.write_bytes(Path("/bin/sleep").read_bytes())
        path.chmod(0o755)
        return path

    return copy
