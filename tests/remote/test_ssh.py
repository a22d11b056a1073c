"""A source behind a real sshd."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ota_agent.errors import SourceNotFound, SourceUnreachable, SourceUntrusted, TokenRefused
from ota_agent.model.channel import Branch
from ota_agent.model.release import Ancestry
from ota_agent.remote.access import SshFiles, access
from servers.ssh import SSHD, SshServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ota_agent.remote.git_objects import GitObjects
    from remote.conftest import Devices, Follower
    from servers.publisher import Publisher

pytestmark = [
    pytest.mark.process,
    pytest.mark.network,
    pytest.mark.skipif(SSHD is None, reason="needs sshd, as openssh-server installs it"),
]

MAIN = Branch("main")


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[SshServer]:
    with SshServer(tmp_path / "keys of ssh") as running:
        yield running


def following(
    devices: Devices, sshd: SshServer, path: Path, *, key: Path, known_hosts: Path
) -> Follower:
    return devices.reaching(access(sshd.url(path), ssh=SshFiles(key, known_hosts)))


def test_release_comes_over_ssh_and_the_next_one_as_a_difference(
    devices: Devices, objects: GitObjects, sshd: SshServer, publisher: Publisher
) -> None:
    publisher.publish({f"{n}": bytes([n]) * 9000 for n in range(99)})
    follower = following(devices, sshd, publisher.path, key=sshd.key, known_hosts=sshd.known_hosts)
    (first,) = follower.source.poll(MAIN, None, follower.progress)
    follower.fetch(first)
    objects.keep("1-abcdef-123456789abc", first.commit)
    publisher.change({"0": b"small"})
    (second,) = follower.source.poll(MAIN, first.commit, follower.progress)
    # A plain server has no filters: the walk went without.
    assert second.ancestry is Ancestry.DESCENDANT
    assert 0 < follower.fetch(second) < 3000
    assert objects.has(second.commit)


def test_host_that_is_not_known_gets_nothing(
    devices: Devices, sshd: SshServer, publisher: Publisher, tmp_path: Path
) -> None:
    nobody = tmp_path / "nobody"
    nobody.write_text("")
    follower = following(devices, sshd, publisher.path, key=sshd.key, known_hosts=nobody)
    with pytest.raises(SourceUntrusted):
        follower.source.poll(MAIN, None, follower.progress)


def test_host_that_changed_its_key_gets_nothing(
    devices: Devices, sshd: SshServer, publisher: Publisher, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    public = sshd.other_key.with_suffix(".pub").read_text()
    other.write_text(f"[127.0.0.1]:{sshd.port} {public}")
    follower = following(devices, sshd, publisher.path, key=sshd.key, known_hosts=other)
    with pytest.raises(SourceUntrusted):
        follower.source.poll(MAIN, None, follower.progress)


def test_key_that_is_not_allowed_is_refused(
    devices: Devices, sshd: SshServer, publisher: Publisher
) -> None:
    follower = following(
        devices, sshd, publisher.path, key=sshd.other_key, known_hosts=sshd.known_hosts
    )
    with pytest.raises(TokenRefused):
        follower.source.poll(MAIN, None, follower.progress)


def test_project_that_is_not_there_is_not_found(
    devices: Devices, sshd: SshServer, publisher: Publisher
) -> None:
    nowhere = publisher.path.with_name("nowhere.git")
    follower = following(devices, sshd, nowhere, key=sshd.key, known_hosts=sshd.known_hosts)
    with pytest.raises(SourceNotFound):
        follower.source.poll(MAIN, None, follower.progress)


def test_nobody_who_listens_is_out_of_reach(
    devices: Devices, publisher: Publisher, tmp_path: Path
) -> None:
    sshd = SshServer(tmp_path / "keys")
    follower = following(devices, sshd, publisher.path, key=sshd.key, known_hosts=sshd.known_hosts)
    with pytest.raises(SourceUnreachable):
        follower.source.poll(MAIN, None, follower.progress)
