from __future__ import annotations

from pathlib import Path

import pytest

from ota_agent.store.paths import Paths

PATHS = Paths(Path("/var/lib/ota-agent"))


def test_layout_is_the_documented_one() -> None:
    shown = {
        "live_link": "live",
        "previous_link": "previous",
        "releases_dir": "releases",
        "persist_dir": "persist",
        "locks_dir": "locks",
        "wake_file": "wake",
        "status_file": "status.json",
        "private_dir": "private",
        "database_file": "private/state.db",
        "reports_file": "private/reports.db",
        "trust_file": "private/trust.json",
        "repo_dir": "private/repo.git",
        "backups_dir": "private/backups",
        "staging_dir": "private/staging",
        "spare_dir": "private/spare",
        "scratch_dir": "private/scratch",
        "lock_file": "private/lock",
        "children_lock_file": "private/children.lock",
    }
    for name, path in shown.items():
        assert getattr(PATHS, name) == PATHS.work_dir / path


def test_release_and_deployment_have_directories_of_their_own() -> None:
    assert PATHS.release_dir("1.0-abcdef-0123") == PATHS.releases_dir / "1.0-abcdef-0123"
    assert PATHS.staging_of("7-abcdef") == PATHS.staging_dir / "7-abcdef"


@pytest.mark.parametrize("name", ["", ".", "..", ".hidden", "a/b", "/etc", "a\0b"])
def test_name_that_leads_elsewhere_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="cannot name"):
        PATHS.release_dir(name)
    with pytest.raises(ValueError, match="cannot name"):
        PATHS.staging_of(name)
