"""Outcomes as values: `Ok` or `Err` instead of an exception."""

from collections.abc import Awaitable
from typing import Generic, Literal, TypeVar, final

from attrs import frozen

from openrouter_keys.errors import OpenRouterError

T = TypeVar("T")


@final
@frozen
class Ok(Generic[T]):
    """It went well.

    Attributes:
        value: what came of it.
    """

    value: T

    @property
    def ok(self) -> Literal[True]:
        """True; `match` and `isinstance` narrow in every type checker."""
        return True


@final
@frozen
class Err:
    """It went wrong.

    Attributes:
        error: what would have been raised.
    """

    error: OpenRouterError

    @property
    def ok(self) -> Literal[False]:
        """False; `match` and `isinstance` narrow in every type checker."""
        return False


async def attempt(awaitable: Awaitable[T]) -> Ok[T] | Err:
    """Await something, and give its outcome as a value.

    It stands for the standalone functions of the TypeScript SDK::

        match await attempt(client.api_keys.get(hash)):
            case Ok(answer): ...
            case Err(error): ...

    Args:
        awaitable: what an operation of the async client returned, not yet awaited.

    Returns:
        `Ok` with the value, or `Err` with the `OpenRouterError`. Everything else, such as a
        cancellation, is raised as ever.
    """
    try:
        return Ok(await awaitable)
    except OpenRouterError as error:
        return Err(error)
