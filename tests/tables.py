"""Tables of pure cases: a test for each would cost a thousand times what the case does."""

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any

import pytest

# A group: of a table within.
_FAILURES = (Exception, pytest.fail.Exception, BaseExceptionGroup)


def in_one_test(
    names: str,
    cases: Iterable[Any],
    *,
    ids: Iterable[object] | Callable[[Any], object] = repr,
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Let a test go through a table by itself; otherwise as `pytest.mark.parametrize`.

    For tests whose cases may share their fixtures, if there are any. All cases are gone through,
    and each that fails is named.
    """
    parameters = [name.strip() for name in names.split(",")]
    table = list(cases)
    known = None if callable(ids) else list(ids)

    def named(row: int) -> object:
        return ids(table[row]) if callable(ids) else (known or [])[row]

    def decorate(test: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(test)
        def all_of_them(**others: Any) -> None:
            failed: list[BaseException] = []
            for row, case in enumerate(table):
                values = case if len(parameters) > 1 else (case,)
                try:
                    test(**others, **dict(zip(parameters, values, strict=True)))
                except _FAILURES as error:  # the others are asked too
                    error.add_note(f"the case: {names} = {named(row)}")
                    failed.append(error)
            if failed:
                raise failed[0] if len(failed) == 1 else BaseExceptionGroup("cases", failed)

        signature = inspect.signature(test)
        left = [each for each in signature.parameters.values() if each.name not in parameters]
        vars(all_of_them)["__signature__"] = signature.replace(parameters=left)
        return all_of_them

    return decorate
