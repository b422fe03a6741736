"""A PostgreSQL server that is lost in mid-run: nothing is done twice, and nothing is lost."""

import asyncio
import os
import random
import signal
import socket
import threading
import time
from collections.abc import AsyncGenerator, Awaitable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from uuid import uuid4

import psycopg
import pytest

from openrouter_keys.errors import (
    JournalError,
    JournalLostError,
    JournalUnavailableError,
    SecretNotKeptError,
    TakenOverError,
)
from openrouter_keys.journal import postgresql as engine
from openrouter_keys.journal import postgresql_store
from openrouter_keys.journal.addresses import Address
from openrouter_keys.journal.journal import Journal, Opening, _Secrets
from openrouter_keys.journal.postgresql_store import PostgreSQL as Store
from openrouter_keys.journal.schema import State
from openrouter_keys.journal.sessions import Session
from openrouter_keys.journal.store import Store as AnyStore
from openrouter_keys.journal.writer import Writer
from tests.engines import sql
from tests.journals import AT, HASH, SECRET, child, spec
from tests.postgresql import PASSWORD, PostgreSQL

pytestmark = pytest.mark.slow

_OURS = "SELECT pid FROM pg_stat_activity WHERE application_name = 'openrouter-keys'"


@pytest.fixture
def url(postgresql: PostgreSQL) -> Iterator[str]:
    schema = f"test_{uuid4().hex}"
    yield f"{postgresql.url()}?schema={schema}"
    if not postgresql.is_running:
        postgresql.start()
    sql(postgresql, f"DROP SCHEMA IF EXISTS {schema} CASCADE")


def kill(server: PostgreSQL, *pids: int) -> None:
    """End the server's processes of some sessions, all of ours by default, and wait for it."""
    for pid in pids or [pid for (pid,) in sql(server, _OURS)]:
        sql(server, "SELECT pg_terminate_backend(%s, 10000)", pid)


@asynccontextmanager
async def opened(url: str, grace: float) -> AsyncGenerator[Journal]:
    """Open a journal that waits less long for its server."""
    writer = Writer(partial(engine.opened, Address(url), None, grace))
    async with Opening(writer, _Secrets(stored=True), 0.0) as journal:
        yield journal


async def rows(journal: Journal) -> dict[str, State]:
    return {entry.ref: entry.state async for entry in journal.every()}


# --- in a group ---


@pytest.mark.parametrize("reads", [False, True])
async def test_a_session_that_ends_in_mid_group_is_made_anew_and_the_group_is_done_once(
    postgresql: PostgreSQL, url: str, *, reads: bool
) -> None:
    killed: list[int] = []

    def die(store: AnyStore) -> int:
        if not killed:
            assert isinstance(store, Store)
            killed.append(store.connection.pid)
            kill(postgresql, *killed)
        return 5

    async with Journal.open(url) as journal:
        await journal.intend(spec("known"), AT)
        asked: list[Awaitable[object]] = [journal._writer.submit(lambda _: time.sleep(0.1))]
        if reads:  # what follows is one group
            asked += [journal.find("known"), journal.find("none")]
        else:
            asked += [journal.intend(spec("a"), AT), journal.intend(spec("b"), AT)]
        asked.append(journal._writer.submit(die, reads=reads))
        if not reads:
            asked += [journal.intend(spec("c"), AT), journal.acknowledge("a")]
        done = await asyncio.gather(*asked, return_exceptions=True)
        assert killed
        if reads:
            assert [getattr(one, "ref", one) for one in done] == [None, "known", None, 5]
            return
        assert done[:5] == [None, None, None, 5, None]
        assert isinstance(done[5], JournalError)
        assert await rows(journal) == dict.fromkeys(("known", "a", "b", "c"), State.INTENT)


# --- around a commit ---


class Answer:
    """Loses the server just before or just after a commit, once."""

    def __init__(self, server: PostgreSQL, monkeypatch: pytest.MonkeyPatch, when: str) -> None:
        self.lost = 0
        self._server, self._when, self._run = server, when, Session.run
        self._is_on = False
        lose = self._lose

        def run(session: Session, script: str) -> "psycopg.Cursor[object]":
            return lose(session, script)

        monkeypatch.setattr(Session, "run", run)

    def lose_next(self) -> None:
        self._is_on = True

    def _lose(self, session: Session, script: str) -> "psycopg.Cursor[object]":
        if not (self._is_on and "COMMIT" in script and "INTO sessions" in script):
            return self._run(session, script)
        self._is_on = False
        self.lost += 1
        if self._when == "after":
            self._run(session, script)
        kill(self._server, session.pid)
        if self._when == "after":
            session._connection.pgconn.finish()  # the answer never came
        return self._run(session, "SELECT 1")


@pytest.fixture(params=["before", "after"])
def answer(
    request: pytest.FixtureRequest, postgresql: PostgreSQL, monkeypatch: pytest.MonkeyPatch
) -> Answer:
    return Answer(postgresql, monkeypatch, request.param)


async def test_what_was_committed_is_not_done_again_and_what_was_not_is(
    answer: Answer, url: str
) -> None:
    async with Journal.open(url) as journal:
        answer.lose_next()
        assert await journal.intend(spec(), AT) is None
        answer.lose_next()
        await journal.keep("r", secret=SECRET, hash=HASH)
        answer.lose_next()
        await journal.acknowledge("r")
        answer.lose_next()
        assert await journal.intend(spec("b"), AT) is None
        answer.lose_next()
        assert not await journal.forget_intent("b")
        answer.lose_next()
        await journal.plan_rotations([("x", spec().plan, "full", None, 0.0)])
        assert answer.lost == 6
        assert await rows(journal) == {"r": State.SETTLED}
        assert len([each async for each in journal.rotations()]) == 1


async def test_a_run_that_begins_or_ends_then_lives_once(answer: Answer, url: str) -> None:
    async with Journal.open(url) as other, Journal.open(url) as journal:
        answer.lose_next()
        async with journal.begin() as run:
            await run.intend(spec(), AT)
            assert not (await other.claim("r"))["r"].ours
            assert run._run == journal._run + 1
            answer.lose_next()
        assert answer.lost == 2
        assert (await other.claim("r"))["r"].ours


async def test_a_run_that_is_cut_off_keeps_its_long_timeout(
    postgresql: PostgreSQL, url: str
) -> None:
    """It goes on when it is back, and its next create can be under way for so long."""
    async with Journal.open(url, longest_timeout=600) as journal:
        kill(postgresql)
        async with Journal.open(url, longest_timeout=1) as other:
            assert other.longest_timeout == 600
        await journal.intend(spec(), AT)


async def test_the_locks_of_runs_are_taken_again(answer: Answer, url: str) -> None:
    async with Journal.open(url) as other, Journal.open(url) as journal:
        await journal.intend(spec(), AT)
        answer.lose_next()
        await journal.intend(spec("s"), AT)
        assert not (await other.claim("r"))["r"].ours
        assert await other.names_of_others() == ["customer-r", "customer-s"]


async def test_a_session_that_is_idle_for_so_long_that_it_is_forgotten_goes_on(
    postgresql: PostgreSQL, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgresql_store, "_REMEMBERED", 0.0)
    async with Journal.open(url) as journal:
        await journal.intend(spec("a"), AT)
        sql(postgresql, f"DELETE FROM {url.partition('schema=')[2]}.sessions")
        for ref in ("b", "c"):
            kill(postgresql)
            await journal.intend(spec(ref), AT)
        assert await rows(journal) == dict.fromkeys(("a", "b", "c"), State.INTENT)


async def test_a_number_of_commits_that_went_back_stops_the_run_for_good(
    postgresql: PostgreSQL, url: str
) -> None:
    async with Journal.open(url) as journal:
        for ref in ("a", "b"):
            await journal.intend(spec(ref), AT)
        # As on a replica that lacked the last commits, and was promoted.
        sql(postgresql, f"UPDATE {url.partition('schema=')[2]}.sessions SET commits = 1")
        kill(postgresql)
        for ref in ("c", "d"):
            with pytest.raises(JournalLostError, match="went back to an older state") as caught:
                await journal.intend(spec(ref), AT)
            assert PASSWORD not in str(caught.value)


# --- the server stops ---


async def test_a_server_that_crashes_in_mid_run_is_waited_for(
    postgresql: PostgreSQL, url: str
) -> None:
    async with Journal.open(url) as journal:
        await journal.intend(spec("before"), AT)
        crash = asyncio.create_task(asyncio.to_thread(crash_and_start, postgresql))
        done: dict[str, State | None] = {}
        while not crash.done() or not done:
            refs = [f"{len(done) + n}" for n in range(20)]
            states = await asyncio.gather(*(journal.intend(spec(ref), AT) for ref in refs))
            done.update(zip(refs, states, strict=True))
        await crash
        assert {*done.values()} == {None}
        assert await rows(journal) == dict.fromkeys(("before", *done), State.INTENT)


def crash_and_start(server: PostgreSQL) -> None:
    server.stop("immediate")
    server.start()


async def test_a_server_that_stays_away_stops_creates_and_gives_secrets_back(
    postgresql: PostgreSQL, url: str
) -> None:
    async with opened(url, grace=0.3) as journal:
        await journal.intend(spec(), AT)
        postgresql.stop("immediate")
        with pytest.raises(
            JournalUnavailableError, match=r"is away .*nothing more is sent"
        ) as away:
            await journal.intend(spec("new"), AT)
        begun = time.monotonic()
        done = await asyncio.gather(
            *(journal.keep("r", secret=SECRET, hash=HASH) for _ in range(50)),
            return_exceptions=True,
        )
        assert time.monotonic() - begun < 5  # the grace is over for all of them
        assert {type(one) for one in done} == {SecretNotKeptError}
        assert "is away" in str(done[0])
        assert PASSWORD not in str(away.value) + str(done[0])
        postgresql.start()
        await journal.keep("r", secret=SECRET, hash=HASH)
        assert await rows(journal) == {"r": State.MADE}
    postgresql.stop("immediate")
    with pytest.raises(JournalUnavailableError, match="cannot be reached"):
        async with Journal.open(url):
            pass


async def test_a_journal_whose_server_is_away_can_be_closed(
    postgresql: PostgreSQL, url: str
) -> None:
    async with opened(url, grace=0.1) as journal:
        postgresql.stop("immediate")
        with pytest.raises(JournalUnavailableError, match="is away"):
            await journal.counts()


@pytest.mark.parametrize("runs", [1, 3])
async def test_a_run_whose_end_could_not_be_written_has_ended_all_the_same(
    runs: int, postgresql: PostgreSQL, url: str
) -> None:
    refs = [f"r{number}" for number in range(runs)]
    async with opened(url, grace=0.1) as journal:
        async with AsyncExitStack() as stack:
            for ref in refs:
                run = await stack.enter_async_context(journal.begin())
                await run.intend(spec(ref), AT)
            postgresql.stop("immediate")
        postgresql.start()
        await journal.intend(spec("new"), AT)
        async with Journal.open(url) as other:
            claims = await other.claim(*refs, "new")
            assert [claims[ref].ours for ref in (*refs, "new")] == [True] * runs + [False]


async def test_a_run_whose_session_is_gone_may_only_be_cut_off(
    postgresql: PostgreSQL, url: str
) -> None:
    async with Journal.open(url) as journal, Journal.open(url) as other:
        await journal.intend(spec(), AT)
        kill(postgresql)
        assert (await other.claim("r"))["r"].is_cut_off
        assert not (await other.claim("r"))["r"].is_cut_off  # it is its own


FORKS = {
    "by os": "pid = os.fork() or time.sleep(60)",
    "by multiprocessing": """
worker = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
worker.start()
pid = worker.pid
""",
    "twice": """
reading, writing = os.pipe()
if os.fork() == 0:
    os.write(writing, str(os.fork() or time.sleep(60)).encode())
    os._exit(0)
pid = int(os.read(reading, 20))
""",
}


@pytest.mark.parametrize("fork", FORKS)
async def test_a_forked_child_does_not_keep_its_parents_session(fork: str, url: str) -> None:
    script = """
import multiprocessing, os, time, warnings
warnings.simplefilter("ignore")
async def main():
    async with Journal.open(sys.argv[1]) as journal:
        await journal.intend(KeySpec(ref="r", name="a"), AT)
        exec(sys.argv[2], globals())
        print(pid, flush=True)
        await journal.intend(KeySpec(ref="s", name="a"), AT)
        print("goes on", flush=True)
        await asyncio.sleep(60)
asyncio.run(main())
"""
    with child(script, url, FORKS[fork]) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        try:
            assert process.stdout.readline() == "goes on\n"
            process.kill()
            async with Journal.open(url) as other, asyncio.timeout(10):
                while not (await other.claim("r"))["r"].ours:
                    await asyncio.sleep(0.05)
        finally:
            os.kill(pid, signal.SIGKILL)


# --- others go on meanwhile ---


async def test_what_another_run_took_over_meanwhile_is_not_changed(
    postgresql: PostgreSQL, url: str
) -> None:
    async with Journal.open(url) as other, Journal.open(url) as journal:
        await journal.intend(spec(), AT)
        store = await journal._writer.submit(lambda store: store)
        assert isinstance(store, Store)
        kill(postgresql, store.connection.pid)
        assert (await other.claim("r"))["r"].new
        with pytest.raises(TakenOverError):
            await journal.keep("r", secret=SECRET, hash=HASH)
        await other.doubt("r", "taken over")
        assert await rows(other) == {"r": State.DOUBT}


STOPPED = """
import signal, threading
from openrouter_keys.journal import sessions
sessions._SET = sessions._SET.replace("'10s'", "'300ms'")
async def main():
    async with Journal.open(sys.argv[1]) as journal:
        await journal.intend(KeySpec(ref="first", name="a"), AT)
        def stop(_):
            if not stopped:
                stopped.append(1)
                print("stops", flush=True)
                signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)
        async def stops():
            await journal._writer.submit(stop)
        stopped = []
        done = await asyncio.gather(
            journal.intend(KeySpec(ref="second", name="a"), AT),
            stops(),
            journal.intend(KeySpec(ref="third", name="a"), AT),
        )
        print(done, flush=True)
asyncio.run(main())
"""


async def test_a_process_that_is_stopped_in_a_transaction_keeps_nobody_waiting(url: str) -> None:
    with child(STOPPED, url) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "stops\n"
        try:
            async with Journal.open(url) as journal:
                assert await journal.intend(spec("meanwhile"), AT) is None
                while not (await journal.claim("first"))["first"].new:
                    await asyncio.sleep(0.01)  # its session is ending, and with it its run
        finally:
            os.kill(process.pid, signal.SIGCONT)
        out, _ = await asyncio.to_thread(process.communicate)
        assert out == "[None, None, None]\n"
        async with Journal.read(url) as journal:
            assert {*await rows(journal)} == {"first", "meanwhile", "second", "third"}


# --- a network that is cut ---


class Cut:
    """Forwards connections to a server; cut, it keeps the server's end open, as a lost network."""

    def __init__(self, port: int) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._to, self._pairs = port, list[tuple[socket.socket, socket.socket]]()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self._to))
                self._pairs.append((near, far))
                for one, other in ((near, far), (far, near)):
                    threading.Thread(target=_forward, args=(one, other), daemon=True).start()

    def cut(self) -> None:
        """Reset the clients' ends of all connections."""
        for near, _ in self._pairs:
            with suppress(OSError):
                near.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End it."""
        self._listener.close()
        for pair in self._pairs:
            for one in pair:
                one.close()


def _forward(one: socket.socket, other: socket.socket) -> None:
    with suppress(OSError):
        while data := one.recv(65536):
            other.sendall(data)


@pytest.fixture
def network(postgresql: PostgreSQL) -> Iterator[Cut]:
    cut = Cut(postgresql.port)
    yield cut
    cut.close()


async def test_a_network_that_is_cut_in_a_transaction_leaves_no_lock_behind(
    postgresql: PostgreSQL, network: Cut, url: str
) -> None:
    cuts: list[int] = []

    def cut(store: AnyStore) -> None:
        assert isinstance(store, Store)
        if not cuts:
            cuts.append(store.connection.pid)
            network.cut()

    through = url.replace(f":{postgresql.port}/", f":{network.port}/")
    async with Journal.open(url) as other, Journal.open(through) as journal:
        await journal.intend(spec("mine"), AT)
        begun = time.monotonic()
        await asyncio.gather(
            journal.intend(spec("a"), AT),
            journal._writer.submit(cut),
            journal.intend(spec("b"), AT),
        )
        await other.intend(spec("c"), AT)
        assert time.monotonic() - begun < 8  # less than what ends an idle transaction
        assert cuts
        assert sql(postgresql, f"{_OURS} AND pid = %s", *cuts) == []
        assert not (await other.claim("mine"))["mine"].ours
        assert {*await rows(other)} == {"mine", "a", "b", "c"}


# --- again and again ---


@pytest.mark.parametrize("seed", range(3))
async def test_sessions_that_end_at_any_moment_do_nothing_twice_and_lose_nothing(
    postgresql: PostgreSQL, url: str, seed: int
) -> None:
    chance, refs = random.Random(seed), [str(n) for n in range(500)]
    kills = 0

    async def work(journal: Journal, mine: list[str]) -> None:
        nonlocal kills
        for ref in mine:
            if chance.random() < 1 / 25:  # while the others are at any of their steps
                await asyncio.to_thread(kill, postgresql)
                kills += 1
            assert await journal.intend(spec(ref), AT) is None
            await journal.keep(ref, secret=f"{SECRET}{ref}", hash=HASH)
            await journal.acknowledge(ref)

    async with Journal.open(url) as one, Journal.open(url) as two:
        working = (work(one if n % 2 else two, refs[n::10]) for n in range(10))
        assert await asyncio.gather(*working, return_exceptions=True) == [None] * 10
        assert kills > 10
        found = {entry.ref: entry async for entry in one.every()}
    assert {*found} == {*refs}
    assert {entry.state for entry in found.values()} == {State.SETTLED}
    assert all(found[ref].secret == f"{SECRET}{ref}" for ref in refs)


@pytest.mark.parametrize("looks", range(2))
async def test_a_reader_comes_back_too(postgresql: PostgreSQL, url: str, looks: int) -> None:
    async with Journal.open(url) as journal:
        await journal.intend(spec(), AT)
    async with Journal.read(url) as journal:
        for _ in range(looks):
            assert await journal.find("r")
        kill(postgresql)
        assert await journal.find("r")


async def test_a_pooler_of_transactions_is_refused(url: str) -> None:
    async with Journal.open(url) as journal:
        store = await journal._writer.submit(lambda store: store)
        assert isinstance(store, Store)
        store.connection.pid += 1
        with pytest.raises(JournalError, match="a pooler gives each transaction another session"):
            await journal.intend(spec(), AT)
        store.connection.pid -= 1
        assert await journal.intend(spec(), AT) is None
