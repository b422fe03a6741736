"""The option that says which journal: a file or a PostgreSQL database, whose password is hidden."""

import os
from pathlib import Path
from typing import Annotated, Final, TypeAlias

from attrs import field, frozen
from cyclopts import Parameter

from openrouter_keys.cli.exit_codes import UsageError
from openrouter_keys.cli.terminal.text import without_passwords
from openrouter_keys.journal.addresses import NO_SUCH_URL, is_url, looks_like_url

#: How the option is given.
OPTION: Final = "--journal"
_VARIABLE: Final = "OPENROUTER_KEYS_JOURNAL"
_ELSE: Final = (
    f"else {_VARIABLE}. Other users of this machine can see a URL's password: use the variable, or "
    "~/.pgpass"
)

# The text as it is typed; the path lets a shell complete files.
_Given: TypeAlias = str | Path | None
#: The option `--journal`.
JournalOption: TypeAlias = Annotated[
    _Given,
    Parameter(
        name="--journal",
        metavar="FILE|URL",
        allow_leading_hyphen=True,
        help=f"The journal: a file, or a PostgreSQL URL; {_ELSE}.",
    ),
]
#: The argument JOURNAL.
JournalArgument: TypeAlias = Annotated[
    _Given,
    Parameter(
        name="JOURNAL",
        show_default=False,
        help=f"The journal's file, or its PostgreSQL URL; {_ELSE}.",
    ),
]
#: The argument JOURNAL where a file will not do.
URLArgument: TypeAlias = Annotated[
    _Given,
    Parameter(name="JOURNAL", show_default=False, help=f"The journal's PostgreSQL URL; {_ELSE}."),
]


@frozen
class Place:
    """Where a journal is; as a text, it shows no password.

    Attributes:
        given: the path, or the URL.
        is_named: whether the command line names it; otherwise the variable does.
    """

    given: str = field(repr=False)
    is_named: bool = True

    @property
    def file(self) -> Path | None:
        """Its file; None: it is in PostgreSQL."""
        return None if is_url(self.given) else Path(self.given)

    def words(self, *option: str) -> list[str]:
        """Return what names it in another command of the same shell.

        Args:
            *option: the option that it is given by, if any.
        """
        return [*option, str(self)] if self.is_named else []

    def __str__(self) -> str:
        # A URL has no white space; a password that is not escaped might.
        return without_passwords("".join(self.given.split())) if self.file is None else self.given


def place_of(given: _Given) -> Place | None:
    """Return the journal that the command line names, or else the variable; None: neither.

    Raises:
        UsageError: it is neither a file nor a PostgreSQL URL.
    """
    if given is not None:
        return _checked("the journal", Place(str(given)))
    known = os.environ.get(_VARIABLE)
    return _checked(_VARIABLE, Place(known, is_named=False)) if known else None


def _checked(what: str, place: Place) -> Place:
    if not place.given:
        raise UsageError(f"{what}: the name is empty")
    if looks_like_url(place.given) and place.file is not None:
        # It may hold a password, and is not shown.
        raise UsageError(f"{what}: {NO_SUCH_URL}")
    return place


def needed(given: _Given, name: str = "JOURNAL", why: str = "") -> Place:
    """Return the journal that the command line names, or else the variable.

    Args:
        given: what the command line names.
        name: how it is given.
        why: what it is needed for, to be said where there is none.

    Raises:
        UsageError: neither names one.
    """
    place = place_of(given)
    if place is None:
        raise UsageError(f"give {name}, a file or a URL, or set {_VARIABLE}{why}")
    return place
