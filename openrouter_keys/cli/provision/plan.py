"""What a run would do with each spec, by its journal and without asking the service."""

from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from itertools import islice
from typing import Final

from attrs import Factory, define, frozen

from openrouter_keys.cli.options.journal import Place
from openrouter_keys.cli.specs.totals import Totals
from openrouter_keys.cli.terminal.messages import keys
from openrouter_keys.errors import JSON, PlanChangedError
from openrouter_keys.journal.entries import CHUNK
from openrouter_keys.journal.journal import Journal
from openrouter_keys.journal.schema import State
from openrouter_keys.journal.specs import KeySpec

_CREATE: Final = "create"
_HAND_OVER: Final = "hand over"
_DONE: Final = "done before"
_REFUSED: Final = "changed"
_REPORT: Final = "report"
_MAKE_ANEW: Final = "delete, then create"
# The smallest daily quota that was seen is 1,000: a few changes need no warning.
_MANY: Final = 100
# What a run does with a key, by what its journal knows of it.
_ACTIONS: Final[Mapping[State | None, str]] = {
    None: _CREATE,
    State.INTENT: "settle the doubt",
    State.DOUBT: "settle the doubt",
    State.MADE: _HAND_OVER,
    State.SETTLED: _DONE,
    State.FAILED: "try again",
}


@frozen
class Step:
    """What a run does with one spec.

    Attributes:
        spec: what is asked for.
        action: what is done.
        changed: the fields in which it is not what the journal knows.
    """

    spec: KeySpec
    action: str
    changed: tuple[str, ...] = ()


@define
class Plan:
    """What a run does in all.

    Attributes:
        actions: how often each action is taken.
        new: what the keys ask for that are not made yet.
        first_changed: a step that would stop the run; None: there is none.
    """

    actions: Counter[str] = Factory(Counter[str])
    new: Totals = Factory(Totals)
    first_changed: Step | None = None

    def add(self, step: Step) -> None:
        """Count a step."""
        self.actions[step.action] += 1
        if step.action not in (_DONE, _HAND_OVER, _REFUSED, _REPORT):
            self.new.add(step.spec)
        if step.changed and self.first_changed is None:
            self.first_changed = step

    @property
    def changes(self) -> int:
        """How many requests that a daily quota counts are needed at most: creates, and deletes."""
        return self.new.count + self.actions[_ACTIONS[State.DOUBT]] + self.actions[_MAKE_ANEW]

    def summary(self) -> dict[str, JSON]:
        """Return it for programs."""
        return {
            "create": self.new.count,
            "changes": self.changes,
            "limits": {reset: float(amount) for reset, amount in self.new.limits.items()},
            "without_limit": self.new.without_limit,
            "actions": {**self.actions},
        }

    def lines(self) -> list[str]:
        """Return it for people."""
        others = {**self.actions}
        others.pop(_CREATE, None)
        lines = [f"would create {self.new}"]
        if self.changes > self.new.count or self.changes >= _MANY:
            lines.append(f"needs up to {self.changes:,} changes of the service's daily quota")
        if others:
            lines.append(", ".join(f"{action}: {count:,}" for action, count in others.items()))
        if (step := self.first_changed) is not None:
            fields = ", ".join(step.changed)
            lines.append(
                f"{keys(self.actions[_REFUSED])} changed since the journal began, first "
                f"{step.spec.ref!r} ({fields}): a run would stop there; `apply` changes them"
            )
        return lines


async def planned(specs: Iterable[KeySpec], journal: Place | None) -> Plan:
    """Return what a run does in all; see `steps`."""
    plan = Plan()
    async for step in steps(specs, journal):
        plan.add(step)
    return plan


async def steps(specs: Iterable[KeySpec], journal: Place | None) -> AsyncIterator[Step]:
    """Go through what a run does; nothing is sent.

    Args:
        specs: what is to be made.
        journal: where it is; None: it is not there yet.

    Raises:
        JournalError: the journal is there and cannot be read.
    """
    async with AsyncExitStack() as stack:
        known: Journal | None = None
        if journal is not None:
            known = await stack.enter_async_context(Journal.read(journal.given))
        iterator = iter(specs)
        while batch := list(islice(iterator, CHUNK)):
            for step in await _looked_up(known, batch):
                yield step


async def _looked_up(known: Journal | None, specs: Sequence[KeySpec]) -> list[Step]:
    if known is None:
        return [Step(spec, _CREATE) for spec in specs]
    try:
        states = await known.states(specs)
    except PlanChangedError as error:
        if len(specs) == 1:
            return [Step(specs[0], _REFUSED, error.changed)]
        return [step for spec in specs for step in await _looked_up(known, [spec])]
    return [
        Step(spec, await _action(known, spec.ref, state))
        for spec, state in zip(specs, states, strict=True)
    ]


async def _action(known: Journal, ref: str, state: State | None) -> str:
    """Return what a run does; of a key that was made, that depends on what is left of it."""
    if state not in (State.MADE, State.FAILED):
        return _ACTIONS[state]
    entry = await known.find(ref)
    if entry is None or entry.hash is None:
        return _ACTIONS[State.FAILED]
    if state is State.FAILED:
        return _REPORT  # it is not as it was asked for
    if entry.secret is not None:
        return _HAND_OVER
    return _MAKE_ANEW if entry.sealed is None and entry.proven else _REPORT
