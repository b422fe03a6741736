"""`demo`: a tour of both clients against an emulator, whose state shows whether each step holds."""

import asyncio
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Annotated, Final, TypeAlias, TypeVar, cast

from attrs import asdict, frozen
from cyclopts import Parameter

from openrouter_keys.api_keys import AsyncAPIKeys
from openrouter_keys.cli.demo.checks import Checks
from openrouter_keys.cli.demo.faults import provision_through_faults
from openrouter_keys.cli.demo.transcript import Transcript
from openrouter_keys.cli.specs.file import read_specs
from openrouter_keys.client import AsyncOpenRouter
from openrouter_keys.emulator import Account, Emulator, Workspace
from openrouter_keys.errors import (
    InvalidArgumentError,
    NotFoundResponseError,
    OpenRouterError,
    UnauthorizedResponseError,
)
from openrouter_keys.journal.specs import KeySpec
from openrouter_keys.models import CreateKeysRequest, CreateKeysResponse, Key
from openrouter_keys.sync import APIKeys, OpenRouter

# Seconds that the emulator takes for a create, so that those at once differ from those in a row.
_LATENCY: Final = 0.02
_CUSTOMERS: Final = Path(__file__).with_name("customers.csv")
_Keys: TypeAlias = AsyncAPIKeys | APIKeys
_Answer = TypeVar("_Answer")


def demo(
    csv: Annotated[
        Path,
        Parameter(metavar="CSV", show_default=False, help="A CSV file of customers; else its own."),
    ] = _CUSTOMERS,
    /,
) -> int:
    """Do everything to the keys of an emulator, and check it against the emulator's state."""
    customers = read_specs(csv)
    transcript = Transcript(sys.stdout)
    transcript.did("customers", f"{len(customers)} rows of {csv}")
    return tour(customers, Account(), transcript)


def tour(customers: Sequence[KeySpec], account: Account, transcript: Transcript) -> int:
    """Go through it with an account of your own, and return the exit code.

    Args:
        customers: whom to create keys for; a workspace that is new is added to the account.
        account: the emulator's account.
        transcript: where to write.
    """
    named = {row.workspace_id for row in customers if row.workspace_id is not None}
    for workspace_id in named - account.workspaces.keys():
        account.workspaces[workspace_id] = Workspace(workspace_id)
    with Emulator(account) as emulator:
        transcript.did("emulator", emulator.base_url)
        checks = Checks(emulator, transcript)
        steps = (
            _create_all(emulator, customers, checks),
            _Tour(emulator, checks, blocking=False).take(),
            _Tour(emulator, checks, blocking=True).take(),
            provision_through_faults(customers, transcript),
        )
        for step in steps:
            with checks.no_error():
                asyncio.run(step)
    return transcript.end()


async def _create_all(emulator: Emulator, customers: Sequence[KeySpec], checks: Checks) -> None:
    rows = [row.request() for row in customers]
    checks.transcript.title("AsyncOpenRouter, all at once")
    async with AsyncOpenRouter(emulator.api_key, server_url=emulator.base_url, proxy="") as client:
        emulator.latency, begun = _LATENCY, time.perf_counter()
        creates = (client.api_keys.create(**asdict(row, recurse=False)) for row in rows)
        created = await asyncio.gather(*creates)
        emulator.latency, took = 0, time.perf_counter() - begun
    text = f"{len(created)} keys at once in {took:.3f} s, where each takes {_LATENCY} s"
    checks.transcript.did("create", text)
    checks.at_once(len(created))
    checks.created(rows, created)


async def _result(call: Awaitable[_Answer] | _Answer) -> _Answer:
    """Return what a call returns, of either client."""
    if isinstance(call, Awaitable):
        return await cast("Awaitable[_Answer]", call)
    return call


@frozen
class _Tour:
    emulator: Emulator
    checks: Checks
    blocking: bool

    async def take(self) -> None:
        self.checks.transcript.title("OpenRouter" if self.blocking else "AsyncOpenRouter")
        async with self._keys(self.emulator.api_key) as keys:
            created = await self._create_and_get(keys)
            hash = created.data.hash
            await self._list_all(keys, hash)
            await self._update(keys, hash)
            await self._disable_and_enable(keys, created)
            await self._current(keys, created)
            await self._bad_keys(created)
            await self._bad_input(keys, hash)
            await self._delete(keys, hash)

    def _did(self, what: str, text: str) -> None:
        self.checks.transcript.did(what, text)

    @asynccontextmanager
    async def _keys(self, api_key: str) -> AsyncGenerator[_Keys]:
        url = self.emulator.base_url
        if self.blocking:
            with OpenRouter(api_key, server_url=url, proxy="") as client:
                yield client.api_keys
        else:
            async with AsyncOpenRouter(api_key, server_url=url, proxy="") as client:
                yield client.api_keys

    async def _create_and_get(self, keys: _Keys) -> CreateKeysResponse:
        created = await _result(keys.create(name="demo", limit=50, limit_reset="monthly"))
        self._did("create", f"demo, limit 50 a month: {created.data.label}")
        row = CreateKeysRequest(name="demo", limit=50.0, limit_reset="monthly")
        self.checks.created([row], [created])
        got = await _result(keys.get(created.data.hash))
        self._did("get", f"{got.data.name}: {got.data.label}")
        self.checks.got(got.data)
        return created

    async def _list_all(self, keys: _Keys, newest: str) -> None:
        page = (await _result(keys.list())).data
        self._did("list", f"{len(page)} keys of the default workspace, one page")
        self.checks.newest(page, newest)
        before, listed = self.emulator.count("list"), list[Key]()
        for workspace_id in [*self.emulator.account.workspaces]:
            every = keys.iterate(
                include_disabled=True, include_expired=True, workspace_id=workspace_id
            )
            if isinstance(every, AsyncIterator):
                listed += [key async for key in every]
            else:
                listed += every
        requests = self.emulator.count("list") - before
        self._did("iterate", f"{len(listed)} keys in {requests} requests")
        self.checks.listed(listed)

    async def _update(self, keys: _Keys, hash: str) -> None:
        before = self.checks.stored(hash)
        await _result(keys.update(hash, limit=None))
        self._did("update", "limit=None: null, no limit any more")
        self.checks.unlimited(before)
        before = self.checks.stored(hash)
        await _result(keys.update(hash, name="renamed"))
        self._did("update", "name='renamed', everything else left out")
        self.checks.changed(before, "name")

    async def _disable_and_enable(self, keys: _Keys, created: CreateKeysResponse) -> None:
        before = self.checks.stored(created.data.hash)
        await _result(keys.update(created.data.hash, disabled=True))
        self._did("update", "disabled=True")
        self.checks.changed(before, "disabled")
        async with self._keys(created.key) as own:
            await self._refused(own.get_current_key_metadata, UnauthorizedResponseError)
        await _result(keys.update(created.data.hash, disabled=False))
        self._did("update", "disabled=False")
        self.checks.changed(before)

    async def _current(self, keys: _Keys, created: CreateKeysResponse) -> None:
        manager = (await _result(keys.get_current_key_metadata())).data
        self._did("current", "of the key that manages the others")
        self.checks.transcript.check("it is a management key", holds=manager.is_management_key)
        async with self._keys(created.key) as of_created:
            own = (await _result(of_created.get_current_key_metadata())).data
        self._did("current", f"of the created key, asked with itself: {own.label}")
        self.checks.current(own, created.data.hash)

    async def _bad_keys(self, created: CreateKeysResponse) -> None:
        for key in ("not-a-key", created.key):
            async with self._keys(key) as keys:
                await self._refused(keys.list, UnauthorizedResponseError)

    async def _bad_input(self, keys: _Keys, hash: str) -> None:
        calls: Sequence[Callable[[], object]] = (
            lambda: keys.create(name=""),
            lambda: keys.create(name="demo", limit=float("nan")),
            lambda: keys.create(name="demo", expires_at=datetime(2027, 12, 31)),
            lambda: keys.get("../credits"),
            lambda: keys.update(hash),
        )
        with self.checks.nothing_sent(len(calls)):
            for call in calls:
                await self._refused(call, InvalidArgumentError)

    async def _delete(self, keys: _Keys, hash: str) -> None:
        before = len(self.emulator.account.keys)
        await _result(keys.delete(hash))
        self._did("delete", hash)
        self.checks.deleted(hash, before)
        await self._refused(lambda: keys.get(hash), NotFoundResponseError)

    async def _refused(self, call: Callable[[], object], kind: type[OpenRouterError]) -> None:
        raised: OpenRouterError | None = None
        try:
            await _result(call())
        except OpenRouterError as error:
            raised = error
        self._did("refused", str(raised or "no error"))
        self.checks.transcript.check(f"raised {kind.__name__}", holds=isinstance(raised, kind))
