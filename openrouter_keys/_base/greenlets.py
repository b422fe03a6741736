"""Starts threads, and waits for them, after gevent's `monkey.patch_all()`.

gevent replaces Python's threads by greenlets. These share one thread of the system, which can run
one event loop, and gevent knows no other threads.
"""

import queue
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")


def replace_threads() -> bool:
    """Whether Python's threads are greenlets."""
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched("threading"))


def make_thread(
    function: Callable[[], None], name: str
) -> tuple[Callable[[], object], Callable[[], object]]:
    """Return functions that start a thread of the system, and that wait for its end.

    Both exist before the start: an interrupt may come while a thread starts.
    """
    if replace_threads():
        start = _original("_thread", "start_new_thread")
        ended = _original("_thread", "allocate_lock")()
        ended.acquire()
        return (
            lambda: start(_run_beside_greenlets, (function, ended.release)),
            lambda: ended.acquire() and ended.release(),
        )
    thread = threading.Thread(target=function, name=name, daemon=True)
    return thread.start, thread.join


def _run_beside_greenlets(function: Callable[[], None], ended: Callable[[], object]) -> None:
    try:
        function()
    finally:
        sys.modules["gevent"].get_hub().destroy(destroy_loop=True)  # it holds files open
        ended()


@contextmanager
def waiting() -> Generator[None, None, None]:
    """Enclose the start of a thread of the system, or a wait for it.

    Otherwise, gevent may report a wait without an end. It must also load its settings before the
    other thread does: the two would wait for each other's imports.
    """
    if not replace_threads():
        yield
        return
    busy = sys.modules["gevent"].get_hub().loop.async_()
    busy.start(lambda: None)
    try:
        yield
    finally:
        busy.stop()
        busy.close()


def simple_queue() -> "queue.SimpleQueue[Any]":
    """Return a queue whose waits block this thread of the system, with its greenlets."""
    made: queue.SimpleQueue[Any] = _original("queue", "SimpleQueue")()
    return made


def callers_queue() -> "queue.SimpleQueue[T] | queue.Queue[T]":
    """Return a queue that other threads of the system fill while this one's greenlets run."""
    if replace_threads():
        made: queue.Queue[T] = _original("queue", "Queue")()
        return made
    return queue.SimpleQueue()  # in C, so that no interrupt loses an item


def _original(module: str, name: str) -> Any:
    """Return Python's own object, which gevent may have replaced."""
    if replace_threads():
        return sys.modules["gevent.monkey"].get_original(module, name)
    return getattr(sys.modules[module], name)
