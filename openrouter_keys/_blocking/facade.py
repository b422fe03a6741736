"""Blocking methods made from coroutines: descriptors that call a `LoopThread`. No keys.

`create = blocking(AsyncThings.create)` in a `Facade` makes a blocking method from a coroutine, with
the same signature and docstring; `hosting` does so for a coroutine with callbacks, `iterating` for
an async generator, `managing` for a method that returns an async context manager.
"""

import enum
import functools
import inspect
import types
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, suppress
from types import TracebackType
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, get_args, overload

from openrouter_keys._base.pickling import NeverPickled
from openrouter_keys._blocking.caller_thread import CallerThread
from openrouter_keys._blocking.loop_thread import LoopThread
from openrouter_keys._inputs.arguments import hides_arguments
from openrouter_keys.errors import ClientClosedError, ClientStateError

C = TypeVar("C")
P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class _End(enum.Enum):
    END = enum.auto()


class Facade(NeverPickled, Generic[C]):
    """A blocking twin: it holds an async object and that object's loop.

    Args:
        twin: the async object whose methods `blocking` and `iterating` call.
        thread: its loop; the facades of one client share it.
    """

    def __init__(self, twin: C, thread: LoopThread) -> None:
        self._twin = twin
        self._thread = thread


def _parts(facade: Facade[C]) -> tuple[C, LoopThread]:
    return facade._twin, facade._thread  # pyright: ignore[reportPrivateUsage]  # a friend of it


class _Method:
    """A descriptor's function; its name is that of the class attribute."""

    _function: Callable[..., object]

    def __set_name__(self, owner: type, name: str) -> None:
        self._function.__name__ = name
        self._function.__qualname__ = f"{owner.__qualname__}.{name}"
        self._function.__module__ = owner.__module__

    def _bound(self, facade: object | None) -> object:
        return self._function if facade is None else types.MethodType(self._function, facade)


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


class blocking(_Method, Generic[C, P, R]):  # noqa: N801 - used like `property`
    """A blocking method of a `Facade`: `create = blocking(AsyncThings.create)`.

    Args:
        method: the coroutine method; its signature and docstring are the blocking method's.
        dropped: awaited with the async object and a result, or an error, that an interrupted
            caller did not get.
    """

    def __init__(
        self,
        method: Callable[Concatenate[C, P], Coroutine[Any, Any, R]],
        *,
        dropped: Callable[[C, R | BaseException], Awaitable[object]] | None = None,
    ) -> None:
        @functools.wraps(method)
        def call(facade: Facade[C], *args: P.args, **kwargs: P.kwargs) -> R:
            twin, thread = _parts(facade)
            undo = None if dropped is None else functools.partial(dropped, twin)
            bound = _Bound(method, twin, args, kwargs)
            del args, kwargs  # crash reporters send local variables home
            result: R = thread.call(bound, undo)
            return result

        self._function = hides_arguments(call)

    @overload
    def __get__(
        self, facade: None, owner: type[Facade[C]]
    ) -> Callable[Concatenate[Facade[C], P], R]: ...
    @overload
    def __get__(self, facade: Facade[C], owner: type[Facade[C]]) -> Callable[P, R]: ...
    def __get__(self, facade: Facade[C] | None, owner: type[Facade[C]]) -> object:
        return self._bound(facade)


class hosting(blocking[C, P, R]):  # noqa: N801 - used like `property`
    """A blocking method whose callbacks run in the caller's thread: see `LoopThread.host`.

    Args:
        method: the coroutine method; its signature and docstring are the blocking method's.
        here: names of the arguments that are called, or iterated over, in the caller's thread.
    """

    def __init__(
        self,
        method: Callable[Concatenate[C, P], Coroutine[Any, Any, R]],
        *,
        here: Sequence[str],
    ) -> None:
        signature = inspect.signature(method)

        @functools.wraps(method)
        def call(facade: Facade[C], *args: P.args, **kwargs: P.kwargs) -> R:
            twin, thread = _parts(facade)
            given = _given(signature, twin, *args, **kwargs)
            caller = CallerThread()
            for name in given.arguments.keys() & here:
                given.arguments[name] = caller.here(given.arguments[name])
            hosted: R = thread.host(_Bound(method, twin, given.args[1:], given.kwargs), caller)
            return hosted

        self._function = hides_arguments(call)


def _given(signature: inspect.Signature, *args: object, **kwargs: object) -> inspect.BoundArguments:
    try:
        return signature.bind(*args, **kwargs)
    except TypeError as error:
        problem = str(error)
    raise TypeError(problem)  # frames of `inspect` hold the arguments


class managing(_Method, Generic[C, P, T]):  # noqa: N801 - used like `property`
    """A method of a `Facade` that returns a context manager: `lease = managing(A.lease)`.

    Args:
        method: a method that returns an async context manager, and waits for nothing.
        dropped: awaited with that manager, and with what its entering returned, or raised, when
            an interrupt kept that from the caller.
        unreachable: called, in the caller's thread, with that manager, with why the loop cannot
            leave it (the client is closed, say), and with the block's own error.
    """

    def __init__(
        self,
        method: Callable[Concatenate[C, P], AbstractAsyncContextManager[T, None]],
        *,
        dropped: Callable[
            [AbstractAsyncContextManager[T, None], T | BaseException], Awaitable[object]
        ],
        unreachable: Callable[
            [AbstractAsyncContextManager[T, None], ClientStateError, BaseException | None], object
        ],
    ) -> None:
        @functools.wraps(method)
        def manage(
            facade: Facade[C], *args: P.args, **kwargs: P.kwargs
        ) -> AbstractContextManager[T, None]:
            twin, thread = _parts(facade)
            manager = method(twin, *args, **kwargs)
            return _Managed(
                manager,
                thread,
                functools.partial(dropped, manager),
                functools.partial(unreachable, manager),
            )

        self._function = hides_arguments(manage)
        _return(self._function, method, AbstractContextManager)

    @overload
    def __get__(
        self, facade: None, owner: type[Facade[C]]
    ) -> Callable[Concatenate[Facade[C], P], AbstractContextManager[T, None]]: ...
    @overload
    def __get__(
        self, facade: Facade[C], owner: type[Facade[C]]
    ) -> Callable[P, AbstractContextManager[T, None]]: ...
    def __get__(self, facade: Facade[C] | None, owner: type[Facade[C]]) -> object:
        return self._bound(facade)


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


class iterating(_Method, Generic[C, P, T]):  # noqa: N801 - used like `property`
    """A method of a `Facade` that iterates in the loop: `iterate = iterating(A.iterate, A.pages)`.

    The generator is closed in the loop when the iterator is closed, dropped or interrupted.

    Args:
        method: the async generator method.
        batches: yields the same items in batches, since each step is a call into the loop. It
            must not yield inside a time-out, a task group or a cancel scope: each step is a
            separate task.
    """

    def __init__(
        self,
        method: Callable[Concatenate[C, P], AsyncGenerator[T, None]],
        batches: Callable[Concatenate[C, P], AsyncGenerator[Sequence[T], None]],
    ) -> None:
        @functools.wraps(method)
        def iterate(facade: Facade[C], *args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
            twin, thread = _parts(facade)
            return _drive(thread, batches(twin, *args, **kwargs))

        self._function = hides_arguments(iterate)
        _return(self._function, method, Iterator)

    @overload
    def __get__(
        self, facade: None, owner: type[Facade[C]]
    ) -> Callable[Concatenate[Facade[C], P], Iterator[T]]: ...
    @overload
    def __get__(self, facade: Facade[C], owner: type[Facade[C]]) -> Callable[P, Iterator[T]]: ...
    def __get__(self, facade: Facade[C] | None, owner: type[Facade[C]]) -> object:
        return self._bound(facade)


def _return(function: Callable[..., object], method: Callable[..., object], returned: type) -> None:
    """Give a function the signature of a method, with another generic type as what it returns."""
    signature = inspect.signature(method)
    kept = get_args(signature.return_annotation)[:1]
    annotation = types.GenericAlias(returned, kept)
    function.__dict__["__signature__"] = signature.replace(return_annotation=annotation)


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
