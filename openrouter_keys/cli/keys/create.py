"""`create`: one key, whose secret goes to a terminal, a new private file or another program."""

import asyncio
import sys
from collections.abc import Callable
from typing import Annotated, Literal, cast

from attrs import asdict
from cyclopts import Parameter

from openrouter_keys._base.made_keys import MadeKey
from openrouter_keys._base.masking import scrub
from openrouter_keys.api_keys import AsyncAPIKeys
from openrouter_keys.cli.exit_codes import FAILED, IN_DOUBT, CommandError, UsageError
from openrouter_keys.cli.keys.delete import NOT_DELETED
from openrouter_keys.cli.keys.fields import KeyFields, refuse_secret_name
from openrouter_keys.cli.keys.made import Made, shown, why_not_taken
from openrouter_keys.cli.options.connection import Connection
from openrouter_keys.cli.secrets.destination import Destination
from openrouter_keys.cli.secrets.formats import Handed
from openrouter_keys.cli.secrets.sinks import Sink
from openrouter_keys.cli.terminal.interrupts import (
    interrupted,
    interrupts,
    signal_code,
    uninterrupted,
)
from openrouter_keys.cli.terminal.messages import command, say, write
from openrouter_keys.cli.terminal.output import RecordOutput, print_json
from openrouter_keys.cli.terminal.prompts import DryRun
from openrouter_keys.cli.values import OnUnknown
from openrouter_keys.converter import unstructure
from openrouter_keys.errors import JSON, CreatedKeyUnreadableError
from openrouter_keys.journal.encryption import sealing
from openrouter_keys.models import CreateKeysRequest
from openrouter_keys.results import Err, Ok, attempt


async def create(
    name: Annotated[str, Parameter(help="The name of the key.")],
    /,
    *,
    fields: KeyFields = KeyFields(),
    on_unknown: OnUnknown = "raise",
    recipient: Annotated[
        str | None,
        Parameter(
            metavar="AGE",
            help="Encrypt the secret to this age recipient, wherever it goes: `age --decrypt` "
            "opens it.",
        ),
    ] = None,
    dry_run: DryRun = False,
    to: Destination = Destination(),
    out: RecordOutput = RecordOutput(),
    connection: Connection = Connection(),
) -> int:
    """Create a key. Its secret is shown once and never again."""
    refuse_secret_name(name)
    request = CreateKeysRequest(name=name, **fields.arguments())
    if dry_run:
        say("would send")
        print_json(shown(request))
        return 0
    seal = None if recipient is None else sealing(recipient)
    if seal is None:
        to.refuse_pipe()
    elif to.secret_file is not None and to.format_of_one == "env":
        raise UsageError("--recipient: an encrypted secret does not fit into a .env file")
    with to.opened(None, otherwise="raw") as sink:
        async with connection.client() as client:
            return await _Creation(client.api_keys, request, seal).run(on_unknown, sink, out)


class _Creation:
    """Makes one key and hands its secret over; deletes the key again if that fails.

    The first signal lets what is under way end; the second ends the process at once.

    Args:
        api_keys: what makes and deletes the key.
        request: what is asked for.
        seal: encrypts the secret before it is handed over; None: it is handed over as it is.
    """

    def __init__(
        self,
        api_keys: AsyncAPIKeys,
        request: CreateKeysRequest,
        seal: Callable[[bytes], bytes] | None = None,
    ) -> None:
        self._api_keys, self._request, self._seal = api_keys, request, seal
        look = command("list", "--name", request.name)
        # The effect of a signal now, and what may be left if the process ends now; empty: nothing.
        self._does = "waiting for the create to end, to delete its key"
        self._left = f"a key may exist whose secret is lost: {look}"
        self._interrupted = False

    async def run(
        self, on_unknown: Literal["raise", "reconcile"], sink: Sink | None, out: RecordOutput
    ) -> int:
        """Make the key, hand it over, and return the exit code."""
        with interrupts(self._interrupt, self._final_message):
            try:
                made = await _made(self._api_keys, self._request, on_unknown)
            except asyncio.CancelledError as cancelled:
                raise interrupted(cancelled) from cancelled
            await self._hand_over(made, sink, out)
        if sink is not None:
            made.show(out)
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

    async def _hand_over(self, made: Made, sink: Sink | None, out: RecordOutput) -> None:
        """Hand the secret over; if that fails, delete the key again."""
        key = MadeKey.of(made.handed.hash, made.handed.key)
        self._does = f"waiting until the secret of the key {key.hash} is taken"
        self._left = f"keep the key {key.hash} if its secret was taken, or delete it"
        try:
            await made.sealed(self._seal).hand_over(sink, out)
        except (Exception, asyncio.CancelledError) as error:  # whatever it is, it was not taken
            self._left = _to_delete(key)
            self._does = f"deleting the key {key.hash}, whose secret is lost" if key.proven else ""
            why = f"the secret could not be handed over ({why_not_taken(error)})"
            if (left := await uninterrupted(self._undo(key))) is not None:
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
) -> Made:
    arguments = asdict(request, recurse=False)
    try:
        created = await api_keys.create(**arguments, on_unknown=on_unknown)
    except CreatedKeyUnreadableError as error:
        handed = Handed(ref="", name=request.name, hash=error.hash, key=error.key)
        return Made(handed, {"data": {"hash": error.hash, "name": request.name}}, str(error))
    answer = cast("dict[str, JSON]", unstructure(created))
    del answer["key"]
    handed = Handed(ref="", name=created.data.name, hash=created.data.hash, key=created.key)
    return Made(handed, answer)


def _to_delete(made: MadeKey) -> str:
    if made.proven:
        return f"delete the key {made.hash}, whose secret is lost"
    hashes = f"the answer has the hash {made.hash}, and that of the secret is {made.secret_hash}"
    return f"delete the key, whose secret is lost: {hashes}"
