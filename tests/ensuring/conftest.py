"""Fixtures of the tests of `ensure` and `release`."""

from collections.abc import AsyncIterator

import pytest

from openrouter_keys import AsyncOpenRouter
from openrouter_keys.emulator import Emulator
from openrouter_keys.journal.journal import Journal
from tests.ensuring.rows import World
from tests.journals import spec

LIMITED = spec(limit=5)


@pytest.fixture
async def world(client: AsyncOpenRouter, emulator: Emulator) -> AsyncIterator[World]:
    async with Journal.open(":memory:") as journal:
        yield World(client, emulator, journal)
