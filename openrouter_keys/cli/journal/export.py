"""`journal export`: the secrets that a journal holds, to a terminal, a file or a program."""

import json
import sys
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Final, TypeAlias

from attrs import evolve, frozen
from cyclopts import Group, Parameter

from openrouter_keys._protocol.drift import mismatches
from openrouter_keys.cli.exit_codes import CommandError, UsageError
from openrouter_keys.cli.options.journal import JournalArgument, Place, needed
from openrouter_keys.cli.secrets.destination import Destination
from openrouter_keys.cli.secrets.formats import Handed, SecretFormat, writer
from openrouter_keys.cli.secrets.sinks import Sink, TextSink, WholeLines
from openrouter_keys.cli.secrets.sources import STANDARD
from openrouter_keys.cli.terminal.messages import keys, say
from openrouter_keys.cli.terminal.text import printable
from openrouter_keys.cli.values import File, Flag
from openrouter_keys.converter import decode
from openrouter_keys.errors import InvalidArgumentError, JournalError, ResponseValidationError
from openrouter_keys.journal.encryption import unsealing
from openrouter_keys.journal.entries import Entry
from openrouter_keys.journal.journal import Journal
from openrouter_keys.journal.schema import DOUBTFUL, State
from openrouter_keys.models import Key
from openrouter_keys.rotation.replacement import stored_spec

Unseal: TypeAlias = Callable[[bytes], bytes]


@Parameter(name="*", group=Group("Output", sort_key=90))
@frozen(kw_only=True)
class Lines:
    """How the keys are written: one by one, so that no secret waits for another."""

    jsonl: Annotated[Flag, Parameter(help="As --secret-format jsonl.")] = False
    csv: Annotated[Flag, Parameter(help="As --secret-format csv.")] = False


_UNASKED: Final = Lines()


async def export(
    journal: JournalArgument = None,
    /,
    *,
    to: Destination = Destination(),
    identity: Annotated[
        File | None,
        Parameter(
            help="A file with the age identity that opens sealed secrets; - for standard input."
        ),
    ] = None,
    out: Lines = _UNASKED,
) -> None:
    """Take the secrets out of a journal: to a terminal, a file or a program.

    Keys that are not as asked for are left out.
    """
    unseal = None if identity is None else unsealing(read_identity(identity))
    to = _as_asked(to, out)
    async with reading(needed(journal)) as found:
        await _refuse_nothing(found, unseal)
        to.refuse_pipe()
        with to.opened(None, whole=True) as opened:
            sink = opened or _printed(to.format)
            exported, missing = await _hand_over(found, sink, unseal)
    where = f" to {to.secret_file}" if to.secret_file else ""
    without = f"; {_without(missing)}" if missing else ""
    say(f"exported {keys(exported)}{where}{without}")


def _as_asked(to: Destination, out: Lines) -> Destination:
    if not (out.jsonl or out.csv):
        return to
    if to.secret_format is not None or to.to_command is not None or (out.jsonl and out.csv):
        raise UsageError("give --secret-format, --to-command, --jsonl or --csv, not two")
    return evolve(to, secret_format="jsonl" if out.jsonl else "csv")


def _printed(format: SecretFormat) -> TextSink:
    output = WholeLines()
    # Let no name steer a terminal.
    show = _shown if sys.stdout.isatty() else str
    return TextSink(writer(format, lambda line: output.write(show(line)), named=True), lambda: None)


def _shown(line: str) -> str:
    return printable(line.rstrip("\r\n")) + "\n"


async def _hand_over(found: Journal, sink: Sink, unseal: Unseal | None) -> tuple[int, Counter[str]]:
    exported, missing = 0, Counter[str]()
    async for entry in found.every():
        key = _secret(entry, unseal) if _is_as_asked(entry) else None
        if key is None or entry.hash is None:
            missing[_why_missing(entry)] += 1
        else:
            handed = Handed(
                ref=entry.ref, name=entry.name, hash=entry.hash, key=key, state=entry.state
            )
            await sink.take(handed)
            exported += 1
    return exported, missing


def _is_as_asked(entry: Entry) -> bool:
    """Whether a key may be handed over: what is not as it was asked for can cost money."""
    if entry.state is State.FAILED:
        return False
    if entry.state is not State.MADE or entry.record is None:
        return True
    # No run has compared it yet, or it could not be disabled.
    spec = stored_spec(entry.ref, json.dumps(dict(entry.plan)))
    try:
        return not mismatches(spec.request(), decode(entry.record.encode(), Key))
    except ResponseValidationError:
        return True


def _secret(entry: Entry, unseal: Unseal | None) -> str | None:
    if entry.sealed is None or unseal is None:
        return entry.secret
    try:
        return unseal(entry.sealed).decode()
    except JournalError as error:
        raise CommandError(f"{entry.ref!r}: {error}") from error


def _without(missing: Counter[str]) -> str:
    why = ", ".join(f"{count:,} {reason}" for reason, count in missing.items())
    return f"without a secret here: {missing.total():,} ({why})"


def _why_missing(entry: Entry) -> str:
    if entry.state in DOUBTFUL:
        return "in doubt"
    if entry.hash is None:
        return "refused"
    return "adopted, not stored, or purged" if _is_as_asked(entry) else "not as asked for"


def read_identity(file: str) -> str:
    """Return the text of an age identity's file; `-`: standard input.

    Raises:
        UsageError: it cannot be read, or is none.
    """
    try:
        read = sys.stdin.buffer.read() if file == STANDARD else Path(file).read_bytes()
        text = read.decode("utf-8-sig", "replace")
        unsealing(text)
    except OSError as error:
        # Without the path: it may be an identity that was given in place of its file.
        raise UsageError(f"cannot read the identity's file: {error.strerror}") from error
    except InvalidArgumentError as error:
        raise UsageError(f"--{error}") from error
    return text


async def _refuse_nothing(found: Journal, unseal: Unseal | None) -> None:
    """Refuse, before anything is written, what would come to nothing."""
    holds = False
    async for entry in found.every():
        if not _is_as_asked(entry):
            continue
        if entry.sealed is not None and unseal is None:
            raise UsageError("its secrets are sealed: give --identity, a file")
        holds = holds or entry.secret is not None or entry.sealed is not None
    if not holds:
        missing = Counter([_why_missing(entry) async for entry in found.every()])
        why = _without(missing) if missing else "it has no keys"
        raise CommandError(f"there is nothing to export: {why}")


@asynccontextmanager
async def reading(place: Place) -> AsyncGenerator[Journal]:
    """Open a journal to look at it.

    Raises:
        CommandError: it cannot be read.
    """
    try:
        async with Journal.read(place.given) as found:
            yield found
    except JournalError as error:
        raise CommandError(str(error)) from error
