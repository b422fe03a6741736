"""What a run hands its keys to: one at a time, and none after the first that was not taken."""

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
        sink: who takes them.
        takes_secrets: whether who takes a key gets its secret: `provision` asks for it.
    """

    _sink: Sink
    takes_secrets: bool = True
    _turn: asyncio.Lock = field(factory=asyncio.Lock, init=False)
    _failure: Exception | None = field(default=None, init=False)

    async def __call__(self, result: ProvisionResult) -> None:
        """Hand a key over.

        Raises:
            CommandError: it was not taken, or an earlier one was not; the next run hands it over.
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
        """Hand a key over that the run itself could not; see above."""
        async with self._turn:
            if self._failure is not None:
                raise self._failure
            try:
                await self._sink.take(handed)
            except Exception as error:
                self._failure = error
                raise


def printed(*, show_secret: bool) -> TextSink:
    """Return what prints a line of JSON for each key.

    Args:
        show_secret: with its secret.
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
    """Open what takes the secrets; None: the journal is enough.

    Args:
        to: where they go.
        lines: to standard output, if nowhere else.
        durable: what was taken must not be lost with the power, since no journal has it.
    """
    standard = printed(show_secret=to.show_secret) if lines else None
    with to.opened(standard, durable=durable) as sink:
        shows = sink is not standard or to.show_secret
        yield None if sink is None else Results(sink, shows)
