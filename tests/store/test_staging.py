from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shelf import Shelf, tree_at, tree_of

from fakes.object_store import Content, Executable, Link
from ota_agent.errors import DiskFault, DiskFull, StoreDamaged
from ota_agent.store.scan import Drift

NAMES = st.sampled_from(["a", "b", "c"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
CONTENTS: st.SearchStrategy[Content] = st.one_of(
    st.sampled_from([b"", b"1", b"2", b"longer"]),
    st.sampled_from([b"", b"1"]).map(Executable),
    st.sampled_from(["a", "b/c"]).map(Link),
)


def without_collisions(files: dict[str, Content]) -> dict[str, Content]:
    """Leave out what lies under a file."""
    return {
        path: content
        for path, content in files.items()
        if not any(path.startswith(f"{other}/") for other in files)
    }


TREES = st.dictionaries(PATHS, CONTENTS, min_size=1, max_size=8).map(without_collisions)
PERSIST = st.sampled_from([[], ["p"], ["p/q"]])


@pytest.mark.slow
@settings(max_examples=100)
@given(old=TREES, live=TREES, new=TREES, persist=PERSIST, other_persist=PERSIST)
def test_release_is_the_same_whatever_it_is_made_of(
    old: dict[str, Content],
    live: dict[str, Content],
    new: dict[str, Content],
    persist: list[str],
    other_persist: list[str],
) -> None:
    with tempfile.TemporaryDirectory() as place:
        shelf = Shelf(Path(place) / "device")
        spare = shelf.put(old, persist)
        running = shelf.put(live, other_persist)
        shelf.go_live(running)
        shelf.store.retire(spare)
        release = shelf.put(new, persist)
        assert tree_at(shelf.dir(release)) == tree_of(new, persist)
        assert tree_at(shelf.dir(running)) == tree_of(live, other_persist)
        assert shelf.scan(release) == shelf.scan(running) == Drift()
        assert shelf.left_over() == []
        shelf.database.close()


def test_object_that_is_not_what_its_id_says_reaches_no_release(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / "device")
    release = shelf.publish({"file": b"right", "link": Link("there")})
    for path in ("file", "link"):
        oid = next(entry.oid for entry in shelf.entries(release) if entry.path == path)
        right = shelf.objects.blobs[oid]
        shelf.objects.blobs[oid] = b"wrong"
        with pytest.raises(StoreDamaged, match=path):
            shelf.stage(release)
        assert not shelf.store.is_sealed(release)
        assert release not in shelf.objects.kept
        shelf.objects.blobs[oid] = right
    shelf.stage(release)
    shelf.database.close()


def test_full_disk_is_told_and_leaves_the_rest_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: object, **_named: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    shelf = Shelf(tmp_path / "device")
    live = shelf.put({"file": b"1"})
    shelf.go_live(live)
    release = shelf.publish({"file": b"2"})
    monkeypatch.setattr(os, "fchmod", fail)
    with pytest.raises(DiskFull):
        shelf.stage(release)
    monkeypatch.undo()
    assert tree_at(shelf.dir(live)) == tree_of({"file": b"1"})
    shelf.stage(release)
    assert tree_at(shelf.dir(release)) == tree_of({"file": b"2"})
    shelf.database.close()


def test_disk_that_fails_while_linking_is_not_taken_for_one_that_cannot_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: object, **_named: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    shelf = Shelf(tmp_path / "device")
    shelf.go_live(shelf.put({"file": b"1"}))
    release = shelf.publish({"file": b"1", "new": b""})
    monkeypatch.setattr(os, "link", fail)
    with pytest.raises(DiskFault, match="Input/output"):
        shelf.stage(release)
    shelf.database.close()
