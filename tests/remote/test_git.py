"""Git's surroundings, its life and its end."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fakes.object_store import Executable
from fakes.progress import FakeProgress
from ota_agent.errors import (
    DeadlineExceeded,
    DiskFault,
    GitUnusable,
    SourceUnreachable,
    Stopped,
    StoreDamaged,
)
from ota_agent.remote import git as git_module
from ota_agent.remote import git_environment
from ota_agent.remote.access import Credentials, access
from ota_agent.remote.git import Git
from servers.git_http import Fault

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fakes.object_store import Content
    from ota_agent.remote.git_objects import GitObjects
    from servers.git_http import GitHttpServer
    from servers.publisher import Publisher

pytestmark = pytest.mark.process

TOKEN = "t0ken-of-device"
SOME = {f"d{n % 9}/f{n}": os.urandom(4000) for n in range(60)}


def script(directory: Path, text: str, name: str = "git") -> str:
    """Make a program that stands in for git."""
    file = directory / "bin" / name
    file.parent.mkdir(exist_ok=True)
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(0o755)
    return str(file)


def processes_of(private: Path) -> list[Path]:
    """List the processes whose HOME is below git's own directory."""
    wanted = f"HOME={private}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and wanted in (entry / "environ").read_bytes():
                found.append(entry)
        except OSError:
            continue  # ended meanwhile
    return found


def all_end(private: Path) -> bool:
    """Wait for what was killed to be gone: the kernel takes its moment."""
    pause = threading.Event()
    return any(not processes_of(private) or pause.wait(0.02) for _ in range(250))


class Fetching:
    """A fetch that is under way in a thread, and how it ended."""

    def __init__(self, git: Git, objects: GitObjects, url: str) -> None:
        self.progress = FakeProgress()
        self.ended: list[BaseException | None] = []
        self._work = (git, objects, access(url, credentials=Credentials("oauth2", TOKEN)))
        self.thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        git, objects, reached = self._work
        try:
            git.run(
                *("fetch", "--progress", "--depth=1", "--no-write-fetch-head"),
                *(reached.url, "+refs/heads/main:refs/fetched/offer"),
                git_dir=objects.path,
                access=reached,
                progress=self.progress,
            )
        except (Stopped, SourceUnreachable) as error:
            self.ended.append(error)
        else:
            self.ended.append(None)


@contextmanager
def fetching(
    git: Git, objects: GitObjects, server: GitHttpServer, publisher: Publisher
) -> Iterator[Fetching]:
    """Give a fetch in the middle of its pack: the server has fallen silent."""
    publisher.publish(SOME)
    server.fault = Fault("POST", skip=1, pause_after=50_000)
    running = Fetching(git, objects, server.url())
    running.thread.start()
    try:
        assert server.is_paused.wait(20)
        yield running
    finally:
        server.go_on.set()
        running.progress.end(Stopped())
        running.thread.join(20)


def test_version_is_told(git: Git) -> None:
    assert git.check_version().startswith("2.")


def test_git_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(GitUnusable, match="no-such-git"):
        Git(tmp_path / "git", executable="no-such-git").check_version()


def test_git_that_is_too_old_is_named_with_its_path(tmp_path: Path) -> None:
    old = script(tmp_path, "echo git version 2.30.2")
    with pytest.raises(GitUnusable, match=r"2\.30\.2") as refused:
        Git(tmp_path / "git", executable=old).check_version()
    assert old in str(refused.value)


def test_what_is_no_git_is_told(tmp_path: Path) -> None:
    with pytest.raises(GitUnusable, match="something else"):
        Git(tmp_path / "git", executable=script(tmp_path, "echo something else")).check_version()
    broken = tmp_path / "broken"
    broken.write_bytes(b"\x7fELF, and no more")
    broken.chmod(0o755)
    with pytest.raises(GitUnusable):
        Git(tmp_path / "git", executable=str(broken)).check_version()


@pytest.mark.parametrize(
    ("does", "told"),
    [
        ("exit 127", r"tells no version \(exit code 127\)"),
        ("kill -SEGV $$", r"tells no version \(exit code -11\)"),
        ("echo git version 2.45.0; exit 3", r"tells no version \(exit code 3\)"),
        ("exec sleep 1000", "does not answer"),
    ],
)
def test_broken_git_is_told_in_a_sentence_and_soon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, does: str, told: str
) -> None:
    monkeypatch.setattr(git_module, "VERSION_TIMEOUT_S", 0.3)
    with pytest.raises(GitUnusable, match=told):
        Git(tmp_path / "git", executable=script(tmp_path, does)).check_version()


FIRST_GIT = """
import sys
from pathlib import Path
from ota_agent.errors import GitUnusable
from ota_agent.remote.git import Git
assert "git" not in sys.modules
try:
    Git(Path(sys.argv[1])).check_version()
except GitUnusable as error:
    print(error)
"""


def test_broken_git_does_not_fail_the_import_of_the_library(tmp_path: Path) -> None:
    program = script(tmp_path, f"echo run >>{tmp_path}/runs; exit 127")
    path = f"{Path(program).parent}:{os.environ['PATH']}"
    # GIT_PYTHON_REFRESH is what a person may have set; git is run once, by the agent.
    environment = {**os.environ, "PATH": path, "GIT_PYTHON_REFRESH": "raise"}
    done = subprocess.run(
        [sys.executable, "-c", FIRST_GIT, str(tmp_path / "private")],
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    assert "tells no version (exit code 127)" in done.stdout
    assert (tmp_path / "runs").read_text() == "run\n"


def test_missing_env_is_told_without_the_names_of_the_agents_variables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = script(tmp_path, "echo git version 2.45.0")
    monkeypatch.setenv("SOMETHING", "foreign")
    monkeypatch.setenv("PATH", str(Path(program).parent))
    with pytest.raises(GitUnusable, match="'env'") as refused:
        Git(tmp_path / "git", executable=program).run("version")
    assert "SOMETHING" not in refused.value.message


def test_missing_interpreter_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOMETHING", "foreign")
    program = script(tmp_path, "")
    Path(program).write_text("#!/no/such/interpreter\n")
    with pytest.raises(GitUnusable):
        Git(tmp_path / "git", executable=program).run("version")


def test_program_that_cannot_be_run_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # With nothing to take away git is started itself, not through env(1).
    for name in set(os.environ) - git_environment.KEPT:
        if name not in {"HOME", "LC_ALL", "LANGUAGE"}:
            monkeypatch.delenv(name)
    program = tmp_path / "git-of-another-machine"
    program.write_bytes(b"\x7fELF, and no more")
    program.chmod(0o755)
    with pytest.raises(GitUnusable, match="Exec format"):
        Git(tmp_path / "git", executable=str(program)).run("version")


def test_private_directory_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DiskFault):
        Git(tmp_path / "file/git").run("version")


def test_agents_environment_and_the_users_configuration_stay_outside(
    git: Git, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gitconfig").write_text("[alias]\n\tversion = !echo hijacked\n[a]\n\tb = c\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    monkeypatch.setenv("GITLAB_TOKEN", "secret-of-the-agent")
    monkeypatch.setenv("LD_PRELOAD_LIKE", "anything")
    shown = Git(tmp_path / "other", executable=script(tmp_path, "env; pwd")).run("show").text
    assert "secret-of-the-agent" not in shown
    assert "GIT_DIR" not in shown
    assert "LD_PRELOAD_LIKE" not in shown
    assert f"HOME={tmp_path}/other/home\n" in shown
    assert shown.endswith("/other/home")
    assert git.run("config", "--get", "a.b", allowed=(1,)).text == ""
    assert git.run("config", "--get", "core.hooksPath").text == "/dev/null"


def test_only_the_sources_protocol_is_spoken(git: Git, publisher: Publisher) -> None:
    reached = access("https://git.example.com/fw.git")
    for url in (publisher.url, "ext::echo hijacked", "ssh://127.0.0.1:1/x"):
        with pytest.raises(Exception, match="not allowed"):
            git.run("ls-remote", url, access=reached, progress=FakeProgress())
    with pytest.raises(Exception, match="not allowed"):
        git.run("ls-remote", publisher.url)


def test_children_hold_what_they_are_given(tmp_path: Path) -> None:
    with (tmp_path / "children.lock").open("wb") as lock:
        holder = Git(
            tmp_path / "git",
            executable=script(tmp_path, "ls -l /proc/self/fd"),
            inherit_fds=(lock.fileno(),),
        )
        assert "children.lock" in holder.run("show").text
        assert (
            "children.lock"
            not in Git(tmp_path / "git", executable=script(tmp_path, "ls -l /proc/self/fd"))
            .run("show")
            .text
        )


def test_local_work_has_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(git_module, "LOCAL_TIMEOUT_S", 0.1)
    stuck = Git(tmp_path / "git", executable=script(tmp_path, "sleep 60"))
    with pytest.raises(DeadlineExceeded):
        stuck.run("gc")
    assert all_end(tmp_path / "git")


def test_what_a_git_leaves_behind_does_not_hold_the_agent(tmp_path: Path) -> None:
    leaving = Git(tmp_path / "git", executable=script(tmp_path, "sleep 60 &\necho done"))
    assert leaving.run("gc").text == "done"
    assert all_end(tmp_path / "git")


def test_git_that_ignores_the_first_signal_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ota_agent.remote.child._GRACE_S", 0.1)
    deaf = Git(tmp_path / "git", executable=script(tmp_path, "trap '' TERM\necho up\nsleep 60"))
    progress = FakeProgress()
    progress.end_after(1, Stopped())
    with pytest.raises(Stopped):
        deaf.run("gc", progress=progress)
    assert all_end(tmp_path / "git")


def test_source_that_falls_silent_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(git_module, "_STALL_MARGIN_S", 0.0)
    silent = Git(tmp_path / "git", executable=script(tmp_path, "sleep 60"), stall_s=0.2)
    progress = FakeProgress()
    with pytest.raises(SourceUnreachable, match="Nothing came"):
        silent.run("fetch", access=access("https://git.example.com/fw"), progress=progress)
    assert progress.advances == []


def test_work_that_shows_in_no_message_counts_as_moving(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(git_module, "_STALL_MARGIN_S", 0.0)
    monkeypatch.setattr("ota_agent.remote.child._TICK_S", 0.05)
    # As a transport that gets a packet's bytes one by one: they go from one process to the next.
    slow = script(tmp_path, "for i in 1 2 3 4 5 6 7 8 9; do echo $i; sleep 0.1; done | wc -l")
    moving = Git(tmp_path / "git", executable=slow, stall_s=0.45)
    progress = FakeProgress()
    reached = access("https://git.example.com/fw")
    assert moving.run("fetch", access=reached, progress=progress).text == "9"
    assert len(progress.advances) > 3


@pytest.mark.network
def test_token_is_in_no_argument_list_and_in_no_file(
    git: Git, objects: GitObjects, guarded: GitHttpServer, publisher: Publisher, tmp_path: Path
) -> None:
    header = Credentials("oauth2", TOKEN).header().rpartition(" ")[2]
    with fetching(git, objects, guarded, publisher):
        running = processes_of(tmp_path / "git")
        assert len(running) > 1
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    words = (entry / "cmdline").read_bytes()
                except OSError:
                    continue  # ended meanwhile
                assert TOKEN.encode() not in words
                assert header.encode() not in words
        for directory in (tmp_path / "git", objects.path):
            for file in directory.rglob("*"):
                content = file.read_bytes() if file.is_file() else b""
                assert TOKEN.encode() not in content
                assert header.encode() not in content


@pytest.mark.network
def test_ending_the_work_ends_every_process_of_a_fetch(
    git: Git, objects: GitObjects, server: GitHttpServer, publisher: Publisher, tmp_path: Path
) -> None:
    with fetching(git, objects, server, publisher) as running:
        assert len(processes_of(tmp_path / "git")) > 1
        running.progress.end(Stopped())
        running.thread.join(10)
        assert [type(error) for error in running.ended] == [Stopped]
        assert all_end(tmp_path / "git")


@pytest.mark.network
def test_progress_moves_with_the_bytes(
    git: Git, objects: GitObjects, server: GitHttpServer, publisher: Publisher
) -> None:
    publisher.publish(SOME)
    running = Fetching(git, objects, server.url())
    running._run()
    assert running.ended == [None]
    counts = [done for done, _ in running.progress.advances]
    assert counts == sorted(counts)
    assert counts[-1] == pytest.approx(240_000, rel=0.05)


@pytest.mark.network
@pytest.mark.slow
def test_stalled_transfer_is_given_up_and_a_slow_one_is_not(
    objects: GitObjects, server: GitHttpServer, publisher: Publisher, tmp_path: Path
) -> None:
    git = Git(tmp_path / "git", stall_s=1)
    publisher.publish({"a": os.urandom(1500)})
    server.fault = Fault("POST", skip=1, drip=(400, 0.4))
    slow = Fetching(git, objects, server.url())
    slow._run()
    assert slow.ended == [None]
    publisher.publish(SOME)
    server.fault = Fault("POST", skip=1, pause_after=50_000)
    stalled = Fetching(git, objects, server.url())
    stalled._run()
    assert [type(error) for error in stalled.ended] == [SourceUnreachable]


def test_conversation_that_ends_badly_is_told(objects: GitObjects, tmp_path: Path) -> None:
    objects.path.joinpath("HEAD").unlink()
    with pytest.raises(StoreDamaged, match="not a git repository"):
        list(objects.contents(["1" * 40], FakeProgress()))


def test_filters_and_hooks_of_a_release_do_nothing(
    git: Git, objects: GitObjects, publisher: Publisher, tmp_path: Path
) -> None:
    trap = f"touch {tmp_path}/hijacked"
    hostile: dict[str, Content] = {
        ".gitattributes": b"* filter=evil diff=evil text eol=crlf\n",
        ".gitconfig": f'[filter "evil"]\n\tsmudge = {trap}\n'.encode(),
        "hooks/post-checkout": Executable(f"#!/bin/sh\n{trap}\n".encode()),
        "a.txt": b"as it is\n",
    }
    commit = publisher.publish(hostile)
    reached = access(publisher.url)
    refspec = "+refs/heads/main:refs/fetched/offer"
    git.run("fetch", "-q", reached.url, refspec, git_dir=objects.path, access=reached)
    entries = objects.listing(objects.tree_of(commit), FakeProgress())
    (wanted,) = [entry.oid for entry in entries if entry.path == "a.txt"]
    ((_, stream),) = objects.contents([wanted], FakeProgress())
    assert stream.read() == b"as it is\n"
    assert not (tmp_path / "hijacked").exists()
