"""A real browser for tests, told what to do by its own protocol."""

import asyncio
import shutil
import subprocess
import time
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, cast

import aiohttp
import pytest
from attrs import define

SOON = 30.0  # seconds within which something comes; it takes a fraction of one
NAMES = ("chromium", "chromium-browser", "google-chrome")
REBOUND = "rebound.example"  # the name of a site that leads to this machine


@contextmanager
def chromium(home: Path) -> Generator[str, None, None]:
    """Run a browser, and give the address at which it is told what to do."""
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        pytest.skip(f"needs a browser, and there is none of {', '.join(NAMES)} on the path")
    command = [
        path, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
        "--no-first-run", "--disable-background-networking", "--remote-debugging-port=0",
        f"--user-data-dir={home}", f"--host-resolver-rules=MAP {REBOUND} 127.0.0.1", "about:blank",
    ]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            yield _debugger(home / "DevToolsActivePort", process)
        finally:
            process.terminate()


def _debugger(told: Path, process: "subprocess.Popen[bytes]") -> str:
    """Where the browser listens, once it has written that down."""
    until = time.monotonic() + SOON
    while not (told.exists() and told.read_text().count("\n")):
        assert process.poll() is None, f"the browser ended with {process.returncode}"
        assert time.monotonic() < until, "the browser does not listen"
        time.sleep(0.01)
    port, path = told.read_text().split()
    return f"ws://127.0.0.1:{port}{path}"


@define
class Tab:
    """A tab of a browser, in a profile of its own, by the browser's own protocol."""

    socket: aiohttp.ClientWebSocketResponse
    session: str | None = None
    last: int = 0

    async def send(self, method: str, **params: object) -> dict[str, Any]:
        self.last += 1
        message = {"id": self.last, "method": method, "params": params}
        await self.socket.send_json(message | ({"sessionId": self.session} if self.session else {}))
        async with asyncio.timeout(SOON):
            while (answer := await self.socket.receive_json()).get("id") != self.last:
                pass  # events
        assert "error" not in answer, answer
        return cast("dict[str, Any]", answer["result"])

    async def open(self, url: str) -> None:
        await self.send("Page.navigate", url="about:blank")
        await self.send("Page.navigate", url=url)
        await self.until("document.readyState === 'complete' && location.href !== 'about:blank'")

    async def value(self, expression: str) -> Any:
        told = await self.send(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in told, told
        return told["result"].get("value")

    async def until(self, expression: str) -> None:
        async with asyncio.timeout(SOON):
            while not await self.value(expression):
                await asyncio.sleep(0.01)

    async def text(self, selector: str = "body") -> str:
        return cast("str", await self.value(f"document.querySelector({selector!r}).innerText"))

    async def rows(self, id: str) -> list[str]:
        """Each row that is to be seen, with its cells apart."""
        script = (
            f"[...document.querySelectorAll('#{id} tr:not([hidden])')].map((row) => [...row.cells]"
            ".map((cell) => cell.innerText.trim().replace('\\n', ' / ')).join(' | '))"
        )
        return cast("list[str]", await self.value(script))


@asynccontextmanager
async def new_tab(debugger: str) -> AsyncGenerator[Tab, None]:
    """A tab of the browser that listens there."""
    async with aiohttp.ClientSession() as http, http.ws_connect(debugger, max_msg_size=0) as socket:
        tab = Tab(socket)
        profile = (await tab.send("Target.createBrowserContext"))["browserContextId"]
        target = await tab.send(
            "Target.createTarget", url="about:blank", browserContextId=profile,
            width=1400, height=900,
        )  # fmt: skip
        attached = await tab.send("Target.attachToTarget", flatten=True, **target)
        tab.session = attached["sessionId"]
        yield tab
        tab.session = None
        await tab.send("Target.disposeBrowserContext", browserContextId=profile)
