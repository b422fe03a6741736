"""What is to be done next: specs as they are read, and those that had to wait. No network."""

import asyncio
from collections import deque
from collections.abc import AsyncIterable, Sequence

from attrs import frozen

from openrouter_keys._inputs import checks
from openrouter_keys.errors import PlanChangedError
from openrouter_keys.journal.schema import DOUBTFUL, State
from openrouter_keys.journal.specs import KeySpec
from openrouter_keys.provisioning.context import Context
from openrouter_keys.provisioning.report import UndeliveredKey
from openrouter_keys.provisioning.spec_source import Allowance, Specs, batches


@frozen
class Job:
    """A spec, and how far it is.

    Attributes:
        spec: what is asked for.
        state: what the journal knew of it when it was read; None: nothing.
        made: its key, made in this run and not handed over yet; None: there is none.
        cleared: whether a reconcile has found that no key of its creates is left.
        elsewhere: whether another run was at it when it was looked at last.
    """

    spec: KeySpec
    state: State | None
    made: UndeliveredKey | None = None
    cleared: bool = False
    elsewhere: bool = False

    @property
    def in_doubt(self) -> bool:
        """Whether it has to wait for a reconcile."""
        return self.state in DOUBTFUL and not self.cleared


class Queue:
    """The queue of a run.

    Args:
        specs: what is to be made.
        context: the run's.
        looks_up: False: the journal is empty, so that nothing need be looked up.

    Attributes:
        may_idle: whether the source may be slow without keeping the workers from other jobs.
    """

    def __init__(self, specs: Specs, context: Context, *, looks_up: bool) -> None:
        self.may_idle: bool = isinstance(specs, AsyncIterable)
        self._batches = batches(specs)
        self._context = context
        self._looks_up = looks_up
        self._allowance = Allowance(context.settings.max_total_limit)
        self._ready: deque[Job] = deque()
        self._ended = False
        self._refilling: asyncio.Task[None] | None = None

    @property
    def is_empty(self) -> bool:
        """Whether nothing is left."""
        return self._ended and not self._ready

    def at_once(self) -> Job | None:
        """Return what is to be done next, if nothing has to be read for it; None: it has."""
        return self._ready.popleft() if self._ready else None

    async def next(self) -> Job | None:
        """Return what is to be done next; None: nothing is left.

        Raises:
            PlanChangedError: a spec is not the one that the journal knows by its ref.
            DuplicateRefError: a ref came twice.
            AllowanceExceededError: a spec would hand out too much.
            InvalidArgumentError: something is no spec.
        """
        while not self._ready and not self._ended:
            refilling = self._refilling
            if refilling is None or refilling.done():
                refilling = self._refilling = asyncio.create_task(self._refill())
            # A worker that is cancelled while it waits must not end the source for the others.
            await asyncio.wait({refilling})
            refilling.result()
        return self._ready.popleft() if self._ready else None

    def put(self, job: Job) -> None:
        """Put a job back, to be done before what was not read yet."""
        self._ready.append(job)

    async def _refill(self) -> None:
        specs = await anext(self._batches, None)
        if specs is None:
            self._ended = True
            return
        for spec in specs:
            if spec.disabled:
                checks.refuse("disabled", f"{spec.ref!r}: only `apply` disables a key")
            self._allowance.take(spec)
        self._ready.extend(await self._jobs(specs))
        self._context.counters.read += len(specs)

    async def _jobs(self, specs: Sequence[KeySpec]) -> list[Job]:
        """Look up what the journal knows of specs; those that have changed are left out."""
        journal, changed = self._context.journal, self._context.changed
        if not self._looks_up:
            return [Job(spec, None) for spec in specs]
        try:
            return [*map(Job, specs, await journal.plan(specs))]
        except PlanChangedError:
            if changed is None:
                raise
        jobs: list[Job] = []
        for spec in specs:
            try:
                jobs += map(Job, [spec], await journal.states([spec]))
            except PlanChangedError:
                changed.add(spec.ref)
        return jobs

    async def close(self) -> None:
        """Close the source."""
        if self._refilling is not None:
            self._refilling.cancel()
            await asyncio.gather(self._refilling, return_exceptions=True)
        await self._batches.aclose()
