"""A journal's files: private, whole and held by one writer. Nothing of what is in them.

Beside the database itself there are SQLite's own `-wal` and `-shm`, which get its mode, and
`.lock`, which stays behind: whoever removed it could let two writers in.
"""

import errno
import os
import stat
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress

from openrouter_keys.provisioning.errors import (
    JournalError,
    JournalInsecureError,
    JournalInUseError,
    JournalMismatchError,
)

# Any other way of locking: the journal's own file must not be opened here once SQLite has it open,
# since closing it again would drop SQLite's POSIX locks (https://sqlite.org/howtocorrupt.html).
_LOCK = ".lock"
_SUFFIXES = ("", "-wal", "-shm", _LOCK)
_PID = 32
# How each of SQLite's databases begins.
_MAGIC = b"SQLite format 3\0"

if sys.platform == "win32":
    import msvcrt

    def _try_lock(lock: int) -> None:
        os.lseek(lock, _PID, os.SEEK_SET)  # beyond the number, which others must be able to read
        msvcrt.locking(lock, msvcrt.LK_NBLCK, 1)

    def _problem(_: os.stat_result) -> str | None:
        return None  # who may read a file is not in its mode there

else:
    import fcntl

    def _try_lock(lock: int) -> None:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _problem(found: os.stat_result) -> str | None:
        if found.st_uid != os.geteuid():
            return "belongs to another user: take another path, or run as that user"
        if stat.S_IMODE(found.st_mode) & 0o077:
            return "could be read by others, and holds secrets: chmod 600 it, if nobody has"
        return None


@contextmanager
def held(path: str) -> Generator[None]:
    """Hold a journal, made if it is not there.

    Raises:
        JournalInUseError: somebody else holds it.
        JournalInsecureError: it, or a file beside it, is not private.
        JournalMismatchError: it is no database at all.
        JournalError: the folder is not there, or nothing may be written there.
    """
    try:
        lock = _locked(path)
    except OSError as error:
        raise JournalError(f"{path} cannot be opened or made: {error.strerror}") from error
    try:
        yield
    finally:
        os.close(lock)


def _locked(path: str) -> int:
    _refuse_insecure(path)
    lock = _private(path + _LOCK)
    try:
        _claim(path, lock)
        with suppress(FileExistsError):
            os.close(_private(path, os.O_EXCL))
            _sync_folder(path)
    except BaseException:
        os.close(lock)
        raise
    return lock


def _refuse_insecure(path: str) -> None:
    for suffix in _SUFFIXES:
        with suppress(FileNotFoundError):
            _refuse(path + suffix, os.lstat(path + suffix))


def _refuse(path: str, found: os.stat_result) -> None:
    if stat.S_ISLNK(found.st_mode):
        raise JournalInsecureError(path, "is a symbolic link: give the path of the file itself")
    if not stat.S_ISREG(found.st_mode):
        what = "a folder" if stat.S_ISDIR(found.st_mode) else "no regular file"
        raise JournalInsecureError(path, f"is {what}: give the path of a file")
    problem = _problem(found)
    if problem is not None and _is_other(path):
        raise JournalMismatchError(path, "is no journal: give another path")
    if problem is not None:
        raise JournalInsecureError(path, problem)


def _is_other(path: str) -> bool:
    """Return whether a file is none of SQLite's, as far as that may be looked at."""
    # What has a lock beside it may be open here: see above.
    if not path.endswith(_SUFFIXES[1:]) and not os.path.lexists(path + _LOCK):
        with suppress(OSError), open(path, "rb") as file:
            begin = file.read(len(_MAGIC))
            return bool(begin) and not _MAGIC.startswith(begin)
    return False


def _private(path: str, flags: int = 0) -> int:
    nofollow: int = getattr(os, "O_NOFOLLOW", 0)
    return os.open(path, os.O_RDWR | os.O_CREAT | nofollow | flags, 0o600)


def _claim(path: str, lock: int) -> None:
    try:
        _try_lock(lock)
    except OSError as error:
        if error.errno not in (errno.EAGAIN, errno.EACCES, errno.EDEADLK):
            raise
        holder = os.pread(lock, _PID, 0) if hasattr(os, "pread") else os.read(lock, _PID)
        raise JournalInUseError(path, int(holder) if holder.strip().isdigit() else None) from None
    os.ftruncate(lock, 0)
    os.lseek(lock, 0, os.SEEK_SET)
    os.write(lock, str(os.getpid()).encode())


def _sync_folder(path: str) -> None:
    if sys.platform != "win32":  # there a folder cannot be opened, nor need be
        folder = os.open(os.path.dirname(path), os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
