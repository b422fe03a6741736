"""What the library warns of, in the command's own words."""

import logging
from collections.abc import Callable, Generator
from contextlib import contextmanager


@contextmanager
def warnings_to(say: Callable[[str], object]) -> Generator[None]:
    """Have the library's warnings said, unless they go elsewhere already."""
    log, handler = logging.getLogger("openrouter_keys"), _Saying(say)
    if log.handlers:
        yield
        return
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)


class _Saying(logging.Handler):
    def __init__(self, say: Callable[[str], object]) -> None:
        super().__init__(logging.WARNING)
        self._say = say

    def emit(self, record: logging.LogRecord) -> None:
        """Say it."""
        self._say(record.getMessage())
