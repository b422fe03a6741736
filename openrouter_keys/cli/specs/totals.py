"""How many keys specs ask for, and how much these may spend in all. No I/O."""

from decimal import Decimal
from typing import Final

from attrs import Factory, define

from openrouter_keys.cli.terminal.messages import keys
from openrouter_keys.journal.specs import KeySpec, exact

#: Of a limit that never resets.
ONCE: Final = "once"
#: How a period is said of an amount.
PERIODS: Final = {"daily": "a day", "weekly": "a week", "monthly": "a month", ONCE: "once"}


@define
class Totals:
    """Adds up what specs ask for.

    Attributes:
        count: how many keys.
        limits: US dollars by when they reset: `daily`, `weekly`, `monthly` or `once`.
        without_limit: how many keys may spend any amount.
        disabled: how many keys are to be disabled.
    """

    count: int = 0
    limits: dict[str, Decimal] = Factory(dict[str, Decimal])
    without_limit: int = 0
    disabled: int = 0

    def add(self, spec: KeySpec) -> None:
        """Count a spec."""
        self.count += 1
        self.disabled += spec.disabled
        if isinstance(spec.limit, int | float):
            reset = spec.limit_reset if isinstance(spec.limit_reset, str) else ONCE
            self.limits[reset] = self.limits.get(reset, Decimal(0)) + exact(spec.limit)
        else:
            self.without_limit += 1

    @property
    def total(self) -> Decimal:
        """All limits together, in US dollars, whenever they reset."""
        return sum(self.limits.values(), Decimal(0))

    def __str__(self) -> str:
        amounts = [
            f"{dollars(self.limits[reset])} {period}"
            for reset, period in PERIODS.items()
            if reset in self.limits
        ]
        parts = [f"limits of {' + '.join(amounts)}"] if amounts else []
        if self.without_limit:
            parts.append(f"{self.without_limit:,} WITHOUT A LIMIT")
        return f"{keys(self.count)}{': ' if parts else ''}{', '.join(parts)}"


def dollars(amount: Decimal) -> str:
    """Return an amount in words: `$1,000.00`; no part of a cent is left out."""
    return f"${amount:,.2f}" if amount == round(amount, 2) else f"${amount:,}"
