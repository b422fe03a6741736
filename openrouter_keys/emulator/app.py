"""The emulator itself: an account behind a socket, with faults, latency and a ledger."""

import asyncio
import json
import os
from collections.abc import Iterable
from contextlib import ExitStack
from itertools import count
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
from openrouter_keys.emulator.control import CONTROL, control
from openrouter_keys.emulator.delivery import (
    breaks_delivery,
    broken,
    hold_back,
    hold_up,
    tells_status,
    whole,
)
from openrouter_keys.emulator.faults import Fault, applies, spoiled, strike
from openrouter_keys.emulator.ledger import Request
from openrouter_keys.emulator.limits import RateLimit
from openrouter_keys.emulator.serving import Delivered, Peer, Serving
from openrouter_keys.emulator.state import Account
from openrouter_keys.emulator.store import Store
from openrouter_keys.emulator.times import http_form


class Emulator:
    """OpenRouter's key endpoints on a local socket.

    ``async with`` serves on the running asyncio loop, ``with`` in a background thread. Leaving
    drops what is in flight, late landings included, and keeps the state: entering again goes on.
    Every argument is an attribute too and may be changed while serving, except for ``host``,
    ``port``, ``seed`` and ``state``.

    Args:
        account: the state to serve; None for an empty account, or for the state file's.
        host: the address to listen on.
        port: the port to listen on; 0 for a free one, another at each start.
        latency: seconds that pass before a request is applied and answered.
        rate_limit: how many requests are let in; None for all of them.
        faults: what is to go wrong, first one first; used up as they strike.
        page_size: how many keys a list answers at most.
        seed: of the chance in faults with a probability.
        state: an SQLite file that keys, management key, workspaces and ledger (without headers
            and bodies) are read from now and kept in while serving. What a request did is in it
            before its client can know, even if this process is killed; what is changed by hand
            is written on leaving. None keeps nothing.

    Raises:
        StateError: the state file is not an emulator's, in use, or of another account.
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
        state: str | os.PathLike[str] | None = None,
    ) -> None:
        self.account = Account() if account is None else account
        self.latency = latency
        self.rate_limit = rate_limit
        self.faults = [*faults]
        self.page_size = page_size
        self._store = None if state is None else Store(state)
        self.requests: list[Request] = [] if self._store is None else self._store.load(self.account)
        self._numbers = count(self.requests[-1].number + 1 if self.requests else 1)
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
        return f"{self._origin}/api/v1"

    @property
    def control_url(self) -> str:
        """Where tests in other processes look at it and change it, with the management key.

        Raises:
            RuntimeError: the port is not known before the emulator is entered.
        """
        return f"{self._origin}{CONTROL}"

    @property
    def _origin(self) -> str:
        if not self._port:
            raise RuntimeError("The emulator has no port yet: enter it with `with` or `async with`")
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._port}"

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
        if self._store is not None:
            self._store.open(self.account)
        self._serving = Serving(self._answer)
        try:
            self._port = await self._serving.start(self._host, self._wanted_port)
        except BaseException:
            await self._stop()
            raise

    async def _stop(self) -> None:
        serving, self._serving = self._serving, None
        try:
            if serving is not None:
                await serving.stop()
        finally:
            if self._store is not None:
                self._store.close(self.account)

    async def _answer(self, request: web.BaseRequest, peer: Peer) -> web.StreamResponse:
        if request.raw_path.startswith(f"{CONTROL}/"):
            return await self._control(request)
        seen = self._seen(request, peer)
        if not await self._heard(request, seen):
            return Delivered()
        limited = self._limited()
        fault = None if limited or seen.operation == "unknown" else self._strike(seen)
        await self._keep(seen)
        await asyncio.sleep(self.latency)
        await hold_back(fault, peer)
        answer = limited or self._apply(seen, fault)
        if fault is None or tells_status(fault):
            seen.status = answer.status
        await self._keep(seen)
        await hold_up(fault)
        return await self._deliver(request, answer, fault, peer)

    async def _control(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await _body_of(request)
        if body is None:
            return Delivered()
        if self._store is not None:
            self._store.commit()
        secret = request.headers.get("Authorization", "")
        return whole(request, control(self, request.method, request.raw_path, secret, body))

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
            number=next(self._numbers),
        )
        self.requests.append(seen)
        return seen

    async def _heard(self, request: web.BaseRequest, seen: Request) -> bool:
        """Whether all of the request has come."""
        body = await _body_of(request)
        if body is None:
            await self._keep(seen)
            return False
        seen.body, seen.name = body, _name_in(body)
        return True

    async def _keep(self, seen: Request) -> None:
        """Have it in the file, if there is one, before anybody can learn of it."""
        if self._store is not None:
            self._store.save(seen, self.account)
            await asyncio.sleep(0)  # all who come in one turn of the loop share a commit
            self._store.commit()

    def _limited(self) -> Answer | None:
        limit, now = self.rate_limit, self.account.clock()
        wait = limit.wait(now) if limit else 0
        return error_answer(429).with_headers(limit.headers(wait, now)) if limit and wait else None

    def _strike(self, seen: Request) -> Fault | None:
        fault = strike(self.faults, seen.operation, self._random)
        seen.fault = fault.kind if fault else None
        return fault

    def _apply(self, seen: Request, fault: Fault | None) -> Answer:
        """Apply the request, if the fault lets it be, and spoil the answer."""
        if applies(fault):
            answer = perform(self.account, seen, page_size=self.page_size)
        else:
            answer = json_answer(success_status(seen.operation), {"data": {}})
        return spoiled(fault, answer) if fault else answer

    async def _deliver(
        self, request: web.BaseRequest, answer: Answer, fault: Fault | None, peer: Peer
    ) -> web.StreamResponse:
        # By the account's clock, not the machine's: clients tell the service's time by it.
        answer = answer.with_headers({"Date": http_form(self.account.clock())})
        if fault and breaks_delivery(fault):
            return await broken(fault, answer, peer)
        return whole(request, answer)


async def _body_of(request: web.BaseRequest) -> bytes | None:
    """The whole body; None if the client has gone in the midst of it."""
    try:
        return await request.content.read()
    except (ConnectionError, web.RequestPayloadError):
        return None


def _name_in(body: bytes) -> str | None:
    try:
        fields: object = json.loads(body)
    except (ValueError, RecursionError):
        return None
    name = cast("dict[str, object]", fields).get("name") if isinstance(fields, dict) else None
    return name if isinstance(name, str) else None
