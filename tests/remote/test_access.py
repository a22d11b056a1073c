from __future__ import annotations

from pathlib import Path

import pytest

from ota_agent.errors import ConfigError, TokenRefused
from ota_agent.remote.access import Credentials, SshFiles, access
from ota_agent.remote.git_failures import failure

DEVICE = Credentials("oauth2", "t0ken-of-device")
HEADER = "Authorization: Basic b2F1dGgyOnQwa2VuLW9mLWRldmljZQ=="


@pytest.mark.parametrize(
    ("url", "protocol", "project", "address"),
    [
        (
            "https://git.example.com/acme/fw.git",
            "https",
            "git.example.com/acme/fw",
            "https://git.example.com/acme/fw.git",
        ),
        (
            "https://GIT.example.com:443/acme/fw/",
            "https",
            "git.example.com/acme/fw",
            "https://GIT.example.com:443/acme/fw/",
        ),
        (
            "https://git.example.com:8443/fw",
            "https",
            "git.example.com:8443/fw",
            "https://git.example.com:8443/fw",
        ),
        (
            "http://[::1]:8080/fw.git",
            "http",
            "[::1]:8080/fw",
            "http://[::1]:8080/fw.git",
        ),
        (
            "git@git.example.com:acme/fw.git",
            "ssh",
            "git.example.com/acme/fw",
            "ssh://git.example.com",
        ),
        (
            "ssh://git@git.example.com:2222/acme/fw.git",
            "ssh",
            "git.example.com:2222/acme/fw",
            "ssh://git.example.com:2222",
        ),
        ("file:///srv/fw.git", "file", "file:///srv/fw", None),
        ("/srv/fw.git", "file", "file:///srv/fw", None),
    ],
)
def test_address_names_its_project_whatever_its_spelling(
    url: str, protocol: str, project: str, address: str | None
) -> None:
    reached = access(url)
    assert (reached.protocol, reached.project, reached.address) == (protocol, project, address)


@pytest.mark.parametrize(
    "url",
    [
        "https://oauth2:secret@git.example.com/fw.git",
        "https://secret@git.example.com/fw.git",
        "http://git.example.com/fw.git",
        "ext::sh -c whatever",
        "git://git.example.com/fw.git",
        "file://elsewhere/fw.git",
        "relative/path",
        "-oProxyCommand=x:fw",
        "",
    ],
)
def test_address_that_the_agent_may_not_use_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(ConfigError) as refused:
        access(url)
    assert "secret" not in str(refused.value)


def test_token_is_for_the_own_host_unless_another_is_named() -> None:
    url = "https://git.example.com/fw.git"
    sent = {"http.https://git.example.com/.extraHeader": HEADER}
    assert access(url, credentials=DEVICE).config == sent
    assert access(url, credentials=DEVICE, token_host="git.example.com").config == sent


@pytest.mark.parametrize(
    ("url", "token_host"),
    [
        ("https://other.example.com/fw.git", "git.example.com"),
        ("https://git.example.com:8443/fw.git", "git.example.com"),
        ("https://git.example.com/fw.git", "git.example.com:8443"),
        ("https://sub.git.example.com/fw.git", "git.example.com"),
    ],
)
def test_token_stays_at_home_for_any_other_host(url: str, token_host: str) -> None:
    assert access(url, credentials=DEVICE, token_host=token_host).config == {}


@pytest.mark.parametrize(
    ("credentials", "token_host", "says", "hint"),
    [
        (None, None, "this device has none", "Give the device a token"),
        (DEVICE, "other.example.com", "is for other.example.com alone", "source.token_host"),
        (DEVICE, None, "refused the credentials", "valid token"),
    ],
)
def test_refusal_tells_a_wrong_token_from_none_and_from_one_for_another_host(
    credentials: Credentials | None, token_host: str | None, says: str, hint: str
) -> None:
    url = "https://git.example.com/fw.git"
    reached = access(url, credentials=credentials, token_host=token_host)
    error = failure("fatal: Authentication failed for 'x'", 128, refusal=reached.refusal)
    assert isinstance(error, TokenRefused)
    assert says in error.message
    assert hint in error.hint


@pytest.mark.parametrize("url", ["git@git.example.com:fw.git", "file:///srv/fw.git"])
def test_token_is_not_for_ssh_or_paths(url: str) -> None:
    assert access(url, credentials=DEVICE).config == {}


def test_nothing_that_shows_an_access_shows_the_token() -> None:
    reached = access("https://git.example.com/fw.git", credentials=DEVICE)
    for text in (repr(reached), repr(DEVICE), str(reached)):
        assert DEVICE.token not in text
        assert HEADER not in text


def test_ssh_asks_nobody_and_trusts_what_it_was_given() -> None:
    files = SshFiles(Path("/etc/ota key/100%"), Path('/etc/known "hosts"'))
    command = access("git@git.example.com:fw.git", ssh=files).environment["GIT_SSH_COMMAND"]
    for word in (
        "BatchMode=yes",
        "IdentitiesOnly=yes",
        "'IdentityFile=\"/etc/ota key/100%%\"'",
        "StrictHostKeyChecking=yes",
        '\'UserKnownHostsFile="/etc/known \\"hosts\\""\'',
    ):
        assert word in command


def test_ssh_is_left_its_own_key_and_hosts_where_none_are_given() -> None:
    command = access("git@git.example.com:fw.git").environment["GIT_SSH_COMMAND"]
    assert "Identit" not in command
    assert "Known" not in command
