"""What a test leaves changed for the tests after it is noticed."""

import logging
import signal
import sys
import time
from collections.abc import Callable

import pytest

from tests.leftovers import none_left

LOG = logging.getLogger("openrouter_keys")
CHANGES: dict[str, Callable[[pytest.MonkeyPatch], object]] = {
    "environment": lambda patch: patch.setenv("LEFT", "1"),
    "folder": lambda patch: patch.chdir("/"),
    "time zone": lambda patch: patch.setattr(time, "tzname", ("XXX", "XXX")),
    "log": lambda patch: patch.setattr(LOG, "handlers", [logging.NullHandler()]),
    "levels of all logs": lambda patch: patch.setattr(logging.root.manager, "disable", 50),
    "signal handlers": lambda _: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    "hooks": lambda patch: patch.setattr(sys, "excepthook", print),
}


@pytest.mark.parametrize("what", CHANGES)
def test_what_is_left_changed_is_noticed(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    handler = signal.getsignal(signal.SIGHUP)
    try:
        with pytest.raises(pytest.fail.Exception, match=f"{{'{what}'"), none_left():
            CHANGES[what](monkeypatch)
    finally:
        signal.signal(signal.SIGHUP, handler)


def test_nothing_is_left_by_what_changes_nothing() -> None:
    with none_left():
        pass
