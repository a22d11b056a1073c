"""A publisher's project: a bare repository that plain git fills, without a work tree."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

from fakes.object_store import Content, Executable, Link, Submodule

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

DEFAULT_BRANCH = "main"
_WHO = "Publisher <publisher@example.com> 1772366400 +0000"


class Publisher:
    """Commits, tags, rewrites and withdraws, and gives the hashes of what it made.

    `path` is the bare repository, `url` its file:// address.
    """

    def __init__(self, root: Path, name: str = "app", *, hash_kind: str = "sha1") -> None:
        self.path = root / f"{name}.git"
        self.url = f"file://{self.path}"
        root.mkdir(parents=True, exist_ok=True)
        created = ["init", "-q", "--bare", "-b", DEFAULT_BRANCH, f"--object-format={hash_kind}"]
        self._git(*created, str(self.path))

    def publish(
        self,
        files: Mapping[str, Content],
        *,
        branch: str = DEFAULT_BRANCH,
        parent: str = "",
        merges: str = "",
    ) -> str:
        """Commit exactly these files on top of the branch, or of `parent` (a rewrite)."""
        merged = f"merge {merges}\n".encode() if merges else b""
        return self._commit(merged + b"deleteall\n" + _changes(files), branch, parent)

    def change(self, files: Mapping[str, Content | None], *, branch: str = DEFAULT_BRANCH) -> str:
        """Commit these changes to the branch's tip; None deletes a path."""
        return self._commit(_changes(files), branch, "")

    def publish_literally(self, rows: Sequence[tuple[bytes, bytes, bytes]]) -> str:
        """Commit a tree of (mode, name, content) rows that git itself would refuse to make."""
        tree = b""
        for mode, name, content in rows:
            blob = self._git("hash-object", "-w", "--stdin", stdin=content)
            tree += b"%s %s\0%s" % (mode, name, bytes.fromhex(blob))
        literally = ("hash-object", "-w", "--stdin", "--literally", "-t", "tree")
        oid = self._git(*literally, stdin=tree)
        header = f"tree {oid}\nauthor {_WHO}\ncommitter {_WHO}\n\npublished\n"
        commit = self._git("hash-object", "-w", "--stdin", "-t", "commit", stdin=header.encode())
        self.reset(DEFAULT_BRANCH, commit)
        return commit

    def publish_root(self, files: Mapping[str, Content], *, branch: str) -> str:
        """Begin a branch that shares no history with any other, in place of an older one."""
        self.delete(f"refs/heads/{branch}")
        return self.publish(files, branch=branch)

    def tag(
        self,
        name: str,
        commit: str,
        *,
        annotated: bool = False,
        inner: str = "",
        extra_header: str = "",
    ) -> str:
        """Tag a commit, or what leads to one, moving an older tag; give what the tag then names.

        `inner` is the name that the tag object says, where it shall lie; `extra_header` is a line
        that does not belong there.
        """
        target = commit = self._git("rev-parse", f"{commit}^{{commit}}")
        if annotated or inner or extra_header:
            header = f"object {commit}\ntype commit\ntag {inner or name}\ntagger {_WHO}\n"
            content = f"{header}{extra_header}\nreleased\n".encode()
            target = self._git(
                "hash-object", "-w", "--literally", "-t", "tag", "--stdin", stdin=content
            )
        self._git("update-ref", f"refs/tags/{name}", target)
        return target

    def tag_object(self, name: str, oid: str, *, annotated: bool = False) -> None:
        """Tag what is no commit: `oid` may be anything that git reads as a name."""
        target = self._git("rev-parse", oid)
        if annotated:
            kind = self._git("cat-file", "-t", target)
            header = f"object {target}\ntype {kind}\ntag {name}\ntagger {_WHO}\n\nreleased\n"
            target = self._git("hash-object", "-w", "-t", "tag", "--stdin", stdin=header.encode())
        self._git("update-ref", f"refs/tags/{name}", target)

    def reset(self, branch: str, commit: str) -> None:
        """Force the branch to another commit."""
        self._git("update-ref", f"refs/heads/{branch}", commit)

    def delete(self, ref: str) -> None:
        """Delete a branch or tag, by its full name."""
        self._git("update-ref", "-d", ref)

    def set_default_branch(self, branch: str) -> None:
        """Point HEAD at a branch."""
        self._git("symbolic-ref", "HEAD", f"refs/heads/{branch}")

    def forget(self) -> None:
        """Delete for good what no branch and no tag leads to."""
        self._git("repack", "-a", "-d", "-q")
        self._git("prune", "--expire=now")

    def head(self, branch: str = DEFAULT_BRANCH) -> str:
        """Give the branch's commit."""
        return self._git("rev-parse", f"refs/heads/{branch}")

    def tree(self, commit: str) -> str:
        """Give a commit's tree."""
        return self._git("rev-parse", f"{commit}^{{tree}}")

    def _commit(self, changes: bytes, branch: str, parent: str) -> str:
        ref = f"refs/heads/{branch}"
        above = parent or self._git("for-each-ref", "--format=%(objectname)", ref)
        origin = f"from {above}\n" if above else ""
        message = f"commit {ref}\ncommitter {_WHO}\ndata 9\npublished\n{origin}"
        self._git("fast-import", "--quiet", "--force", stdin=message.encode() + changes)
        return self.head(branch)

    def _git(self, *arguments: str, stdin: bytes = b"") -> str:
        environment = {
            "PATH": os.environ["PATH"],
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_NOSYSTEM": "1",
        }
        where = [f"--git-dir={self.path}"] if self.path.exists() else []
        done = subprocess.run(
            ["git", *where, *arguments],
            env=environment,
            input=stdin,
            capture_output=True,
            check=False,
        )
        # CalledProcessError would not say what git said.
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode().strip()


def _changes(files: Mapping[str, Content | None]) -> bytes:
    return b"".join(_change(path, content) for path, content in files.items())


def _change(path: str, content: Content | None) -> bytes:
    name = b'"' + b"".join(_quoted(byte) for byte in path.encode("utf-8", "surrogateescape")) + b'"'
    match content:
        case None:
            return b"D %s\n" % name
        case Submodule():
            return b"M 160000 %s %s\n" % (content.commit.encode(), name)
        case Executable():
            mode, data = b"100755", content.content
        case Link():
            mode, data = b"120000", content.target.encode()
        case _:
            mode, data = b"100644", content
    return b"M %s inline %s\ndata %d\n%s\n" % (mode, name, len(data), data)


def _quoted(byte: int) -> bytes:
    is_plain = 0x20 <= byte < 0x7F and byte not in b'"\\'
    return bytes([byte]) if is_plain else b"\\%03o" % byte
