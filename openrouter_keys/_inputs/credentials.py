"""The API key of a client: fixed, or from a callable at each attempt. No I/O of its own."""

import asyncio
import math
import os
import time
from collections.abc import Awaitable, Callable, Coroutine
from inspect import isawaitable
from typing import Final, TypeAlias, TypeVar, cast

from attrs import define, field, frozen

from openrouter_keys._base.pickling import NeverPickled
from openrouter_keys._inputs import checks
from openrouter_keys.errors import APIKeyError

T = TypeVar("T")

#: Where the environment has the management key; the first one that is not empty counts. The names
#: that only a management key has come before the one that programs have for keys of any kind.
VARIABLES: Final = (
    "OPENROUTER_MANAGEMENT_KEY",
    "OPENROUTER_PROVISIONING_KEY",
    "OPENROUTER_API_KEY",
)
_PASSED: Final = "api_key="
_ASKED: Final = "the api_key callable"

# A key is asked for anew by so much of its lifetime, at most by so many seconds, before its end.
_EARLY: Final = 0.1
_EARLIEST: Final = 30.0

Given: TypeAlias = str | tuple[str, float]


@frozen
class CachedKey(NeverPickled):
    """A short-lived API key, for `api_key=`: asked for once, and kept for as long as it is good.

    A client keeps its own. Its calls share one request for a key that is running. The key is asked
    for anew a little before its end (10 % of its lifetime, at most 30 s), and once if the service
    answers 401.

    Args:
        fetch: returns the key, or the key and how many seconds it is good for. Sync or async; it is
            called in the event loop, so one that waits for something has to be async.
        lifetime: seconds for which a key is kept whose lifetime `fetch` does not return, counted
            from when `fetch` was called.

    Raises:
        InvalidArgumentError: an argument is invalid.
    """

    fetch: Callable[[], Given | Awaitable[Given]] = field(repr=False)
    lifetime: float = 300.0

    def __attrs_post_init__(self) -> None:
        if not callable(self.fetch):
            checks.refuse("fetch", "must be a function that returns a key")
        if not _is_lifetime(self.lifetime) or self.lifetime <= 0:
            checks.refuse("lifetime", f"must be a number of seconds above 0, not {self.lifetime!r}")


APIKey: TypeAlias = str | Callable[[], str | Awaitable[str]] | CachedKey


def credentials_of(given: "APIKey | Credentials | None", passed: str = _PASSED) -> "Credentials":
    """Return the credentials of a client.

    Args:
        given: its `api_key`. None, or empty: that of the environment.
        passed: where a key that is given comes from.

    Raises:
        InvalidArgumentError: there is no key, or it cannot be one; the error names the variable.
    """
    if isinstance(given, Credentials):
        return given
    if isinstance(given, CachedKey) or callable(given):
        return Credentials(given, _ASKED)
    source = passed if given else next((name for name in VARIABLES if os.environ.get(name)), "")
    if not source:
        names = " or ".join(VARIABLES[1:])
        checks.refuse("api_key", f"there is none: pass api_key= or set {VARIABLES[0]} (or {names})")
    key = given or os.environ[source]
    problem = checks.api_key_problem(key)
    if problem is not None:
        del given, key  # crash reporters send local variables home
        checks.refuse("api_key" if source == passed else source, f"the key {problem}")
    return Credentials(key, source)


@define(eq=False)
class _Asking:
    """A call of `fetch`, and who waits for it."""

    task: "asyncio.Task[Callable[[], object] | BaseException]"
    began: float
    waiting: int = 0


class Credentials(NeverPickled):
    """Returns a client's API key; neither `repr` nor an attribute shows it.

    Args:
        key: the key, or a callable, sync or async, that returns it.
        source: where it comes from, as an error says it.

    Attributes:
        fixed: returns the key; None: call `ask` for each attempt.
        source: where it comes from.
    """

    def __init__(self, key: APIKey, source: str = _PASSED) -> None:
        self.source = source
        self._tasks: set[asyncio.Task[Callable[[], object] | BaseException]] = set()
        self._callable = key if callable(key) else None
        self._cached = key if isinstance(key, CachedKey) else None
        self._asking: _Asking | None = None
        # Functions: `vars`, `rich.inspect` and crash reporters show what attributes hold.
        self.fixed: Callable[[], str | None] = _returning(key if isinstance(key, str) else None)
        self._kept = _returning(("", -math.inf))

    async def ask(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> str:
        """Return the key.

        Args:
            seconds: how long an async callable may take.
            clock: seconds that never go back.

        Raises:
            APIKeyError: the callable failed, or returned no usable key.
            TimeoutError: it took too long.
        """
        if self._cached is not None:
            key, until = self._kept()
            return key if clock() < until else await self._fetched(self._cached, seconds, clock)
        if self._callable is None:
            return self.fixed() or ""
        return _usable(await self._called(self._callable, seconds))

    async def ask_anew(
        self, refused: str, seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> str:
        """Return the key, and not a kept one that the service refused; otherwise as `ask`."""
        if self._kept()[0] == refused:
            self._kept = _returning(("", -math.inf))
        return await self.ask(seconds, clock)

    async def _fetched(self, cached: CachedKey, seconds: float, clock: Callable[[], float]) -> str:
        """Wait for the call of `fetch` that is running, or for a new one, and keep its key."""
        if self._asking is None or not self._asking.waiting:
            self._asking = _Asking(self._task(_result(cached.fetch)), clock())
        asking = self._asking
        asking.waiting += 1
        try:
            given = await _within(asking.task, seconds)
        finally:
            asking.waiting -= 1
            if not asking.waiting:
                asking.task.cancel()
        key, lifetime = _key_and_lifetime(given, cached.lifetime)
        early = min(lifetime * _EARLY, _EARLIEST)
        self._kept = _returning((_usable(key), asking.began + lifetime - early))
        return key

    async def _called(self, callable: Callable[[], str | Awaitable[str]], seconds: float) -> object:
        try:
            key = callable()
        except (asyncio.CancelledError, GeneratorExit):
            raise
        except BaseException as error:
            raise _failed(error) from error
        if not isawaitable(key):
            return key
        # A separate task: one that ignores its cancellation must not delay the call.
        task = self._task(_outcome(key))
        try:
            return await _within(task, seconds)
        finally:
            task.cancel()

    def _task(
        self, outcome: Coroutine[None, None, Callable[[], object] | BaseException]
    ) -> "asyncio.Task[Callable[[], object] | BaseException]":
        task = asyncio.create_task(outcome)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


async def _within(
    task: "asyncio.Task[Callable[[], object] | BaseException]", seconds: float
) -> object:
    """Return what a task gives within so many seconds; whether it goes on is up to the caller."""
    await asyncio.wait({task}, timeout=seconds)
    if not task.done():
        raise TimeoutError
    outcome = task.result()
    if isinstance(outcome, BaseException):
        raise _failed(outcome) from outcome
    return outcome()


async def _outcome(key: Awaitable[object]) -> Callable[[], object] | BaseException:
    try:
        return _returning(await key)  # a task's `repr` shows its result
    except (asyncio.CancelledError, GeneratorExit):
        raise
    except BaseException as error:  # noqa: BLE001 - a SystemExit too would end the event loop
        return error


async def _result(
    fetch: Callable[[], Given | Awaitable[Given]],
) -> Callable[[], object] | BaseException:
    async def called() -> object:
        given = fetch()
        return await given if isawaitable(given) else given

    return await _outcome(called())


def _key_and_lifetime(given: object, lifetime: float) -> tuple[str, float]:
    """Return what `fetch` returned as a key, which may be unusable, and its lifetime."""
    if not isinstance(given, tuple):
        return cast("str", given), lifetime
    pair = cast("tuple[object, ...]", given)
    if len(pair) != 2 or not _is_lifetime(pair[1]):
        del given, pair
        raise APIKeyError(
            "the api_key callable returned a tuple that is not a key and the seconds that it is "
            "good for"
        )
    return cast("tuple[str, float]", pair)


def _is_lifetime(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _usable(key: object) -> str:
    problem = checks.api_key_problem(key)
    if problem is not None:
        del key  # crash reporters send local variables home
        raise APIKeyError(f"the api_key callable returned a key that {problem}")
    return cast("str", key)


def _failed(error: BaseException) -> APIKeyError:
    return APIKeyError(f"the api_key callable raised {type(error).__name__}")


def _returning(key: T) -> Callable[[], T]:
    return lambda: key
