"""Each test begins with a log that nobody has set up."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest
import structlog

from ota_agent.log import lines, logger, masking

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def fresh_log(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setattr(logger._State, "threshold", logger.LEVELS["warning"])
    monkeypatch.setattr(logger._State, "is_configured", False)
    monkeypatch.setattr(masking._Known, "secrets", ())
    # The machine that runs the tests may have a journal.
    monkeypatch.setattr(lines, "_JOURNALD", tmp_path / "no-journal")
    root = logging.getLogger()
    handlers = list(root.handlers)
    yield
    root.handlers[:] = handlers
    structlog.reset_defaults()
