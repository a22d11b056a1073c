from __future__ import annotations

import re
import time

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ota_agent.errors import SyntaxRejected
from ota_agent.model import syntax
from ota_agent.model.manifest import Manifest, SyntaxGlobs
from ota_agent.model.syntax import SYNTAX_MAX_BYTES, check_syntax, has_syntax, matches_glob

ALL = Manifest(syntax=SyntaxGlobs(json=("**/*.json",), toml=("**/*.toml",), yaml=("**/*.yaml",)))


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [
        ("*.json", "a.json", True),
        ("*.json", "config/a.json", False),
        ("*.json", ".json", True),
        ("config/*.json", "config/a.json", True),
        ("config/*.json", "config/b/a.json", False),
        ("**/*.json", "a.json", True),
        ("**/*.json", "x/y/a.json", True),
        ("a/**/b", "a/b", True),
        ("a/**/b", "a/x/y/b", True),
        ("a/**/b", "a/x/y/c", False),
        ("a/**", "a", False),
        ("a/**", "a/x/y", True),
        ("**", "a/x/y", True),
        ("**/**/x", "x", True),
        ("a?c", "abc", True),
        ("a?c", "a/c", False),
        ("[ab]", "b", True),
        ("[!ab]", "b", False),
        ("A", "a", False),
        ("a.b", "axb", False),
        ("*", "a\nb", True),
        ("a", "a/b", False),
        ("a/b", "a", False),
        ("[", "[", True),
    ],
)
def test_a_glob_matches_within_parts_and_two_stars_over_them(
    pattern: str, path: str, matches: bool
) -> None:
    assert matches_glob(path, pattern) is matches


def test_a_glob_made_to_be_slow_is_not() -> None:
    started = time.process_time()
    assert not matches_glob("/".join(["a"] * 60) + "/b", "/".join(["**", "a*a*a*a*"] * 40))
    assert time.process_time() - started < 1


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("a.json", b'{"a": [1, 2.5, null, "x"]}'),
        ("a.json", b"1" * 5_000),
        ("a.toml", b"a = 1"),
        ("a.toml", b""),
        ("a.yaml", b""),
        ("a.yaml", b"a: &x [1, 2]\nb: *x\n---\nc: !Custom 1\n"),
        ("a.txt", b"\xff{"),
    ],
)
def test_a_file_that_parses_is_taken(path: str, content: bytes) -> None:
    check_syntax(ALL, {path: content})


@pytest.mark.parametrize(
    ("path", "content", "message"),
    [
        ("c/a.json", b'{\n"a": }', "c/a.json: line 2: Expecting value (JSON)"),
        ("a.json", b"", "a.json: line 1: Expecting value (JSON)"),
        ("a.json", b"[NaN]", "a.json: NaN is no JSON (JSON)"),
        ("a.json", b"\xff", "a.json: is no UTF-8 text (JSON)"),
        ("a.json", b"[" * 100_000, "a.json: is nested too deeply (JSON)"),
        ("a.toml", b"a = 1\nb = 2 3\n", "a.toml: line 2: Expected newline or end of document"),
        ("a.toml", b"a = ", "a.toml: Invalid value (TOML)"),
        ("a.toml", b"a = " + b"1" * 5_000, "a.toml: holds a number of too many digits (TOML)"),
        ("a.toml", b"a = " + b"[" * 100_000, "a.toml: is nested too deeply (TOML)"),
        ("a.yaml", b"a: 1\nb: c: d", "a.yaml: line 2: mapping values are not allowed"),
        ("a.yaml", b"a: *x", "a.yaml: line 1: unknown alias 'x' (YAML)"),
        ("a.yaml", b"a: &x 1\n---\nb: *x", "a.yaml: line 3: unknown alias 'x' (YAML)"),
        ("a.yaml", b"a: \x01", "a.yaml: unacceptable character"),
        ("a.yaml", b"[" * 100_000, "a.yaml: line 1: is nested too deeply (YAML)"),
        ("a.json", b" " * (SYNTAX_MAX_BYTES + 1), "a.json: is larger than 16 MiB, too large"),
    ],
)
def test_a_file_that_does_not_parse_is_named_with_line_and_reason(
    path: str, content: bytes, message: str
) -> None:
    with pytest.raises(SyntaxRejected, match="^" + re.escape(message)):
        check_syntax(ALL, {"good.json": b"{}", path: content})


def test_an_alias_bomb_is_read_without_being_blown_up() -> None:
    lines = ["a0: &a0 [x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 60)]
    check_syntax(ALL, {"bomb.yaml": "\n".join(lines).encode()})


def test_yaml_is_checked_without_the_compiled_parser_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(yaml, "CSafeLoader")
    with pytest.raises(SyntaxRejected, match="line 2"):
        check_syntax(ALL, {"a.yaml": b"a: 1\nb: c: d"})


def test_only_declared_files_are_asked_for() -> None:
    assert has_syntax(ALL, "x/a.json")
    assert not has_syntax(ALL, "x/a.txt")
    assert not has_syntax(Manifest(), "x/a.json")


def test_a_file_may_be_declared_in_two_ways() -> None:
    both = Manifest(syntax=SyntaxGlobs(json=("x",), yaml=("x",)))
    with pytest.raises(SyntaxRejected, match="JSON"):
        check_syntax(both, {"x": b"a: 1"})


@pytest.mark.parametrize("path", ["a.json", "a.toml", "a.yaml"])
@given(
    content=st.binary() | st.text(alphabet="{}[]\"':,&*!|>%@-=.#0123 \nabc\t\x00é").map(str.encode)
)
def test_any_content_is_taken_or_refused_in_one_sentence(path: str, content: bytes) -> None:
    try:
        check_syntax(ALL, {path: content})
    except SyntaxRejected as refusal:
        assert "\n" not in refusal.message  # noqa: PT017 - good content is fine too


@given(st.text("ab*?[]!/-"), st.text("ab/"))
def test_any_pattern_matches_or_does_not(pattern: str, path: str) -> None:
    assert matches_glob(path, pattern) in {True, False}
    assert syntax.matches_glob(path, "**") is True
