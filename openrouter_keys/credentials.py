"""The API key of a client: fixed, or asked for at each attempt. No I/O of its own."""

import asyncio
from collections.abc import Awaitable, Callable
from inspect import isawaitable
from typing import TypeAlias

from openrouter_keys import checks
from openrouter_keys.errors import APIKeyError
from openrouter_keys.pickling import NeverPickled

APIKey: TypeAlias = str | Callable[[], str | Awaitable[str]]


class Credentials(NeverPickled):
    """Where the key comes from; its `repr` shows nothing of it.

    Args:
        key: the key, or a callable, sync or async, that is asked for it.

    Attributes:
        fixed: the key; None: it has to be asked for, each time anew.
    """

    def __init__(self, key: APIKey) -> None:
        self._key = key
        self.fixed = key if isinstance(key, str) else None

    async def ask(self, seconds: float) -> str:
        """Return the key.

        Args:
            seconds: how long an async callable may take.

        Raises:
            APIKeyError: the callable failed, or gave no usable key.
            TimeoutError: it took too long.
        """
        if isinstance(self._key, str):
            return self._key
        asked = await self._called(self._key, seconds)
        problem = checks.api_key_problem(asked)
        if problem is not None:
            del asked  # crash reporters send local variables home
            raise APIKeyError(f"the api_key callable gave a key that {problem}")
        return asked

    async def _called(self, callable: Callable[[], str | Awaitable[str]], seconds: float) -> str:
        limit = asyncio.timeout(seconds)
        try:
            async with limit:
                key = callable()
                return await key if isawaitable(key) else key
        except (asyncio.CancelledError, GeneratorExit):
            raise
        except BaseException as error:
            if limit.expired():
                raise
            # A SystemExit too: it would end the event loop under everybody else.
            raise APIKeyError(f"the api_key callable raised {type(error).__name__}") from error
