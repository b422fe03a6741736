"""`create`: one key, whose secret goes to a terminal, a new private file or another program."""

import asyncio
import sys
from collections.abc import Coroutine
from contextlib import suppress
from datetime import UTC, datetime
from typing import Annotated, Literal, TypeVar, cast

from attrs import asdict, frozen
from cyclopts import Parameter

from openrouter_keys._base.made_keys import MadeKey
from openrouter_keys._base.masking import scrub
from openrouter_keys._base.unset import UNSET
from openrouter_keys.api_keys import AsyncAPIKeys
from openrouter_keys.cli.exit_codes import FAILED, IN_DOUBT, CommandError, UsageError
from openrouter_keys.cli.keys.delete import NOT_DELETED
from openrouter_keys.cli.options.connection import Connection
from openrouter_keys.cli.secrets.destination import Destination
from openrouter_keys.cli.secrets.formats import Handed
from openrouter_keys.cli.secrets.sinks import Sink
from openrouter_keys.cli.secrets.sources import read_secret
from openrouter_keys.cli.terminal.interrupts import interrupted, interrupts, signal_code
from openrouter_keys.cli.terminal.messages import command, say, write
from openrouter_keys.cli.terminal.output import Output, print_json, print_record
from openrouter_keys.cli.terminal.prompts import DryRun
from openrouter_keys.cli.terminal.text import Record
from openrouter_keys.cli.values import (
    Byok,
    Creator,
    Expiry,
    File,
    Limit,
    OnUnknown,
    Reset,
    Workspace,
)
from openrouter_keys.converter import unstructure
from openrouter_keys.errors import JSON, CreatedKeyUnreadableError
from openrouter_keys.models import CreateKeysRequest, External
from openrouter_keys.results import Err, Ok, attempt

T = TypeVar("T")


async def create(
    name: Annotated[str, Parameter(help="The name of the key.")],
    /,
    *,
    limit: Limit = UNSET,
    limit_reset: Reset = UNSET,
    expires_at: Expiry = UNSET,
    include_byok_in_limit: Byok = None,
    creator_user_id: Creator = None,
    workspace_id: Workspace = None,
    external_user: Annotated[
        str | None,
        Parameter(metavar="USER", help="For partners: your name for the key's end user."),
    ] = None,
    external_api_key_file: Annotated[
        File | None, Parameter(help="For partners: a file with your own key for that user.")
    ] = None,
    on_unknown: OnUnknown = "raise",
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
    _refuse_conflicts(request)
    if dry_run:
        say("would send")
        print_json(_shown(request))
        return 0
    to.refuse_pipe()
    with to.opened(None, otherwise="raw") as sink:
        async with connection.client() as client:
            return await _Creation(client.api_keys, request).run(on_unknown, sink, out)


@frozen
class _Made:
    """A key that was made: what is handed over, and the answer as JSON.

    Attributes:
        problem: why there is no record of it; empty: there is one.
    """

    handed: Handed
    answer: Record
    problem: str = ""


def refuse_secret_name(name: str) -> None:
    """Refuse a name that is a secret.

    Raises:
        UsageError: it is one.
    """
    if scrub(name) != name:
        raise UsageError("the name is a secret, and names are shown: give another, replace the key")


def _refuse_conflicts(request: CreateKeysRequest) -> None:
    refuse_secret_name(request.name)
    if isinstance(request.expires_at, datetime) and request.expires_at <= datetime.now(UTC):
        raise UsageError(f"--expires-at: {request.expires_at:%Y-%m-%d %H:%M} UTC is over")


class _Creation:
    """Makes one key and hands its secret over; deletes the key again if that fails.

    The first signal lets what is under way end; the second ends the process at once.

    Args:
        api_keys: what makes and deletes the key.
        request: what is asked for.
    """

    def __init__(self, api_keys: AsyncAPIKeys, request: CreateKeysRequest) -> None:
        self._api_keys, self._request = api_keys, request
        look = command("list", "--name", request.name)
        # The effect of a signal now, and what may be left if the process ends now; empty: nothing.
        self._does = "waiting for the create to end, to delete its key"
        self._left = f"a key may exist whose secret is lost: {look}"
        self._interrupted = False

    async def run(
        self, on_unknown: Literal["raise", "reconcile"], sink: Sink | None, out: Output
    ) -> int:
        """Make the key, hand it over, and return the exit code."""
        with interrupts(self._interrupt, self._final_message):
            try:
                made = await _made(self._api_keys, self._request, on_unknown)
            except asyncio.CancelledError as cancelled:
                raise interrupted(cancelled) from cancelled
            await self._hand_over(made, sink, out)
        if sink is not None:
            _print(made, out)
        elif sys.stdout.isatty():
            write("The secret is shown this once: keep it now.\n")
        elif out.format == "text":
            say(f"created {made.handed.hash}")
        if made.problem:
            say(made.problem)
        return FAILED if made.problem else 0

    def _interrupt(self) -> None:
        self._interrupted = True
        if self._does:
            say(f"{self._does}; Ctrl-C again stops at once")

    def _final_message(self) -> str:
        return scrub(f"stopped at once; {self._left}" if self._left else "stopped at once")

    async def _hand_over(self, made: _Made, sink: Sink | None, out: Output) -> None:
        """Hand the secret over; if that fails, delete the key again."""
        key = MadeKey.of(made.handed.hash, made.handed.key)
        self._does = f"waiting until the secret of the key {key.hash} is taken"
        self._left = f"keep the key {key.hash} if its secret was taken, or delete it"
        try:
            if sink is None:
                _print_secret(made, out)
            else:
                await _uninterrupted(sink.take(made.handed))
        except (Exception, asyncio.CancelledError) as error:  # whatever it is, it was not taken
            self._left = _to_delete(key)
            self._does = f"deleting the key {key.hash}, whose secret is lost" if key.proven else ""
            why = f"the secret could not be handed over ({_why(error)})"
            if (left := await _uninterrupted(self._undo(key))) is not None:
                raise CommandError(f"{why}: {left}", IN_DOUBT) from error
            code = signal_code() if self._interrupted else FAILED
            raise CommandError(f"{why}: the key {key.hash} was deleted again", code) from error
        self._does = self._left = ""

    async def _undo(self, made: MadeKey) -> str | None:
        """Delete a key; return what is left to do, or None."""
        if not made.proven:
            return self._left
        done = await attempt(self._api_keys.delete(made.hash))
        if isinstance(done, Ok) and done.value.deleted:
            return None
        return f"{self._left} ({done.error if isinstance(done, Err) else NOT_DELETED})"


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


def _why(error: BaseException) -> str:
    if isinstance(error, asyncio.CancelledError):
        return "interrupted"
    if isinstance(error, CommandError):
        return str(error)
    # Another error's text may quote the secret.
    return (isinstance(error, OSError) and error.strerror) or type(error).__name__


def _to_delete(made: MadeKey) -> str:
    if made.proven:
        return f"delete the key {made.hash}, whose secret is lost"
    hashes = f"the answer has the hash {made.hash}, and that of the secret is {made.secret_hash}"
    return f"delete the key, whose secret is lost: {hashes}"


async def _uninterrupted(ends: Coroutine[object, object, T]) -> T:
    """Wait until a coroutine has ended, even if this task is cancelled."""
    task = asyncio.create_task(ends)
    while not task.done():
        with suppress(asyncio.CancelledError):
            await asyncio.wait({task})
    return task.result()


def _print_secret(made: _Made, out: Output) -> None:
    if out.format == "text":
        sys.stdout.write(f"{made.handed.key}\n")  # alone, for "$(…)"
    else:
        _print(made, out, key=made.handed.key)
    # An error of the write comes now, while the key can still be deleted.
    sys.stdout.flush()


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
