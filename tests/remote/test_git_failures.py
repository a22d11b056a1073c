"""Every text here is what git 2.39 really said."""

from __future__ import annotations

import pytest

from ota_agent.errors import (
    AgentError,
    DiskFault,
    DiskFull,
    GitUnusable,
    SourceBusy,
    SourceChanged,
    SourceNotFound,
    SourceRedirected,
    SourceUnreachable,
    SourceUntrusted,
    StoreDamaged,
    TokenRefused,
    TransientError,
    TreeHostile,
)
from ota_agent.remote.git_failures import MAX_MESSAGE, failure, scrub

URL = "https://git.example.com/app.git/"
SSH_TAIL = """\
fatal: Could not read from remote repository.

Please make sure you have the correct access rights
and the repository exists.
"""
LOCKED = """\
fatal: Unable to create '/srv/repo.git/shallow.lock': File exists.

Another git process seems to be running in this repository, e.g.
an editor opened by 'git commit'. Please make sure all processes
are terminated then try again.
"""


def returned(status: int) -> str:
    return f"fatal: unable to access '{URL}': The requested URL returned error: {status}"


@pytest.mark.parametrize(
    ("stderr", "kind"),
    [
        (f"fatal: could not read Username for '{URL}': terminal prompts disabled", TokenRefused),
        (f"fatal: Authentication failed for '{URL}'", TokenRefused),
        (returned(401), TokenRefused),
        (f"remote: You are not allowed to download code.\n{returned(403)}", TokenRefused),
        (returned(404), SourceNotFound),
        (returned(410), SourceNotFound),
        (returned(301), SourceRedirected),
        (returned(307), SourceRedirected),
        (returned(429), SourceBusy),
        (returned(503), SourceBusy),
        (returned(500), SourceUnreachable),
        (returned(502), SourceUnreachable),
        (f"fatal: repository '{URL}' not found", SourceNotFound),
        (f"fatal: '/tmp/nope' does not appear to be a git repository\n{SSH_TAIL}", SourceNotFound),
        (f"fatal: protocol error: bad line length character: <htm\n{SSH_TAIL}", SourceUnreachable),
        (f"fatal: unable to access '{URL}': Could not resolve host: git.example.com", None),
        (f"fatal: unable to access '{URL}': Empty reply from server", None),
        (f"fatal: unable to access '{URL}': Failed to connect to git.example.com port 443", None),
        (f"fatal: unable to access '{URL}': gnutls_handshake() failed: unexpected packet", None),
        (
            (
                f"fatal: unable to access '{URL}': Operation too slow. Less than 1 bytes/sec"
                " transferred the last 120 seconds"
            ),
            None,
        ),
        (
            (
                "error: RPC failed; curl 18 transfer closed with outstanding read data remaining\n"
                "error: 6775 bytes of body are still expected\n"
                "fetch-pack: unexpected disconnect while reading sideband packet\n"
                "fatal: protocol error: bad pack header"
            ),
            None,
        ),
        ("fatal: early EOF\nfatal: fetch-pack: invalid index-pack output", None),
        ("error: RPC failed; HTTP 503 curl 22 The requested URL returned error: 503", SourceBusy),
        ("fatal: expected flush after ref listing", None),
        ("fatal: the remote end hung up unexpectedly", None),
        ("fatal: dumb http transport does not support shallow capabilities", None),
        (f"ssh: connect to host x port 22: Connection refused\n{SSH_TAIL}", None),
        (f"ssh: Could not resolve hostname x: Name or service not known\n{SSH_TAIL}", None),
        (f"Connection to 10.0.0.1 port 22 timed out\n{SSH_TAIL}", None),
        (f"git@x: Permission denied (publickey).\n{SSH_TAIL}", TokenRefused),
        (f"Host key verification failed.\n{SSH_TAIL}", SourceUntrusted),
        (
            (
                f"fatal: unable to access '{URL}': server certificate verification failed."
                " CAfile: none CRLfile: none"
            ),
            SourceUntrusted,
        ),
        (
            (
                "fatal: unable to access 'https://x/y/': SSL certificate problem: certificate has"
                " expired"
            ),
            SourceUntrusted,
        ),
        ("fatal: detected dubious ownership in repository at '/srv/app.git'", SourceUntrusted),
        ("fatal: couldn't find remote ref refs/heads/gone", SourceChanged),
        ("fatal: remote error: upload-pack: not our ref 1111", SourceChanged),
        ("error: Server does not allow request for unadvertised object 1111", SourceChanged),
        (
            "fatal: remote error: GitLab is currently unable to handle this request due to load",
            SourceBusy,
        ),
        ("fatal: remote error: access denied or repository not exported: /app.git", TokenRefused),
        (
            "fatal: remote error: The project you were looking for could not be found",
            SourceNotFound,
        ),
        ("fatal: remote error: something else", SourceUnreachable),
        ("fatal: mismatched algorithms: client sha1; server sha256", SourceNotFound),
        (
            (
                "error: object 11: hasDotdot: contains '..'\nfatal: fsck error in packed object\n"
                "fatal: fetch-pack: invalid index-pack output"
            ),
            TreeHostile,
        ),
        (
            (
                "fatal: write error: No space left on device\n"
                "fatal: fetch-pack: invalid index-pack output"
            ),
            DiskFull,
        ),
        (
            (
                "fatal: sha1 file '/run/d/private/repo.git/x' write error. Out of diskspace\n"
                "fatal: the remote end hung up unexpectedly\nfatal: early EOF"
            ),
            DiskFull,
        ),
        ("fatal: unable to write file: ENOSPC", DiskFull),
        ("error: cannot open '/srv/repo.git/FETCH_HEAD': Read-only file system", DiskFault),
        ("fatal: read error: Input/output error", DiskFault),
        (LOCKED, DiskFault),
        ("fatal: not a git repository: 'repo.git'", StoreDamaged),
        ("fatal: bad config line 1 in file repo.git/config", StoreDamaged),
        ("fatal: bad shallow line: xx", StoreDamaged),
        ("fatal: unexpected line in repo.git/packed-refs: garbage", StoreDamaged),
        ("fatal: missing object 11 for refs/ota/x", StoreDamaged),
        ("fatal: packed object 11 (stored in repo.git/x.pack) is corrupt", StoreDamaged),
        ("fatal: Needed a single revision", StoreDamaged),
        (
            (
                "fatal: did not receive expected object 11\n"
                "fatal: fetch-pack: invalid index-pack output"
            ),
            StoreDamaged,
        ),
        (
            "fatal: pack has 1 unresolved delta\nfatal: fetch-pack: invalid index-pack output",
            StoreDamaged,
        ),
        ("env: 'git': No such file or directory", GitUnusable),
        ("", TransientError),
        ("fatal: something that nobody has seen", TransientError),
    ],
)
def test_last_words_tell_who_has_to_act(stderr: str, kind: type[AgentError] | None) -> None:
    assert type(failure(stderr, 128)) is (kind or SourceUnreachable)


def test_server_cannot_speak_for_the_device() -> None:
    lies = "remote: fatal: No space left on device\nremote: error: missing object\n"
    assert type(failure(lies + returned(500), 128)) is SourceUnreachable
    lie = "fatal: remote error: No space left on device"
    assert type(failure(lie, 128)) is SourceUnreachable


def test_name_of_a_project_decides_nothing() -> None:
    text = "fatal: unable to access 'https://x/certificate-not-found.git/': Could not resolve host"
    assert type(failure(text, 128)) is SourceUnreachable


def test_what_a_busy_server_asks_for_is_handed_on() -> None:
    busy = failure(returned(429), 128, retry_after_s=30.0)
    assert isinstance(busy, SourceBusy)
    assert busy.retry_after_s == 30


def test_message_is_short_printable_and_says_what_git_said() -> None:
    error = failure("warning: so\nfatal: bad \x1b[31m thing\n" + "x" * 9000, 128)
    assert "fatal: bad ?[31m thing" in error.message
    assert len(failure("fatal: " + "x" * 9000, 128).message) < MAX_MESSAGE + 100
    assert "exit code -9" in failure("", -9).message


@pytest.mark.parametrize(
    "text",
    [
        "at https://oauth2:s3cret@git.example.com/fw.git",
        "header Authorization: Basic s3cret",
        "header authorization: Bearer s3cret",
        "header PRIVATE-TOKEN: s3cret",
        "plain s3cret",
    ],
)
def test_secrets_are_taken_out(text: str) -> None:
    assert "s3cret" not in scrub(text, ["s3cret"] if "plain" in text else [])
