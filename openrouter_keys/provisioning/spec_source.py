"""Specs from any iterable, sync or async, a batch at a time, and the sum of their limits."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable
from contextlib import aclosing, suppress
from decimal import Decimal
from itertools import islice
from typing import TypeAlias

from openrouter_keys._inputs import checks
from openrouter_keys.errors import AllowanceExceededError
from openrouter_keys.journal.specs import KeySpec, exact

Specs: TypeAlias = Iterable[KeySpec] | AsyncIterable[KeySpec]

#: How many specs are read ahead, at most.
BATCH = 200


def check_specs(specs: object) -> None:
    """Refuse what cannot be a source of specs."""
    kind = type(specs).__name__
    # A text is an iterable of texts, and a mapping one of its names.
    if kind in ("str", "bytes", "dict") or not isinstance(specs, Iterable | AsyncIterable):
        checks.refuse("specs", f"must be an iterable or async iterable of KeySpec, not {kind}")


async def batches(specs: Specs) -> AsyncGenerator[list[KeySpec], None]:
    """Go through specs in batches, and refuse a batch that holds anything else."""
    read = 0
    source = _gathered(specs) if isinstance(specs, AsyncIterable) else _sliced(specs)
    async with aclosing(source):
        async for batch in source:
            for place, spec in enumerate(batch, start=read):
                if not isinstance(spec, KeySpec):
                    kind = type(spec).__name__
                    checks.refuse(f"specs[{place}]", f"must be a KeySpec, not {kind}")
            read += len(batch)
            yield batch


async def _sliced(specs: Iterable[KeySpec]) -> AsyncGenerator[list[KeySpec], None]:
    iterator = iter(specs)
    while batch := list(islice(iterator, BATCH)):
        yield batch


async def _gathered(specs: AsyncIterable[KeySpec]) -> AsyncGenerator[list[KeySpec], None]:
    """Take what is there already: a spec must not wait for those that come after it."""
    iterator = aiter(specs)
    following = _following(iterator)
    try:
        while True:
            batch = [await following]
            following = _following(iterator)
            await asyncio.sleep(0)
            while len(batch) < BATCH and following.done() and following.exception() is None:
                batch.append(following.result())
                following = _following(iterator)
                await asyncio.sleep(0)
            yield batch
    except _EndError:
        pass
    finally:
        following.cancel()
        with suppress(BaseException):
            await following


class _EndError(Exception):
    """The source is at its end; `StopAsyncIteration` cannot leave a task."""


def _following(iterator: AsyncIterator[KeySpec]) -> "asyncio.Task[KeySpec]":
    async def following() -> KeySpec:
        try:
            return await anext(iterator)
        except StopAsyncIteration:
            raise _EndError from None

    return asyncio.create_task(following())


class Allowance:
    """Adds up the limits of the specs that were read, whether or not their keys exist already.

    Args:
        most: US dollars; None: no bound.
    """

    def __init__(self, most: float | None) -> None:
        self._most = None if most is None else exact(most)
        self._taken = Decimal(0)

    def take(self, spec: KeySpec) -> None:
        """Count a spec's limit.

        Raises:
            AllowanceExceededError: it has none, or goes beyond the bound.
        """
        if self._most is None:
            return
        if not isinstance(spec.limit, int | float):
            raise AllowanceExceededError(spec.ref, "has no limit, and max_total_limit needs one")
        self._taken += exact(spec.limit)
        if self._taken > self._most:
            problem = f"brings the limits to {self._taken} US dollars, beyond {self._most}"
            raise AllowanceExceededError(spec.ref, problem)
