"""Hands the keys of a run to a sink: one at a time, and none after one that it refused."""

import asyncio
from collections.abc import Generator
from contextlib import contextmanager

from attrs import asdict, define, field

from openrouter_keys.cli.secrets.destination import Destination
from openrouter_keys.cli.secrets.formats import Handed
from openrouter_keys.cli.secrets.sinks import Sink, TextSink, WholeLines
from openrouter_keys.cli.terminal.text import as_json
from openrouter_keys.journal.schema import State
from openrouter_keys.provisioning.report import ProvisionResult


@define
class Results:
    """Hands each key of a run over, as its `on_result`.

    Args:
        sink: takes the keys.
        takes_secrets: whether the sink gets the secrets; the library's `provision` asks for it.
    """

    _sink: Sink
    takes_secrets: bool = True
    _turn: asyncio.Lock = field(factory=asyncio.Lock, init=False)
    _failure: Exception | None = field(default=None, init=False)

    async def __call__(self, result: ProvisionResult) -> None:
        """Hand a key over.

        Raises:
            CommandError: the sink did not take it, or an earlier one; the next run will.
        """
        await self.take(
            Handed(
                ref=result.ref,
                name=result.spec.name,
                hash=result.data.hash,
                key=result.key,
                state=State.SETTLED,
            )
        )

    async def take(self, handed: Handed) -> None:
        """Hand over a key that the run itself could not; see `__call__`."""
        async with self._turn:
            if self._failure is not None:
                raise self._failure
            try:
                await self._sink.take(handed)
            except Exception as error:
                self._failure = error
                raise


def printed(*, show_secret: bool) -> TextSink:
    """Return a sink that prints a line of JSON for each key.

    Args:
        show_secret: whether the line has the secret.
    """
    output = WholeLines()

    def write(handed: Handed) -> None:
        line = asdict(handed)
        if not show_secret:
            del line["key"]
        output.write(as_json(line) + "\n")

    return TextSink(write, lambda: None)


@contextmanager
def results_of(to: Destination, *, lines: bool, durable: bool = False) -> Generator[Results | None]:
    """Open what takes the keys of a run; None: the journal alone keeps them.

    Args:
        to: where the secrets go.
        lines: print a line for each key, if they go nowhere else.
        durable: no journal has the secrets, so that a power cut must not lose one.
    """
    standard = printed(show_secret=to.show_secret) if lines else None
    with to.opened(standard, durable=durable) as sink:
        shows = sink is not standard or to.show_secret
        yield None if sink is None else Results(sink, shows)
