"""The service's time of day, told by the `Date` of its answers. No waiting."""

import time
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

from openrouter_keys.retries import read_date

#: Seconds by which the clocks inside the service may differ from its `Date`, which has whole ones.
MARGIN = 5.0
_HALF = timedelta(seconds=0.5)


class ServiceClock:
    """Tells the service's time, as far as its answers told it; until then, this machine's.

    Somebody who sets this machine's clock does not change it.

    Args:
        now: this machine's time of day, in UTC.
        monotonic: seconds that never go back.
    """

    def __init__(
        self, now: Callable[[], datetime], monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._now = now
        self._monotonic = monotonic
        self._known = now(), monotonic()

    def now(self) -> datetime:
        """Return the service's time, in UTC."""
        told, at = self._known
        return told + timedelta(seconds=self._monotonic() - at)

    def translated(self, time: datetime) -> datetime:
        """Return a time of this machine's clock by the service's."""
        return time + (self.now() - self._now())

    def observe(self, headers: Mapping[str, str]) -> None:
        """Learn from an answer that has just come."""
        date = read_date(headers.get("Date"))
        if date is not None:
            self._known = date + _HALF, self._monotonic()
