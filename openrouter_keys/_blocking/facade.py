"""Blocking methods made from coroutines: functions that call a `LoopThread`. No keys.

`create = blocking(AsyncThings.create)` in a `Facade` makes a blocking method from a coroutine, with
the same signature and docstring; `hosting` does so for a coroutine with callbacks, `iterating` for
an async generator, `managing` for a method that returns an async context manager.

What they make are plain functions, so that `help` and tools that import it see methods. Tools that
only read it see them in `sync.pyi` (docs/decisions/blocking.md).
"""

import enum
import functools
import inspect
import types
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, suppress
from types import TracebackType
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Final,
    Generic,
    NoReturn,
    ParamSpec,
    TypeVar,
    get_args,
)

from openrouter_keys._base.pickling import NeverPickled
from openrouter_keys._blocking.caller_thread import CallerThread
from openrouter_keys._blocking.loop_thread import LoopThread
from openrouter_keys._inputs.arguments import hides_arguments
from openrouter_keys.errors import ClientClosedError, ClientStateError

C = TypeVar("C")
F = TypeVar("F", bound=Callable[..., object])
P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class _End(enum.Enum):
    END = enum.auto()


_IS_BLOCKING: Final = (
    "this client is the blocking one; its async twin is AsyncOpenRouter: "
    "`async with AsyncOpenRouter() as client: await client.api_keys.create(...)`"
)


class Facade(NeverPickled, Generic[C]):
    """A blocking twin: it holds an async object and that object's loop.

    Args:
        twin: the async object whose methods `blocking` and `iterating` call.
        thread: its loop; the facades of one client share it.
    """

    def __init_subclass__(cls) -> None:
        """Name each method as its attribute, and not as the coroutine that it calls."""
        super().__init_subclass__()
        for name, function in vars(cls).items():
            if isinstance(function, types.FunctionType):
                function.__name__, function.__module__ = name, cls.__module__
                function.__qualname__ = f"{cls.__qualname__}.{name}"

    def __init__(self, twin: C, thread: LoopThread) -> None:
        self._twin = twin
        self._thread = thread

    if not TYPE_CHECKING:  # checkers report these uses by themselves

        def __getattr__(self, name: str) -> NoReturn:
            problem = f"{type(self).__name__!r} object has no attribute {name!r}"
            if callable(getattr(type(self), name.removesuffix("_async"), None)):
                problem = f"{problem}: {_IS_BLOCKING}"
            raise AttributeError(problem)

        async def __aenter__(self) -> NoReturn:
            raise ClientStateError(_IS_BLOCKING)

        async def __aexit__(self, *_: object) -> None: ...


def _parts(facade: Facade[C]) -> tuple[C, LoopThread]:
    return facade._twin, facade._thread  # pyright: ignore[reportPrivateUsage]  # a friend of it


class _Bound(NeverPickled):
    """Like `functools.partial`, but its `repr` shows no argument."""

    def __init__(
        self,
        method: Callable[..., Any],
        twin: object,
        args: tuple[object, ...],
        kwargs: dict[str, object],
    ) -> None:
        self._parts = (method, twin, args, kwargs)

    def __call__(self) -> Any:
        method, twin, args, kwargs = self._parts
        return method(twin, *args, **kwargs)


def blocking(
    method: Callable[Concatenate[C, P], Coroutine[Any, Any, R]],
    *,
    dropped: Callable[[C, R | BaseException], Awaitable[object]] | None = None,
) -> Callable[Concatenate[Facade[C], P], R]:
    """Make a blocking method of a coroutine method; see the head of this file.

    Args:
        method: the coroutine method; its signature and docstring are the blocking method's.
        dropped: awaited with the async object and a result, or an error, that an interrupted
            caller did not get.
    """

    @functools.wraps(method)
    def call(facade: Facade[C], /, *args: P.args, **kwargs: P.kwargs) -> R:
        twin, thread = _parts(facade)
        undo = None if dropped is None else functools.partial(dropped, twin)
        bound = _Bound(method, twin, args, kwargs)
        del args, kwargs  # crash reporters send local variables home
        result: R = thread.call(bound, undo)
        return result

    return hides_arguments(call)


def hosting(
    method: Callable[Concatenate[C, P], Coroutine[Any, Any, R]], *, here: Sequence[str]
) -> Callable[Concatenate[Facade[C], P], R]:
    """Make a blocking method whose callbacks run in the caller's thread: see `LoopThread.host`.

    Args:
        method: the coroutine method; its signature and docstring are the blocking method's.
        here: names of the arguments that are called, or iterated over, in the caller's thread.
    """
    signature = inspect.signature(method)

    @functools.wraps(method)
    def call(facade: Facade[C], /, *args: P.args, **kwargs: P.kwargs) -> R:
        twin, thread = _parts(facade)
        given = _given(signature, twin, *args, **kwargs)
        caller = CallerThread()
        for name in given.arguments.keys() & here:
            given.arguments[name] = caller.here(given.arguments[name])
        hosted: R = thread.host(_Bound(method, twin, given.args[1:], given.kwargs), caller)
        return hosted

    return hides_arguments(call)


def _given(signature: inspect.Signature, *args: object, **kwargs: object) -> inspect.BoundArguments:
    try:
        return signature.bind(*args, **kwargs)
    except TypeError as error:
        problem = str(error)
    raise TypeError(problem)  # frames of `inspect` hold the arguments


def managing(
    method: Callable[Concatenate[C, P], AbstractAsyncContextManager[T, None]],
    *,
    dropped: Callable[[AbstractAsyncContextManager[T, None], T | BaseException], Awaitable[object]],
    unreachable: Callable[
        [AbstractAsyncContextManager[T, None], ClientStateError, BaseException | None], object
    ],
) -> Callable[Concatenate[Facade[C], P], AbstractContextManager[T, None]]:
    """Make a blocking method of one that returns an async context manager.

    Args:
        method: a method that returns an async context manager, and waits for nothing.
        dropped: awaited with that manager, and with what its entering returned, or raised, when
            an interrupt kept that from the caller.
        unreachable: called, in the caller's thread, with that manager, with why the loop cannot
            leave it (the client is closed, say), and with the block's own error.
    """

    @functools.wraps(method)
    def manage(
        facade: Facade[C], /, *args: P.args, **kwargs: P.kwargs
    ) -> AbstractContextManager[T, None]:
        twin, thread = _parts(facade)
        manager = method(twin, *args, **kwargs)
        return _Managed(
            manager,
            thread,
            functools.partial(dropped, manager),
            functools.partial(unreachable, manager),
        )

    return _returning(AbstractContextManager, hides_arguments(manage), method)


class _Managed(NeverPickled, AbstractContextManager[T, None]):
    """Enters and leaves an async context manager in the loop."""

    def __init__(
        self,
        manager: AbstractAsyncContextManager[T, None],
        thread: LoopThread,
        dropped: Callable[[T | BaseException], Awaitable[object]],
        unreachable: Callable[[ClientStateError, BaseException | None], object],
    ) -> None:
        self._manager, self._thread = manager, thread
        self._dropped, self._unreachable = dropped, unreachable

    def __enter__(self) -> T:
        return self._thread.call(self._manager.__aenter__, self._dropped)

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        leave = functools.partial(self._manager.__aexit__, exc_type, exc, traceback)
        try:
            self._thread.call(leave)
        except ClientStateError as error:
            if isinstance(error, ClientClosedError):
                self._thread.close()  # another thread closes it: wait for what that ends
            self._unreachable(error, exc)
        except BaseException as interrupt:
            # The loop may not have begun to leave it; to leave it twice changes nothing.
            kind = type(interrupt)
            self._thread.start(functools.partial(self._manager.__aexit__, kind, interrupt, None))
            raise
        finally:
            del exc_type, exc, traceback, leave  # an error of the loop may hold this frame


def iterating(
    method: Callable[Concatenate[C, P], AsyncGenerator[T, None]],
    batches: Callable[Concatenate[C, P], AsyncGenerator[Sequence[T], None]],
) -> Callable[Concatenate[Facade[C], P], Iterator[T]]:
    """Make a blocking method of an async generator method: it iterates in the loop.

    The generator is closed in the loop when the iterator is closed, dropped or interrupted.

    Args:
        method: the async generator method.
        batches: yields the same items in batches, since each step is a call into the loop. It
            must not yield inside a time-out, a task group or a cancel scope: each step is a
            separate task.
    """

    @functools.wraps(method)
    def iterate(facade: Facade[C], /, *args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
        twin, thread = _parts(facade)
        return _drive(thread, batches(twin, *args, **kwargs))

    return _returning(Iterator, hides_arguments(iterate), method)


def _returning(kind: type, function: F, method: Callable[..., object]) -> F:
    """Give a function the signature of a method, with another generic type as what it returns."""
    signature = inspect.signature(method)
    kept = get_args(signature.return_annotation)[:1]
    annotation = types.GenericAlias(kind, kept)
    function.__dict__["__signature__"] = signature.replace(return_annotation=annotation)
    return function


def _drive(thread: LoopThread, generator: AsyncGenerator[Sequence[T], None]) -> Iterator[T]:
    async def following() -> Sequence[T] | _End:
        return await anext(generator, _End.END)

    # An interrupt while waiting cancels the generator, which ends it.
    while (batch := thread.call(following)) is not _End.END:
        try:
            yield from batch
        except BaseException:
            with suppress(ClientStateError):  # the loop is gone, and the generator with it
                thread.call(generator.aclose)
            raise
