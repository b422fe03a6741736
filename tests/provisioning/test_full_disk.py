"""A disk that is full: nothing more is sent, and no secret is lost."""

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from openrouter_keys import (
    AsyncOpenRouter,
    JournalFullError,
    ProvisionProgress,
    ProvisionResult,
    SecretNotKeptError,
)
from openrouter_keys.emulator import Emulator
from openrouter_keys.journal import sqlite
from openrouter_keys.journal.journal import Journal
from openrouter_keys.journal.schema import State
from tests.journals import entries
from tests.promises.test_secrets import printed
from tests.provisions import assert_whole, specs, stopped

COUNT = 180


@pytest.fixture
def pages(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many pages a journal may have; empty: any number."""
    given: list[int] = []
    opening = sqlite.connect

    def connect(
        path: str | None,
        server_url: str | None,
        refuse: Callable[[sqlite3.Connection], None] = lambda _: None,
    ) -> sqlite3.Connection:
        connection = opening(path, server_url, refuse)
        for number in given:
            connection.execute(f"PRAGMA max_page_count = {number}")
        return connection

    monkeypatch.setattr(sqlite, "connect", connect)
    return given


@pytest.mark.slow
@pytest.mark.parametrize("room", range(12, 28, 2))
async def test_nothing_is_sent_without_a_durable_intent_and_no_secret_is_lost(
    room: int, emulator: Emulator, client: AsyncOpenRouter, path: Path, pages: list[int]
) -> None:
    taken: list[ProvisionResult] = []
    pages.append(room)

    error = await stopped(
        client.provision(specs(COUNT), journal=path, on_result=taken.append, concurrency=4)
    )

    assert isinstance(error.__cause__, JournalFullError | SecretNotKeptError)
    async with Journal.open(path) as journal:
        left = await entries(journal, *State)
        settled = (await journal.counts())[State.SETTLED]
    assert emulator.count("create") <= len(left) + settled < COUNT
    # Each key's secret was taken, is in the journal, or is in the report.
    known = {result.key for result in taken} | {entry.secret for entry in left.values()}
    undelivered = {it.key for it in error.report.undelivered}
    assert {key.secret for key in emulator.account.keys.values()} <= known | undelivered
    assert not known & undelivered

    pages.clear()
    report = await client.provision(specs(COUNT), journal=path, on_result=taken.append)
    assert report.ok
    live = {key.secret for key in emulator.account.keys.values()}
    assert_whole(emulator, specs(COUNT), [result for result in taken if result.key in live])


async def test_a_secret_that_cannot_be_written_is_in_the_report_and_nothing_more_is_sent(
    emulator: Emulator, client: AsyncOpenRouter, path: Path, pages: list[int]
) -> None:
    pages.append(16)
    emulator.account.extra_fields["note"] = "x" * 100_000  # an intent fits, and a record does not
    taken: list[ProvisionResult] = []
    told: list[ProvisionProgress] = []

    error = await stopped(
        client.provision(
            specs(60),
            journal=path,
            on_result=taken.append,
            on_progress=told.append,
            concurrency=4,
        )
    )

    made = {key.name: key.secret for key in emulator.account.keys.values()}
    undelivered = error.report.undelivered
    assert {f"customer-{it.ref}": it.key for it in undelivered} == made
    assert {it.hash for it in undelivered} == {*emulator.account.keys}
    assert 1 <= len(undelivered) <= 2 * 4
    # Of the writes that fail at once, any is the first: a record's, or the next intent's.
    assert isinstance(error.__cause__, SecretNotKeptError | JournalFullError)
    assert getattr(error.__cause__, "key", undelivered[0].key) in {it.key for it in undelivered}
    assert "make room" in str(error)
    assert told[-1].report is error.report
    assert (taken, error.report.created, error.report.ok) == ([], 0, False)
    for it in undelivered:
        assert it.key not in f"{error} {error!r} {error.report} {error.report!r} {it!r}"


async def test_no_local_variable_of_the_error_holds_the_secret(
    emulator: Emulator, client: AsyncOpenRouter, path: Path, pages: list[int]
) -> None:
    pages.append(16)
    emulator.account.extra_fields["note"] = "x" * 100_000

    error = await stopped(client.provision(specs(1), journal=path))

    (key,) = emulator.account.keys.values()
    assert str(key.secret) not in printed(error)
