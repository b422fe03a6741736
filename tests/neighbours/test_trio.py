"""Inside trio's programs the blocking client works, and the async one says that it does not."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

import anyio
import anyio.to_thread
import pytest
import trio
import trio.to_thread

from openrouter_keys import AsyncOpenRouter, KeySpec, OpenRouter, errors
from openrouter_keys.emulator import Emulator
from tests._transport.test_transport import CALLS

T = TypeVar("T")
Worker = Callable[[Callable[[], T]], Awaitable[T]]


def use(emulator: Emulator) -> tuple[int, bool]:
    """Create, list and provision with a client of its own."""
    taken: list[str] = []
    with OpenRouter(emulator.api_key, server_url=emulator.base_url) as client:
        client.api_keys.create(name="one")
        specs = (KeySpec(ref=f"{n}", name=f"{n}") for n in range(3))
        report = client.provision(specs, on_result=lambda result: taken.append(result.ref))
        return len(client.api_keys.list().data), report.ok and len(taken) == 3


async def directly(function: Callable[[], T]) -> T:
    return function()


def under_trio(main: Callable[[], Awaitable[T]]) -> T:
    ended: T = trio.run(main)
    return ended


def under_anyio(main: Callable[[], Awaitable[T]]) -> T:
    return anyio.run(main, backend="trio")


RUNNERS = [under_trio, under_anyio]


@pytest.mark.parametrize("run", RUNNERS)
@pytest.mark.parametrize(
    "worker",
    [directly, trio.to_thread.run_sync, anyio.to_thread.run_sync],
    ids=lambda w: w.__module__,
)
def test_the_blocking_client_works(
    worker: Worker[tuple[int, bool]],
    run: Callable[[Callable[[], Awaitable[tuple[int, bool]]]], tuple[int, bool]],
    openrouter_emulator: Emulator,
) -> None:
    async def main() -> tuple[int, bool]:
        return await worker(partial(use, openrouter_emulator))

    assert run(main) == (4, True)


@pytest.mark.parametrize("run", RUNNERS)
@pytest.mark.parametrize("name", CALLS)
def test_the_async_client_says_that_it_is_for_asyncio_only(
    name: str,
    run: Callable[[Callable[[], Awaitable[None]]], None],
    tmp_path: object,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(str(tmp_path))

    async def main() -> None:
        async with AsyncOpenRouter("key") as client:
            with pytest.raises(errors.ClientStateError, match="needs asyncio"):
                await CALLS[name](client)

    run(main)


def test_the_blocking_client_is_closed_by_a_program_that_was_cancelled(
    openrouter_emulator: Emulator,
) -> None:
    async def main() -> None:
        with OpenRouter(
            openrouter_emulator.api_key, server_url=openrouter_emulator.base_url
        ) as client:
            client.api_keys.list()
            with trio.move_on_after(0):
                await trio.sleep_forever()
            client.api_keys.create(name="after a cancellation")

    trio.run(main)
    assert len(openrouter_emulator.account.keys) == 1
