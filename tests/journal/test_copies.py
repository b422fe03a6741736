"""Copies of a journal: whole ones are gone on with, older ones and halves are refused."""

import asyncio
import json
import re
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from openrouter_keys import AsyncOpenRouter, JournalOutdatedError, OpenRouter
from openrouter_keys.emulator import Emulator
from openrouter_keys.errors import JournalError, JournalInsecureError
from openrouter_keys.journal.journal import Journal
from openrouter_keys.journal.schema import State
from tests.commands import Command
from tests.journals import AT, HASH, SECRET, child, spec, written
from tests.provisions import counts, specs

SUFFIXES = ("", "-wal", "-shm", ".lock", ".gate")

KILLED = """
async def main():
    async with Journal.open(sys.argv[1]) as journal:
        for number in range(20):
            ref = f"{sys.argv[2]}-{number}"
            await journal.intend(KeySpec(ref=ref, name=ref), AT)
            secret = f"sk-or-v1-{number:064}"
            await journal.keep(ref, secret=secret, hash=f"{number:064}", settled=True)
        print("there", flush=True)
        sys.stdin.readline()
asyncio.run(main())
"""


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    folder = tmp_path / "elsewhere"
    folder.mkdir(mode=0o700)
    return folder / "customers.journal"


def killed(path: Path, name: str = "killed") -> None:
    """A run that is killed when it has written all that it was to write."""
    with child(KILLED, path, name) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "there\n"
        process.kill()


def copied(path: Path, to: Path, *suffixes: str) -> None:
    for suffix in suffixes:
        source = path.with_name(path.name + suffix)
        if source.exists():
            shutil.copy(source, to.with_name(to.name + suffix))


async def used(path: Path, ref: str = "r", *, dies: Callable[[], None] = lambda: None) -> None:
    """A run that makes a key; what it `dies` with is there when it is not closed yet."""
    async with Journal.open(path) as journal:
        await journal.intend(spec(ref), AT)
        await journal.keep(ref, secret=SECRET, hash=HASH)
        dies()


async def looked_into(path: Path) -> dict[State, int]:
    async with Journal.read(path) as journal:
        return await journal.counts()


# --- whole ones ---


@pytest.mark.parametrize(
    "suffixes", [("",), ("", ".lock"), SUFFIXES], ids=["alone", "with its lock", "all"]
)
async def test_a_closed_journal_can_be_moved_as_one_file(
    suffixes: tuple[str, ...], path: Path, elsewhere: Path
) -> None:
    for ref in ("first", "second"):
        await used(path, ref)
    copied(path, elsewhere, *suffixes)
    await used(elsewhere, "third")
    assert await counts(elsewhere) == {"made": 3}


@pytest.mark.slow
@pytest.mark.parametrize("suffixes", [("", "-wal"), ("", "-wal", ".lock"), SUFFIXES])
async def test_a_killed_runs_files_can_be_moved_together(
    suffixes: tuple[str, ...], path: Path, elsewhere: Path
) -> None:
    killed(path)
    copied(path, elsewhere, *suffixes)
    assert await counts(elsewhere) == {"settled": 20}


@pytest.mark.slow
async def test_a_killed_run_is_gone_on_with_any_number_of_times(path: Path) -> None:
    for number in range(3):
        killed(path, str(number))
    assert await counts(path) == {"settled": 60}


async def test_another_journal_may_take_the_place_of_one(path: Path, elsewhere: Path) -> None:
    await used(path)
    for ref in ("a", "b", "c"):
        await used(elsewhere, ref)
    path.unlink()
    await used(path, "anew")
    copied(elsewhere, path, "")
    assert await counts(path) == {"made": 3}


@pytest.mark.slow
async def test_a_journal_of_an_earlier_version_is_gone_on_with(path: Path) -> None:
    await used(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP TABLE marks")
        connection.commit()
    await used(path, "second")
    assert await counts(path) == {"made": 2}
    killed(path)
    assert (await counts(path))["settled"] == 20


@pytest.mark.slow
async def test_what_another_program_made_whole_is_gone_on_with(path: Path) -> None:
    killed(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("SELECT count(*) FROM keys").fetchone()  # and it ends the log
    assert not path.with_name(path.name + "-wal").exists()
    assert await counts(path) == {"settled": 20}


# --- older ones, and halves ---


def main_only_at_once(path: Path, to: Path) -> None:
    killed(path)
    copied(path, to, "")


def main_and_index(path: Path, to: Path) -> None:
    killed(path)
    copied(path, to, "", "-shm")


def main_and_lock(path: Path, to: Path) -> None:
    killed(path)
    copied(path, to, "", ".lock")


def its_log_is_empty(path: Path, to: Path) -> None:
    killed(path)
    copied(path, to, "")
    to.with_name(to.name + "-wal").touch(0o600)


def its_log_was_removed(path: Path, to: Path) -> None:
    killed(path)
    path.with_name(path.name + "-wal").unlink()
    copied(path, to, "", ".lock")


def restored(path: Path, to: Path) -> None:
    """An older copy of the main file, put back where the journal went on."""
    asyncio.run(used(to))
    copied(to, path, "")
    asyncio.run(used(to, "later"))
    to.unlink()
    copied(path, to, "")


def restored_over_a_killed_run(path: Path, to: Path) -> None:
    asyncio.run(used(to))
    copied(to, path, "")
    killed(to)
    to.with_name(to.name + "-wal").unlink()
    copied(path, to, "")


def restored_with_its_log(path: Path, to: Path) -> None:
    killed(to, "first")
    copied(to, path, "", "-wal")
    killed(to, "second")
    copied(path, to, "", "-wal")


def copied_while_it_was_open(path: Path, to: Path) -> None:
    with child(KILLED, path, "open") as process:
        assert process.stdout is not None
        process.stdout.readline()
        copied(path, to, "")
        process.communicate("\n")


def went_on(path: Path, to: Path, *suffixes: str) -> None:
    """A journal that is closed, used again, and used once more by a run that is killed."""
    asyncio.run(used(path))
    copied(path, path.with_name("older"), "")
    asyncio.run(used(path, "later"))
    asyncio.run(used(path, "last", dies=lambda: copied(path, to, *suffixes)))


def restored_beside_a_newer_log(path: Path, to: Path) -> None:
    went_on(path, to, *SUFFIXES)
    copied(path.with_name("older"), to, "")


def restored_beside_a_newer_log_without_its_lock(path: Path, to: Path) -> None:
    went_on(path, to, "", "-wal")
    copied(path.with_name("older"), to, "")


def restored_from_before_it_counted(path: Path, to: Path) -> None:
    went_on(path, to, "", "-wal")
    older = path.with_name("older")
    with closing(sqlite3.connect(older)) as connection:
        connection.execute("DROP TABLE marks")
        connection.commit()
    copied(older, to, "")


def its_log_is_an_older_one(path: Path, to: Path) -> None:
    asyncio.run(used(path, dies=lambda: copied(path, to, "", "-wal")))
    asyncio.run(used(path, "later"))
    copied(path, to, "")


def its_log_is_another_journals(path: Path, to: Path) -> None:
    went_on(path, to, "", "-wal")
    other = path.with_name("other")
    asyncio.run(used(other, "another"))
    copied(other, to, "")


MIXED: list[Callable[[Path, Path], None]] = [
    restored_beside_a_newer_log,
    restored_beside_a_newer_log_without_its_lock,
    restored_from_before_it_counted,
    its_log_is_an_older_one,
    its_log_is_another_journals,
]
OUTDATED = [
    *MIXED,
    main_only_at_once,
    main_and_index,
    main_and_lock,
    its_log_is_empty,
    its_log_was_removed,
    restored,
    restored_over_a_killed_run,
    restored_with_its_log,
    copied_while_it_was_open,
]


@pytest.mark.slow
@pytest.mark.parametrize("make", OUTDATED)
def test_an_outdated_copy_is_refused_however_often_and_nothing_is_sent(
    make: Callable[[Path, Path], None], openrouter_emulator: Emulator, path: Path, elsewhere: Path
) -> None:
    make(path, elsewhere)
    emulator = openrouter_emulator
    with OpenRouter(emulator.api_key, server_url=emulator.base_url) as client:
        for run in (
            lambda: client.provision(specs(3), journal=elsewhere),
            lambda: client.rotate((), journal=elsewhere),
            lambda: client.provision(specs(3), journal=elsewhere),
        ):
            with pytest.raises(JournalOutdatedError, match="journal accept") as caught:
                run()
            assert caught.value.path == str(elsewhere)
    with pytest.raises(JournalOutdatedError):
        asyncio.run(Journal.purge(elsewhere))
    assert emulator.requests == []


@pytest.mark.slow
@pytest.mark.parametrize("make", OUTDATED)
async def test_an_outdated_copy_is_gone_on_with_once_it_is_accepted(
    make: Callable[[Path, Path], None], path: Path, elsewhere: Path
) -> None:
    await asyncio.to_thread(make, path, elsewhere)
    await Journal.accept(elsewhere)
    for ref in ("again", "and again"):
        await used(elsewhere, ref)
    assert (await counts(elsewhere))["made"] >= 2


@pytest.mark.slow
@pytest.mark.parametrize("make", MIXED)
def test_a_file_is_never_mixed_with_a_log_that_is_not_its_own(
    make: Callable[[Path, Path], None], path: Path, elsewhere: Path
) -> None:
    make(path, elsewhere)
    before = [file.read_bytes() for file in (elsewhere, Path(f"{elsewhere}-wal"))]
    assert asyncio.run(looked_into(elsewhere))[State.MADE] >= 1
    with pytest.raises(JournalOutdatedError):
        asyncio.run(used(elsewhere, "again"))
    with pytest.raises(JournalOutdatedError):
        asyncio.run(Journal.backup(elsewhere, path.with_name("backup")))
    assert [file.read_bytes() for file in (elsewhere, Path(f"{elsewhere}-wal"))] == before
    asyncio.run(Journal.accept(elsewhere))
    with closing(sqlite3.connect(elsewhere)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


@pytest.mark.slow
def test_the_command_refuses_and_accepts(command: Command, path: Path, elsewhere: Path) -> None:
    restored(path, elsewhere)
    command.emulator.account.add(hash=HASH)
    file = elsewhere.with_name("customers.csv")
    file.write_text("name\nAda\n")
    run = ("provision", str(file), "--journal", str(elsewhere))
    refused = command(*run)
    assert refused.code != 0
    assert "is older than the journal was" in refused.err
    assert command("journal", "status", str(elsewhere)).code == 0
    assert command("journal", "accept", str(elsewhere), "--yes").code == 0
    ended = command(*run, "--json")
    assert json.loads(ended.out)["created"] == 1


async def test_status_and_export_look_into_a_copy_all_the_same(path: Path, elsewhere: Path) -> None:
    await asyncio.to_thread(restored, path, elsewhere)
    async with Journal.read(elsewhere) as journal:
        assert (await journal.counts())[State.MADE] == 1


# --- backups ---


async def test_a_backup_is_whole_private_and_one_file(path: Path, elsewhere: Path) -> None:
    killed(path)
    await Journal.backup(path, elsewhere)
    assert [file.name for file in elsewhere.parent.iterdir()] == [elsewhere.name]
    assert elsewhere.stat().st_mode & 0o777 == 0o600
    assert await counts(elsewhere) == {"settled": 20}
    assert await counts(path) == {"settled": 20}


async def test_a_backup_is_refused_where_the_journal_went_on(path: Path, elsewhere: Path) -> None:
    await used(path)
    await Journal.backup(path, elsewhere)
    path.unlink()
    copied(elsewhere, path, "")
    await used(path, "in time")
    copied(elsewhere, path, "")
    with pytest.raises(JournalOutdatedError, match="older than the journal was"):
        await used(path, "too late")


async def test_a_backup_needs_a_journal_and_a_new_file(path: Path, elsewhere: Path) -> None:
    with pytest.raises(JournalError, match="is not there"):
        await Journal.backup(path, elsewhere)
    await used(path)
    elsewhere.write_text("precious")
    with pytest.raises(JournalError, match="is there already"):
        await Journal.backup(path, elsewhere)
    assert elsewhere.read_text() == "precious"
    elsewhere.unlink()
    elsewhere.parent.chmod(0o777)
    with pytest.raises(JournalInsecureError):
        await Journal.backup(path, elsewhere)
    assert not any(elsewhere.parent.iterdir())


async def test_a_backup_that_cannot_be_finished_leaves_nothing(
    path: Path, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await used(path)
    connecting = sqlite3.connect

    def full(file: str, *, uri: bool = False, **given: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = connecting(file, uri=uri, **given)
        if not uri:
            connection.execute("PRAGMA max_page_count = 2")
            connection.execute("PRAGMA user_version = 1")
        return connection

    monkeypatch.setattr(sqlite3, "connect", full)
    with pytest.raises(JournalError, match="cannot be written"):
        await Journal.backup(path, elsewhere)
    assert not any(elsewhere.parent.iterdir())


@pytest.mark.slow
def test_the_command_makes_a_backup(command: Command, path: Path, elsewhere: Path) -> None:
    killed(path)
    done = command("journal", "backup", str(path), str(elsewhere))
    assert (done.code, done.out) == (0, "")
    assert command("journal", "backup", str(path), str(elsewhere)).code != 0
    status = command("journal", "status", str(elsewhere))
    assert re.search(r"settled +20", status.out)
    assert written(elsewhere).count(b"sk-or-v1-") == 20


# --- what it costs ---


@pytest.mark.slow
async def test_each_group_is_counted_once_and_looking_is_not(path: Path) -> None:
    def commits() -> int:
        words = path.with_name(path.name + ".lock").read_bytes()[32:].split()
        return int(words[1])

    async with Journal.open(path) as journal:
        await journal.intend(spec("first"), AT)
        before = commits()
        await journal.intend(spec("second"), AT)
        assert commits() == before + 1
        await journal.counts()
        assert [entry.ref async for entry in journal.every()] == ["first", "second"]
        assert commits() == before + 1
        await asyncio.gather(*(journal.intend(spec(str(n)), AT) for n in range(500)))
        assert commits() <= before + 10


async def test_runs_from_a_backup_and_from_the_original_make_no_key_twice(
    emulator: Emulator, client: AsyncOpenRouter, path: Path, elsewhere: Path
) -> None:
    await client.provision(specs(5), journal=path)
    await Journal.backup(path, elsewhere)
    path.unlink()
    report = await client.provision(specs(8), journal=elsewhere)
    assert (report.settled_before, report.created, emulator.count("create")) == (5, 3, 8)
