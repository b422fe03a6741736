"""The key of a ref, made if there is none: the journal answers, or a run for that ref alone."""

import json
from collections.abc import Sequence
from typing import TypeVar, cast

from openrouter_keys._inputs import checks
from openrouter_keys._protocol.answers import is_api_404
from openrouter_keys._protocol.drift import disagreements, mismatches, unchanged
from openrouter_keys._reconcile.absence import not_gone
from openrouter_keys._reconcile.matching import request_of
from openrouter_keys._transport.transport import Transport
from openrouter_keys.converter import decode, unstructure
from openrouter_keys.ensuring.context import EnsureContext, opened
from openrouter_keys.ensuring.release import let_go, settle
from openrouter_keys.ensuring.report import Ensured, Outcome
from openrouter_keys.ensuring.settings import EnsureSettings
from openrouter_keys.errors import (
    JSON,
    JournalError,
    KeyGoneError,
    NotFoundResponseError,
    PlanChangedError,
    ResponseValidationError,
    SecretNotKeptError,
)
from openrouter_keys.journal.entries import Entry, damaged
from openrouter_keys.journal.journal import Journal
from openrouter_keys.journal.records import text_of
from openrouter_keys.journal.schema import DOUBTFUL, State
from openrouter_keys.journal.specs import KeySpec, changed
from openrouter_keys.models import Key, UpdateKeysRequest
from openrouter_keys.operations import Operation, get, update
from openrouter_keys.provisioning.context import Scope, context_of
from openrouter_keys.provisioning.queue import Queue
from openrouter_keys.provisioning.report import (
    ProvisioningStoppedError,
    ProvisionReport,
    ProvisionResult,
)
from openrouter_keys.provisioning.run import Run, unsettled
from openrouter_keys.provisioning.settings import RunSettings
from openrouter_keys.rotation.replacement import replanned

R = TypeVar("R")

_UPDATABLE = frozenset(("name", "limit", "limit_reset", "include_byok_in_limit"))
# What a record shows though it was not asked for.
_SHOWN = frozenset(("workspace_id", "creator_user_id", "external"))
_LEFT_OUT = "it leaves them out: say what they are to be (limit=None is no limit)"
_FIXED = "no update can change them: replace the key with `rotate`, or release the ref first"
_BEGUN = "`apply` is replacing the key, or was stopped at that: apply again, with replace=True"
_DISABLED = "`apply` disabled the key, or is to: `apply` enables it again"
_AGAIN = "release the ref, then ensure it again"


async def ensure(transport: Transport, spec: KeySpec, settings: EnsureSettings) -> Ensured:
    """Return the one key of a ref; see `AsyncOpenRouter.ensure`."""
    if not isinstance(spec, KeySpec):
        checks.refuse("spec", f"must be a KeySpec, not {type(spec).__name__}")
    if spec.disabled:
        checks.refuse("disabled", f"{spec.ref!r}: only `apply` disables a key")
    async with opened(transport, settings, "ensure") as context:
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

    async def step(self) -> Ensured | None:
        """Go a step on; None: the journal has to be asked again."""
        known = await self._journal.succession(self._spec.ref)
        if not known:
            return await self._create()
        entry = known[0]
        differs = self._changed(entry)
        if any(each.state is State.RELEASING for each in known):
            await let_go(self._context, known)
            return None
        if _is_made(entry):
            differs = tuple(name for name in differs if not self._is_shown(name, known))
            if differs or entry.wanted is not None:
                return await self._update(known, differs)
            return await self._existing(known)
        if entry.state is State.FAILED and entry.hash is not None:
            raise ResponseValidationError(f"{entry.reason}: {_AGAIN}")
        if not differs:
            return await self._create()
        if self._settings.on_change == "refuse" and entry.state is not State.FAILED:
            raise PlanChangedError(self._spec.ref, differs)
        await let_go(self._context, known)
        return None

    def _changed(self, entry: Entry) -> tuple[str, ...]:
        return changed(json.dumps(dict(entry.plan)), self._spec.plan)

    def _is_shown(self, name: str, known: Sequence[Entry]) -> bool:
        """Whether a field that was not asked for, and no update can change, is as wanted now.

        So it is of a key that was adopted, or whose workspace is named now.
        """
        data, external = _record(known[-1]), self._spec.external
        if name not in _SHOWN or name in known[0].plan or data is None:
            return False
        if name == "external" and (external is None or external.api_key is not None):
            return False  # the record shows no partner's key
        shown = data.external_user if name == "external" else getattr(data, name)
        return isinstance(shown, str) and name not in disagreements(self._spec.request(), data)

    # --- a key that is there ---

    async def _existing(self, known: Sequence[Entry]) -> Ensured | None:
        last = known[-1]
        data = _record(last)
        if data is None or self._settings.verify:
            answer = await self._asked(get(_hash(last)))
            if answer is None:
                await self._make_way(last)
                return None
            data = answer.data
            if last.record is None:
                await self._note(known, data)
        return self._ensured(last, data, "existing")

    async def _note(self, known: Sequence[Entry], data: Key) -> None:
        """Write down a record that could not be read when the key was made."""
        async with self._context.run() as (journal, _):
            if await self._context.claim(journal, *known):
                await journal.update(known[-1].ref, None, text_of(data))

    async def _asked(self, operation: Operation[R]) -> R | None:
        """Perform an operation on a key; None: the service does not find it."""
        try:
            return await self._context.perform(operation)
        except NotFoundResponseError as error:
            if not is_api_404(error):
                raise
        return None

    def _ensured(self, last: Entry, data: Key, outcome: Outcome) -> Ensured:
        key = self._journal.secret_of(last)
        return Ensured(ref=self._spec.ref, key=key, data=data, outcome=outcome)

    async def _make_way(self, last: Entry) -> None:
        """Make way for another key, if the caller wants one and this one is certainly gone."""
        async with self._context.run() as (_, clock):
            data, hash = _record(last), _hash(last)
            home = last.workspace_id if data is None else data.workspace_id or last.workspace_id
            made_at = None if data is None else data.created_at
            left = await not_gone(self._transport, clock, home, [hash], made_at=made_at)
        known = await self._journal.succession(self._spec.ref)
        if not known or known[-1].hash != hash:
            return  # another call has released or replaced it
        if hash in left or not self._settings.recreate:
            raise KeyGoneError(self._spec.ref, hash, left.get(hash))
        await let_go(self._context, known)

    # --- a key that is to be another ---

    async def _update(self, known: Sequence[Entry], differs: tuple[str, ...]) -> Ensured | None:
        entry, last = known[0], known[-1]
        request, data = await self._change(known, differs), _record(last)
        async with self._context.run() as (journal, clock):
            if not (found := await self._context.claim_all(journal, known)):
                return None
            for each in (entry, *found[len(known) :]):
                if each.written_off or each.state in DOUBTFUL:
                    # Its creates are looked for by what they asked for: that is forgotten now.
                    await settle(self._context, journal, clock, each)
            if request is not None:
                fields = cast("dict[str, JSON]", unstructure(request))
                if not await journal.want_all(found, self._spec.plan, fields, replanned):
                    return None
                answer = await self._asked(update(_hash(last), request))
                data = None if answer is None else answer.data
                problem = None if data is None else unchanged(_hash(last), request, data)
                if problem is not None:
                    raise ResponseValidationError(problem)
            if request is None or data is not None:
                await write_change(journal, known, self._spec.plan, data)
        if data is not None:
            return self._ensured(last, data, "updated")
        if request is not None:
            await self._make_way(last)
        return None

    async def _change(
        self, known: Sequence[Entry], differs: tuple[str, ...]
    ) -> UpdateKeysRequest | None:
        try:
            return self._request(known[0], differs)
        except PlanChangedError as error:
            if await self._journal.is_replacing(known):
                raise PlanChangedError(self._spec.ref, error.changed, _BEGUN) from None
            raise

    def _request(self, entry: Entry, differs: tuple[str, ...]) -> UpdateKeysRequest | None:
        """Return what to change, of what was asked for and of what an update left unfinished."""
        ref, plan = self._spec.ref, cast("dict[str, object]", json.loads(self._spec.plan))
        unfinished = () if entry.wanted is None else changed(entry.wanted, self._spec.plan)
        names = tuple(sorted({*differs, *unfinished}))
        fixed = tuple(name for name in names if name not in _UPDATABLE)
        if names and (self._settings.on_change == "refuse" or fixed):
            why = _DISABLED if fixed == ("disabled",) else _FIXED if fixed else None
            raise PlanChangedError(ref, fixed or names, why)
        if left_out := tuple(name for name in names if name not in plan):
            raise PlanChangedError(ref, left_out, _LEFT_OUT)
        fields = {name: plan[name] for name in names}
        return UpdateKeysRequest(**fields) if fields else None  # type: ignore[arg-type]

    # --- no key ---

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
            scope = self._context.scope(self._spec)
            account = self._context.account
            run = context_of(self._transport, journal, settings, clock, scope, account=account)
            report, error = await _report(Run(run, Queue([self._spec], run, looks_up=True)))
        if report.created or report.resumed:  # whatever came after it, it is in the journal
            made = taken[-1]
            outcome: Outcome = "created" if report.created else "existing"
            return Ensured(ref=made.ref, key=made.key, data=made.data, outcome=outcome)
        if error is not None:
            for lost in report.undelivered:
                if isinstance(error, SecretNotKeptError) and error.ref == lost.ref:
                    raise error
                raise SecretNotKeptError(lost.ref, lost.key, lost.hash, str(error)) from error
            if isinstance(error, PlanChangedError) and error.changed:
                return None  # another call was faster, with another spec
            raise error
        await self._refuse(scope, report)
        return None  # another process has made it

    async def _refuse(self, scope: Scope, report: ProvisionReport) -> None:
        for problem in report.mismatches:
            raise ResponseValidationError(f"{problem.reason}: {_AGAIN}")
        for problem in report.failures:
            raise JournalError(problem.reason)
        entry = await self._journal.find(self._spec.ref)
        if entry is not None and entry.state in DOUBTFUL:
            for problem in report.doubts:
                hashes = ", ".join(problem.hashes)
                reason = f"{problem.reason}: {hashes or 'ask again'}"
                raise unsettled(scope, None, reason)


async def write_change(
    journal: Journal, known: Sequence[Entry], plan: str, data: Key | None
) -> None:
    """Write that the key of a ref is as asked for now.

    Args:
        journal: the run's.
        known: what `Journal.succession` returned; the rows are the run's own.
        plan: what was asked for.
        data: the key's record. None: as before.
    """
    record = None if data is None else text_of(data)
    for entry in known[1:][-1:]:
        await journal.update(entry.ref, None, record)
        record = None  # it is that of a key before
    await journal.update(known[0].ref, plan, record)


async def _report(run: Run) -> tuple[ProvisionReport, BaseException | None]:
    """Return how a run ended, and what stopped it."""
    try:
        return await run.report(), None
    except ProvisioningStoppedError as error:
        return error.report, error.__cause__


def _is_made(entry: Entry) -> bool:
    """Whether there is a key that is as asked for; a run has to look at any other one."""
    if entry.state is State.SETTLED:
        return True
    kept = entry.secret is not None or entry.sealed is not None
    data = _record(entry)
    return (
        entry.state is State.MADE
        and kept
        and data is not None
        and not mismatches(request_of(entry.plan), data)
    )


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
