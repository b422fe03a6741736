"""On uvloop: both faces. `nox -s neighbours` runs `test_transport.py` on it too."""

import asyncio

import pytest
import uvloop

from openrouter_keys import AsyncOpenRouter, KeySpec, OpenRouter, errors
from openrouter_keys.emulator import Emulator, Fault


def specs(count: int) -> list[KeySpec]:
    return [KeySpec(ref=f"{n}", name=f"customer-{n}") for n in range(count)]


def test_the_async_client_makes_many_keys_through_faults(openrouter_emulator: Emulator) -> None:
    openrouter_emulator.faults += [
        Fault("create", "closed", phase="after"),
        Fault("create", "reset", phase="after"),
        Fault("create", "garbage", phase="after"),
        Fault("create", status=502, phase="after"),
    ]

    async def main() -> None:
        async with AsyncOpenRouter(
            openrouter_emulator.api_key, server_url=openrouter_emulator.base_url
        ) as client:
            made: set[str] = set()
            report = await client.provision(
                specs(20), on_result=lambda result: made.add(result.data.hash), quiet_period=0
            )
            assert report.ok
            assert made == {key.hash async for key in client.api_keys.iterate()}

    uvloop.run(main())
    assert len(openrouter_emulator.account.keys) == 20


def test_a_cancelled_create_leaves_no_key(openrouter_emulator: Emulator) -> None:
    openrouter_emulator.faults.append(Fault("create", "slow", delay=0.3, phase="after"))

    async def main() -> None:
        async with AsyncOpenRouter(
            openrouter_emulator.api_key, server_url=openrouter_emulator.base_url
        ) as client:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.15):
                    await client.api_keys.create(name="new")

    uvloop.run(main())
    assert not openrouter_emulator.account.keys


def test_a_deadline_is_kept(openrouter_emulator: Emulator) -> None:
    openrouter_emulator.faults.append(Fault(kind="stalled", times=None))

    async def main() -> None:
        async with AsyncOpenRouter(
            openrouter_emulator.api_key, server_url=openrouter_emulator.base_url, timeout_ms=200
        ) as client:
            with pytest.raises(errors.DeadlineExceededError):
                await client.api_keys.list()

    uvloop.run(main())


@pytest.mark.parametrize("own", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_the_blocking_client_works_beside_it_and_on_it(
    own: object, openrouter_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asyncio, "new_event_loop", own)  # as `uvloop.install()` does

    async def main() -> None:
        with OpenRouter(
            openrouter_emulator.api_key, server_url=openrouter_emulator.base_url
        ) as client:
            openrouter_emulator.faults.append(Fault("create", "closed", phase="after"))
            assert client.provision(specs(3), on_result=lambda _: None, quiet_period=0).ok
            listed = await asyncio.to_thread(client.api_keys.list)
            assert len(listed.data) == 3

    uvloop.run(main())
