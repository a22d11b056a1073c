from __future__ import annotations

import errno
import json
import os
import pwd
import resource
import select
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fakes.progress import FakeProgress
from ota_agent import log
from ota_agent.errors import CommandsUnusable, HookNotExecutable, Stopped, TransientError
from ota_agent.host import running
from ota_agent.host.command_refusals import refusal
from ota_agent.host.commands import command_environment, find_program, run_command

if TYPE_CHECKING:
    from collections.abc import Callable

    from ota_agent.host.commands import CommandResult

    Run = Callable[..., CommandResult]
    Write = Callable[..., Path]

pytestmark = pytest.mark.process

ROOT = pytest.mark.root
# Runs until it is ended.
FOREVER = "while :; do sleep 0.05; done"


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def open_descriptors() -> set[str]:
    return {entry.name for entry in Path("/proc/self/fd").iterdir()}


def is_released(reading: int) -> bool:
    """Wait for the end of a pipe: no process holds its other end any more."""
    try:
        return bool(select.select([reading], [], [], 20)[0]) and os.read(reading, 1) == b""
    finally:
        os.close(reading)


@pytest.fixture
def short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "GRACE_S", 0.2)


# --- what is run --------------------------------------------------------------------------------


def test_hook_of_the_tree_runs_there_with_its_arguments(run: Run, write: Write, tree: Path) -> None:
    write("bin/migrate", '#!/bin/sh\npwd\necho "$@"\n')
    result = run("bin/migrate", "--check", "two words")
    assert result.exit_code == 0
    assert result.output == f"{tree}\n--check two words"


@pytest.mark.parametrize(
    "argv", [("sh", "-c", "echo yes"), ("/usr/bin/env", "echo", "yes"), ("echo", "yes")]
)
def test_program_of_the_device_is_found(run: Run, argv: tuple[str, ...]) -> None:
    assert run(*argv).output == "yes"


def test_bare_name_means_the_file_of_the_tree_first(run: Run, write: Write) -> None:
    write("echo", "#!/bin/sh\necho mine\n")
    assert run("echo", "theirs").output == "mine"


def test_file_of_the_tree_that_is_no_program_does_not_hide_one_of_the_device(
    run: Run, write: Write
) -> None:
    write("echo", "a text about echoes", mode=0o644)
    assert run("echo", "theirs").output == "theirs"


@pytest.mark.parametrize("code", [0, 1, 3, 75, 255])
def test_exit_code_is_the_command_s(run: Run, code: int) -> None:
    assert run("sh", "-c", f"exit {code}").exit_code == code


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGPIPE, signal.SIGTERM])
def test_signal_gives_its_shell_s_exit_code(run: Run, number: signal.Signals) -> None:
    assert run("sh", "-c", f"kill -{number.value} $$").exit_code == 128 + number


def test_command_reads_nothing_and_makes_files_that_others_may_read(run: Run, tree: Path) -> None:
    before = os.umask(0o077)
    try:
        assert run("sh", "-c", "cat; echo > made").exit_code == 0
    finally:
        os.umask(before)
    assert (tree / "made").stat().st_mode & 0o777 == 0o644


def test_command_holds_only_the_descriptors_that_it_is_given(run: Run) -> None:
    reading, writing = os.pipe()
    os.set_inheritable(writing, True)
    try:
        assert run("sh", "-c", "ls /proc/$$/fd").output.split() == ["0", "1", "2"]
        given = run("sh", "-c", "ls /proc/$$/fd", inherit_fds=[writing]).output.split()
    finally:
        os.close(reading)
        os.close(writing)
    assert sorted(given, key=int) == ["0", "1", "2", str(writing)]


# --- its environment and its user ---------------------------------------------------------------


def test_command_sees_its_own_environment_and_nothing_of_the_agent_s(
    run: Run, monkeypatch: pytest.MonkeyPatch, myself: pwd.struct_passwd
) -> None:
    for name in (
        "GITLAB_TOKEN",
        "OTA_AGENT_DEVICE_TOKEN",
        "CREDENTIALS_DIRECTORY",
        "NOTIFY_SOCKET",
        "SUPABASE_KEY",
        "PYTHONPATH",
        "LD_LIBRARY_PATH",
        "OTA_OF_THE_AGENT",
    ):
        monkeypatch.setenv(name, "secret")
    given = {"OTA_RELEASE": "1.4.0-ab", "OTA_AGENT_TOKEN": "secret", "GITLAB_TOKEN": "secret"}
    lines = run("/usr/bin/env", environment=given).output.splitlines()
    assert sorted(lines) == sorted(
        [
            f"HOME={myself.pw_dir}",
            "LANG=C.UTF-8",
            f"LOGNAME={myself.pw_name}",
            "OTA_RELEASE=1.4.0-ab",
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            f"USER={myself.pw_name}",
        ]
    )


def test_user_without_an_entry_gets_a_home_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 4_000_000)
    variables = command_environment({})
    assert (variables["USER"], variables["HOME"]) == ("4000000", "/")


@ROOT
def test_root_s_command_runs_as_the_user_that_was_named(tree: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    script = "id -u; id -g; id -G; echo $HOME; echo by name > /dev/stderr; touch made"
    result = run_command(["sh", "-c", script], tree, 30, {}, FakeProgress(), user=nobody)
    groups = " ".join(map(str, os.getgrouplist("nobody", nobody.pw_gid)))
    assert result.output.splitlines() == [
        str(nobody.pw_uid),
        str(nobody.pw_gid),
        groups,
        nobody.pw_dir,
        "by name",
    ]
    assert (tree / "made").stat().st_uid == nobody.pw_uid


def test_root_that_has_no_right_to_change_users_runs_commands_as_itself(tree: Path) -> None:
    # Root of a container may be nobody else: there, setgroups(2) is refused to it.
    contained = ["unshare", "--user", "--map-root-user"]
    has_unshare = shutil.which("unshare") is not None
    if not has_unshare or subprocess.run([*contained, "true"], check=False).returncode:
        pytest.skip("nobody may make a user namespace here")
    script = (
        "import pwd, sys\n"
        "from pathlib import Path\n"
        "from ota_agent.host.commands import run_command\n"
        "from ota_agent.worker import Unwatched\n"
        "root = pwd.getpwuid(0)\n"
        "done = run_command(['id', '-u'], Path(sys.argv[1]), 30, {}, Unwatched(), user=root)\n"
        "print(done.exit_code, done.output)\n"
    )
    done = subprocess.run(
        [*contained, sys.executable, "-c", script, tree],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("0 0\n", "")


def test_agent_that_may_not_change_users_is_the_device_s_fault() -> None:
    error = refusal("bin/hook", "user", errno.EPERM)
    assert isinstance(error, CommandsUnusable)
    assert "cannot become the user" in error.message


@ROOT
def test_user_who_cannot_enter_the_tree_is_the_device_s_fault(tree: Path) -> None:
    tree.chmod(0o700)
    with pytest.raises(CommandsUnusable, match=r"cannot enter the tree .*: Permission denied"):
        run_command(["true"], tree, 30, {}, FakeProgress(), user=pwd.getpwnam("nobody"))


@ROOT
def test_program_that_the_user_may_not_execute_is_the_device_s_fault(
    tree: Path, write: Write
) -> None:
    write("hook", "#!/bin/sh\n", mode=0o700)
    with pytest.raises(CommandsUnusable, match=r"hook cannot be started .*: Permission denied"):
        run_command(["./hook"], tree, 30, {}, FakeProgress(), user=pwd.getpwnam("nobody"))


def test_root_runs_no_command_without_a_user(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(CommandsUnusable) as raised:
        run_command(["true"], tree, 30, {}, FakeProgress())
    assert "commands.user" in raised.value.hint


def test_plain_user_runs_no_command_as_another(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 4_000_000)
    with pytest.raises(CommandsUnusable, match="only root can run commands as nobody"):
        run_command(["true"], tree, 30, {}, FakeProgress(), user=pwd.getpwnam("nobody"))


# --- what cannot be run -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text", "mode", "sentence"),
    [
        ("bin/hook", "#!/bin/sh\n", 0o644, "bin/hook is not an executable file"),
        ("bin/hook", "echo no first line\n", 0o755, "bin/hook is no program for this device"),
        ("bin/hook", "\x7fELF\x02\x01\x01 of another machine", 0o755, "is no program for this"),
        ("bin/hook", "#!/no/such/interpreter\n", 0o755, "bin/hook names an interpreter that"),
        ("bin/hook/file", "#!/bin/sh\n", 0o755, "bin/hook is not an executable file"),
        ("bin/other", "#!/bin/sh\n", 0o755, "bin/hook does not exist"),
        ("bin", "#!/bin/sh\n", 0o755, "bin/hook is no path of an executable file"),
    ],
)
def test_hook_that_cannot_be_executed_is_the_release_s_fault(
    run: Run, write: Write, name: str, text: str, mode: int, *, sentence: str
) -> None:
    write(name, text, mode)
    with pytest.raises(HookNotExecutable, match=sentence) as raised:
        run("bin/hook")
    assert raised.value.hint.endswith(".")


@pytest.mark.parametrize("name", ["no-such-program", "/no/such/program", "a" * 5000, "a\0b", ""])
def test_program_that_is_nowhere_is_the_release_s_fault(run: Run, name: str) -> None:
    with pytest.raises(HookNotExecutable):
        run(name)


def test_command_without_words_is_the_release_s_fault(tree: Path) -> None:
    with pytest.raises(HookNotExecutable):
        find_program([], tree)


def test_command_that_is_too_long_is_the_release_s_fault(run: Run) -> None:
    with pytest.raises(HookNotExecutable, match="too long arguments"):
        run("echo", "x" * 300_000)


def test_device_without_a_process_to_spare_tries_again_later(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = open_descriptors()

    def fail(*_: object, **__: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(subprocess, "Popen", fail)
    with pytest.raises(TransientError, match="true cannot be started now"):
        run("true")
    assert open_descriptors() == before


# --- its output ---------------------------------------------------------------------------------


def test_flood_of_output_keeps_its_end_and_no_memory(run: Run) -> None:
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result = run("sh", "-c", "yes 0123456 | head -c 200000000; printf '\\nthe end\\n' >&2")
    grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib
    assert result.exit_code == 0
    assert result.output.endswith("\n0123456\n\nthe end")
    assert len(result.output.encode()) <= 4096
    assert grown_kib < 20_000


def test_output_of_any_bytes_is_text_that_is_safe_to_show(run: Run) -> None:
    result = run("sh", "-c", r"printf 'a\377\000\033[31mred\tz\r\n\303\244\n'")
    assert result.output == "a\ufffd\ufffd\ufffd[31mred\tz\nä"


def test_output_written_after_the_descriptors_were_closed_is_no_output(run: Run) -> None:
    assert run("sh", "-c", "echo seen; exec >&- 2>&-; true; exit 4").output == "seen"


# --- its end ------------------------------------------------------------------------------------


def test_command_over_its_time_is_ended(run: Run) -> None:
    result = run("sh", "-c", f"echo begun; echo $$; {FOREVER}", timeout_s=0.5)
    assert result.exit_code == 124
    begun, pid = result.output.splitlines()
    assert begun == "begun"
    assert not is_alive(int(pid))


def test_command_that_floods_is_ended_in_time_too(run: Run) -> None:
    assert run("yes", timeout_s=0.3).exit_code == 124


@pytest.mark.usefixtures("short_grace")
def test_command_that_ignores_sigterm_is_killed(run: Run) -> None:
    script = f"trap '' TERM; echo $$; {FOREVER}"
    result = run("sh", "-c", script, timeout_s=0.5)
    assert result.exit_code == 124
    assert not is_alive(int(result.output))


def test_command_may_clean_up_when_its_time_is_over(run: Run) -> None:
    result = run("sh", "-c", f"trap 'echo cleaned; exit 0' TERM; {FOREVER}", timeout_s=0.5)
    assert result.exit_code == 124
    assert result.output.endswith("cleaned")


def test_command_ends_when_the_work_has_to_end(run: Run, tree: Path) -> None:
    progress = FakeProgress()
    progress.end_after(3, Stopped())
    with pytest.raises(Stopped):
        run("sh", "-c", f"echo $$ > pid; {FOREVER}", progress=progress)
    assert not is_alive(int((tree / "pid").read_text()))


def test_work_that_has_to_end_wins_over_a_command_that_ended(run: Run) -> None:
    progress = FakeProgress()
    progress.end(Stopped())
    with pytest.raises(Stopped):
        run("true", progress=progress)


@pytest.mark.parametrize(
    "leave",
    [
        pytest.param("{} & echo $!", id="in the background"),
        pytest.param("({} & echo $!)", id="of a child that ended"),
        pytest.param("setsid sh -c 'echo $$; exec {}' &", id="in a session of its own"),
        pytest.param("(setsid sh -c 'echo $$; exec {}' &)", id="a daemon"),
        pytest.param("(trap '' TERM HUP; setsid sh -c 'echo $$; exec {}' &)", id="a stubborn one"),
    ],
)
@pytest.mark.usefixtures("short_grace")
def test_nothing_that_a_command_started_stays(run: Run, leave: str) -> None:
    result = run("sh", "-c", leave.format("sleep 1000"))
    assert result.exit_code == 0
    assert not is_alive(int(result.output))


def test_child_that_is_about_to_end_is_let_to(run: Run) -> None:
    result = run("sh", "-c", "(sleep 0.1; echo late) & exit 3")
    assert (result.exit_code, result.output) == (3, "late")


def test_command_ends_with_its_agent(tree: Path, write: Write) -> None:
    write("hook", f"#!/bin/sh\necho begun > /dev/fd/$OTA_FD\n{FOREVER}\n")
    agent = """
import os, pwd, sys
from pathlib import Path
sys.path[:0] = sys.argv[3:]
from fakes.progress import FakeProgress
from ota_agent.host.commands import run_command
fd = int(sys.argv[2])
me = pwd.getpwuid(os.geteuid())
environment = {"OTA_FD": str(fd)}
progress = FakeProgress()
run_command(["./hook"], Path(sys.argv[1]), 60, environment, progress, user=me, inherit_fds=[fd])
"""
    reading, writing = os.pipe()
    with subprocess.Popen(
        [sys.executable, "-c", agent, str(tree), str(writing), *sys.path], pass_fds=[writing]
    ) as process:
        os.close(writing)
        begun = os.read(reading, 100)
        process.kill()
    assert begun == b"begun\n"
    assert is_released(reading)


def test_command_that_kills_what_watches_over_it_is_ended_and_blamed_on_nobody(run: Run) -> None:
    reading, writing = os.pipe()
    try:
        with pytest.raises(TransientError, match="watched over sh was killed"):
            run("sh", "-c", f"kill -KILL $PPID; {FOREVER}", inherit_fds=[writing])
    finally:
        os.close(writing)
    assert is_released(reading)


def test_command_that_the_kernel_does_not_let_go_is_given_up(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "_END_S", 0.0)
    with pytest.raises(TransientError):
        run("sh", "-c", f"trap '' TERM; {FOREVER}", timeout_s=0.3)


def test_process_that_cannot_be_ended_is_said_in_the_log(
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    reaper = tmp_path / "reaper.py"
    verdict = b"left 2\nsurvived\nended 3\n"
    reaper.write_text(f"import os, sys; os.write(int(sys.argv[2]), {verdict!r})")
    monkeypatch.setattr(running, "_REAPER", reaper)
    log.configure("json")
    assert run("true").exit_code == 3
    said = [json.loads(line)["event"] for line in capsys.readouterr().err.splitlines()]
    assert said == ["command left processes behind", "command cannot be ended"]


def test_agent_keeps_no_descriptor_of_its_commands(run: Run) -> None:
    run("true")
    before = open_descriptors()
    run("true")
    run("sh", "-c", f"{FOREVER}", timeout_s=0.2)
    with pytest.raises(HookNotExecutable):
        run("no-such-program")
    assert open_descriptors() == before
