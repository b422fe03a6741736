"""A tour of both clients against an emulator; a `Witness` tells whether each step is true."""

import asyncio
import sys
import time
from collections.abc import Awaitable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Final

from attrs import frozen
from cyclopts import Parameter

from openrouter_keys.api_keys import AsyncAPIKeys
from openrouter_keys.cli.demo.outage import provision_through_faults
from openrouter_keys.cli.demo.proof import Witness
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
from openrouter_keys.models import CreateKeysRequest, CreateKeysResponse
from openrouter_keys.results import Err, attempt
from openrouter_keys.sync import APIKeys, OpenRouter

# Seconds that the emulator takes for a create, so that those at once differ from those in a row.
_LATENCY: Final = 0.02
_CUSTOMERS: Final = Path(__file__).with_name("customers.csv")


def demo(
    csv: Annotated[Path, Parameter(metavar="CSV", help="A CSV file of customers.")] = _CUSTOMERS,
    /,
) -> int:
    """Do everything to an emulator's keys, and check it by its state."""
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
        stop = _Tour(emulator, customers, transcript, Witness(emulator, transcript))
        with stop.witness.no_error():
            asyncio.run(stop.async_face())
        with stop.witness.no_error():
            stop.blocking_face()
        with stop.witness.no_error():
            asyncio.run(provision_through_faults(customers, transcript))
    return transcript.end()


@frozen
class _Tour:
    emulator: Emulator
    customers: Sequence[KeySpec]
    transcript: Transcript
    witness: Witness

    async def async_face(self) -> None:
        self.transcript.title("AsyncOpenRouter")
        async with self._client(self.emulator.api_key) as client:
            keys = client.api_keys
            await self._create_all(keys)
            await self._list_all(keys)
            created = await self._create_and_get(keys)
            await self._update(keys, created.data.hash)
            await self._disable_and_enable(keys, created)
            await self._current(keys, created)
            await self._bad_keys(created)
            await self._bad_input(keys, created.data.hash)
            await self._delete(keys, created.data.hash)

    def blocking_face(self) -> None:
        self.transcript.title("OpenRouter")
        address = self.emulator.base_url
        with OpenRouter(self.emulator.api_key, server_url=address, proxy="") as client:
            keys = client.api_keys
            created = self._create_and_get_blocking(keys)
            self._list_all_blocking(keys, created.data.hash)
            self._update_and_delete_blocking(keys, created.data.hash)
            manager = keys.get_current_key_metadata().data
            self._manager(is_management_key=manager.is_management_key)

    def _client(self, api_key: str) -> AsyncOpenRouter:
        return AsyncOpenRouter(api_key, server_url=self.emulator.base_url, proxy="")

    async def _create_all(self, keys: AsyncAPIKeys) -> None:
        self.emulator.latency, begun = _LATENCY, time.perf_counter()
        created = await asyncio.gather(*(_create(keys, row) for row in self.customers))
        self.emulator.latency, took = 0, time.perf_counter() - begun
        text = f"{len(created)} keys at once in {took:.3f} s, where each takes {_LATENCY} s"
        self.transcript.did("create", text)
        self.witness.at_once(len(created))
        self.witness.created([row.request() for row in self.customers], created)

    async def _list_all(self, keys: AsyncAPIKeys) -> None:
        before = self.emulator.count("list")
        listed = [
            key
            for workspace_id in [*self.emulator.account.workspaces]
            async for key in keys.iterate(
                include_disabled=True, include_expired=True, workspace_id=workspace_id
            )
        ]
        requests = self.emulator.count("list") - before
        self.transcript.did("iterate", f"{len(listed)} keys in {requests} requests")
        self.witness.listed(listed)

    async def _create_and_get(self, keys: AsyncAPIKeys) -> CreateKeysResponse:
        created = await keys.create(name="demo", limit=50, limit_reset="monthly")
        self.transcript.did("create", f"demo, limit 50 a month: {created.data.label}")
        got = await keys.get(created.data.hash)
        self.transcript.did("get", f"{got.data.name}: {got.data.label}")
        self.witness.got(got.data)
        return created

    async def _update(self, keys: AsyncAPIKeys, hash: str) -> None:
        before = self.witness.stored(hash)
        await keys.update(hash, limit=None)
        self.transcript.did("update", "limit=None: null, no limit any more")
        self.witness.unlimited(before)
        before = self.witness.stored(hash)
        await keys.update(hash, name="renamed")
        self.transcript.did("update", "name='renamed', everything else left out")
        self.witness.changed(before, "name")

    async def _disable_and_enable(self, keys: AsyncAPIKeys, created: CreateKeysResponse) -> None:
        before = self.witness.stored(created.data.hash)
        await keys.update(created.data.hash, disabled=True)
        self.transcript.did("update", "disabled=True")
        self.witness.changed(before, "disabled")
        async with self._client(created.key) as client:
            await self._refused(
                client.api_keys.get_current_key_metadata(), UnauthorizedResponseError
            )
        await keys.update(created.data.hash, disabled=False)
        self.transcript.did("update", "disabled=False")
        self.witness.changed(before)

    async def _current(self, keys: AsyncAPIKeys, created: CreateKeysResponse) -> None:
        manager = (await keys.get_current_key_metadata()).data
        self._manager(is_management_key=manager.is_management_key)
        async with self._client(created.key) as client:
            own = (await client.api_keys.get_current_key_metadata()).data
        self.transcript.did("current", f"of the created key, asked with itself: {own.label}")
        self.witness.current(own, created.data.hash)

    def _manager(self, *, is_management_key: bool) -> None:
        self.transcript.did("current", "of the key that manages the others")
        self.transcript.check("it is a management key", holds=is_management_key)

    async def _bad_keys(self, created: CreateKeysResponse) -> None:
        for key in ("not-a-key", created.key):
            async with self._client(key) as client:
                await self._refused(client.api_keys.list(), UnauthorizedResponseError)

    async def _bad_input(self, keys: AsyncAPIKeys, hash: str) -> None:
        calls: Sequence[Awaitable[object]] = (
            keys.create(name=""),
            keys.create(name="demo", limit=float("nan")),
            keys.create(name="demo", expires_at=datetime(2027, 12, 31)),
            keys.get("../credits"),
            keys.update(hash),
        )
        with self.witness.nothing_sent(len(calls)):
            for call in calls:
                await self._refused(call, InvalidArgumentError)

    async def _delete(self, keys: AsyncAPIKeys, hash: str) -> None:
        before = len(self.emulator.account.keys)
        await keys.delete(hash)
        self.transcript.did("delete", hash)
        self.witness.deleted(hash, before)
        await self._refused(keys.get(hash), NotFoundResponseError)

    async def _refused(self, call: Awaitable[object], kind: type[OpenRouterError]) -> None:
        outcome = await attempt(call)
        error = outcome.error if isinstance(outcome, Err) else None
        self.transcript.did("refused", str(error or "no error"))
        self.transcript.check(f"raised {kind.__name__}", holds=isinstance(error, kind))

    def _create_and_get_blocking(self, keys: APIKeys) -> CreateKeysResponse:
        row = CreateKeysRequest(name="demo", limit=50.0, limit_reset="monthly")
        created = keys.create(name="demo", limit=50, limit_reset="monthly")
        self.transcript.did("create", f"demo, limit 50 a month: {created.data.label}")
        self.witness.created([row], [created])
        got = keys.get(created.data.hash)
        self.transcript.did("get", f"{got.data.name}: {got.data.label}")
        self.witness.got(got.data)
        return created

    def _list_all_blocking(self, keys: APIKeys, newest: str) -> None:
        page = keys.list().data
        self.transcript.did("list", f"{len(page)} keys of the default workspace, one page")
        self.witness.newest(page, newest)
        listed = [
            key
            for workspace_id in [*self.emulator.account.workspaces]
            for key in keys.iterate(
                include_disabled=True, include_expired=True, workspace_id=workspace_id
            )
        ]
        self.transcript.did("iterate", f"{len(listed)} keys")
        self.witness.listed(listed)

    def _update_and_delete_blocking(self, keys: APIKeys, hash: str) -> None:
        before = self.witness.stored(hash)
        keys.update(hash, limit=None)
        self.transcript.did("update", "limit=None: null, no limit any more")
        self.witness.unlimited(before)
        held = len(self.emulator.account.keys)
        keys.delete(hash)
        self.transcript.did("delete", hash)
        self.witness.deleted(hash, held)


async def _create(keys: AsyncAPIKeys, row: KeySpec) -> CreateKeysResponse:
    return await keys.create(
        name=row.name,
        limit=row.limit,
        limit_reset=row.limit_reset,
        include_byok_in_limit=row.include_byok_in_limit,
        expires_at=row.expires_at,
        creator_user_id=row.creator_user_id,
        workspace_id=row.workspace_id,
        external=row.external,
    )
