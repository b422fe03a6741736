"""Create a key for a customer, from async code."""

import asyncio

from openrouter_keys import AsyncOpenRouter


async def main() -> None:
    """Read OPENROUTER_API_KEY, and OPENROUTER_BASE_URL for an emulator, from the environment."""
    async with AsyncOpenRouter() as client:
        created = await client.api_keys.create(name="customer-42", limit=50, limit_reset="monthly")
        print(f"{created.data.name} may spend {created.data.limit} US dollars a month")
        print(f"its key, {created.data.label}, is in created.key: hand it over now, once")


asyncio.run(main())
