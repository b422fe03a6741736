"""The plan of `apply`: a line for each change, then the counts and the money."""

from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from typing import Final

from attrs import asdict

from openrouter_keys.applying.report import Action, Change, FieldChange, Limits, Needs, Plan, Value
from openrouter_keys.cli.specs.totals import PERIODS, dollars
from openrouter_keys.cli.terminal.messages import keys
from openrouter_keys.cli.terminal.streams import speaks_unicode
from openrouter_keys.converter import write_time
from openrouter_keys.errors import JSON
from openrouter_keys.journal.specs import exact

#: So many changes people see; programs get all.
SHOWN: Final = 200
_SIGNS: Final[dict[Action, str]] = {
    "create": "+",
    "hand over": "+",
    "update": "~",
    "restore": "~",
    "recreate": "+",
    "replace": "!",
    "prune": "-",
}
_OPTIONS: Final[dict[Needs, str]] = {
    "recreate": "--recreate",
    "replace": "--replace",
    "prune": "--prune disable|delete",
}
# What null means, in the words of a person.
_NOTHING: Final = {"limit": "none", "limit_reset": "never", "expires_at": "never"}
_WIDEST: Final = 32


def plan_lines(plan: Plan) -> Iterator[str]:
    """Return a plan for people."""
    shown = plan.changes[:SHOWN]
    names = [_name(change) for change in shown]
    width = min(max(map(len, names), default=0), _WIDEST)
    for change, name in zip(shown, names, strict=True):
        what = f"{_SIGNS[change.action]} {change.action:<9}"
        yield f"{what} {name:<{width}}  {_about(change)}".rstrip()
    if len(plan.changes) > SHOWN:
        yield f"… and {len(plan.changes) - SHOWN:,} more: see --json"
    if plan.changes:
        yield ""
    yield from _counts(plan)
    yield from _money(plan.before, plan.after)


def to_do(plan: Plan) -> str:
    """Return what a plan does, in words: `create 3 keys, prune 2 keys`."""
    counts = Counter(change.action for change in plan.to_do)
    return ", ".join(f"{action} {keys(counts[action])}" for action in _SIGNS if counts[action])


def second_keys(plan: Plan) -> str:
    """Return how many keys would have the name of another one, in words; empty: none."""
    if not (count := len(plan.namesakes)):
        return ""
    have = "has the name of another key" if count == 1 else "have the names of other keys"
    return f"{keys(count)} to be created {have} of the account"


def plan_record(plan: Plan) -> dict[str, JSON]:
    """Return a plan for programs."""
    return {
        "changes": [_record(change) for change in plan.changes],
        "counts": {
            action: sum(change.action == action for change in plan.to_do) for action in _SIGNS
        },
        "not_done": len(plan.left),
        "new_journal": plan.is_new,
        "namesakes": len(plan.namesakes),
        "excess": None if plan.excess is None else asdict(plan.excess),
        "unchanged": plan.unchanged,
        "pruned": plan.pruned,
        "in_doubt": plan.in_doubt,
        "limits_before": _limits(plan.before),
        "limits_after": _limits(plan.after),
    }


# --- lines ---


def _name(change: Change) -> str:
    return change.ref if change.name == change.ref else f"{change.ref} ({change.name})"


def _about(change: Change) -> str:
    fields = ", ".join(_field(each, new=change.action == "create") for each in change.fields)
    if change.needs is not None:
        why = f"not done without {_OPTIONS[change.needs]}: {change.why}"
    else:
        why = "" if change.why is None else f"not done: {change.why}"
    hand = "(changed by hand)" if change.action == "restore" else ""
    hand = hand or ("(another key has this name)" if change.namesakes else "")
    return "  ".join(part for part in (fields, hand, why) if part)


def _field(change: FieldChange, *, new: bool) -> str:
    after = _text(change.name, change.after)
    arrow = "→" if speaks_unicode() else "->"
    return (
        f"{change.name} {after}"
        if new
        else f"{change.name} {_text(change.name, change.before)} {arrow} {after}"
    )


def _text(name: str, value: Value) -> str:
    if value is None:
        return _NOTHING.get(name, "none")
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return f"{exact(value).normalize():f}"
    return (
        write_time(value)
        if isinstance(value, datetime)
        else repr(value)
        if name == "name"
        else value
    )


def _counts(plan: Plan) -> Iterator[str]:
    work = to_do(plan)
    yield (
        f"{work}; {plan.unchanged:,} unchanged"
        if work
        else f"nothing to do; {plan.unchanged:,} unchanged"
    )
    for needs, option in _OPTIONS.items():
        if count := sum(change.needs == needs for change in plan.left):
            yield f"not done without {option}: {needs} {keys(count)}"
    if count := sum(change.needs is None for change in plan.left):
        yield f"not done: {keys(count)}, for the reasons above"
    if plan.pruned:
        yield f"no row names {keys(plan.pruned)}, disabled already"
    if plan.in_doubt:
        yield f"no row names {keys(plan.in_doubt)} that may exist: a create had no answer"


def _money(before: Limits, after: Limits) -> Iterator[str]:
    arrow = "→" if speaks_unicode() else "->"
    for period, words in PERIODS.items():
        old, new = (each.amounts.get(period, Decimal(0)) for each in (before, after))
        if old or new:
            yield f"limits {words}: {dollars(old)} {arrow} {dollars(new)}"
    if before.unlimited or after.unlimited:
        yield f"keys WITHOUT A LIMIT: {before.unlimited:,} {arrow} {after.unlimited:,}"


# --- records ---


def _record(change: Change) -> JSON:
    return {
        "ref": change.ref,
        "name": change.name,
        "hash": change.hash,
        "action": change.action,
        "fields": [
            {"name": each.name, "before": _json(each.before), "after": _json(each.after)}
            for each in change.fields
        ],
        "why": change.why,
        "needs": change.needs,
        "namesakes": [*change.namesakes],
    }


def _json(value: Value) -> JSON:
    return write_time(value) if isinstance(value, datetime) else value


def _limits(limits: Limits) -> JSON:
    amounts: dict[str, JSON] = {period: float(each) for period, each in limits.amounts.items()}
    return {**amounts, "without_limit": limits.unlimited}
