"""Ctrl-C, SIGTERM and SIGHUP: the first lets running requests end, the second ends the process."""

import asyncio
import os
import signal
import stat
import sys
import threading
from collections.abc import Callable, Collection, Coroutine, Generator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Final, TypeVar

from attrs import define

from openrouter_keys.cli.exit_codes import IN_DOUBT, CommandError
from openrouter_keys.cli.terminal.messages import write
from openrouter_keys.cli.terminal.streams import discard
from openrouter_keys.cli.terminal.text import printable

T = TypeVar("T")

# Windows has no SIGHUP: the terminal is closed, or its connection lost.
_HANGUP: Final = getattr(signal, "SIGHUP", None)
#: The signals that other programs send; the event loop itself handles an interrupt.
FROM_OUTSIDE: Final = (signal.SIGTERM, *(() if _HANGUP is None else (_HANGUP,)))
_STOPPING: Final = (signal.SIGINT, *FROM_OUTSIDE)
_STDERR: Final = 2
# Windows has neither this timer nor the gap that it closes.
_ALARM: Final = getattr(signal, "SIGALRM", None)
#: Seconds after which a read that waits for an answer is interrupted, again and again.
_GLANCE: Final = 0.1
# A progress bar's line is wiped, and the cursor that it hides is shown.
_TIDY: Final = "\r\x1b[2K\x1b[?25h"


@define
class _Heard:
    number: int = signal.SIGINT


_heard: Final = _Heard()


def signal_code() -> int:
    """Return the exit code after a signal: 128 and its number, as in shells."""
    return 128 + _heard.number


def interrupted(cancelled: asyncio.CancelledError) -> CommandError:
    """Return the error of a command that a signal stopped, with what became of its create."""
    notes = dict.fromkeys(getattr(cancelled, "__notes__", ()))
    # Its cause is the error of a create that may have left a key.
    code = signal_code() if cancelled.__cause__ is None else IN_DOUBT
    return CommandError("; ".join(["interrupted", *notes]), code)


async def uninterrupted(ends: Coroutine[object, object, T]) -> T:
    """Wait until a coroutine has ended, even if this task is cancelled."""
    task = asyncio.create_task(ends)
    while not task.done():
        with suppress(asyncio.CancelledError):
            await asyncio.wait({task})
    return task.result()


@contextmanager
def handed_on() -> Generator[Callable[[Callable[[int], object]], None]]:
    """Pass signals to a program that runs in this process group; they stop nothing here.

    The terminal sends Ctrl-C to the program by itself, if this process is in its foreground.

    Yields:
        What takes the function that sends a signal to the program; earlier ones are sent then.
    """
    early, senders = list[int](), list[Callable[[int], object]]()

    def hear(number: int, _: object) -> None:
        if number == signal.SIGINT and _is_in_the_foreground():
            return
        if senders:
            senders[0](number)
        else:
            early.append(number)

    def start(send: Callable[[int], object]) -> None:
        senders.append(send)
        for number in early:
            send(number)

    with handled(hear, _STOPPING):
        yield start


def _is_in_the_foreground() -> bool:
    """Whether there is a terminal that sends its signals to this process group."""
    with suppress(OSError, AttributeError):  # Windows has neither
        terminal = os.open(os.ctermid(), os.O_RDONLY | os.O_NOCTTY)
        try:
            return os.tcgetpgrp(terminal) == os.getpgrp()
        finally:
            os.close(terminal)
    return False


@contextmanager
def handled(
    hear: Callable[[int, FrameType | None], object], numbers: Collection[int]
) -> Generator[None]:
    """Call a function at these signals; what is ignored, as by `nohup` or `trap ''`, stays so."""
    if threading.current_thread() is not threading.main_thread():
        yield  # no other thread hears signals
        return
    # Not the loop's own handlers, which some platforms do not have.
    heeded = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, hear) for number in heeded}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def asking() -> Generator[None]:
    """Let a signal end a question at once, on a line of its own.

    A running event loop would see the signal only after the answer.
    """

    def hear(number: int, _: object) -> None:
        _heard.number = number
        raise KeyboardInterrupt

    try:
        with handled(hear, _STOPPING), _interrupted_reads():
            yield
    except KeyboardInterrupt:
        write("\n")
        raise


@contextmanager
def _interrupted_reads() -> Generator[None]:
    """Interrupt a read that waits, now and then, so that no signal waits for the answer.

    Python handles a signal that came just before such a read only once the read returns, or is
    interrupted.
    """
    if _ALARM is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    with handled(_go_on, (_ALARM,)):
        before = signal.setitimer(signal.ITIMER_REAL, _GLANCE, _GLANCE)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, *before)


def _go_on(*_: object) -> None:
    """Do nothing; the read was interrupted."""


@contextmanager
def interrupts(
    first: Callable[[], object],
    final_message: Callable[[], str],
    numbers: Collection[int] = _STOPPING,
) -> Generator[None]:
    """Let the first signal cancel this task, and the second end the process at once.

    The enclosed block must survive a kill at any moment, as a run with a journal does.

    Args:
        first: called in the loop at the first signal.
        final_message: returns the message at the second signal, such as how to go on.
        numbers: the signals; one that is ignored, as by `nohup` or `trap ''`, stays so.
    """
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    heard = False
    _heard.number = signal.SIGINT

    def cancel() -> None:
        if task is not None:
            task.cancel()
        with suppress(OSError):  # the terminal may be gone
            first()

    def hear(number: int, _: object) -> None:
        nonlocal heard
        if heard:
            _end(final_message())
        heard, _heard.number = True, number
        if number == _HANGUP:
            _discard_lost_terminal()
        loop.call_soon_threadsafe(cancel)

    with handled(hear, numbers):
        yield


def _discard_lost_terminal() -> None:
    """Discard what is written to it: an error of a write might keep a key from being deleted."""
    for number in (1, _STDERR):
        with suppress(OSError):
            if stat.S_ISCHR(os.fstat(number).st_mode) and not os.isatty(number):
                discard(number)


def _end(words: str) -> None:
    tidy = _TIDY if sys.stderr.isatty() else ""
    try:
        os.write(_STDERR, f"{tidy}openrouter-keys: {printable(words)}\n".encode(errors="replace"))
    finally:
        os._exit(signal_code())
