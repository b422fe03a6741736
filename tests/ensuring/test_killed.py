"""Processes that are killed at each step of `ensure` and `release`: the next one goes on."""

import asyncio
import signal
from pathlib import Path

import pytest

from openrouter_keys import AsyncOpenRouter
from openrouter_keys.emulator import Emulator
from tests.ensuring.rows import World, opened
from tests.ensuring.scenes import SCENES, assert_ensured, assert_released
from tests.processes import Process, environment

CHILD = """
import asyncio, os, signal, sys
from openrouter_keys import AsyncOpenRouter
from openrouter_keys.journal.journal import Journal
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
        await SCENES[scene][1](World(client, None, journal, quiet_period=0.1))

asyncio.run(main())
"""


def ran(path: Path, emulator: Emulator, scene: str, at: int) -> int:
    """Run a scene's call in a process that is killed at a step; return its exit code."""
    given = environment(OPENROUTER_API_KEY=emulator.api_key)
    with Process(
        "-c", CHILD, str(path), emulator.base_url, scene, str(at), environment=given
    ) as process:
        process.communicate(timeout=60)
        return process.wait()


@pytest.mark.slow
@pytest.mark.timeout(600)
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
async def test_killed_at_each_step(emulator: Emulator, scene: str, tmp_path: Path) -> None:
    at, code = 0, -signal.SIGKILL
    while code == -signal.SIGKILL:
        at += 1
        emulator.account.clear()
        emulator.account.add("another's")  # an empty list proves nothing
        path = tmp_path / f"{at}.journal"
        async with AsyncOpenRouter(emulator.api_key, server_url=emulator.base_url) as client:
            async with opened(path, emulator) as journal:
                await SCENES[scene][0](World(client, emulator, journal, 0.1))
            code = await asyncio.to_thread(ran, path, emulator, scene, at)
            assert code in (-signal.SIGKILL, 0)
            async with opened(path, emulator) as journal:
                world = World(client, emulator, journal, 0.1)
                releases = at % 2 or scene == "release of a rejected key"
                try:
                    await (assert_released if releases else assert_ensured)(world)
                except BaseException as error:
                    error.add_note(f"step {at}")
                    raise
    assert at > 3
