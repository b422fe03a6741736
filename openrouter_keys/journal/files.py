"""A journal's files: private, whole and held by one writer. Nothing of what is in them.

Beside the database itself there are SQLite's own `-wal` and `-shm`, and `.lock`, which stays
behind: without it, two writers could get in. All are made here, before SQLite opens them.
"""

import errno
import os
import stat
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress

from openrouter_keys.errors import (
    JournalError,
    JournalInsecureError,
    JournalInUseError,
    JournalLostError,
    JournalMismatchError,
)
from openrouter_keys.journal.folders import refuse_shared
from openrouter_keys.journal.logs import begins, counts

# Any other way of locking: the journal's own file must not be opened here once SQLite has it open,
# since closing it again would drop SQLite's POSIX locks (https://sqlite.org/howtocorrupt.html).
_LOCK = ".lock"
_SUFFIXES = ("", "-wal", "-shm", _LOCK)
_PID = 32
_NOTE = 48
_NOFOLLOW: int = getattr(os, "O_NOFOLLOW", 0)
# What file systems answer that do not sync a folder.
_NO_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)
# How each of SQLite's databases begins.
_MAGIC = b"SQLite format 3\0"

if sys.platform == "win32":
    import msvcrt

    def _try_lock(lock: int) -> None:
        os.lseek(lock, _PID, os.SEEK_SET)  # beyond the number, which others must be able to read
        msvcrt.locking(lock, msvcrt.LK_NBLCK, 1)

    def _problem(_: os.stat_result) -> str | None:
        return None  # who may read a file is not in its mode there

    def _lives(_: int) -> bool:
        return True  # to ask would end it

else:
    import fcntl

    def _try_lock(lock: int) -> None:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _problem(found: os.stat_result) -> str | None:
        if found.st_uid != os.geteuid():
            return "belongs to another user: take another path, or run as that user"
        if stat.S_IMODE(found.st_mode) & 0o077:
            return "could be read by others, and holds secrets: chmod 600 it, if nobody has"
        if found.st_nlink > 1:
            return "has another name, a hard link: give the journal a file of its own (cp)"
        return None

    def _lives(pid: int) -> bool:
        try:
            os.kill(pid, 0)
        except (ProcessLookupError, OverflowError):
            return False
        except OSError:
            return True  # another user's
        return True


#: The locks that this process holds.
_locks: set[int] = set()


def _let_go() -> None:
    # A lock belongs to all processes that have it open: a forked child would keep its parent's.
    while _locks:
        os.close(_locks.pop())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)


class Held:
    """The files of a journal that is held.

    Args:
        path: the journal's file.
        lock: its lock, open.

    Attributes:
        path: the journal's file.
        had_log: whether it had a log, whole or not, before SQLite opened it.
        log: what that counted; None: nothing.
    """

    def __init__(self, path: str, lock: int) -> None:
        self.path = path
        self.had_log = begins(path + "-wal")
        self.log = counts(path + "-wal")
        self._lock = lock
        self._known: dict[str, os.stat_result] = {}

    def noted(self) -> tuple[str, int] | None:
        """Return what was noted in the lock; None: nothing that can be read."""
        os.lseek(self._lock, _PID, os.SEEK_SET)
        words = os.read(self._lock, _NOTE).split()
        if len(words) == 2 and words[1].isdigit():
            return words[0].decode("ascii", "replace"), int(words[1])
        return None

    def note(self, instance: str, commits: int) -> None:
        """Note in the lock which journal it locks, and how many commits that has."""
        with suppress(OSError):  # it is there for mishaps that may never come
            os.lseek(self._lock, _PID, os.SEEK_SET)
            os.write(self._lock, f"{instance} {commits}".encode().ljust(_NOTE))

    def drop_log(self) -> None:
        """Empty the log, before SQLite opens it: it is not this file's."""
        os.truncate(self.path + "-wal", 0)
        self.had_log, self.log = False, None

    def opened(self) -> None:
        """SQLite has opened them: see whether it got the ones that were made here.

        Raises:
            JournalInsecureError: one of them is not this user's own private file.
            JournalLostError: one of them is gone.
        """
        for suffix in _SUFFIXES:
            found = self._found(suffix)
            _refuse(self.path + suffix, found)
            self._known[suffix] = found

    def check(self) -> None:
        """See whether they are the files that were opened, and as long at least.

        Raises:
            JournalLostError: one was removed, renamed, replaced or cut short.
        """
        for suffix, known in self._known.items():
            found = self._found(suffix)
            if not os.path.samestat(found, known):
                raise JournalLostError(self.path + suffix, "was replaced")
            if found.st_size < known.st_size:
                raise JournalLostError(self.path + suffix, "was cut short")
            self._known[suffix] = found

    def _found(self, suffix: str) -> os.stat_result:
        try:
            return os.lstat(self.path + suffix)
        except OSError as error:
            raise JournalLostError(self.path + suffix, "was removed or renamed") from error


@contextmanager
def held(path: str) -> Generator[Held]:
    """Hold a journal, made if it is not there.

    Raises:
        JournalInUseError: another process, or this one, holds it already.
        JournalInsecureError: it, or a file beside it, is not private, or others could replace it.
        JournalMismatchError: it is no database at all.
        JournalError: the folder is not there, or nothing may be written there.
    """
    try:
        lock = _locked(path)
    except OSError as error:
        raise JournalError(f"{path} cannot be opened or made: {error.strerror}") from error
    try:
        yield Held(path, lock)
    finally:
        if lock in _locks:  # not in a forked child
            _locks.discard(lock)
            os.close(lock)


def remove(path: str) -> None:
    """Remove a journal that is held, and came to nothing."""
    for suffix in _SUFFIXES:
        with suppress(FileNotFoundError):
            os.unlink(path + suffix)


def remove_lock(path: str) -> None:
    """Remove the lock of a journal that is held, and that has not been used yet."""
    os.unlink(path + _LOCK)


def _locked(path: str) -> int:
    refuse_shared(path)
    _refuse_insecure(path)
    lock = _lock(path)
    _locks.add(lock)
    try:
        _claim(path, lock)
        _refuse_a_log_alone(path)
        for suffix in ("", "-wal", "-shm"):
            with suppress(FileExistsError):
                os.close(_new(path + suffix))
        _refuse_insecure(path)
        sync_folder(path)
    except BaseException:
        _locks.discard(lock)
        os.close(lock)
        raise
    return lock


def _refuse_a_log_alone(path: str) -> None:
    if (
        not os.path.lexists(path)
        and os.path.lexists(path + "-wal")
        and os.path.getsize(path + "-wal")
    ):
        problem = f"is missing, and {path}-wal is there: bring it back, or remove that, too"
        raise JournalMismatchError(path, problem)


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


def _lock(path: str) -> int:
    try:
        return _new(path + _LOCK)
    except FileExistsError:
        return os.open(path + _LOCK, os.O_RDWR | _NOFOLLOW)


def _new(path: str) -> int:
    made = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | _NOFOLLOW, 0o600)
    if _problem(os.fstat(made)) is None:
        return made
    os.close(made)
    os.unlink(path)
    problem = "would be shown to others, since its file system has no modes: take another one"
    raise JournalInsecureError(path, problem)


def _claim(path: str, lock: int) -> None:
    try:
        _try_lock(lock)
    except OSError as error:
        if error.errno not in (errno.EAGAIN, errno.EACCES, errno.EDEADLK):
            raise
        raise JournalInUseError(path, _holder(lock)) from None
    if not os.path.samestat(os.fstat(lock), os.lstat(path + _LOCK)):
        raise JournalInUseError(path, None)  # it was replaced just now
    os.lseek(lock, 0, os.SEEK_SET)
    os.write(lock, str(os.getpid()).encode().ljust(_PID))


def _holder(lock: int) -> int | None:
    os.lseek(lock, 0, os.SEEK_SET)
    pid = os.read(lock, _PID).strip()
    return int(pid) if pid.isdigit() and _lives(int(pid)) else None


def sync_folder(path: str) -> None:
    """Sync the folder of a file, so that a file that was made there outlives a power cut."""
    if sys.platform != "win32":  # there a folder cannot be opened, nor need be
        try:
            folder = os.open(os.path.dirname(path), os.O_RDONLY)
        except PermissionError:
            return  # one may write there, and not look
        try:
            os.fsync(folder)
        except OSError as error:
            if error.errno not in _NO_SYNC:
                raise
        finally:
            os.close(folder)
