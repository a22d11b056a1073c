from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

from ota_agent import config
from ota_agent.config.document import INLINE, STDIN
from ota_agent.errors import ConfigError
from ota_agent.model.channel import Branch

SMALLEST = {
    "work_dir": "/var/lib/ota-agent",
    "source": {"type": "git", "url": "https://git.example.com/fw.git", "channel": "tag:*"},
}
SECRET = "glpat-0123456789abcdefghij"


def inline(**keys: object) -> str:
    return json.dumps({**SMALLEST, **keys})


def refusal(
    source: str | None,
    environ: dict[str, str] | None = None,
    overrides: dict[str, str] | None = None,
) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        config.load(source, environ or {}, overrides)
    return caught.value


def test_smallest_configuration_gets_the_documented_defaults() -> None:
    found = config.load(inline(), {}).config
    assert found.work_dir == Path("/var/lib/ota-agent")
    assert str(found.source.channel) == "tag:*"
    assert found.source.token_host == "git.example.com"
    assert found.poll_interval_s == 300
    assert (found.drift.mode, found.drift.ignore) == ("report", ("__pycache__",))
    assert (found.backups.keep, found.backups.keep_data) == (5, 1)
    assert (found.disk.reserve_bytes, found.disk.reserve_inodes) == (64 * 1024 * 1024, 1000)
    assert found.trust.accept_unsigned_commands is False
    assert (found.commands.user, found.commands.timeout_s) == (None, 600)
    assert found.labels == ()
    assert found.connectivity_grace_s == 600
    assert (found.log.format, found.log.level) == (None, "info")
    assert (found.supabase_url, found.supabase_key, found.device_token) == (None, None, None)
    assert (found.supabase.allowed_sources, found.supabase.sync_interval_s) == (None, 60)
    assert found.credentials is None


def test_source_without_a_channel_follows_the_default_branch() -> None:
    source = {"type": "git", "url": "/srv/fw.git"}
    assert config.load(inline(source=source), {}).config.source.channel == Branch()
    source["channel"] = None  # type: ignore[assignment]  # null is the same as absent
    assert config.load(inline(source=source), {}).config.source.channel == Branch()


def test_every_key_can_be_set() -> None:
    found = config.load(
        inline(
            source={
                "type": "git",
                "url": "ssh://git@git.example.com:2222/fw.git",
                "channel": "branch:main",
                "token_host": "Git.Example.com:443",
                "ssh_key_file": "/etc/ota-agent/key",
                "ssh_known_hosts_file": "/etc/ota-agent/known_hosts",
            },
            poll_interval_s=1.5,
            drift={"mode": "repair", "ignore": ["*.log", "cache/*"]},
            backups={"keep": 2, "keep_data": 2},
            disk={"reserve_bytes": 0, "reserve_inodes": 0},
            trust={"accept_unsigned_commands": True},
            commands={"user": "root", "timeout_s": 0.5},
            labels=["x86", "site:berlin"],
            connectivity_grace_s=0,
            log={"format": "json", "level": "debug"},
            supabase_url="https://fleet.supabase.co",
            supabase_key="publishable",
            device_token=SECRET,
            supabase={"allowed_sources": ["git.example.com"], "sync_interval_s": 5},
        ),
        {},
    ).config
    assert found.source.token_host == "git.example.com"
    assert found.source.ssh_key_file == Path("/etc/ota-agent/key")
    assert found.labels == ("x86", "site:berlin")
    assert found.device_token is not None
    assert found.device_token.get_secret_value() == SECRET
    assert SECRET not in repr(found)
    assert SECRET not in found.model_dump_json()


def test_file_is_read_and_its_lines_are_the_origins(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text(json.dumps(SMALLEST, indent=2), encoding="utf-8")
    loaded = config.load(str(file), {})
    assert loaded.source_name == str(file)
    assert loaded.origins["source.url"] == f"{file}:5"
    assert loaded.origins["source.token_host"] == "host of source.url"
    assert loaded.origins["poll_interval_s"] == "default"


def test_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text(inline(), encoding="utf-8-sig")
    assert config.load(str(file), {}).config.poll_interval_s == 300


def test_standard_input_is_read_for_a_dash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(inline().encode())))
    assert config.load("-", {}).source_name == STDIN


def test_json_itself_may_stand_behind_blanks() -> None:
    assert config.load(f"\ufeff\n  {inline()}", {}).source_name == INLINE


def test_variable_names_the_file_where_the_command_line_does_not() -> None:
    assert config.load(None, {"OTA_AGENT_CONFIG": inline()}).source_name == INLINE


def test_missing_file_is_named_with_the_ways_to_name_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ota_agent.config.document.DEFAULT_FILE", tmp_path / "none.json")
    error = refusal(None)
    assert str(tmp_path / "none.json") in str(error)
    assert "OTA_AGENT_CONFIG" in error.hint
    assert "--config" in error.hint


def test_directory_is_no_configuration(tmp_path: Path) -> None:
    assert str(refusal(str(tmp_path))).endswith(f"{tmp_path}: Is a directory")


def test_empty_text_is_not_taken_for_the_default_file() -> None:
    assert "--config got no text" in str(refusal("", {"OTA_AGENT_CONFIG": inline()}))


def test_empty_variable_is_named_where_it_is_to_blame() -> None:
    assert "OTA_AGENT_CONFIG got no text" in str(refusal(None, {"OTA_AGENT_CONFIG": ""}))


def test_file_of_another_encoding_is_refused_with_the_line(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_bytes(b'{\n"labels": ["caf\xe9"]}')
    assert str(refusal(str(file))) == f"{file} is not UTF-8: line 2 has other bytes"


def test_endless_file_is_not_read_to_its_end(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_bytes(b" " * (1024 * 1024 + 1))
    assert "longer than" in str(refusal(str(file)))


def test_environment_goes_before_the_file_and_the_command_line_before_both() -> None:
    environ = {"OTA_AGENT_POLL_INTERVAL_S": "60", "OTA_AGENT_LOG__LEVEL": "error"}
    loaded = config.load(
        inline(poll_interval_s=10, log={"format": "json"}), environ, {"log.level": "debug"}
    )
    assert loaded.config.poll_interval_s == 60
    assert (loaded.config.log.format, loaded.config.log.level) == ("json", "debug")
    assert loaded.origins["poll_interval_s"] == "OTA_AGENT_POLL_INTERVAL_S"
    assert loaded.origins["log.level"] == "--set log.level"
    assert loaded.origins["log.format"] == INLINE


def test_all_errors_are_told_at_once_each_with_its_place(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text(
        "{\n"
        ' "work_dir": "var/lib",\n'
        ' "soruce": {},\n'
        ' "source": {"type": "svn", "url": "https://git.example.com/fw.git"},\n'
        ' "drift": {"mode": "fix", "ignore": ["/x", 3]},\n'
        ' "channel": "tag:*",\n'
        ' "labels": "x",\n'
        ' "log": null,\n'
        ' "supabase_key": 7\n'
        "}",
        encoding="utf-8",
    )
    error = refusal(
        str(file),
        {"OTA_AGENT_BACKUPS__KEEP": "0", "OTA_AGENT_DISK": "1", "OTA_AGENT_LOG__LEVL": "debug"},
        {"commands.timeout_s": "true", "nothing": "1"},
    )
    told = """\
{file} has 15 errors:
  OTA_AGENT_DISK: disk is a section; set its keys, one by one
  OTA_AGENT_LOG__LEVL: unknown variable; did you mean OTA_AGENT_LOG__LEVEL?
  --set nothing: unknown key
  work_dir (line 2): 'var/lib' is not an absolute path; it has to begin with /
  source.type (line 4): "svn" is not allowed; it takes "git"
  drift.mode (line 5): "fix" is not allowed; it takes one of "report", "repair", "ignore"
  drift.ignore[0] (line 5): '/x' is no pattern of paths in a release, as *.log or cache/*
  drift.ignore[1] (line 5): 3 is not allowed; it takes a text
  backups.keep (OTA_AGENT_BACKUPS__KEEP): 0 is not allowed; it takes a whole number from 1 to 100
  commands.timeout_s (--set commands.timeout_s): true is not allowed; it takes {seconds}
  labels (line 7): "x" is not allowed; it takes a list of texts
  log (line 8): what is there is not allowed; it takes an object with the keys format, level
  supabase_key (line 9): what is there is not allowed; it takes a text or null
  soruce (line 3): unknown key; did you mean source?
  channel (line 6): unknown key; did you mean source.channel?"""
    assert str(error) == told.format(file=file, seconds="a number above 0 to 31536000")


def test_missing_key_is_named_with_what_it_takes() -> None:
    assert str(refusal("{}")).splitlines()[1] == (
        "  source: is missing; it takes an object with the keys type, url, channel, token_host,"
        " ssh_key_file, ssh_known_hosts_file"
    )


def test_unknown_key_that_is_near_to_nothing_is_told_what_is_known_there() -> None:
    error = refusal(inline(log={"colour": True}))
    assert str(error).endswith("log.colour: unknown key; known here: format, level")


@pytest.mark.parametrize("key", ["gitlab_token", "password", "credentials"])
def test_credentials_in_the_file_are_refused_with_the_place_for_them(key: str) -> None:
    error = refusal(inline(**{key: SECRET}))
    assert "GITLAB_TOKEN_FILE" in str(error)
    assert SECRET not in str(error)


def test_list_may_be_written_with_commas_or_as_json() -> None:
    commas = config.load(inline(), {"OTA_AGENT_LABELS": "x86, kiosk"}).config
    written = config.load(inline(), {"OTA_AGENT_LABELS": '["x86", "kiosk"]'}).config
    assert commas.labels == written.labels == ("x86", "kiosk")


def test_text_in_a_variable_stays_text() -> None:
    environ = {"OTA_AGENT_SUPABASE_KEY": "12345", "OTA_AGENT_COMMANDS__USER": "true"}
    found = config.load(inline(), environ).config
    assert found.supabase_key is not None
    assert found.supabase_key.get_secret_value() == "12345"
    assert found.commands.user == "true"


def test_empty_variable_counts_as_not_set() -> None:
    assert config.load(inline(), {"OTA_AGENT_LOG__LEVEL": ""}).config.log.level == "info"


def test_whole_configuration_may_come_from_the_environment_around_an_empty_object() -> None:
    environ = {"OTA_AGENT_SOURCE__TYPE": "git", "OTA_AGENT_SOURCE__URL": "/srv/fw.git"}
    assert config.load("{}", environ).config.source.url == "/srv/fw.git"


def test_variable_cannot_reach_into_what_is_no_section() -> None:
    error = refusal(inline(source=3), {"OTA_AGENT_SOURCE__URL": "/srv/fw.git"})
    assert "source: what is there is not allowed" in str(error)


def test_word_for_a_number_is_refused_with_the_variable() -> None:
    error = refusal(inline(), {"OTA_AGENT_POLL_INTERVAL_S": "often"})
    assert 'OTA_AGENT_POLL_INTERVAL_S): "often" is not allowed; it takes a number' in str(error)


def test_secret_on_the_command_line_is_refused_without_being_repeated() -> None:
    error = refusal(inline(), None, {"device_token": SECRET})
    assert "OTA_AGENT_DEVICE_TOKEN" in str(error)
    assert SECRET not in str(error)


@pytest.mark.parametrize("text", ["a\x00b", "a\x1b[2J", "a\nb", "\ud800"])
def test_control_characters_are_refused_and_never_printed(text: str) -> None:
    error = refusal(inline(labels=[text], **{text: 1}))
    assert "labels[0]: holds a control character or is no Unicode text" in str(error)
    assert all(c.isprintable() or c == "\n" for c in str(error))
    assert str(error).isascii()


def test_long_value_is_shown_by_its_beginning() -> None:
    error = refusal(inline(poll_interval_s="x" * 500))
    assert len(str(error)) < 250


@pytest.mark.parametrize(
    "device_id", ["a", "kiosk-7", "A.b_c-9", "0", "x" * 64, "DEVICE_1", "9.9.9"]
)
def test_device_id_of_the_allowed_characters_is_accepted(device_id: str) -> None:
    assert config.check_device_id(device_id) == device_id


@pytest.mark.parametrize(
    "device_id", ["", "a/b", "..", ".a", "-a", "_a", "a b", "a\n", "ä", "x" * 65, "a\x00"]
)
def test_other_device_id_is_refused_with_the_rule(device_id: str) -> None:
    with pytest.raises(ValueError, match="1 to 64 of the characters A-Z a-z 0-9"):
        config.check_device_id(device_id)


def test_configuration_is_frozen() -> None:
    found = config.load(inline(), {}).config
    with pytest.raises(ValueError, match="frozen"):
        found.poll_interval_s = 1  # type: ignore[misc]  # which is what mypy says, too


def test_schema_names_every_key_and_no_credentials() -> None:
    properties = config.schema()["properties"]
    assert {"work_dir", "source", "supabase_url", "labels"} <= set(properties)
    assert "credentials" not in properties


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("poll_interval_s", 0.5),
        ("poll_interval_s", True),
        ("poll_interval_s", "300"),
        ("poll_interval_s", 1e300),
        ("backups", {"keep": 2.0}),
        ("backups", {"keep_data": 0}),
        ("disk", {"reserve_bytes": -1}),
        ("commands", {"timeout_s": 0}),
        ("commands", {"user": "a b"}),
        ("commands", {"user": ""}),
        ("trust", {"accept_unsigned_commands": "yes"}),
        ("labels", [""]),
        ("labels", [1]),
        ("labels", ["x*"]),
        ("drift", {"ignore": ["../x"]}),
        ("drift", {"ignore": [""]}),
        ("work_dir", "/"),
        ("work_dir", "/var/../lib"),
        ("work_dir", 7),
        ("work_dir", None),
        ("source", {**SMALLEST["source"], "channel": "main"}),  # type: ignore[dict-item]  # JSON
        ("source", {**SMALLEST["source"], "channel": 7}),  # type: ignore[dict-item]  # JSON
        ("source", {**SMALLEST["source"], "token_host": "a/b"}),  # type: ignore[dict-item]  # JSON
        ("source", {**SMALLEST["source"], "ssh_key_file": "key"}),  # type: ignore[dict-item]  # JSON
        ("source", []),
        ("supabase_url", "http://fleet.example.com"),
        ("supabase_url", "fleet"),
        ("supabase_url", "https://user:pw@fleet.example.com"),
        ("supabase", {"allowed_sources": ["https://git.example.com"]}),
        ("supabase", {"sync_interval_s": 0}),
        ("log", {"level": "warn"}),
    ],
)
def test_value_out_of_bounds_is_one_error_of_that_key(key: str, value: object) -> None:
    lines = str(refusal(inline(**{key: value}))).splitlines()
    assert len(lines) == 2
    assert re.match(rf"  {key}[.\[a-z0-9_\]]*: ", lines[1])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from([*SMALLEST, "type", "url", "log", "labels", "x"]), inner, max_size=4
        )
    ),
    max_leaves=8,
)


@hypothesis.given(st.dictionaries(st.sampled_from(list(config.Config.model_fields)), JSON))
def test_whatever_is_configured_ends_in_one_readable_error(keys: dict[str, Any]) -> None:
    keys.setdefault("source", 1)
    message = str(refusal(json.dumps(keys)))
    assert all(c.isprintable() or c == "\n" for c in message)
    assert "pydantic" not in message


@hypothesis.given(st.text(max_size=40), st.integers(0, 80), st.booleans())
def test_broken_text_never_shows_a_secret(noise: str, position: int, is_cut: bool) -> None:
    text = '{"device_token": "' + SECRET + '", ' + inline()[1:]
    # Anywhere behind the secret: a text that is broken before it has no key to tell it by.
    place = text.index(SECRET) + len(SECRET) + position
    broken = text[:place] + noise + text[place : -1 if is_cut else None]
    try:
        message = str(config.load(broken, {}))
    except ConfigError as error:
        message = str(error)
    assert SECRET not in message


def test_values_that_are_valid_may_be_put_into_another_configuration() -> None:
    found = config.load(inline(), {}).config
    again = config.Config(**{**dict(found), "poll_interval_s": 5.0})
    assert (again.source, again.poll_interval_s) == (found.source, 5)
    source = config.Source(type="git", url="/srv/fw.git", channel=Branch("main"))
    assert source.channel == Branch("main")
