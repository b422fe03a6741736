"""Where a journal is: a file, memory, or a PostgreSQL URL, which is never shown. No I/O."""

import os
import re
from typing import Any, TypeAlias, TypeGuard

from attrs import field, frozen

from openrouter_keys._base.pickling import NeverPickled
from openrouter_keys.errors import InvalidArgumentError

_SCHEMES = ("postgresql://", "postgres://")
# A URL without its colon, and a connection string: as a file's name, it would show the password.
_MEANT = re.compile(r"^postgres(ql)?//|(^|\s)(password|host|dbname)\s*=")
#: The name of a journal in memory, as SQLite spells it.
MEMORY = ":memory:"
#: What is wrong with a URL of another scheme.
NO_SUCH_URL = "give a file, or a URL that begins with postgresql://"


@frozen
class Address(NeverPickled):
    """A URL; only PostgreSQL's can be opened.

    Args:
        url: it may hold a password.
    """

    url: str = field(repr=False)


#: A file, an address, or None: in memory.
Place: TypeAlias = str | os.PathLike[str] | Address | None


def place_of(given: Place) -> Place:
    """Return a place that shows no password: a URL becomes an address, `:memory:` None."""
    try:
        if given == MEMORY:
            return None
        return Address(os.fspath(given)) if _has_scheme(given) else given
    finally:
        del given  # crash reporters send local variables home


def refuse_none(given: object) -> None:
    """Refuse None, as of a variable that is not set: in memory, each process makes keys anew."""
    if given is None:
        problem = "must be a path or a URL, not None: is a variable not set? (':memory:' is one)"
        raise InvalidArgumentError(problem, "path")


def is_url(given: object) -> bool:
    """Whether a text is a PostgreSQL URL, and no path."""
    try:
        return isinstance(given, str) and given.startswith(_SCHEMES)
    finally:
        del given


def refuse_other(address: Address) -> None:
    """Refuse a URL of another scheme, which would be a file's name with a password in it."""
    if not is_url(address.url):
        raise InvalidArgumentError(NO_SUCH_URL, "journal")


def looks_like_url(text: str) -> bool:
    """Whether a text is a URL of any scheme, and no path; `Path` makes one slash of two."""
    try:
        begins = text.partition("/")[0]
        return not os.path.isabs(text) and (
            "://" in text or (len(begins) > 2 and begins[-1] == ":") or bool(_MEANT.search(text))
        )
    finally:
        del text


def _has_scheme(given: Place) -> TypeGuard[str | os.PathLike[str]]:
    try:
        return isinstance(given, str | os.PathLike) and looks_like_url(str(os.fspath(given)))
    finally:
        del given


def shown(given: Any) -> str:
    """Return how a journal's place, or an open journal, is shown among settings."""
    try:
        return "Address()" if _has_scheme(given) else repr(given)
    finally:
        del given
