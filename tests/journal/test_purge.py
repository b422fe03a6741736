"""Purging a journal: no byte of a settled key's secret is left in its files, and all else is."""

import asyncio
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterable
from contextlib import closing
from hashlib import sha256
from importlib import import_module
from pathlib import Path

import pytest

from openrouter_keys.emulator import Emulator
from openrouter_keys.errors import (
    JournalError,
    JournalInUseError,
    JournalMismatchError,
)
from openrouter_keys.journal import sqlite
from openrouter_keys.journal.encryption import sealing
from openrouter_keys.journal.journal import Journal
from openrouter_keys.journal.schema import State
from tests.journals import AT, child, spec, written
from tests.provisions import JumpingTime, client_of, specs

MANY = 400


def secret(ref: str) -> str:
    return f"sk-or-v1-{sha256(ref.encode()).hexdigest()}"


def refs(kind: str, count: int = MANY) -> list[str]:
    return [f"{kind}-{number}" for number in range(count)]


async def fill(path: Path) -> None:
    async with Journal.open(path) as journal:
        await asyncio.gather(*(keep(journal, ref) for ref in refs("settled")))
        await asyncio.gather(*(journal.acknowledge(ref) for ref in refs("settled")))
        await asyncio.gather(*(keep(journal, ref) for ref in refs("made", 20)))


async def keep(journal: Journal, ref: str) -> None:
    await journal.intend(spec(ref), AT)
    # It outgrows its place in the file, so that traces of it stay between the rows.
    record = f'{{"hash": "{"0" * 64}"}}'
    await journal.keep(
        ref, secret=secret(ref), hash=sha256(secret(ref).encode()).hexdigest(), record=record
    )


def found(path: Path, wanted: Iterable[str]) -> int:
    """How many of their secrets, or halves of one, stand somewhere in the journal's files."""
    there = written(path)
    return sum(
        half.encode() in there for ref in wanted for half in (secret(ref)[9:41], secret(ref)[41:])
    )


@pytest.mark.slow
async def test_no_byte_of_a_settled_keys_secret_is_left(path: Path) -> None:
    await fill(path)
    assert found(path, refs("settled")) == 2 * MANY
    assert await Journal.purge(path) == MANY
    assert found(path, refs("settled")) == 0
    assert found(path, refs("made", 20)) == 40
    assert (path.stat().st_mode & 0o777) == 0o600


@pytest.mark.slow
async def test_what_a_killed_process_left_in_the_log_goes_too(path: Path) -> None:
    await fill(path)
    script = """
async def main():
    async with Journal.open(sys.argv[1]) as journal:
        for number in range(50):
            ref = f"made-{number}"
            await journal.intend(KeySpec(ref=f"late-{number}", name="late"), AT)
            if number < 20:
                await journal.claim(ref)
                await journal.acknowledge(ref)
        print("there", flush=True)
        sys.stdin.readline()
asyncio.run(main())
"""
    with child(script, path) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.kill()
    assert path.with_name(f"{path.name}-wal").stat().st_size > 0
    assert await Journal.purge(path) == MANY + 20
    assert found(path, [*refs("settled"), *refs("made", 20)]) == 0


async def test_a_sealed_secret_is_forgotten_like_any_other(path: Path) -> None:
    recipient = import_module("pyrage").x25519.Identity.generate().to_public()
    async with Journal.open(path, seal=sealing(str(recipient))) as journal:
        await keep(journal, "sealed")
        entry = await journal.find("sealed")
        assert entry is not None
        sealed = entry.sealed
        await journal.acknowledge("sealed")
    assert sealed is not None
    assert sealed in written(path)
    assert await Journal.purge(path) == 1
    assert sealed not in written(path)


@pytest.mark.slow
async def test_all_but_the_secrets_is_as_before(path: Path) -> None:
    await fill(path)
    async with Journal.read(path) as journal:
        before = {entry.ref: entry async for entry in journal.every()}
        assert await journal.purgeable() == MANY
    await Journal.purge(path)
    async with Journal.read(path) as journal:
        after = {entry.ref: entry async for entry in journal.every()}
        assert await journal.purgeable() == 0
        assert (await journal.counts())[State.SETTLED] == MANY
    assert [*after] == [*before]
    for ref, entry in after.items():
        kept = before[ref]
        assert (entry.id, entry.state, entry.plan, entry.hash, entry.record) == (
            kept.id, kept.state, kept.plan, kept.hash, kept.record,
        )  # fmt: skip
        assert entry.secret == (None if ref.startswith("settled") else secret(ref))


@pytest.mark.slow
async def test_a_purged_plan_stays_done(path: Path) -> None:
    wanted = specs(5)
    async with Emulator() as emulator, client_of(emulator, JumpingTime()) as client:
        await client.provision(wanted, journal=path)
        secrets = [key.secret for key in emulator.account.keys.values()]
        assert await Journal.purge(path) == 5
        assert not any(str(secret).encode() in written(path) for secret in secrets)
        report = await client.provision(wanted, journal=path)
        assert (report.ok, report.created, report.settled_before) == (True, 0, 5)
        assert emulator.count("create") == 5


@pytest.mark.slow
async def test_a_second_purge_ends_what_the_first_could_not(path: Path) -> None:
    await fill(path)
    # A purge that ended after its first step: the rows are clean, and the file is not.
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA secure_delete = OFF")
        connection.execute("UPDATE keys SET secret = NULL WHERE state = 'settled'")
        connection.commit()
    assert found(path, refs("settled")) > 0
    assert await Journal.purge(path) == 0
    assert found(path, refs("settled")) == 0


async def test_another_programs_look_keeps_it_from_being_purged_and_is_told(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "_PATIENCE", 0.2)
    await fill(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN")
        other.execute("SELECT count(*) FROM keys").fetchone()
        with pytest.raises(JournalError, match="purge it again"):
            await Journal.purge(path)
    assert await Journal.purge(path) in (0, MANY)
    assert found(path, refs("settled")) == 0


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="no such limit")
async def test_a_full_disk_is_told_and_the_next_purge_is_whole(path: Path) -> None:
    await fill(path)
    script = """
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, -1))
try:
    asyncio.run(Journal.purge(sys.argv[1]))
except Exception as error:
    print(type(error).__name__, error)
"""
    environment = {n: v for n, v in os.environ.items() if not n.startswith("COV")}
    done = subprocess.run(
        [sys.executable, "-c", f"import asyncio, sys\n{_IMPORT}{script}", str(path)],
        env=environment, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert done.stdout.startswith("JournalError")
    assert "make room on its disk, then purge it again" in done.stdout
    async with Journal.read(path) as journal:
        assert (await journal.counts())[State.SETTLED] == MANY
    await Journal.purge(path)
    assert found(path, refs("settled")) == 0


_IMPORT = "from openrouter_keys.journal.journal import Journal\n"


async def test_what_is_no_journal_or_in_use_is_refused(path: Path, tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="is not there"):
        await Journal.purge(path)
    assert list(tmp_path.iterdir()) == []
    async with Journal.open(path):
        with pytest.raises(JournalInUseError):
            await Journal.purge(path)
    other = tmp_path / "other.sqlite"
    with closing(sqlite3.connect(other)) as connection:
        connection.execute("CREATE TABLE keys (state TEXT, secret TEXT)")
        connection.execute("INSERT INTO keys VALUES ('settled', 'precious')")
        connection.commit()
    other.chmod(0o600)
    with pytest.raises(JournalMismatchError):
        await Journal.purge(other)
    assert b"precious" in other.read_bytes()
