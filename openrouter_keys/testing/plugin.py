"""The pytest plugin: the emulator's fixtures, and clients of it. It needs no plugin for asyncio."""

import functools
import inspect
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from openrouter_keys import AsyncOpenRouter, OpenRouter
    from openrouter_keys.emulator import Emulator

pytest_plugins: list[str] = ["openrouter_keys.emulator.plugin"]


@pytest.fixture
def openrouter_environment(openrouter_emulator: "Emulator") -> "Iterator[Emulator]":
    """The emulator of this test, with the environment set so that every client finds it.

    All other variables `OPENROUTER_…` are unset meanwhile, but for `OPENROUTER_DEBUG`.
    """
    with pytest.MonkeyPatch.context() as patched:
        for name in [*os.environ]:
            if name.startswith("OPENROUTER_") and name != "OPENROUTER_DEBUG":
                patched.delenv(name)
        for name, value in openrouter_emulator.environment().items():
            patched.setenv(name, value)
        yield openrouter_emulator


@pytest.fixture
def openrouter_client(openrouter_environment: "Emulator") -> "Iterator[OpenRouter]":
    """A blocking client of this test's emulator, closed at the test's end; it sets the environment.

    `openrouter_emulator` is that emulator.
    """
    from openrouter_keys import OpenRouter  # noqa: PLC0415 - it takes its time

    with OpenRouter(openrouter_environment.api_key, proxy="") as client:
        yield client


@pytest.fixture
def async_openrouter_client(
    request: pytest.FixtureRequest, openrouter_environment: "Emulator"
) -> "AsyncOpenRouter":
    """An async client of this test's emulator, closed at the test's end; it sets the environment.

    It works in each coroutine test, whichever plugin runs that: pytest-asyncio or anyio's.
    """
    from openrouter_keys import AsyncOpenRouter  # noqa: PLC0415 - as above

    client = AsyncOpenRouter(openrouter_environment.api_key, proxy="")
    test = request.node.obj
    if inspect.iscoroutinefunction(test):
        # A client is closed in its event loop, of which only the plugin that runs the test knows.
        @functools.wraps(test)
        async def closing(*args: object, **kwargs: object) -> object:
            async with client:
                return await test(*args, **kwargs)

        request.node.obj = closing
    return client
