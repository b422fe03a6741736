"""A process that shares a journal with others; it prints how it ended as JSON.

`python -m tests.races.worker ACTION ARGUMENTS` with the arguments as JSON: see `main`.
"""

import asyncio
import json
import logging
import os
import signal
import sys
from collections.abc import Sequence
from hashlib import sha256
from random import Random
from typing import Any, Final

from openrouter_keys import AsyncOpenRouter, KeySpec, ProvisioningStoppedError, ServiceOutageError
from openrouter_keys.errors import (
    CreateOutcomeUnknownError,
    JournalError,
    KeyGoneError,
    OpenRouterError,
    TakenOverError,
)
from openrouter_keys.journal import transitions
from openrouter_keys.journal.copies import Copy
from openrouter_keys.journal.journal import Journal
from openrouter_keys.journal.postgresql_store import PostgreSQL
from openrouter_keys.journal.transitions import Transition
from openrouter_keys.provisioning.reconciler import Reconciler

#: Seconds: longer than any late landing of the harness.
QUIET: Final = 0.3
_AT_ONCE: Final = 8
#: Seconds for which `ensure` may wait for others.
_WAIT: Final = 60.0


def specs(count: int) -> list[KeySpec]:
    """Return what all processes ask for."""
    return [KeySpec(ref=f"ref-{number}", name=f"customer-{number}") for number in range(count)]


# --- what is broken on purpose, so that a test can be seen to fail ---


def unfence() -> None:
    """A run may write to rows that another one has taken over."""
    for way in vars(transitions).values():
        if isinstance(way, Transition):
            object.__setattr__(way, "statement", way.statement.replace(" AND owner = :owner", ""))


def forget_the_living() -> None:
    """A run takes every other one for gone."""

    def lives(_: Any, __: int) -> bool:
        return False

    for holder in (Copy, PostgreSQL):
        setattr(holder, "lives", lives)  # noqa: B010 - it is a method


def do_not_wait() -> None:
    """A run settles at once what others left, though creates can still land."""
    due = Reconciler.due

    async def at_once(self: Reconciler, quiet_periods: int) -> float | None:
        return None if await due(self, quiet_periods) is None else 0.0

    setattr(Reconciler, "due", at_once)  # noqa: B010


BREAKS: Final = {
    "fencing": unfence,
    "liveness": forget_the_living,
    "waiting": do_not_wait,
}


def stop_before_keeping(count: int) -> None:
    """Stop this process once it has the answers of so many creates, and before it keeps a key."""
    keep, answered, written = Journal.keep, 0, 0
    goes_on = asyncio.Event()

    async def stopping(self: Journal, ref: str, **given: Any) -> None:
        nonlocal answered, written
        answered += 1
        if answered == count:
            say(stopped=True)
            os.kill(os.getpid(), signal.SIGSTOP)
            goes_on.set()
        await goes_on.wait()
        try:
            await keep(self, ref, **given)
        finally:
            written += 1
            if written == count:
                say(written=True)

    setattr(Journal, "keep", stopping)  # noqa: B010


# --- what it does ---


def say(**what: object) -> None:
    """Tell whoever started this process."""
    print(json.dumps(what), flush=True)


async def provision(client: AsyncOpenRouter, place: str, count: int, _: object) -> dict[str, Any]:
    """Make all keys, or see that others do."""
    try:
        report = await client.provision(
            specs(count), journal=place, quiet_period=QUIET, concurrency=_AT_ONCE
        )
    except ProvisioningStoppedError as error:
        if not _is_of_the_journal(error.__cause__):
            raise
        return {"ok": False, "why": str(error)}
    return {
        "ok": report.ok,
        "whole": report.created + report.resumed + report.settled_before == count,
        "created": report.created,
        "deleted": report.deleted,
        "why": str(report),
    }


async def rotate(client: AsyncOpenRouter, place: str, _: int, old: Sequence[str]) -> dict[str, Any]:
    """Replace all old keys, or see that others do."""
    try:
        report = await client.rotate(old, journal=place, quiet_period=QUIET, concurrency=_AT_ONCE)
    except ProvisioningStoppedError as error:
        if not _is_of_the_journal(error.__cause__):
            raise
        return {"ok": False, "why": str(error)}
    return {"ok": report.ok, "whole": report.ok, "created": report.rotated, "why": str(report)}


async def retire(client: AsyncOpenRouter, place: str, _: int, __: object) -> dict[str, Any]:
    """Delete the old keys of replacements that are in the journal."""
    report = await client.rotate((), journal=place, retire_after=0, quiet_period=QUIET)
    return {"ok": report.ok, "whole": not report.waiting, "created": 0, "why": str(report)}


async def ensure(client: AsyncOpenRouter, place: str, count: int, _: object) -> dict[str, Any]:
    """Ask for each key, in an order of its own."""
    wanted, gate = specs(count), asyncio.Semaphore(_AT_ONCE)
    Random(os.getpid()).shuffle(wanted)
    outcomes: list[str] = []

    async def one(spec: KeySpec, journal: Journal) -> None:
        async with gate:
            while True:
                try:
                    ensured = await client.ensure(
                        spec, journal=journal, wait=_WAIT, quiet_period=QUIET
                    )
                except (CreateOutcomeUnknownError, TakenOverError, ServiceOutageError) as error:
                    outcomes.append(f"again: {error}")
                    await asyncio.sleep(0.1)
                    continue
                if ensured.key is None or _hash(ensured.key) != ensured.data.hash:
                    outcomes.append(f"wrong: {spec.ref}")
                outcomes.append(ensured.outcome)
                return

    async with Journal.open(place) as journal:
        await asyncio.gather(*(one(spec, journal) for spec in wanted))
    created, existing = outcomes.count("created"), outcomes.count("existing")
    return {
        "ok": created + existing == count and not any("wrong" in one for one in outcomes),
        "whole": created + existing == count,
        "created": created,
        "why": f"{created} created, {existing} existing, {len(outcomes)} in all",
    }


ACTIONS: Final = {function.__name__: function for function in (provision, rotate, retire, ensure)}


def _is_of_the_journal(error: BaseException | None) -> bool:
    return isinstance(error, JournalError) and not isinstance(error, KeyGoneError)


def _hash(secret: str) -> str:
    return sha256(secret.encode()).hexdigest()


async def digest(place: str) -> str:
    """Return what shows, without a secret, which secrets the journal has."""
    async with Journal.read(place) as journal:
        found = [f"{entry.ref} {entry.secret}" async for entry in journal.every()]
    return _hash("\n".join(sorted(found)))


async def main(
    *, action: str, url: str, key: str, place: str, count: int, old: list[str], broken: list[str],
    stops: bool, waits: bool, timeout: int,
) -> None:  # fmt: skip
    """Do something with a journal that others use, and say how it ended.

    Args:
        action: what.
        url: the service's.
        key: the management key.
        place: the journal.
        count: how many refs.
        old: the keys that it replaces.
        broken: the promises that it breaks.
        stops: whether it stops itself before it keeps its keys.
        waits: whether it begins when it reads a line.
        timeout: the client's, in milliseconds.
    """
    for name in broken:
        BREAKS[name]()
    if stops:
        stop_before_keeping(count)
    if waits:
        say(ready=True)
        sys.stdin.readline()
    ended: dict[str, Any]
    try:
        async with AsyncOpenRouter(key, server_url=url, timeout_ms=timeout) as client:
            ended = await ACTIONS[action](client, place, count, old)
        ended["secrets"] = await digest(place)
    except OpenRouterError as error:
        ended = {"ok": False, "why": f"{type(error).__name__}: {error}"}
    say(**ended)


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    asyncio.run(main(**json.loads(sys.argv[1])))
