from __future__ import annotations

import pytest

from ota_agent.errors import ManifestInvalid
from ota_agent.model.manifest import parse_manifest

LATER = (
    "is not supported by this agent version (a release that needs it names the agent that has it"
    " in min_agent)"
)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("vresion = '1.4.0'", "unknown key 'vresion' (allowed: compatible, hooks, min_agent,"),
        ("version = '1.4'", "version is no SemVer version such as 1.4.0"),
        ("version = 1.4", "version should be a valid string"),
        ("min_agent = 'new'", "min_agent is no version such as 0.3 or 0.3.1"),
        ("compatible = 'x86'", "compatible should be a valid list"),
        ("compatible = ['x86', '']", "compatible item 2 should have at least 1 character"),
        ("compatible = ['a\\u0007']", None),
        ('compatible = ["a\\u0007"]', "compatible item 1 holds a control character"),
        ("[probation]\nsecond = 5", "[probation] unknown key 'second' (allowed: seconds)"),
        ("[probation]\nseconds = -1", "[probation] seconds should be greater than or equal to 0"),
        ("[probation]\nseconds = 86401", "seconds should be less than or equal to 86400"),
        ("[probation]\nseconds = nan", "[probation] seconds should be a finite number"),
        ("[probation]\nseconds = '60'", "[probation] seconds should be a valid number"),
        ("[probation]\nseconds = true", "[probation] seconds should be a valid number"),
        ("probation = 60", "probation has to be a table"),
        ("[probe]\nfile = 'x'", "probe is written as [[probe]]"),
        ("probe = ['x']", "[[probe]] 1: has to be a table"),
        (
            "[[probe]]\nfile = 'x'\n[[probe]]\nhtpp = 'http://x'",
            "[[probe]] 2: unknown key 'htpp' (allowed: command, file, http, interval_s, required, ",
        ),
        ("[[probe]]\nrequired = 3", "[[probe]] 1: needs exactly one of http, tcp, command, file"),
        ("[[probe]]\nfile = 'x'\ntcp = 'a:1'", "[[probe]] 1: needs exactly one of"),
        ("[[probe]]\nhttp = 'ftp://x'", "[[probe]] 1: http is no http or https URL"),
        ("[[probe]]\nhttp = 'http://'", "no http or https URL"),
        ("[[probe]]\nhttp = 'http://x:99999'", "no http or https URL"),
        ("[[probe]]\nhttp = 'http://[x'", "no http or https URL"),
        ("[[probe]]\nhttp = 'http://x/a b'", "no http or https URL"),
        ("[[probe]]\nhttp = 'http://ü/'", "no http or https URL"),
        ("[[probe]]\ntcp = 'x'", "[[probe]] 1: tcp is no host:port"),
        ("[[probe]]\ntcp = 'x:0'", "[[probe]] 1: tcp is no host:port"),
        ("[[probe]]\ntcp = 'x:65536'", "[[probe]] 1: tcp is no host:port"),
        ("[[probe]]\ncommand = []", "[[probe]] 1: command should have at least 1 item"),
        ("[[probe]]\ncommand = 'bin/x'", "[[probe]] 1: command should be a valid list"),
        ("[[probe]]\ncommand = ['']", "[[probe]] 1: command names no program"),
        ('[[probe]]\ncommand = ["x", "\\u0000"]', "command holds a NUL character"),
        ("[[probe]]\nfile = '../x'", "file is no plain relative path: it climbs with '..'"),
        ("[[probe]]\nfile = '/'", "file is no plain relative path"),
        ("[[probe]]\nfile = 'x'\ntimeout_s = 0", "timeout_s should be greater than 0"),
        ("[[probe]]\nfile = 'x'\ninterval_s = 3601", "interval_s should be less than"),
        ("[[probe]]\nfile = 'x'\nrequired = 0", "required should be greater than or equal to 1"),
        ("[[probe]]\nfile = 'x'\nrequired = 1.0", "required should be a valid integer"),
        ("[[probe]]\nunit = 'x.service'", f"[[probe]] 1: unit {LATER}"),
        ("[[service]]\nunit = 'x.service'", f"service {LATER}"),
        ("[[on_change]]\npaths = ['x']", f"on_change {LATER}"),
        ("[hooks]\npre_fetch = ['x']", "[hooks] unknown key 'pre_fetch' (allowed: post_activate,"),
        ("[hooks]\npre_activate = [1]", "[hooks] pre_activate item 1 should be a valid string"),
        ("[[persist]]\nbackup = true", "[[persist]] 1: path is missing"),
        ("[[persist]]\npath = 'a'\nbackup = 1", "[[persist]] 1: backup should be a valid boolean"),
        ("[[persist]]\npath = '/var/lib/x'", "path is no plain relative path: it is absolute"),
        ("[[persist]]\npath = 'a/../b'", "path is no plain relative path: it climbs with '..'"),
        ("[[persist]]\npath = 'a/'", "path is no plain relative path: it has an empty part"),
        ("[[persist]]\npath = '.git/x'", "path is no plain relative path: it names .git"),
        ("[[persist]]\npath = 'ota.toml'", "path is ota.toml itself"),
        ("[[persist]]\npath = 'a'\n[[persist]]\npath = 'a'", "persist holds 'a' twice"),
        ("[[persist]]\npath = 'a-b'\n[[persist]]\npath = 'a/b'\n[[persist]]\npath = 'A'", "'a/b'"),
        ("[syntax]\nxml = ['*']", "[syntax] unknown key 'xml' (allowed: json, toml, yaml)"),
        ("[syntax]\njson = ['/etc/*']", "[syntax] json item 1 is no glob of paths in the release"),
        ("[syntax]\njson = ['a/../*']", "[syntax] json item 1 is no glob of paths in the release"),
    ],
)
def test_a_wrong_key_is_named_with_its_place_and_what_is_allowed(
    text: str, says: str | None
) -> None:
    if says is None:
        parse_manifest(text)
        return
    with pytest.raises(ManifestInvalid) as refusal:
        parse_manifest(text)
    assert refusal.value.message.startswith("ota.toml: ")
    assert says in refusal.value.message


def test_every_wrong_key_is_in_the_one_sentence() -> None:
    with pytest.raises(ManifestInvalid) as refusal:
        parse_manifest("version = 1\n[probation]\nseconds = -1\n[hooks]\nx = 1")
    assert refusal.value.message.count("; ") == 2


def test_a_sentence_about_a_heap_of_wrong_keys_stays_readable() -> None:
    with pytest.raises(ManifestInvalid) as refusal:
        parse_manifest("\n".join(f"{'x' * 500}{number} = 1" for number in range(30)))
    assert refusal.value.message.endswith("; 20 more")
    assert len(refusal.value.message) < 2_500


def test_persistent_paths_may_be_neighbours() -> None:
    text = "\n".join(f'[[persist]]\npath = "{path}"' for path in ("a", "a-b", "ab", "b/a"))
    assert [item.path for item in parse_manifest(text).persist] == ["a", "a-b", "ab", "b/a"]
