"""An emulator in its own process, for the benchmarks; this is no benchmark."""

import json
import subprocess
import sys
from collections.abc import Generator, Sequence
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

from attrs import field, frozen

from openrouter_keys import AsyncOpenRouter


@frozen
class Emulated:
    """How to reach it and to read its state."""

    base_url: str
    api_key: str = field(repr=False)

    def client(self) -> AsyncOpenRouter:
        """Return a client of it."""
        return AsyncOpenRouter(self.api_key, server_url=self.base_url)

    def live(self) -> list[dict[str, Any]]:
        """Return its live keys."""
        keys: list[dict[str, Any]] = self._ask("GET", "keys")
        return keys

    def requests(self) -> list[dict[str, Any]]:
        """Return its ledger."""
        requests: list[dict[str, Any]] = self._ask("GET", "requests")
        return requests

    def set(self, faults: Sequence[dict[str, object]], settings: dict[str, object]) -> None:
        """Change its settings."""
        self._ask("PUT", "faults", [*faults])
        self._ask("PUT", "settings", settings)

    def _ask(self, method: str, what: str, value: object = None) -> Any:
        headers = {"Authorization": f"Bearer {self.api_key}"}
        with closing(HTTPConnection(urlsplit(self.base_url).netloc)) as connection:
            connection.request(method, f"/_emulator/{what}", json.dumps(value), headers)
            answer = connection.getresponse()
            body = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"the emulator answered {answer.status}: {body.decode()}")
        return json.loads(body)


@contextmanager
def emulated(
    *, faults: Sequence[dict[str, object]] = (), **settings: object
) -> Generator[Emulated]:
    """Serve until the block ends.

    Args:
        faults: the fields of each `Fault`.
        settings: `latency`, `page_size` or `rate_limit` (the fields of a `RateLimit`).
    """
    command = [sys.executable, "-m", "openrouter_keys", "emulator", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            server = Emulated(**json.loads(process.stdout.readline()))
            server.set(faults, settings)
            yield server
        finally:
            process.terminate()
