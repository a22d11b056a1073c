from __future__ import annotations

import json
from typing import TYPE_CHECKING

from ota_agent.model.command import Exit, Outcome

if TYPE_CHECKING:
    from collections.abc import Callable

    from click.testing import Result

    from fakes.wiring import FakeWiring


def test_differences_are_listed_and_exit_one(
    device: FakeWiring, command: Callable[..., Result]
) -> None:
    device.answer = Outcome(Exit.FAILED, "1 file differs", {"files": ["app/main.py"]})
    result = command("verify")
    assert (result.exit_code, result.stdout) == (1, "app/main.py differs\n")
    assert result.stderr == "error: 1 file differs\n"


def test_json_is_the_only_thing_on_stdout(
    device: FakeWiring, command: Callable[..., Result]
) -> None:
    assert json.loads(command("verify", "--json").stdout) == {
        "message": "done",
        "code": None,
        "hint": None,
        "did": "it",
    }
