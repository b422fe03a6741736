"""Answers a request: notes it, strikes it with a fault, applies it, stores it. No server."""

import asyncio
import json
from itertools import count
from random import Random
from threading import Lock
from typing import cast

from aiohttp import web

from openrouter_keys.emulator.answers import (
    Answer,
    bearer,
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
from openrouter_keys.emulator.ledger import Ledger, Request, shown_agent
from openrouter_keys.emulator.page import open_to_all
from openrouter_keys.emulator.refusals import Refusal
from openrouter_keys.emulator.serving import Delivered, Peer
from openrouter_keys.emulator.store import Store
from openrouter_keys.emulator.times import http_form


class Exchange:
    """Answers requests for an emulator.

    Args:
        emulator: has the account, faults and settings.
        ledger: where it notes requests.
        host: the address to listen on.
        store: where each change is stored before its answer is sent. None: nowhere.
        seed: of the random choice of faults.
    """

    def __init__(
        self, emulator: Controlled, ledger: Ledger, host: str, store: Store | None, seed: int
    ) -> None:
        self._emulator = emulator
        self._ledger = ledger
        self._host = host
        self._store = store
        self._seed = seed
        self._random = Random(seed)  # noqa: S311  repeatable, and no secret
        last = emulator.requests[-1].number if emulator.requests else ledger.last_dropped
        self._numbers = count(last + 1)
        self._era = 0
        self._applying = Lock()

    def start_anew(self) -> None:
        """Remove keys and requests, drop every request in flight, and count from one again."""
        with self._applying:
            self._era += 1
            self._random.seed(self._seed)
            self._numbers = count(1)
            self._ledger.clear()
            self._emulator.account.clear()
        if self._store is not None:
            self._store.start_anew(self._emulator.account)

    async def answer(self, request: web.BaseRequest, peer: Peer) -> web.StreamResponse:
        """Answer a request, as far as a fault allows."""
        if opened := open_to_all(request.method, request.raw_path, request.headers, self._host):
            return whole(request, opened)
        if request.raw_path.startswith(f"{CONTROL}/"):
            return await self._control(request, peer)
        era, seen = self._era, self._enter(request, peer)
        try:
            body, seen.size = await self._read(request)
        except (ConnectionError, web.RequestPayloadError):
            await self._keep(seen, era)
            return Delivered()
        peer.has_sent()
        if era != self._era:
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

    async def _control(self, request: web.BaseRequest, peer: Peer) -> web.StreamResponse:
        try:
            body, size = await self._read(request)
        except (ConnectionError, web.RequestPayloadError):
            return Delivered()
        peer.has_sent()
        if size > self._emulator.max_body:
            return whole(request, error_answer(413))
        secret = request.headers.get("Authorization", "")
        answer = control(self._emulator, request.method, request.raw_path, secret, body)
        if self._store is not None:
            self._store.commit()
        return whole(request, answer)

    async def _read(self, request: web.BaseRequest) -> tuple[bytes, int]:
        """Return what is kept of a body, and how much was read: a part, if it is too long.

        Raises:
            ConnectionError: the client has disconnected.
            web.RequestPayloadError: it is cut off, or not in the form that its headers say.
        """
        if not request.body_exists:
            return b"", 0
        kept, most = bytearray(), self._emulator.max_body
        if request.content_length is not None and request.content_length > most:
            return b"", request.content_length
        manages, size = self._manages(request), 0
        while not request.content.at_eof():
            data = await request.content.readany()
            size += len(data)
            if size > most:
                return b"", size
            if manages:
                kept += data
        return bytes(kept), size

    def _manages(self, request: web.BaseRequest) -> bool:
        try:
            secret = bearer(request.headers.get("Authorization", ""))
        except Refusal:
            return False
        return secret == self._emulator.account.management_key

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
            user_agent=shown_agent(request.headers.get("User-Agent", "")),
        )
        self._ledger.add(seen)
        return seen

    def _refused(self, seen: Request, body: bytes) -> Answer | None:
        """Note the body, and return the answer if the service refuses the request unread."""
        if seen.size > self._emulator.max_body:
            return error_answer(413)
        if body:
            self._ledger.add_body(seen, body, _name_in(body))
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
        """Store the request, if there is a file, before its answer is sent."""
        if self._store is not None and era == self._era:
            self._store.save(seen, self._emulator.account)
            self._store.drop(self._ledger.last_dropped, self._emulator.dropped)
            await asyncio.sleep(0)  # all requests in one turn of the loop share a commit
            self._store.commit()

    async def _pass_time(self, fault: Fault | None, peer: Peer) -> None:
        if self._emulator.latency:
            await asyncio.sleep(self._emulator.latency)
        await hold_back(fault, peer)

    def _apply(self, seen: Request, fault: Fault | None) -> Answer:
        """Apply the request, if the fault allows, and spoil the answer."""
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
        # By the account's clock, not the machine's: clients read the service's time from it.
        answer = answer.with_headers({"Date": http_form(self._emulator.account.clock())})
        if fault and breaks_delivery(fault):
            return await broken(fault, answer, peer)
        return whole(request, answer)


def _name_in(body: bytes) -> str | None:
    try:
        fields: object = json.loads(body)
    except (ValueError, RecursionError):
        return None
    name = cast("dict[str, object]", fields).get("name") if isinstance(fields, dict) else None
    return name if isinstance(name, str) else None
