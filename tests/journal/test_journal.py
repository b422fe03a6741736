import asyncio
import pickle
import sqlite3
import threading
import time
import traceback
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from openrouter_keys.errors import (
    DuplicateRefError,
    InvalidArgumentError,
    JournalError,
    JournalMismatchError,
    OpenRouterError,
    PlanChangedError,
    SecretNotKeptError,
    TakenOverError,
)
from openrouter_keys.journal import schema, sqlite
from openrouter_keys.journal.journal import Journal
from openrouter_keys.journal.schema import State
from openrouter_keys.journal.store import Store
from openrouter_keys.journal.writer import AT_ONCE
from tests.journals import AT, HASH, LATER, SECRET, child, entries, spec, state, written

PARTNER_KEY = "partner-canary-0123456789abcdef0123456789"
DURABLE = {"journal_mode": "wal", "synchronous": 2, "fullfsync": 1}


@pytest.fixture
async def journal(path: Path) -> AsyncIterator[Journal]:
    async with Journal.open(path) as journal:
        yield journal


# --- a key's way ---


async def test_a_key_goes_from_intent_to_settled(journal: Journal) -> None:
    assert await journal.intend(spec(), AT) is None
    seen = [await state(journal)]
    await journal.keep("r", secret=SECRET, hash=HASH, record='{"hash":"h"}')
    seen.append(await state(journal))
    await journal.acknowledge("r")
    seen.append(await state(journal))
    assert seen == [State.INTENT, State.MADE, State.SETTLED]
    assert (await journal.counts())[State.SETTLED] == 1


async def test_a_resume_finds_what_was_made_and_not_handed_over(path: Path) -> None:
    wanted = spec(workspace_id="w", limit=5)
    async with Journal.open(path) as journal:
        await journal.intend(wanted, AT)
        await journal.keep("r", secret=SECRET, hash=HASH, record='{"hash":"h"}')
    async with Journal.open(path) as journal:
        assert await journal.plan([wanted, spec("new")]) == [State.MADE, None]
        entry = (await entries(journal))["r"]
    assert (entry.secret, entry.hash, entry.record) == (SECRET, HASH, '{"hash":"h"}')
    assert (entry.name, entry.workspace_id, entry.plan["limit"]) == ("customer-r", "w", 5.0)
    assert (entry.first_attempt_at, entry.last_attempt_at) == (AT, AT)


async def test_an_intent_that_is_known_is_told_and_not_written_again(path: Path) -> None:
    async with Journal.open(path) as journal:
        await journal.intend(spec(), AT)
        await journal.doubt("r", "no answer")
    async with Journal.open(path) as journal:
        assert await journal.intend(spec(), LATER) is State.DOUBT
        entry = (await entries(journal))["r"]
    assert (entry.state, entry.reason, entry.last_attempt_at) == (State.DOUBT, "no answer", AT)


async def test_a_doubt_that_is_written_off_is_remembered_until_it_is_cleared(
    journal: Journal,
) -> None:
    await journal.intend(spec(), AT)
    await journal.doubt("r", "no answer")
    await journal.again("r", LATER)
    await journal.keep("r", secret=SECRET, hash=HASH)
    await journal.acknowledge("r")
    await journal.claim("r", settled=True)
    (entry,) = [entry async for entry in journal.written_off()]
    assert (entry.state, entry.written_off) == (State.SETTLED, 1)
    assert (entry.first_attempt_at, entry.last_attempt_at) == (AT, LATER)
    await journal.clear("r")
    assert [entry async for entry in journal.written_off()] == []


async def test_a_create_after_a_refusal_opens_a_new_window(journal: Journal) -> None:
    await journal.intend(spec(), AT)
    await journal.fail("r", "403")
    await journal.claim("r")
    await journal.again("r", LATER)
    entry = (await entries(journal))["r"]
    assert (entry.state, entry.written_off, entry.reason) == (State.INTENT, 0, None)
    assert (entry.first_attempt_at, entry.last_attempt_at) == (LATER, LATER)


async def test_a_forgotten_intent_is_as_if_it_had_never_been(journal: Journal) -> None:
    await journal.intend(spec(), AT)
    await journal.forget_intent("r")
    assert await state(journal) is None
    assert await journal.intend(spec(limit=1), LATER) is None


async def test_a_forgotten_second_intent_leaves_the_first_one_in_doubt(journal: Journal) -> None:
    await journal.intend(spec(), AT)
    await journal.again("r", LATER)
    await journal.forget_intent("r")
    entry = (await entries(journal))["r"]
    assert (entry.state, entry.written_off) == (State.DOUBT, 0)


async def test_a_late_answer_settles_a_doubt(journal: Journal) -> None:
    await journal.intend(spec(), AT)
    await journal.doubt("r", "cancelled")
    await journal.keep("r", secret=SECRET, hash=HASH)
    assert await state(journal) is State.MADE


async def prepare(journal: Journal, given: State | None) -> None:
    if given is not None:
        await journal.intend(spec(), AT)
    if given in (State.MADE, State.SETTLED):
        await journal.keep("r", secret=SECRET, hash=HASH)
    if given is State.SETTLED:
        await journal.acknowledge("r")
    if given is State.DOUBT:
        await journal.doubt("r", "no answer")
    if given is State.FAILED:
        await journal.fail("r", "403")
    if given is State.RELEASING:
        await journal.keep("r", secret=SECRET, hash=HASH)
        await journal.release("r")
    await journal.claim("r", settled=True)


STEPS: dict[str, tuple[Callable[[Journal], Coroutine[Any, Any, object]], set[State]]] = {
    "keep": (
        lambda j: j.keep("r", secret=SECRET[:-1], hash="other"),
        {State.INTENT, State.DOUBT},
    ),
    "acknowledge": (lambda j: j.acknowledge("r"), {State.MADE}),
    "doubt": (lambda j: j.doubt("r", "?"), {State.INTENT, State.DOUBT}),
    "fail": (lambda j: j.fail("r", "?"), {State.INTENT, State.DOUBT}),
    "reject": (lambda j: j.reject("r", "?"), {State.MADE}),
    "forget": (lambda j: j.forget_intent("r"), {State.INTENT}),
    "again": (lambda j: j.again("r", LATER), {State.INTENT, State.DOUBT, State.FAILED}),
}


@pytest.mark.parametrize("given", [None, *State])
@pytest.mark.parametrize("step", STEPS)
async def test_a_step_that_its_state_does_not_allow_is_refused_and_changes_nothing(
    journal: Journal, step: str, given: State | None
) -> None:
    take, allowed = STEPS[step]
    await prepare(journal, given)
    if given in allowed:
        await take(journal)
        return
    refused = "not allow" if given is not None else "has taken 'r' over"
    with pytest.raises(JournalError, match=refused):
        await take(journal)
    assert await state(journal) is given
    found = (await entries(journal)).get("r")
    assert found is None or found.secret in (None, SECRET)


# --- plans ---


async def test_a_plan_that_changed_is_refused_with_what_changed(path: Path) -> None:
    async with Journal.open(path) as journal:
        await journal.intend(spec(limit=5), AT)
    async with Journal.open(path) as journal:
        for refused in (journal.plan([spec(limit=6)]), journal.intend(spec(limit=6), AT)):
            with pytest.raises(PlanChangedError, match="limit") as caught:
                await refused
            assert (caught.value.ref, caught.value.changed) == ("r", ("limit",))
        assert (await journal.counts())[State.INTENT] == 1


async def test_a_ref_that_comes_twice_in_one_run_is_refused(journal: Journal) -> None:
    first, second = await asyncio.gather(
        journal.intend(spec(), AT), journal.intend(spec(), AT), return_exceptions=True
    )
    assert first is None
    assert isinstance(second, DuplicateRefError)
    for again in ([spec()], [spec("a"), spec("a")]):
        with pytest.raises(DuplicateRefError) as caught:
            await journal.plan(again)
        assert caught.value.ref == again[0].ref


async def test_a_plan_of_many_is_answered_in_its_order(path: Path) -> None:
    specs = [spec(str(n)) for n in range(1_203)]
    async with Journal.open(path) as journal:
        assert await journal.plan(specs) == [None] * len(specs)
        await asyncio.gather(*(journal.intend(one, AT) for one in specs[::2]))
    async with Journal.open(path) as journal:
        assert await journal.plan(specs) == [State.INTENT, None] * 601 + [State.INTENT]
        assert await journal.plan([]) == []


@pytest.mark.slow
async def test_unfinished_rows_come_in_order_and_once_though_they_change_meanwhile(
    journal: Journal,
) -> None:
    refs = [str(n) for n in range(1_100)]
    await asyncio.gather(*(journal.intend(spec(ref), AT) for ref in refs))
    seen: list[str] = []
    async for entry in journal.unfinished():
        seen.append(entry.ref)
        await journal.doubt(entry.ref, "found after a crash")
    assert seen == refs


async def test_unfinished_rows_can_be_asked_for_by_state(journal: Journal) -> None:
    await journal.intend(spec("a"), AT)
    await journal.intend(spec("b"), AT)
    await journal.doubt("b", "no answer")
    assert list(await entries(journal)) == ["a", "b"]
    assert list(await entries(journal, State.DOUBT)) == ["b"]


async def test_a_key_is_held_once_it_is_made(journal: Journal) -> None:
    await journal.intend(spec(), AT)
    assert not await journal.holds(HASH)
    await journal.keep("r", secret=SECRET, hash=HASH)
    assert await journal.holds(HASH)
    assert not await journal.holds("0" * 64)


# --- looking at all of it ---


@pytest.mark.slow
async def test_every_key_is_told_in_the_order_of_intending(journal: Journal) -> None:
    refs = [str(n) for n in range(1_100)]
    await asyncio.gather(*(journal.intend(spec(ref), AT) for ref in refs))
    for ref in refs[::100]:
        await journal.keep(ref, secret=SECRET, hash=HASH)
        await journal.acknowledge(ref)
    await journal.fail("1", "403")
    seen = [entry async for entry in journal.every()]
    assert [entry.ref for entry in seen] == refs
    assert {entry.state for entry in seen} == {State.INTENT, State.SETTLED, State.FAILED}
    assert (seen[100].secret, seen[100].hash) == (SECRET, HASH)


def runs(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("SELECT runs FROM meta").fetchone()[0])


async def test_reading_is_no_run_and_changes_nothing(path: Path) -> None:
    async with Journal.open(path, server_url="https://one") as journal:
        await journal.intend(spec(), AT)
    before = path.read_bytes()
    async with Journal.read(path) as journal:
        assert list(await entries(journal)) == ["r"]
        created_at, server_url = await journal.origin()
        for change in (journal.intend(spec("new"), AT), journal.fail("r", "403")):
            with pytest.raises(JournalError, match="readonly"):
                await change
    assert (created_at.utcoffset(), server_url) == (timedelta(0), "https://one")
    assert path.read_bytes() == before
    assert runs(path) == 1


@pytest.mark.slow
@pytest.mark.parametrize("lost", ["nothing", "-shm"])
async def test_reading_finds_what_a_killed_process_left(path: Path, lost: str) -> None:
    die = """
import os
async def main():
    async with Journal.open(sys.argv[1]) as journal:
        await journal.intend(KeySpec(ref="r", name="a"), AT)
        os._exit(9)
asyncio.run(main())
"""
    with child(die, path) as process:
        process.communicate()
    Path(f"{path}{lost}").unlink(missing_ok=True)
    before = path.read_bytes()
    async with Journal.read(path) as journal:
        assert [entry.ref async for entry in journal.every()] == ["r"]
    assert path.read_bytes() == before


async def test_reading_makes_no_journal(path: Path) -> None:
    with pytest.raises(JournalError, match="is not there: give the path of a journal"):
        async with Journal.read(path):
            pass
    assert list(path.parent.iterdir()) == []


def other_version(connection: sqlite3.Connection) -> None:
    connection.execute(f"PRAGMA application_id = {schema.APPLICATION}")
    connection.executescript("CREATE TABLE meta (version); INSERT INTO meta VALUES (6);")


@pytest.mark.parametrize("content", ["nothing", "text", "database", "version"])
async def test_reading_what_is_no_journal_is_refused(path: Path, content: str) -> None:
    path.touch(0o600)
    path.write_text("no journal, and longer than nothing" * (content == "text"))
    if content in ("database", "version"):
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("CREATE TABLE t (x)")
            if content == "version":
                other_version(connection)
    before = path.read_bytes()
    with pytest.raises(JournalMismatchError, match="journal") as caught:
        async with Journal.read(path):
            pass
    assert caught.value.path == str(path)
    assert path.read_bytes() == before


async def test_a_journal_has_any_number_of_users_who_see_what_is_committed(path: Path) -> None:
    async with Journal.open(path) as first, Journal.read(path) as reader:
        await first.intend(spec("a"), AT)
        async with Journal.open(path) as second:
            assert await second.plan([spec("a")]) == [State.INTENT]
            assert await second.intend(spec("a"), LATER) is State.INTENT
            await second.intend(spec("b"), LATER)
            assert await first.intend(spec("b"), AT) is State.INTENT
            found = {ref: entry.last_attempt_at for ref, entry in (await entries(reader)).items()}
            assert found == {"a": AT, "b": LATER}
            with pytest.raises(JournalError, match="readonly"):
                await reader.intend(spec("c"), AT)
    async with Journal.read(path) as reader:
        assert {*await entries(reader)} == {"a", "b"}


# --- what must never be written, or shown ---


async def test_secrets_that_are_not_to_be_stored_are_never_written(path: Path) -> None:
    async with Journal.open(path, store_secrets=False) as journal:
        await journal.intend(spec(), AT)
        await journal.keep("r", secret=SECRET, hash=HASH)
        entry = (await entries(journal))["r"]
        assert (entry.state, entry.hash, entry.secret) == (State.MADE, HASH, None)
        assert SECRET.encode() not in written(path)
        await journal.again("r", LATER)  # the key is deleted, and made anew
        assert not await journal.holds(HASH)
        assert await state(journal) is State.INTENT


async def test_sealed_secrets_are_written_sealed_only(path: Path) -> None:
    async with Journal.open(path, seal=lambda secret: secret[::-1]) as journal:
        await journal.intend(spec(), AT)
        await journal.keep("r", secret=SECRET, hash=HASH)
        entry = (await entries(journal))["r"]
    assert (entry.secret, entry.sealed) == (None, SECRET.encode()[::-1])
    assert SECRET.encode() not in written(path)


async def test_a_partners_key_is_never_written(path: Path) -> None:
    async with Journal.open(path) as journal:
        await journal.intend(spec(external={"user": "u", "api_key": PARTNER_KEY}), AT)
        assert PARTNER_KEY.encode() not in written(path)
    assert b"api_key_sha256" in written(path)


async def test_reasons_are_written_without_secrets(path: Path) -> None:
    async with Journal.open(path) as journal:
        await journal.intend(spec("a"), AT)
        await journal.doubt("a", f"answered {SECRET}")
        await journal.intend(spec("b"), AT)
        await journal.fail("b", f"answered {SECRET}")
    assert SECRET.encode() not in written(path)


def refuse_to_seal(secret: bytes) -> bytes:
    raise ValueError(secret)


async def unkept(journal: Journal, secret: str = SECRET) -> SecretNotKeptError:
    with pytest.raises(SecretNotKeptError) as caught:
        await journal.keep("r", secret=secret, hash=HASH)
    return caught.value


async def unkept_because(problem: str, path: Path) -> SecretNotKeptError:
    async with Journal.open(path, seal=refuse_to_seal if problem == "sealing" else None) as journal:
        await journal.intend(spec(), AT)
        if problem != "closed":
            return await unkept(journal, SECRET + "\ud800" * (problem == "surrogate"))
    return await unkept(journal)


@pytest.mark.parametrize("problem", ["closed", "sealing", "surrogate"])
async def test_a_secret_that_cannot_be_kept_is_in_the_error_and_nowhere_else(
    path: Path, problem: str
) -> None:
    error = await unkept_because(problem, path)
    assert (error.key[: len(SECRET)], error.hash, error.ref) == (SECRET, HASH, "r")
    assert SECRET not in "".join(traceback.format_exception(error)) + repr(error)
    assert SECRET not in str(error.args)
    assert error.__context__ is None
    with pytest.raises(TypeError, match=r"error\.key"):
        pickle.dumps(error)
    async with Journal.open(path) as journal:
        assert not await journal.holds(HASH)


async def test_the_secret_of_a_ref_that_is_not_the_runs_own_is_not_kept(journal: Journal) -> None:
    with pytest.raises(TakenOverError):
        await journal.keep("r", secret=SECRET, hash=HASH)
    assert not await journal.holds(HASH)


async def test_an_entry_shows_no_secret_and_refuses_to_be_pickled(journal: Journal) -> None:
    await journal.intend(spec(), AT)
    await journal.keep("r", secret=SECRET, hash=HASH)
    entry = (await entries(journal))["r"]
    assert SECRET not in repr(entry)
    with pytest.raises(TypeError, match="never pickled"):
        pickle.dumps(entry)


def test_every_error_of_a_journal_is_an_error_of_the_package() -> None:
    assert issubclass(JournalError, OpenRouterError)


# --- durable, in groups ---


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What each journal's connection carries out once it is open."""
    traced: list[str] = []
    opening = sqlite.connect

    def connect(
        path: str | None, server_url: str | None, refuse: Callable[[sqlite3.Connection], None]
    ) -> sqlite3.Connection:
        connection = opening(path, server_url, refuse)
        connection.set_trace_callback(traced.append)
        return connection

    monkeypatch.setattr(sqlite, "connect", connect)
    return traced


async def test_many_intents_take_few_commits(statements: list[str], journal: Journal) -> None:
    await asyncio.gather(*(journal.intend(spec(str(n)), AT) for n in range(2_000)))
    assert 1 <= statements.count("COMMIT") < 500


async def test_of_the_callers_of_a_large_group_no_more_than_a_few_go_on_in_one_turn_of_the_loop(
    journal: Journal,
) -> None:
    begun, gathered, went_on, most = threading.Event(), threading.Event(), 0, 0

    def hold(_: Store) -> None:
        begun.set()
        gathered.wait()

    async def intend(ref: str) -> None:
        nonlocal went_on
        await journal.intend(spec(ref), AT)
        went_on += 1

    holding = journal._writer.submit(hold)
    await asyncio.to_thread(begun.wait)  # alone in its group
    intending = [asyncio.create_task(intend(str(n))) for n in range(200)]
    await asyncio.sleep(0)
    gathered.set()  # all wait now, for the next group
    await holding
    while went_on < 200:
        before = went_on
        await asyncio.sleep(0)
        most = max(most, went_on - before)
    assert most == AT_ONCE
    await asyncio.gather(*intending)


async def test_a_commit_is_on_the_disk_when_it_is_told(path: Path) -> None:
    path.touch(0o600)
    with closing(sqlite.connect(str(path), None)) as connection:
        found = [connection.execute(f"PRAGMA {name}").fetchone() for name in DURABLE]
    assert found == [(value,) for value in DURABLE.values()]


async def test_a_cancelled_call_is_carried_out_all_the_same(path: Path) -> None:
    async with Journal.open(path) as journal:
        await journal.intend(spec(), AT)
        keeping = asyncio.create_task(journal.keep("r", secret=SECRET, hash=HASH))
        await asyncio.sleep(0)
        keeping.cancel()
        with pytest.raises(asyncio.CancelledError):
            await keeping
        assert await state(journal) is State.MADE


async def test_what_was_asked_for_before_closing_is_done(path: Path) -> None:
    async with Journal.open(path) as journal:
        intending = [asyncio.create_task(journal.intend(spec(str(n)), AT)) for n in range(50)]
        await asyncio.sleep(0)
    assert await asyncio.gather(*intending) == [None] * 50
    with pytest.raises(JournalError, match="closed"):
        await journal.intend(spec(), AT)


async def test_a_failing_job_leaves_the_others_of_its_group_alone(path: Path) -> None:
    async with Journal.open(path) as journal:
        await journal.intend(spec(), AT)
        done = await asyncio.gather(
            journal.intend(spec("a"), AT),
            journal.acknowledge("r"),
            journal.intend(spec("b"), AT),
            return_exceptions=True,
        )
        assert isinstance(done[1], JournalError)
    async with Journal.open(path) as journal:
        assert list(await entries(journal)) == ["r", "a", "b"]


def plan_of(path: Path, query: str) -> str:
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute(f"EXPLAIN QUERY PLAN {query}").fetchall()
    return "; ".join(row[3] for row in rows)


async def test_a_resume_reads_no_settled_row(
    statements: list[str], journal: Journal, path: Path
) -> None:
    await journal.plan([spec("a"), spec("b")])
    await entries(journal)
    assert [entry async for entry in journal.written_off()] == []
    queries = [statement for statement in statements if "ref IN" in statement or "*" in statement]
    plans = [plan_of(path, query) for query in queries]
    assert len(plans) == 3
    assert all("SEARCH keys USING" in plan for plan in plans)
    assert all("SCAN keys" not in plan for plan in plans)


# --- cancelled while it is being opened ---

CALLS: dict[str, Callable[[Path], Coroutine[Any, Any, object]]] = {
    "open": lambda path: opened(Journal.open(path)),
    "read": lambda path: opened(Journal.read(path)),
    "purge": Journal.purge,
    "backup": lambda path: Journal.backup(path, f"{path}-{time.monotonic_ns()}"),
    "accept": Journal.accept,
}


async def opened(journal: AbstractAsyncContextManager[Journal]) -> None:
    async with journal:
        pass


@pytest.mark.parametrize("call", CALLS)
async def test_a_cancelled_call_has_let_go_of_the_journal_when_it_ends(
    call: str, path: Path
) -> None:
    await opened(Journal.open(path))
    for turns in range(1, 9):
        task = asyncio.create_task(CALLS[call](path))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        await CALLS[call](path)  # or it would be in use, by this very process


@pytest.mark.parametrize("opening", [Journal.open, Journal.read])
async def test_a_journal_that_is_left_while_it_closes_is_let_go_of_first(
    opening: Callable[[Path], AbstractAsyncContextManager[Journal]], path: Path
) -> None:
    await opened(Journal.open(path))
    go_on, closes = threading.Event(), asyncio.Event()

    async def look() -> None:
        async with opening(path) as journal:
            journal._writer.submit(lambda _: go_on.wait())
            closes.set()

    task = asyncio.create_task(look())
    await closes.wait()
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not task.done()
    go_on.set()
    await asyncio.wait([task])
    assert task.cancelled()
    await opened(opening(path))


async def test_a_place_that_is_not_given_is_refused_and_memory_is_named() -> None:
    nothing: Any = None
    with pytest.raises(InvalidArgumentError, match="is a variable not set") as caught:
        Journal.open(nothing)
    assert caught.value.argument == "path"
    async with Journal.open(":memory:") as journal:
        assert await journal.intend(spec(), AT) is None
    with Journal.open(":memory:") as journal:
        pass
    assert not Path(":memory:").exists()
