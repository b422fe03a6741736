"""Secrets that a run cannot keep or hand over: the command saves them, and says where they are."""

import asyncio
import csv
import errno
import gc
import io
import json
import os
import stat
import sys
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest

from openrouter_keys.__main__ import main
from openrouter_keys.cli.exit_codes import CommandError
from openrouter_keys.cli.runs import rescue, results
from openrouter_keys.cli.secrets.formats import Handed, SecretFormat, writer
from openrouter_keys.cli.secrets.sinks import TextSink, WholeLines, new_file, write_new
from openrouter_keys.emulator import Fault
from openrouter_keys.journal.encryption import unsealing
from openrouter_keys.journal.journal import Journal
from tests.commands import Command, Ran
from tests.journal.test_encryption import IDENTITY, RECIPIENT
from tests.provisioning.test_lost_journal import CUT, WAYS, after, lives
from tests.rotations import hashes, old_keys

FOLDER, COUNT, AFTER = "folder", 8, 4
JOURNAL = f"{FOLDER}/c.journal"
RESCUED = f"{FOLDER}/c.journal.rescued.jsonl"
QUICK = ("--quiet-period", "0s", "--concurrency", "2", "--yes")


@pytest.fixture
def lost(command: Command) -> Callable[..., Ran]:
    """Run the command while its journal is lost."""
    (command.folder / FOLDER).mkdir(mode=0o700)
    rows = "".join(f"c-{number},Customer {number}\n" for number in range(COUNT))
    (command.folder / "c.csv").write_text(f"ref,name\n{rows}")

    def run(way: str, *words: str) -> Ran:
        path = command.folder / JOURNAL
        after(command.emulator, AFTER, lambda: (WAYS | CUT)[way](path))
        return command("provision", "c.csv", "--journal", JOURNAL, *QUICK, *words)

    return run


def rows_of(text: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in text.splitlines()]


def rescued(path: Path) -> set[str]:
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    return {row["key"] for row in rows_of(path.read_text())}


def assert_told(ran: Ran, file: str) -> None:
    assert ran.code in (1, 5)
    assert f"are in {file} alone" in ran.err
    assert "without it, a run makes every key once more" in ran.err
    assert "the next run deletes those keys" not in ran.err
    assert "the secrets are in the journal" not in ran.err
    assert "sk-or-" not in ran.err


@pytest.mark.parametrize("way", [way for way in WAYS if way.startswith(("re", "its"))])
def test_the_secrets_of_a_lost_journal_are_in_a_private_file_beside_it(
    way: str, command: Command, lost: Callable[..., Ran]
) -> None:
    ran = lost(way)
    gone = way == "its folder renamed"
    file = "c.journal.rescued.jsonl" if gone else RESCUED
    assert_told(ran, file)
    assert rescued(command.folder / file) == lives(command.emulator)


@pytest.mark.parametrize("way", ["its folder made anew", "all removed"])
def test_a_folder_that_is_gone_is_no_reason_to_lose_them(
    way: str, command: Command, lost: Callable[..., Ran]
) -> None:
    ran = lost(way, "-o", "keys.jsonl")
    file = "c.journal.rescued.jsonl"
    assert_told(ran, file)
    out = command.folder / "keys.jsonl"
    # It is made with the first key that is taken, and the journal may be lost before that.
    taken = {row["key"] for row in rows_of(out.read_text())} if out.exists() else set[str]()
    saved = rescued(command.folder / file)
    assert taken | saved == lives(command.emulator)
    # The journal was lost before it heard that these were taken: by two workers for each create.
    assert len(taken & saved) <= 4


def test_a_file_that_is_there_is_not_written_over(
    command: Command, lost: Callable[..., Ran]
) -> None:
    there = command.folder / RESCUED
    there.write_text("an earlier one")
    ran = lost("removed", "--json")
    file = f"{FOLDER}/c.journal.rescued-2.jsonl"
    assert_told(ran, file)
    assert json.loads(ran.out)["rescued"] == file
    assert there.read_text() == "an earlier one"
    assert rescued(command.folder / file) == lives(command.emulator)


def _no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(rescue, "write_new", full)


TAKES = f'{sys.executable} -c \'import sys; open("taken", "a").write(sys.stdin.read())\''


def _of_output(command: Command, ran: Ran) -> set[str]:
    return {row["key"] for row in rows_of(ran.out)}


DESTINATIONS: dict[str, tuple[tuple[str, ...], Callable[[Command, Ran], set[str]]]] = {
    "a file": (
        ("-o", "keys.jsonl"),
        lambda command, _: {
            row["key"] for row in rows_of((command.folder / "keys.jsonl").read_text())
        },
    ),
    "a program": (
        ("--to-command", TAKES),
        lambda command, _: {*(command.folder / "taken").read_text().split()},
    ),
    "standard output": (("--jsonl", "--show-secret"), _of_output),
}


@pytest.mark.parametrize("name", DESTINATIONS)
def test_without_room_for_a_file_they_go_where_the_others_went(
    name: str, command: Command, lost: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    _no_file(monkeypatch)
    words, taken = DESTINATIONS[name]
    ran = lost("removed", *words)
    assert ran.code in (1, 5)
    assert taken(command, ran) == lives(command.emulator)
    assert " lost" not in ran.err


@pytest.mark.parametrize("way", ["removed", "renamed", "replaced by an empty file"])
def test_lines_without_secrets_are_no_hand_over(
    way: str, command: Command, lost: Callable[..., Ran]
) -> None:
    ran = lost(way, "--jsonl")
    assert_told(ran, RESCUED)
    assert rescued(command.folder / RESCUED) == lives(command.emulator)


def test_what_a_journal_still_has_is_not_saved_elsewhere(command: Command) -> None:
    (command.folder / "c.csv").write_text("ref,name\na,A\nb,B\n")
    command.emulator.faults.append(Fault("create", skip=1, status=401))
    assert command("provision", "c.csv", *QUICK, "--jsonl", "--concurrency", "1").code == 4
    assert not list(command.folder.rglob("*rescued*"))


@pytest.mark.parametrize("words", [(), ("--jsonl",), ("--json",)])
def test_secrets_that_nobody_can_take_are_told_as_lost_with_their_hashes(
    words: tuple[str, ...],
    command: Command,
    lost: Callable[..., Ran],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _no_file(monkeypatch)
    ran = lost("removed", *words)
    (line,) = [line for line in ran.err.splitlines() if "are lost" in line or "is lost" in line]
    told = {*line.rpartition(": ")[2].split(", ")}
    assert told == {*command.emulator.account.keys}
    assert not any(secret in ran.out + ran.err for secret in lives(command.emulator))


def test_who_wants_secrets_sealed_gets_a_sealed_file(
    command: Command, lost: Callable[..., Ran]
) -> None:
    ran = lost("removed", "--recipient", RECIPIENT)
    assert_told(ran, f"{RESCUED}.age")
    sealed = (command.folder / f"{RESCUED}.age").read_bytes()
    opened = {row["key"] for row in rows_of(unsealing(IDENTITY)(sealed).decode())}
    assert opened
    assert opened <= lives(command.emulator)
    assert b"sk-or-" not in sealed


def test_who_wants_no_secret_stored_gets_no_file(
    command: Command, lost: Callable[..., Ran]
) -> None:
    ran = lost("removed", "--no-store-secrets", "--to-command", TAKES)
    assert ran.code in (1, 5)
    assert not list(command.folder.rglob("*rescued*"))
    assert {*(command.folder / "taken").read_text().split()} == lives(command.emulator)


def test_a_rotations_twins_are_saved_too(command: Command) -> None:
    (command.folder / FOLDER).mkdir(mode=0o700)
    old = old_keys(command.emulator, COUNT)
    after(command.emulator, COUNT + AFTER, (command.folder / JOURNAL).unlink)
    ran = command("rotate", *hashes(old), "--journal", JOURNAL, *QUICK)
    assert_told(ran, RESCUED)
    twins = lives(command.emulator) - {str(key.secret) for key in old}
    assert rescued(command.folder / RESCUED) == twins


def test_lines_without_secrets_leave_a_sealed_secret_to_its_journal(
    command: Command, lost: Callable[..., Ran]
) -> None:
    plain = lost("removed", "--jsonl", "--recipient", RECIPIENT)
    assert plain.code in (1, 5)
    assert "sk-or-" not in plain.out + plain.err


def _save(file: Path) -> None:
    write_new(str(file), b"a secret")


def _take_durably(file: Path) -> None:
    with new_file(str(file), "raw", durable=True) as taker:
        asyncio.run(taker.take(LINES[0]))


def _journal(file: Path) -> None:
    async def use() -> None:
        async with Journal.open(file):
            pass

    asyncio.run(use())


def _back_up(file: Path) -> None:
    _journal(file.with_name("journal"))
    asyncio.run(Journal.backup(file.with_name("journal"), file))


@pytest.mark.skipif(sys.platform == "win32", reason="a folder cannot be synced there")
@pytest.mark.parametrize("write", [_save, _take_durably, _journal, _back_up])
def test_a_file_that_alone_holds_secrets_is_in_its_folder_after_a_power_cut(
    write: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, real, synced = tmp_path / "file", os.fsync, list[bool]()

    def fsync(descriptor: int) -> None:
        if os.path.samestat(os.fstat(descriptor), tmp_path.stat()):
            synced.append(file.exists())
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    write(file)
    assert synced[-1:] == [True]


@pytest.mark.parametrize("show_secret", [True, False])
async def test_no_key_that_was_taken_is_held_in_memory(*, show_secret: bool) -> None:
    taking = results.Results(results.printed(show_secret=show_secret), show_secret)
    taken = Handed(ref="r", name="n", hash="ab" * 32, key="sk-or-v1-c0")
    await taking.take(taken)
    there = weakref.ref(taken)
    del taken
    gc.collect()
    assert there() is None


# --- standard output that is full ---

LINES = [Handed(ref=f"r{n}", name="n", hash="ab" * 32, key=f"sk-or-v1-{n:064}") for n in range(3)]


def full_after(monkeypatch: pytest.MonkeyPatch, room: int) -> None:
    """Let standard output have room for so many bytes more."""
    write, left = os.write, [room]

    def limited(descriptor: int, data: bytes) -> int:
        if descriptor != sys.stdout.fileno():
            return write(descriptor, data)
        if not left[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        left[0] -= (written := write(descriptor, data[: left[0]]))
        return written

    monkeypatch.setattr(os, "write", limited)


async def _take_all(taker: TextSink) -> None:
    for each in LINES:
        await taker.take(each)


@pytest.mark.parametrize("mode", ["w", "a"])
@pytest.mark.parametrize("format", ["jsonl", "csv", "raw", "env"])
async def test_a_full_file_below_standard_output_ends_with_a_whole_line(
    format: SecretFormat, mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted: list[str] = []
    write = writer(format, wanted.append)
    for each in LINES:
        write(each)
    whole = "".join(wanted[:-1])
    for room in (len(whole), len(whole) + 1, len(whole) + 40):
        path = tmp_path / f"out-{room}"
        with path.open(mode, newline="") as out, monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", out)
            full_after(patch, room)
            taker = TextSink(writer(format, WholeLines().write), lambda: None)
            with pytest.raises(CommandError, match="whole line") as caught:
                await _take_all(taker)
        assert path.read_bytes().decode() == whole
        assert "thrown away" not in str(caught.value)
        assert f"{len(wanted) - 1} whole lines before it" in str(caught.value)


def test_of_a_full_pipe_it_is_told_that_a_part_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    read, write = os.pipe()
    with os.fdopen(read) as reader, os.fdopen(write, "w") as out, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", out)
        full_after(patch, 13)
        lines = WholeLines()
        lines.write("one line\n")
        with pytest.raises(OSError, match="1 whole line before it, and a part of one") as caught:
            lines.write("another line\n")
        patch.undo()
        out.close()
        assert reader.read() == "one line\nanot"
    assert caught.value.errno == errno.ENOSPC


def test_what_others_wrote_behind_it_is_not_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "out"
    path.write_text("0123456789 what stands there already")
    with path.open("r+") as out, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", out)
        full_after(patch, 4)
        with pytest.raises(OSError, match="a part of one"):
            WholeLines().write("a line\n")
    assert path.read_text() == "a li456789 what stands there already"


def test_a_run_whose_output_is_full_says_where_its_secrets_are(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    (command.folder / "c.csv").write_text("ref,name\na,A\nb,B\nc,C\n")
    with (command.folder / "out").open("w") as out:
        monkeypatch.chdir(command.folder)
        for name, value in command.settings.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "stdout", out)
        err = io.StringIO()
        monkeypatch.setattr(sys, "stderr", err)
        monkeypatch.setattr(sys, "stdin", io.StringIO())
        full_after(monkeypatch, 400)
        words = ("provision", "c.csv", *QUICK, "--jsonl", "--show-secret", "--concurrency", "1")
        assert main(words) == 1
        monkeypatch.undo()
    lines = rows_of((command.folder / "out").read_text())
    assert {line["key"] for line in lines} < lives(command.emulator)
    told = err.getvalue()
    assert "whole line" in told
    assert "journal export c.csv.journal -o keys.csv" in told
    assert command("journal", "export", "c.csv.journal", "-o", "keys.csv").code == 0
    rows = csv.DictReader(io.StringIO((command.folder / "keys.csv").read_text()))
    assert {row["key"] for row in rows} == lives(command.emulator)
