"""Limits on requests, and the headers of a 429. No I/O."""

import math
from datetime import datetime, timedelta
from typing import Final, Literal, TypeAlias, get_args

from attrs import Factory, define, field, validators

from openrouter_keys.emulator.bounds import integer, number
from openrouter_keys.emulator.times import http_form, period_end, period_start

RetryAfter: TypeAlias = Literal["none", "seconds", "date", "ms"]
Unit: TypeAlias = Literal["seconds", "ms"]
Place: TypeAlias = Literal["metadata", "message"]
HeadersPlace: TypeAlias = Literal["answer", "metadata", "none"]

_NAME: Final = validators.matches_re(r"[\w-]{1,100}")


@define(eq=False)
class RateLimit:
    """A limit on requests.

    Args:
        rate: how many a second in the long run, by the account's clock.
        burst: how many at once.
        retry_after: how a 429 says when to retry: not at all, ``Retry-After`` in seconds or as a
            date, or ``retry-after-ms``.
        name: the limit's name in a 429, such as ``keys-modify-api-rpm-v2``. None: no name.
    """

    rate: float = field(validator=[number(0), validators.gt(0)])
    burst: int = field(validator=integer(1))
    retry_after: RetryAfter = field(
        default="seconds", validator=validators.in_(get_args(RetryAfter))
    )
    name: str | None = field(default=None, validator=validators.optional(_NAME))
    _tokens: float = field(init=False, default=Factory(lambda self: self.burst, takes_self=True))
    _filled_at: datetime | None = field(init=False, default=None)

    def wait(self, now: datetime) -> float:
        """Take a token and return 0, or return the seconds until the next one."""
        passed = (now - (self._filled_at or now)).total_seconds()
        self._tokens = min(self.burst, self._tokens + max(passed, 0) * self.rate)
        self._filled_at = now
        if self._tokens < 1:
            return (1 - self._tokens) / self.rate
        self._tokens -= 1
        return 0

    def headers(self, wait: float, now: datetime) -> dict[str, str]:
        """Return the headers of a 429."""
        there = now + timedelta(seconds=wait)
        return {
            "X-RateLimit-Limit": str(self.burst),
            "X-RateLimit-Remaining": "0",
            "X-RateLimit-Reset": str(math.ceil(there.timestamp() * 1000)),
            **self._advice(wait, there),
        }

    def _advice(self, wait: float, there: datetime) -> dict[str, str]:
        # A date has whole seconds: rounded up, like the number.
        date = there + timedelta(microseconds=999_999)
        return {
            "none": {},
            "seconds": {"Retry-After": str(math.ceil(wait))},
            "date": {"Retry-After": http_form(date)},
            "ms": {"retry-after-ms": str(math.ceil(wait * 1000))},
        }[self.retry_after]


@define(eq=False)
class DailyQuota:
    """A limit on creates, updates and deletes a day, by the account's clock; reads do not count.

    An accepted request counts, whatever its result; a refused one does not.

    Args:
        limit: how many a day, from 00:00 UTC.
        name: the limit's name in a 429.
        named_in: where a 429 has it: in the error's metadata, or in its message.
        headers_in: where the ``X-RateLimit-`` headers are: in the answer's own, in the error's
            metadata, or nowhere.
        unit: of ``X-RateLimit-Reset``.
    """

    limit: int = field(validator=integer(0))
    name: str = field(default="keys-modify-api-rpd-v2", validator=_NAME)
    named_in: Place = field(default="metadata", validator=validators.in_(get_args(Place)))
    headers_in: HeadersPlace = field(
        default="answer", validator=validators.in_(get_args(HeadersPlace))
    )
    unit: Unit = field(default="ms", validator=validators.in_(get_args(Unit)))
    _used: int = field(init=False, default=0)
    _day: datetime | None = field(init=False, default=None)

    def take(self, now: datetime) -> bool:
        """Count a request and return whether it is within today's limit."""
        today = period_start("daily", now)
        if self._day != today:
            self._day, self._used = today, 0
        if self._used >= self.limit:
            return False
        self._used += 1
        return True

    def headers(self, now: datetime) -> dict[str, str]:
        """Return the headers of a 429."""
        reset = int(period_end("daily", now).timestamp())
        return {
            "X-RateLimit-Limit": str(self.limit),
            "X-RateLimit-Remaining": "0",
            "X-RateLimit-Reset": str(reset * 1000 if self.unit == "ms" else reset),
        }
