"""A service of raw bytes on a real socket, for answers that no HTTP library would send."""

import json
import socket
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager

from attrs import define, field

from openrouter_keys.errors import JSON


@define
class RawServer:
    """Answers each request with the bytes that a test gives, then closes the connection.

    Args:
        respond: returns the answer to a request, which it is given as it came.
    """

    respond: Callable[[bytes], bytes]
    requests: list[bytes] = field(factory=list[bytes])
    port: int = 0

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/api/v1"

    def serve(self, listener: socket.socket) -> None:
        """Answer one after the other until the listener is closed."""
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                try:
                    request = _read(connection)
                    if request:
                        self.requests.append(request)
                        connection.sendall(self.respond(request))
                except OSError:  # whoever asked went away
                    pass


def _read(connection: socket.socket) -> bytes:
    request = b""
    while b"\r\n\r\n" not in request and (piece := connection.recv(65536)):
        request += piece
    head, _, body = request.partition(b"\r\n\r\n")
    told = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    left = int(told[0].split(b":")[1]) - len(body) if told else 0
    while left > 0 and (piece := connection.recv(65536)):
        request, left = request + piece, left - len(piece)
    return request


@contextmanager
def raw_server(respond: Callable[[bytes], bytes]) -> Generator[RawServer, None, None]:
    """Serve from a thread until the end."""
    server = RawServer(respond)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server.port = listener.getsockname()[1]
        thread = threading.Thread(target=server.serve, args=(listener,))
        thread.start()
        try:
            yield server
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def answer(body: "JSON | bytes", *headers: str, status: str = "200 OK") -> bytes:
    """An ordinary HTTP answer.

    Args:
        body: JSON, or its bytes.
        headers: whole lines, beside `Content-Length`.
        status: code and phrase.
    """
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    # Told, or the client might send its next request into a connection that is just closing.
    last = ("Connection: close", f"Content-Length: {len(content)}", "", "")
    lines = (f"HTTP/1.1 {status}", *headers, *last)
    return "\r\n".join(lines).encode(errors="surrogateescape") + content
