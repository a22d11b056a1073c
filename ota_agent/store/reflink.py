"""Copies that share their blocks until one of them is written to (btrfs, XFS).

Where a file system can, this beats a hard link: an edit in one release reaches no other one.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat

# linux/fs.h: _IOW(0x94, 9, int)
FICLONE = 0x40049409

# What a file system, or a pair of files, answers that cannot share blocks.
_CANNOT = frozenset(
    {errno.EOPNOTSUPP, errno.ENOTTY, errno.EINVAL, errno.EXDEV, errno.EPERM, errno.ENOSYS}
)


def clone(source: str, found: os.stat_result, target: str, mode: int) -> os.stat_result | None:
    """Make `target` a copy of `source`; None where that cannot be done, and nothing is left then.

    Not durable, see `atomic.sync_tree`. `found` are the metadata that the content was known by:
    a source that changed since is not copied.
    """
    with open(source, "rb", opener=_open_file) as old, open(target, "xb") as new:
        try:
            fcntl.ioctl(new.fileno(), FICLONE, old.fileno())
            os.fchmod(new.fileno(), stat.S_IMODE(mode))
            after = os.fstat(old.fileno())
            is_same = (after.st_ino, after.st_size, after.st_mtime_ns, after.st_ctime_ns) == (
                found.st_ino,
                found.st_size,
                found.st_mtime_ns,
                found.st_ctime_ns,
            )
            copied = os.fstat(new.fileno()) if is_same else None
        except OSError as error:
            os.unlink(target)
            if error.errno not in _CANNOT:
                raise
            return None
    if copied is None:
        os.unlink(target)
    return copied


def _open_file(path: str, flags: int) -> int:
    # A link planted there meanwhile must not lead out of the release.
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)
