"""What keys have spent, alone and together, and how near they are to their limits. No I/O."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final, Literal, TypeAlias

from attrs import field, frozen

from openrouter_keys._base.masking import scrub
from openrouter_keys.cli.terminal.text import Record
from openrouter_keys.models import Key
from openrouter_keys.rotation.replacement import spent

#: What keys spent, by the API's names; of all time, and in the periods that midnight UTC ends.
AMOUNTS: Final = (
    "usage_daily", "usage_weekly", "usage_monthly", "usage",
    "byok_usage_daily", "byok_usage_weekly", "byok_usage_monthly", "byok_usage",
)  # fmt: skip

_ABOUT: Final = (
    "hash", "name", "workspace_id", "state", "limit", "limit_reset", "limit_remaining",
    "limit_spent", "share",
)  # fmt: skip
#: The fields of a spending, as programs get them.
FIELDS: Final = (*_ABOUT, *AMOUNTS)

#: `near`, `reached`: a working key's limit is nearly spent, or spent.
State: TypeAlias = Literal["active", "near", "reached", "disabled", "expired"]
Sort: TypeAlias = Literal["spent", "today", "week", "month", "share", "name"]


@frozen(kw_only=True)
class Spending:
    """What a key has spent.

    Attributes:
        hash: the key's hash.
        name: its name.
        workspace_id: its workspace; None: unknown.
        limit: its limit in US dollars; None: it has none.
        limit_reset: when the limit's period ends; None: never.
        limit_remaining: what is left of it; None: it has none.
        limit_spent: what of it is spent, in this period; None: it has none.
        share: that as a part of it, 1: all of it; None: it has none.
        state: how it stands.
        amounts: each of `AMOUNTS`, in US dollars.
    """

    hash: str
    name: str
    workspace_id: str | None
    limit: float | None
    limit_reset: str | None
    limit_remaining: float | None
    limit_spent: float | None
    share: float | None
    state: State
    amounts: Mapping[str, float] = field(repr=False)

    @property
    def alarming(self) -> bool:
        """Whether its limit is nearly spent, or spent."""
        return self.state in ("near", "reached")

    def record(self) -> Record:
        """Return it for programs: each of `FIELDS`."""
        return {**{name: getattr(self, name) for name in _ABOUT}, **self.amounts}


@frozen(kw_only=True)
class Spendings:
    """What is shown of many keys.

    Attributes:
        shown: in their order.
        others: those that are not shown, and count all the same.
        sort: what they are ordered by.
        near: the share of a limit from which on it is near.
        made_at: when this was asked for.
        scope: which keys these are, in words; empty: all that work.
    """

    shown: Sequence[Spending]
    others: Sequence[Spending]
    sort: Sort
    near: float
    made_at: datetime
    scope: str = ""

    @property
    def every(self) -> Sequence[Spending]:
        """Those that are shown, and the others."""
        return [*self.shown, *self.others]

    @property
    def alarming(self) -> Sequence[Spending]:
        """Those whose limit is nearly spent, or spent."""
        return [each for each in self.every if each.alarming]

    def total(self) -> Record:
        """Return the totals for programs."""
        states = [each.state for each in self.alarming]
        counts = {"near": states.count("near"), "reached": states.count("reached")}
        return {"keys": len(self.every), **counts, **sums(self.every)}


def spending(key: Key, near: float, now: datetime) -> Spending:
    """Return what a key has spent.

    Args:
        key: its record.
        near: the share of its limit from which on it is near.
        now: the time of day.
    """
    used = _limit_spent(key)
    share = None if key.limit is None or used is None else used / key.limit if key.limit else 1.0
    return Spending(
        hash=key.hash,
        name=scrub(key.name),
        workspace_id=key.workspace_id,
        limit=key.limit,
        limit_reset=key.limit_reset,
        limit_remaining=key.limit_remaining,
        limit_spent=used,
        share=share,
        state=_state(key, share, near, now),
        amounts={name: getattr(key, name) for name in AMOUNTS},
    )


def _limit_spent(key: Key) -> float | None:
    if key.limit is None:
        return None
    counted, left = spent(key), key.limit_remaining
    if left is None:
        return counted
    # Rounded: what is left of 0.3 after 0.1 is no number that people would write.
    spent_of_limit = max(round(key.limit - left, 9), 0.0)
    # Nothing is left: only the amounts show by how much a limit was passed.
    return max(spent_of_limit, counted) if left <= 0 else spent_of_limit


def _state(key: Key, share: float | None, near: float, now: datetime) -> State:
    if key.disabled:
        return "disabled"
    if isinstance(key.expires_at, datetime) and key.expires_at <= now:
        return "expired"
    if share is None or share < min(near, 1):
        return "active"
    return "reached" if share >= 1 else "near"


def sums(spendings: Iterable[Spending]) -> Mapping[str, float]:
    """Return what keys spent together: each of `AMOUNTS`."""
    every = [*spendings]
    return {name: math.fsum(each.amounts[name] for each in every) for name in AMOUNTS}


def ordered(spendings: Iterable[Spending], by: Sort) -> list[Spending]:
    """Return them in an order: the largest first, names as in a dictionary."""
    named = sorted(spendings, key=lambda each: (each.name.casefold(), each.name, each.hash))
    return named if by == "name" else sorted(named, key=_SIZES[by], reverse=True)


def _by(amount: str) -> Callable[[Spending], float]:
    return lambda each: each.amounts[amount]


def _share(each: Spending) -> float:
    return -1.0 if each.share is None else each.share


_SIZES: Final[Mapping[Sort, Callable[[Spending], float]]] = {
    "spent": _by("usage"),
    "today": _by("usage_daily"),
    "week": _by("usage_weekly"),
    "month": _by("usage_monthly"),
    "share": _share,
}
