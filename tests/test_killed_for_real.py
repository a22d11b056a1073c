"""The real program is killed at random moments, over and over, while its publisher goes on."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from shelf import names_in, tree_at, tree_of
from trees import contents

from fakes.object_store import Executable
from ota_agent.host.clock import SystemClock
from ota_agent.host.reaper import descendants
from ota_agent.store import atomic
from ota_agent.store.database import Database
from ota_agent.store.journal import Journal
from ota_agent.store.lock import ChildrenLock
from ota_agent.store.paths import Paths
from servers.git_http import Fault, GitHttpServer
from servers.publisher import Publisher

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from fakes.object_store import Content
    from ota_agent.model.deployment import Phase

pytestmark = [pytest.mark.process, pytest.mark.slow]

PROGRAM = [sys.executable, "-m", "ota_agent"]
SEED = int(os.environ.get("KILLS_SEED", "20260301"))
KILLS = int(os.environ.get("KILLS", "25"))
EACH = 5  # kills after which the device is left alone until it has taken a good release
PATIENCE_S = 60.0
SHARE_OF_GOOD = 0.6
MOMENTS_S = (0.2, 1.6)  # after the start; a whole update takes about as long
ATTENTION_S = 1.5  # more than a start takes until it would act


def eventually(is_so: Callable[[], object], what: str) -> None:
    until = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < until, what
        time.sleep(0.02)


class Device:
    """A work_dir, and the agent's process that comes and goes."""

    def __init__(self, place: Path, url: str) -> None:
        self.paths = Paths(place / "device")
        self.releases: dict[str, Mapping[str, Content]] = {}
        self.agent: subprocess.Popen[bytes] | None = None
        self._log = (place / "agent.log").open("ab")
        self._config = place / "config.json"
        commands = {"user": "root"} if os.geteuid() == 0 else {}
        settings = {
            "work_dir": str(self.paths.work_dir),
            "source": {"type": "git", "url": url, "channel": "branch:main"},
            "poll_interval_s": 1,
            "commands": commands,
            "trust": {"accept_unsigned_commands": True},
        }
        self._config.write_text(json.dumps(settings))

    def start(self) -> subprocess.Popen[bytes]:
        arguments = ["run", "--device-id", "d", "--config", str(self._config)]
        self.agent = subprocess.Popen(
            [*PROGRAM, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
        )
        return self.agent

    def kill(self, *, alone: bool = False) -> None:
        """Kill the agent, and whatever it has started unless it is to be `alone`."""
        assert self.agent is not None
        pids = [self.agent.pid] if alone else [self.agent.pid, *descendants(self.agent.pid)]
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue  # it has come to its own end
        self.agent.wait()
        self.agent = None

    def close(self) -> None:
        if self.agent is not None:
            self.kill()
        self._log.close()

    def ask(self, *arguments: str) -> Any:  # noqa: ANN401 - whatever the command prints
        done = subprocess.run(
            [*PROGRAM, *arguments, "--json", "--config", str(self._config)],
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode()
        return json.loads(done.stdout)

    def shown(self) -> dict[str, Any]:
        """Read what the running agent shows; empty while it has shown nothing yet."""
        try:
            found: dict[str, Any] = json.loads(self.paths.status_file.read_bytes())
        except FileNotFoundError:
            return {}
        pid = found["agent"] and found["agent"]["pid"]
        return found if self.agent is not None and pid == self.agent.pid else {}

    def is_idle_on(self, commit: str) -> bool:
        shown = self.shown()
        return bool(shown) and (shown["live"] or {}).get("commit") == commit and not shown["phase"]

    def phase(self) -> Phase | None:
        """Read the journal of a dead agent."""
        if not self.paths.database_file.exists():
            return None
        with closing(Database.open(self.paths.database_file)) as database:
            found = Journal(database, SystemClock()).in_flight()
            return None if found is None else found.phase

    def live(self) -> str | None:
        link = self.paths.live_link
        return link.readlink().name if link.is_symlink() else None

    def assert_live_is_whole(self) -> None:
        """Compare what the links name with what was published."""
        for link in (self.paths.live_link, self.paths.previous_link):
            if link.is_symlink():
                release = link.readlink().name
                (files,) = [
                    files
                    for commit, files in self.releases.items()
                    if release.endswith(commit[:12])
                ]
                assert tree_at(self.paths.release_dir(release)) == tree_of(files, ["data"])

    def assert_history_adds_up(self) -> None:
        """Each deployment begins where the one before it ended, and the last one ends at live."""
        live = None
        for one in reversed(self.ask("history", "--limit", "1000")):
            assert one["from"] == live
            assert one["ending"] in {"succeeded", "abandoned", "rolled_back"}
            if one["ending"] == "succeeded":
                live = one["release"]
        status = self.ask("status")
        assert live == self.live() == status["live"]["release"]
        assert status["phase"] is None
        assert status["live"] == status["last_good"] | {"since": status["live"]["since"]}

    def assert_nothing_is_left(self) -> None:
        private = self.paths.private_dir
        assert [*self.paths.work_dir.rglob(f"{atomic.TEMP_PREFIX}*")] == []
        assert names_in(self.paths.staging_dir) == names_in(self.paths.scratch_dir) == []
        assert [path for path in self.paths.backups_dir.iterdir() if path.name[0] == "."] == []
        kept = names_in(self.paths.releases_dir)
        refs = subprocess.run(
            ["git", f"--git-dir={private / 'repo.git'}", "for-each-ref", "--format=%(refname)"],
            capture_output=True,
            check=True,
        )
        held = [ref for ref in refs.stdout.decode().split() if ref.startswith("refs/ota/")]
        assert sorted(ref.removeprefix("refs/ota/") for ref in held) == kept


def release(number: int, *, is_good: bool, dice: random.Random) -> dict[str, Content]:
    probe = "app/main" if is_good else "app/absent"
    manifest = f"""
        version = "1.0.{number}"
        [probation]
        seconds = 0.3
        [[probe]]
        file = "{probe}"
        interval_s = 0.1
        required = 1
        [hooks]
        post_activate = ["bin/migrate"]
        [[persist]]
        path = "data"
        backup = true
    """
    script = f"#!/bin/sh\necho schema {number} > data/db\nsleep 0.1\n"
    return {
        "app/main": b"program %d" % number,
        "app/large": dice.randbytes(300_000),
        "bin/migrate": Executable(script.encode()),
        "data/db": b"seed",
        "ota.toml": manifest.encode(),
        **{f"lib/{name}": b"part %d" % (number // (name + 1)) for name in range(40)},
    }


@pytest.fixture
def publisher(tmp_path: Path) -> Publisher:
    return Publisher(tmp_path / "served")


@pytest.fixture
def device(tmp_path: Path, publisher: Publisher) -> Iterator[Device]:
    device = Device(tmp_path, publisher.url)
    yield device
    device.close()


def test_device_that_is_killed_over_and_over_always_has_a_whole_release(
    device: Device, publisher: Publisher, capsys: pytest.CaptureFixture[str]
) -> None:
    dice = random.Random(SEED)  # noqa: S311 - a seed makes a failure come again
    number, kills = 0, Counter[str]()

    def publish(*, is_good: bool) -> str:
        nonlocal number
        number += 1
        files = release(number, is_good=is_good, dice=dice)
        commit = publisher.publish(files)
        device.releases[commit] = files
        return commit

    for count in range(1, KILLS + 1):
        publish(is_good=dice.random() < SHARE_OF_GOOD)
        device.start()
        time.sleep(dice.uniform(*MOMENTS_S))
        device.kill()
        kills[str(device.phase() or "idle")] += 1
        device.assert_live_is_whole()
        if count % EACH and count != KILLS:
            continue
        device.start()
        commit = publish(is_good=True)
        eventually(lambda: device.is_idle_on(commit), f"{commit} does not go live")  # noqa: B023 - called before the next turn
        device.assert_live_is_whole()
        device.assert_history_adds_up()
        assert contents(device.paths.persist_dir) == {"data/db": b"schema %d\n" % number}
        agent = device.agent
        assert agent is not None
        agent.terminate()
        assert agent.wait(PATIENCE_S) == 0
        device.assert_nothing_is_left()
    endings = Counter(one["ending"] for one in device.ask("history", "--limit", "1000"))
    with capsys.disabled():
        counts = ", ".join(f"{name} {count}" for name, count in sorted((kills + endings).items()))
        print(f"\nkilled {KILLS} times, in its phases and with its endings: {counts}")  # noqa: T201 - evidence
    assert kills.total() == KILLS
    assert kills.keys() - {"idle"}


STUBBORN = """#!/bin/sh
trap '' TERM HUP INT
if [ -e {place}/goes-well ]; then exit 0; fi
echo $$ > {place}/pid
while :; do sleep 0.05; done
"""


def is_alive(pid: int) -> bool:
    """Tell whether a process runs; one that nobody has buried yet does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def test_new_agent_never_works_beside_a_hook_of_a_dead_one(
    device: Device, publisher: Publisher, tmp_path: Path
) -> None:
    dice = random.Random(SEED)  # noqa: S311 - a seed makes a failure come again
    first = release(1, is_good=True, dice=dice)
    device.releases[publisher.publish(first)] = first
    device.start()
    eventually(lambda: device.is_idle_on(publisher.head()), "the first release does not go live")
    before = device.live()
    stubborn = STUBBORN.format(place=tmp_path).encode()
    second = release(2, is_good=True, dice=dice) | {"bin/migrate": Executable(stubborn)}
    device.releases[publisher.publish(second)] = second
    eventually((tmp_path / "pid").exists, "the hook does not run")
    eventually((tmp_path / "pid").read_text, "the hook does not say who it is")
    hook, after = int((tmp_path / "pid").read_text()), device.live()
    assert before != after
    device.kill(alone=True)
    (tmp_path / "goes-well").touch()
    device.start()
    seen_beside = 0
    while is_alive(hook):
        seen_beside += 1
        # What the new agent does first is to put the old release back.
        assert device.shown() == {}
        assert device.live() == after
        time.sleep(0.02)
    assert seen_beside > 1
    eventually(lambda: device.is_idle_on(publisher.head()), "the release is not tried again")
    assert [one["ending"] for one in device.ask("history")] == [
        *("succeeded", "rolled_back", "succeeded")
    ]
    device.assert_live_is_whole()


@pytest.mark.network
def test_new_agent_never_works_beside_a_git_of_a_dead_one(
    publisher: Publisher, tmp_path: Path
) -> None:
    dice = random.Random(SEED)  # noqa: S311 - a seed makes a failure come again
    with GitHttpServer(publisher.path.parent) as server:
        device = Device(tmp_path, server.url())
        first = release(1, is_good=True, dice=dice)
        device.releases[publisher.publish(first)] = first
        server.fault = Fault("POST", skip=2, times=1, pause_after=50_000)
        try:
            device.start()
            eventually(server.is_paused.is_set, "nothing is fetched")
            device.kill(alone=True)
            lock = ChildrenLock(device.paths)
            gits = lock.holders()
            lock.release()
            assert gits
            asked = len(server.requests)
            agent = device.start()
            began = time.monotonic()
            while time.monotonic() < began + ATTENTION_S:
                assert device.shown() == {}
                assert len(server.requests) == asked
                time.sleep(0.05)
            assert agent.poll() is None
            server.go_on.set()
            commit = publisher.head()
            eventually(lambda: device.is_idle_on(commit), "the release does not go live")
            assert not any(map(is_alive, gits))
            device.assert_live_is_whole()
        finally:
            server.go_on.set()
            device.close()
