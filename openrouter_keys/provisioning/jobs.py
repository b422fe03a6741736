"""What is to be done next: specs as they are read, and those that had to wait. No network."""

import asyncio
from collections import deque

from attrs import frozen

from openrouter_keys.provisioning.allowance import Allowance
from openrouter_keys.provisioning.journal import Journal
from openrouter_keys.provisioning.schema import State
from openrouter_keys.provisioning.sources import Specs, batches
from openrouter_keys.provisioning.specs import KeySpec


@frozen
class Job:
    """A spec, and what the journal knew of it when it was read; None: nothing."""

    spec: KeySpec
    state: State | None


class Jobs:
    """The queue of a run.

    Args:
        specs: what is to be made.
        journal: tells what was made before.
        looks_up: False: the journal is empty, so that nothing need be looked up.
        allowance: counts what is handed out.

    Attributes:
        read: how many specs were read.
    """

    def __init__(
        self, specs: Specs, journal: Journal, *, looks_up: bool, allowance: Allowance
    ) -> None:
        self.read = 0
        self._batches = batches(specs)
        self._journal = journal
        self._looks_up = looks_up
        self._allowance = allowance
        self._ready: deque[Job] = deque()
        self._ended = False
        self._lock = asyncio.Lock()

    @property
    def over(self) -> bool:
        """Whether nothing is left."""
        return self._ended and not self._ready

    async def next(self) -> Job | None:
        """Return what is to be done next; None: nothing is left.

        Raises:
            PlanChangedError: a spec is not the one that the journal knows by its ref.
            DuplicateRefError: a ref came twice.
            AllowanceExceededError: a spec would hand out too much.
            InvalidArgumentError: something is no spec.
        """
        while not self._ready and not self._ended:
            async with self._lock:
                if not self._ready and not self._ended:
                    await self._refill()
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
            self._allowance.take(spec)
        states = await self._journal.plan(specs) if self._looks_up else [None] * len(specs)
        self._ready.extend(map(Job, specs, states))
        self.read += len(specs)

    async def close(self) -> None:
        """Close the source."""
        await self._batches.aclose()
