"""The key of a ref, made if there is none: the journal answers, or a run for that ref alone."""

import json
from typing import TypeVar, cast

from openrouter_keys._protocol.answers import is_api_404
from openrouter_keys._protocol.drift import mismatches, unchanged
from openrouter_keys._reconcile.absence import not_gone
from openrouter_keys._reconcile.matching import request_of
from openrouter_keys._transport.transport import Transport
from openrouter_keys.converter import decode, encode
from openrouter_keys.ensuring.context import EnsureContext, opened
from openrouter_keys.ensuring.release import settle
from openrouter_keys.ensuring.report import Ensured, Outcome
from openrouter_keys.ensuring.settings import EnsureSettings
from openrouter_keys.errors import (
    CreateOutcomeUnknownError,
    JournalError,
    KeyGoneError,
    NotFoundResponseError,
    PlanChangedError,
    ResponseValidationError,
)
from openrouter_keys.journal.entries import Entry, damaged
from openrouter_keys.journal.schema import DOUBTFUL, State
from openrouter_keys.journal.specs import KeySpec, changed
from openrouter_keys.models import Key, UpdateKeysRequest
from openrouter_keys.operations import Operation, get, update
from openrouter_keys.provisioning.context import context_of
from openrouter_keys.provisioning.queue import Queue
from openrouter_keys.provisioning.report import (
    ProvisioningStoppedError,
    ProvisionReport,
    ProvisionResult,
)
from openrouter_keys.provisioning.run import Run
from openrouter_keys.provisioning.settings import RunSettings

R = TypeVar("R")

_UPDATABLE = frozenset(("name", "limit", "limit_reset", "include_byok_in_limit"))
_LEFT_OUT = "it leaves them out: say what they are to be (limit=None is no limit)"
_FIXED = "no update can change them: replace the key with `rotate`, or release the ref first"
_AGAIN = "release the ref, then ensure it again"


async def ensure(transport: Transport, spec: KeySpec, settings: EnsureSettings) -> Ensured:
    """Return the one key of a ref; see `AsyncOpenRouter.ensure`."""
    async with opened(transport, settings) as context:
        call = _Ensure(context, spec, settings)
        while (ensured := await call.step()) is None:
            pass
        return ensured


class _Ensure:
    """One call: each step does what the journal's state asks for, until there is a key."""

    def __init__(self, context: EnsureContext, spec: KeySpec, settings: EnsureSettings) -> None:
        self._context = context
        self._transport = context.transport
        self._journal = context.journal
        self._spec = spec
        self._settings = settings
        self._place = (spec.workspace_id, spec.name)

    async def step(self) -> Ensured | None:
        """Go a step on; None: the journal has to be asked again."""
        known = await self._journal.succession(self._spec.ref)
        if not known:
            return await self._create()
        entry, last = known[0], known[-1]
        differs = self._changed(entry)
        if _is_made(entry):
            if differs or entry.wanted is not None:
                return await self._update(entry, last, differs)
            return await self._existing(entry, last)
        if entry.state is State.FAILED and entry.hash is not None:
            raise ResponseValidationError(f"{entry.reason}: {_AGAIN}")
        if differs and entry.state in (*DOUBTFUL, State.FAILED):
            await self._set_aside(entry)
            return None
        return await self._create()

    def _changed(self, entry: Entry) -> tuple[str, ...]:
        return changed(json.dumps(dict(entry.plan)), self._spec.plan)

    # --- a key that is there ---

    async def _existing(self, entry: Entry, last: Entry) -> Ensured | None:
        data = _record(last)
        if data is None or self._settings.verify:
            answer = await self._asked(entry, last, get(_hash(last)))
            if answer is None:
                return None
            data = answer.data
        return self._ensured(last, data, "existing")

    async def _asked(self, entry: Entry, last: Entry, operation: Operation[R]) -> R | None:
        """Perform an operation on a key; None: it is gone, and there may be another one."""
        try:
            return await self._context.perform(operation)
        except NotFoundResponseError as error:
            if not is_api_404(error):
                raise
        await self._make_way(entry, last, _hash(last))
        return None

    def _ensured(self, last: Entry, data: Key, outcome: Outcome) -> Ensured:
        key = self._journal.secret_of(last)
        return Ensured(ref=self._spec.ref, key=key, data=data, outcome=outcome)

    async def _make_way(self, entry: Entry, last: Entry, hash: str) -> None:
        """Make way for another key, if the caller wants one and this one is certainly gone."""
        async with self._context.run() as (journal, clock):
            data = _record(last)
            home = last.workspace_id if data is None else data.workspace_id or last.workspace_id
            made_at = None if data is None else data.created_at
            left = await not_gone(self._transport, clock, home, [hash], made_at=made_at)
            if hash in left or not self._settings.recreate:
                raise KeyGoneError(self._spec.ref, hash, left.get(hash))
            if await self._context.claim(journal, entry, self._place):
                await journal.release(entry.ref)
                await journal.gone(entry.ref)

    # --- a key that is to be another ---

    async def _update(self, entry: Entry, last: Entry, differs: tuple[str, ...]) -> Ensured | None:
        request = self._request(entry, differs)
        async with self._context.run() as (journal, _):
            if not await self._context.claim(journal, entry, self._place):
                return None
            data = _record(last)
            if request is not None:
                await journal.want(entry.ref, self._spec.plan)
                answer = await self._context.perform(update(_hash(last), request))
                data = answer.data
                if (problem := unchanged(_hash(last), request, data)) is not None:
                    raise ResponseValidationError(problem)
            record = None if data is None or last is not entry else encode(data).decode()
            await journal.update(entry.ref, self._spec.plan, record)
        return None if data is None else self._ensured(last, data, "updated")

    def _request(self, entry: Entry, differs: tuple[str, ...]) -> UpdateKeysRequest | None:
        """Return what to change, of what was asked for and of what an update left unfinished."""
        ref, plan = self._spec.ref, cast("dict[str, object]", json.loads(self._spec.plan))
        fixed = tuple(name for name in differs if name not in _UPDATABLE)
        if self._settings.on_change == "refuse" or fixed:
            raise PlanChangedError(ref, fixed or differs, _FIXED if fixed else None)
        if left_out := tuple(name for name in differs if name not in plan):
            raise PlanChangedError(ref, left_out, _LEFT_OUT)
        unfinished = () if entry.wanted is None else changed(entry.wanted, self._spec.plan)
        fields = {name: plan[name] for name in (*differs, *unfinished) if name in plan}
        return UpdateKeysRequest(**fields) if fields else None  # type: ignore[arg-type]

    # --- no key ---

    async def _set_aside(self, entry: Entry) -> None:
        """Let a ref without a key have another plan."""
        async with self._context.run() as (journal, clock):
            if await self._context.claim(journal, entry, self._place):
                if entry.state in DOUBTFUL:
                    await settle(self._context, journal, clock, entry)
                await journal.release(entry.ref)

    async def _create(self) -> Ensured | None:
        taken: list[ProvisionResult] = []
        async with self._context.run() as (journal, clock):
            settings = RunSettings(
                journal=journal,
                on_result=taken.append,
                concurrency=1,
                quiet_period=self._settings.quiet_period,
                options=self._settings.options,
            )
            scope = self._context.scope(self._spec.ref, self._place)
            run = context_of(self._transport, journal, settings, clock, scope)
            report = await _report(Run(run, Queue([self._spec], run, looks_up=True)))
        for made in taken:
            return Ensured(ref=made.ref, key=made.key, data=made.data, outcome="created")
        await self._refuse(report)
        return None  # another process has made it

    async def _refuse(self, report: ProvisionReport) -> None:
        for problem in report.mismatches:
            raise ResponseValidationError(f"{problem.reason}: {_AGAIN}")
        for problem in report.failures:
            raise JournalError(problem.reason)
        entry = await self._journal.find(self._spec.ref)
        if entry is not None and entry.state in DOUBTFUL:
            for problem in report.doubts:
                hashes = ", ".join(problem.hashes)
                raise CreateOutcomeUnknownError(f"{problem.reason}: {hashes or 'ask again'}")


async def _report(run: Run) -> ProvisionReport:
    try:
        return await run.report()
    except ProvisioningStoppedError as error:
        stopped = error
    assert stopped.__cause__ is not None  # noqa: S101 - it always has one
    raise stopped.__cause__


def _is_made(entry: Entry) -> bool:
    """Whether there is a key that may be handed over."""
    if entry.state is not State.MADE:
        return entry.state is State.SETTLED
    # Its process may have been killed before it compared the key with what was asked for.
    data, kept = _record(entry), entry.secret is not None or entry.sealed is not None
    return kept and data is not None and not mismatches(request_of(entry.plan), data)


def _hash(entry: Entry) -> str:
    if entry.hash is None:
        raise damaged("keys", entry.id, entry.ref)  # a key that was made has one
    return entry.hash


def _record(entry: Entry) -> Key | None:
    if entry.record is None:
        return None
    try:
        return decode(entry.record.encode(), Key)
    except ResponseValidationError:
        return None  # it was damaged: the service is asked
