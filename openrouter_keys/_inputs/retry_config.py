"""How a client retries, as a caller sets it. `_protocol/retries.py` decides what is retried."""

import math
from typing import Literal

from attrs import field, frozen

from openrouter_keys._inputs import checks
from openrouter_keys._inputs.arguments import hides_fields


@hides_fields
@frozen
class BackoffStrategy:
    """How long to wait between attempts, in milliseconds.

    Args:
        initial_interval: the longest wait after the first attempt.
        max_interval: the longest wait of all.
        exponent: by how much the longest wait grows with each attempt.
        max_elapsed_time: no attempt begins later than this after the call began; the call's
            `timeout_ms` ends it sooner if it is shorter.
        jitter_ms: None: each wait is drawn between 0 and the longest (full jitter, see
            https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/); a number:
            the longest wait plus up to so many milliseconds.
    """

    initial_interval: float = field(default=500, validator=checks.at_least(0))
    max_interval: float = field(default=8_000, validator=checks.at_least(0))
    exponent: float = field(default=2.0, validator=checks.at_least(1))
    max_elapsed_time: float = field(default=3_600_000, validator=checks.at_least(0))
    jitter_ms: float | None = field(default=None, validator=checks.given(checks.at_least(0)))

    def wait(self, attempt: int, chance: float) -> float:
        """Return the seconds to wait after this attempt.

        Args:
            attempt: the number of the attempt that failed, from 1.
            chance: a random number from 0 to 1.
        """
        try:
            grown = self.initial_interval * self.exponent ** (attempt - 1)
        except OverflowError:
            grown = math.inf
        longest = min(self.max_interval, grown)
        if self.jitter_ms is None:
            return longest * chance / 1000
        return (longest + self.jitter_ms * chance) / 1000


@hides_fields
@frozen
class RetryConfig:
    """How a client retries. It never retries a create that may have been applied.

    Args:
        strategy: `"backoff"`; or `"none"`: every failure is raised at once, a 429 too.
        backoff: the waits.
        retry_connection_errors: False: lost or refused connections are raised at once; only
            answers of the service are retried.
    """

    strategy: Literal["backoff", "none"] = field(default="backoff")
    backoff: BackoffStrategy = field(factory=BackoffStrategy)
    retry_connection_errors: bool = field(default=True, validator=checks.flag)

    def __attrs_post_init__(self) -> None:
        if self.strategy not in ("backoff", "none"):
            checks.refuse("strategy", 'must be "backoff" or "none"')
        if not isinstance(self.backoff, BackoffStrategy):
            checks.refuse(
                "backoff", f"must be a BackoffStrategy, not {type(self.backoff).__name__}"
            )
