"""Fixtures for the tests of rotation."""

from collections.abc import AsyncIterator

import pytest

from openrouter_keys import AsyncOpenRouter
from openrouter_keys.emulator import Emulator
from tests.provisions import JumpingTime, client_of
from tests.rotations import Taker


@pytest.fixture
async def client(emulator: Emulator, time: JumpingTime) -> AsyncIterator[AsyncOpenRouter]:
    """A client that does not wait for a create that nothing answers."""
    async with client_of(emulator, time, grace=0.1) as client:
        yield client


@pytest.fixture
def taker(emulator: Emulator) -> Taker:
    """Takes the secrets of a rotation."""
    return Taker(emulator)
