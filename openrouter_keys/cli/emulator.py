"""The command that serves an emulator until it is told to stop."""

import asyncio
import json
import shlex
import signal
from collections.abc import Callable, Generator
from contextlib import AsyncExitStack, contextmanager
from typing import Final, TextIO

from openrouter_keys.cli import CommandError
from openrouter_keys.emulator import Emulator

_STOPPING: Final = (signal.SIGINT, signal.SIGTERM)


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
    with _on_signals(lambda: loop.call_soon_threadsafe(stopped.set)):
        async with AsyncExitStack() as stack:
            await _listen(emulator, stack)
            out.write(_as_json(emulator) if as_json else _as_text(emulator))
            out.flush()
            await stopped.wait()


async def _listen(emulator: Emulator, stack: AsyncExitStack) -> None:
    try:
        await stack.enter_async_context(emulator)
    except OSError as error:
        message = f"cannot listen: {error.strerror or error}; --port 0 takes a free port"
        raise CommandError(message) from error


@contextmanager
def _on_signals(stop: Callable[[], object]) -> Generator[None, None, None]:
    def handle(*_: object) -> None:
        stop()

    # Not the loop's own handlers, which some platforms do not have.
    before = {number: signal.signal(number, handle) for number in _STOPPING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _as_json(emulator: Emulator) -> str:
    return json.dumps({"base_url": emulator.base_url, "api_key": emulator.api_key}) + "\n"


def _as_text(emulator: Emulator) -> str:
    key = shlex.quote(emulator.api_key)
    return (
        "The emulated key API is up until Ctrl-C; run a client in another shell with\n"
        f"OPENROUTER_BASE_URL={emulator.base_url} OPENROUTER_API_KEY={key}\n"
    )
