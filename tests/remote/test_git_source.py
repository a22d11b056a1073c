"""A source over real HTTP: tokens, failures, what a fetch costs."""

from __future__ import annotations

import os
import shutil
import ssl
import subprocess
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from fakes.progress import FakeProgress
from ota_agent.errors import (
    AgentError,
    DiskFull,
    NoCommit,
    SourceBusy,
    SourceChanged,
    SourceNotFound,
    SourceRedirected,
    SourceUnreachable,
    SourceUntrusted,
    Stopped,
    StoreDamaged,
    TokenRefused,
    TreeHostile,
    VersionMismatch,
)
from ota_agent.model.channel import Branch, Commit, parse_channel
from ota_agent.model.release import Offer
from ota_agent.remote.access import Credentials, access
from ota_agent.remote.connection import BreakerState, ConnectionState, Retries
from ota_agent.remote.git_objects import GitObjects
from ota_agent.store import atomic
from remote.conftest import Follower, unpack
from servers.git_http import Fault, GitHttpServer
from servers.publisher import Publisher

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from fakes.object_store import Content
    from ota_agent.model.channel import Channel
    from ota_agent.remote.git import Git
    from remote.conftest import Devices

pytestmark = [pytest.mark.process, pytest.mark.network]

MAIN = Branch("main")
TOKEN = "t0ken-of-device"
HTML = {"Content-Type": "text/html"}
PAGE = b"<html><body>Welcome to the hotel. Please log in.</body></html>\n"


def poll(follower: Follower, channel: Channel = MAIN) -> Sequence[Offer]:
    return follower.source.poll(channel, None, follower.progress)


def some(count: int = 60, size: int = 4000) -> dict[str, Content]:
    return {f"d{n % 9}/f{n}": os.urandom(size) for n in range(count)}


# --- tokens -------------------------------------------------------------------------------------


def test_token_opens_the_project_without_a_challenge(
    devices: Devices, guarded: GitHttpServer, publisher: Publisher
) -> None:
    publisher.publish({"a": b"1"})
    follower = devices.following(guarded.url(), token=TOKEN)
    (offer,) = poll(follower)
    follower.fetch(offer)
    assert all("authorization" in request.headers for request in guarded.requests)
    assert follower.connection.state is ConnectionState.UP


@pytest.mark.parametrize("token", [None, "wrong"])
def test_refused_token_is_sent_once(
    devices: Devices, guarded: GitHttpServer, publisher: Publisher, token: str | None
) -> None:
    publisher.publish({"a": b"1"})
    follower = devices.following(guarded.url(), token=token, retries=Retries(5))
    with pytest.raises(TokenRefused) as refused:
        poll(follower)
    assert "wrong" not in str(refused.value)
    asked = len(guarded.requests)
    assert follower.source.breaker.state is BreakerState.OPEN
    for _ in range(3):
        with pytest.raises(TokenRefused):
            poll(follower)
    assert len(guarded.requests) == asked
    follower.source.breaker.reset()
    with pytest.raises(TokenRefused):
        poll(follower)
    assert len(guarded.requests) > asked


def test_token_without_the_right_is_refused(
    devices: Devices, guarded: GitHttpServer, publisher: Publisher
) -> None:
    guarded.tokens = {TOKEN: {"other.git"}}
    with pytest.raises(TokenRefused, match="403"):
        poll(devices.following(guarded.url(), token=TOKEN))


def test_redirect_is_not_followed_and_gets_no_token(
    devices: Devices, guarded: GitHttpServer, publisher: Publisher
) -> None:
    publisher.publish({"a": b"1"})
    with GitHttpServer(publisher.path.parent) as elsewhere:
        follower = devices.following(guarded.url(), token=TOKEN, retries=Retries(3))
        (offer,) = poll(follower)
        for method in ("GET", "POST"):
            target = elsewhere.url("app.git/info/refs?service=git-upload-pack")
            guarded.fault = Fault(method, status=302, headers={"Location": target})
            with pytest.raises(SourceRedirected):
                poll(follower)
            with pytest.raises(SourceRedirected):
                follower.fetch(offer)
        assert elsewhere.requests == []


def test_token_of_one_host_is_not_for_another(
    devices: Devices, guarded: GitHttpServer, publisher: Publisher
) -> None:
    reached = access(
        guarded.url(), credentials=Credentials("oauth2", TOKEN), token_host="git.example.com"
    )
    follower = devices.reaching(reached)
    with pytest.raises(TokenRefused):
        poll(follower)
    assert not any("authorization" in request.headers for request in guarded.requests)


# --- failures -----------------------------------------------------------------------------------


FAULTS: dict[str, tuple[Fault, type[AgentError]]] = {
    "429": (Fault(status=429), SourceBusy),
    "503 in HTML": (Fault(status=503, headers=HTML, body=PAGE), SourceBusy),
    "500": (Fault(status=500), SourceUnreachable),
    "502 in HTML": (Fault(status=502, headers=HTML, body=PAGE), SourceUnreachable),
    "404": (Fault(status=404), SourceNotFound),
    "login page": (Fault(status=200, headers=HTML, body=PAGE), SourceUnreachable),
    "login page without a line": (
        Fault(status=200, headers=HTML, body=PAGE.strip()),
        SourceUnreachable,
    ),
    "empty page": (Fault(status=200), SourceUnreachable),
    "login page of git's type": (
        Fault(
            status=200,
            headers={"Content-Type": "application/x-git-upload-pack-advertisement"},
            body=PAGE,
        ),
        SourceUnreachable,
    ),
    "reset": (Fault(is_reset=True), SourceUnreachable),
    "busy behind the door": (Fault("POST", status=503), SourceBusy),
    "login page behind the door": (
        Fault("POST", status=200, headers=HTML, body=PAGE),
        SourceUnreachable,
    ),
    "refs cut": (Fault("POST", cut_after=10), SourceUnreachable),
}


@pytest.mark.parametrize(("fault", "kind"), FAULTS.values(), ids=FAULTS)
@pytest.mark.parametrize("channel", ["branch:main", "branch:HEAD", "tag:*"])
def test_poll_that_fails_says_why_and_the_next_one_works(
    devices: Devices,
    server: GitHttpServer,
    publisher: Publisher,
    *,
    fault: Fault,
    kind: type[AgentError],
    channel: str,
) -> None:
    publisher.tag("v1.0.0", publisher.publish({"a": b"1"}))
    follower = devices.following(server.url())
    server.fault = fault
    with pytest.raises(AgentError) as failed:
        poll(follower, parse_channel(channel))
    assert type(failed.value) is kind
    assert follower.connection.state is ConnectionState.DOWN
    server.fault = None
    assert len(poll(follower, parse_channel(channel))) == 1


def test_project_that_is_not_there_is_not_found(
    devices: Devices, guarded: GitHttpServer, publisher: Publisher
) -> None:
    with pytest.raises(SourceNotFound):
        poll(devices.following(guarded.url("nope.git"), token=TOKEN))
    with pytest.raises(SourceNotFound):
        poll(devices.following(f"file://{publisher.path}-nope"))


def test_nobody_who_listens_is_out_of_reach(devices: Devices, server: GitHttpServer) -> None:
    url = server.url()
    with GitHttpServer(server.root) as gone:
        closed = gone.url()
    with pytest.raises(SourceUnreachable):
        poll(devices.following(closed))
    with pytest.raises(SourceUnreachable):
        poll(devices.following(url.replace("http://", "https://")))
    with pytest.raises(SourceUnreachable):
        poll(devices.following("https://nobody.invalid/fw.git"))


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl for a certificate")
def test_certificate_that_nobody_signed_is_not_trusted(
    devices: Devices, publisher: Publisher, tmp_path: Path
) -> None:
    key, certificate = tmp_path / "key", tmp_path / "certificate"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt"),
            *("ec_paramgen_curve:prime256v1", "-nodes", "-days", "1", "-subj", "/CN=127.0.0.1"),
            *("-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    with GitHttpServer(publisher.path.parent, tls=tls) as server:
        with pytest.raises(SourceUntrusted):
            poll(devices.following(server.url(), token=TOKEN))
        assert server.requests == []


def test_passing_failure_is_tried_again_as_long_as_the_server_asks(
    devices: Devices, server: GitHttpServer, publisher: Publisher
) -> None:
    publisher.publish({"a": b"1"})
    follower = devices.following(server.url(), retries=Retries(3))
    server.fault = Fault(status=429, headers={"Retry-After": "17"}, times=1)
    assert len(poll(follower)) == 1
    assert follower.progress.waits == [17]


def test_silent_server_is_given_up(
    devices: Devices, server: GitHttpServer, publisher: Publisher
) -> None:
    publisher.publish({"a": b"1"})
    server.fault = Fault(is_silent=True)
    follower = devices.following(server.url(), stall_s=1)
    with pytest.raises(SourceUnreachable, match="too slow"):
        poll(follower)


@pytest.mark.parametrize(
    "fault",
    [
        Fault("POST", skip=1, cut_after=100_000),
        Fault("POST", skip=1, cut_after=100),
        Fault("POST", skip=1, is_reset=True),
        Fault("POST", skip=1, status=500),
        Fault("POST", skip=1, status=200, headers=HTML, body=PAGE),
    ],
    ids=["pack cut", "cut before the pack", "reset", "500", "login page"],
)
def test_failing_fetch_leaves_a_store_that_the_next_one_fills(
    devices: Devices,
    objects: GitObjects,
    server: GitHttpServer,
    publisher: Publisher,
    fault: Fault,
) -> None:
    files = some()
    publisher.publish(files)
    follower = devices.following(server.url())
    (offer,) = poll(follower)
    server.fault = fault
    with pytest.raises(SourceUnreachable):
        follower.fetch(offer)
    assert list((objects.path / "objects/pack").iterdir()) == []
    server.fault = None
    assert follower.fetch(offer) > 200_000
    assert len(objects.listing(objects.tree_of(offer.commit), FakeProgress())) == len(files)


@pytest.mark.root
def test_full_disk_is_not_kept_full_by_half_a_pack(
    git: Git, server: GitHttpServer, publisher: Publisher, tmp_path: Path
) -> None:
    publisher.publish(some(200))
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(disk)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("may not mount a small disk here")
    try:
        objects = GitObjects(git, disk / "repo.git", move_aside=atomic.rename)
        objects.prepare()
        follower = Follower(git, objects, tmp_path / "scratch", access(server.url()))
        (offer,) = poll(follower)
        with pytest.raises(DiskFull):
            follower.fetch(offer)
        assert objects.size_bytes() < 100_000
        publisher.publish({"a": b"small"})
        (offer,) = poll(follower)
        assert follower.fetch(offer) > 0
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_fetch_that_is_ended_leaves_no_litter(
    devices: Devices, objects: GitObjects, server: GitHttpServer, publisher: Publisher
) -> None:
    publisher.publish(some(200))
    follower = devices.following(server.url())
    (offer,) = poll(follower)
    follower.progress.end_after(4, Stopped())
    with pytest.raises(Stopped):
        follower.fetch(offer)
    assert [file.name for file in objects.path.rglob("tmp_*")] == []
    assert [file.name for file in objects.path.rglob("*.lock")] == []
    again = devices.following(server.url())
    again.fetch(offer)
    assert objects.has(offer.commit)


@pytest.mark.parametrize("channel", ["branch:main", "commit"])
def test_lost_content_under_a_fetched_commit_is_damage(
    devices: Devices,
    git: Git,
    objects: GitObjects,
    server: GitHttpServer,
    publisher: Publisher,
    *,
    channel: str,
) -> None:
    commit = publisher.publish({"a": b"1"})
    follower = devices.following(server.url())
    wanted = f"commit:{commit}" if channel == "commit" else channel
    (offer,) = poll(follower, parse_channel(wanted))
    follower.fetch(offer)
    (entry,) = objects.listing(objects.tree_of(commit), FakeProgress())
    unpack(git, objects)
    (objects.path / "objects" / entry.oid[:2] / entry.oid[2:]).unlink()
    with pytest.raises(StoreDamaged):
        follower.fetch(offer)


def test_release_that_builds_upon_lost_content_is_damage(
    devices: Devices,
    git: Git,
    objects: GitObjects,
    server: GitHttpServer,
    publisher: Publisher,
) -> None:
    publisher.publish({"a": b"lost", "b": b"1"})
    follower = devices.following(server.url())
    (offer,) = poll(follower)
    follower.fetch(offer)
    objects.keep("1-abcdef-123456789abc", offer.commit)
    lost, _ = objects.listing(objects.tree_of(offer.commit), FakeProgress())
    unpack(git, objects)
    (objects.path / "objects" / lost.oid[:2] / lost.oid[2:]).unlink()
    publisher.change({"b": b"2"})
    (offer,) = poll(follower)
    with pytest.raises(StoreDamaged):
        follower.fetch(offer)
    objects.set_aside()
    follower.fetch(offer)
    assert len(objects.listing(objects.tree_of(offer.commit), FakeProgress())) == 2


@pytest.mark.parametrize("annotated", [False, True])
@pytest.mark.parametrize("what", ["{commit}^{{tree}}", "{commit}:a"])
def test_tag_that_leads_to_no_commit_is_the_publishers(
    devices: Devices,
    objects: GitObjects,
    server: GitHttpServer,
    publisher: Publisher,
    *,
    what: str,
    annotated: bool,
) -> None:
    commit = publisher.publish({"a": b"1"})
    publisher.tag_object("v1.0.0", what.format(commit=commit), annotated=annotated)
    follower = devices.following(server.url())
    (offer,) = poll(follower, parse_channel("tag:*"))
    with pytest.raises(NoCommit, match=r"v1\.0\.0"):
        follower.fetch(offer)
    assert not objects.has(offer.commit)
    with pytest.raises(StoreDamaged):
        objects.tree_of(offer.commit)
    objects.prepare()
    assert not objects.path.with_name("repo.git.damaged").exists()
    assert not objects.is_damaged(FakeProgress())
    (offer,) = poll(follower)
    follower.fetch(offer)
    assert objects.has(commit)


def test_tree_that_git_refuses_is_the_publishers(
    devices: Devices, server: GitHttpServer, publisher: Publisher
) -> None:
    publisher.publish_literally([(b"100644", b"..", b"escape")])
    follower = devices.following(server.url())
    (offer,) = poll(follower)
    with pytest.raises(TreeHostile):
        follower.fetch(offer)


# --- offers and fetches -------------------------------------------------------------------------


def test_poll_that_finds_nothing_new_is_one_listing(
    devices: Devices, guarded: GitHttpServer, publisher: Publisher
) -> None:
    mark = publisher.publish({"a": b"1"})
    follower = devices.following(guarded.url(), token=TOKEN)
    follower.source.poll(MAIN, mark, follower.progress)
    assert [request.method for request in guarded.requests] == ["GET", "POST"]


def test_source_says_what_it_follows(devices: Devices) -> None:
    source = devices.following("https://git.example.com/acme/fw.git").source
    assert source.project == "git.example.com/acme/fw"
    assert source.address == "https://git.example.com/acme/fw.git"


def test_one_commit_is_offered_without_a_request(devices: Devices, server: GitHttpServer) -> None:
    assert poll(devices.following(server.url()), Commit("1" * 40)) == [Offer("1" * 40, "")]
    assert server.requests == []


def test_commit_that_is_there_is_not_asked_for_again(
    devices: Devices, server: GitHttpServer, publisher: Publisher
) -> None:
    commit = publisher.publish({"a": b"1"})
    follower = devices.following(server.url())
    follower.fetch(Offer(commit, ""))
    asked = len(server.requests)
    assert follower.fetch(Offer(commit, "")) == 0
    assert len(server.requests) == asked


@pytest.mark.parametrize("speaks_v2", [True, False])
def test_commit_that_is_not_given_out_is_the_operators(
    devices: Devices, server: GitHttpServer, publisher: Publisher, speaks_v2: bool
) -> None:
    commit = publisher.publish({"a": b"1"}) if not speaks_v2 else "1" * 40
    publisher.publish({"a": b"2"})
    server.speaks_v2, server.gives_any_commit = speaks_v2, False
    with pytest.raises(SourceNotFound, match=commit):
        devices.following(server.url()).fetch(Offer(commit, ""))


def test_default_branch_is_the_remotes(
    devices: Devices, server: GitHttpServer, publisher: Publisher
) -> None:
    publisher.publish({"a": b"1"})
    other = publisher.publish({"a": b"2"}, branch="stable/next")
    publisher.set_default_branch("stable/next")
    follower = devices.following(server.url())
    (offer,) = poll(follower, Branch())
    assert (offer.commit, offer.ref) == (other, "refs/heads/stable/next")
    follower.fetch(offer)


def test_head_on_no_branch_is_offered_as_head(
    devices: Devices, server: GitHttpServer, publisher: Publisher
) -> None:
    commit = publisher.publish({"a": b"1"})
    (publisher.path / "HEAD").write_text(f"{commit}\n")
    follower = devices.following(server.url())
    (offer,) = poll(follower, Branch())
    assert (offer.commit, offer.ref) == (commit, "HEAD")
    follower.fetch(offer)


def test_renamed_tag_object_is_refused(
    devices: Devices, server: GitHttpServer, publisher: Publisher
) -> None:
    publisher.tag("v2.0.0", publisher.publish({"a": b"1"}), inner="v1.0.0")
    follower = devices.following(server.url())
    (offer,) = poll(follower, parse_channel("tag:*"))
    with pytest.raises(VersionMismatch, match=r"v1\.0\.0"):
        follower.fetch(offer)


def test_tag_object_with_an_odd_header_is_read(
    devices: Devices, objects: GitObjects, server: GitHttpServer, publisher: Publisher
) -> None:
    commit = publisher.publish({"a": b"1"})
    publisher.tag("v1.0.0", commit, extra_header="odd\n")
    follower = devices.following(server.url())
    (offer,) = poll(follower, parse_channel("tag:*"))
    follower.fetch(offer)
    assert objects.has(commit)


def test_tag_object_that_was_offered_with_another_commit_has_changed(
    devices: Devices, server: GitHttpServer, publisher: Publisher
) -> None:
    commit = publisher.publish({"a": b"1"})
    other = publisher.publish({"a": b"2"})
    tag_object = publisher.tag("v1.0.0", commit, annotated=True)
    follower = devices.following(server.url())
    with pytest.raises(SourceChanged):
        follower.fetch(Offer(other, "refs/tags/v1.0.0", tag_object=tag_object))


@pytest.mark.parametrize("scheme", ["http", "file"])
def test_next_release_costs_what_changed(
    devices: Devices, objects: GitObjects, server: GitHttpServer, publisher: Publisher, scheme: str
) -> None:
    files = some(500, 10_000)
    publisher.publish(files)
    follower = devices.following(server.url() if scheme == "http" else publisher.url)
    (offer,) = poll(follower)
    assert follower.fetch(offer) > 5_000_000
    objects.keep("1-abcdef-123456789abc", offer.commit)
    publisher.change({"d1/f1": os.urandom(1000), "new": b"small"})
    (offer,) = poll(follower)
    assert 0 < follower.fetch(offer) < 5_000
    assert len(objects.listing(objects.tree_of(offer.commit), FakeProgress())) == 501
    # The mark moved on, the object it is built upon is still there: back costs next to nothing.
    publisher.change({"new": None})
    (offer,) = poll(follower)
    assert 0 < follower.fetch(offer) < 2_000


def test_repository_of_another_user_on_this_device_is_read(
    devices: Devices, publisher: Publisher
) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a repository away")
    publisher.publish({"a": b"1"})
    for path in (publisher.path, *publisher.path.rglob("*")):
        os.chown(path, 65534, 65534)
    follower = devices.following(publisher.url)
    (offer,) = poll(follower)
    assert follower.fetch(offer) > 0


def test_path_with_odd_characters_is_read(devices: Devices, tmp_path: Path) -> None:
    odd = Publisher(tmp_path / '100% odd "name" here', "my fw")
    commit = odd.publish({"a": b"1"})
    (offer,) = poll(devices.following(f"file://{quote(str(odd.path))}"))
    assert offer.commit == commit
    plain = Publisher(tmp_path / "100%_odd'name", "fw")
    commit = plain.publish({"a": b"2"})
    (offer,) = poll(devices.following(str(plain.path)))
    assert offer.commit == commit
