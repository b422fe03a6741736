"""Where a journal is: a file, memory, or a PostgreSQL URL, which is never shown. No I/O."""

import os
from typing import TypeAlias

from attrs import field, frozen

from openrouter_keys._base.pickling import NeverPickled

_SCHEMES = ("postgresql://", "postgres://")


@frozen
class Address(NeverPickled):
    """A PostgreSQL URL.

    Args:
        url: it may hold a password.
    """

    url: str = field(repr=False)


#: A file, an address, or None: in memory.
Place: TypeAlias = str | os.PathLike[str] | Address | None


def place_of(given: Place) -> Place:
    """Return a place that shows no password: a URL becomes an address."""
    try:
        return Address(given) if isinstance(given, str) and is_url(given) else given
    finally:
        del given  # crash reporters send local variables home


def is_url(given: object) -> bool:
    """Whether a text is a PostgreSQL URL, and no path."""
    try:
        return isinstance(given, str) and given.startswith(_SCHEMES)
    finally:
        del given


def shown(given: object) -> str:
    """Return how a journal's place, or an open journal, is shown among settings."""
    try:
        return "Address()" if is_url(given) else repr(given)
    finally:
        del given
