"""What every test gets: a bare environment, an empty home, no network and no processes.

Marked `network`, a test may use loopback; marked `process`, it may start processes.
"""

from __future__ import annotations

import importlib
import logging
import os
import signal
import sys
from typing import TYPE_CHECKING

import hypothesis
import pytest
import structlog

if TYPE_CHECKING:
    from collections.abc import Iterator

LOOPBACK = ["127.0.0.0/8", "::1", "localhost"]

# What would reach the agent, git or a client library from the shell that the tests are run in.
FOREIGN_PREFIXES = (
    "CREDENTIALS_DIRECTORY",
    "GIT_",
    "GITLAB_",
    "INVOCATION_ID",
    "JOURNAL_STREAM",
    "LISTEN_",
    "NOTIFY_SOCKET",
    "OTA_AGENT_",
    "SSH_",
    "SUPABASE_",
    "WATCHDOG_",
    "XDG_",
)
FOREIGN_SUFFIXES = ("_PROXY",)

# Audit events of the interpreter, so no door is missed, whichever module opens it.
PROCESS_EVENTS = frozenset(
    {
        "os.exec",
        "os.fork",
        "os.forkpty",
        "os.posix_spawn",
        "os.spawn",
        "os.system",
        "pty.spawn",
        "subprocess.Popen",
    }
)

# How long an example may take says more about the machine than about the code.
hypothesis.settings.register_profile(
    "ota-agent", deadline=None, database=None, print_blob=True, derandomize="CI" in os.environ
)
hypothesis.settings.load_profile("ota-agent")


class ProcessGuard:
    """Refuses processes while a test runs that is not marked for them."""

    def __init__(self) -> None:
        self.is_closed = False

    def audit(self, event: str, _arguments: object) -> None:
        if self.is_closed and event in PROCESS_EVENTS:
            # Not an Exception: code under test that expects failures must not swallow it.
            pytest.fail(f"{event}: only a test marked `process` may start a process")


guard = ProcessGuard()


def is_foreign(name: str) -> bool:
    return name.startswith(FOREIGN_PREFIXES) or name.upper().endswith(FOREIGN_SUFFIXES)


def pytest_configure() -> None:
    # An audit hook cannot be taken back: one for the whole run, opened and closed by the guard.
    sys.addaudithook(guard.audit)
    # GitPython asks git for its version when it is imported; no test is to be the first.
    importlib.import_module("git")
    # A shell's background job ignores them, and so would every process that a test starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    # Fixtures of a wider scope come before `bare_environment`.
    for name in filter(is_foreign, list(os.environ)):
        del os.environ[name]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("network"):
            item.add_marker(pytest.mark.allow_hosts(LOOPBACK))


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("root") and os.geteuid() != 0:
        pytest.skip("needs root")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    guard.is_closed = item.get_closest_marker("process") is None
    try:
        return (yield)
    finally:
        guard.is_closed = False


@pytest.fixture(autouse=True)
def bare_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Give each test a HOME of its own, with nothing in it."""
    monkeypatch.setenv("HOME", str(tmp_path_factory.mktemp("home")))


@pytest.fixture(autouse=True)
def fresh_log(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Give each test a log that nobody has set up, and leave it so."""
    logger = importlib.import_module("ota_agent.log.logger")
    monkeypatch.setattr(logger._State, "threshold", logger.LEVELS["warning"])
    monkeypatch.setattr(logger._State, "is_configured", False)
    root = logging.getLogger()
    handlers = list(root.handlers)
    yield
    root.handlers[:] = handlers
    structlog.reset_defaults()
