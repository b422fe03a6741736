"""Reconciles with the service what the journal is in doubt about, all of it in one pass."""

from collections import defaultdict
from collections.abc import Awaitable, Iterator, Mapping, Sequence, Set
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TypeAlias

from attrs import evolve, frozen

from openrouter_keys._base.masking import escaped
from openrouter_keys._reconcile.matching import Doubt, moved, request_of
from openrouter_keys._reconcile.reconcile import Reconciliation, reconcile
from openrouter_keys._reconcile.service_clock import PLAUSIBLE
from openrouter_keys.errors import AccountChangedError, QuotaExhaustedError, TakenOverError
from openrouter_keys.journal.entries import Entry
from openrouter_keys.journal.runs import Claim
from openrouter_keys.journal.schema import DOUBTFUL, State
from openrouter_keys.models import Key
from openrouter_keys.provisioning.context import Context
from openrouter_keys.provisioning.report import ProvisionProblem
from openrouter_keys.results import Err, attempt

_NEVER = datetime.min.replace(tzinfo=UTC)
_NOTHING = "its creates without an answer ended long ago, and no key of theirs was there"
_INCOMPLETE = (
    "nothing proves that all keys were listed ({}), so a create without an answer may have made "
    "one: run again later"
)
_BUSY = (
    "another process is making a key of this name just now, and one of these may be its own: run "
    "again when it is done"
)
_UNREAD = (
    "an answer without a secret gave this key's hash, and the key cannot be looked at ({}): run "
    "again later"
)
_ALL_SEEN: Mapping[tuple[str | None, str], str] = {}
_NONE: Mapping[str, str] = {}
_OURS_AND_LEFT = "a create without an answer made these keys, and they could not be deleted"
_RESOLVED = "a create without an answer had made its key, which was deleted"
_UNPROVEN = (
    "these keys may come of a create without an answer, and nothing proves it (used, changed, "
    "too late, or too many): delete those that are yours, then run again"
)


@frozen(kw_only=True)
class Findings:
    """What a reconcile found.

    Attributes:
        cleared: refs that were in doubt and of which no key is left: they can be made anew.
        unproven: refs in doubt for which nothing proves whether a key is left.
        left: refs of which a key is left that could not be deleted: to be looked at again.
        beside: keys that may belong to refs that are not in doubt any more.
        deleted: how many keys were deleted.
        exhausted: the daily quota that kept keys from being deleted; None: none did.
    """

    cleared: frozenset[str] = frozenset()
    unproven: tuple[ProvisionProblem, ...] = ()
    left: tuple[ProvisionProblem, ...] = ()
    beside: tuple[ProvisionProblem, ...] = ()
    deleted: int = 0
    exhausted: QuotaExhaustedError | None = None


def reason_of(problem: ProvisionProblem) -> str:
    """Return why a ref is not settled, with the hashes of the keys that it is about."""
    hashes = ", ".join(problem.hashes)
    return f"{problem.reason}: {hashes}" if hashes else problem.reason


class Reconciler:
    """Reconciles a journal with the service.

    Args:
        context: the run's.
    """

    def __init__(self, context: Context) -> None:
        self._transport = context.transport
        self._journal = context.journal
        self._clock = context.clock
        self._quiet = context.settings.quiet_period
        self._options = context.settings.options
        self._account = context.account
        self._begin = self._now()
        # When each row of a run that is gone was claimed: its creates had been given up by then,
        # except where its process was only cut off from the journal.
        self._claimed: dict[str, tuple[datetime, float]] = {}
        self._cut_off: set[str] = set()
        self._own: dict[str, tuple[datetime, float]] = {}
        self._looked = False
        self._scope = context.scope

    def _now(self) -> "tuple[datetime, float]":
        return self._clock.now(), self._transport.clockwork.monotonic()

    def begin(self) -> None:
        """Begin the run: what was under way in an earlier one has been given up."""
        self._begin = self._now()

    def given_up(self, ref: str) -> None:
        """Note that a create of a ref was given up just now."""
        self._own[ref] = self._now()

    def claimed(self, claims: Mapping[str, Claim]) -> None:
        """Note which rows of runs that are gone were claimed just now."""
        self._note(claims, self._now())

    def _note(self, claims: Mapping[str, Claim], now: tuple[datetime, float]) -> None:
        self._claimed |= {ref: now for ref, claim in claims.items() if claim.new}
        self._cut_off |= {ref for ref, claim in claims.items() if claim.is_cut_off}

    async def due(self, quiet_periods: int) -> float | None:
        """Return the seconds until `look` makes sense; None: there is nothing to look for.

        Args:
            quiet_periods: how many must have passed since the last create was given up.
        """
        ends = [self._given_up_at(entry) for entry in await self._open()]
        if not ends:
            return None
        return max(ends) + quiet_periods * self._quiet - self._now()[1]

    async def _open(self) -> list[Entry]:
        """Claim and return all whose creates may have left a key whose secret is lost."""
        found = [entry async for entry in self._journal.unfinished(*DOUBTFUL)]
        found += [
            entry async for entry in self._journal.written_off() if entry.state not in DOUBTFUL
        ]
        if self._scope is not None:
            # Of any workspace: the default one may have been asked for by its name, too.
            found = [entry for entry in found if entry.name == self._scope.place[1]]
        claims = await self._journal.claim(*(entry.ref for entry in found), settled=True)
        self._note(claims, self._now() if self._looked else self._begin)
        self._looked = True
        own = [entry for entry in found if entry.ref in claims and claims[entry.ref].ours]
        # Between the two, another run may have gone on with a row, and ended: the next look has it.
        return [entry for entry in own if entry.state is claims[entry.ref].state]

    async def look(self, *, last: bool = False) -> Findings:
        """Reconcile all that is in doubt, and what was written off; nothing may be under way.

        Args:
            last: whether nothing is made anew after it, so that doubts stay for the next run.

        Raises:
            OpenRouterError: the service's keys could not be listed.
        """
        entries = await self._open()
        if not entries:
            return Findings()
        # Another account has no key of theirs, and that would count as proof that there is none.
        proof = await attempt(self._account.prove(self._transport, self._journal, self._clock))
        if isinstance(proof, Err):
            if not isinstance(proof.error, AccountChangedError):
                raise proof.error
            return await self._left_unproven(entries, escaped(str(proof.error)))
        _, began = self._now()
        found = await reconcile(
            self._transport,
            [doubt for entry in entries for doubt in self._doubts(entry)],
            self._clock,
            knows=self._journal.holds,
            stamps=await self._journal.stamps(),
            known=self._journal.known,
            under_way=self._journal.names_of_others,
            options=self._options,
        )
        findings = _sorted_out(entries, found, await self._resolve(entries, found))
        await self._write_down(findings.unproven)
        settled = evolve(findings, cleared=frozenset()) if last else findings
        await self._clear(entries, settled, began)
        return findings

    async def _left_unproven(self, entries: Sequence[Entry], why: str) -> Findings:
        """Leave all as it is, for a reason."""
        in_doubt = [entry for entry in entries if entry.state in DOUBTFUL]
        others = [entry for entry in entries if entry.state not in DOUBTFUL]
        unproven, beside = (
            tuple(ProvisionProblem(ref=entry.ref, reason=why) for entry in part)
            for part in (in_doubt, others)
        )
        await self._write_down(unproven)
        return Findings(unproven=unproven, beside=beside)

    async def _write_down(self, unproven: Sequence[ProvisionProblem]) -> None:
        for problem in unproven:
            told = escaped(reason_of(problem))
            await _unless_taken_over(self._journal.doubt(problem.ref, told))

    def _doubts(self, entry: Entry) -> Iterator[Doubt]:
        """Go through the creates of a ref that were never answered, each with its own window."""
        request, quiet = request_of(entry.plan), timedelta(seconds=self._quiet)
        believed = self._is_believed(entry)
        for sent, ended, is_dated in self._exchanges(entry):
            last = entry.state is State.DOUBT and sent == entry.last_attempt_at
            yield Doubt(
                request=request,
                since=sent if believed else _NEVER,
                # A window that ends before it begins proves nothing.
                until=moved(ended, quiet) if believed and is_dated else _NEVER,
                given=entry.hash if last else None,
            )

    async def _resolve(self, entries: Sequence[Entry], found: Reconciliation) -> frozenset[str]:
        """Settle what can land no more, and return its refs: each of its creates had a key."""
        creates: dict[_Place, int] = defaultdict(int)
        for entry in entries:
            creates[_place(entry)] += entry.written_off + (entry.state in DOUBTFUL)
        deleted = _by_place(found.deleted, found)
        resolved = [
            entry.ref
            for entry in entries
            if creates[_place(entry)] == len(deleted.get(_place(entry), ()))
        ]
        for ref in resolved:
            await _unless_taken_over(self._journal.resolve(ref, _RESOLVED))
        return frozenset(resolved)

    def _exchanges(self, entry: Entry) -> list[tuple[datetime, datetime, bool]]:
        """Return when each create without an answer was sent, and was given up at the latest.

        And whether that is so exactly; otherwise, it was sent between the two.
        """
        following = [*(one.sent for one in entry.earlier), entry.last_attempt_at][1:]
        found = [
            # One that was written off had been given up before the next one was sent.
            (one.sent, one.ended or min(self._given_up_by(one.sent), next_sent), one.is_dated)
            for one, next_sent in zip(entry.earlier, following, strict=True)
        ]
        if entry.state in DOUBTFUL:
            sent = entry.last_attempt_at
            found.append((sent, entry.ended_at or self._given_up_by(sent), True))
        return found

    def _given_up_by(self, sent: datetime) -> datetime:
        """When a create was given up at the latest whose end the journal does not have."""
        longest = moved(sent, timedelta(seconds=self._journal.longest_timeout))
        if not self._own or sent < self._begin[0]:
            return longest
        # It may have waited for a connection longer than it could then be under way.
        return max(longest, *(time for time, _ in self._own.values()))

    def _given_up_at(self, entry: Entry) -> float:
        """When its last create without an answer was given up, by the monotonic clock."""
        if entry.ref in self._own:
            return self._own[entry.ref][1]
        time, at = self._claimed.get(entry.ref, self._begin)
        # A clock that runs ahead must not make it later than any create can end.
        later = self._journal.longest_timeout if entry.ref in self._cut_off else 0
        # If this machine's clock and the service's are days apart, they show no time that passed.
        if self._clock.disputed or not self._is_believed(entry):
            return at + later
        ended = max(ended for _, ended, _ in self._exchanges(entry))
        return at - max((time - ended).total_seconds(), -later)

    async def _clear(self, entries: Sequence[Entry], findings: Findings, began: float) -> None:
        """Forget creates that ended so long ago that nothing of them can land."""
        kept = {problem.ref for problem in (*findings.left, *findings.beside)}
        for entry in entries:
            if not self._is_old(entry, began):
                continue
            if entry.ref in findings.cleared:
                # Or the window of the next create would begin with this one's.
                await _unless_taken_over(self._journal.resolve(entry.ref, _NOTHING))
            elif entry.state not in DOUBTFUL and entry.ref not in kept:
                await _unless_taken_over(self._journal.clear(entry.ref))

    def _is_old(self, entry: Entry, began: float) -> bool:
        return began >= self._given_up_at(entry) + 2 * self._quiet

    def _is_believed(self, entry: Entry) -> bool:
        """Whether its times can be: earlier versions took any `Date` for the service's time."""
        earlier = (one.sent for one in entry.earlier)
        last = max(entry.first_attempt_at, entry.last_attempt_at, *earlier)
        return last <= self._begin[0] + PLAUSIBLE


async def _unless_taken_over(change: Awaitable[None]) -> None:
    """Write what was found of a ref, unless its new owner finds that out."""
    with suppress(TakenOverError):
        await change


_Place: TypeAlias = tuple[str | None, str]


def _place(entry: Entry) -> _Place:
    return entry.workspace_id, entry.name


def _sorted_out(entries: Sequence[Entry], found: Reconciliation, resolved: Set[str]) -> Findings:
    left = _by_place(found.left, found)
    unproven = _by_place(found.unproven, found, dict(found.unread))
    incomplete = _incomplete(entries, found)
    doubtful = [entry for entry in entries if entry.state in DOUBTFUL]
    # What else is there of that name cannot come of a create whose key was found.
    open_ = [entry for entry in doubtful if entry.ref not in resolved]
    settled = [entry for entry in entries if entry.state not in DOUBTFUL]
    problems = {
        "left": _problems(entries, left, _OURS_AND_LEFT),
        "unproven": _problems(open_, unproven, _UNPROVEN, incomplete),
        "beside": _problems(settled, unproven, _UNPROVEN, incomplete),
    }
    concerned = {problem.ref for kind in problems.values() for problem in kind}
    return Findings(
        cleared=frozenset(entry.ref for entry in doubtful) - concerned,
        deleted=len(found.deleted),
        exhausted=found.exhausted,
        **problems,
    )


def _incomplete(entries: Sequence[Entry], found: Reconciliation) -> Mapping[_Place, str]:
    """Return the places of which not all keys were seen, each with the reason."""
    whole, unread = dict(found.incomplete), dict(found.unread)
    places = {
        (workspace_id, name): _UNREAD.format(unread[hash])
        for workspace_id, name, hash in found.places
        if hash in unread
    }
    return (
        places
        | dict.fromkeys(found.busy, _BUSY)
        | {
            _place(entry): _INCOMPLETE.format(whole[entry.workspace_id])
            for entry in entries
            if entry.workspace_id in whole
        }
    )


def _by_place(
    keys: Sequence[Key], found: Reconciliation, unread: Mapping[str, str] = _NONE
) -> dict[_Place, list[str]]:
    hashes = {key.hash for key in keys} | unread.keys()
    placed: dict[_Place, list[str]] = defaultdict(list)
    for workspace_id, name, hash in sorted(found.places, key=str):
        if hash in hashes:
            placed[workspace_id, name].append(hash)
    return placed


def _problems(
    entries: Sequence[Entry],
    placed: Mapping[_Place, Sequence[str]],
    reason: str,
    incomplete: Mapping[_Place, str] = _ALL_SEEN,
) -> tuple[ProvisionProblem, ...]:
    """Return a problem for each entry of which there are keys, or may be some that are not listed.

    Args:
        entries: the entries.
        placed: the keys, by the place that they were looked for in.
        reason: what is told of them.
        incomplete: the places of which not all keys were seen, each with the reason.
    """
    problems: list[ProvisionProblem] = []
    for entry in entries:
        hashes = tuple(placed.get(_place(entry), ()))
        if hashes or _place(entry) in incomplete:
            why = incomplete.get(_place(entry), reason)
            problems.append(ProvisionProblem(ref=entry.ref, reason=why, hashes=hashes))
    return tuple(problems)
