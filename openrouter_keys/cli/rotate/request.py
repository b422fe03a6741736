"""What `rotate` was asked to do, and what its journal has. Nothing is sent."""

from collections.abc import Mapping, Sequence

from attrs import frozen

from openrouter_keys.cli.options.journal import Place
from openrouter_keys.cli.runs.options import Pace
from openrouter_keys.cli.runs.outcome import Outcome
from openrouter_keys.cli.runs.rescue import Keeping
from openrouter_keys.cli.secrets.destination import Destination
from openrouter_keys.cli.terminal.messages import say
from openrouter_keys.cli.terminal.output import Output
from openrouter_keys.journal.engines import is_begun
from openrouter_keys.journal.journal import Journal
from openrouter_keys.rotation import rotations
from openrouter_keys.rotation.report import Rotation
from openrouter_keys.rotation.settings import Terms


@frozen(kw_only=True)
class Request:
    """What was asked for, by the options of `rotate`."""

    hashes: Sequence[str]
    journal: Place
    terms: Terms
    grace: float | None
    recipient: str | None
    yes: bool
    quiet: bool
    pace: Pace
    to: Destination
    out: Output

    @property
    def outcome(self) -> Outcome:
        """Return what says how the replacement of the keys ended."""
        keeping = Keeping(journal=self.journal, to=self.to, recipient=self.recipient)
        return Outcome(keeping, self.pace.concurrency, quiet=self.quiet)

    def say(self, text: str) -> None:
        """Write a message, unless `--quiet` is given."""
        if not self.quiet:
            say(text)

    async def known(self) -> Mapping[str, Rotation]:
        """Return the rotations in the journal by the old key's hash; none, if it does not exist."""
        there = await stored(self.journal) if is_begun(self.journal.given) else []
        return {rotation.hash: rotation for rotation in there}


async def stored(journal: Place) -> list[Rotation]:
    """Return the rotations in a journal.

    Raises:
        JournalError: it does not exist, or cannot be read.
    """
    return [rotation async for rotation in rotations(journal.given)]


async def holding(journal: Place) -> frozenset[str]:
    """Return the old keys' hashes whose replacements' secrets a journal has, exported or not."""
    async with Journal.read(journal.given) as found:
        held = [each async for each in found.every() if each.secret or each.sealed]
    return frozenset(each.ref for each in held)
