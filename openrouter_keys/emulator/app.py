"""The emulator itself: an account behind a socket, with faults, latency and a ledger."""

import asyncio
import json
from collections.abc import Iterable
from contextlib import ExitStack
from random import Random
from types import TracebackType
from typing import Self, cast

from aiohttp import web
from anyio.from_thread import start_blocking_portal

from openrouter_keys.emulator.answers import (
    Answer,
    error_answer,
    json_answer,
    parse,
    perform,
    success_status,
)
from openrouter_keys.emulator.delivery import breaks_delivery, broken, leave, tells_status, whole
from openrouter_keys.emulator.faults import Fault, spoiled, strike
from openrouter_keys.emulator.ledger import Request
from openrouter_keys.emulator.limits import RateLimit
from openrouter_keys.emulator.serving import Delivered, Peer, Serving
from openrouter_keys.emulator.state import Account
from openrouter_keys.emulator.times import http_form


class Emulator:
    """OpenRouter's key endpoints on a local socket.

    ``async with`` serves on the running asyncio loop, ``with`` in a background thread. Leaving
    drops what is in flight, late landings included, and keeps the state: entering again goes on.
    Every argument is an attribute too and may be changed while serving, except for ``host``,
    ``port`` and ``seed``.

    Args:
        account: the state to serve; None for an empty account.
        host: the address to listen on.
        port: the port to listen on; 0 for a free one, another at each start.
        latency: seconds that pass before a request is applied and answered.
        rate_limit: how many requests are let in; None for all of them.
        faults: what is to go wrong, first one first; used up as they strike.
        page_size: how many keys a list answers at most.
        seed: of the chance in faults with a probability.
    """

    def __init__(
        self,
        account: Account | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        latency: float = 0.0,
        rate_limit: RateLimit | None = None,
        faults: Iterable[Fault] = (),
        page_size: int = 100,
        seed: int = 0,
    ) -> None:
        self.account = Account() if account is None else account
        self.latency = latency
        self.rate_limit = rate_limit
        self.faults = [*faults]
        self.page_size = page_size
        self.requests: list[Request] = []
        self._host = host
        self._wanted_port = self._port = port
        self._random = Random(seed)  # noqa: S311  chance that can be repeated, no secret
        self._serving: Serving | None = None
        self._background = ExitStack()

    @property
    def base_url(self) -> str:
        """Where the operations are; after leaving, where they were.

        Raises:
            RuntimeError: the port is not known before the emulator is entered.
        """
        if not self._port:
            raise RuntimeError("The emulator has no port yet: enter it with `with` or `async with`")
        return f"http://{self._host}:{self._port}/api/v1"

    @property
    def api_key(self) -> str:
        """The management key."""
        return self.account.management_key

    def count(self, operation: str) -> int:
        """How many requests of this operation have arrived."""
        return sum(request.operation == operation for request in self.requests)

    async def __aenter__(self) -> Self:
        await self._start()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._stop()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            portal = stack.enter_context(start_blocking_portal("asyncio"))
            portal.call(self._start)
            stack.callback(portal.call, self._stop)
            self._background = stack.pop_all()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._background.close()

    async def _start(self) -> None:
        if self._serving is not None:
            raise RuntimeError("The emulator is serving already")
        self._serving = Serving(self._answer)
        try:
            self._port = await self._serving.start(self._host, self._wanted_port)
        except BaseException:
            await self._stop()
            raise

    async def _stop(self) -> None:
        serving, self._serving = self._serving, None
        if serving is not None:
            await serving.stop()

    async def _answer(self, request: web.BaseRequest, peer: Peer) -> web.StreamResponse:
        seen = self._seen(request, peer)
        try:
            seen.body = await request.content.read()
        except (ConnectionError, web.RequestPayloadError):
            return Delivered()
        seen.name = _name_in(seen.body)
        limited = self._limited()
        fault = None if limited or seen.operation == "unknown" else self._strike(seen)
        await asyncio.sleep(self.latency)
        answer = limited or await self._settle(seen, fault, peer)
        return await self._deliver(request, seen, answer, fault, peer)

    def _seen(self, request: web.BaseRequest, peer: Peer) -> Request:
        operation, named, query = parse(request.method, request.raw_path)
        seen = Request(
            operation=operation,
            method=request.method,
            path=request.raw_path,
            query=query,
            headers={name.lower(): text for name, text in request.headers.items()},
            connection=peer.number,
            hash=named,
        )
        self.requests.append(seen)
        return seen

    def _limited(self) -> Answer | None:
        limit, now = self.rate_limit, self.account.clock()
        wait = limit.wait(now) if limit else 0
        return error_answer(429).with_headers(limit.headers(wait, now)) if limit and wait else None

    def _strike(self, seen: Request) -> Fault | None:
        fault = strike(self.faults, seen.operation, self._random)
        seen.fault = fault.kind if fault else None
        return fault

    async def _settle(self, seen: Request, fault: Fault | None, peer: Peer) -> Answer:
        """Apply the request, if and when the fault lets it be."""
        if fault is None or fault.kind in {"late", "slow"}:
            return await self._apply_in_time(seen, fault, peer)
        if fault.phase == "after":
            return spoiled(fault, self._apply(seen))
        return spoiled(fault, json_answer(success_status(seen.operation), {"data": {}}))

    async def _apply_in_time(self, seen: Request, fault: Fault | None, peer: Peer) -> Answer:
        if fault and fault.kind == "late":
            await leave(peer, fault.delay)
        elif fault and fault.phase == "before":
            await asyncio.sleep(fault.delay)
        answer = self._apply(seen)
        if fault and fault.kind == "slow" and fault.phase == "after":
            await asyncio.sleep(fault.delay)
        return answer

    def _apply(self, seen: Request) -> Answer:
        return perform(self.account, seen, page_size=self.page_size)

    async def _deliver(
        self,
        request: web.BaseRequest,
        seen: Request,
        answer: Answer,
        fault: Fault | None,
        peer: Peer,
    ) -> web.StreamResponse:
        # By the account's clock, not the machine's: clients tell the service's time by it.
        answer = answer.with_headers({"Date": http_form(self.account.clock())})
        if fault is None or tells_status(fault):
            seen.status = answer.status
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
