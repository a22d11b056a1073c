"""A publisher's real repository, and a device that follows it."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from ota_agent.config import Config, Disk, Source
from ota_agent.wiring import build_agent
from servers.publisher import Publisher

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from ota_agent.model.command import Outcome


@pytest.fixture(autouse=True)
def own_signals() -> Iterator[None]:
    """Put the handlers back that an agent in this process has set."""
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def publisher(tmp_path: Path) -> Publisher:
    return Publisher(tmp_path / "publisher")


@pytest.fixture
def config(tmp_path: Path, publisher: Publisher) -> Config:
    return Config(
        work_dir=tmp_path / "device",
        source=Source(type="git", url=publisher.url),
        disk=Disk(reserve_bytes=0, reserve_inodes=0),
    )


@pytest.fixture
def run_once(config: Config) -> Callable[[], Outcome]:
    """Do one round of the agent."""

    def run() -> Outcome:
        agent = build_agent(config, "door-7", once=True)
        try:
            return agent.run_once()
        finally:
            agent.close()

    return run
