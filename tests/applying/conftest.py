"""Fixtures of the tests of `apply`."""

from collections.abc import AsyncIterator

import pytest

from openrouter_keys import AsyncOpenRouter
from openrouter_keys.emulator import Emulator
from openrouter_keys.journal.journal import Journal
from tests.applying.sites import Site


@pytest.fixture
async def site(client: AsyncOpenRouter, emulator: Emulator) -> AsyncIterator[Site]:
    async with Journal.open(":memory:") as journal:
        yield Site(client, emulator, journal)
