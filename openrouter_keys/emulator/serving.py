"""An HTTP server that can stop at once. Knows nothing of keys."""

import asyncio
from collections.abc import Awaitable, Callable
from enum import Enum
from itertools import count
from logging import Logger
from operator import attrgetter
from typing import Final, Protocol, TypeAlias, cast

from aiohttp import web
from aiohttp.http import RawRequestMessage
from attrs import Factory, define

# For aiohttp, 0 means "wait for ever"; by then nothing is left to wait for.
_SHUTDOWN_SECONDS: Final = 0.05
# For the rest of a body when its request is already answered: a client that still sends would not
# see the answer if the connection closed.
_LINGERING_SECONDS: Final = 10.0
# Bytes of headers in requests that a client sent ahead; aiohttp accepts a megabyte for each.
_MOST_AHEAD: Final = 2_000_000


class Bounds(Protocol):
    """How many connections may be open, and how many seconds they may take."""

    connections: int
    client_timeout: float
    idle_timeout: float


class Turn(Enum):
    """What a connection waits for."""

    REQUEST = "its client may begin a request"
    REST = "its client has begun a request"
    ANSWER = "the request is whole"
    TAKING = "its client has to take the answer"


# Each request reads them, and reading an enum member costs more.
_REQUEST, _REST, _ANSWER, _TAKING = Turn


@define(eq=False)
class Peer:
    """The client's end of one TCP connection.

    Args:
        number: the connection's, from 1.
        transport: the connection.
        gone: set when the connection has ended.
        turn: what it waits for.
        since: the loop's time at which that wait began.
    """

    number: int
    transport: asyncio.Transport
    gone: asyncio.Event = Factory(asyncio.Event)
    turn: Turn = _REQUEST
    since: float = Factory(lambda: asyncio.get_running_loop().time())

    def has_sent(self) -> None:
        """Note that the whole request has arrived."""
        self.turn = _ANSWER


Handler: TypeAlias = Callable[[web.BaseRequest, Peer], Awaitable[web.StreamResponse]]


class Delivered(web.StreamResponse):
    """Sends nothing, since all is sent or nothing must be; aiohttp then closes the connection."""

    async def prepare(self, request: web.BaseRequest) -> None:
        """Send no status line and no headers."""

    async def write_eof(self, data: bytes = b"") -> None:
        """Send no body."""


class _Connection(web.RequestHandler):
    """Knows its peer, even after it disconnected, and bounds the wait for it.

    aiohttp itself closes idle connections.
    """

    def __init__(self, server: "_Server", number: int, bounds: Bounds) -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            # None means "no access log" in aiohttp, though its types do not say so.
            access_log=cast("Logger", None),
            keepalive_timeout=bounds.idle_timeout,
            lingering_time=min(bounds.client_timeout, _LINGERING_SECONDS),
        )
        self._server = server
        self._number = number
        self._seconds = bounds.client_timeout
        self._timer: asyncio.TimerHandle | None = None
        self._ahead = 0
        self._more = False
        self._afterwards = _REQUEST

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.peer = Peer(self._number, cast("asyncio.Transport", transport))
        self.peer.transport.set_write_buffer_limits(0)  # to notice all unread data
        self._server.peers.add(self.peer)
        super().connection_made(transport)
        self._server.make_room()

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        self._server.peers.discard(self.peer)
        self.peer.gone.set()
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        turn = self.peer.turn
        if turn is _REQUEST:
            self._wait_for(_REST)
        elif turn is not _REST:
            self._more = True  # a part of the next request, or all of it
        super().data_received(data)
        if self._messages:
            self._ahead += len(data)
            if self._ahead > _MOST_AHEAD:
                self._look_ahead()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._afterwards = self.peer.turn
        self._wait_for(_TAKING)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._wait_for(self._afterwards)

    def begin(self) -> None:
        """Wait for the rest of a request after its head."""
        self._more = False
        if self.peer.turn is not _REST:  # it was sent ahead
            self._wait_for(_REST)

    def end(self) -> None:
        """Wait for the next request, once the client has read this answer."""
        turn = _REST if self._more else _REQUEST
        if self.peer.turn is _TAKING:
            self._afterwards = turn
        else:
            self._wait_for(turn)

    def _wait_for(self, turn: Turn) -> None:
        peer, now = self.peer, self._loop.time()
        peer.turn, peer.since = turn, now
        # It stays after the turn: a timer for each request would cost more.
        if self._timer is None and (turn is _REST or turn is _TAKING):
            self._timer = self._loop.call_at(now + self._seconds, self._look)

    def _look(self) -> None:
        """Close the connection if its client has taken too long."""
        self._timer, peer = None, self.peer
        if peer.turn in {_REST, _TAKING}:
            due = peer.since + self._seconds
            if self._loop.time() < due:
                self._timer = self._loop.call_at(due, self._look)
            else:
                peer.transport.abort()

    def _look_ahead(self) -> None:
        """Close the connection if the headers that it sent ahead are too large."""
        self._ahead = sum(
            len(name) + len(value)
            for message, _ in self._messages
            if isinstance(message, RawRequestMessage)
            for name, value in message.raw_headers
        )
        if self._ahead > _MOST_AHEAD:
            self.peer.transport.abort()


class _Server(web.Server):
    def __init__(self, handler: Handler, bounds: Bounds) -> None:
        super().__init__(self._guarded)
        self.peers: set[Peer] = set()
        self._answer = handler
        self._bounds = bounds
        self._numbers = count(1)
        self._busy: set[asyncio.Task[object]] = set()
        self._stopping = False

    def __call__(self) -> web.RequestHandler:
        return _Connection(self, next(self._numbers), self._bounds)

    async def _guarded(self, request: web.BaseRequest) -> web.StreamResponse:
        task = cast("asyncio.Task[object]", asyncio.current_task())
        if self._stopping:
            return Delivered()
        connection = cast("_Connection", request.protocol)
        connection.begin()
        self._busy.add(task)
        try:
            return await self._answer(request, connection.peer)
        finally:
            self._busy.discard(task)
            connection.end()

    def make_room(self) -> None:
        """If there are too many connections, close the one whose client lets us wait longest."""
        if len(self.connections) > self._bounds.connections:
            waiting = [peer for peer in self.peers if peer.turn is not _ANSWER]
            open_ = [peer for peer in waiting if not peer.transport.is_closing()]
            min(open_, key=attrgetter("since", "number")).transport.abort()

    async def abandon(self) -> None:
        """Answer no request any more, also none in progress."""
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
    """A server on the running loop, from `start` to `stop`.

    Args:
        handler: answers requests.
        bounds: read again each time, so that they may change.
    """

    def __init__(self, handler: Handler, bounds: Bounds) -> None:
        self._server = _Server(handler, bounds)
        self._runner = web.ServerRunner(self._server, shutdown_timeout=_SHUTDOWN_SECONDS)

    async def start(self, host: str, port: int) -> int:
        """Listen, and return the port; 0 means a free one."""
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
