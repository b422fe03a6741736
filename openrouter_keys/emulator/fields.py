"""Makes the emulator's objects from the JSON of a control request, or refuses it. Pure."""

from collections.abc import Callable, Iterable, Mapping
from inspect import signature
from typing import TypeVar, cast

from openrouter_keys.emulator.refusals import Refusal

T = TypeVar("T")


def fields_of(what: str, value: object) -> dict[str, object]:
    """Return the fields of a JSON object.

    Raises:
        Refusal: 400, it is not an object.
    """
    if not isinstance(value, dict):
        raise Refusal(400, f"{what}: expected a JSON object")
    return cast("dict[str, object]", value)


def made(make: Callable[..., T], what: str, fields: Mapping[str, object]) -> T:
    """Make an object from fields that have the names of its arguments.

    Raises:
        Refusal: 400, a field is unknown, missing or wrong.
    """
    known = signature(make).parameters
    if unknown := fields.keys() - known.keys():
        raise Refusal(400, f"{what} has no {_listed(unknown)}; it has {_listed(known)}")
    try:
        return make(**fields)
    except (TypeError, ValueError, OverflowError) as error:
        raise Refusal(400, f"{what}: {error.args[0]}") from None


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))
