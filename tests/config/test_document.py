from __future__ import annotations

import pytest

from ota_agent.config import document
from ota_agent.errors import ConfigError


def refusal(text: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        document.parse(text, "file.json")
    return caught.value


def test_every_key_and_element_knows_its_line() -> None:
    text = '{\n"a": {"b": [1,\n 2, {"c": "x, {y"}],\n"d": {}},\n"e": [[], {}, "f"],\n"g": 1}'
    found = document.parse(text, "file.json")
    assert found.values == {"a": {"b": [1, 2, {"c": "x, {y"}], "d": {}}, "e": [[], {}, "f"], "g": 1}
    assert {document.dotted(path): line for path, line in found.lines.items()} == {
        "a": 2,
        "a.b": 2,
        "a.b[0]": 2,
        "a.b[1]": 3,
        "a.b[2]": 3,
        "a.b[2].c": 3,
        "a.d": 4,
        "e": 5,
        "e[0]": 5,
        "e[1]": 5,
        "e[2]": 5,
        "g": 6,
    }


def test_broken_json_is_told_with_line_column_and_excerpt() -> None:
    error = refusal('{\n  "a": 1\n  "b": 2\n}')
    assert str(error) == (
        "file.json is not JSON, line 3, column 3: expecting ',' delimiter\n  \"b\": 2"
    )
    assert "a comma" in error.hint


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ('{"a": 1,}', "Take out the comma"),
        ('{"a": [1, ]}', "Take out the comma"),
        ('{"a": 1, // first\n "b": 2}', "no comments"),
        ('{"a": 1, # first\n "b": 2}', "no comments"),
        ("{'a': 1}", "double quotes"),
        ('{"a": 1', "just before"),
    ],
)
def test_usual_mistakes_get_their_remedy(text: str, remedy: str) -> None:
    assert remedy in refusal(text).hint


def test_file_that_ends_too_early_has_no_excerpt() -> None:
    assert str(refusal('{"a":\n')).count("\n") == 0


@pytest.mark.parametrize(
    "text",
    [
        '{"device_token": "s3cr3t" x}',
        '{"device_token": "s3cr3t, s3cr3t\n}',
        '{"device_token": s3cr3t}',
        '{"device_token" "s3cr3t"}',
        '{"device_token":\n"s3cr3t" x}',
        '{"device_token": "a" "s3cr3t"}',
        "{'supabase_key': 's3cr3t'}",
        '{"password"= "s3cr3t"}',
        '{"url": "https://u:s3cr3t@git.example.com/fw.git" x}',
        '{"url": "https://u:s3cr3t@git.example.com/fw.git}',
    ],
)
def test_excerpt_masks_what_is_secret(text: str) -> None:
    assert "s3cr3t" not in str(refusal(text))


def test_excerpt_shows_keys_that_only_sound_secret() -> None:
    assert "token_host" in str(refusal('{"token_host": "git.example.com" x}'))
    assert "git.example.com" in str(refusal('{"token_host": "git.example.com" x}'))


def test_excerpt_holds_no_control_characters() -> None:
    assert "\x1b" not in str(refusal('{"a": \x1b[2J}'))


@pytest.mark.parametrize(
    "text", ['{"a": NaN}', '{"a": Infinity}', '{"a": ' + "9" * 5000 + "}", '{"a": ' + "[" * 99999]
)
def test_numbers_and_nesting_beyond_bounds_are_refused(text: str) -> None:
    assert "beyond all bounds" in str(refusal(text))


@pytest.mark.parametrize("text", ["[]", "3", '"x"', "null"])
def test_anything_but_an_object_is_refused(text: str) -> None:
    assert "one JSON object" in str(refusal(text))


def test_key_given_twice_is_refused_because_one_would_be_lost() -> None:
    assert "gives b twice" in str(refusal('{"a": {"b": 1, "b": 2}}'))
