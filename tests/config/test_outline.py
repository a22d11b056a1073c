from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import hypothesis
import pytest
from hypothesis import strategies as st

from ota_agent import config
from ota_agent.config.outline import SCHEMA_FILE
from ota_agent.errors import ConfigError

SOURCE = {"type": "git", "url": "https://git.example.com/fw.git"}

GOOD = [
    {},
    {"work_dir": "/srv/device"},
    {"drift": {"mode": "repair", "ignore": ["*.log"]}},
    {"drift": {}},
    {"log": {"format": None, "level": "debug"}, "poll_interval_s": 1.5, "labels": ["x86"]},
    {"trust": {"accept_unsigned_commands": True}, "commands": {"user": "root", "timeout_s": 3}},
    {"supabase": {"allowed_sources": ["git.example.com"]}, "supabase_key": "publishable"},
    {"source": {**SOURCE, "channel": None}},
]
BAD = [
    {"work_dir": "srv"},
    {"work_dir": "/"},
    {"work_dir": "/srv/../x"},
    {"work_dir": None},
    {"work_dir": "/srv\n"},
    {"drift": {"mode": "fix"}},
    {"drift": []},
    {"drift": None},
    {"drift": {"ignore": "x"}},
    {"drift": {"ignore": [1]}},
    {"poll_interval_s": 0},
    {"poll_interval_s": "300"},
    {"poll_interval_s": True},
    {"commands": {"timeout_s": 0}},
    {"backups": {"keep": 2.5}},
    {"backups": {"keep": 1e9}},
    {"trust": {"accept_unsigned_commands": 1}},
    {"labels": {}},
    {"nonsense": 1},
    {"source": {"type": "git"}},
    {"source": {**SOURCE, "type": "svn"}},
    {"source": {**SOURCE, "token": "x"}},
    {"supabase_key": 7},
]


def text(keys: dict[str, object]) -> str:
    return json.dumps({"source": SOURCE, **keys})


@pytest.fixture
def no_load(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail where the whole configuration is loaded."""

    def load(*_: object) -> None:
        pytest.fail("load was asked")

    monkeypatch.setattr("ota_agent.config.loading.load", load)


@pytest.mark.parametrize("keys", GOOD)
def test_outline_is_a_part_of_the_whole(keys: dict[str, object]) -> None:
    whole = config.load(text(keys), {}).config
    outline = config.glance(text(keys), {})
    assert (outline.work_dir, outline.drift.mode) == (whole.work_dir, whole.drift.mode)


@pytest.mark.parametrize("keys", GOOD[:-1])
def test_plain_configuration_is_not_loaded_as_a_whole(
    keys: dict[str, object], no_load: None
) -> None:
    config.glance(text(keys), {"OTA_AGENT_CONFIG": "x", "OTA_AGENT_LABELS": "", "HOME": "/"})


@pytest.mark.parametrize("keys", BAD)
def test_what_is_wrong_is_told_as_by_the_whole(keys: dict[str, object]) -> None:
    with pytest.raises(ConfigError) as by_load:
        config.load(text(keys), {})
    with pytest.raises(ConfigError) as by_glance:
        config.glance(text(keys), {})
    assert str(by_glance.value) == str(by_load.value)


KEYS = st.dictionaries(
    st.sampled_from(["work_dir", "source", "poll_interval_s", "labels", "log", "drift", "x"]),
    st.none()
    | st.booleans()
    | st.integers(-2, 400)
    | st.floats(allow_nan=False)
    | st.sampled_from(["/srv", "x", "debug", "repair"])
    | st.lists(st.sampled_from(["x", "/y", 1]), max_size=2)
    | st.dictionaries(
        st.sampled_from(["mode", "level", "format", "ignore", "type", "url"]),
        st.sampled_from(["git", "/srv", "debug", "json", "repair", None, 3]),
    ),
    max_size=3,
)


@hypothesis.given(KEYS)
def test_whatever_loads_has_the_same_outline(keys: dict[str, object]) -> None:
    try:
        whole = config.load(text(keys), {}).config
    except ConfigError:
        return
    outline = config.glance(text(keys), {})
    assert (outline.work_dir, outline.drift.mode) == (whole.work_dir, whole.drift.mode)


def test_environment_and_command_line_are_heard() -> None:
    by_variable = config.glance(text({}), {"OTA_AGENT_WORK_DIR": "/srv/a"})
    assert by_variable.work_dir == Path("/srv/a")
    assert config.glance(text({}), {}, {"work_dir": "/srv/b"}).work_dir == Path("/srv/b")


def test_standard_input_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    given = io.TextIOWrapper(io.BytesIO(text({"work_dir": "/srv/c"}).encode()))
    monkeypatch.setattr("sys.stdin", given)
    assert config.glance("-", {}).work_dir == Path("/srv/c")


def test_kept_schema_is_the_schema() -> None:
    assert json.loads(SCHEMA_FILE.read_text(encoding="utf-8")) == config.schema()


def test_package_names_only_what_it_has() -> None:
    assert all(getattr(config, name) is not None for name in config.__all__)
    with pytest.raises(AttributeError, match="nonsense"):
        _ = config.nonsense


@pytest.mark.process
def test_outline_costs_no_pydantic() -> None:
    script = (
        "import sys\nfrom ota_agent import config\n"
        f"config.glance({text({})!r}, {{}})\nprint('pydantic' in sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert result.stdout == "False\n"
