"""One journal's file and several users of it: locks, run files, and what each may do beside others.

Other processes are real where a process matters; elsewhere a second `Journal` of this one is as
good, since each has locks of its own.
"""

import asyncio
import errno
import os
import shutil
import signal
import sqlite3
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, closing
from pathlib import Path
from typing import TypeAlias

import pytest

from openrouter_keys.errors import (
    JournalError,
    JournalInsecureError,
    JournalInUseError,
    JournalLostError,
    JournalOutdatedError,
    JournalUnavailableError,
)
from openrouter_keys.journal import files, sqlite
from openrouter_keys.journal.copies import Copy
from openrouter_keys.journal.journal import Journal
from openrouter_keys.journal.schema import State
from tests.journals import AT, HASH, SECRET, child, entries, spec
from tests.processes import Process, until
from tests.provisions import counts

Act: TypeAlias = Callable[[Path], Awaitable[object]]

RUNS = """
async def main():
    async with Journal.open(sys.argv[1]) as journal:
        await journal.intend(KeySpec(ref=sys.argv[2], name=sys.argv[2]), AT)
        print("open", flush=True)
        sys.stdin.read()
asyncio.run(main())
"""
READS = """
async def main():
    async with Journal.read(sys.argv[1]) as journal:
        await journal.counts()
        print("open", flush=True)
        sys.stdin.read()
asyncio.run(main())
"""
AT_THE_GATE = """
from openrouter_keys.journal.files import held
with held(sys.argv[1], alone=False):
    print("open", flush=True)
    sys.stdin.read()
"""


@asynccontextmanager
async def beside(script: str, path: Path, *arguments: str) -> AsyncGenerator[Process]:
    """Another process that has the journal open until it is told to end."""
    with child(script, path, *arguments) as process:
        try:
            assert process.stdout is not None
            assert await asyncio.to_thread(process.stdout.readline) == "open\n"
            yield process
        finally:
            process.send_signal(signal.SIGCONT)
            await asyncio.to_thread(process.communicate)


async def killed(path: Path, ref: str = "theirs") -> None:
    """A run that is killed after its intent."""
    async with beside(RUNS, path, ref) as process:
        process.kill()


def with_suffix(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def run_files(path: Path) -> set[str]:
    return {file.name.removeprefix(path.name) for file in path.parent.glob(f"{path.name}.run-*")}


async def claims(path: Path, ref: str = "theirs") -> tuple[bool, bool]:
    """Return whether a new run gets a row, and whether it was another's before."""
    async with Journal.open(path) as journal:
        claim = (await journal.claim(ref))[ref]
    return claim.ours, claim.new


async def use(path: Path) -> None:
    async with Journal.open(path) as journal:
        await journal.intend(spec("use"), AT)


async def read(path: Path) -> None:
    async with Journal.read(path) as journal:
        await journal.counts()


async def back_up(path: Path) -> None:
    await Journal.backup(path, with_suffix(path, ".copy"))


# --- who may do what beside whom ---

BESIDE: dict[str, Act] = {"open": use, "read": read, "back up": back_up}
ALONE: dict[str, Act] = {"purge": Journal.purge, "accept": Journal.accept}


@pytest.mark.slow
@pytest.mark.parametrize("act", BESIDE)
@pytest.mark.parametrize("script", [RUNS, READS], ids=["a run", "a reader"])
async def test_it_works_beside(script: str, act: str, path: Path) -> None:
    await use(path)
    async with beside(script, path, "theirs"):
        await BESIDE[act](path)
    assert await counts(path) == {"intent": 1 + (script is RUNS)}


@pytest.mark.slow
@pytest.mark.parametrize("act", ALONE)
@pytest.mark.parametrize("script", [RUNS, READS], ids=["a run", "a reader"])
async def test_it_is_refused_with_the_holder_beside(script: str, act: str, path: Path) -> None:
    await use(path)
    async with beside(script, path, "theirs") as process:
        with pytest.raises(JournalInUseError) as caught:
            await ALONE[act](path)
        assert caught.value.pid == process.pid
    await ALONE[act](path)


@pytest.mark.parametrize("act", BESIDE | ALONE)
async def test_nothing_works_beside_what_needs_the_journal_alone(
    act: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await use(path)
    monkeypatch.setattr(files, "_OPENING", 0.05)
    with files.held(str(path)), pytest.raises(JournalInUseError) as caught:
        await (BESIDE | ALONE)[act](path)
    assert caught.value.pid == os.getpid()
    assert not with_suffix(path, ".copy").exists()
    await (BESIDE | ALONE)[act](path)


async def test_a_backup_beside_a_run_has_what_was_committed(path: Path) -> None:
    copy = with_suffix(path, ".copy")
    async with Journal.open(path) as journal:
        for number in range(50):
            await journal.intend(spec(f"{number}"), AT)
        await journal.keep("0", secret=SECRET, hash=HASH, settled=True)
        backup = asyncio.create_task(Journal.backup(path, copy))
        for number in range(50, 100):
            await journal.intend(spec(f"{number}"), AT)
        await backup
        assert (await journal.counts())[State.INTENT] == 99
        # The runs of the journal are no runs of its copy.
        assert await claims(copy, "1") == (True, True)
    found = await counts(copy)
    assert (found["settled"], 49 <= found["intent"] <= 99) == (1, True)
    assert {file.name for file in path.parent.iterdir() if ".copy." in file.name} <= {
        f"{copy.name}{suffix}" for suffix in (".lock", ".gate")
    }


# --- the gate ---


@pytest.mark.slow
async def test_a_process_that_stops_while_it_opens_a_journal_is_named(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await use(path)
    monkeypatch.setattr(files, "_OPENING", 0.05)
    async with beside(AT_THE_GATE, path) as process:
        process.send_signal(signal.SIGSTOP)
        for act in (*BESIDE.values(), *ALONE.values()):
            with pytest.raises(JournalInUseError) as caught:
                await act(path)
            assert caught.value.pid == process.pid


@pytest.mark.slow
async def test_a_process_that_is_killed_while_it_opens_a_journal_holds_nobody_up(
    path: Path,
) -> None:
    await use(path)
    async with beside(AT_THE_GATE, path) as process:
        process.kill()
        until(lambda: process.poll() is not None)
        began = time.monotonic()
        await use(path)
        assert time.monotonic() - began < files._OPENING / 2


@pytest.mark.parametrize("suffix", [".gate", ".run-2"])
@pytest.mark.parametrize("how", ["removed", "replaced"])
async def test_a_run_whose_locks_are_taken_away_stops(how: str, suffix: str, path: Path) -> None:
    await use(path)
    async with Journal.open(path) as journal:
        await journal.intend(spec(), AT)
        with_suffix(path, suffix).unlink()
        if how == "replaced":
            with_suffix(path, suffix).touch(0o600)
        with pytest.raises(JournalLostError, match=f"{suffix} was {how}"):
            await journal.intend(spec("next"), AT)
    assert how == "removed" or with_suffix(path, suffix).exists()  # it may be another's
    async with Journal.open(path) as journal:
        assert {*await entries(journal)} == {"r", "use"}


async def test_two_that_open_and_close_it_all_the_time_find_it_whole(path: Path) -> None:
    async def often(name: str) -> None:
        for number in range(15):
            async with Journal.open(path) as journal:
                await journal.intend(spec(f"{name}-{number}"), AT)

    async def looks() -> None:
        for _ in range(15):
            await read(path)

    await use(path)
    await asyncio.gather(often("a"), often("b"), looks())
    assert await counts(path) == {"intent": 31}
    # The last one brought all into one file.
    moved = path.with_name("moved")
    shutil.copy(path, moved)
    assert await counts(moved) == {"intent": 31}
    await use(moved)


# --- the file of a run ---


@pytest.mark.slow
async def test_a_killed_run_is_gone_and_a_living_one_is_not(path: Path) -> None:
    async with beside(RUNS, path, "theirs") as process:
        assert await claims(path) == (False, False)
        process.send_signal(signal.SIGSTOP)  # stopped, it lives
        assert await claims(path) == (False, False)
        process.kill()
        until(lambda: process.poll() is not None)
        assert await claims(path) == (True, True)


@pytest.mark.slow
async def test_what_killed_runs_leave_behind_is_removed_beside_others_too(path: Path) -> None:
    async with Journal.open(path) as journal:
        for number in range(3):
            await killed(path, f"{number}")
        async with Journal.open(path):
            assert len(run_files(path)) == 2  # those that live
        await journal.intend(spec(), AT)
        await killed(path, "3")
    assert len(run_files(path)) <= 1  # the close removes those of processes that are gone by then
    await use(path)
    assert run_files(path) == set()
    assert {file.name for file in path.parent.iterdir()} == {
        path.name + suffix for suffix in ("", ".lock", ".gate")
    }


@pytest.mark.parametrize(
    ("left", "remembered"),
    [
        ("nothing", False),
        ("a killed run", False),
        ("a key", False),
        ("an intent", True),
        ("a doubt", True),
        ("a create that was written off", True),
        ("a run that lives", True),
        ("a call that outlasts its block", True),
    ],
)
async def test_a_long_timeout_is_forgotten_once_no_create_can_be_under_way(
    left: str, remembered: bool, path: Path
) -> None:
    async with AsyncExitStack() as stack:
        if left == "a run that lives":
            await stack.enter_async_context(Journal.open(path))
        async with Journal.open(path, longest_timeout=600) as journal:
            if left == "a call that outlasts its block":
                await stack.enter_async_context(journal.begin())
            elif left not in ("nothing", "a killed run"):
                await journal.intend(spec(), AT)
            if left == "a key":
                await journal.keep("r", secret=SECRET, hash=HASH, settled=True)
            if left in ("a doubt", "a create that was written off"):
                await journal.doubt("r", "no answer came")
            if left == "a create that was written off":
                await journal.again("r", AT)
                await journal.fail("r", "refused")
        if left == "a killed run":
            with closing(sqlite3.connect(path)) as connection, connection:
                connection.execute("INSERT INTO runs VALUES (7)")
        async with Journal.open(path, longest_timeout=10) as journal:
            assert journal.longest_timeout == (600 if remembered else 10)


async def test_a_call_that_outlasts_the_journals_block_keeps_its_rows_until_it_ends(
    path: Path,
) -> None:
    async with AsyncExitStack() as call:
        async with Journal.open(path) as journal:
            run = await call.enter_async_context(journal.begin())
            await run.intend(spec(), AT)
            await journal.intend(spec("its own"), AT)
        async with Journal.open(path) as other:
            claims = await other.claim("r", "its own")
            assert {ref: claim.ours for ref, claim in claims.items()} == {
                "r": False, "its own": True,
            }  # fmt: skip
    async with Journal.open(path) as other:
        assert (await other.claim("r"))["r"].ours
        assert not [*path.parent.glob("*.run-2")]


async def test_a_run_that_ends_leaves_its_rows_to_others(path: Path) -> None:
    async with Journal.open(path) as journal:
        async with journal.begin() as run:
            await run.intend(spec("theirs"), AT)
            assert await claims(path) == (False, False)
        assert await claims(path) == (True, True)
        # What it writes now is written no more.
        with pytest.raises(JournalError, match="taken 'theirs' over"):
            await run.doubt("theirs", "too late")
    assert run_files(path) == set()


async def test_looking_whether_a_run_lives_is_not_taken_for_that_run(path: Path) -> None:
    await use(path)
    dead = with_suffix(path, ".run-77")
    dead.touch(0o600)
    looks = os.open(dead, os.O_RDWR)
    try:
        files._try_lock(looks, shared=True)  # as another process that looks
        assert not files._lives_in(str(dead))
    finally:
        os.close(looks)


@pytest.mark.parametrize("left", ["a file", "a folder"])
async def test_a_run_file_that_is_there_already_is_not_taken_for_a_run(
    left: str, path: Path
) -> None:
    await use(path)
    for number in range(2, 12):
        file = with_suffix(path, f".run-{number}")
        file.touch(0o644) if left == "a file" else file.mkdir()
    if left == "a file":
        await use(path)
        assert ".run-2" not in run_files(path)
    else:
        with pytest.raises(JournalError, match=r"run-2 cannot be made"):
            await use(path)


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.ENOSPC, errno.EMFILE])
async def test_a_run_file_that_cannot_be_made_is_an_error_that_names_it(
    number: int, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await use(path)
    opening = os.open

    def failing(file: str, flags: int, mode: int = 0o777) -> int:
        if ".run-" in str(file):
            raise OSError(number, os.strerror(number))
        return opening(file, flags, mode)

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", failing)
        with pytest.raises(JournalError, match=rf"run-2 cannot be made: {os.strerror(number)}"):
            await use(path)
    await use(path)
    assert run_files(path) == set()


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.ELOOP, errno.EMFILE])
async def test_a_run_that_cannot_be_looked_at_is_not_taken_to_be_gone(
    number: int, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Journal.open(path) as journal, Journal.open(path) as other:
        await journal.intend(spec(), AT)
        opening = os.open

        def failing(file: str, flags: int, mode: int = 0o777) -> int:
            if str(file).endswith(".run-1"):
                raise OSError(number, os.strerror(number))
            return opening(file, flags, mode)

        monkeypatch.setattr(os, "open", failing)
        assert not (await other.claim("r"))["r"].ours


async def test_a_run_whose_beginning_was_not_written_takes_no_other_runs_file(path: Path) -> None:
    await use(path)
    with files.held(str(path), alone=False) as first, ExitStack() as stack:
        first.open_gate()
        second = stack.enter_context(files.held(str(path), alone=False))
        second.open_gate()
        first.begin(7)
        second.begin(7)  # the same number: that of the first was rolled back
        first.end(7)
        assert second.lives(7)
        assert first.lives(7)
        first.begin(8)
        first.begin(8)
        first.end(8)
        second.end(7)
    assert run_files(path) == set()


FAILURES = ("database or disk is full", "disk I/O error", "database is locked")


def fails(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    def count(_: Copy) -> None:
        raise sqlite3.OperationalError(text)

    monkeypatch.setattr(Copy, "count", count)


@pytest.mark.parametrize("runs", [1, 3])
async def test_a_run_whose_end_cannot_be_written_has_ended_all_the_same(
    runs: int, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "_PATIENCE", 0.05)
    refs = [f"r{number}" for number in range(runs)]
    async with Journal.open(path) as journal, Journal.open(path) as other:
        with closing(sqlite3.connect(path, isolation_level=None)) as stopped:
            async with AsyncExitStack() as stack:
                for ref in refs:
                    run = await stack.enter_async_context(journal.begin())
                    await run.intend(spec(ref), AT)
                stopped.execute("BEGIN IMMEDIATE")
        claims = await other.claim(*refs)
        assert [claims[ref].ours for ref in refs] == [True] * runs


ASKS: dict[str, Callable[[Journal], Awaitable[object]]] = {
    "an intent": lambda journal: journal.intend(spec(), AT),
    "a claim": lambda journal: journal.claim("r"),
}


@pytest.mark.parametrize("ask", ASKS)
async def test_a_journal_that_another_process_keeps_locked_says_so(
    ask: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "_PATIENCE", 0.05)
    async with Journal.open(path) as journal:
        with closing(sqlite3.connect(path, isolation_level=None)) as stopped:
            stopped.execute("BEGIN IMMEDIATE")
            with pytest.raises(JournalUnavailableError, match="has kept the journal locked"):
                await ASKS[ask](journal)


@pytest.mark.parametrize("text", FAILURES)
async def test_a_run_whose_beginning_cannot_be_written_leaves_its_number_to_another(
    text: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Journal.open(path) as journal, Journal.open(path) as other:
        fails(monkeypatch, text)
        with pytest.raises(JournalError):
            async with journal.begin():
                pass
        monkeypatch.undo()
        assert len(run_files(path)) == 2
        async with other.begin() as run:
            await run.intend(spec(), AT)
            assert not (await journal.claim("r"))["r"].ours
        assert (await journal.claim("r"))["r"].ours


# --- a journal whose log is not its own, or is missing ---


@pytest.mark.slow
@pytest.mark.parametrize("act", [use, Journal.purge, read], ids=["a run", "purge", "a reader"])
async def test_a_reader_beside_a_killed_runs_log_keeps_nothing_of_it_from_others(
    act: Act, path: Path
) -> None:
    await use(path)
    await killed(path)
    async with Journal.read(path) as reader:
        assert {*await entries(reader)} == {"use", "theirs"}
        if act == Journal.purge:
            with pytest.raises(JournalInUseError):
                await act(path)
        else:
            await act(path)
        async with Journal.open(path) as second:
            assert (await second.claim("theirs"))["theirs"].new
            assert {*await entries(reader)} == {"use", "theirs"}
    await act(path)
    assert await counts(path) == {"intent": 2}


@pytest.mark.slow
async def test_a_reader_of_a_journal_with_another_ones_log_lets_no_run_in(
    path: Path, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir(mode=0o700)
    other = tmp_path / "other" / "journal"
    await use(path)
    await killed(other)
    shutil.copy(with_suffix(other, "-wal"), with_suffix(path, "-wal"))
    async with Journal.read(path) as reader:
        for act in (use, read):
            with pytest.raises(JournalInUseError):
                await act(path)
        assert {*await entries(reader)} == {"use"}
    with pytest.raises(JournalOutdatedError, match="is not the journal that"):
        await use(path)
    await Journal.accept(path)
    assert {*await known(path)} == {"use"}


@pytest.mark.slow
async def test_a_reader_of_half_a_journal_does_not_make_it_whole_for_a_run(
    path: Path, tmp_path: Path
) -> None:
    (tmp_path / "copy").mkdir(mode=0o700)
    copy = tmp_path / "copy" / "journal"
    await use(path)
    await killed(path)
    shutil.copy(path, copy)
    async with Journal.read(copy):
        with pytest.raises(JournalOutdatedError, match="copied without its log"):
            await use(copy)
    with pytest.raises(JournalOutdatedError, match="copied without its log"):
        await use(copy)


async def known(path: Path) -> set[str]:
    async with Journal.read(path) as journal:
        return {*await entries(journal)}


# --- permissions ---


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
async def test_the_files_of_its_locks_have_to_be_our_own(path: Path) -> None:
    await use(path)
    for suffix in (".gate", ".lock"):
        os.chown(with_suffix(path, suffix), 65534, 65534)
        with pytest.raises(JournalInsecureError, match="another user"):
            await use(path)
        os.chown(with_suffix(path, suffix), 0, 0)
    await use(path)
