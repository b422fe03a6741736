"""Journals of earlier versions: they are read as they are, and a run brings them up to date."""

import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from openrouter_keys.errors import JournalMismatchError
from openrouter_keys.journal import schema
from openrouter_keys.journal.entries import Exchange
from openrouter_keys.journal.journal import Journal
from openrouter_keys.journal.schema import State
from openrouter_keys.rotation.stored import stored
from tests.journals import HASH, SECRET, spec

STRANGER = "ab" * 32
TWINS = {
    "intent": None,
    "made": HASH,
    "settled": HASH,
    "failed": None,
    "doubt": None,
    "unstored": HASH,
}

VERSION_2 = """
CREATE TABLE meta (
    version INTEGER NOT NULL,
    created_at TEXT NOT NULL,
    server_url TEXT,
    runs INTEGER NOT NULL,
    longest_timeout REAL NOT NULL
);
INSERT INTO meta VALUES (2, strftime('%Y-%m-%dT%H:%M:%SZ', 'now'), NULL, 0, 0);
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
    reason TEXT,
    ended_at TEXT,
    proven INTEGER,
    secret_hash TEXT
);
CREATE INDEX secret_hashes ON keys (secret_hash) WHERE secret_hash IS NOT NULL;
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
INSERT INTO keys (ref, plan, state, run, first_attempt_at, last_attempt_at, hash, secret, proven)
VALUES (?, ?, ?, 0, '2026-11-21T12:00:00Z', '2026-11-21T12:00:00Z', ?, ?, TRUE)
"""
#: Those that the version had.
STATES = [state for state in State if state is not State.RELEASING]
# What version 2 noted of a twin in doubt: the hash that an answer said, a stranger's.
_ROTATION = """
INSERT INTO rotations (hash, plan, budget, spent, state, twin)
SELECT ref, plan, 'full', 0, 'planned', ? FROM keys
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A journal of version 2 with a twin in each state, and a made one without its secret."""
    path = tmp_path / "customers.journal"
    path.touch(0o600)
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(VERSION_2)
        for state in STATES:
            made = state in (State.MADE, State.SETTLED)
            key = (HASH, SECRET) if made else (STRANGER if state is State.DOUBT else None, None)
            connection.execute(_ROW, (state, spec(state).plan, state, *key))
        connection.execute(_ROW, ("unstored", spec("unstored").plan, "made", HASH, None))
        connection.execute(_ROTATION, (STRANGER,))
        connection.commit()
    return path


async def twins(path: Path) -> dict[str, str | None]:
    async with Journal.read(path) as journal:
        return {rotation.hash: rotation.twin async for rotation in stored(journal)}


def version(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        (found,) = connection.execute("SELECT version FROM meta").fetchone()
    return int(found)


async def test_a_run_goes_on_with_an_older_journal_and_brings_it_up_to_date(path: Path) -> None:
    for _ in range(2):
        async with Journal.open(path) as journal:
            states = await journal.plan([spec(state) for state in STATES])
            assert states == STATES
        assert version(path) == schema.VERSION
        assert await twins(path) == TWINS


async def test_an_older_journal_is_read_and_left_as_it_is(path: Path) -> None:
    async with Journal.read(path) as journal:
        found = {entry.ref: entry async for entry in journal.every()}
    assert {*found} == {*STATES, "unstored"}
    assert await twins(path) == TWINS
    assert version(path) == 2


async def test_the_secrets_of_an_older_journal_can_be_purged(path: Path) -> None:
    assert await Journal.purge(path) == 1
    assert version(path) == 2


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
    assert version(path) == 2


async def test_sealed_secrets_of_an_older_journal_are_found_before_and_after(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE keys SET secret = x'00ff' WHERE ref IN ('made', 'settled')")
        connection.commit()

    async def sealed(reading: AbstractAsyncContextManager[Journal]) -> set[tuple[object, ...]]:
        async with reading as journal:
            found = [entry async for entry in journal.every()]
            assert await journal.purgeable() == 1
        return {(entry.ref, entry.secret, entry.sealed) for entry in found if entry.sealed}

    expected = {("made", None, b"\x00\xff"), ("settled", None, b"\x00\xff")}
    assert await sealed(Journal.read(path)) == expected
    assert await sealed(Journal.open(path)) == expected
    assert await sealed(Journal.read(path)) == expected
    assert await Journal.purge(path) == 1
    async with Journal.read(path) as journal:
        assert await journal.purgeable() == 0


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
            names = [
                (table, *name)
                for table in ("keys", "rotations")
                for name in connection.execute("SELECT name FROM pragma_table_info(?)", (table,))
            ]
            columns.append({*map(str, found), *map(str, names)})
    assert columns[0] == columns[1]


VERSION_3 = [*schema.UPGRADES[2].split(";\n"), "DELETE FROM keys", "DELETE FROM rotations"]
_WRITTEN_OFF = """
INSERT INTO keys (
    ref, plan, state, run, first_attempt_at, last_attempt_at, ended_at, written_off, proven
) VALUES (?, ?, ?, 0, ?, ?, ?, ?, TRUE)
"""
FIRST, LAST, ENDED = (datetime(2026, 11, 21, hour, tzinfo=UTC) for hour in (12, 14, 15))


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("ended", [None, ENDED])
@pytest.mark.parametrize("state", State)
async def test_creates_that_version_3_wrote_off_have_no_window_of_their_own(
    state: State, ended: datetime | None, count: int, path: Path
) -> None:
    with closing(sqlite3.connect(path)) as connection:
        for statement in VERSION_3:
            connection.execute(statement)
        times = (FIRST.isoformat(), LAST.isoformat(), ended and ended.isoformat())
        row = ("r", spec("r").plan, state, *times, count)
        connection.execute(_WRITTEN_OFF, row)
        connection.commit()
    async with Journal.open(path) as journal:
        entry = await journal.find("r")
        assert entry is not None
        # An intent had the end of the creates before it.
        end = ended if ended is not None and state is State.INTENT else LAST
        assert entry.earlier == (Exchange(FIRST, end, is_dated=False),) * count
        assert entry.ended_at == (None if state is State.INTENT else ended)
        if state is State.INTENT:
            assert (await journal.claim("r"))["r"].new  # nobody's: of before rows had owners
            assert await journal.forget_intent("r")
            entry = await journal.find("r")
            assert entry is not None
            assert (entry.written_off, entry.last_attempt_at) == (count - 1, FIRST)
            assert entry.ended_at == FIRST


async def run(path: Path) -> None:
    async with Journal.open(path):
        pass


@pytest.mark.parametrize("use", [run, twins, Journal.purge, Journal.accept])
async def test_a_version_from_before_the_first_release_is_refused(
    path: Path, use: Callable[[Path], Awaitable[object]]
) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE meta SET version = 1")
        connection.commit()
    with pytest.raises(JournalMismatchError, match="version 1, of before the first release"):
        await use(path)
    assert version(path) == 1
