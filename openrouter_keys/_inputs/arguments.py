"""What a caller passes in, kept out of the tracebacks of what comes of it."""

import functools
import inspect
import sys
from collections.abc import Callable
from itertools import islice
from typing import Any, Final, ParamSpec, TypeVar, cast

from openrouter_keys._base.masking import SECRET
from openrouter_keys._base.tracebacks import hide_ours

P = ParamSpec("P")
R = TypeVar("R")
C = TypeVar("C", bound=type)

# How many items of a list are looked at: an error does not wait until all specs of a run are.
_MOST: Final = 1000
_LISTS: Final = (list, tuple, set, frozenset)


def hides_arguments(function: Callable[P, R]) -> Callable[P, R]:
    """Keep what is passed to a function, or a coroutine function, out of its errors' tracebacks.

    A caller may mistake a secret for a hash or a name. A traceback of ours then begins and ends
    with the caller's own frames; see `hide_ours`.
    """
    if not inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            handled = sys.exception()
            try:
                return function(*args, **kwargs)
            except BaseException as error:
                hide_ours(error, handled, wholly=_hold_a_secret(*args, **kwargs))
                raise

        return call

    @functools.wraps(function)
    async def awaited(*args: P.args, **kwargs: P.kwargs) -> Any:
        handled = sys.exception()
        try:
            return await function(*args, **kwargs)
        except BaseException as error:
            hide_ours(error, handled, wholly=_hold_a_secret(*args, **kwargs))
            raise

    return cast("Callable[P, R]", awaited)


class HiddenArguments:
    """Keeps the arguments of a generator function that enters it out of its errors' tracebacks."""

    def __enter__(self) -> None:
        self._handled = sys.exception()

    # `contextlib.contextmanager` would put the traceback back.
    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if error is not None:
            hide_ours(error, self._handled, wholly=False)


def hides_fields(cls: C) -> C:
    """Do so for the fields of a class that checks them as it is made."""
    cls.__init__ = hides_arguments(cls.__init__)  # type: ignore[misc]  # it is what is called
    return cls


def _hold_a_secret(*args: object, **kwargs: object) -> bool:
    return any(map(_holds_a_secret, (*args, *kwargs.values())))


def _holds_a_secret(value: object) -> bool:
    """Whether an argument looks like a secret. No code of a caller's own type runs for it."""
    if type(value) in _LISTS:
        return any(map(_is_secret, islice(cast("list[object]", value), _MOST)))
    if type(value) is dict:
        items = cast("dict[object, object]", value).items()
        return any(_is_secret(each) for item in islice(items, _MOST) for each in item)
    return _is_secret(value)


def _is_secret(value: object) -> bool:
    if not isinstance(value, str | bytes):
        return type(value).__module__.startswith("openrouter_keys.") and _shows(value)
    text = value if isinstance(value, str) else value.decode("latin-1")
    return SECRET.search(text) is not None


def _shows(record: object) -> bool:
    try:
        return SECRET.search(repr(record)) is not None
    except Exception:  # noqa: BLE001 - it was refused before it was whole
        return True
