"""A journal's files: private and whole, and who uses them. Nothing of what is in them.

Beside the database itself there are SQLite's own `-wal` and `-shm`, and:

- `.lock`: each open journal shares its lock; what needs the journal for itself locks it alone.
- `.gate`: locked while a journal is opened, or closed.
- `.run-N`: locked as long as the process of run N lives, whose number is in it. It shows that a
  run is gone: no clock and no heartbeat is needed.

All are made here, before SQLite opens them; the first two stay behind.
"""

import errno
import os
import secrets
import stat
import sys
import time
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
from openrouter_keys.journal.logs import Counts, begins, counts

# Any other way of locking: the journal's own file must not be opened here once SQLite has it open,
# since closing it again would drop SQLite's POSIX locks (https://sqlite.org/howtocorrupt.html).
_LOCK = ".lock"
_GATE = ".gate"
_RUN = ".run-"
_SUFFIXES = ("", "-wal", "-shm", _LOCK, _GATE)
#: Seconds that another process may take to open or close a journal.
_OPENING = 10.0
_POLL = 0.01
_PID = 32
_NOTE = 48
_NOFOLLOW: int = getattr(os, "O_NOFOLLOW", 0)
# What file systems answer that do not sync a folder.
_NO_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)
# What a lock answers that another one has.
_TAKEN = (errno.EAGAIN, errno.EACCES, errno.EDEADLK)
# How each of SQLite's databases begins.
_MAGIC = b"SQLite format 3\0"

if sys.platform == "win32":
    import msvcrt

    # Beyond what others must be able to read. There are no shared locks: each takes a byte.
    _BYTES, _MANY = 1000, 1 << 20

    def _try_lock(lock: int, *, shared: bool = False) -> None:
        _unlock(lock)
        place = _BYTES + secrets.randbelow(_MANY) if shared else _BYTES
        os.lseek(lock, place, os.SEEK_SET)
        msvcrt.locking(lock, msvcrt.LK_NBLCK, 1 if shared else _MANY)
        _places[lock] = place, 1 if shared else _MANY

    def _unlock(lock: int) -> None:
        if (locked := _places.pop(lock, None)) is not None:
            os.lseek(lock, locked[0], os.SEEK_SET)
            msvcrt.locking(lock, msvcrt.LK_UNLCK, locked[1])

    _places: dict[int, tuple[int, int]] = {}

    def _problem(_: os.stat_result) -> str | None:
        return None  # who may read a file is not in its mode there

    def _lives(_: int) -> bool:
        return True  # to ask would end it

else:
    import fcntl

    def _try_lock(lock: int, *, shared: bool = False) -> None:
        fcntl.flock(lock, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)

    def _unlock(lock: int) -> None:
        fcntl.flock(lock, fcntl.LOCK_UN)

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
    """The files of a journal that is open.

    Args:
        path: the journal's file.
        gate: its gate, open and locked.
        lock: its lock, open.
        shared: whether others have it open.

    Attributes:
        path: the journal's file.
        shared: whether others had it open when the gate was locked last.
        had_log: whether it had a log, whole or not, before SQLite opened it.
        log: what that counted; None: nothing.
    """

    def __init__(self, path: str, gate: int, lock: int, *, shared: bool) -> None:
        self.path = path
        self.shared: bool = shared
        self.had_log: bool = begins(path + "-wal")
        self.log: Counts | None = counts(path + "-wal")
        self._gate = gate
        self._lock = lock
        self._runs: dict[int, int] = {}
        self._own = 0  # none has begun
        self._known: dict[str, os.stat_result] = {}

    # --- who uses them ---

    def open_gate(self, *, alone: bool = False) -> None:
        """Let others open and close the journal from now on.

        Args:
            alone: whether none of them may, for as long as this one has it open: they are refused.
        """
        if not alone:
            _try_lock(self._lock, shared=True)
        _unlock(self._gate)

    def close_gate(self) -> None:
        """Let nobody open or close the journal, and see whether others have it open."""
        _wait_for(self.path, self._gate, self._lock)
        self.shared = not _is_alone(self._lock)

    def begin(self, run: int) -> None:
        """Show that a run lives, until it ends or its process does.

        Raises:
            JournalError: its file cannot be made.
        """
        if run in self._runs:
            self.end(run)  # its beginning could not be written
        self._own = self._own or run
        path = _run_file(self.path, run)
        try:
            with suppress(FileNotFoundError):
                os.unlink(path)  # of a journal that had this name
            lock = _new(path)
            _locks.add(lock)
            self._runs[run] = lock
            _wait_for(self.path, lock, self._lock)
            os.write(lock, _own_pid())
        except OSError as error:
            raise JournalError(f"{path} cannot be made: {error.strerror}") from error
        self._known[f"{_RUN}{run}"] = os.fstat(lock)

    def end(self, run: int) -> None:
        """Show that a run of this process has ended."""
        lock = self._runs.pop(run, None)
        if lock is None:
            return
        known = self._known.pop(f"{_RUN}{run}", None)
        if lock in _locks:  # not in a forked child
            # Where its beginning could not be written, another run may have its number by now.
            with suppress(FileNotFoundError):
                if known is None or os.path.samestat(os.lstat(_run_file(self.path, run)), known):
                    forget_run(self.path, run)
            _drop(lock)

    def lives(self, run: int) -> bool:
        """Return whether a run lives, in this process or in another one."""
        return run in self._runs or _lives_in(_run_file(self.path, run))

    def close(self) -> None:
        """End the journal's own run, which began first.

        That of a call lives until the call ends, or the process: its create may be under way.
        """
        self.end(self._own)

    # --- what they are ---

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
def held(path: str, *, alone: bool = True) -> Generator[Held]:
    """Have a journal open, made if it is not there; its gate is locked at first.

    Args:
        path: its file.
        alone: whether nobody else may have it open.

    Raises:
        JournalInUseError: another process, or this one, has it open, and one of them needs it for
            itself.
        JournalInsecureError: it, or a file beside it, is not private, or others could replace it.
        JournalMismatchError: it is no database at all.
        JournalError: the folder is not there, or nothing may be written there.
    """
    locks: list[int] = []
    files: Held | None = None
    try:
        try:
            shared = _locked(path, locks, alone=alone)
        except OSError as error:
            raise JournalError(f"{path} cannot be opened or made: {error.strerror}") from error
        files = Held(path, *locks, shared=shared)
        yield files
    finally:
        if files is not None:
            files.close()
            _forget_pid(locks[-1])
        for lock in locks:
            if lock in _locks:  # not in a forked child
                _drop(lock)


def remove(path: str) -> None:
    """Remove a journal that is held, and came to nothing."""
    for suffix in _SUFFIXES:
        with suppress(FileNotFoundError):
            os.unlink(path + suffix)


def remove_lock(path: str) -> None:
    """Remove the locks of a journal that is held, and that has not been used yet."""
    os.unlink(path + _LOCK)
    os.unlink(path + _GATE)


def forget_run(path: str, run: int) -> None:
    """Remove the file of a run that is gone."""
    with suppress(FileNotFoundError):
        os.unlink(_run_file(path, run))


def _run_file(path: str, run: int) -> str:
    return f"{path}{_RUN}{run}"


def _lives_in(path: str) -> bool:
    """Return whether a process has a run's file; where that cannot be seen, it may have."""
    try:
        lock = os.open(path, os.O_RDWR | _NOFOLLOW)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    try:
        _try_lock(lock, shared=True)  # so that two who look do not take each other for the run
    except OSError:
        return True
    finally:
        _drop(lock)
    return False


def _drop(lock: int) -> None:
    _locks.discard(lock)
    with suppress(OSError):  # closed, it is unlocked in any case
        _unlock(lock)
    os.close(lock)


def _is_alone(lock: int) -> bool:
    """Lock a file alone, if nobody else has; return whether that was so."""
    try:
        _try_lock(lock)
    except OSError as error:
        if error.errno not in _TAKEN:
            raise
        return False
    return True


def _locked(path: str, locks: list[int], *, alone: bool) -> bool:
    refuse_shared(path)
    _refuse_insecure(path)
    for suffix in (_GATE, _LOCK):
        locks.append(_lock(path + suffix))
        _locks.add(locks[-1])
    gate, lock = locks
    _wait_for(path, gate, lock)
    shared = not _is_alone(lock)
    if shared and alone:
        raise JournalInUseError(path, _holder(path, lock))
    if shared:
        _share(path, lock)
    for suffix, held in ((_LOCK, lock), (_GATE, gate)):
        if not os.path.samestat(os.fstat(held), os.lstat(path + suffix)):
            raise JournalInUseError(path, None)  # it was replaced just now
    os.lseek(lock, 0, os.SEEK_SET)
    os.write(lock, _own_pid())
    if not shared:
        _refuse_a_log_alone(path)
        for suffix in ("", "-wal", "-shm"):
            with suppress(FileExistsError):
                os.close(_new(path + suffix))
    _refuse_insecure(path)
    sync_folder(path)
    return shared


def _wait_for(path: str, held: int, lock: int) -> None:
    """Lock what another process has for a moment only."""
    give_up = time.monotonic() + _OPENING
    while not _is_alone(held):
        if time.monotonic() >= give_up:
            raise JournalInUseError(path, _holder(path, lock))
        time.sleep(_POLL)


def _share(path: str, lock: int) -> None:
    try:
        _try_lock(lock, shared=True)
    except OSError as error:
        if error.errno not in _TAKEN:
            raise
        raise JournalInUseError(path, _holder(path, lock)) from None


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
        return _new(path)
    except FileExistsError:
        return os.open(path, os.O_RDWR | _NOFOLLOW)


def _new(path: str) -> int:
    made = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | _NOFOLLOW, 0o600)
    if _problem(os.fstat(made)) is None:
        return made
    os.close(made)
    os.unlink(path)
    problem = "would be shown to others, since its file system has no modes: take another one"
    raise JournalInsecureError(path, problem)


def _own_pid() -> bytes:
    return str(os.getpid()).encode().ljust(_PID)


def _pid_in(lock: int) -> int | None:
    """Return the process that is noted in a file, if it lives."""
    os.lseek(lock, 0, os.SEEK_SET)
    pid = os.read(lock, _PID).strip()
    return int(pid) if pid.isdigit() and _lives(int(pid)) else None


def _forget_pid(lock: int) -> None:
    """Take this process out of the lock, unless another one has opened the journal since."""
    with suppress(OSError):
        if lock in _locks and _pid_in(lock) == os.getpid():
            os.lseek(lock, 0, os.SEEK_SET)
            os.write(lock, b"".ljust(_PID))


def _holder(path: str, lock: int) -> int | None:
    """Return a process that has a journal open: one with a run, else the last that opened it."""
    folder, name = os.path.split(path)
    for found in os.listdir(folder):
        file = os.path.join(folder, found)
        if found.startswith(name + _RUN) and _lives_in(file):
            with suppress(OSError), open(file, "rb") as run:
                if (pid := _pid_in(run.fileno())) is not None:
                    return pid
    return _pid_in(lock)


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
