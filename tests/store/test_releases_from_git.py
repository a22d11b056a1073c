"""The same trees from a real repository: git's hashes, modes and streams."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from shelf import tree_at, tree_of

from fakes.object_store import Executable, Link
from fakes.progress import FakeProgress
from ota_agent.remote.git import Git
from ota_agent.remote.git_objects import GitObjects
from ota_agent.store import atomic, workdir
from ota_agent.store.database import Database
from ota_agent.store.paths import Paths
from ota_agent.store.releases import ReleaseStore
from ota_agent.store.scan import Drift
from servers.publisher import Publisher

if TYPE_CHECKING:
    from pathlib import Path

    from fakes.object_store import Content
    from ota_agent.model.tree import Entry

pytestmark = pytest.mark.process

FILES: dict[str, Content] = {
    "app/main.py": b"one\n" * 100_000,
    "app/run": Executable(b"#!/bin/sh\n"),
    "empty": b"",
    "name with \n in it": b"\0\r\n\xff",
    "latest": Link("app/main.py"),
}


@pytest.mark.parametrize("hash_kind", ["sha1", "sha256"])
def test_releases_are_staged_from_git(tmp_path: Path, hash_kind: str) -> None:
    publisher = Publisher(tmp_path, hash_kind=hash_kind)
    paths, progress = Paths(tmp_path / "device"), FakeProgress()
    workdir.prepare(paths)
    objects = GitObjects(Git(tmp_path / "git"), publisher.path, move_aside=atomic.rename)
    database = Database.open(paths.database_file)
    store = ReleaseStore(paths, objects, database)

    def put(release: str, files: dict[str, Content]) -> list[Entry]:
        commit = publisher.publish(files)
        entries = objects.listing(objects.tree_of(commit), progress)
        store.stage("7-abcdef", release, commit, entries, ["data"], progress)
        store.make_live(release)
        assert tree_at(paths.release_dir(release)) == tree_of(files, ["data"])
        assert store.scan(release, entries, ["data"], [], progress) == Drift()
        assert objects.held()[release] == commit
        return entries

    put("1.0", FILES)
    put("1.1", FILES | {"empty": b"no more"})
    entries = put("1.2", FILES)
    file = paths.live_link / "app/main.py"
    file.chmod(0o644)
    file.write_bytes(b"edited")
    drift = store.scan("1.2", entries, ["data"], [], progress)
    store.mend("1.2", drift.damage, entries, ["data"], progress)
    assert tree_at(paths.release_dir("1.2")) == tree_of(FILES, ["data"])
    database.close()
