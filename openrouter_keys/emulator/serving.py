"""A socket that hands over HTTP requests and can be stopped at once. Knows nothing of keys."""

import asyncio
from collections.abc import Awaitable, Callable
from itertools import count
from logging import Logger
from typing import Final, TypeAlias, cast

from aiohttp import web
from attrs import Factory, define

# aiohttp takes 0 for "wait for ever"; nothing is left to wait for when it comes to this.
_SHUTDOWN_SECONDS: Final = 0.05


@define(eq=False)
class Peer:
    """The client's end of one TCP connection."""

    number: int
    transport: asyncio.Transport
    gone: asyncio.Event = Factory(asyncio.Event)


Handler: TypeAlias = Callable[[web.BaseRequest, Peer], Awaitable[web.StreamResponse]]


class Delivered(web.StreamResponse):
    """Everything was sent already, or nothing is to be; aiohttp then closes the connection."""

    async def prepare(self, request: web.BaseRequest) -> None:
        """Send no status line and no headers."""

    async def write_eof(self, data: bytes = b"") -> None:
        """Send no body."""


class _Connection(web.RequestHandler):
    """Knows its peer, even when that has gone before its request is looked at."""

    peer: Peer
    peers: set[Peer]
    number: int

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.peer = Peer(self.number, cast("asyncio.Transport", transport))
        self.peers.add(self.peer)
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        self.peers.discard(self.peer)
        self.peer.gone.set()


class _Server(web.Server):
    def __init__(self, handler: Handler) -> None:
        super().__init__(self._guarded)
        self.peers: set[Peer] = set()
        self._answer = handler
        self._numbers = count(1)
        self._busy: set[asyncio.Task[object]] = set()
        self._stopping = False

    def __call__(self) -> web.RequestHandler:
        # aiohttp itself says "no access log" with None, though its types do not know.
        silent = cast("Logger", None)
        connection = _Connection(self, loop=asyncio.get_running_loop(), access_log=silent)
        connection.peers, connection.number = self.peers, next(self._numbers)
        return connection

    async def _guarded(self, request: web.BaseRequest) -> web.StreamResponse:
        task = cast("asyncio.Task[object]", asyncio.current_task())
        if self._stopping:
            return Delivered()
        self._busy.add(task)
        try:
            return await self._answer(request, cast("_Connection", request.protocol).peer)
        finally:
            self._busy.discard(task)

    async def abandon(self) -> None:
        """Answer nobody any more, however far the answers are."""
        self._stopping = True
        for task in self._busy:
            task.cancel()
        await asyncio.gather(*self._busy, return_exceptions=True)

    async def drop(self) -> None:
        """Close every connection, even to a client that does not read."""
        for peer in [*self.peers]:
            peer.transport.abort()
            await peer.gone.wait()


class Serving:
    """A server on the running loop, from `start` to `stop`."""

    def __init__(self, handler: Handler) -> None:
        self._server = _Server(handler)
        self._runner = web.ServerRunner(self._server, shutdown_timeout=_SHUTDOWN_SECONDS)

    async def start(self, host: str, port: int) -> int:
        """Listen, and return the port: a free one if it was 0."""
        await self._runner.setup()
        self._site = web.TCPSite(self._runner, host, port)
        await self._site.start()
        address = cast("tuple[str, int]", self._runner.addresses[0])
        return address[1]

    async def stop(self) -> None:
        """Stop listening, abandon the requests in flight and close every connection."""
        await self._site.stop()
        await self._server.abandon()
        await self._runner.cleanup()
        await self._server.drop()
