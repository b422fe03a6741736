"""The pytest plugin: an emulator for a test, or one for all of them.

It works with and without a plugin for asyncio, since the emulator serves from a thread of its own;
what it needs is imported by the first test that asks for it.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from openrouter_keys import emulator

if TYPE_CHECKING:
    from openrouter_keys.emulator import Emulator


@pytest.fixture
def openrouter_emulator() -> "Iterator[Emulator]":
    """An emulator of OpenRouter's key endpoints, new for each test.

    ``base_url`` and ``api_key`` are for the client; ``account``, ``faults``, ``requests`` and the
    like are to set the scene and to look at what came of it.
    """
    with emulator.Emulator() as served:
        yield served


@pytest.fixture(scope="session")
def session_openrouter_emulator() -> "Iterator[Emulator]":
    """An emulator for all tests that ask for it; ``reset()`` makes it as new between them."""
    with emulator.Emulator() as served:
        yield served
