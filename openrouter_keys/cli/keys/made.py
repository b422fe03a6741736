"""A key that is handed over: its secret and its record, as `create` and `ensure` print them."""

import asyncio
import sys
from collections.abc import Callable
from typing import cast

from attrs import evolve, frozen

from openrouter_keys.cli.exit_codes import CommandError
from openrouter_keys.cli.secrets.formats import Handed
from openrouter_keys.cli.secrets.sinks import Sink
from openrouter_keys.cli.terminal.interrupts import uninterrupted
from openrouter_keys.cli.terminal.output import RecordOutput, print_json, print_record
from openrouter_keys.cli.terminal.text import Record
from openrouter_keys.converter import unstructure
from openrouter_keys.errors import JSON
from openrouter_keys.journal.encryption import armored, is_armored
from openrouter_keys.models import CreateKeysRequest


@frozen
class Made:
    """A key that was made.

    Attributes:
        handed: what is handed over.
        answer: the answer as JSON.
        problem: why there is no record of it; empty: there is one.
    """

    handed: Handed
    answer: Record
    problem: str = ""

    async def hand_over(self, sink: Sink | None, out: RecordOutput) -> None:
        """Hand the secret over, to its end even if this task is cancelled.

        Args:
            sink: takes it; None: it is printed.
            out: how.
        """
        if sink is not None:
            await uninterrupted(sink.take(self.handed))
            return
        if out.format == "text":
            sys.stdout.write(f"{self.handed.key}\n")  # alone, for "$(…)"
        elif out.format == "table" and is_armored(self.handed.key):
            self.show(out)
            sys.stdout.write(f"{self.handed.key}\n")
        else:
            self.show(out, key=self.handed.key)
        # An error of the write comes now, while the key can still be deleted.
        sys.stdout.flush()

    def sealed(self, seal: Callable[[bytes], bytes] | None) -> "Made":
        """Return it with its secret encrypted, as text.

        Args:
            seal: encrypts it; None: it stays as it is.
        """
        if seal is None:
            return self
        return evolve(self, handed=evolve(self.handed, key=armored(seal(self.handed.key.encode()))))

    def show(self, out: RecordOutput, **secret: str) -> None:
        """Print the record.

        Args:
            out: how.
            **secret: a field that is printed as it is.
        """
        if out.format == "json":
            print_json(self.answer, **secret)
        else:
            print_record(out.of(cast("dict[str, JSON]", self.answer["data"])), out, **secret)


def why_not_taken(error: BaseException) -> str:
    """Return why a secret was not taken, without quoting it."""
    if isinstance(error, asyncio.CancelledError):
        return "interrupted"
    if isinstance(error, CommandError):
        return str(error)
    # Another error's text may quote the secret.
    return (isinstance(error, OSError) and error.strerror) or type(error).__name__


def shown(request: CreateKeysRequest) -> Record:
    """Return a request as JSON, without a partner's own key."""
    plain = cast("dict[str, JSON]", unstructure(request))
    if request.external is not None and request.external.api_key is not None:
        plain["external"] = {"user": request.external.user, "api_key": "..."}
    return plain
