"""What the commands do. Their grammar is in `__main__`, and the library imports neither."""

from typing import Final

FAILED: Final = 1
USAGE: Final = 2


class CommandError(Exception):
    """A command cannot go on: what to tell people, and the exit code for programs.

    Attributes:
        code: the exit code.
    """

    def __init__(self, message: str, code: int = FAILED) -> None:
        super().__init__(message)
        self.code = code
