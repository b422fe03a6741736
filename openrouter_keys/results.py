"""Outcomes as values: `Ok` or `Err` instead of an exception."""

from collections.abc import Awaitable
from typing import Generic, Literal, TypeVar, final

from attrs import frozen

from openrouter_keys.errors import OpenRouterError

T = TypeVar("T")


@final
@frozen
class Ok(Generic[T]):
    """The operation succeeded.

    Attributes:
        value: the result.
    """

    value: T

    @property
    def ok(self) -> Literal[True]:
        """True; `match` and `isinstance` narrow in every type checker."""
        return True


@final
@frozen
class Err:
    """The operation failed.

    Attributes:
        error: the error, which `attempt` did not raise.
    """

    error: OpenRouterError

    @property
    def ok(self) -> Literal[False]:
        """False; `match` and `isinstance` narrow in every type checker."""
        return False


async def attempt(awaitable: Awaitable[T]) -> Ok[T] | Err:
    """Await an operation, and return its outcome as a value.

    It stands for the standalone functions of the TypeScript SDK::

        match await attempt(client.api_keys.get(hash)):
            case Ok(answer): ...
            case Err(error): ...

    Args:
        awaitable: the coroutine of an operation of the async client.

    Returns:
        `Ok` with the value, or `Err` with the `OpenRouterError`. Any other exception, such as a
        cancellation, is raised.
    """
    try:
        return Ok(await awaitable)
    except OpenRouterError as error:
        return Err(error)
