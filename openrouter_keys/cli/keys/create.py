"""`create`: one key, whose secret goes to a terminal, a new private file or another program."""

import asyncio
import sys
from datetime import UTC, datetime
from typing import Annotated, Literal, cast

from attrs import asdict, frozen
from cyclopts import Parameter

from openrouter_keys._base.made_keys import MadeKey
from openrouter_keys._base.masking import scrub
from openrouter_keys._base.unset import UNSET
from openrouter_keys.api_keys import AsyncAPIKeys
from openrouter_keys.cli.exit_codes import FAILED, CommandError, UsageError
from openrouter_keys.cli.keys.delete import NOT_DELETED
from openrouter_keys.cli.options.connection import Connection
from openrouter_keys.cli.secrets.destination import Destination
from openrouter_keys.cli.secrets.formats import Handed
from openrouter_keys.cli.secrets.sinks import Sink
from openrouter_keys.cli.secrets.sources import read_secret
from openrouter_keys.cli.terminal.interrupts import interrupts, signal_code
from openrouter_keys.cli.terminal.messages import command, say, write
from openrouter_keys.cli.terminal.output import Output, print_json, print_record
from openrouter_keys.cli.terminal.prompts import DryRun
from openrouter_keys.cli.terminal.text import Record
from openrouter_keys.cli.values import Expiry, File, Limit, Reset
from openrouter_keys.client import AsyncOpenRouter
from openrouter_keys.converter import unstructure
from openrouter_keys.errors import JSON, CreatedKeyUnreadableError
from openrouter_keys.models import CreateKeysRequest, External
from openrouter_keys.results import Err, Ok, attempt


async def create(
    name: Annotated[str, Parameter(help="The name of the key.")],
    /,
    *,
    limit: Limit = UNSET,
    limit_reset: Reset = UNSET,
    expires_at: Expiry = UNSET,
    include_byok_in_limit: Annotated[
        bool | None, Parameter(help="Count spending on your own provider keys.")
    ] = None,
    creator_user_id: Annotated[
        str | None,
        Parameter(metavar="ID", help="The user who creates it, in an organization's account."),
    ] = None,
    workspace_id: Annotated[
        str | None,
        Parameter(metavar="UUID", help="The workspace of the key; else the default one."),
    ] = None,
    external_user: Annotated[
        str | None,
        Parameter(metavar="USER", help="For partners: your name for the key's end user."),
    ] = None,
    external_api_key_file: Annotated[
        File | None, Parameter(help="For partners: a file with your own key for that user.")
    ] = None,
    on_unknown: Annotated[
        Literal["raise", "reconcile"],
        Parameter(
            help="After a create without an answer: end with exit code 5, or find and delete its "
            "key and create another."
        ),
    ] = "raise",
    dry_run: DryRun = False,
    to: Destination = Destination(),
    out: Output = Output(),
    connection: Connection = Connection(),
) -> int:
    """Create a key. Its secret is shown once and never again."""
    request = CreateKeysRequest(
        name=name,
        limit=limit,
        limit_reset=limit_reset,
        expires_at=expires_at,
        include_byok_in_limit=include_byok_in_limit,
        creator_user_id=UNSET if creator_user_id is None else creator_user_id,
        workspace_id=workspace_id,
        external=_external(external_user, external_api_key_file),
    )
    _refuse_senseless(request)
    if dry_run:
        say("would send")
        print_json(_shown(request))
        return 0
    to.refuse_pipe()
    with to.opened(None, otherwise="raw") as sink:
        async with connection.client() as client:
            made = await _made_or_undone(client, request, on_unknown)
            await _hand_over(client.api_keys, made, sink, out)
    return FAILED if made.problem else 0


@frozen
class _Made:
    """A key that was made: what is handed over, and the answer as JSON.

    Attributes:
        problem: why there is no record of it; empty: there is one.
    """

    handed: Handed
    answer: Record
    problem: str = ""


def _refuse_senseless(request: CreateKeysRequest) -> None:
    if scrub(request.name) != request.name:
        raise UsageError("the name is a secret, and names are shown: give another, replace the key")
    if isinstance(request.expires_at, datetime) and request.expires_at <= datetime.now(UTC):
        raise UsageError(f"--expires-at: {request.expires_at:%Y-%m-%d %H:%M} UTC is over")


async def _made_or_undone(
    client: AsyncOpenRouter, request: CreateKeysRequest, on_unknown: Literal["raise", "reconcile"]
) -> _Made:
    """Make the key; interrupted meanwhile, let the create end, and delete its key."""

    def first() -> None:
        say("waiting for the create to end, to delete its key; Ctrl-C again stops at once")

    def last_words() -> str:
        look = command("list", "--name", request.name)
        return f"stopped at once; a key may exist whose secret is lost: {scrub(look)}"

    with interrupts(first, last_words):
        try:
            return await _made(client.api_keys, request, on_unknown)
        except asyncio.CancelledError as cancelled:
            notes = dict.fromkeys(getattr(cancelled, "__notes__", ()))
            raise CommandError("; ".join(["interrupted", *notes]), signal_code()) from cancelled


async def _made(
    api_keys: AsyncAPIKeys, request: CreateKeysRequest, on_unknown: Literal["raise", "reconcile"]
) -> _Made:
    arguments = asdict(request, recurse=False)
    try:
        created = await api_keys.create(**arguments, on_unknown=on_unknown)
    except CreatedKeyUnreadableError as error:
        handed = Handed(ref="", name=request.name, hash=error.hash, key=error.key)
        return _Made(handed, {"data": {"hash": error.hash, "name": request.name}}, str(error))
    answer = cast("dict[str, JSON]", unstructure(created))
    del answer["key"]
    handed = Handed(ref="", name=created.data.name, hash=created.data.hash, key=created.key)
    return _Made(handed, answer)


async def _hand_over(api_keys: AsyncAPIKeys, made: _Made, sink: Sink | None, out: Output) -> None:
    """Hand the secret over; if that fails, delete the key again."""
    try:
        if sink is None:
            _print_secret(made, out)
        else:
            await sink.take(made.handed)
    except (Exception, asyncio.CancelledError) as error:  # whatever it is, the secret was not taken
        why = _why(error)
        undone = await _undone(api_keys, MadeKey.of(made.handed.hash, made.handed.key))
        raise CommandError(f"the secret could not be handed over ({why}): {undone}") from error
    if sink is not None:
        _print(made, out)
    if made.problem:
        say(made.problem)


def _why(error: BaseException) -> str:
    if isinstance(error, asyncio.CancelledError):
        return "interrupted"
    if isinstance(error, CommandError):
        return str(error)
    # Another error's text may quote the secret.
    return (isinstance(error, OSError) and error.strerror) or type(error).__name__


async def _undone(api_keys: AsyncAPIKeys, made: MadeKey) -> str:
    if not made.proven:
        hashes = f"the answer has the hash {made.hash}, and that of the secret is"
        return f"delete the key, whose secret is lost: {hashes} {made.secret_hash}"
    done = await attempt(api_keys.delete(made.hash))
    if isinstance(done, Ok) and done.value.deleted:
        return f"the key {made.hash} was deleted again"
    why = done.error if isinstance(done, Err) else NOT_DELETED
    return f"delete the key {made.hash}, whose secret is lost ({why})"


def _print_secret(made: _Made, out: Output) -> None:
    if out.format == "text":
        sys.stdout.write(f"{made.handed.key}\n")  # alone, for "$(…)"
    else:
        _print(made, out, key=made.handed.key)
    # An error of the write comes now, while the key can still be deleted.
    sys.stdout.flush()
    if sys.stdout.isatty():
        write("The secret is shown this once: keep it now.\n")
    elif out.format == "text":
        say(f"created {made.handed.hash}")


def _print(made: _Made, out: Output, **secret: str) -> None:
    if out.format == "json":
        print_json(made.answer, **secret)
    else:
        print_record(cast("dict[str, JSON]", made.answer["data"]), out, **secret)


def _shown(request: CreateKeysRequest) -> Record:
    plain = cast("dict[str, JSON]", unstructure(request))
    if request.external is not None and request.external.api_key is not None:
        plain["external"] = {"user": request.external.user, "api_key": "..."}
    return plain


def _external(user: str | None, file: str | None) -> External | None:
    if user is None:
        if file is not None:
            raise UsageError("--external-api-key-file goes with --external-user")
        return None
    return External(user=user, api_key=None if file is None else read_secret(file))
