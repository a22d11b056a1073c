"""Lookout: asks the source what there is, and the checker what of it this device would take."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from ota_agent.detect.checker import Installed, Policy, VersionChecker
from ota_agent.errors import DiskFull, SourceNotAsked
from ota_agent.model.release import Offer
from ota_agent.model.verdict import Candidate, Facts
from ota_agent.model.version import parse_version
from ota_agent.store import records, space
from ota_agent.store.links import Links
from ota_agent.store.paths import Paths

if TYPE_CHECKING:
    from collections.abc import Sequence

    from semver import Version

    from ota_agent.config import Config
    from ota_agent.model.deployment import Deployment
    from ota_agent.model.trust import Mark
    from ota_agent.model.verdict import NoCandidate, Verdict
    from ota_agent.ports import Clock, Progress, ReleaseSource
    from ota_agent.store.database import Database

# A file system whose free space wavers must not set off the same failing deployment each poll.
GROWTH_BYTES = 1024 * 1024
FULL_DISK_PAUSE = timedelta(days=1)
# No pause is longer: a later moment was written while the clock was wrong, and does not bind.
LONGEST_PAUSE = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Able:
    """What this agent can do.

    Attributes:
        version: its own.
        commands_missing: settings without which hooks and command probes of unsigned releases
            are not run here.

    """

    version: Version
    commands_missing: tuple[str, ...] = ()


class Lookout:
    """Keeps what was offered last, so that a waiting deployment can be reconsidered."""

    def __init__(
        self,
        config: Config,
        source: ReleaseSource,
        database: Database,
        clock: Clock,
        able: Able,
    ) -> None:
        """Watch `source` for the device of `database`."""
        self._config = config
        self._source = source
        self._database = database
        self._links = Links(Paths(config.work_dir))
        self._clock = clock
        self._able = able
        self._checker = VersionChecker()
        self._offers: Sequence[Offer] | None = None

    def look(
        self, progress: Progress, *, fresh: bool = False, accept_deletions: bool = False
    ) -> Verdict:
        """Poll the source and choose.

        Args:
            progress: line to the loop.
            fresh: an operator asked: no backoff binds.
            accept_deletions: the operator acknowledged the mass deletion of what is offered.

        """
        mark = self._mark()
        offers = self._source.poll(
            self._config.source.channel, None if mark is None else mark.commit, progress
        )
        self._offers = offers
        accepted = frozenset(offer.commit for offer in offers) if accept_deletions else frozenset()
        policy = self._policy(fresh=fresh, accept_deletions=accepted)
        return self._checker.check(self._installed(), offers, policy)

    def judge(self, deployment: Deployment, facts: Facts) -> NoCandidate | None:
        """Say what speaks against a deployment's content; None when nothing does."""
        accepted = deployment.notes.get("accept_deletions")
        policy = self._policy(
            fresh=True, accept_deletions=frozenset([deployment.commit] if accepted else [])
        )
        version = parse_version(deployment.version) if deployment.version else None
        return self._checker.judge(Offer(deployment.commit, deployment.ref, version), facts, policy)

    def reconsider(self, deployment: Deployment) -> str | None:
        """Say why a deployment that waited is not wanted any more; None when it still is.

        Raises:
            SourceNotAsked: there was no answer since the start; a withdrawn release must not go
                live because the agent was away.

        """
        channel = deployment.notes.get("channel")
        if channel not in {None, str(self._config.source.channel)}:
            return f"the device follows {self._config.source.channel} now, not {channel}"
        if deployment.notes.get("project") not in {None, self._source.project}:
            return "the device follows another project now"
        if self._offers is None:
            raise SourceNotAsked
        accepted = deployment.notes.get("accept_deletions")
        policy = self._policy(
            fresh=True, accept_deletions=frozenset([deployment.commit] if accepted else [])
        )
        verdict = self._checker.check(self._installed(), self._offers, policy)
        if not isinstance(verdict, Candidate):
            return verdict.message
        if verdict.offer.commit != deployment.commit:
            return f"{verdict.offer.name} is to be deployed instead"
        return None

    def _mark(self) -> Mark | None:
        key = (self._source.project, str(self._config.source.channel))
        return records.marks(self._database).get(key)

    def _installed(self) -> Installed:
        releases = records.releases(self._database)
        live = self._links.live()
        return Installed(
            live=None if live is None else releases.get(live),
            succeeded=frozenset(
                release.commit for release in releases.values() if release.succeeded_at is not None
            ),
        )

    def _policy(self, *, fresh: bool, accept_deletions: frozenset[str]) -> Policy:
        quarantine = records.quarantine(self._database)
        facts = {
            commit: read
            for commit, value in records.facts(self._database).items()
            if (read := Facts.from_json(value)) is not None
        }
        return Policy(
            channel=self._config.source.channel,
            agent_version=self._able.version,
            now=self._clock.now(),
            mark=self._mark(),
            labels=self._config.labels,
            quarantined_trees={tree: entry.code for tree, entry in quarantine.items()},
            quarantined_commits={
                commit: entry.code for entry in quarantine.values() for commit in entry.commits
            },
            facts=facts,
            not_before={} if fresh else self._not_before(facts),
            commands_missing=self._able.commands_missing,
            accept_deletions=accept_deletions,
        )

    def _not_before(self, facts: dict[str, Facts]) -> dict[str, datetime]:
        """Give, by commit, until when an earlier failure or crash holds it back."""
        now = self._clock.now()
        latest = now + LONGEST_PAUSE
        found: dict[str, datetime] = {}
        by_tree = records.crash_backoffs(self._database)
        for commit, known in facts.items():
            if known.tree in by_tree and by_tree[known.tree] <= latest:
                found[commit] = by_tree[known.tree]
        free = space.free(self._database.file.parent).bytes
        for commit, failures in records.failures(self._database).items():
            until = failures.not_before
            if failures.code == DiskFull.code and failures.free_bytes is not None:
                has_grown = free >= failures.free_bytes + GROWTH_BYTES
                until = None if has_grown else now + FULL_DISK_PAUSE
            if until is not None and until <= latest:
                found[commit] = max(until, found.get(commit, datetime.min.replace(tzinfo=UTC)))
        return found
