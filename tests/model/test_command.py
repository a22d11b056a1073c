from __future__ import annotations

from ota_agent.model.command import Ask, Command, Exit, Outcome


def test_exit_codes_are_those_that_scripts_rely_on() -> None:
    assert {code.name: code.value for code in Exit} == {
        "DONE": 0,
        "FAILED": 1,
        "USAGE": 2,
        "NOTHING": 3,
        "REFUSED": 4,
        "NO_AGENT": 5,
        "CONFIG": 78,
    }


def test_commands_are_named_as_on_the_command_line() -> None:
    assert [ask.value for ask in Ask] == ["check", "update", "rollback", "retry"]


def test_two_commands_never_share_their_arguments() -> None:
    one, other = Command(Ask.CHECK), Command(Ask.CHECK)

    assert one == other
    assert one.args is not other.args
    assert Outcome(Exit.DONE, "done").data is not Outcome(Exit.DONE, "done").data
