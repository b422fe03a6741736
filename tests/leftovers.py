"""What a test may change in the process that all tests share, and must leave as it was."""

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

_SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGPIPE, signal.SIGTERM, signal.SIGTSTP)


def _found() -> dict[str, object]:
    log, root = logging.getLogger("openrouter_keys"), logging.getLogger()
    return {
        "environment": {**os.environ, "PYTEST_CURRENT_TEST": ""},  # pytest says where it is
        "folder": Path.cwd(),
        "time zone": time.tzname,
        "log": (log.level, [*log.handlers], [*log.filters], log.propagate, log.disabled),
        "levels of all logs": (root.level, root.manager.disable),
        "signal handlers": [signal.getsignal(each) for each in _SIGNALS],
        "hooks": (sys.excepthook, sys.unraisablehook, threading.excepthook),
    }


@contextmanager
def none_left() -> Generator[None]:
    """Fail when the block has ended if it left anything changed."""
    before = _found()
    yield
    after = _found()
    changed = {name: (before[name], after[name]) for name in before if before[name] != after[name]}
    if changed:
        pytest.fail(f"left changed, for the tests after this one: {changed}", pytrace=False)
