"""A token bucket and what a request that finds it empty is told. No I/O."""

import math
from datetime import datetime, timedelta
from typing import Literal, TypeAlias, get_args

from attrs import Factory, define, field, validators

from openrouter_keys.emulator.bounds import integer, number
from openrouter_keys.emulator.times import http_form

RetryAfter: TypeAlias = Literal["none", "seconds", "date", "ms"]


@define(eq=False)
class RateLimit:
    """A limit on requests.

    Args:
        rate: how many a second in the long run, by the account's clock.
        burst: how many at once.
        retry_after: how a 429 says when to come back: not at all, ``Retry-After`` in seconds or as
            a date, or ``retry-after-ms``.
    """

    rate: float = field(validator=[number(0), validators.gt(0)])
    burst: int = field(validator=integer(1))
    retry_after: RetryAfter = field(
        default="seconds", validator=validators.in_(get_args(RetryAfter))
    )
    _tokens: float = field(init=False, default=Factory(lambda self: self.burst, takes_self=True))
    _filled_at: datetime | None = field(init=False, default=None)

    def wait(self, now: datetime) -> float:
        """Take a token and return 0, or return the seconds until there is one."""
        passed = (now - (self._filled_at or now)).total_seconds()
        self._tokens = min(self.burst, self._tokens + max(passed, 0) * self.rate)
        self._filled_at = now
        if self._tokens < 1:
            return (1 - self._tokens) / self.rate
        self._tokens -= 1
        return 0

    def headers(self, wait: float, now: datetime) -> dict[str, str]:
        """The headers of a 429."""
        there = now + timedelta(seconds=wait)
        return {
            "X-RateLimit-Limit": str(self.burst),
            "X-RateLimit-Remaining": "0",
            "X-RateLimit-Reset": str(math.ceil(there.timestamp() * 1000)),
            **self._advice(wait, there),
        }

    def _advice(self, wait: float, there: datetime) -> dict[str, str]:
        # A date has whole seconds: rounded up, as the number is.
        date = there + timedelta(microseconds=999_999)
        return {
            "none": {},
            "seconds": {"Retry-After": str(math.ceil(wait))},
            "date": {"Retry-After": http_form(date)},
            "ms": {"retry-after-ms": str(math.ceil(wait * 1000))},
        }[self.retry_after]
