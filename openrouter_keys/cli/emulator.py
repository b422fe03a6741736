"""`emulator`: serves an emulated key API until SIGINT or SIGTERM."""

import asyncio
import errno
import json
import shlex
import signal
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated, Final, TextIO

from cyclopts import Parameter
from cyclopts.validators import Number

from openrouter_keys._inputs import checks
from openrouter_keys.cli.exit_codes import CommandError, UsageError
from openrouter_keys.cli.terminal.interrupts import handled
from openrouter_keys.cli.values import Flag
from openrouter_keys.emulator import Account, Emulator, StateError
from openrouter_keys.emulator.contracts import CONTRACT_NAMES, ContractName
from openrouter_keys.emulator.page import page_url

_STOPPING: Final = (signal.SIGINT, signal.SIGTERM)


def emulator(
    *,
    host: Annotated[str, Parameter(help="The address to listen on.")] = "127.0.0.1",
    allow_remote: Annotated[
        Flag, Parameter(help="Allow an address that other machines can reach.")
    ] = False,
    port: Annotated[
        int, Parameter(validator=Number(gte=0, lte=65535), help="The port; 0: a free one.")
    ] = 0,
    api_key: Annotated[
        str | None,
        Parameter(metavar="KEY", help="Its management key; a fake one, so it may be an argument."),
    ] = None,
    state: Annotated[
        Path | None, Parameter(metavar="FILE", help="Keep keys and ledger in this file.")
    ] = None,
    contract: Annotated[
        ContractName, Parameter(help="Follow the service's contract of this date.")
    ] = CONTRACT_NAMES[-1],
    json: Annotated[Flag, Parameter(help="Print the address and the key as JSON.")] = False,
) -> None:
    """Serve an emulated key API until SIGINT or SIGTERM."""
    served = emulator_of(
        api_key, host=host, allow_remote=allow_remote, port=port, state=state, contract=contract
    )
    asyncio.run(serve(served, sys.stdout, as_json=json))


def emulator_of(
    api_key: str | None,
    *,
    host: str,
    port: int,
    state: Path | None,
    allow_remote: bool = False,
    contract: ContractName = CONTRACT_NAMES[-1],
) -> Emulator:
    """Make an emulator.

    Args:
        api_key: its management key. None: that of the state file, or one that is visibly fake.
        host: the address to listen on.
        port: the port; 0 for a free one.
        state: a file to keep the keys and the ledger in. None: they end with the process.
        allow_remote: whether the address may be one that other machines reach.
        contract: the date of the service's contract that it follows.

    Raises:
        CommandError: the file or the address cannot be used.
    """
    if api_key is not None and (problem := checks.api_key_problem(api_key)):
        raise UsageError(f"--api-key: the key {problem}")
    account = Account(management_key=api_key) if api_key else None
    try:
        return Emulator(
            account,
            host=host,
            allow_remote=allow_remote,
            port=port,
            state=state,
            contract=contract,
        )
    except ValueError as error:
        raise UsageError(str(error)) from error
    except (StateError, OSError) as error:
        raise CommandError(f"cannot use the state file: {error}") from error


async def serve(emulator: Emulator, out: TextIO, *, as_json: bool) -> None:
    """Serve until SIGINT or SIGTERM.

    Args:
        emulator: what to serve.
        out: where to write how to reach it, once it listens.
        as_json: one line of JSON for programs, rather than two lines for people.

    Raises:
        CommandError: it cannot listen there.
    """
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()

    def stop(*_: object) -> None:
        loop.call_soon_threadsafe(stopped.set)

    with handled(stop, _STOPPING):
        async with AsyncExitStack() as stack:
            await _listen(emulator, stack)
            out.write(_as_json(emulator) if as_json else _as_text(emulator))
            out.flush()
            await stopped.wait()


async def _listen(emulator: Emulator, stack: AsyncExitStack) -> None:
    try:
        await stack.enter_async_context(emulator)
    except StateError as error:
        raise CommandError(f"cannot use the state file: {error}") from error
    except OSError as error:
        what = f"cannot open {error.filename}" if error.filename else "cannot listen"
        hint = "; --port 0 takes a free port" if error.errno == errno.EADDRINUSE else ""
        raise CommandError(f"{what}: {error.strerror or error}{hint}") from error


def _as_json(emulator: Emulator) -> str:
    return json.dumps({"base_url": emulator.base_url, "api_key": emulator.api_key}) + "\n"


def _as_text(emulator: Emulator) -> str:
    key = shlex.quote(emulator.api_key)
    return (
        "# The emulated key API is up until Ctrl-C; paste this into another shell:\n"
        f"export OPENROUTER_BASE_URL={emulator.base_url}\n"
        # Both: a management key that the other shell has already would come first.
        f"export OPENROUTER_API_KEY={key} OPENROUTER_MANAGEMENT_KEY={key}\n"
        f"# Look at it: {page_url(emulator.control_url, emulator.api_key)}\n"
    )
