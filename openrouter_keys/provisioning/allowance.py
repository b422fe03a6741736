"""How much a run may hand out, in US dollars. Pure."""

from decimal import Decimal

from openrouter_keys.errors import AllowanceExceededError
from openrouter_keys.journal.specs import KeySpec


class Allowance:
    """Adds up the limits of the specs that were read, whether or not their keys exist already.

    Args:
        most: US dollars; None: no bound.
    """

    def __init__(self, most: float | None) -> None:
        self._most = None if most is None else _exact(most)
        self._taken = Decimal(0)

    def take(self, spec: KeySpec) -> None:
        """Count a spec's limit.

        Raises:
            AllowanceExceededError: it has none, or goes beyond the bound.
        """
        if self._most is None:
            return
        if not isinstance(spec.limit, int | float):
            raise AllowanceExceededError(spec.ref, "has no limit, and max_total_limit needs one")
        self._taken += _exact(spec.limit)
        if self._taken > self._most:
            problem = f"brings the limits to {self._taken} US dollars, beyond {self._most}"
            raise AllowanceExceededError(spec.ref, problem)


def _exact(amount: float) -> Decimal:
    return Decimal(repr(float(amount)))  # what was written, and not the nearest binary fraction
