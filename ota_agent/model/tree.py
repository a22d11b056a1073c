"""The content of a release as git lists it, and what a release may not hold.

A tree is hostile until it is staged: git itself writes names to a disk that no device should see.
"""

from __future__ import annotations

import os
import posixpath
import re
import unicodedata
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from ota_agent.errors import HookNotExecutable, ReleaseEmpty, TreeHostile
from ota_agent.model.links import LinkWalk

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from ota_agent.model.manifest import Manifest

MODE_FILE = 0o100644
MODE_EXECUTABLE = 0o100755
MODE_SYMLINK = 0o120000
MODE_SUBMODULE = 0o160000

MANIFEST_PATH = "ota.toml"
SHOWN_FAULTS = 5
# A release that takes away more than half of the files, and no handful, is asked about first.
MIN_DELETIONS = 20

# ASCII parts that begin with a letter, digit or underscore: none of the faults below.
_PLAIN = re.compile(r"\w[\w.+@-]*(?:/\w[\w.+@-]*)*", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
# Characters that HFS+ leaves out when it compares names: `.g<200c>it` is `.git` there.
_HFS_IGNORED = re.compile("[\u200c-\u200f\u202a-\u202e\u206a-\u206f\ufeff]")
# What NTFS takes for `.git`: the short name, trailing dots and spaces, a stream's name after `:`.
_NTFS_GIT = re.compile(r"(?:\.git|git~[0-9]+)[ .]*(?::.*)?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of a tree.

    Attributes:
        path: relative, `/` between its parts, bytes that are no UTF-8 kept by surrogateescape.
        mode: git's: one of the constants above.
        oid: git's hash of the content (for a symlink: of its target's text).
        size_bytes: of the content.

    """

    path: str
    mode: int
    oid: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a release may hold."""

    files: int = 200_000
    path_bytes: int = 1_024
    name_bytes: int = 255
    depth: int = 64
    total_bytes: int = 16 * 1024**3
    # PATH_MAX less its NUL: the system makes no longer one.
    symlink_target_bytes: int = 4_095


DEFAULT_LIMITS = Limits()


def path_fault(path: str, limits: Limits = DEFAULT_LIMITS) -> str | None:
    """Say what is wrong with a path of a release, as the end of a sentence; None when nothing.

    Good paths are relative and normal, name no `.git` in any disguise that a file system takes
    for it, and hold no control characters.
    """
    if (
        _PLAIN.fullmatch(path)
        and len(path) <= min(limits.name_bytes, limits.path_bytes)
        and path.count("/") < limits.depth
    ):
        return None  # nearly every path; the rest costs three times as much
    parts = path.split("/")
    return _form_fault(path, parts) or _length_fault(path, parts, limits)


def _form_fault(path: str, parts: list[str]) -> str | None:
    if path.startswith("/"):
        return "is absolute"
    if "" in parts or "." in parts:
        return "has an empty part or a '.' in it"
    if ".." in parts:
        return "climbs with '..'"
    if _CONTROL.search(path):
        return "holds a control character"
    if (not path.isascii() or "git" in path.lower()) and any(map(_is_dot_git, parts)):
        return "names .git"
    return None


def _length_fault(path: str, parts: list[str], limits: Limits) -> str | None:
    if len(parts) > limits.depth:
        return f"is nested deeper than {limits.depth}"
    if len(os.fsencode(path)) > limits.path_bytes:
        return f"is longer than {limits.path_bytes} bytes"
    if any(len(os.fsencode(part)) > limits.name_bytes for part in parts):
        return f"has a name of more than {limits.name_bytes} bytes"
    return None


def check_tree(
    entries: Collection[Entry],
    link_targets: Mapping[str, bytes],
    persist: Sequence[str] = (),
    limits: Limits = DEFAULT_LIMITS,
) -> None:
    """Refuse a tree that a release may not be.

    `link_targets` holds the text of every symlink by its path, `persist` the manifest's persistent
    paths, which are links out of the release once it is staged.

    Raises:
        ReleaseEmpty: there is no file besides `ota.toml`.
        TreeHostile: one sentence that names the first faults.

    """
    if not any(entry.path != MANIFEST_PATH for entry in entries):
        raise ReleaseEmpty("the release holds no file")
    faults = list(islice(_faults(entries, link_targets, persist, limits), SHOWN_FAULTS + 1))
    if len(faults) > SHOWN_FAULTS:
        faults[SHOWN_FAULTS:] = ["and more"]
    if faults:
        raise TreeHostile("the release holds what it may not hold: " + "; ".join(faults))


def _faults(
    entries: Collection[Entry],
    link_targets: Mapping[str, bytes],
    persist: Sequence[str],
    limits: Limits,
) -> Iterator[str]:
    if len(entries) > limits.files:
        yield f"{len(entries)} files, more than {limits.files}"
        return  # looking at each of them is what the limit prevents
    total_bytes = sum(entry.size_bytes for entry in entries)
    if total_bytes > limits.total_bytes:
        yield f"{total_bytes} bytes, more than {limits.total_bytes}"
    for entry in entries:
        fault = path_fault(entry.path, limits) or _mode_fault(entry)
        if fault is not None:
            yield f"{entry.path!r} {fault}"
    yield from _collisions(entries, persist)
    walk = LinkWalk(link_targets, persist)
    for entry in entries:
        if entry.mode == MODE_SYMLINK:
            fault = _link_fault(entry.path, link_targets.get(entry.path, b""), walk, limits)
            if fault is not None:
                yield f"symlink {entry.path!r} {fault}"


def _mode_fault(entry: Entry) -> str | None:
    match entry.mode:
        case _ if entry.path == MANIFEST_PATH and entry.mode == MODE_SYMLINK:
            return "is a symlink, and has to be a file"
        case 0o100644 | 0o100755 | 0o120000:
            return None
        case 0o160000:
            return "is a submodule"
        case _:
            return f"has the unknown mode {entry.mode:o}"


def _link_fault(path: str, target: bytes, walk: LinkWalk, limits: Limits) -> str | None:
    if not target:
        return "has no target"
    if len(target) > limits.symlink_target_bytes:
        return f"has a target of more than {limits.symlink_target_bytes} bytes"
    return walk.fault(path)


def _collisions(entries: Collection[Entry], persist: Sequence[str]) -> Iterator[str]:
    """Find what is one name, or a file and a directory, where case does not count."""
    files: dict[str, str] = {}
    directories: dict[str, str] = {}
    seen = {""}
    paths = [entry.path for entry in entries]
    for path in (*paths, *persist):
        parent = path.rpartition("/")[0]
        while parent not in seen:
            seen.add(parent)
            other = directories.setdefault(_fold(parent), parent)
            if other != parent:
                yield f"{other!r} and {parent!r} are one name where case does not count"
            parent = parent.rpartition("/")[0]
    for path in paths:
        key = _fold(path)
        if key in files:
            yield f"{files[key]!r} and {path!r} are one name where case does not count"
        files[key] = path
    for path in files.keys() & directories.keys():
        yield f"{files[path]!r} is a file, and {directories[path]!r} is a directory"
    for path in persist:
        for names in (files, directories):
            other = names.get(_fold(path), path)
            if other != path:
                yield f"{other!r} and {path!r} are one name where case does not count"


def _fold(name: str) -> str:
    """Make names equal that a file system without case, or one that composes accents, mixes up."""
    if name.isascii():
        return name.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).casefold())


def _is_dot_git(part: str) -> bool:
    """Tell whether some file system takes a name, or what follows a backslash in it, for `.git`."""
    return any(
        _NTFS_GIT.fullmatch(_HFS_IGNORED.sub("", piece).casefold()) for piece in part.split("\\")
    )


def deletes_too_much(old: Collection[str], new: Collection[str]) -> int | None:
    """Count the files of `old` that `new` lacks; None when it is no mass deletion.

    It is one when it takes more than half of the files, and at least 20 of them.
    """
    deleted = len(set(old).difference(new))
    return deleted if deleted >= MIN_DELETIONS and deleted * 2 > len(old) else None


def check_commands(manifest: Manifest, entries: Collection[Entry]) -> None:
    """Require that the programs which a release brings itself can be run.

    A program with a `/` in its name is one of the release; an absolute path and a bare name (found
    on the PATH) are the device's. What is reached through a symlink is left to the hook's own run.

    Raises:
        HookNotExecutable: names each program that is missing or not executable.

    """
    programs = [(place, argv[0]) for place, argv in manifest.commands()]
    own = [(place, name) for place, name in programs if "/" in name and name[0] != "/"]
    modes = {entry.path: entry.mode for entry in entries} if own else {}
    faults = []
    for place, name in own:
        path = posixpath.normpath(name)
        mode = modes.get(path)
        if mode == MODE_EXECUTABLE or _is_linked(path, modes):
            continue
        what = "is not in the release" if mode is None else "is not executable"
        faults.append(f"{MANIFEST_PATH}: {place}: {name!r} {what}")
    if faults:
        is_there = any(fault.endswith("is not executable") for fault in faults)
        hint = None if is_there else "Put the file into the release, or correct ota.toml."
        raise HookNotExecutable("; ".join(faults), hint=hint)


def _is_linked(path: str, modes: Mapping[str, int]) -> bool:
    while path:
        if modes.get(path) == MODE_SYMLINK:
            return True
        path = posixpath.dirname(path)
    return False
