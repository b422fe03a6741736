"""The service's calendar, and its forms of a time. Pure."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Final

from attrs import frozen

PERIODS: Final = ("daily", "weekly", "monthly")


def utc_now() -> datetime:
    """Return the current time."""
    return datetime.now(UTC)


@frozen
class Ahead:
    """A clock that is ahead of another one."""

    clock: Callable[[], datetime]
    by: timedelta

    def __call__(self) -> datetime:
        """Return its time."""
        return self.clock() + self.by


def period_start(period: str, now: datetime) -> datetime:
    """Return the midnight UTC at which the current period began; weeks begin on Monday."""
    midnight = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    if period == "monthly":
        return midnight.replace(day=1)
    return midnight - timedelta(days=midnight.weekday() if period == "weekly" else 0)


def period_end(period: str, now: datetime) -> datetime:
    """Return the midnight UTC at which the next period begins."""
    # This many days after its start, every period has ended.
    longest = {"daily": 1, "weekly": 7, "monthly": 31}[period]
    return period_start(period, period_start(period, now) + timedelta(days=longest))


def offset_form(moment: datetime | None) -> str | None:
    """Return a text such as ``2025-02-19T20:52:27.363244+00:00``."""
    return None if moment is None else moment.astimezone(UTC).isoformat()


def zulu_form(moment: datetime | None) -> str | None:
    """Return a text such as ``2025-08-24T10:30:00Z``."""
    return None if moment is None else moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def http_form(moment: datetime) -> str:
    """Return a text such as ``Sun, 24 Aug 2025 10:30:00 GMT``."""
    return format_datetime(moment.astimezone(UTC), usegmt=True)
