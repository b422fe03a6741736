"""A client of a service that misbehaves, in a time that jumps."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta

from attrs import define, evolve

from openrouter_keys import AsyncOpenRouter
from tests.misbehaving import Misbehaving, misbehaving
from tests.provisions import JumpingTime

KEY = "sk-or-mgmt-test-" + "0" * 32


@define
class Case:
    """What a test looks at.

    Attributes:
        looks: for a test to count in.
    """

    service: Misbehaving
    client: AsyncOpenRouter
    time: JumpingTime
    looks: int = 0

    def set_machine(self, ahead: float) -> None:
        """Set this machine's clock so many seconds ahead."""
        now = self.time.now
        self.client._transport.clockwork = evolve(
            self.time.clockwork(), now=lambda: now() + timedelta(seconds=ahead)
        )


@asynccontextmanager
async def new_case() -> AsyncGenerator[Case, None]:
    time = JumpingTime()
    async with (
        misbehaving(now=time.now) as service,
        AsyncOpenRouter(KEY, server_url=service.url) as client,
    ):
        client._transport.clockwork = time.clockwork()
        yield Case(service, client, time)
