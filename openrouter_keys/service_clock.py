"""The service's time of day, told by the `Date` of its answers. No waiting."""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

from openrouter_keys.retries import read_date

#: Seconds by which the clocks inside the service may differ from its `Date`, which has whole ones.
MARGIN = 5.0
_HALF = timedelta(seconds=0.5)


class ServiceClock:
    """Tells the service's time, as far as its answers told it; until then, this machine's.

    Args:
        now: this machine's time of day, in UTC.
    """

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self._ahead = timedelta()

    def now(self) -> datetime:
        """Return the service's time, in UTC."""
        return self._now() + self._ahead

    def translated(self, time: datetime) -> datetime:
        """Return a time of this machine's clock by the service's."""
        return time + self._ahead

    def observe(self, headers: Mapping[str, str]) -> None:
        """Learn from an answer that has just come."""
        date = read_date(headers.get("Date"))
        if date is not None:
            self._ahead = date + _HALF - self._now()
