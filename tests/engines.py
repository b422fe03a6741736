"""Journals in both engines, for tests that hold for each."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import psycopg

from tests.postgresql import PostgreSQL

ENGINES: Final = ("sqlite", "postgresql")
#: Gives the place of a new journal.
New = Callable[[], str]


@contextmanager
def new_places(engine: str, folder: Path, server: Callable[[], PostgreSQL]) -> Generator[New]:
    """Give the places of new journals: files, or schemas that are dropped at the end."""
    names: list[str] = []

    def new() -> str:
        names.append(f"test_{uuid4().hex}")
        if engine == "sqlite":
            return str(folder / names[-1])
        return f"{server().url()}?schema={names[-1]}"

    yield new
    if engine == "postgresql":
        for name in names:
            sql(server(), f"DROP SCHEMA IF EXISTS {name} CASCADE")


def sql(server: PostgreSQL, statement: str, *values: object, url: str = "") -> list[Any]:
    """Carry out a statement; return its rows, if it brings any."""
    with psycopg.connect(url or server.url(), autocommit=True) as connection:
        cursor = connection.execute(statement.encode(), values)
        return cursor.fetchall() if cursor.description else []
