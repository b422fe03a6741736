"""Clients for tests: with the time handed in, so that nothing waits."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import Future
from contextlib import asynccontextmanager
from ssl import SSLContext
from typing import Any

from attrs import define, field

from openrouter_keys._base.clock import Clockwork
from openrouter_keys._inputs.credentials import APIKey, Credentials
from openrouter_keys._inputs.options import CallOptions
from openrouter_keys._inputs.proxies import proxy_finder
from openrouter_keys._inputs.retry_config import RetryConfig
from openrouter_keys._transport.deadlines import Deadline
from openrouter_keys._transport.transport import Transport
from openrouter_keys._transport.wire import Session, Wire
from openrouter_keys.api_keys import AsyncAPIKeys


@define
class FakeTime:
    """Real time plus what was slept: a sleep takes no time, and counts all the same.

    Args:
        on_sleep: called at each sleep, before it.
        slept: the sleeps, in seconds.
        passed: seconds that passed otherwise.
    """

    on_sleep: Callable[[float], None] = lambda _: None
    slept: list[float] = field(factory=list[float])
    passed: float = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + sum(self.slept) + self.passed

    async def sleep(self, seconds: float) -> None:
        self.on_sleep(seconds)
        self.slept.append(seconds)
        await asyncio.sleep(0)

    def clockwork(self) -> Clockwork:
        return Clockwork(monotonic=self.monotonic, sleep=self.sleep, random=lambda: 0.5)


#: The real clocks, and sleeps that end soon: what waits for a time by a clock looks again then.
IMPATIENT = Clockwork(sleep=lambda _: asyncio.sleep(0.01))


class InterruptedFuture(Future[Any]):
    """An outcome that is there when Ctrl-C comes."""

    heard = False

    def result(self, timeout: float | None = None) -> Any:
        self.exception(timeout)
        if not self.heard:
            self.heard = True
            raise KeyboardInterrupt
        return super().result(timeout)


@asynccontextmanager
async def api_keys(
    server_url: str,
    api_key: APIKey,
    fake_time: FakeTime | None = None,
    *,
    retries: RetryConfig | None = None,
    timeout: float = 120.0,
    session: Session | None = None,
    proxy: str | None = "",
    ssl_context: SSLContext | None = None,
    max_connections: int = 100,
    grace: float = 5.0,
    connect_timeout: float = 10.0,
    read_timeout: float = 30.0,
) -> AsyncGenerator[AsyncAPIKeys, None]:
    """The operations over a transport whose parts a test chooses."""
    find_proxy = proxy_finder(proxy)
    transport = Transport(
        credentials=Credentials(api_key),
        options=CallOptions(
            retries=RetryConfig() if retries is None else retries,
            timeout=timeout,
            server_url=server_url,
            headers={},
            find_proxy=find_proxy,
            proxy=find_proxy(server_url),
        ),
        session=session,
        ssl_context=ssl_context,
        max_connections=max_connections,
        grace=grace,
        connect_timeout=connect_timeout,
        read_timeout=read_timeout,
        clockwork=None if fake_time is None else fake_time.clockwork(),
    )
    try:
        yield AsyncAPIKeys(transport)
    finally:
        await transport.close()


async def until(condition: Callable[[], object]) -> None:
    """Let others run until something is so; the test's own time-out is the limit."""
    while not condition():
        await asyncio.sleep(0.001)


def begun(keys: AsyncAPIKeys) -> bool:
    """Whether the headers of an answer have come."""
    heard = [limit._heard() for limit in _limits(keys)]
    # There is a response as soon as a request is sent, and a number of bytes when it has headers.
    return any(isinstance(each, tuple) and each[1] is not None for each in heard)


async def time_is_up(keys: AsyncAPIKeys, fake_time: FakeTime | None = None) -> None:
    """End what was sent: as its deadline does if the time is fake, else as a silence does."""
    await asyncio.sleep(0)  # what has come by now is read
    if fake_time is not None:
        fake_time.passed += 1e6
    for limit in _limits(keys):
        limit._interrupt("the time is up")


def _limits(keys: AsyncAPIKeys) -> list[Deadline]:
    wire: Wire | None = vars(keys._transport).get("_wire")  # that of the first call
    return [] if wire is None else [*wire._deadlines.running]
