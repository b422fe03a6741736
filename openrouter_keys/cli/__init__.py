"""The command, `openrouter-keys`: its grammar is in `app`. The library imports none of it."""

from typing import Final

DONE: Final = 0
FAILED: Final = 1
USAGE: Final = 2
SOME_FAILED: Final = 3
AUTHENTICATION: Final = 4
IN_DOUBT: Final = 5
# What a shell says of a program whose reader went away, as `head` does.
BROKEN_PIPE: Final = 141


class CommandError(Exception):
    """A command cannot go on: what to tell people, and the exit code for programs.

    Attributes:
        code: the exit code.
    """

    def __init__(self, message: str, code: int = FAILED) -> None:
        super().__init__(message)
        self.code = code
