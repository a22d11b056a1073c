"""Puts the agent together: takes the work_dir and names the concrete edges."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

from semver import Version

from ota_agent import __version__, log
from ota_agent.agent import Agent, Parts
from ota_agent.detect.lookout import Able, Lookout
from ota_agent.errors import AgentError, ConfigError, WorkDirForeign
from ota_agent.heartbeat.display import Display
from ota_agent.heartbeat.sender import Heartbeat
from ota_agent.host import facts
from ota_agent.host.clock import SystemClock, clock_is_set
from ota_agent.host.host import LocalHost
from ota_agent.host.sdnotify import Notifier
from ota_agent.model.verdict import Candidate
from ota_agent.remote.access import Credentials, SshFiles, access
from ota_agent.remote.ancestry import AncestryWalk
from ota_agent.remote.connection import Connection, Retries
from ota_agent.remote.git import STALL_S, Git
from ota_agent.remote.git_objects import GitObjects
from ota_agent.remote.git_source import GitSource
from ota_agent.remote.local_sink import LocalSink
from ota_agent.status import StatusBoard
from ota_agent.store import atomic, workdir
from ota_agent.store.backups import BackupStore
from ota_agent.store.ballast import Ballast
from ota_agent.store.database import Database
from ota_agent.store.journal import Journal
from ota_agent.store.lock import AgentLock, ChildrenLock
from ota_agent.store.mailbox import Mailbox
from ota_agent.store.memory import Memory
from ota_agent.store.paths import Paths
from ota_agent.store.releases import ReleaseStore
from ota_agent.store.trust import TrustFile
from ota_agent.update import answers
from ota_agent.update.device import Device, Disk, Rules
from ota_agent.update.manager import OTAManager
from ota_agent.update.recovery import recover
from ota_agent.wake import outlive_early_calls
from ota_agent.wiring.reading import DEVICE_ID, device_shown, take_picture
from ota_agent.worker import Unwatched

if TYPE_CHECKING:
    from ota_agent.config import Config
    from ota_agent.model.command import Outcome
    from ota_agent.remote.access import Access

CHILDREN_TIMEOUT_S = 150.0  # longer than git takes to give up on a silent source
ONCE = Retries(attempts=6, total_s=50.0, silent_s=20.0)  # those of `run --once`: within a minute
EACH_POLL = Retries(attempts=1)  # the daemon comes back by itself


def build_agent(config: Config, device_id: str | None, *, once: bool) -> Agent:
    """Take the work_dir and make the agent that runs it, see `build_parts`."""
    return Agent(build_parts(config, device_id, once=once))


def check_now(config: Config) -> Outcome:
    """Look at the source once, without an agent, and tell what would be deployed; nothing is."""
    parts = build_parts(config, None, once=True)
    try:
        verdict = parts.lookout.look(Unwatched(), fresh=True)
    except AgentError as error:
        return answers.failed(error)
    finally:
        parts.close()
    if isinstance(verdict, Candidate):
        return answers.candidate(verdict)
    return answers.nothing(verdict)


def build_parts(config: Config, device_id: str | None, *, once: bool) -> Parts:
    """Take the work_dir and wire everything; `close` of the agent lets go again.

    Raises:
        Locked: another agent has the work_dir; its pid is named.
        WorkDirUnusable, WorkDirForeign: it cannot serve, or serves another device.
        ConfigError: no device ran here yet and none is named, or the user of commands is unknown.
        GitUnusable: there is no git, or one older than 2.39.

    """
    paths = Paths(config.work_dir)
    user = facts.commands_user(config.commands.user)
    if device_id is None and not workdir.is_made(paths):
        raise _no_device(paths)  # a mistyped work_dir is not to be made
    workdir.prepare(paths)
    with ExitStack() as closing:
        outlive_early_calls()  # whoever sees the lock may call
        lock = AgentLock(paths)
        owner = lock.acquire(device_id or "")
        closing.callback(lock.release)
        children = ChildrenLock(paths)
        closing.callback(children.release)
        stall_s = ONCE.silent_s if once else STALL_S
        git = Git(paths.private_dir / "git", inherit_fds=(children.fd,), stall_s=stall_s)
        git.check_version()
        clock, board = SystemClock(), StatusBoard()
        children.wait_free(CHILDREN_TIMEOUT_S, Unwatched())
        workdir.clear_litter(paths)
        ballast = Ballast(paths)
        database = ballast.relieve(lambda: Database.open(paths.database_file, may_set_aside=True))
        closing.callback(database.close)
        identity = _identify(database, paths, device_id)
        objects = GitObjects(git, paths.repo_dir, move_aside=atomic.rename)
        ballast.relieve(objects.prepare)
        disk = Disk(
            paths=paths,
            database=database,
            journal=Journal(database, clock),
            objects=objects,
            releases=ReleaseStore(paths, objects, database),
            backups=BackupStore(paths),
            ballast=ballast,
        )
        disk.releases.empty_staging()
        reach = _access(config)
        source = GitSource(
            reach,
            git=git,
            objects=objects,
            walk=AncestryWalk(git, reach, store=paths.repo_dir, scratch=paths.scratch_dir),
            connection=Connection(clock, retries=ONCE if once else EACH_POLL),
        )
        able = Able(Version.parse(__version__), _commands_missing(config))
        lookout = Lookout(config, source, database, clock, able)
        device = Device(
            device_id=identity,
            config=config,
            disk=disk,
            source=source,
            host=LocalHost(user, inherit_fds=(children.fd,)),
            clock=clock,
            rules=Rules(lookout.judge, lookout.reconsider),
            clock_is_set=lambda: clock_is_set(clock.now()),
            data_owner=None if user is None else (user.pw_uid, user.pw_gid),
        )
        memory = Memory(database, TrustFile(paths.trust_file))
        ballast.relieve(lambda: recover(device, memory))
        ballast.hold()

        def take() -> dict[str, Any]:
            return take_picture(config, database, board, owner)

        display = Display(paths, database, board, clock, take)
        return Parts(
            device=device,
            manager=OTAManager(device, memory),
            lookout=lookout,
            mailbox=Mailbox(database),
            display=display,
            board=board,
            heartbeat=Heartbeat(
                LocalSink(paths.reports_file, move_aside=partial(atomic.rename, replace=True)),
                database,
                display.picture,
                config.supabase.sync_interval_s,
            ),
            notifier=Notifier(),
            reset_breaker=source.breaker.reset,
            close=closing.pop_all().close,
        )


def _access(config: Config) -> Access:
    source, given = config.source, config.credentials
    credentials = None
    if given is not None:
        credentials = Credentials(given.username, given.token.get_secret_value())
        for secret in (credentials.token, credentials.header().rpartition(" ")[2]):
            log.register_secret(secret)
    return access(
        source.url,
        credentials=credentials,
        token_host=source.token_host,
        ssh=SshFiles(source.ssh_key_file, source.ssh_known_hosts_file),
    )


def _commands_missing(config: Config) -> tuple[str, ...]:
    """Name the settings that root lacks to run hooks and probes: two explicit yeses."""
    given = {
        "commands.user": config.commands.user is not None,
        "trust.accept_unsigned_commands": config.trust.accept_unsigned_commands,
    }
    return tuple(key for key, is_given in given.items() if facts.is_root() and not is_given)


def _identify(database: Database, paths: Paths, device_id: str | None) -> str:
    stored: str | None = database.get(DEVICE_ID)
    # After a lost database status.json still tells whose this is.
    known = stored or device_shown(paths)
    identity = device_id or known
    if identity is None:
        raise _no_device(paths)
    if known is not None and known != identity:
        raise WorkDirForeign(f"{paths.work_dir} belongs to device {known}, not to {identity}")
    if stored is None:
        database.put(DEVICE_ID, identity)
    return identity


def _no_device(paths: Paths) -> ConfigError:
    return ConfigError(
        f"no device has run in {paths.work_dir} yet",
        hint="Start it first: `ota-agent run --device-id ID`.",
    )
