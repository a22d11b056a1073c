"""How a head stands to the mark, and what it costs to find out."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from fakes.progress import FakeProgress
from ota_agent.errors import SourceChanged, SourceUnreachable
from ota_agent.model.channel import Branch
from ota_agent.model.release import Ancestry
from ota_agent.remote.ancestry import Depths, Steps
from servers.git_http import Fault

if TYPE_CHECKING:
    from pathlib import Path

    from remote.conftest import Devices, Follower
    from servers.git_http import GitHttpServer
    from servers.publisher import Publisher

pytestmark = [pytest.mark.process, pytest.mark.network]

MAIN = Branch("main")
SHORT = Depths(Steps(2, 3, 12), Steps(2, 3, 12))


def ancestry(follower: Follower, mark: str) -> Ancestry | None:
    (offer,) = follower.source.poll(MAIN, mark, follower.progress)
    return offer.ancestry


def history(publisher: Publisher, count: int) -> list[str]:
    return [publisher.publish({"a": b"%d" % n}) for n in range(count)]


def test_depths_grow_to_the_bound() -> None:
    assert list(Steps(64, 16, 16_384).depths()) == [64, 1024, 16_384]
    assert list(Steps(4, 4, 10).depths()) == [4, 10]
    assert list(Steps(4, 4, 4).depths()) == [4]


@pytest.mark.parametrize("has_filters", [True, False])
@pytest.mark.parametrize("distance", [1, 2, 7, 11])
def test_head_above_the_mark_descends_from_it(
    devices: Devices,
    server: GitHttpServer,
    publisher: Publisher,
    distance: int,
    has_filters: bool,
) -> None:
    server.has_filters = has_filters
    commits = history(publisher, 20)
    follower = devices.following(server.url(), depths=SHORT)
    assert ancestry(follower, commits[-1 - distance]) is Ancestry.DESCENDANT


@pytest.mark.parametrize("has_filters", [True, False])
def test_mark_beyond_the_bound_is_unknown(
    devices: Devices, server: GitHttpServer, publisher: Publisher, has_filters: bool
) -> None:
    server.has_filters = has_filters
    commits = history(publisher, 30)
    follower = devices.following(server.url(), depths=SHORT)
    assert ancestry(follower, commits[1]) is Ancestry.UNKNOWN


@pytest.mark.parametrize("has_filters", [True, False])
def test_pushed_back_branch_is_an_ancestor(
    devices: Devices, server: GitHttpServer, publisher: Publisher, has_filters: bool
) -> None:
    server.has_filters = has_filters
    commits = history(publisher, 9)
    publisher.reset("main", commits[3])
    follower = devices.following(server.url(), depths=SHORT)
    assert ancestry(follower, commits[8]) is Ancestry.ANCESTOR


@pytest.mark.parametrize("speaks_v2", [True, False])
@pytest.mark.parametrize("forgets", [True, False])
def test_rewritten_branch_has_diverged_whether_the_mark_is_there_or_not(
    devices: Devices,
    server: GitHttpServer,
    publisher: Publisher,
    speaks_v2: bool,
    forgets: bool,
) -> None:
    server.speaks_v2, server.gives_any_commit = speaks_v2, False
    commits = history(publisher, 5)
    publisher.publish({"a": b"rewritten"}, parent=commits[2])
    if forgets:
        publisher.forget()
    assert ancestry(devices.following(server.url()), commits[4]) is Ancestry.DIVERGED


def test_mark_that_is_gone_has_diverged_however_long_the_history(
    devices: Devices, server: GitHttpServer, publisher: Publisher
) -> None:
    history(publisher, 30)
    follower = devices.following(server.url(), depths=SHORT)
    assert ancestry(follower, "1" * 40) is Ancestry.DIVERGED


def test_unrelated_history_has_diverged(
    devices: Devices, server: GitHttpServer, publisher: Publisher
) -> None:
    mark = history(publisher, 3)[-1]
    publisher.publish_root({"a": b"anew"}, branch="main")
    assert ancestry(devices.following(server.url()), mark) is Ancestry.DIVERGED


def test_old_server_that_gives_out_tips_only_still_knows_its_descendants(
    devices: Devices, server: GitHttpServer, publisher: Publisher
) -> None:
    server.speaks_v2, server.gives_any_commit = False, False
    commits = history(publisher, 9)
    follower = devices.following(server.url(), depths=SHORT)
    assert ancestry(follower, commits[2]) is Ancestry.DESCENDANT


def test_merge_descends_from_what_it_merged(
    devices: Devices, server: GitHttpServer, publisher: Publisher
) -> None:
    history(publisher, 3)
    side = publisher.publish({"b": b"1"}, branch="side", parent="refs/heads/main~2")
    publisher.publish({"a": b"9", "b": b"1"}, merges=side)
    assert ancestry(devices.following(server.url(), depths=SHORT), side) is Ancestry.DESCENDANT


def test_answer_is_remembered_and_a_new_head_is_asked_for(
    devices: Devices, server: GitHttpServer, publisher: Publisher
) -> None:
    mark = publisher.publish({"a": b"1"})
    publisher.publish({"a": b"2"})
    follower = devices.following(server.url())
    assert ancestry(follower, mark) is Ancestry.DESCENDANT
    asked = len(server.requests)
    assert ancestry(follower, mark) is Ancestry.DESCENDANT
    assert len(server.requests) == asked + 2
    publisher.publish({"a": b"3"})
    assert ancestry(follower, mark) is Ancestry.DESCENDANT
    assert len(server.requests) > asked + 4


def test_old_answers_are_forgotten(
    devices: Devices,
    server: GitHttpServer,
    publisher: Publisher,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ota_agent.remote.ancestry._MAX_REMEMBERED", 1)
    first, second, _ = history(publisher, 3)
    follower = devices.following(server.url())
    assert ancestry(follower, first) is Ancestry.DESCENDANT
    assert ancestry(follower, second) is Ancestry.DESCENDANT
    asked = len(server.requests)
    assert ancestry(follower, first) is Ancestry.DESCENDANT
    assert len(server.requests) > asked + 2


@pytest.mark.parametrize("has_filters", [True, False])
def test_walk_does_not_fetch_the_content(
    devices: Devices, server: GitHttpServer, publisher: Publisher, has_filters: bool
) -> None:
    server.has_filters = has_filters
    publisher.publish({f"{n}": os.urandom(10_000) for n in range(200)})
    follower = devices.following(server.url())
    (offer,) = follower.source.poll(MAIN, None, follower.progress)
    follower.fetch(offer)
    publisher.change({"0": os.urandom(10_000)})
    server.sent_bytes = 0
    assert ancestry(follower, offer.commit) is Ancestry.DESCENDANT
    assert server.sent_bytes < (5_000 if has_filters else 40_000)


def test_head_that_vanishes_during_the_walk_has_changed(
    devices: Devices, server: GitHttpServer, publisher: Publisher
) -> None:
    follower = devices.following(server.url())
    publisher.publish({"a": b"1"})
    with pytest.raises(SourceChanged):
        follower.walk.ancestry("1" * 40, "2" * 40, follower.progress, has_filters=True)


@pytest.mark.parametrize("has_filters", [True, False])
def test_walk_leaves_nothing_behind(
    devices: Devices, server: GitHttpServer, publisher: Publisher, tmp_path: Path, has_filters: bool
) -> None:
    server.has_filters = has_filters
    mark = publisher.publish({"a": b"1"})
    publisher.publish({"a": b"2"})
    follower = devices.following(server.url())
    assert ancestry(follower, mark) is Ancestry.DESCENDANT
    assert list((tmp_path / "scratch").iterdir()) == []
    publisher.publish({"a": b"3"})
    server.fault = Fault("POST", skip=1, is_reset=True)
    with pytest.raises(SourceUnreachable):
        ancestry(follower, mark)
    assert list((tmp_path / "scratch").iterdir()) == []


def test_history_that_fsck_refuses_does_not_stop_the_walk(
    devices: Devices, server: GitHttpServer, publisher: Publisher
) -> None:
    mark = publisher.publish_literally([(b"100644", b"..", b"escape")])
    publisher.publish({"a": b"1"})
    assert ancestry(devices.following(server.url()), mark) is Ancestry.DESCENDANT


def test_same_commit_needs_no_walk(devices: Devices, server: GitHttpServer) -> None:
    walk = devices.following(server.url()).walk
    same = walk.ancestry("1" * 40, "1" * 40, FakeProgress(), has_filters=True)
    assert same is Ancestry.SAME
    assert server.requests == []
