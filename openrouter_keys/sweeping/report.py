"""What `sweep` returns: each key that it found, what proves it unused, and what became of it."""

from datetime import datetime
from typing import Literal, TypeAlias

from attrs import field, frozen

from openrouter_keys._base.masking import escaped
from openrouter_keys.errors import OpenRouterError
from openrouter_keys.models import Key

SweepAction: TypeAlias = Literal["disable", "delete"]
SweepOutcome: TypeAlias = Literal["found", "disabled", "deleted", "kept"]


def _escaped(text: str | None) -> str | None:
    return None if text is None else escaped(text)


@frozen(kw_only=True)
class SweptKey:
    """A key that no journal knows.

    Attributes:
        data: its record, as the service showed it last.
        outcome: `found`: nothing was done with it. `disabled`, `deleted`: it is. `kept`: it was to
            be, and is not.
        problem: why it was kept, or is not found to be swept; None: nothing speaks against it.
    """

    data: Key
    outcome: SweepOutcome = "found"
    problem: str | None = field(default=None, converter=_escaped)

    @property
    def unused(self) -> bool:
        """Whether the service shows no use of it."""
        return is_unused(self.data)

    @property
    def proof(self) -> str:
        """What the service shows of its use, in words."""
        key = self.data
        spent = f"spent ${key.usage:,.2f}"
        if key.byok_usage:
            spent += f" and ${key.byok_usage:,.2f} at own providers"
        shows = isinstance(key.last_used_at, datetime)
        used = f"last used {_day(key.last_used_at)}" if shows else "never used"
        if not (shows or key.last_used_at is None):
            used = "last use not shown"
        changed = f", changed {_day(key.updated_at)}" if key.updated_at else ""
        return f"{spent}, {used}, made {_day(key.created_at)}{changed}"


@frozen(kw_only=True)
class SweepReport:
    """What a sweep found, and what it did.

    Attributes:
        keys: the keys that no journal knows and that were asked for, newest first, each with what
            became of it.
        in_doubt: keys that no journal has by their hash, but that a create without an answer, or
            one under way, may have made, by their names, or that may be the management key itself:
            nothing is done with them.
        known: how many keys the journals know.
        others: how many keys no journal knows that were not asked for.
        stopped: what ended it early: the daily quota, say; the same call goes on. None: nothing.
    """

    keys: tuple[SweptKey, ...]
    in_doubt: tuple[SweptKey, ...]
    known: int
    others: int
    stopped: OpenRouterError | None = None

    def count(self, outcome: SweepOutcome) -> int:
        """Return how many keys have an outcome."""
        return sum(key.outcome == outcome for key in self.keys)

    @property
    def ok(self) -> bool:
        """Whether all was done that was asked for."""
        return self.stopped is None and not self.count("kept")


def is_unused(key: Key) -> bool:
    """Whether a record shows no use of its key."""
    return not (key.usage or key.byok_usage or isinstance(key.last_used_at, datetime))


def _day(time: object) -> str:
    return f"{time:%Y-%m-%d}" if isinstance(time, datetime) else "at an unknown time"
