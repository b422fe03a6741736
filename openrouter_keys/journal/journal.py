"""The journal: what bulk provisioning knows durably of every key, for asyncio. No network.

The order to keep is: **intent durable → send → secret durable → tell the caller.** Each method
returns once what it says is on the disk; cancelling it does not take that back. `schema` draws the
states.
"""

import asyncio
import logging
import os
import sqlite3
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from contextlib import asynccontextmanager, closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import TypeVar

import anyio

from openrouter_keys._base.clock_skew import Stamp
from openrouter_keys._base.made_keys import MadeKey
from openrouter_keys._base.masking import scrub
from openrouter_keys._base.pickling import NeverPickled
from openrouter_keys.converter import write_time
from openrouter_keys.errors import (
    DuplicateRefError,
    JournalError,
    JournalMismatchError,
    SecretNotKeptError,
)
from openrouter_keys.journal import copies, entries
from openrouter_keys.journal.copies import Copy, misfit, refuse_misfit, refuse_outdated
from openrouter_keys.journal.entries import CHUNK, Entry
from openrouter_keys.journal.files import Held, held, remove, remove_lock
from openrouter_keys.journal.schema import APPLICATION, READABLE, State, connect, unreadable
from openrouter_keys.journal.specs import KeySpec
from openrouter_keys.journal.writer import Store, Work, Writer

T = TypeVar("T")

_log = logging.getLogger("openrouter_keys")

_UNSETTLED = (State.INTENT, State.DOUBT, State.MADE)


class Journal(NeverPickled):
    """An open journal; `Journal.open` makes it.

    Attributes:
        longest_timeout: the seconds that a create of any of its runs could be under way.
    """

    def __init__(
        self,
        writer: Writer,
        run: int,
        store_secrets: bool,
        seal: Callable[[bytes], bytes] | None,
        longest_timeout: float = 0.0,
    ) -> None:
        self.longest_timeout = longest_timeout
        self._writer = writer
        self._run = run
        self._store_secrets = store_secrets
        self._seal = seal

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        path: str | os.PathLike[str] | None,
        *,
        server_url: str | None = None,
        longest_timeout: float = 0.0,
        store_secrets: bool = True,
        seal: Callable[[bytes], bytes] | None = None,
    ) -> AsyncGenerator["Journal", None]:
        """Open a journal for one run, made if it is not there.

        Args:
            path: its file; `-wal`, `-shm` and `.lock` are beside it. None: in memory, gone with
                the process.
            server_url: the service that its keys are made at, remembered from the first time and
                compared from then on; None: not compared.
            longest_timeout: seconds that a create of this run can be under way.
            store_secrets: False: secrets are never written, so that one not handed over before the
                process died is lost, and its key has to be made anew.
            seal: encrypts each secret before it is written; called in the writer's thread. None:
                written as they are.

        Raises:
            JournalInUseError: somebody else is writing to it.
            JournalInsecureError: others could read it, or it is no plain file.
            JournalMismatchError: it is no journal, a newer version's, or another server's.
            JournalError: it cannot be opened or made.
        """
        writer = Writer(lambda: _opened(path, server_url))
        await writer.start()
        async with _stopping(writer):
            run = await writer.submit(_run)
            longest = await writer.submit(lambda c: entries.longest_timeout(c, longest_timeout))
            yield cls(writer, run, store_secrets, seal, longest)

    @classmethod
    @asynccontextmanager
    async def read(cls, path: str | os.PathLike[str]) -> AsyncGenerator["Journal", None]:
        """Open a journal that is there, to look at it: that is no run, and can change nothing.

        It is locked all the same, so that nobody reads what a run is about to change.

        Args:
            path: its file, never made.

        Raises:
            JournalInUseError: somebody else uses it.
            JournalInsecureError: others could read it, or it is no plain file.
            JournalMismatchError: it is no journal, or another version's.
            JournalError: it is not there, or cannot be opened.
        """
        writer = Writer(lambda: _looked_into(path))
        await writer.start()
        async with _stopping(writer):
            yield cls(writer, 0, store_secrets=False, seal=None)

    @classmethod
    async def purge(cls, path: str | os.PathLike[str]) -> int:
        """Forget the secrets of settled keys: no byte of them is left in the journal's files.

        So it does those of keys that are not as they were asked for, which nobody ever gets. The
        keys stay known, and are never made again. A secret that is yet to be handed over stays.
        What a file system or a drive keeps of bytes that were overwritten is beyond its reach.

        Args:
            path: its file, never made; nobody else may use it meanwhile.

        Returns:
            How many secrets were forgotten. They are gone for good: a settled key's secret may be
            nowhere else, if nothing took it when it was made and it was never exported.

        Raises:
            JournalInUseError: somebody else uses it.
            JournalInsecureError: others could read it, or it is no plain file.
            JournalMismatchError: it is no journal, or another version's.
            JournalError: it is not there, or cannot be written; then purge it again.
        """
        return await _in_thread(lambda: _purged(path))

    @classmethod
    async def backup(cls, path: str | os.PathLike[str], to: str | os.PathLike[str]) -> None:
        """Copy a whole journal, with what is in its log, into a new private file.

        A copy of its main file alone may lack what a killed run wrote last. What a later run
        writes is not in the copy: do not go on with both.

        Args:
            path: its file, never made; nobody else may use it meanwhile.
            to: the copy, which must not be there.

        Raises:
            JournalInUseError: somebody else uses it.
            JournalInsecureError: others could read or replace it, or the copy.
            JournalMismatchError: it is no journal, another version's, or outdated.
            JournalError: it is not there, the copy is, or cannot be written.
        """
        await _in_thread(lambda: _backed_up(path, to))

    @classmethod
    async def accept(cls, path: str | os.PathLike[str]) -> None:
        """Let a copy be gone on with that raises `JournalOutdatedError`.

        Keys that it does not know are made once more. First delete those that are left of the ones
        that were made after it was copied, if nobody uses them.

        Args:
            path: its file; nobody else may use it meanwhile.

        Raises:
            JournalInUseError: somebody else uses it.
            JournalInsecureError: others could read or replace it.
            JournalMismatchError: it is no journal, or another version's.
            JournalError: it is not there, or cannot be written.
        """
        await _in_thread(lambda: _accepted(path))

    async def purgeable(self) -> int:
        """Return how many secrets `purge` would forget."""
        return await self._writer.submit(entries.purgeable)

    async def plan(self, specs: Sequence[KeySpec]) -> list[State | None]:
        """Return what is known of each spec; None: nothing. One look-up for each 500 of them.

        Raises:
            PlanChangedError: a spec is not the one that the journal knows by its ref.
            DuplicateRefError: a ref came twice in this run.
        """
        _refuse_duplicates(specs)
        found: list[State | None] = []
        for start in range(0, len(specs), CHUNK):
            found += await self._plan(specs[start : start + CHUNK])
        return found

    async def _plan(self, specs: Sequence[KeySpec]) -> list[State | None]:
        return await self._writer.submit(lambda c: entries.plan(c, self._run, specs))

    async def intend(self, spec: KeySpec, at: datetime) -> State | None:
        """Write the intent to create a key, unless its ref is known.

        Args:
            spec: what is to be made.
            at: when the create is sent, by the service's clock.

        Returns:
            None: the intent is durable, and the create may be sent. A state: what is known of it
            from an earlier run; nothing was written, and nothing may be sent.

        Raises:
            PlanChangedError: the spec is not the one that the journal knows by its ref.
            DuplicateRefError: the ref came before in this run.
            JournalFullError: the intent cannot be written, so the create must not be sent.
        """
        spec.plan  # noqa: B018 - made here, for the writer's thread is everybody's
        time = write_time(at)
        return await self._writer.submit(lambda c: entries.intend(c, self._run, spec, time))

    async def again(self, ref: str, at: datetime) -> None:
        """Write the intent to create a key once more, after a reconcile or a refusal.

        What was in doubt counts as written off from now on: see `written_off`.
        """
        time = write_time(at)
        await self._writer.submit(lambda c: entries.again(c, ref, time))

    async def keep(
        self,
        ref: str,
        *,
        secret: str,
        hash: str,
        record: str | None = None,
        settled: bool = False,
        ended_at: datetime | None = None,
    ) -> None:
        """Write down a key that was made, before anybody is told.

        Args:
            ref: the caller's own id for it.
            secret: the secret.
            hash: the key's hash.
            record: the key's record as JSON; None: it could not be read.
            settled: nobody has to acknowledge it.
            ended_at: when its create was answered, by the service's clock; None: not told.

        Raises:
            SecretNotKeptError: it could not be written; the secret is in `error.key`.
        """
        told = _telling(secret)
        del secret  # crash reporters send local variables home
        state = State.SETTLED if settled else State.MADE
        made = MadeKey.of(hash, told())
        ended = None if ended_at is None else write_time(ended_at)
        stored = self._storing(told)
        try:
            await self._writer.submit(
                lambda c: entries.keep(
                    c,
                    ref,
                    made=made,
                    secret=stored(),
                    record=record,
                    state=state,
                    ended_at=ended,
                ),
                urgent=True,
            )
        except JournalError as error:
            problem = error.message
        else:
            return
        raise SecretNotKeptError(ref, told(), hash, problem)

    def _storing(self, secret: Callable[[], str]) -> Callable[[], str | bytes | None]:
        # Called in the writer's thread.
        if not self._store_secrets:
            return lambda: None
        seal = self._seal
        return secret if seal is None else lambda: seal(secret().encode())

    async def acknowledge(self, ref: str) -> None:
        """The caller has the secret."""
        await self._writer.submit(lambda c: entries.acknowledge(c, ref))

    async def doubt(
        self,
        ref: str,
        reason: str,
        ended_at: datetime | None = None,
        told_hash: str | None = None,
    ) -> None:
        """Nobody can say whether a key was made; the reason is kept without secrets.

        Args:
            ref: the caller's own id for it.
            reason: why.
            ended_at: when its exchange ended, by the service's clock; None: not now.
            told_hash: the hash that an answer told which lost the secret; None: it told none.
        """
        told, ended = scrub(reason), None if ended_at is None else write_time(ended_at)
        await self._writer.submit(lambda c: entries.doubt(c, ref, told, ended, told_hash))

    async def fail(self, ref: str, reason: str) -> None:
        """The service refused to make the key; the reason is kept without secrets."""
        told = scrub(reason)
        await self._writer.submit(lambda c: entries.fail(c, ref, told))

    async def reject(self, ref: str, reason: str) -> None:
        """The key that was made is not the one that was asked for; it is never made again."""
        told = scrub(reason)
        await self._writer.submit(lambda c: entries.reject(c, ref, told))

    async def forget_intent(self, ref: str) -> bool:
        """The last create is proven not to have been sent, or not to have been carried out.

        Returns:
            Whether its row is there still, in doubt about an earlier create.
        """
        return await self._writer.submit(lambda c: entries.forget(c, ref))

    async def resolve(self, ref: str, reason: str) -> None:
        """No key of any of its unanswered creates is left, and none can turn up any more."""
        await self._writer.submit(lambda c: entries.resolve(c, ref, reason))

    async def clear(self, ref: str) -> None:
        """No key of a create that was written off can turn up any more."""
        await self._writer.submit(lambda c: entries.clear(c, ref))

    async def find(self, ref: str) -> Entry | None:
        """Return what is known of one key; None: nothing."""
        return await self._writer.submit(lambda c: entries.find(c, ref))

    def unfinished(self, *states: State) -> AsyncGenerator[Entry, None]:
        """Iterate over what is to be gone on with, in the order of intending.

        Args:
            states: which; left out: `intent`, `doubt` and `made`. `settled` ones are never read.
        """
        wanted = states or _UNSETTLED
        return self._pages(lambda after: lambda c: entries.unfinished(c, after, wanted))

    def every(self) -> AsyncGenerator[Entry, None]:
        """Iterate over all keys, settled ones too, in the order of intending."""
        return self._pages(lambda after: lambda c: entries.every(c, after))

    def written_off(self) -> AsyncGenerator[Entry, None]:
        """Iterate over keys, whatever their state, of which an earlier create can still land."""
        return self._pages(lambda after: lambda c: entries.written_off(c, after))

    async def salvage(self, *states: State) -> AsyncGenerator[Entry, None]:
        """Iterate over the keys whose secrets were in the journal when it was lost.

        They can be read as long as it is open. Nothing comes of a journal that is not lost.

        Args:
            states: which keys.
        """
        after = 0
        while self._writer.lost is not None and (found := await self._salvaged(after)):
            for entry in found:
                if entry.secret is not None and entry.state in states:
                    yield entry
            after = found[-1].id

    async def _salvaged(self, after: int) -> list[Entry]:
        return await self._writer.submit(lambda c: entries.every(c, after), salvages=True)

    async def _pages(self, page: Callable[[int], Work[list[Entry]]]) -> AsyncGenerator[Entry, None]:
        after = 0
        while found := await self._writer.submit(page(after)):
            for entry in found:
                yield entry
            after = found[-1].id

    async def stamps(self) -> list[Stamp]:
        """Return how the service stamped the last keys that it made."""
        return await self._writer.submit(entries.stamps)

    async def known(self, workspace_id: str | None, since: datetime) -> dict[str, str | None]:
        """Return the hashes of keys of a workspace that were made since a time, the last ones.

        Each has the workspace that its record tells; None: it tells none.

        Args:
            workspace_id: the workspace that was asked for; None: the default one.
            since: by the service's clock.
        """
        time = write_time(since)
        return await self._writer.submit(lambda c: entries.known(c, workspace_id, time))

    async def counts(self) -> dict[State, int]:
        """Return how many keys there are in each state."""
        return await self._writer.submit(entries.counts)

    async def origin(self) -> tuple[datetime, str | None]:
        """Return when it was made, and the service that its keys are made at; None: never told."""
        return await self._writer.submit(_origin)

    async def default_workspace(self) -> str | None:
        """Return where its keys were made that named no workspace; None: not known."""
        return await self._writer.submit(entries.default_workspace)

    async def do(self, work: Work[T]) -> T:
        """Have something else done in its file, durably, such as what is in `rotations`."""
        return await self._writer.submit(work)

    async def holds(self, hash: str) -> bool:
        """Say whether the journal knows that this key was made, or is being rotated."""
        return await self._writer.submit(lambda c: entries.holds(c, hash))

    async def holds_for_another(self, hash: str, ref: str) -> bool:
        """Say whether a key was made for another ref than this one, or is being rotated."""
        return await self._writer.submit(lambda c: entries.holds_for_another(c, hash, ref))

    async def last(self) -> list[str]:
        """Return the hashes of the last 10,000 keys that were made, and of as many old ones."""
        return await self._writer.submit(entries.last)


@asynccontextmanager
async def _stopping(writer: Writer) -> AsyncGenerator[None]:
    """Close a journal at the end; what goes wrong in that hides neither an error nor a report."""
    problem: BaseException | None = None
    try:
        yield
    except BaseException as error:
        problem = error
        raise
    finally:
        try:
            await writer.stop()
        except Exception as error:  # noqa: BLE001 - all that was asked for is durable
            told = f"the journal could not be closed: {error}"
            if problem is None:
                _log.warning(told)
            else:
                problem.add_note(told)


async def _in_thread(act: Callable[[], T]) -> T:
    """Do something with a journal in a thread; cancelled, it ends once nobody holds the file."""
    task = asyncio.ensure_future(asyncio.to_thread(act))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        with anyio.CancelScope(shield=True):
            await asyncio.wait([task])
        raise


@contextmanager
def _opened(path: str | os.PathLike[str] | None, server_url: str | None) -> Generator[Store]:
    if path is None:
        with closing(connect(None, server_url)) as connection:
            yield Store(connection)
        return
    file = os.path.abspath(path)
    with held(file) as files, closing(_connected(files, server_url)) as connection:
        files.opened()
        copy = Copy(connection, files)
        copy.begin()
        yield copy
        copy.check()
        copy.end()


def _connected(files: Held, server_url: str | None) -> sqlite3.Connection:
    refuse_misfit(files)
    return connect(files.path, server_url, lambda c: refuse_outdated(c, files))


@contextmanager
def _existing(
    path: str | os.PathLike[str], mode: Callable[[Held], str]
) -> Generator[tuple[sqlite3.Connection, Held]]:
    file = os.path.abspath(path)
    if not os.path.lexists(file):
        raise JournalError(f"{file} is not there: give the path of a journal")
    with held(file) as files:
        uri = f"{Path(file).as_uri()}?mode={mode(files)}"
        with closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as connection:
            _refuse_others(connection, file)
            files.opened()
            yield connection, files


def _to_look(files: Held) -> str:
    return "ro" if misfit(files) is None else "ro&immutable=1"  # without its log


def _to_change(files: Held) -> str:
    refuse_misfit(files)
    return "rw"


def _to_accept(files: Held) -> str:
    if misfit(files) is not None:
        files.drop_log()
    return "rw"


@contextmanager
def _looked_into(path: str | os.PathLike[str]) -> Generator[Store]:
    with _existing(path, _to_look) as (connection, _):
        yield Store(connection)


def _purged(path: str | os.PathLike[str]) -> int:
    with _existing(path, _to_change) as (connection, files):
        refuse_outdated(connection, files)
        try:
            # What is deleted is overwritten; what earlier changes left between the rows goes with
            # the old pages, which are copied in memory and not to yet another file.
            connection.execute("PRAGMA secure_delete = ON")
            connection.execute("PRAGMA temp_store = MEMORY")
            forgotten = entries.purge(connection)
            copies.close(connection)
            connection.execute("VACUUM")
            (busy, *_) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        except sqlite3.Error as error:
            problem = f"{os.fspath(path)} cannot be purged ({error})"
            raise JournalError(f"{problem}: make room on its disk, then purge it again") from error
    if busy:
        problem = f"{os.fspath(path)} is being read by another program"
        raise JournalError(f"{problem}, and still holds secrets: end it, then purge it again")
    return forgotten


def _backed_up(path: str | os.PathLike[str], to: str | os.PathLike[str]) -> None:
    copy = os.path.abspath(to)
    if os.path.lexists(copy):
        raise JournalError(f"{copy} is there already: give a new file")
    with _existing(path, _to_change) as (connection, files):
        refuse_outdated(connection, files)
        with held(copy):
            try:
                with closing(sqlite3.connect(copy, isolation_level=None)) as target:
                    connection.backup(target)
                    target.execute("PRAGMA synchronous = FULL")
                    copies.close(target)
            except BaseException as error:
                remove(copy)
                if isinstance(error, sqlite3.Error):
                    raise JournalError(f"{copy} cannot be written: {error}") from error
                raise
            remove_lock(copy)


def _accepted(path: str | os.PathLike[str]) -> None:
    with _existing(path, _to_accept) as (connection, files):
        try:
            copies.accept(connection, files)
        except sqlite3.Error as error:
            raise JournalError(f"{os.fspath(path)} cannot be written: {error}") from error


def _refuse_others(connection: sqlite3.Connection, path: str) -> None:
    try:
        if connection.execute("PRAGMA application_id").fetchone() != (APPLICATION,):
            raise JournalMismatchError(path, "is no journal: give another path")
        (version,) = connection.execute("SELECT version FROM meta").fetchone()
    except sqlite3.Error as error:
        problem = f"cannot be read as a journal: {error}"
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_NOTADB:
            problem = "is no journal: give another path"
        raise JournalMismatchError(path, problem) from error
    if version not in READABLE:
        raise JournalMismatchError(path, unreadable(version))


def _run(connection: sqlite3.Connection) -> int:
    (run,) = connection.execute("SELECT runs FROM meta").fetchone()
    return int(run)


def _origin(connection: sqlite3.Connection) -> tuple[datetime, str | None]:
    created_at, server_url = connection.execute(
        "SELECT created_at, server_url FROM meta"
    ).fetchone()
    return datetime.fromisoformat(created_at), server_url


def _telling(secret: str) -> Callable[[], str]:
    return lambda: secret  # a function shows nothing, wherever it is shown


def _refuse_duplicates(specs: Sequence[KeySpec]) -> None:
    seen: set[str] = set()
    for spec in specs:
        if spec.ref in seen:
            raise DuplicateRefError(spec.ref)
        seen.add(spec.ref)
