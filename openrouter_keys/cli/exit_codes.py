"""How a command ends: its exit codes, and the errors that carry one. No I/O."""

from collections.abc import Sequence
from typing import Final

from openrouter_keys.errors import (
    CreateOutcomeUnknownError,
    ForbiddenResponseError,
    InvalidArgumentError,
    OpenRouterError,
    SecretLostError,
    UnauthorizedResponseError,
)

DONE: Final = 0
FAILED: Final = 1
USAGE: Final = 2
SOME_FAILED: Final = 3
AUTHENTICATION: Final = 4
IN_DOUBT: Final = 5
# A shell's code for a program whose reader is gone, as with `| head`.
BROKEN_PIPE: Final = 141


class CommandError(Exception):
    """A command cannot go on: the message for people, and the exit code for programs.

    Attributes:
        code: the exit code.
        more: further lines of the message.
    """

    def __init__(self, message: str, code: int = FAILED, more: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.code = code
        self.more: tuple[str, ...] = tuple(more)


class UsageError(CommandError):
    """The command line asks for what cannot be done; nothing was sent."""

    def __init__(self, message: str, more: Sequence[str] = ()) -> None:
        super().__init__(message, USAGE, more)


def code_of_report(*, ok: bool, in_doubt: object) -> int:
    """Return the exit code of a run that came to its end."""
    if ok:
        return DONE
    return IN_DOUBT if in_doubt else SOME_FAILED


def code_of(error: OpenRouterError) -> int:
    """Return the exit code of a command that ends with an error of the library."""
    if isinstance(error, InvalidArgumentError):
        return AUTHENTICATION if error.argument == "api_key" else USAGE
    if isinstance(error, UnauthorizedResponseError | ForbiddenResponseError):
        return AUTHENTICATION
    if isinstance(error, CreateOutcomeUnknownError | SecretLostError):
        return IN_DOUBT
    if isinstance(error.__cause__, OpenRouterError):
        return code_of(error.__cause__)
    return FAILED
