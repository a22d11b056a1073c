"""A device on fakes that can lose its power: its disk is real, all around it is told what to do.

`Machine` is wired like the agent, without the loop and its threads. What outlives a crash is the
work_dir, the object store, the source and the surroundings; `power_off` drops all the rest.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias
from unittest import mock

from cutting import effect
from semver import Version
from shelf import names_in, tree_at, tree_of
from typing_extensions import override

from fakes.clock import FakeClock
from fakes.host import FakeHost
from fakes.object_store import Content, FakeObjectStore
from fakes.progress import FakeProgress
from fakes.release_source import FakeReleaseSource
from ota_agent.config import Backups, Config, Disk, Source
from ota_agent.detect.lookout import Able, Lookout
from ota_agent.errors import NotYet, SourceNotAsked
from ota_agent.model.deployment import Phase
from ota_agent.model.manifest import parse_manifest
from ota_agent.model.verdict import Candidate
from ota_agent.store import atomic, durable, records, workdir
from ota_agent.store.backups import BackupStore
from ota_agent.store.ballast import Ballast
from ota_agent.store.database import Database
from ota_agent.store.journal import Journal
from ota_agent.store.memory import Memory
from ota_agent.store.paths import Paths
from ota_agent.store.releases import ReleaseStore
from ota_agent.store.trust import TrustFile
from ota_agent.update.device import Device, Rules
from ota_agent.update.device import Disk as DeviceDisk
from ota_agent.update.manager import OTAManager
from ota_agent.update.recovery import recover

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ota_agent.model.deployment import Deployment
    from ota_agent.model.release import Offer
    from ota_agent.model.verdict import NoCandidate

Files: TypeAlias = Mapping[str, Content]


class Objects(FakeObjectStore):
    """The object store of a device; what it keeps outlives a crash, so each change is an effect."""

    @override
    def receive(self, other: FakeObjectStore, commit: str) -> int:
        effect(f"objects.receive {commit}")
        return super().receive(other, commit)

    @override
    def keep(self, release: str, commit: str) -> None:
        effect(f"objects.keep {release}")
        super().keep(release, commit)

    @override
    def drop(self, release: str) -> None:
        effect(f"objects.drop {release}")
        super().drop(release)

    @override
    def set_aside(self) -> None:
        effect("objects.set_aside")
        super().set_aside()


class Drive(FakeProgress):
    """The way to the loop of a deployment; `phases` are those that began, in order."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__(clock)
        self.phases: list[str] = []

    def begin(self, phase: str, deadline_s: float) -> None:
        self.phases.append(phase)
        self.check()


@dataclass
class Machine:
    """One device; `files` holds what was published, by commit.

    Attributes:
        config: keys of the configuration that are not as in most tests.
        edited: what was edited by hand, by release and path.
        held: why the deployment that was driven last waits, None when it does not.

    """

    work_dir: Path
    config: dict[str, Any] = field(default_factory=dict)
    clock: FakeClock = field(default_factory=FakeClock)
    host: FakeHost = field(default_factory=FakeHost)
    edited: dict[str, dict[str, bytes]] = field(default_factory=dict)
    held: NotYet | None = None

    def __post_init__(self) -> None:
        self.work_dir.parent.mkdir(parents=True, exist_ok=True)
        self.paths = Paths(self.work_dir)
        self.objects = Objects()
        self.source = FakeReleaseSource(self.objects)
        self.files: dict[str, Files] = {}
        self.progress = Drive(self.clock)
        self._database: Database | None = None
        self._is_prepared = False

    # --- power ------------------------------------------------------------------------------------

    def start(self) -> Deployment | None:
        """Start the agent as `wiring` does; give the deployment that an earlier life left."""
        if not self._is_prepared:
            workdir.prepare(self.paths)
            self._is_prepared = True
        workdir.clear_litter(self.paths)
        ballast = Ballast(self.paths)
        database = ballast.relieve(
            lambda: Database.open(self.paths.database_file, may_set_aside=True)
        )
        self._database = database
        database.rows("PRAGMA synchronous=OFF")  # a crash keeps what a power cut would lose
        self.objects.prepare()
        self.disk = DeviceDisk(
            paths=self.paths,
            database=database,
            journal=Journal(database, self.clock),
            objects=self.objects,
            releases=ReleaseStore(self.paths, self.objects, database),
            backups=BackupStore(self.paths),
            ballast=ballast,
        )
        self.disk.releases.empty_staging()
        settings = {
            "work_dir": self.work_dir,
            "source": Source(type="git", url="https://git.example.com/fw.git"),
            "disk": Disk(reserve_bytes=0, reserve_inodes=0),
            "backups": Backups(),
        }
        config = Config(**{**settings, **self.config})
        self.lookout = Lookout(
            config,
            self.source,
            database,
            self.clock,
            Able(Version(1)),
        )
        self.device = Device(
            device_id="bench",
            config=config,
            disk=self.disk,
            source=self.source,
            host=self.host,
            clock=self.clock,
            rules=Rules(self.lookout.judge, self.lookout.reconsider),
            clock_is_set=lambda: True,
            data_owner=None,
        )
        self.memory = Memory(database, TrustFile(self.paths.trust_file))
        ballast.relieve(lambda: recover(self.device, self.memory))
        ballast.hold()
        self.manager = OTAManager(self.device, self.memory)
        return self.manager.resume()

    def power_off(self) -> None:
        """End the agent without a word: nothing but the disk is left."""
        if self._database is not None:
            self._database.close()
            self._database = None

    def stop(self) -> None:
        """End the agent as SIGTERM does."""
        self.manager.stopped()
        self.power_off()

    def start_again(self) -> Deployment | None:
        """Power off, start, and take what was in flight to its end."""
        self.power_off()
        return self.settle(self.start())

    def phase_on_disk(self) -> Phase | None:
        """Read what the journal holds while no agent runs."""
        if not self.paths.database_file.exists():
            return None
        with closing(Database.open(self.paths.database_file)) as database:
            found = Journal(database, self.clock).in_flight()
            return None if found is None else found.phase

    # --- what the loop does -----------------------------------------------------------------------

    def settle(self, deployment: Deployment | None) -> Deployment | None:
        """Take a deployment to its end; `held` tells why it waits where it does."""
        self.held = None
        if deployment is None:
            return None
        self.progress = Drive(self.clock)
        try:
            return self.manager.deploy(deployment, self.progress)
        except SourceNotAsked:
            self.look()  # as the loop does meanwhile
            return self.settle(self.disk.journal.in_flight())
        except NotYet as reason:
            self.held = reason
            return self.disk.journal.in_flight()

    def look(
        self, *, fresh: bool = False, accept_deletions: bool = False
    ) -> Candidate | NoCandidate:
        """Poll the source."""
        return self.lookout.look(Drive(self.clock), fresh=fresh, accept_deletions=accept_deletions)

    def begin(self) -> Deployment:
        """Open the deployment of what the source offers, and go no further."""
        candidate = self.look()
        assert isinstance(candidate, Candidate), candidate
        return self.manager.begin(candidate, {})

    def update(self) -> Deployment:
        """Deploy what the source offers."""
        ended = self.settle(self.begin())
        assert ended is not None
        return ended

    def roll_back(self, release: str | None = None, **notes: bool) -> Deployment:
        """Go back by hand, to the previous release where none is named."""
        target = release or self.disk.releases.previous()
        assert target is not None
        ended = self.settle(self.manager.begin_rollback(target, notes))
        assert ended is not None
        return ended

    # --- what is published, what is on the disk ---------------------------------------------------

    def publish(self, files: Files) -> Offer:
        """Publish a release."""
        offer = self.source.publish(files)
        self.files[offer.commit] = files
        return offer

    def edit(self, path: str, content: bytes) -> None:
        """Edit a file of the live release by hand."""
        live = self.disk.releases.live()
        assert live is not None
        self.edited.setdefault(live, {})[path] = content
        file = self.paths.release_dir(live) / path
        file.chmod(0o644)
        file.write_bytes(content)
        file.chmod(0o444)

    def data(self, path: str) -> Path:
        """Give a place in the persistent data."""
        return self.paths.persist_dir / path

    @property
    def live(self) -> str | None:
        """The live release."""
        return self.disk.releases.live()

    @property
    def live_commit(self) -> str | None:
        """The commit of the live release."""
        known = self.device.release(self.live)
        return None if known is None else known.commit

    @property
    def quarantine(self) -> dict[str, str]:
        """Code of the refusal by commit."""
        found = records.quarantine(self.disk.database).values()
        return {commit: entry.code for entry in found for commit in entry.commits}

    def attempts(self, commit: str) -> int:
        """Count the crashed activations of a release."""
        tree = self.source.upstream.tree_of(commit)
        return records.attempts(self.disk.database, tree)

    # --- the property -----------------------------------------------------------------------------

    def assert_whole(self) -> None:
        """What is live is whole, and what is kept beside it too."""
        for release in self.disk.releases.kept():
            known = self.device.release(release)
            assert known is not None, f"{release} is kept and not known"
            persist = [spec.path for spec in parse_manifest(known.manifest).persist]
            expected = tree_of(self.files[known.commit], persist)
            found = tree_at(self.paths.release_dir(release))
            for path, content in self.edited.get(release, {}).items():
                # Kept as it is while the release is live, mended before it goes live again.
                if found[path] == (edit := ("file", 0o444, content)):
                    expected[path] = edit
            assert found == expected

    def assert_tidy(self) -> None:
        """Nothing is in flight, and nothing is left that nobody needs."""
        assert self.disk.journal.in_flight() is None
        litter = [*self.work_dir.rglob(f"{atomic.TEMP_PREFIX}*")]
        assert litter == []
        assert set(names_in(self.work_dir)) <= {
            *("live", "previous", "releases", "persist", "locks", "private")
        }
        assert set(names_in(self.paths.private_dir)) <= {
            *("state.db", "state.db-wal", "state.db-shm", "trust.json", "trust.json.2"),
            *("backups", "staging", "spare", "scratch", "ballast"),
        }
        assert names_in(self.paths.staging_dir) == []
        assert names_in(self.paths.scratch_dir) == []
        endings = {one.id: one.phase for one, _ in self.disk.journal.history()}
        assert {endings[name] for name in names_in(self.paths.backups_dir)} <= {
            *(Phase.SUCCEEDED, Phase.ROLLED_BACK)
        }
        if next(iter(endings.values()), None) is Phase.SUCCEEDED:
            aside = [*self.paths.backups_dir.glob("*/displaced*")]
            aside += [*self.paths.backups_dir.glob("*/outgoing*")]
            assert aside == []
        whole = [backup.deployment for backup in self.disk.backups.list()]
        assert sorted(whole) == names_in(self.paths.backups_dir)
        releases = self.disk.releases
        named = {releases.live(), releases.previous()} | self.disk.backups.named_releases()
        assert set(releases.kept()) == named - {None}
        assert self.objects.held().keys() == set(releases.kept())
        self._assert_told(endings)

    def _assert_told(self, endings: dict[str, Phase]) -> None:
        """Each ending has its event, and trust.json knows what the database knows."""
        rows = self.disk.database.rows("SELECT body FROM outbox WHERE terminal = 1")
        told = [json.loads(row["body"]) for row in rows]
        assert {body["deployment"]: body["phase"] for body in told} == endings
        trust = TrustFile(self.paths.trust_file).read().trust
        if endings:
            assert trust.unproven is None
            assert trust.quarantine == records.quarantine(self.disk.database)
            assert trust.epoch == self.disk.database.epoch


@contextmanager
def no_syncing() -> Iterator[None]:
    """Spare the disk: what a killed process leaves does not hang on fsync."""
    with (
        mock.patch.object(os, "fsync"),
        mock.patch.object(durable, "sync_filesystem"),
        mock.patch.object(atomic, "sync_filesystem"),
    ):
        yield
