"""What `ensure` was asked to do, and what the journal knows of the key. Nothing is sent."""

import json
from typing import Annotated, Final

from attrs import evolve, frozen
from cyclopts import Group, Parameter

from openrouter_keys._inputs.options import QUIET_PERIOD
from openrouter_keys.cli.journal.export import reading
from openrouter_keys.cli.options.journal import Place
from openrouter_keys.cli.runs.options import check_recipient
from openrouter_keys.cli.runs.rescue import Keeping
from openrouter_keys.cli.secrets.destination import Destination
from openrouter_keys.cli.terminal.output import RecordOutput
from openrouter_keys.cli.values import File, Flag, QuietPeriod, Recipient, Wait
from openrouter_keys.ensuring.settings import OnChange
from openrouter_keys.journal.engines import is_begun
from openrouter_keys.journal.entries import Entry
from openrouter_keys.journal.journal import Journal
from openrouter_keys.journal.schema import State
from openrouter_keys.journal.specs import KeySpec, changed
from openrouter_keys.utils import parse_datetime

_MADE: Final = (State.MADE, State.SETTLED)
_UNSETTLED: Final = (
    "would settle a create that may have made the key, or wait for the process that creates it; "
    "then create it, if there is none"
)
_PLANS: Final = {
    State.INTENT: _UNSETTLED,
    State.DOUBT: _UNSETTLED,
    State.FAILED: "would create the key, which was refused before",
    State.RELEASING: "would delete the key that is being released, and create another",
}


@Parameter(name="*", group=Group("Safety", sort_key=70))
@frozen(kw_only=True)
class Ways:
    """What to do about a key that is there, how long to wait, and how the secret is stored."""

    on_change: Annotated[
        OnChange,
        Parameter(help="If the key was made with other options: update it, or refuse."),
    ] = "update"
    verify: Annotated[
        Flag, Parameter(help="Ask the service for the key, too, and see that it exists.")
    ] = False
    recreate: Annotated[
        Flag, Parameter(help="Create another key if --verify, or an update, finds it gone.")
    ] = False
    wait: Wait = None
    quiet_period: QuietPeriod = QUIET_PERIOD
    recipient: Recipient = None
    identity: Annotated[
        File | None,
        Parameter(
            help="A file with the age identity that opens a sealed secret; - for standard input."
        ),
    ] = None

    def __attrs_post_init__(self) -> None:
        check_recipient(self.recipient)


@frozen(kw_only=True)
class Request:
    """What was asked for.

    Attributes:
        spec: the key.
        is_named: whether its name was given; otherwise it is the ref, of a key that is created.
        lasts: whether its expiry was given as a duration, which counts from the create.
        place: the journal.
        ways: how.
        to: where its secret goes.
        out: what is printed.
    """

    spec: KeySpec
    is_named: bool
    lasts: bool
    place: Place
    ways: Ways
    to: Destination
    out: RecordOutput

    @property
    def keeping(self) -> Keeping:
        """Where the secret is kept and goes."""
        return Keeping(journal=self.place, to=self.to, recipient=self.ways.recipient)

    async def spec_in(self, journal: Journal) -> KeySpec:
        """Return the key that is asked for; one that is there keeps what was not given."""
        if self.is_named and not self.lasts:
            return self.spec
        return self._spec(await journal.find(self.spec.ref))

    def _spec(self, entry: Entry | None) -> KeySpec:
        if entry is None or entry.state not in _MADE:
            return self.spec
        spec, name, at = self.spec, entry.plan.get("name"), entry.plan.get("expires_at")
        if self.lasts:
            spec = evolve(spec, expires_at=parse_datetime(at) if isinstance(at, str) else None)
        return spec if self.is_named or not isinstance(name, str) else evolve(spec, name=name)

    async def plan(self) -> tuple[str, bool]:
        """Return in words what would be done, and whether a key would be created."""
        entry = None
        if is_begun(self.place.given):
            async with reading(self.place) as journal:
                entry = await journal.find(self.spec.ref)
        if entry is None:
            return "would create the key", True
        if entry.state not in _MADE:
            return _PLANS[entry.state], True
        differs = changed(json.dumps(dict(entry.plan)), self._spec(entry).plan)
        if not differs:
            return f"the key {entry.hash} is there, as asked for", False
        does = "update" if self.ways.on_change == "update" else "refuse to update"
        return f"would {does} the key {entry.hash}: {', '.join(differs)}", False
