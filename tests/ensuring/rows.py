"""Rows of a journal for tests of `ensure` and `release`: as any run may have left them."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from attrs import frozen

from openrouter_keys import AsyncOpenRouter, Ensured, KeySpec
from openrouter_keys.converter import encode, unstructure
from openrouter_keys.emulator import Emulator
from openrouter_keys.journal.entries import Entry
from openrouter_keys.journal.journal import Journal
from openrouter_keys.operations import get
from tests.journals import spec


def secrets(emulator: Emulator) -> list[str | None]:
    """The secrets of the keys that the service has, oldest first."""
    return [key.secret for key in emulator.account.keys.values()]


def sent(emulator: Emulator) -> list[str]:
    """The operations that the service was asked for so far."""
    return [request.operation for request in emulator.requests]


async def row(journal: Journal, ref: str = "r") -> Entry:
    """What the journal knows of a ref."""
    found = await journal.find(ref)
    assert found is not None
    return found


@asynccontextmanager
async def opened(path: Path, emulator: Emulator, **given: Any) -> AsyncGenerator[Journal]:
    """A journal of the emulator's keys; its own run lives as long as it is open."""
    async with Journal.open(path, server_url=emulator.base_url, **given) as journal:
        yield journal


class Rows:
    """Brings a ref into each state, by a run that has ended or by one that lives.

    Args:
        journal: whose run owns the rows.
        client: whose keys they are.
        emulator: the service.
    """

    def __init__(self, journal: Journal, client: AsyncOpenRouter, emulator: Emulator) -> None:
        self._journal, self._client, self._emulator = journal, client, emulator

    async def bring(self, state: str, asked: KeySpec | None = None) -> None:
        """Bring a ref into a state; `-` is followed by what is special about it."""
        wanted = spec() if asked is None else asked
        await getattr(self, f"_{state.replace('-', '_')}")(wanted)

    async def _intent(self, asked: KeySpec) -> None:
        now = self._client._transport.clockwork.now()
        assert await self._journal.intend(asked, now) is None

    async def _doubt(self, asked: KeySpec) -> None:
        await self._intent(asked)
        await self._journal.doubt(asked.ref, "no answer", ended_at=self._now())

    async def _doubt_made(self, asked: KeySpec) -> None:
        await self._intent(asked)
        self._emulator.account.create(asked_body(asked))
        await self._journal.doubt(asked.ref, "no answer", ended_at=self._now())

    async def _failed(self, asked: KeySpec) -> None:
        await self._intent(asked)
        await self._journal.fail(asked.ref, "refused")

    async def _made(self, asked: KeySpec, **given: Any) -> None:
        await self._intent(asked)
        await self._answered(asked, **given)

    async def _answered(self, asked: KeySpec, **given: Any) -> None:
        key = self._emulator.account.create(asked_body(asked))
        for name, value in given.pop("shown", {}).items():
            setattr(key, name, value)
        answer = await self._client._transport.perform(get(key.hash), {})
        record = given.pop("record", encode(answer.data).decode())
        assert key.secret is not None
        await self._journal.keep(
            asked.ref,
            secret=key.secret,
            hash=key.hash,
            record=record,
            ended_at=self._now(),
            **given,
        )
        self._emulator.requests.clear()

    async def write_off(self, state: str, asked: KeySpec) -> None:
        """Bring a ref into a state after a create that was written off."""
        await self._doubt(asked)
        await self._journal.again(asked.ref, self._now(), asked.plan)
        if state == "failed":
            await self._journal.fail(asked.ref, "refused")
            return
        await self._answered(asked, settled=True)
        if state == "releasing":
            await self._journal.claim(asked.ref, settled=True)
            await self._journal.release(asked.ref)

    async def _made_unread(self, asked: KeySpec) -> None:
        await self._made(asked, record=None)

    async def _made_unlimited(self, asked: KeySpec) -> None:
        await self._made(asked, shown={"limit": None})

    async def _made_unread_unlimited(self, asked: KeySpec) -> None:
        await self._made(asked, record=None, shown={"limit": None})

    async def _settled(self, asked: KeySpec) -> None:
        await self._made(asked, settled=True)

    async def _settled_unread(self, asked: KeySpec) -> None:
        await self._made(asked, settled=True, record=None)

    async def _rejected(self, asked: KeySpec) -> None:
        await self._made(asked, shown={"limit": None, "disabled": True})
        await self._journal.reject(asked.ref, "it has no limit")

    async def _wanted(self, asked: KeySpec) -> None:
        await self._settled(asked)
        await self._journal.claim(asked.ref, settled=True)
        await self._journal.want(asked.ref, spec(asked.ref, limit=7).plan)

    async def _releasing(self, asked: KeySpec) -> None:
        await self._settled(asked)
        await self._journal.claim(asked.ref, settled=True)
        await self._journal.release(asked.ref)

    async def _released(self, asked: KeySpec) -> None:
        await self._releasing(asked)
        self._emulator.account.keys.clear()
        await self._journal.gone(asked.ref)

    def _now(self) -> datetime:
        return self._client._transport.clockwork.now()


def asked_body(asked: KeySpec) -> dict[str, Any]:
    """What a create sends."""
    body = unstructure(asked.request())
    assert isinstance(body, dict)
    return body


@frozen
class World:
    """A client, its service, and an open journal.

    Attributes:
        quiet_period: that of its calls.
    """

    client: AsyncOpenRouter
    emulator: Emulator
    journal: Journal
    quiet_period: float = 30.0

    async def ensure(self, asked: KeySpec, **given: Any) -> Ensured:
        given = {"quiet_period": self.quiet_period, **given}
        return await self.client.ensure(asked, journal=self.journal, **given)

    async def release(self, ref: str = "r", **given: Any) -> bool:
        given = {"quiet_period": self.quiet_period, **given}
        return await self.client.release(ref, journal=self.journal, **given)

    async def bring(self, state: str, asked: KeySpec | None = None) -> None:
        """Bring a ref into a state, by a run that has ended then."""
        wanted = spec(limit=5) if asked is None else asked
        async with self.journal.begin() as run:
            await Rows(run, self.client, self.emulator).bring(state, wanted)
        self.emulator.requests.clear()
