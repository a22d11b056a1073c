"""No test here knows a secret of another one, or finds a journal."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ota_agent.log import lines, masking

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def no_secrets_and_no_journal(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(masking._Known, "secrets", ())
    # The machine that runs the tests may have a journal.
    monkeypatch.setattr(lines, "_JOURNALD", tmp_path / "no-journal")
