"""Journals of earlier versions: they are read as they are, and a run brings them up to date."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from openrouter_keys.errors import JournalMismatchError
from openrouter_keys.journal import schema
from openrouter_keys.journal.journal import Journal
from openrouter_keys.journal.schema import State
from tests.journals import HASH, SECRET, spec

VERSION_1 = """
CREATE TABLE meta (
    version INTEGER NOT NULL,
    created_at TEXT NOT NULL,
    server_url TEXT,
    runs INTEGER NOT NULL,
    longest_timeout REAL NOT NULL
);
INSERT INTO meta VALUES (1, strftime('%Y-%m-%dT%H:%M:%SZ', 'now'), NULL, 0, 0);
CREATE TABLE keys (
    id INTEGER PRIMARY KEY,
    ref TEXT NOT NULL UNIQUE,
    plan TEXT NOT NULL,
    state TEXT NOT NULL,
    run INTEGER NOT NULL,
    written_off INTEGER NOT NULL DEFAULT 0,
    first_attempt_at TEXT NOT NULL,
    last_attempt_at TEXT NOT NULL,
    hash TEXT,
    secret,
    record TEXT,
    reason TEXT
);
CREATE INDEX unfinished ON keys (id) WHERE state <> 'settled';
CREATE INDEX written_off ON keys (id) WHERE written_off > 0;
CREATE TABLE rotations (
    id INTEGER PRIMARY KEY,
    hash TEXT NOT NULL UNIQUE,
    plan TEXT NOT NULL,
    budget TEXT NOT NULL,
    old_limit REAL,
    spent REAL NOT NULL,
    state TEXT NOT NULL,
    twin TEXT,
    handed_over_at TEXT,
    reason TEXT
);
CREATE INDEX unretired ON rotations (handed_over_at, id) WHERE state <> 'deleted';
CREATE INDEX twins ON rotations (twin) WHERE twin IS NOT NULL;
PRAGMA application_id = 0x4F524B4A;
"""
_ROW = """
INSERT INTO keys (ref, plan, state, run, first_attempt_at, last_attempt_at, hash, secret)
VALUES (?, ?, ?, 0, '2026-11-21T12:00:00Z', '2026-11-21T12:00:00Z', ?, ?)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A journal of version 1 with a key in each state, and a made one without its secret."""
    path = tmp_path / "customers.journal"
    path.touch(0o600)
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(VERSION_1)
        for state in State:
            made = state in (State.MADE, State.SETTLED)
            key = (HASH, SECRET) if made else (None, None)
            connection.execute(_ROW, (state, spec(state).plan, state, *key))
        connection.execute(_ROW, ("unstored", spec("unstored").plan, "made", HASH, None))
        connection.commit()
    return path


def version(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        (found,) = connection.execute("SELECT version FROM meta").fetchone()
    return int(found)


async def test_a_run_goes_on_with_an_older_journal_and_brings_it_up_to_date(path: Path) -> None:
    for _ in range(2):
        async with Journal.open(path) as journal:
            states = await journal.plan([spec(state) for state in State])
            assert states == [*State]
            unstored, made = await journal.find("unstored"), await journal.find("made")
        assert version(path) == schema.VERSION
        assert unstored is not None
        assert made is not None
        # Where the secret is, it proves the hash; where it is not, nothing does any more.
        assert (unstored.proven, made.proven) == (False, True)


async def test_an_older_journal_is_read_and_left_as_it_is(path: Path) -> None:
    async with Journal.read(path) as journal:
        found = {entry.ref: entry async for entry in journal.every()}
    assert {*found} == {*State, "unstored"}
    assert version(path) == 1


async def test_the_secrets_of_an_older_journal_can_be_purged(path: Path) -> None:
    assert await Journal.purge(path) == 1
    assert version(path) == 1


@pytest.mark.parametrize("given", [{"server_url": "https://two/api/v1"}])
async def test_an_older_journal_that_is_refused_stays_as_it_is(
    path: Path, given: dict[str, str]
) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE meta SET server_url = 'https://one/api/v1'")
        connection.commit()
    with pytest.raises(JournalMismatchError):
        async with Journal.open(path, server_url=given["server_url"]):
            pass
    assert version(path) == 1


async def test_a_brought_up_journal_has_the_columns_of_a_new_one(
    path: Path, tmp_path: Path
) -> None:
    new = tmp_path / "new.journal"
    columns: list[set[str]] = []
    for file in (path, new):
        async with Journal.open(file):
            pass
        with closing(sqlite3.connect(file)) as connection:
            found = connection.execute("SELECT name, sql IS NULL FROM sqlite_master").fetchall()
            names = connection.execute("SELECT name FROM pragma_table_info('keys')").fetchall()
            columns.append({*map(str, found), *map(str, names)})
    assert columns[0] == columns[1]
