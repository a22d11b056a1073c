from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from semver import Version

from ota_agent.errors import ManifestInvalid
from ota_agent.model.manifest import (
    MAX_BYTES,
    Hooks,
    Manifest,
    Persist,
    ProbeKind,
    ProbeSpec,
    SyntaxGlobs,
    min_agent_of,
    parse_manifest,
)
from ota_agent.model.verdict import Reason

WHOLE = """
version = "v1.4.0"
min_agent = "0.3"
compatible = ["rpi4-*", "x86"]

[probation]
seconds = 1.5

[[probe]]
http = "http://127.0.0.1:8080/healthz"
timeout_s = 1
interval_s = 0.5
required = 1

[[probe]]
tcp = "[::1]:22"

[[probe]]
command = ["bin/selftest", ""]

[[probe]]
file = "/run/app/ready"

[hooks]
pre_activate = ["bin/migrate", "--check"]
post_activate = ["bin/migrate"]
post_restore = ["bin/unmigrate"]

[[persist]]
path = "data"
backup = true

[[persist]]
path = "etc/site.json"

[syntax]
json = ["config/*.json"]
toml = ["**/*.toml"]
yaml = ["**"]
"""


@pytest.mark.parametrize("text", ["", "\n# nothing yet\n", b""])
def test_without_ota_toml_a_release_asks_for_nothing(text: str | bytes) -> None:
    manifest = parse_manifest(text)
    assert manifest == Manifest()
    assert manifest.probation_s == 0
    assert not manifest.has_commands


def test_every_key_of_ota_toml_is_read() -> None:
    manifest = parse_manifest(WHOLE)
    assert manifest == parse_manifest(WHOLE.encode())
    assert manifest == Manifest(
        version="1.4.0",
        min_agent="0.3.0",
        compatible=("rpi4-*", "x86"),
        probation_seconds=1.5,
        probes=(
            ProbeSpec(ProbeKind.HTTP, "http://127.0.0.1:8080/healthz", (), 1.0, 0.5, 1),
            ProbeSpec(ProbeKind.TCP, "[::1]:22"),
            ProbeSpec(ProbeKind.COMMAND, argv=("bin/selftest", "")),
            ProbeSpec(ProbeKind.FILE, "/run/app/ready"),
        ),
        hooks=Hooks(("bin/migrate", "--check"), ("bin/migrate",), ("bin/unmigrate",)),
        persist=(Persist("data", backup=True), Persist("etc/site.json")),
        syntax=SyntaxGlobs(("config/*.json",), ("**/*.toml",), ("**",)),
    )
    assert manifest.probation_s == 1.5
    assert list(manifest.commands()) == [
        ("[hooks] pre_activate", ("bin/migrate", "--check")),
        ("[hooks] post_activate", ("bin/migrate",)),
        ("[hooks] post_restore", ("bin/unmigrate",)),
        ("[[probe]] 3", ("bin/selftest", "")),
    ]
    assert [str(probe) for probe in manifest.probes[1:3]] == [
        "tcp [::1]:22",
        "command bin/selftest ",
    ]


def test_a_release_with_a_probe_is_on_probation_for_a_minute() -> None:
    assert parse_manifest('[[probe]]\nfile = "ready"').probation_s == 60


def test_a_probation_of_no_time_is_taken_at_its_word() -> None:
    assert parse_manifest('probation.seconds = 0\n[[probe]]\nfile = "ready"').probation_s == 0


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a = 1\nb = 2 3", "line 2"),
        ("a = 1\nb = [\n", "ota.toml: "),
        (b"# \xff", "no UTF-8 text (byte 2)"),
        ("a = " + "1" * 5_000, "too many digits"),
        ("a = " + "[" * 20_000, "nested too deeply"),
        ("#" * (MAX_BYTES + 1), "larger than 256 KiB"),
        ("#" + "é" * (MAX_BYTES // 2), "larger than 256 KiB"),
        (b"#" * (MAX_BYTES + 1), "larger than 256 KiB"),
    ],
)
def test_what_is_no_toml_is_refused_with_its_place(text: str | bytes, says: str) -> None:
    with pytest.raises(ManifestInvalid) as refusal:
        parse_manifest(text)
    assert says in refusal.value.message
    assert min_agent_of(text) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('min_agent = "0.9"\nkey_of_a_later_agent = 1\n[[service]]\nunit = "x"', Version(0, 9, 0)),
        ('min_agent = "soon"', None),
        ("min_agent = 9", None),
        ("", None),
    ],
)
def test_the_agent_that_a_release_needs_is_known_whatever_else_it_says(
    text: str, expected: Version | None
) -> None:
    assert min_agent_of(text) == expected


def test_the_reference_shows_a_manifest_that_is_valid_and_names_every_reason() -> None:
    reference = (Path(__file__).parents[2] / "docs" / "manifest.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```toml\n(.*?)```", reference, re.DOTALL)
    assert parse_manifest(example).persist == (Persist("data", backup=True),)
    assert set(re.findall(r"^\| `([a-z]+\.[a-z_]+)` \|", reference, re.MULTILINE)) >= set(Reason)


KEYS = st.sampled_from(
    [
        *("version", "min_agent", "compatible", "probation", "probe", "hooks", "persist", "syntax"),
        *("seconds", "http", "tcp", "command", "file", "unit", "timeout_s", "interval_s"),
        *("required", "pre_activate", "path", "backup", "json", "yaml", "service", "x"),
    ]
)
VALUES = st.sampled_from(
    [
        *(
            '""',
            '"1.4.0"',
            '"data"',
            '"http://x:0/"',
            '"a:1"',
            '"\\u0000"',
            '"../x"',
            '"http://[x"',
        ),
        *("0", "-1", "1.5", "inf", "nan", "true", "1" * 400, "1e999", "1979-05-27", "[]", "{}"),
        *('["a"]', "[1]", '[[""]]', "{ seconds = 1 }", '[{ file = "a" }]', '[{ path = "a" }]'),
    ]
)
LINES = st.one_of(
    st.builds("{} = {}".format, KEYS, VALUES),
    st.builds("[{}]".format, KEYS),
    st.builds("[[{}]]".format, KEYS),
    st.text(),
)


@given(st.lists(LINES).map("\n".join) | st.binary())
def test_any_text_is_a_manifest_or_refused_in_one_sentence(text: str | bytes) -> None:
    try:
        parse_manifest(text)
    except ManifestInvalid as refusal:
        assert refusal.message.startswith("ota.toml: ")  # noqa: PT017 - a good text is fine too
    min_agent_of(text)
