from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ota_agent import log

if TYPE_CHECKING:
    from typing import Any

Capsys = pytest.CaptureFixture[str]

SECRET = "glpat-s3cr/et+x"
FORMATS: list[log.Format] = ["console", "json", "journal"]


def fail(text: str) -> None:
    raise OSError(text)


def seen(capsys: Capsys, **keys: object) -> dict[str, Any]:
    log.configure("json", "info")
    log.get_logger("agent").info("said", **keys)
    values: dict[str, Any] = json.loads(capsys.readouterr().err)
    return values


@pytest.mark.parametrize("log_format", FORMATS)
def test_registered_secret_is_nowhere(capsys: Capsys, log_format: log.Format) -> None:
    log.register_secret(SECRET)
    log.configure(log_format, "info")
    logger = log.get_logger("agent").bind(bound=SECRET)
    event = f"fetched with {SECRET}"
    logger.info(
        event,
        url="https://u:glpat-s3cr%2Fet%2Bx@git.example.com/",
        argv=["git", SECRET, (SECRET,), {SECRET}],
        headers={"x": {"y": SECRET}, SECRET: 1},
        path=Path("/tmp") / SECRET,
        error=OSError(SECRET),
        **{SECRET: "a key"},
    )
    try:
        fail(f"refused: {SECRET}")
    except OSError:
        logger.exception("it failed")
    err = capsys.readouterr().err
    assert err.count("***") >= 10
    assert "s3cr" not in err


def test_secret_that_holds_another_leaves_no_rest(capsys: Capsys) -> None:
    log.register_secret("token-1")
    log.register_secret("token-12345")
    assert seen(capsys, text="token-12345 token-1")["text"] == "*** ***"


def test_what_is_too_short_to_be_a_secret_is_left_alone() -> None:
    log.register_secret("")
    log.register_secret("abc")
    assert log.mask("abc") == "abc"


def test_text_may_be_masked_for_reports_too() -> None:
    log.register_secret(SECRET)
    assert log.mask(f"cannot use {SECRET}") == "cannot use ***"


@pytest.mark.parametrize(
    "key",
    ["token", "key", "password", "secret", "Authorization", "device_token", "PRIVATE-TOKEN"],
)
def test_value_of_a_secret_s_key_is_masked_whatever_it_is(capsys: Capsys, key: str) -> None:
    assert seen(capsys, **{key: "x"})[key] == "***"
    assert seen(capsys, **{key: 7})[key] == "***"
    assert seen(capsys, headers={key: ["x"]})["headers"] == {key: "***"}


def test_that_there_is_none_is_no_secret(capsys: Capsys) -> None:
    values = seen(capsys, token=None, key=False)
    assert (values["token"], values["key"]) == (None, False)


@pytest.mark.parametrize("key", ["token_host", "ssh_key_file", "keys", "monkey"])
def test_key_that_only_looks_like_a_secret_s_is_shown(capsys: Capsys, key: str) -> None:
    assert seen(capsys, **{key: "x"})[key] == "x"


def test_values_stay_what_they_are(capsys: Capsys) -> None:
    values = seen(capsys, a=1, b=1.5, c=True, d=None, e=["x", 1], f={"g": "h"}, p=Path("/srv"))
    assert [values[name] for name in "abcdefp"] == [
        1,
        1.5,
        True,
        None,
        ["x", 1],
        {"g": "h"},
        "/srv",
    ]
