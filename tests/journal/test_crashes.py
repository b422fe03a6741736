"""Full disks and killed processes."""

import asyncio
import os
import shutil
import signal
import sqlite3
import sys
import tempfile
import threading
import traceback
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Sequence
from contextlib import AsyncExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from openrouter_keys.errors import (
    JournalFullError,
    JournalOutdatedError,
    SecretNotKeptError,
)
from openrouter_keys.journal import sqlite
from openrouter_keys.journal.journal import Journal
from openrouter_keys.journal.schema import State
from openrouter_keys.journal.sqlite_store import SQLite
from openrouter_keys.journal.store import Store
from openrouter_keys.journal.writer import Writer
from tests.journals import AT, HASH, LATER, SECRET, child, entries, spec

pytestmark = pytest.mark.slow

# A journal is slow to write, by design.
HEALTHY = [HealthCheck.too_slow, HealthCheck.data_too_large]


@pytest.fixture
def pragmas(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Statements that each journal's connection is given when it is open."""
    given: list[str] = []
    opening = sqlite.connect

    def connect(
        path: str | None, server_url: str | None, refuse: Callable[[sqlite3.Connection], None]
    ) -> sqlite3.Connection:
        connection = opening(path, server_url, refuse)
        for pragma in given:
            connection.execute(pragma)
        return connection

    monkeypatch.setattr(sqlite, "connect", connect)
    return given


# --- a full disk ---


@pytest.fixture
async def full(pragmas: list[str], path: Path) -> AsyncIterator[Journal]:
    """A journal that has room for a few intents, and for nothing long."""
    pragmas.append("PRAGMA max_page_count = 12")
    async with Journal.open(path) as journal:
        for n in range(3):
            await journal.intend(spec(str(n)), AT)
        yield journal


async def test_a_full_disk_stops_an_intent(full: Journal) -> None:
    with pytest.raises(JournalFullError, match="make room"):
        await full.intend(spec("long", name="x" * 100_000), AT)
    assert "long" not in await entries(full)
    assert await full.intend(spec("short"), AT) is None


async def test_a_full_disk_hands_the_secret_over_with_the_error(full: Journal) -> None:
    with pytest.raises(SecretNotKeptError, match="full") as caught:
        await full.keep("0", secret=SECRET, hash=HASH, record="x" * 100_000)
    assert caught.value.key == SECRET
    assert SECRET not in "".join(traceback.format_exception(caught.value))
    assert (await entries(full))["0"].state is State.INTENT


async def test_a_secret_is_kept_though_the_others_of_its_group_have_no_room(path: Path) -> None:
    path.touch(0o600)
    blocked, go = threading.Event(), threading.Event()

    @contextmanager
    def opened() -> Generator[Store]:
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("CREATE TABLE t (a)")
            connection.execute("PRAGMA max_page_count = 4")
            yield SQLite(connection, str(path))

    def block(_: Store) -> None:
        blocked.set()
        go.wait(30)

    def insert(length: int) -> Callable[[Store], int]:
        text = "INSERT INTO t VALUES (zeroblob(?))"
        return lambda store: store.connection.execute(text, (length,)).rowcount

    writer = Writer(opened)
    await writer.start()
    first = writer.submit(block)
    await asyncio.to_thread(blocked.wait, 30)
    jobs = [
        writer.submit(insert(1_000)),
        writer.submit(insert(100), urgent=True),
        writer.submit(insert(100_000)),
        writer.submit(insert(100_000), urgent=True),
        writer.submit(insert(101), urgent=True),
    ]
    go.set()
    await first
    done = await asyncio.gather(*jobs, return_exceptions=True)
    assert [isinstance(one, JournalFullError) for one in done] == [True, False, True, True, False]
    kept = await writer.submit(
        lambda store: store.connection.execute("SELECT length(a) FROM t").fetchall()
    )
    assert kept == [(100,), (101,)]
    await writer.stop()


@pytest.mark.skipif(sys.platform == "win32", reason="no file size limits")
def test_a_limit_of_the_operating_system_stops_intents_and_what_was_durable_stays(
    path: Path,
) -> None:
    fill_up = """
import resource
from openrouter_keys.errors import JournalFullError
async def main():
    async with Journal.open(sys.argv[1]) as journal:
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
        n = 0
        try:
            while True:
                await journal.intend(KeySpec(ref=str(n), name="x" * 500), AT)
                n += 1
        except JournalFullError:
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
            print(n, (await journal.counts())["intent"], flush=True)
asyncio.run(main())
"""
    with child(fill_up, path) as process:
        assert process.stdout is not None
        intended, counted = map(int, process.stdout.read().split())
    assert process.returncode == 0
    assert intended == counted > 3


# --- crashes ---


@pytest.mark.parametrize("lines", [1, 40, 400])
async def test_what_a_killed_process_was_told_to_be_durable_is_there(
    path: Path, lines: int
) -> None:
    provision = """
async def main():
    async with Journal.open(sys.argv[1]) as journal:
        async def worker(queue):
            for ref in queue:
                await journal.intend(KeySpec(ref=ref, name="n"), AT)
                print("intent", ref, flush=True)
                await journal.keep(ref, secret="secret-" + ref, hash="hash-" + ref)
                print("made", ref, flush=True)
                await journal.acknowledge(ref)
                print("settled", ref, flush=True)
        queue = map(str, range(100_000))
        await asyncio.gather(*(worker(queue) for _ in range(8)))
asyncio.run(main())
"""
    with child(provision, path) as process:
        assert process.stdout is not None
        told = [process.stdout.readline().split() for _ in range(lines)]
        process.send_signal(signal.SIGKILL)
        told += [line.split() for line in process.stdout.read().split("\n")[:-1]]
    durable = {ref: State(state) for state, ref in told}  # the last that was told of each
    order = [State.INTENT, State.MADE, State.SETTLED]
    refs = list(durable)
    async with Journal.open(path) as journal:
        found = await journal.plan([spec(ref, name="n") for ref in refs])
        unfinished = await entries(journal)
    for ref, state in zip(refs, found, strict=True):
        assert state is not None
        assert order.index(state) >= order.index(durable[ref])
        if state is State.MADE:
            assert unfinished[ref].secret == f"secret-{ref}"


@settings(max_examples=25, deadline=None, suppress_health_check=HEALTHY)
@given(data=st.data())
def test_any_prefix_of_the_log_replays_to_what_was_at_some_time(data: st.DataObject) -> None:
    refs = ["a", "b", "c"]

    async def write(path: Path) -> list[dict[str, State]]:
        history: list[dict[str, State]] = [{}]
        async with Journal.open(path) as journal:
            for ref in refs:
                await journal.intend(spec(ref), AT)
                history.append({**history[-1], ref: State.INTENT})
            for ref in refs:
                await journal.keep(ref, secret=SECRET, hash=HASH)
                history.append({**history[-1], ref: State.MADE})
            copy(path, path.parent / "torn.journal")
        return history

    async def read(path: Path) -> dict[str, State]:
        async with Journal.open(path) as journal:
            return {ref: entry.state for ref, entry in (await entries(journal)).items()}

    with tempfile.TemporaryDirectory() as folder:
        torn = Path(folder) / "torn.journal"
        history = asyncio.run(write(Path(folder) / "whole.journal"))
        log = Path(f"{torn}-wal")
        length = data.draw(st.integers(0, log.stat().st_size))
        os.truncate(log, length)
        if length:
            assert asyncio.run(read(torn)) in history
        else:
            with pytest.raises(JournalOutdatedError):  # no crash empties it: it was left behind
                asyncio.run(read(torn))


def copy(path: Path, to: Path) -> None:
    """Copy a journal as a crash would leave it, in the middle of whatever is going on."""
    for suffix in ("", "-wal"):
        if os.path.exists(f"{path}{suffix}"):
            shutil.copy2(f"{path}{suffix}", f"{to}{suffix}")


class CrashingJournal(RuleBasedStateMachine):
    """Any steps, awaited or not, and crashes: what was durable is there, and nothing is made up."""

    REFS = st.sampled_from(["a", "b", "c"])
    WAIT = st.booleans()

    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.runner = asyncio.Runner()
        self.crashes = 0
        # The states that each ref may be in: the durable one, then those not yet waited for.
        self.states: dict[str, list[State | None]] = {ref: [None] for ref in "abc"}
        self.waiting: list[asyncio.Task[Any]] = []
        self.path = Path(self.folder.name) / "0.journal"
        self.open()

    def open(self) -> None:
        async def enter() -> Journal:
            return await self.stack.enter_async_context(Journal.open(self.path))

        self.stack = AsyncExitStack()
        self.journal = self.runner.run(enter())

    def close(self) -> None:
        self.wait()
        self.runner.run(self.stack.aclose())

    def step(self, ref: str, to: State | None, doing: Coroutine[Any, Any, Any], wait: bool) -> None:
        async def claimed(journal: Journal) -> None:
            await journal.claim(ref, settled=True)
            await doing

        async def begin() -> None:
            self.waiting.append(asyncio.create_task(claimed(self.journal)))
            await asyncio.sleep(0)

        self.runner.run(begin())
        self.states[ref].append(to)
        if wait:
            self.wait()

    @rule()
    def wait(self) -> None:
        async def gather() -> None:
            await asyncio.gather(*self.waiting)

        self.runner.run(gather())
        self.waiting.clear()
        for states in self.states.values():
            del states[:-1]

    def last(self, ref: str, *allowed: State | None) -> bool:
        return self.states[ref][-1] in allowed

    @rule(ref=REFS, wait=WAIT)
    def intend(self, ref: str, wait: bool) -> None:
        if self.last(ref, None):
            self.step(ref, State.INTENT, self.journal.intend(spec(ref), AT), wait)

    @rule(ref=REFS, wait=WAIT)
    def keep(self, ref: str, wait: bool) -> None:
        if self.last(ref, State.INTENT, State.DOUBT):
            keeping = self.journal.keep(ref, secret=f"secret-{ref}", hash=f"hash-{ref}")
            self.step(ref, State.MADE, keeping, wait)

    @rule(ref=REFS, wait=WAIT)
    def acknowledge(self, ref: str, wait: bool) -> None:
        if self.last(ref, State.MADE):
            self.step(ref, State.SETTLED, self.journal.acknowledge(ref), wait)

    @rule(ref=REFS, wait=WAIT)
    def doubt(self, ref: str, wait: bool) -> None:
        if self.last(ref, State.INTENT):
            self.step(ref, State.DOUBT, self.journal.doubt(ref, "no answer"), wait)

    @rule(ref=REFS, wait=WAIT)
    def fail(self, ref: str, wait: bool) -> None:
        if self.last(ref, State.INTENT, State.DOUBT):
            self.step(ref, State.FAILED, self.journal.fail(ref, "refused"), wait)

    @rule(ref=REFS, wait=WAIT)
    def again(self, ref: str, wait: bool) -> None:
        if self.last(ref, State.FAILED):
            self.wait()  # a failed row is nobody's: claimed before it fails, it is not claimed
        if self.last(ref, State.DOUBT, State.FAILED):
            self.step(ref, State.INTENT, self.journal.again(ref, LATER), wait)

    @precondition(lambda self: self.crashes < 4)
    @rule()
    def crash(self) -> None:
        self.crashes += 1
        crashed = Path(self.folder.name) / f"{self.crashes}.journal"
        copy(self.path, crashed)
        allowed = {ref: list(states) for ref, states in self.states.items()}
        self.close()
        self.path = crashed
        self.open()
        found = self.found()
        for ref, state in found.items():
            assert state in allowed[ref]
        self.states = {ref: [state] for ref, state in found.items()}

    @rule()
    def reopen(self) -> None:
        self.close()
        self.open()
        assert self.found() == {ref: states[-1] for ref, states in self.states.items()}

    def found(self) -> dict[str, State | None]:
        found = self.runner.run(self.journal_states())
        return dict(zip("abc", found, strict=True))

    async def journal_states(self) -> Sequence[State | None]:
        unfinished = await entries(self.journal)
        for ref, entry in unfinished.items():
            assert entry.secret == (f"secret-{ref}" if entry.state is State.MADE else None)
        return await self.journal.plan([spec(ref) for ref in "abc"])

    @invariant()
    def made_ones_are_held(self) -> None:
        durable = [ref for ref, (first, *later) in self.states.items() if not later and first]
        for ref in durable:
            made = self.states[ref][0] in (State.MADE, State.SETTLED)
            assert self.runner.run(self.journal.holds(f"hash-{ref}")) == made

    def teardown(self) -> None:
        self.close()
        self.runner.close()
        self.folder.cleanup()


CrashingJournal.TestCase.settings = settings(
    max_examples=30, stateful_step_count=30, deadline=None, suppress_health_check=HEALTHY
)
test_no_crash_loses_what_was_durable = CrashingJournal.TestCase
