from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from click.testing import Result


def test_values_are_shown_with_their_origin(command: Callable[..., Result]) -> None:
    lines = command("config", "show", "--set", "labels=x86,kiosk").stdout.splitlines()
    rows = {line.split()[0]: line for line in lines}
    assert rows["labels"].endswith("--set labels")
    assert '["x86", "kiosk"]' in rows["labels"]
    assert rows["poll_interval_s"].split()[1:] == ["300", "default"]
    assert rows["source.url"].endswith("the inline configuration")


def test_secrets_are_masked(command: Callable[..., Result]) -> None:
    secrets = {"GITLAB_TOKEN": "s3cr3t", "OTA_AGENT_DEVICE_TOKEN": "s3cr3t"}
    for arguments in (("config", "show"), ("config", "show", "--json")):
        result = command(*arguments, env=secrets)
        assert "s3cr3t" not in result.output
        assert "*****" in result.output


def test_json_has_values_and_origins(command: Callable[..., Result]) -> None:
    shown = json.loads(command("config", "show", "--json").stdout)
    assert shown["file"] == "the inline configuration"
    assert shown["values"]["backups"] == {"keep": 5, "keep_data": 1}
    assert shown["origins"]["backups.keep"] == "default"


def test_schema_is_printed_without_a_configuration(command: Callable[..., Result]) -> None:
    result = command("config", "schema", env={"OTA_AGENT_CONFIG": "/nowhere/config.json"})
    assert json.loads(result.stdout)["required"] == ["source"]


def test_good_configuration_is_called_good(command: Callable[..., Result]) -> None:
    result = command("config", "check")
    assert result.exit_code == 0
    assert result.stdout == (
        "the inline configuration is good: /var/lib/ota-agent follows branch:HEAD of /srv/fw.git\n"
    )


def test_check_warns_on_stderr(command: Callable[..., Result], tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("glpat-1", encoding="utf-8")
    token.chmod(0o644)
    result = command("config", "check", env={"GITLAB_TOKEN_FILE": str(token)})
    assert result.exit_code == 0
    assert result.stderr.startswith("warning: GITLAB_TOKEN_FILE")


def test_bad_configuration_is_told_by_check(command: Callable[..., Result]) -> None:
    assert command("config", "check", "--config", "{}").exit_code == 78
