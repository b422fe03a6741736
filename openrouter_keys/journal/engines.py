"""Which engine a journal has: SQLite for a file, PostgreSQL for a URL. Nothing else knows both."""

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from importlib import import_module
from typing import Protocol, TypeVar, cast

from openrouter_keys._base.tracebacks import strip
from openrouter_keys.errors import InvalidArgumentError, JournalError
from openrouter_keys.journal import sqlite
from openrouter_keys.journal.addresses import Address, Place, place_of, refuse_other
from openrouter_keys.journal.store import Store

T = TypeVar("T")

#: Opens a journal, in the thread that uses it.
Opened = Callable[[], AbstractContextManager[Store]]

_NO_BACKUP = (
    "a journal in PostgreSQL is backed up with its database: by pg_dump, or by the server's own "
    "backups. Once an older one is restored, keys that it does not know would be made again"
)
_NO_COPIES = "only a journal's file can be an older copy that is accepted: for PostgreSQL, none is"


# `journal.postgresql`, which imports psycopg.
class _PostgreSQL(Protocol):
    def opened(self, address: Address, server_url: str | None) -> AbstractContextManager[Store]: ...
    def looked_into(self, address: Address) -> AbstractContextManager[Store]: ...
    def init(self, address: Address, *, grant: str | None) -> str: ...
    def is_begun(self, address: Address) -> bool: ...
    def purge(self, address: Address) -> int: ...


def opening(place: Place, server_url: str | None) -> Opened:
    """Return what opens a journal for runs."""
    place = place_of(place)
    if isinstance(place, Address):
        return partial(_postgresql(place).opened, place, server_url)
    return partial(sqlite.opened, place, server_url)


def looking(place: Place) -> Opened:
    """Return what opens a journal that is there, to look at it."""
    place = place_of(place)
    if isinstance(place, Address):
        return partial(_postgresql(place).looked_into, place)
    return partial(sqlite.looked_into, _file(place))


def purge(place: Place) -> int:
    """Forget secrets; see `Journal.purge`."""
    place = place_of(place)
    if isinstance(place, Address):
        return _stripped(partial(_postgresql(place).purge, place))
    return sqlite.purge(_file(place))


def back_up(place: Place, to: str | os.PathLike[str]) -> None:
    """Copy a whole journal; see `Journal.backup`."""
    if isinstance(place := place_of(place), Address):
        refuse_other(place)
        raise JournalError(_NO_BACKUP)
    sqlite.back_up(_file(place), to)


def accept(place: Place) -> None:
    """Accept an older copy; see `Journal.accept`."""
    if isinstance(place := place_of(place), Address):
        refuse_other(place)
        raise JournalError(_NO_COPIES)
    sqlite.accept(_file(place))


def is_begun(place: Place) -> bool:
    """Return whether a journal is there."""
    place = place_of(place)
    if isinstance(place, Address):
        return _stripped(partial(_postgresql(place).is_begun, place))
    return sqlite.is_begun(_file(place))


def init(place: Place, *, grant: str | None = None) -> str:
    """Make the tables of a journal in PostgreSQL, and return its place without a password.

    Args:
        place: its URL, with a role that may make a schema.
        grant: another role, which may use the journal from then on. None: no other one.

    Raises:
        InvalidArgumentError: it is no URL.
        JournalError: they cannot be made.
    """
    if not isinstance(place := place_of(place), Address):
        raise InvalidArgumentError("only a journal in PostgreSQL is made beforehand", "journal")
    return _stripped(partial(_postgresql(place).init, place, grant=grant))


def _file(place: str | os.PathLike[str] | None) -> str | os.PathLike[str]:
    if place is None:
        raise InvalidArgumentError("a journal in memory is gone with its block", "journal")
    return place


def _stripped(act: Callable[[], T]) -> T:
    """Do something; no frame of an error shows a password."""
    try:
        return act()
    except BaseException as error:
        strip(error, None)
        raise


def _postgresql(address: Address) -> _PostgreSQL:
    refuse_other(address)
    try:
        return cast("_PostgreSQL", import_module("openrouter_keys.journal.postgresql"))
    except ImportError as error:
        message = 'PostgreSQL needs psycopg: pip install "openrouter-keys[postgresql]"'
        raise InvalidArgumentError(message, "journal") from error
