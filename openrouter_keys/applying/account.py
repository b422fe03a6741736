"""What the service shows of a journal's keys: one listing, and a look at each that is not in it."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from functools import partial
from typing import TypeAlias

from attrs import define, field

from openrouter_keys._base.identifiers import canonical
from openrouter_keys._protocol.answers import is_api_404
from openrouter_keys._protocol.paging import Pager
from openrouter_keys._reconcile.absence import Absence
from openrouter_keys._reconcile.listing import Lister
from openrouter_keys._reconcile.service_clock import ServiceClock
from openrouter_keys._transport.pages import PREFETCH, Pages
from openrouter_keys._transport.transport import Transport
from openrouter_keys.applying.known import KnownKey
from openrouter_keys.errors import (
    IncompleteListingError,
    NotFoundResponseError,
    ResponseValidationError,
)
from openrouter_keys.journal.entries import CHUNK
from openrouter_keys.journal.facts import text_in
from openrouter_keys.journal.journal import Journal
from openrouter_keys.journal.specs import KeySpec
from openrouter_keys.models import Key
from openrouter_keys.provisioning.account import Account as Proof
from openrouter_keys.provisioning.rate_limiter import RateLimiter
from openrouter_keys.provisioning.verdicts import Verdict, verdict
from openrouter_keys.results import Err, attempt

# A workspace, which is None for the default one, and a name in it.
_Named: TypeAlias = tuple[str | None, str]

_UNREAD = "the service could not be asked for the key: {}"


@define
class Account:
    """Looks at the keys of an account.

    Args:
        transport: the client's.
        journal: an open one.
        clock: learns the service's time from the answers.
        limiter: the gate of looks at single keys.

    Attributes:
        shown: the journal's keys that the service shows, by their canonical hashes.
        unseen: why other keys may be there all the same, by their hashes; None: they are gone.
        namesakes: the hashes of keys that the journal does not know, and that have the name of a
            key to be created, by its ref.
        absence: proves that keys are gone.
        proof: whether the account is the journal's.
    """

    _transport: Transport
    _journal: Journal
    _clock: ServiceClock
    _limiter: RateLimiter
    shown: dict[str, Key] = field(init=False, factory=dict[str, Key])
    unseen: dict[str, str | None] = field(init=False, factory=dict[str, str | None])
    namesakes: dict[str, list[str]] = field(init=False, factory=dict[str, list[str]])
    absence: Absence = field(init=False)
    proof: Proof = field(init=False, factory=Proof)

    def __attrs_post_init__(self) -> None:
        self.absence = Absence(self._transport, self._clock, 0.0)

    async def look(self, known: Mapping[str, KnownKey], specs: Sequence[KeySpec]) -> None:
        """List the workspaces of the keys and the specs, then ask for each key that is in none.

        Raises:
            AccountChangedError: the journal's keys are another account's.
            OpenRouterError: the service refused to list, or could not.
        """
        wanted = {canonical(hash) for each in known.values() for hash in each.hashes}
        places = [*(each.workspace_id for each in known.values() if each.hashes)]
        places += [spec.workspace_id for spec in specs]
        there = {ref for ref, each in known.items() if not each.is_refused}
        names = _names(spec for spec in specs if spec.ref not in there)
        listed = set[str]()
        for home in sorted({*places}, key=lambda place: place or ""):
            if home is not None and canonical(home) in listed:
                continue  # the default workspace, by its name
            async for page in self._pages(home):
                if home is None:
                    listed |= {canonical(key.workspace_id) for key in page if key.workspace_id}
                self.shown |= {hash: key for key in page if (hash := canonical(key.hash)) in wanted}
                for key in page:
                    if canonical(key.hash) not in wanted:
                        self._note(key, home, names)
        # Of a key that was replaced, the one in use.
        missing = [
            each
            for each in known.values()
            if each.hash is not None and canonical(each.hash) not in self.shown
        ]
        for start in range(0, len(missing), CHUNK):
            await asyncio.gather(*map(self._ask, missing[start : start + CHUNK]))
        self.proof.is_proven |= bool(self.shown)

    async def prove(self) -> None:
        """Refuse an account that shows none of the journal's keys, before one is created.

        Raises:
            AccountChangedError: it does not.
            OpenRouterError: the service could not be asked.
        """
        await self.proof.prove(self._transport, self._journal, self._clock)

    def _note(self, key: Key, home: str | None, names: Mapping[_Named, Sequence[str]]) -> None:
        """Note whether a key that the journal does not know has the name of one to be created."""
        for place in {_place(home), _place(key.workspace_id)}:
            for ref in names.get((place, key.name), ()):
                self.namesakes.setdefault(ref, []).append(key.hash)

    async def _pages(self, home: str | None) -> AsyncGenerator[Sequence[Key], None]:
        pager, most = Pager(), min(PREFETCH, self._transport.ready())
        lister = Lister(self._transport, self._clock, {})
        try:
            async with Pages(partial(lister.page, home), most) as pages:
                while not pager.done:
                    if pager.wait:
                        await self._transport.clockwork.sleep(pager.wait)
                    page = await pages.next(pager)
                    if home is None and pager.offset == 0:
                        await self.proof.compare(
                            self._transport, self._journal, self._clock, page.data
                        )
                    yield pager.take(page.data)
        except IncompleteListingError:
            pass  # each key that was not seen is asked for
        except NotFoundResponseError:
            if home is None:
                raise

    async def _ask(self, known: KnownKey) -> None:
        hash = str(known.hash)
        async with self._limiter.turn():
            found = await attempt(Lister(self._transport, self._clock, {}).look(hash))
        if not isinstance(found, Err):
            self.shown[canonical(hash)] = found.value
        elif is_api_404(found.error):
            self.unseen[hash] = await self._why_unseen(known, hash)
        elif verdict(found.error) is Verdict.STOP and not isinstance(
            found.error, ResponseValidationError
        ):
            raise found.error
        else:
            self.unseen[hash] = _UNREAD.format(found.error)

    async def _why_unseen(self, known: KnownKey, hash: str) -> str | None:
        entries = await self._journal.succession(known.ref)
        shown = text_in(entries[-1].record, "workspace_id") if entries else None
        home = shown or known.workspace_id
        return await self.absence.not_gone(home, hash, {})


def _place(workspace_id: str | None) -> str | None:
    return canonical(workspace_id) if workspace_id else None


def _names(specs: Iterable[KeySpec]) -> Mapping[_Named, Sequence[str]]:
    """Return the refs of specs by where their keys are to be, and what these are called."""
    found = defaultdict[_Named, list[str]](list)
    for spec in specs:
        found[_place(spec.workspace_id), spec.name].append(spec.ref)
    return found
