"""Mistakes that a type checker must see: only type-checked, never run.

Each stands on a line marked `# mistake`, with its kind where `check.py` knows an exception for it.
"""

from openrouter_keys import (
    APIKeys,
    AsyncAPIKeys,
    AsyncOpenRouter,
    CreateKeysResponse,
    GetKeyResponse,
    Key,
    OpenRouter,
    OptionalNullable,
    RequestOptions,
    attempt,
)


async def wrong_arguments(keys: AsyncAPIKeys, hash: str) -> None:
    await keys.create()  # mistake
    await keys.create("customer-42")  # mistake
    await keys.create(name=None)  # mistake
    await keys.create(name="a", limit="50")  # mistake
    await keys.create(name="a", limit_reset="hourly")  # mistake
    await keys.create(name="a", limt=50)  # mistake: unknown keyword
    await keys.create(name="a", disabled=True)  # mistake: unknown keyword
    await keys.create(name="a", expires_at="2027-12-31T23:59:59Z")  # mistake
    await keys.create(name="a", external={"user": 7})  # mistake
    await keys.create(name="a", external={"usr": "partner-7"})  # mistake
    await keys.create(name="a", retries=3)  # mistake
    await keys.create(name="a", timeout_ms="500")  # mistake
    await keys.update()  # mistake
    await keys.update(hash, "new name")  # mistake
    await keys.update(hash, disabled="yes")  # mistake
    await keys.update(hash, expires_at=None)  # mistake: unknown keyword
    await keys.get()  # mistake
    await keys.get(hash=5)  # mistake
    await keys.delete(hash, force=True)  # mistake: unknown keyword
    await keys.list(True)  # mistake
    await keys.list(offset=1.5)  # mistake
    await keys.get_current_key_metadata("key")  # mistake


async def wrong_awaiting(keys: AsyncAPIKeys, hash: str) -> None:
    keys.delete(hash)  # mistake: never awaited
    repr(keys.get(hash).data)  # mistake
    await keys.iterate()  # mistake
    await attempt(keys.get)  # mistake
    for _ in keys.iterate():  # mistake
        pass


async def the_wrong_face(client: OpenRouter, hash: str) -> None:
    await client.api_keys.get(hash)  # mistake
    async for _ in client.api_keys.iterate():  # mistake
        pass
    async with client:  # mistake
        pass


def the_other_wrong_face(client: AsyncOpenRouter) -> None:
    with client:  # mistake
        pass


def wrong_arguments_blocking(keys: APIKeys, hash: str) -> None:
    keys.create()  # mistake
    keys.create("customer-42")  # mistake
    keys.create(name="a", limit="50")  # mistake
    keys.create(name="a", limit_reset="hourly")  # mistake
    keys.create(name="a", limt=50)  # mistake: unknown keyword
    keys.create(name="a", expires_at="2027-12-31T23:59:59Z")  # mistake
    keys.create(name="a", external={"usr": "partner-7"})  # mistake
    keys.update(hash, "new name")  # mistake
    keys.update(hash, expires_at=None)  # mistake: unknown keyword
    keys.get()  # mistake
    keys.get(hash=5)  # mistake
    keys.delete(hash, force=True)  # mistake: unknown keyword
    keys.list(offset=1.5)  # mistake
    keys.iterate(offset=100)  # mistake: unknown keyword


async def wrong_reading(keys: AsyncAPIKeys, hash: str) -> None:
    got: GetKeyResponse = await keys.get(hash)
    repr(got.key)  # mistake
    repr(got.hash)  # mistake
    repr((await keys.delete(hash)).data)  # mistake
    repr((await keys.list()).data.hash)  # mistake
    result = await attempt(keys.get(hash))
    repr(result.value)  # mistake


def wrong_types_taken_for_granted(key: Key, limit: OptionalNullable[float]) -> None:
    repr(limit + 1)  # mistake
    round(key.limit)  # mistake
    key.expires_at.isoformat()  # mistake


def changed_in_place(key: Key, created: CreateKeysResponse) -> None:
    key.limit = 5  # mistake
    created.key = "another"  # mistake


async def wrong_leases(client: AsyncOpenRouter, blocking: OpenRouter) -> None:
    client.lease(name="no limit", expires_in=60)  # mistake
    client.lease(name="no end", limit=1)  # mistake
    blocking.lease(name="no limit", expires_in=60)  # mistake
    blocking.lease(name="a text", limit="1", expires_in=60)  # mistake
    with client.lease(name="not async", limit=1, expires_in=60):  # mistake
        pass
    async with blocking.lease(name="async", limit=1, expires_in=60):  # mistake
        pass


def wrong_clients() -> None:
    AsyncOpenRouter(b"key")  # mistake
    AsyncOpenRouter("key", timeout=5)  # mistake
    OpenRouter("key", retry_config=3)  # mistake
    OpenRouter("key", "https://example.org")  # mistake


def wrong_options(keys: APIKeys) -> None:
    options: RequestOptions = {"timeout_ms": "500"}  # mistake
    unknown: RequestOptions = {"timeout": 500}  # mistake
    keys.list(**options)
    keys.list(**unknown)
