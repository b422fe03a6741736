"""Ctrl-C and SIGTERM: the first lets what is under way end, the second does not."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Final

from openrouter_keys.cli import INTERRUPTED
from openrouter_keys.cli.text import printable

_STOPPING: Final = (signal.SIGINT, signal.SIGTERM)
_STDERR: Final = 2
# A progress bar's line is wiped, and the cursor that it hides is shown.
_TIDY: Final = "\r\x1b[2K\x1b[?25h"


@contextmanager
def interrupts(first: Callable[[], object], last_words: Callable[[], str]) -> Generator[None]:
    """Let the first signal cancel this task, and the second end the process there and then.

    What runs meanwhile must bear being killed at any moment, as a run with a journal does.

    Args:
        first: called in the loop at the first signal.
        last_words: what is told at the second, such as how to go on.
    """
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    heard = False

    def cancel() -> None:
        first()
        if task is not None:
            task.cancel()

    def hear(*_: object) -> None:
        nonlocal heard
        if heard:
            _end(last_words())
        heard = True
        loop.call_soon_threadsafe(cancel)

    # Not the loop's own handlers, which some platforms do not have.
    before = {number: signal.signal(number, hear) for number in _STOPPING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(words: str) -> None:
    tidy = _TIDY if sys.stderr.isatty() else ""
    try:
        os.write(_STDERR, f"{tidy}openrouter-keys: {printable(words)}\n".encode(errors="replace"))
    finally:
        os._exit(INTERRUPTED)
