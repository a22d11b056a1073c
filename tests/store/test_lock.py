from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pytest
from typing_extensions import override

from fakes.progress import FakeProgress
from ota_agent import __version__
from ota_agent.errors import Locked, Stopped
from ota_agent.store import lock
from ota_agent.store.lock import AgentLock, ChildrenLock, Owner
from ota_agent.store.paths import Paths

if TYPE_CHECKING:
    from collections.abc import Iterator

HOLD = """
import sys
from pathlib import Path
from ota_agent.store.lock import AgentLock
from ota_agent.store.paths import Paths
lock = AgentLock(Paths(Path(sys.argv[1])))
lock.acquire("device-1")
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Paths:
    monkeypatch.setattr(lock, "LOOK_S", 0)
    found = Paths(tmp_path)
    found.private_dir.mkdir(mode=0o700)
    return found


@contextmanager
def agent(paths: Paths) -> Iterator[subprocess.Popen[str]]:
    """Run another agent, as far as its lock goes."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(paths.work_dir)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def child(*descriptors: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run a child that lives until the block ends, with these descriptors handed to it."""
    command = ["cat"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=descriptors) as process:
        try:
            yield process
        finally:
            process.kill()


# --- the agent ----------------------------------------------------------------------------------


def test_lock_tells_who_has_it(paths: Paths) -> None:
    taken = AgentLock(paths)
    assert taken.owner() is None
    owner = taken.acquire("device-1")
    assert (owner.pid, owner.device_id, owner.version) == (os.getpid(), "device-1", __version__)
    assert owner.boot_id == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    found = AgentLock(paths).owner()
    assert found is not None
    assert found.started_at is not None
    assert owner.started_at is not None
    assert abs(found.started_at - owner.started_at).total_seconds() < 0.001
    assert found.pid == os.getpid()
    taken.release()


def test_lock_can_be_taken_again_once_it_is_free(paths: Paths) -> None:
    first, second = AgentLock(paths), AgentLock(paths)
    first.acquire("a-device-with-a-long-name")
    with pytest.raises(Locked):
        second.acquire("device-1")
    for _ in range(2):
        first.release()
    second.acquire("device-1")
    found = first.owner()
    assert found is not None
    assert found.device_id == "device-1"
    second.release()
    assert first.owner() is None


def test_host_without_a_boot_id_has_none(
    paths: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "BOOT_ID", tmp_path / "absent")
    taken = AgentLock(paths)
    assert taken.acquire("device-1").boot_id == ""
    taken.release()


@pytest.mark.parametrize("written", [b"", b"{", b"[]", b"{}", b"\xff"])
def test_owner_that_has_not_written_yet_is_still_an_owner(paths: Paths, written: bytes) -> None:
    paths.lock_file.write_bytes(written)
    with paths.lock_file.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert AgentLock(paths).owner() == Owner()
        with pytest.raises(Locked, match=f"^Another agent works on {paths.work_dir}\\.$"):
            AgentLock(paths).acquire("device-1")


def test_look_of_a_moment_is_no_second_agent(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = AgentLock(paths)
    with paths.lock_file.open("wb") as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        monkeypatch.setattr(time, "sleep", lambda _s: fcntl.flock(looking, fcntl.LOCK_UN))
        taken.acquire("device-1")
    taken.release()


def test_look_that_is_not_allowed_finds_nobody(
    paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_args: object, **_options: object) -> NoReturn:
        raise PermissionError

    taken = AgentLock(paths)
    taken.acquire("device-1")
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse)
        assert AgentLock(paths).owner() is None
    taken.release()


@pytest.mark.root
def test_other_user_finds_nobody_and_no_traceback(paths: Paths) -> None:
    taken = AgentLock(paths)
    taken.acquire("device-1")
    os.seteuid(65534)
    try:
        assert AgentLock(paths).owner() is None
    finally:
        os.seteuid(0)
    taken.release()


@pytest.mark.process
def test_second_agent_is_told_the_pid_of_the_first(paths: Paths) -> None:
    with agent(paths) as first:
        with pytest.raises(Locked, match=f"pid {first.pid}, device device-1"):
            AgentLock(paths).acquire("device-1")
        found = AgentLock(paths).owner()
        assert found is not None
        assert found.pid == first.pid


@pytest.mark.process
def test_agent_that_was_killed_holds_nothing(paths: Paths) -> None:
    with agent(paths) as first:
        first.send_signal(signal.SIGKILL)
        first.wait()
        assert str(first.pid) in paths.lock_file.read_text()
        assert AgentLock(paths).owner() is None
        taken = AgentLock(paths)
        assert taken.acquire("device-1").pid == os.getpid()
        taken.release()


@pytest.mark.process
def test_children_do_not_hold_the_agent_s_lock(paths: Paths) -> None:
    first, second = AgentLock(paths), AgentLock(paths)
    first.acquire("device-1")
    with child():
        first.release()
        second.acquire("device-1")
    second.release()


# --- its children -------------------------------------------------------------------------------


def test_lock_of_the_children_is_free_where_there_are_none(paths: Paths) -> None:
    progress = FakeProgress()
    children = ChildrenLock(paths)
    children.wait_free(10, progress)
    assert progress.waits == []
    assert not os.get_inheritable(children.fd)
    children.release()


@pytest.mark.process
def test_child_that_outlives_its_agent_is_waited_for_and_named(paths: Paths) -> None:
    old = ChildrenLock(paths)
    old.wait_free(0, FakeProgress())
    with child(old.fd) as left:
        old.release()
        new, progress = ChildrenLock(paths), FakeProgress()
        with pytest.raises(Locked, match=rf"\(pid {left.pid}\)") as caught:
            new.wait_free(2, progress)
        assert sum(progress.waits) == pytest.approx(2)
        assert "End these processes" in caught.value.hint
        left.kill()
        left.wait()
        new.wait_free(0, FakeProgress())
        new.release()


@pytest.mark.process
def test_wait_is_over_when_the_last_child_ends(paths: Paths) -> None:
    old = ChildrenLock(paths)
    old.wait_free(0, FakeProgress())
    with child(old.fd) as first, child(old.fd) as second:
        old.release()
        left = [first, second]

        class Ending(FakeProgress):
            @override
            def wait(self, seconds: float) -> None:
                super().wait(seconds)
                one = left.pop()
                one.kill()
                one.wait()

        new, progress = ChildrenLock(paths), Ending()
        new.wait_free(60, progress)
        assert (left, len(progress.waits)) == ([], 2)
        new.release()


@pytest.mark.process
def test_child_that_ends_does_not_end_the_lock_of_the_others(paths: Paths) -> None:
    children, foreign = ChildrenLock(paths), ChildrenLock(paths)
    children.wait_free(0, FakeProgress())
    with child(children.fd):
        pass
    with pytest.raises(Locked):
        foreign.wait_free(0, FakeProgress())
    children.release()
    foreign.wait_free(0, FakeProgress())
    foreign.release()


@pytest.mark.process
def test_child_that_was_not_handed_the_lock_does_not_hold_it(paths: Paths) -> None:
    children = ChildrenLock(paths)
    children.wait_free(0, FakeProgress())
    with child():
        children.release()
        new = ChildrenLock(paths)
        new.wait_free(0, FakeProgress())
        new.release()


def test_wait_ends_when_the_agent_is_asked_to_end(paths: Paths) -> None:
    progress = FakeProgress()
    progress.end_after(3, Stopped())
    with paths.children_lock_file.open("wb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        children = ChildrenLock(paths)
        with pytest.raises(Stopped):
            children.wait_free(60, progress)
        children.release()


def test_holders_are_found_among_what_may_be_looked_at(
    paths: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    children = ChildrenLock(paths)
    proc = tmp_path / "proc"
    open_files = {
        "1200": [paths.children_lock_file],
        "90": [tmp_path / "closed-meanwhile", tmp_path, paths.children_lock_file],
        "7": [tmp_path],
        "self": [paths.children_lock_file],
        str(os.getpid()): [paths.children_lock_file],
    }
    for process, files in open_files.items():
        (proc / process / "fd").mkdir(parents=True)
        for number, file in enumerate(files):
            (proc / process / "fd" / str(number)).symlink_to(file)
    (proc / "8").mkdir()
    monkeypatch.setattr(lock, "PROC", proc)
    assert children.holders() == [90, 1200]
    children.release()


def test_children_that_cannot_be_named_are_waited_for_all_the_same(
    paths: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "proc").mkdir()
    monkeypatch.setattr(lock, "PROC", tmp_path / "proc")
    children = ChildrenLock(paths)
    with paths.children_lock_file.open("wb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(Locked, match=f"earlier agent still work on {paths.work_dir}"):
            children.wait_free(0, FakeProgress())
    children.release()
