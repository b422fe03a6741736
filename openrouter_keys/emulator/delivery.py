"""Sends an answer, whole or as a fault lets it through. Knows nothing of keys."""

import asyncio
import socket
import struct
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from http import HTTPStatus
from typing import Final, TypeAlias

from aiohttp import HttpVersion11, web

from openrouter_keys.emulator.answers import Answer
from openrouter_keys.emulator.faults import Fault
from openrouter_keys.emulator.serving import Delivered, Peer

# On, for zero seconds: closing discards unsent data and resets the connection.
_NO_LINGER: Final = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)
_GARBAGE: Final = b"\x16\x03\x01\x00\xff this is not HTTP \x00\r\n\r\n"


def whole(request: web.BaseRequest, answer: Answer) -> web.StreamResponse:
    """Return the answer as the service sends it: in chunks, without ``Content-Length``."""
    response = web.Response(status=answer.status, headers=answer.headers, body=answer.body)
    if request.version >= HttpVersion11 and "Content-Length" not in response.headers:
        response.enable_chunked_encoding()
    if request.can_read_body:  # it stays unread, and must not pass for the next request
        response.force_close()
    return response


def tells_status(fault: Fault) -> bool:
    """Return whether the client of a struck request gets a status line."""
    return fault.kind not in {"closed", "reset", "stalled", "garbage", "late"}


def breaks_delivery(fault: Fault) -> bool:
    """Return whether something other than the whole answer is sent."""
    return fault.kind in _BREAKS


async def broken(fault: Fault, answer: Answer, peer: Peer) -> web.StreamResponse:
    """Send what the fault lets through of the answer."""
    await _BREAKS[fault.kind](fault, answer, peer)
    return Delivered()


def _head(answer: Answer, framing: str) -> bytes:
    known = answer.status in set(HTTPStatus)
    phrase = HTTPStatus(answer.status).phrase if known else "Unknown"
    headers = [f"{name}: {text}" for name, text in answer.headers.items()]
    lines = [f"HTTP/1.1 {answer.status} {phrase}", *headers, framing]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def _portion(fault: Fault, answer: Answer) -> bytes:
    return answer.body[: int(len(answer.body) * fault.portion)]


def _begin(fault: Fault, answer: Answer, peer: Peer) -> None:
    # A chunk with its full length and a part of its bytes: the client can see that more follows.
    head = _head(answer, "Transfer-Encoding: chunked")
    peer.transport.write(head + b"%x\r\n" % len(answer.body) + _portion(fault, answer))


def _end_abruptly(peer: Peer) -> None:
    connection: socket.socket = peer.transport.get_extra_info("socket")
    with suppress(OSError):  # the client has disconnected already
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
    peer.transport.abort()


async def _closed(_fault: Fault, _answer: Answer, _peer: Peer) -> None:
    """Send nothing; `Delivered` closes the connection."""


async def _reset(_fault: Fault, _answer: Answer, peer: Peer) -> None:
    _end_abruptly(peer)


async def _stalled(_fault: Fault, _answer: Answer, peer: Peer) -> None:
    await peer.gone.wait()


async def _stalled_body(fault: Fault, answer: Answer, peer: Peer) -> None:
    _begin(fault, answer, peer)
    await peer.gone.wait()


async def _cut(fault: Fault, answer: Answer, peer: Peer) -> None:
    # Neither a length nor chunks: the client cannot see that this is not the end.
    peer.transport.write(_head(answer, "Connection: close") + _portion(fault, answer))


async def _reset_body(fault: Fault, answer: Answer, peer: Peer) -> None:
    _begin(fault, answer, peer)
    _end_abruptly(peer)


async def _garbage(_fault: Fault, _answer: Answer, peer: Peer) -> None:
    peer.transport.write(_GARBAGE)


_Break: TypeAlias = Callable[[Fault, Answer, Peer], Awaitable[None]]
_BREAKS: Final[dict[str, _Break]] = {
    "closed": _closed,
    "reset": _reset,
    "stalled": _stalled,
    "stalled_body": _stalled_body,
    "cut": _cut,
    "reset_body": _reset_body,
    "garbage": _garbage,
}


async def hold_back(fault: Fault | None, peer: Peer) -> None:
    """Wait as the fault says between a request's arrival and its application."""
    if fault and fault.kind == "late":
        peer.transport.close()
        await peer.gone.wait()
    if fault and (fault.kind == "late" or (fault.kind, fault.phase) == ("slow", "before")):
        await asyncio.sleep(fault.delay)


async def hold_up(fault: Fault | None) -> None:
    """Wait as the fault says between a request's application and its answer."""
    if fault and (fault.kind, fault.phase) == ("slow", "after"):
        await asyncio.sleep(fault.delay)
