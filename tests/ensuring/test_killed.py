"""Processes that are killed at each step of `ensure` and `release`: the next one goes on."""

import asyncio
import signal
from pathlib import Path

import pytest

from openrouter_keys import AsyncOpenRouter
from openrouter_keys.emulator import Emulator
from tests.clients import IMPATIENT
from tests.ensuring.rows import World, opened
from tests.ensuring.scenes import SCENES, assert_ensured, assert_released
from tests.processes import Process, environment

CHILD = """
import asyncio, os, signal, sys
from openrouter_keys import AsyncOpenRouter
from openrouter_keys.journal.journal import Journal
from tests.clients import IMPATIENT
from tests.ensuring.rows import World
from tests.ensuring.scenes import SCENES, Steps

path, url, scene, at = sys.argv[1:]

async def killed():
    os.kill(os.getpid(), signal.SIGKILL)

async def main():
    steps = Steps(int(at), killed)
    async with (
        AsyncOpenRouter(server_url=url) as client,
        Journal.open(path, server_url=url) as journal,
        steps.beside(client),
    ):
        client._transport.clockwork = IMPATIENT
        await SCENES[scene][1](World(client, None, journal, quiet_period=0.1))

asyncio.run(main())
"""


_AT_ONCE = 4


def ran(path: Path, emulator: Emulator, scene: str, at: int) -> int:
    """Run a scene's call in a process that is killed at a step; return its exit code."""
    given = environment(OPENROUTER_API_KEY=emulator.api_key)
    with Process(
        "-c", CHILD, str(path), emulator.base_url, scene, str(at), environment=given
    ) as process:
        process.communicate(timeout=60)
        return process.wait()


async def killed(scene: str, at: int, folder: Path) -> int:
    """Kill a scene's call at a step, and see that the next call goes on; return the exit code."""
    path = folder / f"{at}.journal"
    async with (
        Emulator() as emulator,
        AsyncOpenRouter(emulator.api_key, server_url=emulator.base_url) as client,
    ):
        client._transport.clockwork = IMPATIENT
        emulator.account.add("another's")  # an empty list proves nothing
        async with opened(path, emulator) as journal:
            await SCENES[scene][0](World(client, emulator, journal, 0.1))
        code = await asyncio.to_thread(ran, path, emulator, scene, at)
        async with opened(path, emulator) as journal:
            world = World(client, emulator, journal, 0.1)
            try:
                await (assert_released if at % 2 else assert_ensured)(world)
            except BaseException as error:
                error.add_note(f"step {at}")
                raise
    return code


@pytest.mark.slow
@pytest.mark.parametrize(
    "scene",
    [
        "create",
        "create by another spec",
        "update",
        "recreate",
        "release",
        "release of two keys",
        "ensure after a release",
    ],
)
async def test_killed_at_each_step(scene: str, tmp_path: Path) -> None:
    at, codes = 0, [-signal.SIGKILL]
    while 0 not in codes:
        steps = range(at + 1, at + 1 + _AT_ONCE)
        codes = await asyncio.gather(*(killed(scene, step, tmp_path) for step in steps))
        assert {*codes} <= {-signal.SIGKILL, 0}
        at = steps[-1]
    assert codes[0] != 0 or at > _AT_ONCE
