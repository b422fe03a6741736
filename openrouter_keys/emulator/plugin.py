"""The pytest plugin: an emulator for one test, or for all tests.

It works with and without a plugin for asyncio, since the emulator serves from its own thread.
The first test that uses it imports what it needs.
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

    ``base_url`` and ``api_key`` are for the client. Set ``account`` and ``faults`` before its
    calls; read ``account`` and ``requests`` after them.
    """
    with emulator.Emulator() as served:
        yield served


@pytest.fixture(scope="session")
def session_openrouter_emulator() -> "Iterator[Emulator]":
    """One emulator for all tests that use it; call ``reset()`` between them."""
    with emulator.Emulator() as served:
        yield served
