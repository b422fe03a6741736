"""A proxy on loopback, and TLS in front of an emulator: raw sockets, as the real ones have."""

import asyncio
import base64
import ssl
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress

import trustme
from attrs import define, field, frozen

#: A name that no DNS knows: only a proxy leads there.
HOST = "openrouter.test"
ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"
ASKS = b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n"


@define
class Proxy:
    """A proxy: of CONNECT, and of plain requests (one for each connection).

    Args:
        upstream: the port on loopback that everything leads to, whatever is asked for.
        credentials: `user:password`; None: it asks for none.
        refusal: what it answers instead; `{told}` becomes the credentials that it was given.
        cut: when it hangs up: "accepted", "asked", "half" of its answer, "established".
        arrived: how many requests came upstream; where one more comes, it hangs up.
        context: its own TLS, for an https:// proxy.

    Attributes:
        heads: what it was asked, one for each connection.
    """

    upstream: int
    credentials: str | None = None
    refusal: bytes | None = None
    cut: str = ""
    arrived: Callable[[], int] = int
    context: ssl.SSLContext | None = None
    heads: list[str] = field(factory=list[str])
    port: int = 0

    @asynccontextmanager
    async def serving(self) -> AsyncGenerator[str, None]:
        """Serve, and give its address."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self.context)
        self.port = server.sockets[0].getsockname()[1]
        async with server:
            yield f"127.0.0.1:{self.port}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            await self._answer(reader, writer)
        writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.cut == "accepted":
            return
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.heads.append(head)
        told = told_credentials(head)
        if self.cut == "asked":
            return
        if self.refusal is not None or (self.credentials is not None and told != self.credentials):
            answer = ASKS if self.refusal is None else self.refusal
            writer.write(answer.replace(b"{told}", (told or "").encode()))
            return
        if head.startswith("CONNECT"):
            writer.write(ESTABLISHED[:12] if self.cut == "half" else ESTABLISHED)
            if self.cut:
                return
            first = b""
        else:
            method, url, rest = head.split(" ", 2)
            path = "/" + url.split("/", 3)[3]
            rest = rest.replace("\r\n", "\r\nConnection: close\r\n", 1)
            first = f"{method} {path} {rest}".encode()
        await relay(self.upstream, reader, writer, first, self.arrived)


def told_credentials(head: str) -> str | None:
    """What a request gives as credentials of the proxy."""
    for line in head.splitlines():
        if line.lower().startswith("proxy-authorization: basic "):
            return base64.b64decode(line.split()[-1]).decode()
    return None


async def relay(
    port: int,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    first: bytes = b"",
    arrived: Callable[[], int] = int,
) -> None:
    """Pass bytes on in both directions, until one side hangs up."""
    theirs, ours = await asyncio.open_connection("127.0.0.1", port)
    before = arrived()
    ours.write(first)

    async def forth() -> None:
        while data := await reader.read(65536):
            ours.write(data)
        ours.close()

    going = asyncio.create_task(forth())
    with suppress(OSError):
        while (data := await theirs.read(65536)) and arrived() == before:
            writer.write(data)
    going.cancel()
    with suppress(asyncio.CancelledError, OSError):
        await going
    ours.close()


@frozen
class Secure:
    """TLS in front of an emulator: where it listens, and who vouches for it."""

    port: int
    authority: trustme.CA

    def context(self) -> ssl.SSLContext:
        """What a client needs that trusts it."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # quicker: no other authority
        self.authority.configure_trust(context)
        return context


def certified(authority: trustme.CA, *names: str) -> ssl.SSLContext:
    """TLS of a server with these names."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(*names).configure_cert(context)
    return context


@asynccontextmanager
async def secure(port: int, authority: trustme.CA) -> AsyncGenerator[Secure, None]:
    """Put TLS in front of a port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            await relay(port, reader, writer)
        writer.close()

    context = certified(authority, HOST, "127.0.0.1")
    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context) as server:
        yield Secure(server.sockets[0].getsockname()[1], authority)
