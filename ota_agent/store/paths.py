"""Where everything of one device lies; the only place that knows the names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

LIVE = "live"
PREVIOUS = "previous"
RELEASES = "releases"
PERSIST = "persist"


@dataclass(frozen=True, slots=True)
class Paths:
    """The layout of one `work_dir`, which is an absolute path."""

    work_dir: Path

    @property
    def live_link(self) -> Path:
        """Relative link to the release in use; what services open."""
        return self.work_dir / LIVE

    @property
    def previous_link(self) -> Path:
        """Relative link to the release before the live one."""
        return self.work_dir / PREVIOUS

    @property
    def releases_dir(self) -> Path:
        """One sealed tree for each kept release."""
        return self.work_dir / RELEASES

    @property
    def persist_dir(self) -> Path:
        """What releases declare as persistent; it belongs to the device."""
        return self.work_dir / PERSIST

    @property
    def locks_dir(self) -> Path:
        """Update locks, held by applications."""
        return self.work_dir / "locks"

    @property
    def wake_file(self) -> Path:
        """Touched by whoever wants the agent to check now."""
        return self.work_dir / "wake"

    @property
    def status_file(self) -> Path:
        """What `status` shows, for every local user."""
        return self.work_dir / "status.json"

    @property
    def private_dir(self) -> Path:
        """The agent's own, closed to everybody else."""
        return self.work_dir / "private"

    @property
    def database_file(self) -> Path:
        """SQLite: journal, history, outbox, mailbox, inode records."""
        return self.private_dir / "state.db"

    @property
    def reports_file(self) -> Path:
        """SQLite: what the local sink was told."""
        return self.private_dir / "reports.db"

    @property
    def trust_file(self) -> Path:
        """What has to outlive a lost database."""
        return self.private_dir / "trust.json"

    @property
    def repo_dir(self) -> Path:
        """The bare object store."""
        return self.private_dir / "repo.git"

    @property
    def backups_dir(self) -> Path:
        """One directory for each backup, named for its deployment."""
        return self.private_dir / "backups"

    @property
    def staging_dir(self) -> Path:
        """Trees that are being built, one for each deployment; emptied at start."""
        return self.private_dir / "staging"

    @property
    def spare_dir(self) -> Path:
        """The tree that retention dropped last, itself; may be absent, may be partly gone."""
        return self.private_dir / "spare"

    @property
    def scratch_dir(self) -> Path:
        """Throw-away repositories; emptied at start."""
        return self.private_dir / "scratch"

    @property
    def lock_file(self) -> Path:
        """Held by the one agent of this `work_dir`."""
        return self.private_dir / "lock"

    @property
    def children_lock_file(self) -> Path:
        """Held by every child, so that a new agent can wait for old children."""
        return self.private_dir / "children.lock"

    def release_dir(self, release: str) -> Path:
        """Give the sealed tree of a release; ValueError for what cannot be a release's id."""
        return self.releases_dir / _one_name(release)

    def staging_of(self, deployment_id: str) -> Path:
        """Give the tree that a deployment builds; ValueError for what cannot be one's id."""
        return self.staging_dir / _one_name(deployment_id)


def _one_name(text: str) -> str:
    """Refuse what would lead out of the directory that it is joined to."""
    if not text or text.startswith(".") or "/" in text or "\0" in text:
        raise ValueError(f"{text!r} cannot name a directory of its own")
    return text
