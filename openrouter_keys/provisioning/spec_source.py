"""Specs from any iterable, sync or async, a batch at a time and no sooner than needed."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable
from contextlib import aclosing, suppress
from itertools import islice
from typing import TypeAlias

from openrouter_keys._inputs import checks
from openrouter_keys.journal.specs import KeySpec

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
    """Go through specs in batches, each refused if it holds anything else."""
    read = 0
    source = _gathered(specs) if isinstance(specs, AsyncIterable) else _sliced(specs)
    async with aclosing(source):
        async for batch in source:
            for place, spec in enumerate(batch, start=read):
                _refuse_others(spec, place)
            read += len(batch)
            yield batch


def _refuse_others(spec: object, place: int) -> None:
    if not isinstance(spec, KeySpec):
        checks.refuse(f"specs[{place}]", f"must be a KeySpec, not {type(spec).__name__}")


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
    """The source has no more; `StopAsyncIteration` cannot leave a task."""


def _following(iterator: AsyncIterator[KeySpec]) -> "asyncio.Task[KeySpec]":
    async def following() -> KeySpec:
        try:
            return await anext(iterator)
        except StopAsyncIteration:
            raise _EndError from None

    return asyncio.create_task(following())
