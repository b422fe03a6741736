"""How many keys are asked for, and how much they may spend in all. No file, no network."""

from decimal import Decimal
from typing import Final

from attrs import Factory, define

from openrouter_keys.provisioning.specs import KeySpec

#: Of a limit that never resets.
ONCE: Final = "once"
_PERIODS: Final = {"daily": "a day", "weekly": "a week", "monthly": "a month", ONCE: "once"}


@define
class Sums:
    """Adds up what specs ask for.

    Attributes:
        count: how many keys.
        limits: US dollars by when they reset: `daily`, `weekly`, `monthly` or `once`.
        without_limit: how many keys may spend any amount.
    """

    count: int = 0
    limits: dict[str, Decimal] = Factory(dict[str, Decimal])
    without_limit: int = 0

    def add(self, spec: KeySpec) -> None:
        """Count a spec."""
        self.count += 1
        if isinstance(spec.limit, int | float):
            reset = spec.limit_reset if isinstance(spec.limit_reset, str) else ONCE
            # What was written, and not the nearest binary fraction.
            amount = Decimal(repr(float(spec.limit)))
            self.limits[reset] = self.limits.get(reset, Decimal(0)) + amount
        else:
            self.without_limit += 1

    def __str__(self) -> str:
        amounts = [
            f"${self.limits[reset]:,.2f} {told}"
            for reset, told in _PERIODS.items()
            if reset in self.limits
        ]
        told = [f"limits of {' + '.join(amounts)}"] if amounts else []
        if self.without_limit:
            told.append(f"{self.without_limit:,} WITHOUT A LIMIT")
        return f"{keys(self.count)}{': ' if told else ''}{', '.join(told)}"


def keys(count: int) -> str:
    """Return how many keys in words: `1 key`, `1,000 keys`."""
    return f"{count:,} key{'' if count == 1 else 's'}"
