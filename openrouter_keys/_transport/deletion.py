"""Deletes a key, and asks again if one answer proves nothing. No waiting, no choice.

A key is gone if the service says that it deleted the key, or says twice, with the API's own 404,
that there is no such key. Anything else is an error: the key may exist.
"""

import enum
from collections.abc import Awaitable
from typing import Protocol, TypeVar

from openrouter_keys._protocol.answers import is_api_404
from openrouter_keys.errors import NotFoundResponseError, OpenRouterError, ResponseValidationError
from openrouter_keys.operations import Operation, delete, get

_NOT_FOUND = 404

R = TypeVar("R")


class Perform(Protocol):
    """Sends an operation, and returns its result."""

    def __call__(self, operation: Operation[R], /) -> Awaitable[R]:
        """Send it."""
        ...


class Removal(enum.Enum):
    """What proves that a key is gone."""

    DELETED = "the service says that it deleted it"
    #: No proof if the key was listed a moment ago.
    LOST = "an answer was lost, and then the service says that there is no such key"
    #: No proof if the key was listed, or made, a moment ago: the answering servers may lag behind.
    MISSING = "the service says twice that there is no such key"


async def remove(perform: Perform, hash: str) -> Removal:
    """Delete a key.

    Raises:
        OpenRouterError: nothing proves that it is gone.
    """
    answer = await unless_missing(perform, delete(hash), hash)
    if answer is None:
        return Removal.MISSING
    if not answer.deleted:
        raise _unproven("delete", "the service says that it did not delete the key")
    return Removal.LOST if answer.http.status == _NOT_FOUND else Removal.DELETED


async def unless_missing(perform: Perform, operation: Operation[R], hash: str) -> R | None:
    """Perform an operation on a key; None: the service says twice that there is no such key.

    Raises:
        OpenRouterError: the operation's, a 404 too unless a second look confirms it.
    """
    try:
        return await perform(operation)
    except NotFoundResponseError as missing:
        if not is_api_404(missing):
            raise
        await _look_again(perform, hash, missing)
        return None


async def _look_again(perform: Perform, hash: str, missing: NotFoundResponseError) -> None:
    try:
        await perform(get(hash))
    except OpenRouterError as error:
        if is_api_404(error):
            return
        raise missing from error
    problem = "the service says that there is no such key, and shows one when it is asked for it"
    raise _unproven(missing.operation, problem) from missing


def _unproven(operation: str, problem: str) -> ResponseValidationError:
    error = ResponseValidationError(problem)
    error.operation = operation
    return error
