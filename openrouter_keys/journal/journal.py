"""The journal: what bulk provisioning knows durably of every key, for asyncio. No network.

The order to keep is: **intent durable → send → secret durable → hand over.** Each method
returns once what it says is on the disk; cancelling it does not take that back. `schema` draws the
states.
"""

import asyncio
import logging
import os
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    asynccontextmanager,
)
from datetime import datetime
from functools import partial
from typing import Any, Protocol, TypeVar

import anyio
from attrs import frozen

from openrouter_keys._base.clock_skew import Stamp
from openrouter_keys._base.made_keys import MadeKey
from openrouter_keys._base.masking import scrub
from openrouter_keys._base.pickling import NeverPickled
from openrouter_keys._inputs.arguments import hides_arguments
from openrouter_keys.converter import write_time
from openrouter_keys.errors import (
    JSON,
    DuplicateRefError,
    JournalError,
    SecretNotKeptError,
    TakenOverError,
)
from openrouter_keys.journal import (
    adoptions,
    engines,
    entries,
    facts,
    rotations,
    runs,
    transitions,
)
from openrouter_keys.journal.addresses import place_of, refuse_none
from openrouter_keys.journal.adoptions import Adopted, Adoption
from openrouter_keys.journal.encryption import sealing, unsealing
from openrouter_keys.journal.entries import CHUNK, KEYS, Entry, Table
from openrouter_keys.journal.rotations import ROTATIONS, Asked, Known, Replan, RotationEntry
from openrouter_keys.journal.runs import Claim
from openrouter_keys.journal.schema import DOUBTFUL, OldKey, State
from openrouter_keys.journal.seen import Seen
from openrouter_keys.journal.specs import KeySpec
from openrouter_keys.journal.store import Connection
from openrouter_keys.journal.transitions import Transition
from openrouter_keys.journal.writer import Writer


class _Placed(Protocol):
    @property
    def id(self) -> int: ...


T = TypeVar("T")
E = TypeVar("E", bound=_Placed)

_log = logging.getLogger("openrouter_keys")

_UNSETTLED = (State.INTENT, State.DOUBT, State.MADE)


@frozen
class _Secrets:
    """What a journal does with secrets."""

    stored: bool
    seal: Callable[[bytes], bytes] | None = None
    unseal: Callable[[bytes], bytes] | None = None


class Journal(NeverPickled):
    """An open journal, for any number of calls of any clients of this process; `open` makes it.

    Attributes:
        longest_timeout: the seconds that a create of any of its runs could be under way.
    """

    def __init__(
        self, writer: Writer, run: int, secrets: _Secrets, longest_timeout: float = 0.0
    ) -> None:
        self.longest_timeout: float = longest_timeout
        self._writer = writer
        self._run = run
        self._secrets = secrets
        self._seen = Seen()
        self._time_of_day: Callable[[], str] | None = None
        self._services: set[str] = set()

    @property
    def keeps(self) -> bool:
        """Whether it keeps the secrets after the process has ended."""
        return self._secrets.stored

    @classmethod
    @hides_arguments
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        server_url: str | None = None,
        longest_timeout: float = 0.0,
        store_secrets: bool = True,
        seal: Callable[[bytes], bytes] | None = None,
        recipient: str | None = None,
        identity: str | None = None,
    ) -> "Opening":
        """Open a journal, made if it is not there, with `async with` or with `with`.

        Any number of processes may have it open at once, and any number of calls, of both kinds of
        client, may use it: pass it to them as `journal=`.

        Args:
            path: its file; `-wal`, `-shm`, `.lock` and others are beside it. Or the URL of a
                PostgreSQL database (`postgresql://…`, by the extra `openrouter-keys[postgresql]`):
                the journal is its schema `openrouter_keys`, or that of `?schema=`, which is made if
                the role may. `:memory:`: in memory, gone with the block.
            server_url: the service that its keys are made at, remembered from the first time and
                compared from then on; None: that of the first client that uses it.
            longest_timeout: seconds that a create can be under way which this journal itself sends;
                each call with it gives its own.
            store_secrets: False: secrets are never written, so that one not handed over before the
                process died is lost, and its key has to be made anew.
            seal: encrypts each secret before it is written; called in the writer's thread. None:
                as `recipient` says.
            recipient: an `age` recipient to encrypt the secrets to (the extra
                `openrouter-keys[age]`). None: they are written as they are.
            identity: the text of the recipient's `age` identity, which opens them for `ensure`.
                None: `ensure` gives only the secrets of keys that it makes.

        Returns:
            What opens it, and gives a `Journal`; at the block's end, it is closed.

        Raises:
            InvalidArgumentError: `path` is None; `recipient` or `identity` is none, or pyrage is
                not installed.
            JournalInUseError: somebody needs it alone: purges it, say.
            JournalInsecureError: others could read it, or it is no plain file.
            JournalMismatchError: it is no journal, a newer version's, or another server's.
            JournalError: it cannot be opened or made.
        """
        refuse_none(path)
        place = place_of(path)
        del path  # crash reporters send local variables home
        try:
            secrets = _Secrets(
                store_secrets,
                seal if recipient is None else sealing(recipient),
                None if identity is None else unsealing(identity),
            )
        finally:
            del identity
        writer = Writer(engines.opening(place, server_url))
        return Opening(writer, secrets, longest_timeout)

    @asynccontextmanager
    async def begin(
        self, longest_timeout: float = 0.0, *, server_url: str | None = None
    ) -> AsyncGenerator["Journal", None]:
        """Begin another run.

        Args:
            longest_timeout: seconds that a create of this run can be under way.
            server_url: as in `open`.
        """
        work = partial(runs.begin, server_url=server_url, timeout=longest_timeout)
        run, longest = await self._writer.submit(work)
        try:
            yield Journal(self._writer, run, self._secrets, longest)
        finally:
            try:
                await self._writer.submit(
                    partial(runs.end, run=run), at_last=lambda store: store.end(run)
                )
            except JournalError:  # what is left of it in the journal does no harm
                self._writer.end_late(run)

    @classmethod
    @asynccontextmanager
    async def read(cls, path: str | os.PathLike[str]) -> AsyncGenerator["Journal", None]:
        """Open a journal that is there, to look at it: that is no run, and can change nothing.

        Runs may go on beside it: each look sees what is committed by then.

        Args:
            path: its file or URL, never made.

        Raises:
            JournalError: it is not there, or refused as `open` refuses it.
        """
        place = place_of(path)
        del path  # as in `open`
        writer = Writer(engines.looking(place))
        await writer.start()
        async with _stopping(writer):
            yield cls(writer, 0, _Secrets(stored=False))

    @classmethod
    async def purge(cls, path: str | os.PathLike[str]) -> int:
        """Forget the secrets of settled keys: no byte of them is left in the journal's files.

        The secrets of keys that are not as asked for go, too: they are never handed over. The keys
        stay known, and are never made again. A secret that is yet to be handed over stays.
        What a file system or a drive keeps of bytes that were overwritten is beyond its reach. In
        PostgreSQL no byte is left in the table; the server's write-ahead log keeps the secrets
        until it is recycled, and so do its backups, its archives and its replicas.

        Args:
            path: its file, never made, which must not be in use; or its URL: the role must own its
                tables, and runs that use it wait meanwhile.

        Returns:
            How many secrets were forgotten. They are gone for good: a settled key's secret may be
            nowhere else, if nothing took it when it was made and it was never exported.

        Raises:
            JournalError: it is not there, refused as `open` refuses it, or cannot be written; then
                purge it again.
        """
        place = place_of(path)
        del path  # as in `open`
        return await _in_thread(partial(engines.purge, place))

    @classmethod
    async def backup(cls, path: str | os.PathLike[str], to: str | os.PathLike[str]) -> None:
        """Copy a whole journal, with what is in its log, into a new private file.

        A copy of its main file alone may lack what a killed run wrote last. What a later run
        writes is not in the copy: do not go on with both. It may be in use: the copy has what was
        committed when it began.

        Args:
            path: its file, never made.
            to: the copy, which must not be there.

        Raises:
            JournalError: it is not there, or refused as `open` refuses it; or the copy is there, or
                cannot be written.
        """
        place = place_of(path)
        del path  # as in `open`
        await _in_thread(partial(engines.back_up, place, to))

    @classmethod
    async def accept(cls, path: str | os.PathLike[str]) -> None:
        """Accept a copy that raises `JournalOutdatedError`: the next run resumes from it.

        The next run makes again each key that the copy does not know. First delete the keys that
        were made after it was copied, and are not in use.

        Args:
            path: its file; it must not be in use.

        Raises:
            JournalError: it is not there, refused as `open` refuses it, or cannot be written.
        """
        place = place_of(path)
        del path  # as in `open`
        await _in_thread(partial(engines.accept, place))

    async def pending(self) -> int:
        """Return how many keys were made and not handed over, unless another run is about to."""
        return await self._writer.submit(lambda store: runs.pending(store, self._run), reads=True)

    async def others(self) -> tuple[int, int]:
        """Return how many other runs live, and how many keys they may be making right now."""
        return await self._writer.submit(lambda store: runs.others(store, self._run), reads=True)

    async def names_of_others(self) -> list[str]:
        """Return the names of keys that other runs may be making right now."""
        return await self._writer.submit(
            lambda store: runs.names_of_others(store, self._run), reads=True
        )

    async def claim(self, *refs: str, settled: bool = False) -> dict[str, Claim]:
        """Make rows this run's own, unless another run that lives has them.

        A run may change only its own rows: those that it intended, and those that it claimed.

        Args:
            refs: the rows'.
            settled: whether to claim settled ones, too, which need nothing more.

        Returns:
            Those refs that have a row, each with what came of it.
        """
        claims, longest = await self._writer.submit(
            lambda store: runs.claim(store, self._run, refs, settled=settled)
        )
        self.longest_timeout = longest  # that of a run that has begun since counts, too
        return claims

    async def free(self, ref: str) -> None:
        """Leave a settled row that was claimed to others, which need not wait for the run's end."""
        values = {"ref": ref, "owner": self._run}
        await self._do(lambda c: c.execute(transitions.FREE, values))

    # --- of each key: see the transitions ---

    async def plan(self, specs: Sequence[KeySpec]) -> list[State | None]:
        """Return what is known of each spec; None: nothing. One look-up for each 500 of them.

        Raises:
            PlanChangedError: a spec is not the one that the journal knows by its ref.
            DuplicateRefError: a ref came twice in this run.
        """
        _refuse_duplicates(specs)
        chunks = [specs[start : start + CHUNK] for start in range(0, len(specs), CHUNK)]
        return [state for chunk in chunks for state in await self._plan(chunk)]

    async def _plan(self, specs: Sequence[KeySpec]) -> list[State | None]:
        places = await self._do(lambda c: entries.places(c, self._run, specs), reads=True)
        for spec, found in zip(specs, places, strict=True):
            if found is not None and not self._seen.add(found[1]):
                raise DuplicateRefError(spec.ref)
        return [found and found[0] for found in places]

    async def states(self, specs: Sequence[KeySpec]) -> list[State | None]:
        """Return what is known of at most 500 specs; None: nothing. It is no part of a run.

        Raises:
            PlanChangedError: a spec is not the one that the journal knows by its ref.
        """
        return await self._do(lambda c: entries.states(c, 0, specs), reads=True)

    async def states_of(self, refs: Sequence[str]) -> dict[str, State]:
        """Return what is known of at most 500 refs, whatever was asked for; left out: nothing."""
        return await self._do(lambda c: entries.states_of(c, refs), reads=True)

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
        return await self._do(lambda c: entries.intend(c, self._run, spec, time))

    async def again(self, ref: str, at: datetime, plan: str | None = None) -> None:
        """Write the intent to create a key once more, after a reconcile or a refusal.

        What was in doubt counts as written off from now on: see `written_off`.

        Args:
            ref: the caller's own id for it.
            at: when the create is sent, by the service's clock.
            plan: what is asked for now, if its ref was released. None: what was.
        """
        ways = [transitions.AGAIN, transitions.AGAIN_IN_DOUBT]
        if plan is not None:
            ways.append(transitions.RENEW)
        await self._change(*ways, ref=ref, at=write_time(at), plan=plan)

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
        """Write a key that was made, before it is handed over.

        Args:
            ref: the caller's own id for it.
            secret: the secret.
            hash: the key's hash.
            record: the key's record as JSON; None: it could not be read.
            settled: it needs no acknowledgement.
            ended_at: when its create was answered, by the service's clock; None: not known.

        Raises:
            TakenOverError: another run has the ref now, and deletes the key.
            SecretNotKeptError: it could not be written; the secret is in `error.key`.
        """
        shown = secret.__str__  # unlike the text, a method shows nothing, wherever it is shown
        del secret  # crash reporters send local variables home
        made = MadeKey.of(hash, shown())
        values = {
            "ref": ref,
            "owner": self._run,
            "hash": made.hash,
            "record": record,
            "proven": made.proven,
            "secret_hash": None if made.proven else made.secret_hash,
            "ended_at": None if ended_at is None else write_time(ended_at),
        }
        stored, now = self._storing(shown), self._time_of_day
        try:
            await self._writer.submit(
                lambda store: entries.keep(
                    store.connection, values, stored, settled=settled, time_of_day=now
                ),
                urgent=True,
            )
        except TakenOverError:
            raise
        except JournalError as error:
            problem = error.message
        else:
            return
        raise SecretNotKeptError(ref, shown(), hash, problem)

    def _storing(self, secret: Callable[[], str]) -> Callable[[], str | bytes | None]:
        # Called in the writer's thread.
        if not self._secrets.stored:
            return lambda: None
        seal = self._secrets.seal
        return secret if seal is None else lambda: seal(secret().encode())

    async def acknowledge(self, ref: str) -> None:
        """Write that the caller has the secret."""
        await self._change(transitions.ACKNOWLEDGE, ref=ref)

    async def doubt(
        self,
        ref: str,
        reason: str,
        *,
        sent_at: datetime | None = None,
        ended_at: datetime | None = None,
        told_hash: str | None = None,
    ) -> None:
        """Write that a key may have been made; the reason is kept without secrets.

        Args:
            ref: the caller's own id for it.
            reason: why.
            sent_at: when it was sent, by the service's clock; None: as it was intended.
            ended_at: when its exchange ended, by the same clock; None: not now.
            told_hash: the hash in an answer that lost the secret; None: it had none.
        """
        times = {
            name: None if time is None else write_time(time)
            for name, time in (("sent_at", sent_at), ("ended_at", ended_at))
        }
        values = {"reason": scrub(reason), "told_hash": told_hash, **times}
        await self._change(transitions.DOUBT, ref=ref, **values)

    async def fail(self, ref: str, reason: str) -> None:
        """Write that the service refused to make the key; the reason is kept without secrets."""
        await self._change(transitions.FAIL, ref=ref, reason=scrub(reason))

    async def reject(self, ref: str, reason: str) -> None:
        """Write that the key is not the one that was asked for; it is never made again."""
        await self._change(transitions.REJECT, ref=ref, reason=scrub(reason))

    async def discard(self, ref: str, reason: str) -> None:
        """Write that the key is proven to be gone: its secret is deleted."""
        await self._change(transitions.DISCARD, ref=ref, reason=reason)

    async def forget_intent(self, ref: str) -> bool:
        """Write that the last create is proven not to have been sent, or not carried out.

        Returns:
            Whether its row is there still, in doubt about an earlier create.
        """
        return (
            await self._change(transitions.FORGET, transitions.BACK_TO_DOUBT, ref=ref)
            is transitions.BACK_TO_DOUBT
        )

    async def resolve(self, ref: str, reason: str) -> None:
        """Write that no key of its unanswered creates is left, and none can turn up any more."""
        await self._change(transitions.RESOLVE, transitions.CLEAR, ref=ref, reason=reason)

    async def clear(self, ref: str) -> None:
        """Write that no key of a create that was written off can turn up any more."""
        await self._change(transitions.CLEAR, ref=ref)

    async def want(self, ref: str, plan: str) -> None:
        """Write what a key is about to be changed to, before that is sent."""
        await self._change(transitions.WANT, ref=ref, plan=plan)

    async def want_all(
        self, found: Sequence[Entry], plan: str, fields: Mapping[str, JSON], replan: Replan
    ) -> bool:
        """Write the same, and plan a replacement anew that is to be made of the key.

        Args:
            found: what `succession` returned, with what is unmade; nothing of it is in doubt.
            plan: what the key is changed to.
            fields: what of it is sent.
            replan: plans a replacement anew.

        Returns:
            Whether it is written; False: a rotation has begun to make a replacement meanwhile.
        """
        refs = [entry.ref for entry in found]
        return await self._do(
            lambda c: rotations.want(c, self._run, refs, plan, fields=fields, replan=replan)
        )

    async def update(self, ref: str, plan: str | None, record: str | None) -> None:
        """Write what a key is now.

        Args:
            ref: the caller's own id for it.
            plan: what it was changed to. None: as before.
            record: its record as JSON. None: as before.
        """
        await self._change(transitions.UPDATE, ref=ref, plan=plan, record=record)

    async def adopt(self, wanted: Sequence[Adoption], *, dry_run: bool = False) -> list[Adopted]:
        """Write keys that exist, without a secret, where nothing speaks against it.

        Args:
            wanted: the keys; so many that no other process waits for long.
            dry_run: whether nothing is written.
        """
        run = self._run
        return await self._writer.submit(
            lambda store: adoptions.adopt(store, run, wanted, dry_run=dry_run)
        )

    async def absorb(self, ref: str, hash: str) -> bool:
        """Make the replacement of a ref's key the ref's own, so that it may be replaced, too.

        Args:
            ref: the caller's own id for it.
            hash: the old key's, which was deleted.

        Returns:
            Whether it is; False: it has no replacement that is settled.
        """
        values = {"ref": ref, "hash": hash, "owner": self._run}
        return await self._do(lambda c: entries.absorb(c, values))

    async def release(self, ref: str) -> None:
        """Write that a key is about to be deleted: its secret is deleted at once."""
        values = {"ref": ref, "owner": self._run}
        await self._do(lambda c: entries.release(c, values))

    async def release_all(self, found: Sequence[Entry]) -> bool:
        """Write that the keys of a ref are about to be deleted, as `release` does for one.

        A replacement whose create may not be over is left out: what it made is not known yet.

        Args:
            found: what `succession` returned, with what is unmade.

        Returns:
            Whether it is written; False: a rotation has begun another replacement meanwhile.
        """
        refs = [entry.ref for entry in found]
        made = [entry.ref for entry in found if entry is found[0] or entry.state not in DOUBTFUL]
        return await self._do(lambda c: entries.release_all(c, self._run, refs, made))

    async def gone(self, ref: str) -> None:
        """Write that a key that was to be deleted is gone."""
        await self._change(transitions.GONE, ref=ref)

    async def forget_released(self, ref: str) -> None:
        """Forget a ref whose key is gone, and of which no other create can land any more."""
        await self._change(transitions.FORGET_RELEASED, ref=ref)

    # --- what is known of keys ---

    async def find(self, ref: str) -> Entry | None:
        """Return what is known of one key; None: nothing."""
        found = await self._read(KEYS, entries.FIND, ref=ref)
        return found[0] if found else None

    async def belong_to(self, server_url: str) -> None:
        """Remember the service that its keys are made at, and refuse another one.

        Raises:
            JournalMismatchError: they are made at another one.
        """
        if server_url not in self._services:
            await self._writer.submit(
                lambda store: runs.refuse_other_service(store.connection, store.place, server_url)
            )
            self._services.add(server_url)

    async def refuse_other_service(self, server_url: str) -> None:
        """Refuse a service at which its keys are not made; it remembers none.

        Raises:
            JournalMismatchError: they are made at another one.
        """
        await self._writer.submit(
            lambda store: runs.known_service(store.connection, store.place, server_url), reads=True
        )

    async def succession(self, ref: str, *, unmade: bool = False) -> list[Entry]:
        """Return what is known of a ref, then of each replacement of its key that was made.

        `rotate` makes the replacements. The list is empty if nothing is known.

        Args:
            ref: the caller's own id for the key.
            unmade: whether with a replacement that is not made, or not known to be.
        """
        return await self._do(lambda c: entries.succession(c, ref, unmade=unmade), reads=True)

    def secret_of(self, entry: Entry) -> str | None:
        """Return a key's secret, opened with the identity if it is sealed; None: it is not here.

        Raises:
            JournalError: it is sealed to another recipient.
        """
        unseal = self._secrets.unseal
        if entry.sealed is None or unseal is None:
            return entry.secret
        return unseal(entry.sealed).decode()

    def unfinished(self, *states: State) -> AsyncGenerator[Entry, None]:
        """Iterate over the keys that are not settled, in the order of intending.

        Args:
            states: which; left out: `intent`, `doubt` and `made`. `settled` ones are never read.
        """
        return self._each(KEYS, entries.unfinished(states or _UNSETTLED))

    def every(self) -> AsyncGenerator[Entry, None]:
        """Iterate over all keys, settled ones too, in the order of intending."""
        return self._each(KEYS, entries.EVERY)

    def written_off(self) -> AsyncGenerator[Entry, None]:
        """Iterate over keys, in any state, with an earlier create that can still land."""
        return self._each(KEYS, entries.WRITTEN_OFF)

    async def salvage(self, *states: State) -> AsyncGenerator[Entry, None]:
        """Iterate over the keys whose secrets were in the journal when it was lost.

        They can be read as long as it is open. Nothing comes of a journal that is not lost.

        Args:
            states: which keys.
        """
        if self._writer.lost is not None:
            async for entry in self._each(KEYS, entries.EVERY, salvages=True):
                if entry.secret is not None and entry.state in states:
                    yield entry

    async def purgeable(self) -> int:
        """Return how many secrets `purge` would forget."""
        return await self._do(entries.purgeable, reads=True)

    async def stamps(self) -> list[Stamp]:
        """Return how the service stamped the last keys that it made."""
        return [
            Stamp(*map(datetime.fromisoformat, times))
            for times in await self._do(facts.stamps, reads=True)
        ]

    async def known(self, workspace_id: str | None, since: datetime) -> dict[str, str | None]:
        """Return the hashes of keys of a workspace that were made since a time, the last ones.

        Each has the workspace that its record shows; None: it shows none.

        Args:
            workspace_id: the workspace that was asked for; None: the default one.
            since: by the service's clock.
        """
        begun = write_time(since)
        return await self._do(lambda c: facts.known(c, workspace_id, begun), reads=True)

    async def counts(self) -> dict[State, int]:
        """Return how many keys there are in each state."""
        return await self._do(entries.counts, reads=True)

    async def origin(self) -> tuple[datetime, str | None]:
        """Return when it was made, and the service that its keys are made at; None: not known."""
        ((created_at, server_url),) = await self._rows(entries.ORIGIN)
        return datetime.fromisoformat(created_at), server_url

    async def home(self) -> tuple[str, str] | None:
        """Return where its keys were made that named no workspace, and the hash of the first one.

        None: not known.
        """
        return await self._do(facts.home, reads=True)

    async def default_workspace(self) -> str | None:
        """Return where its keys were made that named no workspace; None: not known."""
        found = await self.home()
        return None if found is None else found[0]

    async def ends(self) -> dict[str, str | None]:
        """Return the hashes of its first and its last keys that are not known to be deleted.

        Each has the workspace that it was made in; None: not known.
        """
        return await self._do(facts.ends, reads=True)

    async def holds(self, hash: str) -> bool:
        """Return whether the journal knows that this key was made, or is being rotated."""
        return await self._answer(entries.HOLDS, hash=hash)

    async def holds_for_another(self, hash: str, ref: str) -> bool:
        """Return whether a key was made for another ref than this one, or is being rotated."""
        return await self._answer(entries.HOLDS_FOR_ANOTHER, hash=hash, ref=ref)

    async def is_anothers(self, entry: Entry) -> bool:
        """Return whether another ref has the key, too: then an answer was a copy."""
        if entry.hash is None or entry.state in DOUBTFUL:
            return False
        return await self._answer(entries.ANOTHERS, hash=entry.hash, ref=entry.ref)

    async def among(self, hashes: frozenset[str]) -> set[str]:
        """Return which of some canonical hashes the journal has, in whatever state."""
        return await self._do(lambda c: facts.among(c, hashes), reads=True)

    async def unsettled_names(self) -> dict[str, str]:
        """Return the refs of whose creates there may be keys that it does not know, by name."""
        return await self._do(adoptions.suspects, reads=True)

    async def last(self) -> list[str]:
        """Return the hashes of the last 10,000 keys that were made, and of as many old ones."""
        return [hash for (hash,) in await self._rows(facts.LAST)]

    # --- rotations ---

    async def plan_rotations(
        self,
        planned: Sequence[tuple[object, ...]],
        own: Mapping[str, Asked] | None = None,
        replan: Replan = rotations.as_before,
    ) -> Mapping[str, str]:
        """Write what is planned: hash, plan, budget, old limit and what is spent; known ones stay.

        Args:
            planned: these five for each old key; see `RotationEntry`.
            own: those that were keys of this journal before they were looked at; None: none was.
            replan: plans those anew that an update is changing.

        Returns:
            Those of them that have been released or changed since, each with what becomes of it:
            they are not written.
        """
        return await self._do(lambda c: rotations.plan(c, planned, own or {}, replan))

    async def advance_rotation(self, hash: str, old_key: OldKey) -> None:
        """Write that an old key was disabled or deleted."""
        ways = [transitions.DELETE]
        if old_key is OldKey.DISABLED:
            ways = [transitions.DISABLE, transitions.DISABLE_DELETED]
        await self._change(*ways, ref=hash)

    async def fail_rotation(self, hash: str, reason: str) -> None:
        """Write why an old key could not be replaced or retired."""
        await self._change(transitions.FAIL_ROTATION, ref=hash, reason=reason)

    async def time_hand_overs(self, time_of_day: Callable[[], str]) -> None:
        """From now on, write when each twin is acknowledged.

        Args:
            time_of_day: returns the time in UTC, as text; called in the writer's thread.
        """
        self._time_of_day = time_of_day

    async def known_hashes(self, hashes: Sequence[str]) -> Known:
        """Return which of some hashes the journal knows."""
        return await self._writer.submit(lambda store: rotations.known(store, hashes))

    def rotations(self) -> AsyncGenerator[RotationEntry, None]:
        """Iterate over all rotations, in the order of planning."""
        return self._each(ROTATIONS, rotations.EVERY)

    def unmade_rotations(self) -> AsyncGenerator[RotationEntry, None]:
        """Iterate over rotations whose twin is not acknowledged, in the order of planning."""
        return self._each(ROTATIONS, rotations.UNMADE)

    async def twinless_rotations(self, after: int) -> list[RotationEntry]:
        """Return the next 500 rotations without a twin that is known to exist.

        Args:
            after: the place of the one before.
        """
        return await self._read(ROTATIONS, rotations.TWINLESS, after=after)

    async def unretired_rotations(self, at: str, after: int) -> list[RotationEntry]:
        """Return the next 500 rotations with a twin and an old key, first acknowledged first.

        Args:
            at: when the twin of the one before was acknowledged, as text.
            after: the place of the one before.
        """
        return await self._read(ROTATIONS, rotations.UNRETIRED, at=at, after=after)

    async def is_mixed_up(self, hash: str, twin: str) -> bool:
        """Return whether a twin is an old key or two keys' twin, or its old key another's twin."""
        return await self._answer(rotations.MIXED_UP, hash=hash, twin=twin)

    async def is_replacing(self, found: Sequence[Entry]) -> bool:
        """Return whether `apply` has begun to replace a key of a ref, and has not ended it.

        Args:
            found: what `succession` returned.
        """
        hashes = [entry.hash for entry in found if entry.hash is not None]
        return await self._do(lambda c: rotations.is_replacing(c, hashes), reads=True)

    async def rotation_workspaces(self) -> list[str]:
        """Return the workspaces of rotations that are not through."""
        return await self._do(rotations.workspaces, reads=True)

    async def rotation_counts(self) -> tuple[int, int]:
        """Return how many are not through, and how many of these have no acknowledged twin."""
        ((waiting, pending),) = await self._rows(rotations.COUNTS)
        return int(waiting), int(pending)

    # --- by the engine, which alone sees a connection ---

    def _do(self, work: Callable[[Connection], T], *, reads: bool = False) -> asyncio.Future[T]:
        return self._writer.submit(lambda store: work(store.connection), reads=reads)

    async def _change(self, *ways: Transition, **values: str | None) -> Transition:
        owned, now = {"owner": self._run, **values}, self._time_of_day
        return await self._do(lambda c: entries.change(c, ways, owned, now))

    async def _answer(self, question: str, **values: str) -> bool:
        return await self._writer.submit(lambda store: entries.answer(store, question, values))

    async def _rows(self, query: str, **values: str | None) -> list[tuple[Any, ...]]:
        return await self._do(lambda c: c.execute(query, values).fetchall(), reads=True)

    async def _read(
        self, table: Table[E], query: str, *, salvages: bool = False, **values: str | int
    ) -> list[E]:
        return await self._writer.submit(
            lambda store: entries.read(store.connection, table, query, values),
            salvages=salvages,
            reads=True,
        )

    async def _each(
        self, table: Table[E], query: str, *, salvages: bool = False, **values: str
    ) -> AsyncGenerator[E, None]:
        after = 0
        while page := await self._read(table, query, salvages=salvages, after=after, **values):
            for each in page:
                yield each
            after = page[-1].id


class Opening(
    NeverPickled, AbstractAsyncContextManager[Journal, None], AbstractContextManager[Journal, None]
):
    """Opens a journal when its block begins, and closes it when the block ends, once.

    Args:
        writer: has not begun.
        secrets: what is done with them.
        longest_timeout: seconds that a create of this journal's own run can be under way.
    """

    #: By this, who takes an open journal refuses it without an import of this module.
    opens_a_journal = True

    def __init__(self, writer: Writer, secrets: _Secrets, longest_timeout: float) -> None:
        self._writer, self._secrets = writer, secrets
        self._is_entered = False
        self._begin = partial(runs.begin_first, timeout=longest_timeout)

    async def __aenter__(self) -> Journal:
        self._enter()
        await self._writer.start()
        try:
            return self._journal(*await self._writer.submit(self._begin))
        except BaseException:
            await self._writer.stop()
            raise

    async def __aexit__(self, _: object, error: BaseException | None, __: object) -> None:
        try:
            await self._writer.stop()
        except Exception as problem:  # noqa: BLE001 - see `_not_closed`
            _not_closed(problem, error)

    def __enter__(self) -> Journal:
        self._enter()
        self._writer.start_blocking()
        try:
            return self._journal(*self._writer.ask(self._begin))
        except BaseException:
            self._writer.stop_blocking()
            raise

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        try:
            self._writer.stop_blocking()
        except Exception as problem:  # noqa: BLE001 - see `_not_closed`
            _not_closed(problem, error)

    def _enter(self) -> None:
        if self._is_entered:
            raise JournalError("a journal is opened for one block: call Journal.open again")
        self._is_entered = True

    def _journal(self, run: int, longest_timeout: float) -> Journal:
        return Journal(self._writer, run, self._secrets, longest_timeout)


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
        except Exception as error:  # noqa: BLE001 - see `_not_closed`
            _not_closed(error, problem)


def _not_closed(error: Exception, problem: BaseException | None) -> None:
    """Show that a journal could not be closed; all that was asked for is durable."""
    message = f"the journal could not be closed: {error}"
    if problem is None:
        _log.warning(message)
    else:
        problem.add_note(message)


async def _in_thread(act: Callable[[], T]) -> T:
    """Do something with a journal in a thread; a cancelled call ends when the file is released."""
    task = asyncio.ensure_future(asyncio.to_thread(act))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        with anyio.CancelScope(shield=True):
            await asyncio.wait([task])
        raise


def _refuse_duplicates(specs: Sequence[KeySpec]) -> None:
    seen: set[str] = set()
    for spec in specs:
        if spec.ref in seen:
            raise DuplicateRefError(spec.ref)
        seen.add(spec.ref)
