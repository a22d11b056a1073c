from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ota_agent.errors import HookNotExecutable, ReleaseEmpty, TreeHostile
from ota_agent.model.manifest import Hooks, Manifest, ProbeKind, ProbeSpec
from ota_agent.model.tree import (
    MODE_EXECUTABLE,
    MODE_FILE,
    MODE_SUBMODULE,
    MODE_SYMLINK,
    Entry,
    Limits,
    check_commands,
    check_tree,
    deletes_too_much,
    path_fault,
)


def entry(path: str, mode: int = MODE_FILE, size_bytes: int = 1) -> Entry:
    return Entry(path, mode, "0" * 40, size_bytes)


def tree(*paths: str) -> list[Entry]:
    return [entry(path) for path in paths]


def links(**targets: str) -> tuple[list[Entry], dict[str, bytes]]:
    return (
        [entry("real/file"), *(entry(path, MODE_SYMLINK) for path in targets)],
        {path: target.encode() for path, target in targets.items()},
    )


@pytest.mark.parametrize(
    "path",
    [
        "README",
        "a/b/c.json",
        ".gitignore",
        ".gitattributes",
        ".github/x",
        "git/x",
        "digit~1",
        "über/straße",
        "with space",
        "a\\b",
        "no-utf8-\udcff",
        "...",
        "x" * 255,
        "/".join(["d"] * 64),
    ],
)
def test_an_ordinary_path_has_no_fault(path: str) -> None:
    assert path_fault(path) is None
    check_tree([entry(path)], {})


@pytest.mark.parametrize(
    ("path", "fault"),
    [
        ("", "empty part"),
        ("/etc/passwd", "is absolute"),
        ("a//b", "empty part"),
        ("a/", "empty part"),
        ("./a", "'.'"),
        ("..", "climbs with '..'"),
        ("a/../b", "climbs with '..'"),
        ("a\nb", "control character"),
        ("a\x7f", "control character"),
        ("a\u2028b", "control character"),
        ("a\x85", "control character"),
        (".git", "names .git"),
        (".GIT/config", "names .git"),
        ("sub/.git/hooks/post-checkout", "names .git"),
        (".git.", "names .git"),
        (".git /x", "names .git"),
        (".git::$INDEX_ALLOCATION", "names .git"),
        ("GIT~1", "names .git"),
        ("a\\.git\\x", "names .git"),
        (".g\u200cit/x", "names .git"),
        ("\ufeff.Git", "names .git"),
        ("x" * 256, "name of more than 255 bytes"),
        ("ü" * 128, "name of more than 255 bytes"),
        ("/".join(["d" * 200] * 6), "longer than 1024 bytes"),
        ("/".join(["d"] * 65), "nested deeper than 64"),
    ],
)
def test_a_path_that_no_release_may_hold_is_refused_by_what_is_wrong(path: str, fault: str) -> None:
    assert fault in (path_fault(path) or "")
    with pytest.raises(TreeHostile) as refusal:
        check_tree([entry(path)], {})
    assert fault in refusal.value.message
    assert "\n" not in refusal.value.message


@pytest.mark.parametrize(
    ("mode", "fault"),
    [
        (MODE_SUBMODULE, "'x' is a submodule"),
        (0o100664, "'x' has the unknown mode 100664"),
        (0o104755, "'x' has the unknown mode 104755"),
        (0o060000, "'x' has the unknown mode 60000"),
    ],
)
def test_only_files_executables_and_symlinks_are_taken(mode: int, fault: str) -> None:
    with pytest.raises(TreeHostile, match=re.escape(fault)):
        check_tree([entry("x", mode)], {})


def test_the_manifest_has_to_be_a_file() -> None:
    with pytest.raises(TreeHostile, match=re.escape("'ota.toml' is a symlink")):
        check_tree([entry("x"), entry("ota.toml", MODE_SYMLINK)], {"ota.toml": b"x"})


@pytest.mark.parametrize("paths", [(), ("ota.toml",)])
def test_a_release_without_a_file_is_empty(paths: tuple[str, ...]) -> None:
    with pytest.raises(ReleaseEmpty):
        check_tree(tree(*paths), {})


@pytest.mark.parametrize(
    ("paths", "fault"),
    [
        (("a", "A"), "'a' and 'A' are one name"),
        (("x/a", "x/A"), "'x/a' and 'x/A' are one name"),
        (("Data/a", "data/b"), "'Data' and 'data' are one name"),
        (("top/Data/a", "top/data/b"), "'top/Data' and 'top/data' are one name"),
        (("stra\u00dfe", "STRASSE"), "are one name"),
        (("caf\u00e9", "cafe\u0301"), "are one name"),
        (("a", "a/b"), "'a' is a file, and 'a' is a directory"),
        (("A", "a/b"), "'A' is a file, and 'a' is a directory"),
        (("a", "a"), "'a' and 'a' are one name"),
    ],
)
def test_names_that_a_file_system_mixes_up_are_refused(paths: tuple[str, ...], fault: str) -> None:
    with pytest.raises(TreeHostile) as refusal:
        check_tree(tree(*paths), {})
    assert fault in refusal.value.message


@pytest.mark.parametrize(
    ("paths", "persist", "fault"),
    [
        (("etc",), "etc/site.json", "'etc' is a file, and 'etc' is a directory"),
        (("DATA/x",), "data", "'DATA' and 'data' are one name"),
        (("Data",), "data", "'Data' and 'data' are one name"),
        (("Etc/x",), "etc/site.json", "'Etc' and 'etc' are one name"),
    ],
)
def test_a_persistent_path_is_in_nobodys_way(
    paths: tuple[str, ...], persist: str, fault: str
) -> None:
    with pytest.raises(TreeHostile) as refusal:
        check_tree(tree("x", *paths), {}, [persist])
    assert fault in refusal.value.message


def test_a_release_may_bring_the_first_content_of_a_persistent_path() -> None:
    check_tree(tree("data/seed.db", "settings.json"), {}, ["data", "settings.json", "new/x"])


@pytest.mark.parametrize(
    ("limits", "fault"),
    [
        (Limits(files=1), "2 files, more than 1"),
        (Limits(total_bytes=1), "2 bytes, more than 1"),
        (Limits(depth=1), "nested deeper than 1"),
        (Limits(path_bytes=2), "longer than 2 bytes"),
        (Limits(name_bytes=2), "name of more than 2 bytes"),
    ],
)
def test_a_release_has_limits(limits: Limits, fault: str) -> None:
    with pytest.raises(TreeHostile) as refusal:
        check_tree(tree("dir/file", "x"), {}, (), limits)
    assert fault in refusal.value.message


def test_the_first_faults_are_named_and_the_rest_is_left_out() -> None:
    with pytest.raises(TreeHostile) as refusal:
        check_tree(tree(*(f".git/{number}" for number in range(1_000))), {})
    assert refusal.value.message.count("names .git") == 5
    assert refusal.value.message.endswith("; and more")


@pytest.mark.parametrize("target", ["real/file", "missing", "./real//file", "real/../real", "."])
def test_a_symlink_inside_the_release_is_taken(target: str) -> None:
    check_tree(*links(link=target))


@pytest.mark.parametrize(
    ("target", "fault"),
    [
        ("", "symlink 'link' has no target"),
        ("/etc/passwd", "symlink 'link' leads to the absolute path '/etc/passwd'"),
        ("../outside", "symlink 'link' climbs out of the release: '../outside'"),
        ("x" * 4_096, "symlink 'link' has a target of more than 4095 bytes"),
    ],
)
def test_a_symlink_out_of_the_release_is_refused(target: str, fault: str) -> None:
    with pytest.raises(TreeHostile) as refusal:
        check_tree(*links(link=target))
    assert fault in refusal.value.message


def test_a_symlink_whose_target_nobody_read_is_refused() -> None:
    with pytest.raises(TreeHostile, match="has no target"):
        check_tree([entry("x", MODE_SYMLINK)], {})


def names(count: int) -> list[str]:
    return [f"file{number}" for number in range(count)]


@pytest.mark.parametrize(
    ("old", "new", "deleted"),
    [
        (names(100), names(100), None),
        (names(100), names(50), None),
        (names(100), names(49), 51),
        (names(30), names(10), 20),
        (names(30), names(11), None),
        (names(19), [], None),
        (names(20), [], 20),
        (names(40), ["other"], 40),
        ([], names(5), None),
    ],
)
def test_a_mass_deletion_takes_more_than_half_and_at_least_twenty(
    old: list[str], new: list[str], deleted: int | None
) -> None:
    assert deletes_too_much(old, new) == deleted


COMMANDS = [
    entry("bin/run", MODE_EXECUTABLE),
    entry("bin/data"),
    entry("bin/link", MODE_SYMLINK),
    entry("current", MODE_SYMLINK),
]


@pytest.mark.parametrize(
    "program",
    ["bin/run", "./bin/run", "bin/../bin/run", "/usr/bin/env", "python3", "bin/link", "current/x"],
)
def test_a_program_of_the_release_or_of_the_device_may_be_a_hook(program: str) -> None:
    check_commands(Manifest(hooks=Hooks(pre_activate=(program, "bin/data"))), COMMANDS)


@pytest.mark.parametrize(
    ("program", "fault"),
    [
        ("bin/data", "'bin/data' is not executable"),
        ("bin/missing", "'bin/missing' is not in the release"),
        ("../bin/run", "'../bin/run' is not in the release"),
        ("bin/", "'bin/' is not in the release"),
    ],
)
def test_a_program_that_cannot_be_run_is_named(program: str, fault: str) -> None:
    probe = ProbeSpec(ProbeKind.COMMAND, argv=(program,))
    manifest = Manifest(probes=(probe,), hooks=Hooks(post_restore=(program,)))
    with pytest.raises(HookNotExecutable) as refusal:
        check_commands(manifest, COMMANDS)
    assert refusal.value.message == (
        f"ota.toml: [hooks] post_restore: {fault}; ota.toml: [[probe]] 1: {fault}"
    )


PARTS = st.sampled_from(
    ["a", "A", "b", "..", ".", "", ".git", "git~1", "ß", "ss", "é", "e\u0301", "\udcff", "\n"]
)
PATHS = st.lists(PARTS | st.text(max_size=5), min_size=1, max_size=4).map("/".join)
MODES = st.sampled_from([MODE_FILE, MODE_EXECUTABLE, MODE_SYMLINK, MODE_SUBMODULE, 0])


@given(
    st.lists(st.builds(entry, PATHS, MODES, st.integers(0, 2**40)), max_size=8),
    st.dictionaries(PATHS, PATHS.map(lambda path: path.encode("utf-8", "surrogateescape"))),
    st.lists(PATHS, max_size=2),
)
def test_any_tree_is_taken_or_refused_in_one_sentence(
    entries: list[Entry], targets: dict[str, bytes], persist: list[str]
) -> None:
    try:
        check_tree(entries, targets, persist)
    except (TreeHostile, ReleaseEmpty) as refusal:
        assert "\n" not in refusal.message  # noqa: PT017 - a good tree is fine too


@pytest.mark.parametrize(
    ("mode", "hint"), [(None, "Put the file into"), (MODE_FILE, "git update-")]
)
def test_program_that_is_missing_needs_a_file_and_no_executable_bit(
    mode: int | None, hint: str
) -> None:
    there = [] if mode is None else [Entry("bin/hook", mode, "0" * 40, 1)]
    with pytest.raises(HookNotExecutable) as caught:
        check_commands(Manifest(hooks=Hooks(pre_activate=("bin/hook",))), there)
    assert hint in caught.value.hint
