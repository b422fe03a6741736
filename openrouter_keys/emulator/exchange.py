"""How a request is answered: noted, struck by a fault, applied, kept, told. Starts no server."""

import asyncio
import json
from itertools import count
from random import Random
from threading import Lock
from typing import cast

from aiohttp import web

from openrouter_keys.emulator.answers import (
    Answer,
    error_answer,
    json_answer,
    limited,
    parse,
    perform,
    success_status,
)
from openrouter_keys.emulator.contracts import CONTRACTS
from openrouter_keys.emulator.control import CONTROL, Controlled, control
from openrouter_keys.emulator.delivery import (
    breaks_delivery,
    broken,
    hold_back,
    hold_up,
    tells_status,
    whole,
)
from openrouter_keys.emulator.faults import Fault, applies, spoiled, strike
from openrouter_keys.emulator.ledger import Request, drop_oldest
from openrouter_keys.emulator.page import open_to_all
from openrouter_keys.emulator.serving import Delivered, Peer
from openrouter_keys.emulator.store import Store
from openrouter_keys.emulator.times import http_form


class Exchange:
    """Answers requests for an emulator.

    Args:
        emulator: whose account, faults, settings and ledger it goes by.
        host: the address that it was told to listen on.
        store: where what was done is kept before anybody learns of it; None for nowhere.
        seed: of the chance in faults.
    """

    def __init__(self, emulator: Controlled, host: str, store: Store | None, seed: int) -> None:
        self._emulator = emulator
        self._host = host
        self._store = store
        self._seed = seed
        self._random = Random(seed)  # noqa: S311  chance that can be repeated, no secret
        last = emulator.requests[-1].number if emulator.requests else 0
        self._numbers = count(last + 1)
        self._era = 0
        self._applying = Lock()

    def start_anew(self) -> None:
        """Forget keys and requests, let nothing land that came until now, count from one again."""
        with self._applying:
            self._era += 1
            self._random.seed(self._seed)
            self._numbers = count(1)
            self._emulator.requests.clear()
            self._emulator.dropped.clear()
            self._emulator.account.clear()
        if self._store is not None:
            self._store.start_anew(self._emulator.account)

    async def answer(self, request: web.BaseRequest, peer: Peer) -> web.StreamResponse:
        """Answer a request, in whatever way a fault lets it be answered."""
        if opened := open_to_all(request.method, request.raw_path, request.headers, self._host):
            return whole(request, opened)
        if request.raw_path.startswith(f"{CONTROL}/"):
            return await self._control(request)
        era, seen = self._era, self._enter(request, peer)
        body = await _body_of(request, self._emulator.max_body)
        if body is None:
            await self._keep(seen, era)
            return Delivered()
        refused = self._refused(seen, body)
        fault = None if refused or seen.operation == "unknown" else self._strike(seen)
        await self._keep(seen, era)
        await self._pass_time(fault, peer)
        with self._applying:
            if era != self._era:
                return Delivered()
            answer = refused or self._apply(seen, fault)
        if fault is None or tells_status(fault):
            seen.status = answer.status
        await self._keep(seen, era)
        await hold_up(fault)
        return await self._deliver(request, answer, fault, peer)

    async def _control(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await _body_of(request, self._emulator.max_body)
        if body is None:
            return Delivered()
        secret = request.headers.get("Authorization", "")
        answer = control(self._emulator, request.method, request.raw_path, secret, body)
        if self._store is not None:
            self._store.commit()
        return whole(request, answer)

    def _enter(self, request: web.BaseRequest, peer: Peer) -> Request:
        operation, named, query = parse(request.method, request.raw_path)
        seen = Request(
            operation=operation,
            method=request.method,
            path=request.raw_path,
            query=query,
            headers={name.lower(): text for name, text in request.headers.items()},
            connection=peer.number,
            hash=named,
            number=next(self._numbers),
        )
        self._emulator.requests.append(seen)
        if len(self._emulator.requests) > self._emulator.ledger_size:
            self._emulator.dropped.update(
                drop_oldest(self._emulator.requests, self._emulator.ledger_size)
            )
        return seen

    def _refused(self, seen: Request, body: bytes) -> Answer | None:
        """Note the body; the answer, if the service looks no further."""
        if len(body) > self._emulator.max_body:
            return error_answer(413)
        seen.body, seen.name = body, _name_in(body)
        limit, now = self._emulator.rate_limit, self._emulator.account.clock()
        wait = limit.wait(now) if limit else 0
        if not (limit and wait):
            return None
        named = {} if limit.name is None else {"limit_name": limit.name}
        return limited(named).with_headers(limit.headers(wait, now))

    def _strike(self, seen: Request) -> Fault | None:
        fault = strike(self._emulator.faults, seen.operation, self._random)
        seen.fault = fault.kind if fault else None
        return fault

    async def _keep(self, seen: Request, era: int) -> None:
        """Have it in the file, if there is one, before anybody can learn of it."""
        if self._store is not None and era == self._era:
            self._store.save(seen, self._emulator.account)
            await asyncio.sleep(0)  # all who come in one turn of the loop share a commit
            self._store.commit()

    async def _pass_time(self, fault: Fault | None, peer: Peer) -> None:
        if self._emulator.latency:
            await asyncio.sleep(self._emulator.latency)
        await hold_back(fault, peer)

    def _apply(self, seen: Request, fault: Fault | None) -> Answer:
        """Apply the request, if the fault lets it be, and spoil the answer."""
        emulator = self._emulator
        if applies(fault):
            contract = CONTRACTS[emulator.contract]
            answer = perform(
                emulator.account,
                seen,
                page_size=emulator.page_size,
                contract=contract,
                quota=emulator.daily_quota,
            )
        else:
            answer = json_answer(success_status(seen.operation), {"data": {}})
        return spoiled(fault, answer) if fault else answer

    async def _deliver(
        self, request: web.BaseRequest, answer: Answer, fault: Fault | None, peer: Peer
    ) -> web.StreamResponse:
        # By the account's clock, not the machine's: clients tell the service's time by it.
        answer = answer.with_headers({"Date": http_form(self._emulator.account.clock())})
        if fault and breaks_delivery(fault):
            return await broken(fault, answer, peer)
        return whole(request, answer)


async def _body_of(request: web.BaseRequest, most: int) -> bytes | None:
    """The body, or more than the most that is wanted of it; None if it breaks off."""
    body = bytearray()
    try:
        async for data in request.content.iter_any():
            # To its end even so: who is still sending would not see the answer.
            if len(body) <= most:
                body += data
    except (ConnectionError, web.RequestPayloadError):
        return None
    return bytes(body)


def _name_in(body: bytes) -> str | None:
    try:
        fields: object = json.loads(body)
    except (ValueError, RecursionError):
        return None
    name = cast("dict[str, object]", fields).get("name") if isinstance(fields, dict) else None
    return name if isinstance(name, str) else None
