import os
import sqlite3
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from openrouter_keys.errors import (
    JournalError,
    JournalInsecureError,
    JournalInUseError,
    JournalMismatchError,
)
from openrouter_keys.journal import schema, sqlite
from openrouter_keys.journal.journal import Journal
from openrouter_keys.journal.schema import State
from tests.journals import AT, child, spec, state


@pytest.fixture
async def journal(path: Path) -> AsyncIterator[Journal]:
    async with Journal.open(path) as journal:
        yield journal


async def test_all_its_files_are_private_whatever_the_umask(path: Path) -> None:
    before = os.umask(0)
    try:
        async with Journal.open(path) as journal:
            await journal.intend(spec(), AT)
            modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    finally:
        os.umask(before)
    names = ("", "-wal", "-shm", ".lock", ".gate", ".run-1")
    assert modes == {path.name + suffix: 0o600 for suffix in names}


@pytest.mark.parametrize("suffix", ["", "-wal", "-shm", ".lock", ".gate"])
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666])
async def test_a_file_that_others_could_read_is_refused(path: Path, suffix: str, mode: int) -> None:
    bare = Path(str(path) + suffix)
    bare.touch()
    bare.chmod(mode)
    with pytest.raises(JournalInsecureError, match="chmod 600") as caught:
        async with Journal.open(path):
            pass
    assert caught.value.path == str(bare)
    assert bare.read_bytes() == b""


@pytest.mark.parametrize("mode", [0o600, 0o644])
async def test_a_file_of_something_else_is_no_journal_whoever_may_read_it(
    path: Path, mode: int
) -> None:
    path.write_text("name\nAda\n")
    path.chmod(mode)
    for opening in (Journal.read, Journal.open):
        with pytest.raises(JournalMismatchError, match="is no journal: give another path"):
            async with opening(path):
                pass
    assert path.read_text() == "name\nAda\n"


@pytest.mark.parametrize("suffix", ["", "-wal", ".lock", ".gate"])
@pytest.mark.parametrize("target", ["there", "missing"])
async def test_a_symbolic_link_is_refused_and_not_followed(
    path: Path, suffix: str, target: str
) -> None:
    there = path.parent / "there"
    there.touch(0o600)
    Path(str(path) + suffix).symlink_to(path.parent / target)
    with pytest.raises(JournalInsecureError, match="symbolic link"):
        async with Journal.open(path):
            pass
    assert there.read_bytes() == b""
    assert not (path.parent / "missing").exists()


async def test_a_folder_or_a_pipe_is_refused(path: Path) -> None:
    with pytest.raises(JournalInsecureError, match="a folder"):
        async with Journal.open(path.parent):
            pass
    os.mkfifo(path, 0o600)
    with pytest.raises(JournalInsecureError, match="no regular file"):
        async with Journal.open(path):
            pass


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
async def test_a_file_of_another_user_is_refused(path: Path) -> None:
    path.touch(0o600)
    os.chown(path, 65534, 65534)
    with pytest.raises(JournalInsecureError, match="another user"):
        async with Journal.open(path):
            pass


async def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="No such file"):
        async with Journal.open(tmp_path / "missing" / "a.journal"):
            pass


async def test_an_empty_private_file_becomes_a_journal(path: Path) -> None:
    path.touch(0o600)  # what a process leaves that is killed between the two steps of making one
    async with Journal.open(str(path)) as journal:
        assert await journal.intend(spec(), AT) is None


async def test_a_journal_in_memory_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    async with Journal.open(":memory:") as journal:
        await journal.intend(spec(), AT)
        assert await state(journal) is State.INTENT
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("act", [Journal.purge, Journal.accept])
async def test_what_needs_the_journal_alone_gets_the_process_that_has_it(
    act: Callable[[Path], Awaitable[object]], path: Path, journal: Journal
) -> None:
    before = path.read_bytes()
    with pytest.raises(JournalInUseError) as caught:
        await act(path)
    assert caught.value.pid == os.getpid()
    assert path.read_bytes() == before
    assert await journal.intend(spec(), AT) is None


@pytest.mark.slow
@pytest.mark.parametrize("act", [Journal.purge, Journal.accept])
async def test_what_needs_the_journal_alone_gets_the_other_process_that_has_it(
    act: Callable[[Path], Awaitable[object]], path: Path
) -> None:
    hold = """
async def main():
    async with Journal.open(sys.argv[1]):
        print("open", flush=True)
        sys.stdin.read()
asyncio.run(main())
"""
    with child(hold, path) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "open\n"
        async with Journal.open(path):
            pass  # who had it open meanwhile is not named
        with pytest.raises(JournalInUseError, match="wait until it is done") as caught:
            await act(path)
        assert caught.value.pid == holder.pid
        holder.communicate()
    async with Journal.open(path) as journal:
        assert await journal.intend(spec(), AT) is None


# --- what is no journal of ours ---


async def refused(path: Path, **given: Any) -> JournalMismatchError:
    before = path.read_bytes()
    with pytest.raises(JournalMismatchError) as caught:
        async with Journal.open(path, **given):
            pass
    assert path.read_bytes() == before
    return caught.value


async def test_a_newer_versions_journal_is_refused(path: Path) -> None:
    async with Journal.open(path):
        pass
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
        connection.execute("UPDATE meta SET version = 6")
        connection.execute("ALTER TABLE meta RENAME COLUMN server_url TO something_else")
        connection.commit()
        connection.execute("PRAGMA journal_mode = WAL")
    assert "has version 6" in str(await refused(path))


async def test_another_programs_database_is_refused(path: Path) -> None:
    path.touch(0o600)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE theirs (a)")
    assert "another program" in str(await refused(path))


async def test_a_file_that_is_no_database_is_refused(path: Path) -> None:
    path.touch(0o600)
    path.write_bytes(b"name,limit\n" * 1000)
    assert "no journal" in str(await refused(path))


async def test_another_servers_journal_is_refused(path: Path) -> None:
    for _ in range(2):
        async with Journal.open(path, server_url="https://one/api/v1"):
            pass
    assert "https://one/api/v1" in str(await refused(path, server_url="https://two/api/v1"))
    async with Journal.open(path) as journal:
        assert await journal.counts() == dict.fromkeys(State, 0)


def test_the_marks_of_a_journal_are_those_that_are_written(path: Path) -> None:
    path.touch(0o600)
    with closing(sqlite.connect(str(path), None)) as connection:
        assert connection.execute("SELECT version FROM meta").fetchone() == (schema.VERSION,)
        found = connection.execute("PRAGMA application_id").fetchone()
    assert found == (schema.APPLICATION,)
