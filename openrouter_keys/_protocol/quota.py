"""A daily quota: what a 429 says about it, and how long a client remembers that. Pure.

No request is accepted again before the next midnight, UTC, so every retry is waste.
"""

import copy
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Final, cast

from openrouter_keys._protocol.retries import read_date
from openrouter_keys.errors import (
    QuotaExhaustedError,
    ResponseError,
    TooManyRequestsResponseError,
)

#: For how many seconds a refusal is remembered: a quota may be raised during the day.
REMEMBERED: Final = 60.0
#: A reset that is further away is ignored; the clocks may differ by an hour.
_LONGEST: Final = timedelta(hours=25)
#: A `Date` that is further from this machine's clock is ignored.
_PLAUSIBLE: Final = timedelta(days=1)
# A larger epoch is in milliseconds: in seconds, it would be after the year 5000.
_MILLISECONDS: Final = 1e11
_PER_DAY: Final = "rpd"


def exhausted(
    error: ResponseError, headers: Mapping[str, str], now: datetime
) -> QuotaExhaustedError | None:
    """Return the error of a 429 that names a limit per day; None: it is another error.

    Args:
        error: the answer's error.
        headers: the answer's headers.
        now: the time of day by this machine.
    """
    if not isinstance(error, TooManyRequestsResponseError):
        return None
    metadata = error.data.error.metadata or {}
    name = _limit_name(metadata.get("limit_name")) or _limit_name(error.data.error.message)
    if name is None:
        return None
    shown = {**_texts(metadata.get("headers")), **_texts(headers)}
    found = QuotaExhaustedError(error.message)
    found.data, found.body = error.data, error.body
    found.limit_name, found.limit = name, _limit(shown)
    found.resets_at, found.retry_after = _reset(shown, now)
    return found


def _limit_name(text: object) -> str | None:
    """Return the first name in a text with `rpd` as a part between hyphens."""
    words: list[str] = re.findall(r"[\w-]+", text, re.ASCII) if isinstance(text, str) else []
    return next((word for word in words if _PER_DAY in word.lower().split("-")[1:]), None)


def _texts(headers: object) -> dict[str, str]:
    if not isinstance(headers, Mapping):
        return {}
    named = cast("Mapping[str, object]", headers)
    return {name.lower(): str(value) for name, value in named.items()}


def _limit(headers: Mapping[str, str]) -> int | None:
    text = headers.get("x-ratelimit-limit", "")
    return int(text) if re.fullmatch(r"[0-9]{1,12}", text) else None


def _reset(headers: Mapping[str, str], now: datetime) -> tuple[datetime, float]:
    """Return when the quota is full again, and in how many seconds."""
    date = read_date(headers.get("date"))
    resets_at = _epoch(headers.get("x-ratelimit-reset", ""))
    if resets_at is not None:
        for since in (date, now):
            if since is not None and timedelta() < resets_at - since <= _LONGEST:
                return resets_at, (resets_at - since).total_seconds()
    since = date if date is not None and abs(date - now) <= _PLAUSIBLE else now
    midnight = since.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    resets_at = midnight + timedelta(days=1)
    return resets_at, (resets_at - since).total_seconds()


def _epoch(text: str) -> datetime | None:
    try:
        number = float(text)
        return datetime.fromtimestamp(number / 1000 if number > _MILLISECONDS else number, UTC)
    except (ValueError, OverflowError, OSError):
        return None


class SpentQuota:
    """Remembers that a day's quota is used up, so that a client sends no useless request.

    Attributes:
        error: the service's last refusal; None: there is none, or its day is over.
    """

    def __init__(self) -> None:
        self.error: QuotaExhaustedError | None = None
        self._resets = self._asks_again = 0.0

    def learn(self, error: QuotaExhaustedError, now: float) -> None:
        """Remember that the service refused a change just now.

        Args:
            error: the refusal, before it is raised.
            now: seconds that never go back.
        """
        self.error = copy.copy(error)  # without the traceback that the other one will get
        self._resets = now + (error.retry_after or 0)
        self._asks_again = now + REMEMBERED

    def refusal(self, now: float) -> QuotaExhaustedError | None:
        """Return the error for a change that is not sent; None: send it.

        One change a minute is sent: the quota may have been raised.
        """
        if self.error is None or now >= self._resets:
            self.error = None
            return None
        if now >= self._asks_again:
            self._asks_again = now + REMEMBERED
            return None
        error = copy.copy(self.error)
        error.attempts, error.maybe_applied = 0, False
        error.retry_after = self._resets - now
        return error
