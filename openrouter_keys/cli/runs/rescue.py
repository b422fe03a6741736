"""Saves the secrets that neither a journal nor a sink has when a run stops."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from attrs import asdict, frozen

from openrouter_keys.cli.exit_codes import CommandError
from openrouter_keys.cli.options.journal import Place
from openrouter_keys.cli.secrets.destination import Destination
from openrouter_keys.cli.secrets.formats import Handed
from openrouter_keys.cli.secrets.sinks import Sink, free_name, write_new
from openrouter_keys.cli.terminal.messages import keys
from openrouter_keys.cli.terminal.text import as_json
from openrouter_keys.journal.encryption import sealing
from openrouter_keys.journal.schema import State
from openrouter_keys.provisioning.report import UndeliveredKey


@frozen(kw_only=True)
class Keeping:
    """Where a run's secrets are kept and go.

    Attributes:
        journal: its journal.
        to: where its secrets go.
        stored: whether the journal has the secrets, too.
        recipient: the age recipient that the journal seals them to; None: they are not sealed.
    """

    journal: Place
    to: Destination
    stored: bool = True
    recipient: str | None = None


@frozen(kw_only=True)
class Rescue:
    """The secrets that a stopped run had neither stored nor handed over.

    Attributes:
        count: how many there are.
        file: the file that has them; None: no file has them.
        lost: the hashes of keys whose secrets could not be saved.
    """

    count: int
    file: str | None = None
    lost: Sequence[str] = ()

    def lines(self, journal: Place) -> Iterator[str]:
        """Return the lines about them for people, and what the next run does."""
        saved = self.count - len(self.lost)
        if self.file is not None:
            yield f"the secrets of {keys(saved)} are in {self.file} alone, which only you can read"
        elif saved:
            yield f"the secrets of {keys(saved)} were not in the journal, and handed over instead"
        if self.lost:
            hashes = ", ".join(self.lost)
            yield f"the secrets of {keys(len(self.lost))} are lost: delete those keys: {hashes}"
        yield (
            f"with {journal} as it was, the next run deletes those of them that it has no secret "
            "of, and makes them anew; without it, a run makes every key once more"
        )


async def rescue(
    undelivered: Sequence[UndeliveredKey], keeping: Keeping, sink: Sink | None
) -> Rescue:
    """Save secrets in a new private file, or else where the run's other secrets go.

    With `--no-store-secrets` there is no such file, unless beside a file of secrets; where the
    journal seals secrets, the file is sealed too.

    Args:
        undelivered: the keys.
        keeping: where the run's secrets are kept and go.
        sink: takes them if there is no file; None: none does.
    """
    handed = [
        Handed(ref=key.ref, name="", hash=key.hash, key=key.key, state=State.MADE)
        for key in undelivered
    ]
    file = _saved(handed, keeping)
    lost = [] if file is not None else [each.hash for each in await _untaken(handed, sink)]
    return Rescue(count=len(handed), file=file, lost=lost)


def _saved(handed: Sequence[Handed], keeping: Keeping) -> str | None:
    given, recipient = keeping.to.secret_file, keeping.recipient
    if given is None and not keeping.stored:
        return None
    content = "".join(as_json(asdict(each)) + "\n" for each in handed).encode()
    ending = "rescued.jsonl"
    if given is None and recipient is not None:
        content, ending = sealing(recipient)(content), f"{ending}.age"
    # One of these folders may be gone, or its disk full.
    journal = keeping.journal.file
    beside = [Path(file).parent for file in (given, journal) if file is not None]
    name = "journal" if journal is None else journal.name
    for folder in dict.fromkeys([*beside, Path()]):
        file = free_name(str(folder / f"{name}.{ending}"))
        with suppress(OSError):
            write_new(file, content)
            return file
    return None


async def _untaken(handed: Sequence[Handed], sink: Sink | None) -> Sequence[Handed]:
    """Hand keys over, and return those that the sink did not take."""
    if sink is None:
        return handed
    left: list[Handed] = []
    for each in handed:
        try:
            await sink.take(each)
        except (CommandError, OSError):
            left.append(each)
    return left
