"""Rows of a journal that are damaged, or of keys that nobody is to get."""

import asyncio
import json
import os
import resource
import signal
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

import pytest

from openrouter_keys import AsyncOpenRouter, JournalError, OpenRouterError
from openrouter_keys.cli.exit_codes import CommandError
from openrouter_keys.cli.secrets.formats import Handed, SecretFormat
from openrouter_keys.cli.secrets.sinks import new_file
from openrouter_keys.emulator import Emulator
from openrouter_keys.journal.journal import Journal
from openrouter_keys.rotation.stored import stored
from tests.commands import Command
from tests.journals import HASH, SECRET, written
from tests.provisions import JumpingTime, client_of, specs
from tests.rotations import hashes, old_keys


def change(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(statement)
        connection.commit()


# --- damaged ones ---

DAMAGES = {
    "a plan that is cut": "UPDATE keys SET plan = substr(plan, 1, 10) WHERE ref = '1'",
    "a plan that is no object": "UPDATE keys SET plan = '5' WHERE ref = '1'",
    "a plan without a name": "UPDATE keys SET plan = '{}' WHERE ref = '1'",
    "a state of none": "UPDATE keys SET state = 'maid' WHERE ref = '1'",
    "a time of none": "UPDATE keys SET first_attempt_at = 'noon' WHERE ref = '1'",
    "a time of bytes": "UPDATE keys SET last_attempt_at = x'00' WHERE ref = '1'",
}


@pytest.mark.parametrize("damage", DAMAGES)
async def test_a_damaged_row_is_named_by_its_ref(
    damage: str, client: AsyncOpenRouter, path: Path
) -> None:
    await client.provision(specs(3), journal=path)
    change(path, DAMAGES[damage])
    async with Journal.read(path) as journal:
        with pytest.raises(JournalError, match=r"row 2 of keys \('1'\) is damaged: ") as caught:
            async for _ in journal.every():
                pass
    assert caught.value.__cause__ is None
    assert "sk-or" not in str(caught.value)


@pytest.mark.parametrize(
    "damage", ["a plan that is cut", "a plan that is no object", "a state of none"]
)
async def test_a_run_stops_at_a_damaged_row_and_makes_no_key_for_it(
    damage: str, emulator: Emulator, client: AsyncOpenRouter, path: Path
) -> None:
    await client.provision(specs(3), journal=path)
    change(path, DAMAGES[damage])
    with pytest.raises(OpenRouterError, match=r"is damaged|changed since") as caught:
        await client.provision(specs(3), journal=path)
    assert "'1'" in str(caught.value)
    assert emulator.count("create") == 3


@pytest.mark.slow
@pytest.mark.parametrize("action", ["export", "status"])
def test_the_command_tells_it_in_a_line(command: Command, path: Path, action: str) -> None:
    file = path.with_name("customers.csv")
    file.write_text("ref,name\n0,a\n1,b\n")
    assert command("provision", str(file), "--journal", str(path)).code == 0
    change(path, DAMAGES["a state of none"])
    given = ("--show-secret",) if action == "export" else ()
    ended = command("journal", action, str(path), *given)
    assert ended.code == 1
    assert "row 2 of keys ('1') is damaged" in ended.err
    assert ended.err.count("\n") == 1


@pytest.mark.parametrize(
    "column", ["state = 'gone'", "handed_over_at = 'noon'", "handed_over_at = x'00'"]
)
async def test_a_damaged_rotation_is_named_by_its_key(
    column: str, emulator: Emulator, client: AsyncOpenRouter, path: Path
) -> None:
    old = old_keys(emulator, 2)
    await client.rotate(hashes(old), journal=path)
    change(path, f"UPDATE rotations SET {column} WHERE hash = '{old[1].hash}'")
    async with Journal.read(path) as journal:
        with pytest.raises(JournalError, match=f"of rotations \\('{old[1].hash}'\\) is damaged"):
            async for _ in stored(journal):
                pass


async def test_a_damaged_record_is_asked_for_again(
    emulator: Emulator, client: AsyncOpenRouter, path: Path
) -> None:
    def refuse(_: object) -> None:
        raise ConnectionError("away")

    with pytest.raises(OpenRouterError):
        await client.provision(specs(1), journal=path, on_result=refuse)
    change(path, "UPDATE keys SET record = substr(record, 1, 20)")
    taken: list[str] = []
    report = await client.provision(
        specs(1), journal=path, on_result=lambda result: taken.append(result.key)
    )
    assert report.resumed == 1
    assert taken == [key.secret for key in emulator.account.keys.values()]


@pytest.mark.slow
async def test_a_damaged_file_is_told_with_what_helps(client: AsyncOpenRouter, path: Path) -> None:
    await client.provision(specs(200), journal=path)
    with path.open("r+b") as file:
        file.seek(4096 * 3)
        file.write(os.urandom(4096 * 8))
    with pytest.raises(OpenRouterError, match=r"journal .*(damaged|cannot be)"):
        await client.provision(specs(200), journal=path)


# --- not as asked for ---


@pytest.fixture
def wrong(path: Path) -> Path:
    """A journal with a rejected key, one that could not be disabled, and a good one."""

    async def fill() -> None:
        async with Emulator() as emulator, client_of(emulator, JumpingTime()) as client:
            await client.provision(specs(3, limit=5), journal=path)

    asyncio.run(fill())
    change(path, "UPDATE keys SET state = 'failed', reason = 'limit' WHERE ref = '0'")
    unlimited = "json_replace(record, '$.limit', 500)"
    change(path, f"UPDATE keys SET state = 'made', record = {unlimited} WHERE ref = '1'")
    return path


@pytest.mark.slow
@pytest.mark.parametrize("format", ["jsonl", "csv", "env", "raw"])
def test_a_key_that_is_not_as_asked_for_is_not_exported(
    command: Command, wrong: Path, format: str
) -> None:
    file = wrong.with_name("keys")
    words = ("-o", str(file), "--secret-format", format)
    ended = command("journal", "export", str(wrong), *words)
    assert ended.code == 0
    assert file.read_text().count("sk-or-v1-") == 1
    assert f"exported 1 key to {file}; without a secret here: 2 (2 not as asked for)" in ended.err


def test_there_is_nothing_to_export_if_none_is_as_asked_for(command: Command, wrong: Path) -> None:
    change(wrong, "DELETE FROM keys WHERE state = 'settled'")
    ended = command("journal", "export", str(wrong), "--show-secret")
    assert ended.code == 1
    assert "there is nothing to export" in ended.err
    assert "sk-or-v1-" not in ended.out


async def secrets(path: Path) -> dict[str, str]:
    async with Journal.read(path) as journal:
        return {entry.ref: str(entry.secret) async for entry in journal.every()}


async def test_a_purge_forgets_what_nobody_ever_gets(wrong: Path) -> None:
    before = await secrets(wrong)
    async with Journal.read(wrong) as journal:
        assert await journal.purgeable() == 2
    assert await Journal.purge(wrong) == 2
    for ref in ("0", "2"):
        assert before[ref].encode() not in written(wrong)
    assert before["1"].encode() in written(wrong)  # the next run disables it


@pytest.mark.slow
async def test_a_purge_of_a_rejected_key_leaves_it_known(wrong: Path, emulator: Emulator) -> None:
    change(wrong, "UPDATE meta SET server_url = NULL")
    await Journal.purge(wrong)
    change(wrong, "DELETE FROM keys WHERE ref = '1'")
    async with client_of(emulator, JumpingTime()) as client:
        report = await client.provision(
            [spec for spec in specs(3, limit=5) if spec.ref != "1"], journal=wrong
        )
    assert (report.created, report.mismatched, emulator.count("create")) == (0, 1, 0)


# --- a file of secrets on a full disk ---


def taken(file: Path, format: SecretFormat, name: str, *, durable: bool) -> int:
    """Write keys until there is no room, and return how many were taken."""
    took = 0
    with suppress(CommandError), new_file(str(file), format, durable=durable) as taker:
        while True:
            handed = Handed(ref=f"r{took}", name=name, hash=HASH, key=SECRET)
            asyncio.run(taker.take(handed))
            took += 1
    return took


FORMATS: tuple[SecretFormat, ...] = ("jsonl", "csv", "env", "raw")


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("durable", [False, True])
def test_a_file_on_a_full_disk_ends_with_its_last_whole_line(
    tmp_path: Path, format: SecretFormat, *, durable: bool
) -> None:
    file = tmp_path / "keys"
    with room(1_000):
        took = taken(file, format, "a", durable=durable)
    text = file.read_text()
    assert text.endswith("\n")
    assert text.count(SECRET) == took > 0
    if format == "jsonl":
        assert json.loads(text.splitlines()[-1])["ref"] == f"r{took - 1}"


@pytest.mark.parametrize("format", FORMATS)
def test_a_file_that_has_no_room_for_the_first_key_is_removed(
    tmp_path: Path, format: SecretFormat
) -> None:
    file = tmp_path / "keys"
    with room(50):
        assert taken(file, format, "a" * 100, durable=False) == 0
    assert not file.exists()


class room:  # noqa: N801 - used like a function
    """No file of this process may be longer meanwhile."""

    def __init__(self, most: int) -> None:
        self._most = most

    def __enter__(self) -> None:
        self._handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        self._limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (self._most, self._limits[1]))

    def __exit__(self, *_: object) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, self._limits)
        signal.signal(signal.SIGXFSZ, self._handler)
