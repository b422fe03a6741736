"""What a rotation was told to do, and what its journal holds. Nothing is sent."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from attrs import frozen

from openrouter_keys.cli.runs.options import Pace
from openrouter_keys.cli.runs.outcome import Outcome
from openrouter_keys.cli.runs.rescue import Keeping
from openrouter_keys.cli.secrets.destination import Destination
from openrouter_keys.cli.terminal.messages import say
from openrouter_keys.cli.terminal.output import Output
from openrouter_keys.journal.journal import Journal
from openrouter_keys.rotation import rotations
from openrouter_keys.rotation.report import Rotation
from openrouter_keys.rotation.settings import BudgetRule


@frozen(kw_only=True)
class Request:
    """What was asked for; the options of `rotate` say what each means."""

    hashes: Sequence[str]
    journal: Path
    budget: BudgetRule
    grace: float | None
    recipient: str | None
    yes: bool
    quiet: bool
    pace: Pace
    to: Destination
    out: Output

    @property
    def hands_over(self) -> bool:
        """Whether secrets go anywhere but into the journal."""
        return self.to.hands_over

    @property
    def outcome(self) -> Outcome:
        """Return what tells how making the twins ended."""
        keeping = Keeping(journal=self.journal, to=self.to, recipient=self.recipient)
        return Outcome(keeping, self.pace.concurrency, quiet=self.quiet)

    def tell(self, text: str) -> None:
        """Tell people, if they want to be told."""
        if not self.quiet:
            say(text)

    async def known(self) -> Mapping[str, Rotation]:
        """Return what the journal holds, by the old key's hash; it need not be there."""
        there = await stored(self.journal) if is_there(self.journal) else []
        return {rotation.hash: rotation for rotation in there}


async def stored(journal: Path) -> list[Rotation]:
    """Return what a journal holds.

    Raises:
        JournalError: it is not there, or cannot be read.
    """
    return [rotation async for rotation in rotations(journal)]


async def holding(journal: Path) -> frozenset[str]:
    """Return the old keys' hashes whose twins' secrets a journal holds, taken out or not."""
    async with Journal.read(journal) as found:
        held = [each async for each in found.every() if each.secret or each.sealed]
    return frozenset(each.ref for each in held)


def is_there(journal: Path) -> bool:
    """Return whether there is a journal."""
    return journal.is_file()
