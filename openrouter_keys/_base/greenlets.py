"""gevent, after its `monkey.patch_all()`: how threads are started there, and waited for.

gevent puts its greenlets in the place of Python's threads. They share one thread of the system,
which can run one event loop, and gevent knows of no other.
"""

import queue
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")


def replace_threads() -> bool:
    """Whether threads are greenlets here."""
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched("threading"))


def make_thread(
    function: Callable[[], None], name: str
) -> tuple[Callable[[], object], Callable[[], object]]:
    """Return what starts a thread of the system that runs a function, and what waits for its end.

    The second is there before the first is called: an interrupt may come while a thread starts.
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
    """Let this thread start another one of the system, or wait for it.

    With nothing else to do, gevent would say that such a wait has no end. And it must know its own
    settings before the other thread asks for them: the two would wait for each other's imports.
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
    """Return a queue whose waits stop this thread of the system, and its greenlets with it."""
    made: queue.SimpleQueue[Any] = _original("queue", "SimpleQueue")()
    return made


def callers_queue() -> "queue.SimpleQueue[T] | queue.Queue[T]":
    """Return a queue that other threads of the system fill while a caller's greenlets go on."""
    if replace_threads():
        made: queue.Queue[T] = _original("queue", "Queue")()
        return made
    return queue.SimpleQueue()  # no interrupt can come between it and who takes from it


def _original(module: str, name: str) -> Any:
    """Return what gevent may have replaced by something for greenlets of one thread only."""
    if replace_threads():
        return sys.modules["gevent.monkey"].get_original(module, name)
    return getattr(sys.modules[module], name)
