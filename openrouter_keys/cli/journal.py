"""What a journal tells: how its keys stand, and their secrets, to a file. No network."""

import csv
import json
import os
import sys
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Generator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final, Literal, TextIO, TypeAlias

from openrouter_keys.cli import USAGE, CommandError
from openrouter_keys.converter import write_time
from openrouter_keys.errors import InvalidArgumentError
from openrouter_keys.provisioning.entries import Entry
from openrouter_keys.provisioning.errors import JournalError
from openrouter_keys.provisioning.journal import Journal
from openrouter_keys.provisioning.schema import DOUBTFUL, State
from openrouter_keys.provisioning.sealing import unsealing

Format: TypeAlias = Literal["jsonl", "csv"]
Unseal: TypeAlias = Callable[[bytes], bytes]
Row: TypeAlias = Sequence[str | None]

IN_DOUBT: Final = 5
#: In place of a file: standard input, or standard output.
STANDARD: Final = "-"
COLUMNS: Final = ("ref", "name", "hash", "key", "state")

_STDOUT: Final = 1
_MEANINGS: Final[Mapping[State, str]] = {
    State.INTENT: "in doubt: under way when its run ended",
    State.MADE: "made, and handed over by the next run",
    State.SETTLED: "made, and nothing is left to do",
    State.FAILED: "refused, or made otherwise than asked for",
    State.DOUBT: "in doubt: nobody can say whether a key was made",
}


async def status(path: Path, out: TextIO, *, as_json: bool) -> int:
    """Tell how a journal's keys stand, and return the exit code: 5 if one is in doubt.

    Args:
        path: the journal.
        out: where to write; never a secret.
        as_json: one line of JSON for programs, rather than a table for people.

    Raises:
        CommandError: the journal cannot be read.
    """
    async with _reading(path) as journal:
        created_at, server_url = await journal.origin()
        counts = await journal.counts()
        written_off = sum([1 async for _ in journal.written_off()])
    about = {
        "server_url": server_url,
        "created_at": write_time(created_at),
        "written_off": written_off,
    }
    out.write(json.dumps(about | {"keys": counts}) + "\n" if as_json else _table(about, counts))
    return IN_DOUBT if any(counts[state] for state in DOUBTFUL) else 0


def _table(about: Mapping[str, object], counts: Mapping[State, int]) -> str:
    lines = [f"{name:11}  {'-' if value is None else value}" for name, value in about.items()]
    lines += [f"{state:11}  {counts[state]:<9}  {_MEANINGS[state]}" for state in State]
    return "\n".join(lines) + "\n"


async def export(
    path: Path,
    output: str,
    err: TextIO,
    *,
    identity: str | None,
    format: Format,
    show_secret: bool,
) -> int:
    """Write each key whose secret the journal holds, and return the exit code.

    Args:
        path: the journal.
        output: a file that is not there yet, made for this user only; `-` for standard output.
        err: where to tell how many there were.
        identity: a file with the `age` identity that opens sealed secrets; `-` for standard input.
            None: they are not sealed.
        format: a line of JSON for each key, or CSV with a header.
        show_secret: standard output may be no terminal.

    Raises:
        CommandError: it cannot go on; a file that was begun is removed again.
    """
    if output == STANDARD and not show_secret and not os.isatty(_STDOUT):
        message = "secrets go to a file, or into a pipe with --show-secret"
        raise CommandError(message, USAGE)
    unseal = None if identity is None else _unsealing(identity)
    async with _reading(path) as journal:
        if unseal is None:
            await _refuse_sealed(journal)
        with _text(_STDOUT) if output == STANDARD else _new_file(output) as file:
            exported, missing = await _write_all(journal, _writer(format, file), unseal)
    err.write(_summary(exported, missing))
    return 0


@asynccontextmanager
async def _reading(path: Path) -> AsyncGenerator[Journal]:
    try:
        async with Journal.read(path) as journal:
            yield journal
    except JournalError as error:
        raise CommandError(str(error)) from error


def _unsealing(identity: str) -> Unseal:
    try:
        text = sys.stdin.buffer.read() if identity == STANDARD else Path(identity).read_bytes()
        return unsealing(text.decode("utf-8-sig", "replace"))
    except OSError as error:
        # Without the path: it may be an identity that was given in place of its file.
        message = f"cannot read the identity's file: {error.strerror}"
        raise CommandError(message, USAGE) from error
    except InvalidArgumentError as error:
        raise CommandError(str(error), USAGE) from error


async def _refuse_sealed(journal: Journal) -> None:
    async for entry in journal.every():
        if entry.sealed is not None:
            raise CommandError("its secrets are sealed: give --identity, a file", USAGE)


async def _write_all(
    journal: Journal, write: Callable[[Row], object], unseal: Unseal | None
) -> tuple[int, Counter[str]]:
    exported, missing = 0, Counter[str]()
    async for entry in journal.every():
        key = _secret(entry, unseal)
        if key is None:
            missing[_why_missing(entry)] += 1
        else:
            exported += 1
            write((entry.ref, entry.name, entry.hash, key, entry.state))
    return exported, missing


def _secret(entry: Entry, unseal: Unseal | None) -> str | None:
    if entry.sealed is None or unseal is None:
        return entry.secret
    try:
        return unseal(entry.sealed).decode()
    except JournalError as error:
        raise CommandError(f"{entry.ref!r}: {error}") from error


def _why_missing(entry: Entry) -> str:
    if entry.state in DOUBTFUL:
        return "in doubt"
    return "refused" if entry.hash is None else "made without storing secrets"


def _summary(exported: int, missing: Counter[str]) -> str:
    told = f"openrouter-keys journal: exported: {exported}; without a secret here: "
    why = ", ".join(f"{count} {reason}" for reason, count in missing.items())
    return f"{told}{missing.total()}{f' ({why})' if why else ''}\n"


def _writer(format: Format, file: TextIO) -> Callable[[Row], object]:
    if format == "jsonl":
        return lambda row: file.write(json.dumps(dict(zip(COLUMNS, row, strict=True))) + "\n")
    table = csv.writer(file)
    table.writerow(COLUMNS)
    return table.writerow


@contextmanager
def _new_file(path: str) -> Generator[TextIO]:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        message = f"{path} is there already: give the path of a new file"
        raise CommandError(message, USAGE) from error
    except OSError as error:
        raise CommandError(f"cannot make {path}: {error.strerror}", USAGE) from error
    try:
        with _text(descriptor) as file:
            yield file
            file.flush()
            os.fsync(descriptor)
    except BaseException:
        os.unlink(path)
        raise


@contextmanager
def _text(descriptor: int) -> Generator[TextIO]:
    """Write to a descriptor past `sys.stdout`, whose flush at exit could fail once more."""
    try:
        with open(
            descriptor,
            "w",
            encoding="utf-8",
            errors="backslashreplace",
            newline="",
            closefd=descriptor != _STDOUT,
        ) as file:
            yield file
    except OSError as error:
        raise CommandError(f"cannot write the keys: {error.strerror}") from error
