"""`ensure`: the one key of a ref, created if there is none, and its secret handed over."""

import asyncio
import sys
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final, cast

from cyclopts import Parameter

from openrouter_keys.cli.ensure.request import Request, Ways
from openrouter_keys.cli.exit_codes import DONE, FAILED, IN_DOUBT, CommandError, UsageError
from openrouter_keys.cli.journal.export import read_identity
from openrouter_keys.cli.keys.fields import KeyFields, refuse_secret_name
from openrouter_keys.cli.keys.made import Made, shown, why_not_taken
from openrouter_keys.cli.options.connection import Connection
from openrouter_keys.cli.options.journal import OPTION, JournalOption, needed
from openrouter_keys.cli.runs.rescue import rescue
from openrouter_keys.cli.secrets.destination import Destination
from openrouter_keys.cli.secrets.formats import Handed
from openrouter_keys.cli.secrets.sinks import Sink
from openrouter_keys.cli.secrets.sources import STANDARD
from openrouter_keys.cli.terminal.interrupts import interrupts, signal_code
from openrouter_keys.cli.terminal.messages import redraws, say
from openrouter_keys.cli.terminal.output import RecordOutput, print_json
from openrouter_keys.cli.terminal.prompts import DryRun
from openrouter_keys.cli.terminal.warnings import warnings_to
from openrouter_keys.client import AsyncOpenRouter
from openrouter_keys.converter import unstructure
from openrouter_keys.ensuring.report import Ensured
from openrouter_keys.errors import JSON, KeyGoneError, PlanChangedError, SecretNotKeptError
from openrouter_keys.journal.journal import Journal
from openrouter_keys.journal.specs import KeySpec
from openrouter_keys.provisioning.report import UndeliveredKey

# Seconds after which the command says at a terminal that it waits.
_LONG: Final = 3.0
# The library's arguments in messages, as they are given here.
_OPTIONS: Final = {"recreate=True": "--recreate", "limit=None": "--limit none"}
_OUTCOMES: Final = {
    "created": "created the key {}",
    "existing": "the key {} is there",
    "updated": "updated the key {}",
}
_MISSING: Final = (
    "its secret is not in the journal: it was not stored, or purged, or the key was adopted. If "
    "you have it nowhere else, replace the key with `rotate`, or `release` it first"
)
_GOES_ON: Final = "the journal has what there is, and the same command goes on"
_WAYS: Final = Ways()


async def ensure(
    ref: Annotated[
        str, Parameter(name="REF", help="Your own id for the key, such as a customer's number.")
    ],
    /,
    *,
    name: Annotated[
        str | None, Parameter(help="The name of the key; else REF, of a key that is created.")
    ] = None,
    fields: KeyFields = KeyFields(),
    journal: JournalOption = None,
    dry_run: DryRun = False,
    ways: Ways = _WAYS,
    to: Destination = Destination(),
    out: RecordOutput = RecordOutput(),
    connection: Connection = Connection(),
) -> int:
    """Print the one key of REF, and create it if there is none.

    Any number of processes, on any number of machines, may ask for the same REF with the same
    journal at once: one of them creates the key, and all get it. After an interrupt or an error,
    run the same command again.

    A key that was made with other options is updated. A duration in --expires-at counts from the
    create, and changes no key that is there.
    """
    if not ref:
        raise UsageError("REF: must have at least 1 character")
    refuse_secret_name(ref)
    refuse_secret_name(name or ref)
    request = Request(
        spec=KeySpec(ref=ref, name=ref if name is None else name, **fields.arguments()),
        is_named=name is not None,
        lasts=isinstance(fields.expires_at, timedelta),
        place=needed(journal, OPTION, ": it keeps the secret"),
        ways=ways,
        to=to,
        out=out,
    )
    if dry_run:
        does, creates = await request.plan()
        say(does)
        if creates:
            print_json(shown(request.spec.request()))
        return DONE
    if out.format == "text":
        to.refuse_pipe(", or --json for the record alone")
    identity = None
    if ways.identity is not None:
        if ways.identity == STANDARD:
            connection.refuse_two_from_standard_input("the identity")
        identity = read_identity(ways.identity)
    with to.opened(None, otherwise="raw") as sink:
        opening = Journal.open(request.place.given, recipient=ways.recipient, identity=identity)
        async with connection.client() as client, opening as opened:
            with _heeding_signals():
                ensured = await _ensured(client, opened, request, sink)
                return await _handed_over(ensured, opened, request, sink)


@contextmanager
def _heeding_signals() -> Generator[None]:
    is_stopping = False

    def stop() -> None:
        nonlocal is_stopping
        is_stopping = True
        say("waiting for what is under way to end; Ctrl-C again stops at once")

    def warn(text: str) -> None:
        # What a run says as it is cancelled, the journal has: the last message says how to go on.
        if not is_stopping:
            say(text)

    with interrupts(stop, lambda: f"stopped at once; {_GOES_ON}"), warnings_to(warn):
        yield


async def _ensured(
    client: AsyncOpenRouter, journal: Journal, request: Request, sink: Sink | None
) -> Ensured:
    try:
        async with _saying_that_it_waits():
            return await _ensure(client, journal, request)
    except asyncio.CancelledError as cancelled:
        raise CommandError(f"interrupted; {_GOES_ON}", signal_code()) from cancelled
    except SecretNotKeptError as error:
        raise await _rescued(error, request, sink) from error
    except (KeyGoneError, PlanChangedError) as error:
        message = str(error)
        for argument, option in _OPTIONS.items():
            message = message.replace(argument, option)
        raise CommandError(message) from error


async def _ensure(client: AsyncOpenRouter, journal: Journal, request: Request) -> Ensured:
    spec, ways = await request.spec_in(journal), request.ways
    while True:
        try:
            return await client.ensure(
                spec,
                journal=journal,
                on_change=ways.on_change,
                verify=ways.verify,
                recreate=ways.recreate,
                wait=ways.wait,
                quiet_period=ways.quiet_period or 0.0,
            )
        except PlanChangedError:
            # Another process has made it meanwhile, which expires a moment before or after.
            if (now := await request.spec_in(journal)) == spec:
                raise
            spec = now


@asynccontextmanager
async def _saying_that_it_waits() -> AsyncGenerator[None]:
    async def say_it() -> None:
        await asyncio.sleep(_LONG)
        say("waiting for the service, or for another process with this journal; Ctrl-C stops")

    task = asyncio.create_task(say_it()) if redraws() else None
    try:
        yield
    finally:
        if task is not None:
            task.cancel()


async def _rescued(error: SecretNotKeptError, request: Request, sink: Sink | None) -> CommandError:
    """Save the secret that the journal could not store, and return the command's error."""
    undelivered = UndeliveredKey(ref=error.ref, key=error.key, hash=error.hash)
    saved = await rescue([undelivered], request.keeping, sink)
    for line in saved.lines(request.place):
        say(line)
    return CommandError(f"stopped: {error.problem}", IN_DOUBT if saved.lost else FAILED)


# --- its secret ---


async def _handed_over(
    ensured: Ensured, journal: Journal, request: Request, sink: Sink | None
) -> int:
    """Hand the secret over, say what was done, and return the exit code."""
    made = _made(ensured)
    code = DONE
    if ensured.key is not None and _wanted(request):
        await _hand_over(made, request, sink)
        if sink is not None:
            made.show(request.out)
    elif request.out.format != "text":
        made.show(request.out)
    say(_OUTCOMES[ensured.outcome].format(ensured.data.hash))
    if ensured.key is None and _wanted(request):
        raise await _missing(journal, ensured)
    expires_at = ensured.data.expires_at
    if isinstance(expires_at, datetime) and expires_at <= datetime.now(UTC):
        say(f"it expired on {expires_at:%Y-%m-%d %H:%M} UTC: `release` it, to have a new one")
        code = FAILED
    return code


def _wanted(request: Request) -> bool:
    return request.to.hands_over or sys.stdout.isatty()


def _made(ensured: Ensured) -> Made:
    data = cast("dict[str, JSON]", unstructure(ensured.data))
    answer: dict[str, JSON] = {"ref": ensured.ref, "outcome": ensured.outcome, "data": data}
    key, name, hash = ensured.key or "", ensured.data.name, ensured.data.hash
    return Made(Handed(ref=ensured.ref, name=name, hash=hash, key=key), answer)


async def _hand_over(made: Made, request: Request, sink: Sink | None) -> None:
    try:
        await made.hand_over(sink, request.out)
    except (Exception, asyncio.CancelledError) as error:  # whatever it is, it was not taken
        why = f"the secret could not be handed over ({why_not_taken(error)})"
        code = signal_code() if isinstance(error, asyncio.CancelledError) else FAILED
        raise CommandError(
            f"{why}: the journal has it, and the same command hands it over", code
        ) from error


async def _missing(journal: Journal, ensured: Ensured) -> CommandError:
    known = await journal.succession(ensured.ref)
    if known and known[-1].sealed is not None:
        return UsageError("its secret is sealed: give --identity, a file")
    return CommandError(_MISSING)
