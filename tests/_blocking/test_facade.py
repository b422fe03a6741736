"""The loop in a thread and the blocking twins: small fakes, real signals, real processes."""

import asyncio
import contextlib
import contextvars
import gc
import inspect
import os
import pydoc
import signal
import subprocess
import sys
import textwrap
import threading
import weakref
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest

from openrouter_keys._blocking.caller_thread import CallerThread
from openrouter_keys._blocking.facade import Facade, blocking, iterating
from openrouter_keys._blocking.loop_thread import LoopThread, _Call, _Loop, _running
from openrouter_keys.errors import (
    ClientClosedError,
    ClientStateError,
    CreateOutcomeUnknownError,
    NoResponseError,
    SecretLostError,
)

PATIENCE = 20.0
ROOT = Path(__file__).parents[2]

colour = contextvars.ContextVar("colour", default="none")


class Marker:
    """Something whose end can be seen."""


class AsyncThings:
    def __init__(self) -> None:
        self.waiting = threading.Event()
        self.generator_closed_in: list[int] = []
        self.generator_closed = threading.Event()
        self.marker: weakref.ref[Marker] | None = None

    async def add(self, left: int, *, right: int = 1) -> int:
        """Add two numbers."""
        await asyncio.sleep(0)
        return left + right

    async def thread(self) -> int:
        return threading.get_ident()

    async def paint(self) -> str:
        before = colour.get()
        colour.set("green")
        return before

    async def fail(self, error: BaseException) -> None:
        await asyncio.sleep(0)
        raise error

    async def fail_with_a_marker(self) -> None:
        marker = Marker()
        self.marker = weakref.ref(marker)
        await asyncio.sleep(0)
        raise ValueError

    async def wait(self) -> None:
        self.waiting.set()
        await asyncio.Event().wait()

    async def run(self, function: Callable[[], object]) -> object:
        return function()

    async def count(self, start: int = 0, *, stop: int = 3) -> AsyncGenerator[int, None]:
        """Count from `start` to `stop`."""
        for number in range(start, stop):
            yield number

    async def batches(self, start: int = 0, *, stop: int = 3) -> AsyncGenerator[list[int], None]:
        """Count by twos."""
        try:
            for number in range(start, stop, 2):
                await asyncio.sleep(0)
                yield [*range(number, min(number + 2, stop))]
        finally:
            self.generator_closed_in.append(threading.get_ident())
            self.generator_closed.set()


class Things(Facade[AsyncThings]):
    add = blocking(AsyncThings.add)
    thread = blocking(AsyncThings.thread)
    paint = blocking(AsyncThings.paint)
    fail = blocking(AsyncThings.fail)
    fail_with_a_marker = blocking(AsyncThings.fail_with_a_marker)
    wait = blocking(AsyncThings.wait)
    run = blocking(AsyncThings.run)
    counted = iterating(AsyncThings.count, AsyncThings.batches)


async def nothing() -> None:
    """The last thing to do."""


@pytest.fixture
def loop() -> Iterator[LoopThread]:
    thread = LoopThread(nothing)
    yield thread
    thread.close()


@pytest.fixture
def twin() -> AsyncThings:
    return AsyncThings()


@pytest.fixture
def things(twin: AsyncThings, loop: LoopThread) -> Things:
    return Things(twin, loop)


def loop_threads() -> set[threading.Thread]:
    """Those there are now. One of an earlier test may be about to end: compare with `<=`."""
    return {each for each in threading.enumerate() if each.name == "blocking-calls"}


# Calling


def test_a_call_returns_what_the_coroutine_returns(things: Things) -> None:
    assert things.add(1) == 2
    assert things.add(left=1, right=4) == 5


def test_all_calls_run_in_one_other_thread(things: Things) -> None:
    barrier = threading.Barrier(16)

    def call(_: int) -> int:
        barrier.wait(PATIENCE)
        return things.thread()

    with ThreadPoolExecutor(16) as pool:
        idents = set(pool.map(call, range(16)))
    assert len(idents) == 1
    assert threading.get_ident() not in idents


async def test_it_works_where_an_event_loop_is_running(things: Things) -> None:
    assert things.add(1) == 2


def test_the_coroutine_sees_a_copy_of_the_callers_context(things: Things) -> None:
    token = colour.set("blue")
    assert things.paint() == "blue"
    assert colour.get() == "blue"
    colour.reset(token)


def test_no_thread_starts_before_the_first_call() -> None:
    before = loop_threads()
    things = Things(AsyncThings(), LoopThread(nothing))
    assert loop_threads() <= before
    assert inspect.ismethod(things.add)


def test_sniffio_hears_of_asyncio_whatever_the_callers_context_says(
    twin: AsyncThings, monkeypatch: pytest.MonkeyPatch
) -> None:
    sniffio = SimpleNamespace(thread_local=threading.local())
    monkeypatch.setitem(sys.modules, "sniffio", sniffio)
    loop = LoopThread(nothing)
    things = Things(twin, loop)
    assert things.run(lambda: sniffio.thread_local.name) == "asyncio"
    assert not hasattr(sniffio.thread_local, "name")
    loop.close()


# Errors


def test_the_coroutines_error_is_raised_as_it_is(things: Things) -> None:
    error = ValueError("seven")
    with pytest.raises(ValueError, match="seven") as caught:
        things.fail(error)
    assert caught.value is error
    assert "fail" in [entry.name for entry in caught.traceback]


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit()])
def test_an_error_that_ends_programs_reaches_the_caller_and_not_the_loop(
    things: Things, error: BaseException
) -> None:
    with pytest.raises(type(error)) as caught:
        things.fail(error)
    assert caught.value is error
    assert things.add(1) == 2


@pytest.mark.slow
def test_an_error_leaves_no_reference_cycle(things: Things, twin: AsyncThings) -> None:
    gc.collect()
    gc.disable()
    try:
        with contextlib.suppress(ValueError):
            things.fail_with_a_marker()
        things.add(1)  # by now the loop is done with the call before
        assert twin.marker is not None
        assert twin.marker() is None
    finally:
        gc.enable()


def break_begin(inner: _Loop, patch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise LookupError("no task")

    patch.setattr(inner._loop, "create_task", refuse, raising=False)


def break_way(inner: _Loop, patch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise LookupError("no way into the loop")

    patch.setattr(inner._loop, "call_soon_threadsafe", refuse, raising=False)


def break_coroutine(_: _Loop, patch: pytest.MonkeyPatch) -> None:
    def refuse(_: object) -> None:
        raise LookupError("no coroutine")

    patch.setattr(_Call, "run", refuse)


def break_run(_: _Loop, patch: pytest.MonkeyPatch) -> None:
    async def refuse(_: object) -> None:
        raise LookupError("before the function")

    patch.setattr(_Call, "run", refuse)


def cancel_at_once(inner: _Loop, patch: pytest.MonkeyPatch) -> None:
    loop = inner._loop
    assert loop is not None
    create_task = loop.create_task

    def cancelled(coroutine: Coroutine[object, object, None]) -> asyncio.Task[None]:
        task = create_task(coroutine)
        task.cancel()  # before its first step
        return task

    patch.setattr(loop, "create_task", cancelled, raising=False)


def end_the_loop(inner: _Loop, patch: pytest.MonkeyPatch) -> None:
    async def end(call: _Call[object]) -> None:
        def die() -> None:
            raise SystemExit

        asyncio.get_running_loop().call_soon(die)
        await asyncio.Event().wait()

    patch.setattr(_Call, "run", end)


BREAKS: dict[Callable[[_Loop, pytest.MonkeyPatch], None], type[BaseException]] = {
    break_begin: LookupError,
    break_way: LookupError,
    break_coroutine: LookupError,
    break_run: LookupError,
    cancel_at_once: asyncio.CancelledError,
    end_the_loop: asyncio.CancelledError,
}


@pytest.mark.parametrize("hosted", [False, True])
@pytest.mark.parametrize("break_it", BREAKS)
def test_whatever_breaks_on_a_calls_way_reaches_its_caller(
    break_it: Callable[[_Loop, pytest.MonkeyPatch], None],
    hosted: bool,
    twin: AsyncThings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loop = LoopThread(nothing)
    things = Things(twin, loop)

    def call() -> object:
        return loop.host(twin.thread, CallerThread()) if hosted else things.add(1)

    assert things.add(1) == 2
    assert loop._loop is not None
    with ThreadPoolExecutor(1) as pool, monkeypatch.context() as patch:
        break_it(loop._loop, patch)
        error = pool.submit(call).exception(PATIENCE)
    assert type(error) is BREAKS[break_it]
    if break_it is not end_the_loop:
        assert things.add(1) == 2
    with contextlib.suppress(SystemExit):
        loop.close()


def test_a_task_that_the_coroutine_awaited_and_others_cancelled_is_told_as_that(
    things: Things,
) -> None:
    with pytest.raises(asyncio.CancelledError):
        things.fail(asyncio.CancelledError())


def test_a_wrong_argument_is_refused_as_python_does(things: Things) -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'middle'"):
        getattr(things, "add")(1, middle=2)  # noqa: B009 # the type checkers would refuse it


def test_a_call_from_inside_the_loop_is_refused(things: Things) -> None:
    with pytest.raises(ClientStateError, match="own event loop"):
        things.run(lambda: things.add(1))
    assert things.add(1) == 2


# Ending


def test_closing_from_inside_the_loop_is_refused(things: Things, loop: LoopThread) -> None:
    with pytest.raises(ClientStateError, match="own event loop"):
        things.run(loop.close)
    assert things.add(1) == 2


def test_closing_runs_the_last_coroutine_once_and_ends_the_thread() -> None:
    ran_in: list[int] = []

    async def last() -> None:
        await asyncio.sleep(0)
        ran_in.append(threading.get_ident())

    before = loop_threads()
    loop = LoopThread(last)
    ident = loop.call(AsyncThings().thread)
    loop.close()
    loop.close()
    assert ran_in == [ident]
    assert loop_threads() <= before


def test_many_threads_may_close_at_once() -> None:
    done: list[str] = []

    async def last() -> None:
        await asyncio.sleep(0.05)
        done.append("last")

    loop = LoopThread(last)
    loop.call(AsyncThings().thread)
    barrier = threading.Barrier(4)

    def close(_: int) -> list[str]:
        barrier.wait(PATIENCE)
        loop.close()
        return list(done)

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(close, range(4))) == [["last"]] * 4


def test_closing_without_a_call_starts_nothing() -> None:
    before = loop_threads()
    LoopThread(AsyncThings().wait).close()
    assert loop_threads() <= before


@pytest.mark.parametrize("calls_before", [0, 1])
def test_a_call_after_closing_is_refused(
    things: Things, loop: LoopThread, calls_before: int
) -> None:
    for _ in range(calls_before):
        things.add(1)
    loop.close()
    with pytest.raises(ClientClosedError, match="make a new one"):
        things.add(1)


def test_a_call_that_the_ending_loop_does_not_come_to_is_refused(
    things: Things, loop: LoopThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    things.add(1)
    inner = loop._loop
    assert inner is not None
    soon, asked = inner.soon, threading.Event()

    def too_late(function: Callable[[], object]) -> None:
        if getattr(function, "func", None) == inner._begin:
            asked.set()  # the loop closes before it comes to this
        else:
            soon(function)

    monkeypatch.setattr(inner, "soon", too_late)
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(things.add, 1)
        assert asked.wait(PATIENCE)
        loop.close()
        with pytest.raises(ClientClosedError, match="make a new one"):
            call.result(PATIENCE)


def test_a_call_that_comes_while_the_loop_ends_is_refused() -> None:
    ending, go_on = threading.Event(), threading.Event()

    async def last() -> None:
        ending.set()
        await asyncio.to_thread(go_on.wait, PATIENCE)

    loop = LoopThread(last)
    things = Things(AsyncThings(), loop)
    things.add(1)
    inner = loop._loop
    assert inner is not None
    inner.stop(cancel=False)
    assert ending.wait(PATIENCE)
    with pytest.raises(ClientClosedError, match="make a new one"):
        things.add(1)
    go_on.set()
    loop.close()


def test_an_error_of_undoing_a_result_ends_no_other_call(loop: LoopThread) -> None:
    twin, undoing = AsyncThings(), threading.Event()

    async def number() -> int:
        forgotten.outcome.cancel()  # the caller is gone
        return 1

    async def undo(_: int | BaseException) -> None:
        undoing.set()
        raise ValueError

    things = Things(twin, loop)
    things.add(1)
    assert loop._loop is not None
    forgotten = _Call(loop._loop, number, undo)
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(things.wait)
        assert twin.waiting.wait(PATIENCE)
        loop._loop.run(forgotten)
        assert undoing.wait(PATIENCE)
        assert things.add(1) == 2
        assert not other.done()
        loop._loop.stop(cancel=True)
        assert isinstance(other.exception(PATIENCE), asyncio.CancelledError)


def test_an_error_of_the_last_coroutine_is_raised_by_closing_and_the_thread_still_ends() -> None:
    async def last() -> None:
        raise ValueError("no way to close")

    before = loop_threads()
    loop = LoopThread(last)
    loop.call(AsyncThings().thread)
    with pytest.raises(ValueError, match="no way to close"):
        loop.close()
    loop.close()
    assert loop_threads() <= before


@pytest.mark.slow
def test_a_loop_that_nobody_holds_ends_and_runs_its_last_coroutine() -> None:
    ended = threading.Event()

    async def last() -> None:
        ended.set()

    before = loop_threads()
    things = Things(AsyncThings(), LoopThread(last))
    things.add(1)
    (thread,) = loop_threads() - before
    del things
    gc.collect()
    assert ended.wait(PATIENCE)
    thread.join(PATIENCE)
    assert not thread.is_alive()


def test_facades_that_share_a_loop_keep_it_running() -> None:
    first = Things(AsyncThings(), loop := LoopThread(nothing))
    second = Things(AsyncThings(), loop)
    del first, loop
    gc.collect()
    assert second.add(1) == 2


# Iterating


def test_iterating_gives_what_the_generator_yields(things: Things) -> None:
    assert list(things.counted()) == [0, 1, 2]
    assert list(things.counted(1, stop=2)) == [1]


def test_iterating_raises_the_generators_error_and_ends(loop: LoopThread) -> None:
    class AsyncBroken:
        async def count(self) -> AsyncGenerator[int, None]:
            yield 1

        async def batches(self) -> AsyncGenerator[list[int], None]:
            yield [1]
            raise ValueError("after one")

    class Broken(Facade[AsyncBroken]):
        count = iterating(AsyncBroken.count, AsyncBroken.batches)

    items = Broken(AsyncBroken(), loop).count()
    assert next(items) == 1
    with pytest.raises(ValueError, match="after one"):
        next(items)
    assert list(items) == []


def test_iterating_refuses_a_wrong_argument_before_the_first_item(things: Things) -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'step'"):
        getattr(things, "counted")(step=2)  # noqa: B009 # the type checkers would refuse it


def test_closing_the_iterator_closes_the_generator_in_the_loop(
    things: Things, twin: AsyncThings
) -> None:
    items = things.counted()
    next(items)
    getattr(items, "close")()  # noqa: B009 # not promised by its type
    assert twin.generator_closed.wait(PATIENCE)
    assert twin.generator_closed_in == [things.thread()]


def test_dropping_the_iterator_closes_the_generator_in_the_loop(
    things: Things, twin: AsyncThings
) -> None:
    for number in things.counted():
        assert number == 0
        break
    assert twin.generator_closed.wait(PATIENCE)
    assert twin.generator_closed_in == [things.thread()]


def test_dropping_the_iterator_after_closing_the_loop_is_quiet(
    things: Things, twin: AsyncThings, loop: LoopThread
) -> None:
    items = things.counted()
    next(items)
    loop.close()
    assert twin.generator_closed.is_set()
    assert next(items) == 1  # came with the one before
    with pytest.raises(ClientClosedError):
        next(items)
    del items


# What shows


def test_signatures_come_over() -> None:
    things = Things(AsyncThings(), LoopThread(nothing))
    assert str(inspect.signature(Things.add)) == "(self, left: int, *, right: int = 1) -> int"
    assert str(inspect.signature(things.add)) == "(left: int, *, right: int = 1) -> int"
    counted = "(start: int = 0, *, stop: int = 3) -> collections.abc.Iterator[int]"
    assert str(inspect.signature(things.counted)) == counted


def test_names_and_docstrings_come_over() -> None:
    things = Things(AsyncThings(), LoopThread(nothing))
    for counted in (Things.counted, things.counted):
        assert inspect.getdoc(counted) == "Count from `start` to `stop`."
        assert getattr(counted, "__name__") == "counted"  # noqa: B009 # a Callable has no name
        assert getattr(counted, "__qualname__") == "Things.counted"  # noqa: B009
        assert counted.__module__ == __name__


def test_blocking_methods_do_not_pass_for_coroutine_functions() -> None:
    assert not inspect.iscoroutinefunction(Things.add)
    assert not inspect.isasyncgenfunction(Things.counted)


def test_help_shows_the_methods() -> None:
    text = pydoc.plain(pydoc.render_doc(Things))
    assert "add(self, left: int, *, right: int = 1) -> int\n |      Add two numbers." in text
    assert "counted(self, start: int = 0, *, stop: int = 3)" in text


# Processes: interrupts, forks and exits

PRELUDE = """
import anyio, asyncio, logging, os, signal, sys, threading
import anyio._backends._asyncio  # later, its import would change the exit code of an interrupt
# On a busy machine, any step of the loop may be reported as slow.
logging.getLogger("asyncio").addFilter(lambda record: " took " not in record.getMessage())
from openrouter_keys._blocking import loop_thread as module
from openrouter_keys._blocking.facade import Facade, blocking, iterating
from openrouter_keys._blocking.loop_thread import LoopThread, _Call

def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())  # whole, from any thread

class AsyncThings:
    async def add(self, left):
        return left + 1
    async def wait(self):
        say("waiting")
        try:
            await asyncio.Event().wait()
        finally:
            say("cancelled")
    async def late(self):
        say("waiting")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            with anyio.CancelScope(shield=True):
                await asyncio.sleep(0.05)
            return "late"
    async def broken(self):
        say("waiting")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise ValueError("broken while leaving")
    async def undo(self, result):
        await asyncio.sleep(0.05)
        say("undone", result)
    async def count(self):
        yield 0
    async def batches(self):
        try:
            for number in range(3):
                yield [number]
                say("waiting")
                await asyncio.Event().wait()
        finally:
            say("generator closed")
    async def close(self):
        say("closed")

class Things(Facade[AsyncThings]):
    add = blocking(AsyncThings.add)
    wait = blocking(AsyncThings.wait)
    late = blocking(AsyncThings.late, dropped=AsyncThings.undo)
    broken = blocking(AsyncThings.broken)
    count = iterating(AsyncThings.count, AsyncThings.batches)

twin = AsyncThings()
loop = LoopThread(twin.close)
things = Things(twin, loop)
"""


class Script:
    """A Python process with the prelude, whose standard output is read line by line."""

    def __init__(self, body: str) -> None:
        self.process = subprocess.Popen(  # our own
            [sys.executable, "-X", "dev", "-W", "error", "-c", PRELUDE + textwrap.dedent(body)],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def interrupt_when_it_says(self, line: str) -> None:
        assert self.process.stdout is not None
        while (said := self.process.stdout.readline().strip()) != line:
            assert said, self.process.communicate(timeout=PATIENCE)
        self.process.send_signal(signal.SIGINT)

    def end(self) -> tuple[list[str], str, int]:
        try:
            out, err = self.process.communicate(timeout=PATIENCE)
        finally:
            self.process.kill()
        return out.splitlines(), err, self.process.returncode


@pytest.mark.slow
def test_ctrl_c_cancels_the_call_surfaces_at_once_and_leaves_the_client_usable() -> None:
    script = Script("""
        try:
            things.wait()
        except KeyboardInterrupt:
            say("interrupted")
        say(things.add(1))
        loop.close()
    """)
    script.interrupt_when_it_says("waiting")
    out, err, code = script.end()
    assert sorted(out[:2]) == ["cancelled", "interrupted"]
    assert (out[2:], err, code) == (["2", "closed"], "", 0)


@pytest.mark.slow
def test_ctrl_c_does_not_wait_for_a_coroutine_that_takes_its_time_and_closing_does() -> None:
    script = Script("""
        let_go = asyncio.Event()
        class AsyncSlow(AsyncThings):
            async def wait(self):
                try:
                    await super().wait()
                finally:
                    with anyio.CancelScope(shield=True):
                        await let_go.wait()
                    say("let go")
        class Slow(Facade[AsyncSlow]):
            wait = blocking(AsyncSlow.wait)
            async def set(self):
                let_go.set()
        slow = Slow(AsyncSlow(), loop)
        try:
            slow.wait()
        except KeyboardInterrupt:
            say("interrupted")
        loop.call(slow.set)
        loop.close()
    """)
    script.interrupt_when_it_says("waiting")
    out, err, code = script.end()
    assert sorted(out[:2]) == ["cancelled", "interrupted"]
    assert (out[2:], err, code) == (["let go", "closed"], "", 0)


@pytest.mark.slow
def test_a_result_that_comes_after_ctrl_c_is_undone_before_closing() -> None:
    script = Script("""
        try:
            things.late()
        except KeyboardInterrupt:
            say("interrupted")
        loop.close()
    """)
    script.interrupt_when_it_says("waiting")
    assert script.end() == (["interrupted", "undone late", "closed"], "", 0)


def test_a_result_that_ctrl_c_keeps_from_its_caller_is_undone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Interrupted(Future[int]):
        """An outcome that is there when Ctrl-C comes."""

        interrupts = 1

        def result(self, timeout: float | None = None) -> int:
            result = super().result(timeout)
            self.interrupts -= 1
            if not self.interrupts:
                raise KeyboardInterrupt
            return result

    undone: list[int | BaseException] = []

    async def undo(twin: AsyncThings, result: int | BaseException) -> None:
        undone.append(result)

    class Undoing(Facade[AsyncThings]):
        add = blocking(AsyncThings.add, dropped=undo)

    loop = LoopThread(nothing)
    things = Undoing(AsyncThings(), loop)
    assert things.add(1) == 2
    with monkeypatch.context() as patched:
        patched.setattr("openrouter_keys._blocking.loop_thread.Future", Interrupted)
        with pytest.raises(KeyboardInterrupt):
            things.add(5)
    loop.close()
    assert undone == [6]


@pytest.mark.parametrize(
    "error",
    [
        CreateOutcomeUnknownError("a key may be there"),
        SecretLostError("its secret is gone"),
        NoResponseError("no answer came"),
        ValueError("seven"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_that_ctrl_c_keeps_from_its_caller_is_told_with_it(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupted(Future[None]):
        """An outcome that is an error when Ctrl-C comes."""

        def result(self, timeout: float | None = None) -> None:
            super().exception(timeout)
            raise KeyboardInterrupt

    dropped: list[BaseException | None] = []

    async def drop(twin: AsyncThings, came: BaseException | None) -> None:
        dropped.append(came)

    class Dropping(Facade[AsyncThings]):
        add = blocking(AsyncThings.add)
        fail = blocking(AsyncThings.fail, dropped=drop)

    loop = LoopThread(nothing)
    things = Dropping(AsyncThings(), loop)
    assert things.add(1) == 2
    with monkeypatch.context() as patched:
        patched.setattr("openrouter_keys._blocking.loop_thread.Future", Interrupted)
        with pytest.raises(KeyboardInterrupt) as caught:
            things.fail(error)
    loop.close()
    assert caught.value.__notes__ == [str(error)]
    assert dropped == [error]


@pytest.mark.slow
def test_ctrl_c_in_an_iteration_closes_its_generator() -> None:
    script = Script("""
        try:
            for number in things.count():
                say(number)
        except KeyboardInterrupt:
            say("interrupted")
        say(things.add(1))
        loop.close()
    """)
    script.interrupt_when_it_says("waiting")
    out, err, code = script.end()
    assert sorted(out[:2]) == ["generator closed", "interrupted"]
    assert (out[2:], err, code) == (["2", "closed"], "", 0)


@pytest.mark.slow
def test_a_loop_that_cannot_start_says_why_and_the_next_call_tries_again() -> None:
    script = Script("""
        run = module._run_to_the_end
        def fail(*args, **kwargs):
            raise OSError("no file descriptors left")
        module._run_to_the_end = fail
        try:
            things.add(1)
        except OSError as error:
            say(error)
        module._run_to_the_end = run
        say(things.add(1))
        loop.close()
    """)
    assert script.end() == (["no file descriptors left", "2", "closed"], "", 0)


@pytest.mark.slow
def test_ctrl_c_while_closing_surfaces_at_once() -> None:
    script = Script("""
        module.EXIT_TIMEOUT = 0.1
        loop = LoopThread(twin.wait)
        Things(twin, loop).add(1)
        try:
            loop.close()
        except KeyboardInterrupt:
            say("interrupted")
    """)
    script.interrupt_when_it_says("waiting")
    assert script.end() == (["interrupted"], "", 0)


@pytest.mark.slow
def test_ctrl_c_without_a_handler_ends_the_process_in_order() -> None:
    script = Script("things.late()")
    script.interrupt_when_it_says("waiting")
    out, err, code = script.end()
    assert (out, code) == (["undone late", "closed"], -signal.SIGINT), err
    assert err.rstrip().endswith("KeyboardInterrupt")


@pytest.mark.slow
def test_an_exit_without_closing_is_quiet_and_runs_the_last_coroutine() -> None:
    assert Script("say(things.add(1))").end() == (["2", "closed"], "", 0)


@pytest.mark.slow
def test_an_exit_does_not_wait_forever_for_the_last_coroutine() -> None:
    script = Script("""
        module.EXIT_TIMEOUT = 0.1
        loop = LoopThread(twin.wait)
        say(Things(twin, loop).add(1))
    """)
    assert script.end() == (["2", "waiting"], "", 0)


@pytest.mark.slow
def test_an_error_of_the_last_coroutine_that_nobody_asked_for_is_shown() -> None:
    script = Script("""
        async def last():
            raise ValueError("no way to close")
        loop = LoopThread(last)
        say(Things(twin, loop).add(1))
    """)
    out, err, code = script.end()
    assert (out, code) == (["2"], 0)
    assert "ValueError: no way to close" in err


FORK = """
    import warnings
    warnings.simplefilter("ignore", DeprecationWarning)  # 3.12 warns of threads in the parent
    {before}
    if (child := os.fork()) == 0:
        try:
            say("child", things.add(1))
        except RuntimeError as error:
            say("refused", error)
        loop.close()
        say("child closed")
        sys.exit(7)
    say("status", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    say(things.add(2))
"""


@pytest.mark.slow
def test_a_call_in_a_forked_child_is_refused_and_the_parent_goes_on() -> None:
    out, err, code = Script(FORK.format(before="things.add(1)")).end()
    assert out[0].startswith("refused the client was used before fork()")
    assert (out[1:], err, code) == (["child closed", "status 7", "3", "closed"], "", 0)


@pytest.mark.slow
def test_a_client_that_no_call_used_before_the_fork_works_in_both_processes() -> None:
    out, err, code = Script(FORK.format(before="pass")).end()
    told = ["child 2", "closed", "child closed", "status 7", "3", "closed"]
    assert (out, err, code) == (told, "", 0)


@pytest.mark.slow
def test_a_client_that_was_closed_before_the_fork_says_so() -> None:
    out, _, code = Script(FORK.format(before="loop.close()") + "    sys.exit()\n").end()
    assert out[0] == "refused the client is closed; make a new one"
    assert code == 1  # the parent's own call


@pytest.mark.slow
def test_a_thread_that_calls_while_another_one_forks_leaves_the_child_no_lock() -> None:
    script = Script(FORK.format(before="""run, go = module._run_to_the_end, threading.Event()
    begun = threading.Event()
    def held(main):
        begun.set()
        go.wait()
        return run(main)
    module._run_to_the_end = held
    threading.Thread(target=things.add, args=(1,)).start()
    begun.wait()
    os.register_at_fork(after_in_parent=go.set)
    """))  # fmt: skip
    out, err, code = script.end()
    assert out[0].startswith("refused the client was used before fork()")
    assert (out[1:], err, code) == (["child closed", "status 7", "3", "closed"], "", 0)


@pytest.mark.slow
def test_ctrl_c_while_the_loop_starts_leaves_the_client_usable() -> None:
    script = Script("""
        run, go = module._run_to_the_end, threading.Event()
        def held(*args, **kwargs):
            say("starting")
            go.wait()
            return run(*args, **kwargs)
        module._run_to_the_end = held
        try:
            things.add(1)
        except KeyboardInterrupt:
            say("interrupted")
        module._run_to_the_end = run
        go.set()
        say(things.add(1))
        loop.close()
    """)
    script.interrupt_when_it_says("starting")
    assert script.end() == (["interrupted", "2", "closed"], "", 0)


@pytest.mark.slow
def test_a_signal_handler_may_close_in_the_middle_of_the_first_call() -> None:
    script = Script("""
        def stop(*_):
            loop.close()
            say("handled")
            raise SystemExit(3)
        signal.signal(signal.SIGINT, stop)
        run = module._run_to_the_end
        def slow(*args, **kwargs):
            say("starting")
            threading.Event().wait(0.3)
            return run(*args, **kwargs)
        module._run_to_the_end = slow
        things.add(1)
    """)
    script.interrupt_when_it_says("starting")
    out, err, code = script.end()
    assert (out[0], err, code) == ("handled", "", 3)


@pytest.mark.slow
def test_a_call_after_the_interpreters_end_has_begun_is_refused() -> None:
    script = Script("""
        import atexit
        def call():
            try:
                things.add(1)
            except Exception as error:
                say(type(error).__name__)
        module._stop_all()
        atexit.register(call)
        say(things.add(1))
        module._stop_all()
    """)
    assert script.end() == (["2", "closed", "ClientClosedError"], "", 0)


@pytest.mark.slow
@pytest.mark.parametrize("used", ["", "Things(twin, first).add(1)"])
def test_a_first_call_at_the_interpreters_end_is_refused_in_a_sentence(used: str) -> None:
    script = Script(f"""
        import atexit
        first = LoopThread(twin.close)
        {used}
        def call():
            try:
                things.add(1)
            except Exception as error:
                say(type(error).__name__, error)
        atexit.register(call)
    """)
    out, err, code = script.end()
    assert out[0].startswith("ClientStateError the interpreter is ending")
    assert (err, code) == ("", 0)


@pytest.mark.slow
def test_the_last_coroutine_may_use_the_executor_at_the_interpreters_end() -> None:
    script = Script("""
        async def look_up():
            found = await asyncio.get_running_loop().getaddrinfo("localhost", 80)
            say("found", bool(found))
        async def last():
            await look_up()
            await asyncio.to_thread(say, "in a thread")
        loop = LoopThread(last)
        loop.call(look_up)
    """)
    assert script.end() == (["found True", "found True", "in a thread"], "", 0)


def test_an_interrupt_while_the_thread_starts_leaves_a_client_that_can_be_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    start, before = threading.Thread.start, {*_running}

    def interrupted(thread: threading.Thread) -> None:
        start(thread)
        while not any(loop.ready.done() for loop in {*_running} - before):
            threading.Event().wait(0.001)
        raise KeyboardInterrupt

    loop = LoopThread(nothing)
    monkeypatch.setattr(threading.Thread, "start", interrupted)
    with pytest.raises(KeyboardInterrupt):
        loop.call(nothing)
    monkeypatch.undo()
    loop.call(nothing)
    loop.close()
