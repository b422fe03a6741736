"""`lease`: a program with a key of its own, which ends with the program."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, suppress
from typing import Annotated, Final

from cyclopts import Parameter

from openrouter_keys._base.unset import UNSET
from openrouter_keys.cli.exit_codes import IN_DOUBT, CommandError
from openrouter_keys.cli.keys.fields import refuse_secret_name
from openrouter_keys.cli.options.connection import Connection
from openrouter_keys.cli.secrets.formats import Handed, encodable
from openrouter_keys.cli.secrets.programs import cannot_run, check_program, environment
from openrouter_keys.cli.terminal.interrupts import handed_on, interrupted, interrupts
from openrouter_keys.cli.terminal.messages import say
from openrouter_keys.cli.terminal.warnings import warnings_to
from openrouter_keys.cli.values import Amount, Byok, Creator, Lasting, OnUnknown, Reset, Workspace
from openrouter_keys.errors import LeaseMismatchError
from openrouter_keys.lease import Lease

_SHORT_HASH: Final = 8


async def lease(
    program: Annotated[
        list[str],
        Parameter(
            name="PROGRAM",
            negative="",
            help="After --, the program and its arguments; no shell reads them.",
        ),
    ],
    /,
    *,
    name: Annotated[str, Parameter(help="The name of the key.")],
    limit: Amount,
    expires_in: Lasting,
    limit_reset: Reset = UNSET,
    include_byok_in_limit: Byok = None,
    creator_user_id: Creator = None,
    workspace_id: Workspace = None,
    on_unknown: OnUnknown = "raise",
    connection: Connection = Connection(),
) -> int:
    """Run a program with a key of its own, and delete the key when the program ends.

    The program finds the key in OPENROUTER_API_KEY, in place of the management key. The exit code
    is the program's, and signals go to it. What the key spent is printed on standard error. The
    service ends the key after --expires-in in any case.

    openrouter-keys lease --name "ci 7" --limit 0.50 --expires-in 30m -- pytest -q
    """
    refuse_secret_name(name)
    check_program(program[0], "PROGRAM")
    with warnings_to(say):
        async with connection.client() as client, AsyncExitStack() as stack:
            leasing = client.lease(
                name=name,
                limit=limit,
                expires_in=expires_in,
                limit_reset=limit_reset,
                include_byok_in_limit=include_byok_in_limit,
                creator_user_id=UNSET if creator_user_id is None else creator_user_id,
                workspace_id=workspace_id,
                on_unknown=on_unknown,
            )
            with interrupts(_say_waiting, lambda: f"stopped at once; {_may_exist(name)}"):
                leased = await _entered(stack, leasing)
            code = await _run(program, _environment(leased, connection.base_url))
            # A signal now makes the end shorter, and the code stays the program's.
            with (
                interrupts(_say_deleting, lambda: f"stopped at once; {_may_work(leased)}"),
                suppress(asyncio.CancelledError),
            ):
                await stack.aclose()
    say(_summary(leased))
    return code


async def _entered(
    stack: AsyncExitStack, leasing: AbstractAsyncContextManager[Lease, None]
) -> Lease:
    try:
        return await stack.enter_async_context(leasing)
    except asyncio.CancelledError as cancelled:
        raise interrupted(cancelled) from cancelled
    except LeaseMismatchError as error:
        if error.deleted:
            raise
        raise CommandError(str(error), IN_DOUBT) from error


async def _run(words: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run a program to its end, and return its exit code: 128 and the number, of a signal."""
    with handed_on() as to:
        try:
            # In our own process group: what stops the group, or the terminal, reaches both.
            process = await asyncio.create_subprocess_exec(*words, env=environment)
        except OSError as error:
            raise cannot_run(words[0], error) from error
        to(lambda number: _send(process, number))
        code = await process.wait()
    return code if code >= 0 else 128 - code


def _send(process: asyncio.subprocess.Process, number: int) -> None:
    with suppress(ProcessLookupError):  # it has ended
        process.send_signal(number)


def _environment(leased: Lease, base_url: str | None) -> dict[str, str]:
    handed = Handed(ref="", name=leased.data.name, hash=leased.data.hash, key=leased.key)
    own = {"OPENROUTER_API_KEY": encodable(handed.key)}
    # Where the key works: the program may read it as this command does.
    return (
        environment(handed) | own | ({} if base_url is None else {"OPENROUTER_BASE_URL": base_url})
    )


def _say_waiting() -> None:
    say("waiting for the create to end, to delete its key; Ctrl-C again stops at once")


def _say_deleting() -> None:
    say("deleting the key; Ctrl-C again stops at once")


def _may_exist(name: str) -> str:
    return f"a key named {name!r} may exist until it expires"


def _may_work(leased: Lease) -> str:
    return f"the key {leased.data.hash} may work until {leased.expires_at:%Y-%m-%d %H:%M:%S} UTC"


def _summary(leased: Lease) -> str:
    # Loaded late: it imports rich, and the program has waited long enough.
    from openrouter_keys.cli.terminal.tables import money  # noqa: PLC0415

    key = f"the key {leased.data.hash[:_SHORT_HASH]}"
    limit = "no limit" if leased.data.limit is None else money(leased.data.limit)
    what = "an unknown part" if leased.usage is None else money(leased.usage)
    end = "deleted" if leased.ended else f"left: {_may_work(leased)}"
    return f"{key} spent {what} of {limit}; it is {end}"
