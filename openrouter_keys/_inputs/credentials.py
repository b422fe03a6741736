"""The API key of a client: fixed, or from a callable at each attempt. No I/O of its own."""

import asyncio
from collections.abc import Awaitable, Callable
from inspect import isawaitable
from typing import TypeAlias, TypeVar

from openrouter_keys._base.pickling import NeverPickled
from openrouter_keys._inputs import checks
from openrouter_keys.errors import APIKeyError

T = TypeVar("T")

APIKey: TypeAlias = str | Callable[[], str | Awaitable[str]]


class Credentials(NeverPickled):
    """Returns a client's API key; neither `repr` nor an attribute shows it.

    Args:
        key: the key, or a callable, sync or async, that returns it.

    Attributes:
        fixed: returns the key; None: call `ask` for each attempt.
    """

    def __init__(self, key: APIKey) -> None:
        self._asking: set[asyncio.Task[Callable[[], str] | BaseException]] = set()
        self._callable = None if isinstance(key, str) else key
        # A function: `vars`, `rich.inspect` and crash reporters show what attributes hold.
        self.fixed: Callable[[], str | None] = _returning(key if isinstance(key, str) else None)

    async def ask(self, seconds: float) -> str:
        """Return the key.

        Args:
            seconds: how long an async callable may take.

        Raises:
            APIKeyError: the callable failed, or returned no usable key.
            TimeoutError: it took too long.
        """
        if self._callable is None:
            return self.fixed() or ""
        asked = await self._called(self._callable, seconds)
        problem = checks.api_key_problem(asked)
        if problem is not None:
            del asked  # crash reporters send local variables home
            raise APIKeyError(f"the api_key callable returned a key that {problem}")
        return asked

    async def _called(self, callable: Callable[[], str | Awaitable[str]], seconds: float) -> str:
        try:
            key = callable()
        except (asyncio.CancelledError, GeneratorExit):
            raise
        except BaseException as error:
            raise _failed(error) from error
        return await self._awaited(key, seconds) if isawaitable(key) else key

    async def _awaited(self, key: Awaitable[str], seconds: float) -> str:
        # A separate task: one that ignores its cancellation must not delay the call.
        asking = asyncio.create_task(_outcome(key))
        self._asking.add(asking)
        asking.add_done_callback(self._asking.discard)
        try:
            await asyncio.wait({asking}, timeout=seconds)
            if not asking.done():
                raise TimeoutError
            outcome = asking.result()
            if isinstance(outcome, BaseException):
                raise _failed(outcome) from outcome
            return outcome()
        finally:
            asking.cancel()


async def _outcome(key: Awaitable[str]) -> Callable[[], str] | BaseException:
    try:
        return _returning(await key)  # a task's `repr` shows its result
    except (asyncio.CancelledError, GeneratorExit):
        raise
    except BaseException as error:  # noqa: BLE001 - a SystemExit too would end the event loop
        return error


def _failed(error: BaseException) -> APIKeyError:
    return APIKeyError(f"the api_key callable raised {type(error).__name__}")


def _returning(key: T) -> Callable[[], T]:
    return lambda: key
