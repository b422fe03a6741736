"""Whether a request may be sent again, and after how long. Pure: no clock, no sleep, no I/O."""

import enum
import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from openrouter_keys._inputs.retry_config import RetryConfig

#: The longest `Retry-After` to wait for, in seconds; a longer one raises the error at once.
RETRY_AFTER_CAP = 120.0
#: With fewer seconds left, a create is not sent again: the deadline might make its outcome unknown.
CREATE_MARGIN = 1.0
#: As many attempts as the deadline allows.
UNTIL_DEADLINE = 2**31


class Effect(enum.Enum):
    """What an operation does to the account: the columns of the matrix."""

    READ = 0
    CREATE = 1
    UPDATE = 2
    DELETE = 3


class Outcome(enum.Enum):
    """The outcome of one attempt: the rows of the matrix."""

    DONE = "the service did it"
    NOT_SENT = "no byte was sent"
    CANNOT_SEND = "no byte was sent, and trying again will not help"
    NO_ANSWER = "sent, and no answer came"
    UNREADABLE = "done, and the answer is cut short or no JSON"
    REJECTED = "the service refused it"
    UNAUTHORIZED = "the service refused the key"
    RATE_LIMITED = "the service asks to slow down"
    QUOTA_EXHAUSTED = "the service's daily quota is used up"
    FAILED = "the service failed, maybe after it was applied"
    OVERLOADED = "the service is overloaded, maybe after it was applied"
    NOT_REACHED = "the edge could not reach the service"
    UNCLEAR = "an answer that does not say whether it was applied"


#: After these the service may have carried the request out.
MAYBE_APPLIED = frozenset({Outcome.NO_ANSWER, Outcome.FAILED, Outcome.OVERLOADED, Outcome.UNCLEAR})
#: These pause every request of the client until `Retry-After` is over.
PAUSES_ALL = frozenset({Outcome.RATE_LIMITED, Outcome.OVERLOADED})
_CONNECTION = frozenset({Outcome.NOT_SENT, Outcome.NO_ANSWER})

# How many attempts a call may make in all, by what happened and (READ, CREATE, UPDATE, DELETE).
# A create is never sent again once it may have been applied: it has no idempotency key, so it might
# make a second key.
_ATTEMPTS: Mapping[Outcome, tuple[int, int, int, int]] = {
    Outcome.NOT_SENT: (3, 3, 3, 3),
    Outcome.CANNOT_SEND: (1, 1, 1, 1),
    Outcome.NO_ANSWER: (3, 1, 2, 3),
    Outcome.UNREADABLE: (3, 1, 1, 1),
    Outcome.REJECTED: (1, 1, 1, 1),
    Outcome.UNAUTHORIZED: (1, 1, 1, 1),
    Outcome.RATE_LIMITED: (UNTIL_DEADLINE, UNTIL_DEADLINE, UNTIL_DEADLINE, UNTIL_DEADLINE),
    Outcome.QUOTA_EXHAUSTED: (1, 1, 1, 1),
    Outcome.FAILED: (3, 1, 2, 3),
    Outcome.OVERLOADED: (3, 1, 2, 3),
    Outcome.NOT_REACHED: (3, 3, 3, 3),
    Outcome.UNCLEAR: (1, 1, 1, 1),
}

_BY_STATUS: Mapping[int, Outcome] = {
    401: Outcome.UNAUTHORIZED,
    408: Outcome.FAILED,
    429: Outcome.RATE_LIMITED,
    503: Outcome.OVERLOADED,
    # The edge answers these before a request gets to the service:
    # https://developers.cloudflare.com/support/troubleshooting/http-status-codes/cloudflare-5xx-errors/
    **dict.fromkeys((521, 523, 525, 526, 530), Outcome.NOT_REACHED),
}

# With these, the request was not applied (https://www.rfc-editor.org/rfc/rfc9110#section-15.5,
# https://www.iana.org/assignments/http-status-codes). All others are unclear: a redirect may follow
# an applied create, 425 and 499 come from intermediaries, and undefined statuses mean nothing.
_REFUSALS = frozenset({*range(400, 419), *range(421, 425), 426, 428, 431, 451} - {408})


def outcome_of(status: int) -> Outcome:
    """Return the outcome that an answer's HTTP status means."""
    if 200 <= status < 300:
        return Outcome.DONE
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    if status >= 500:
        return Outcome.FAILED
    return Outcome.REJECTED if status in _REFUSALS else Outcome.UNCLEAR


def attempts_allowed(what: Outcome, effect: Effect, config: RetryConfig) -> int:
    """Return how many attempts a call may make in all, after this outcome."""
    if config.strategy == "none":
        return 1
    if what in _CONNECTION and not config.retry_connection_errors:
        return 1
    return _ATTEMPTS[what][effect.value]


def decide(
    what: Outcome,
    effect: Effect,
    config: RetryConfig,
    *,
    attempt: int,
    elapsed: float,
    deadline: float,
    retry_after: float | None,
    chance: float,
) -> float | None:
    """Return the seconds to wait before the next attempt; None: there is none.

    Args:
        what: the outcome of the attempt.
        effect: what the operation does to the account.
        config: the caller's.
        attempt: the number of the attempt, from 1.
        elapsed: seconds since the call began.
        deadline: seconds after its beginning at which the call ends.
        retry_after: the seconds that the service asked to wait; None: it did not ask.
        chance: a random number from 0 to 1.
    """
    if attempt >= attempts_allowed(what, effect, config):
        return None
    # The backoff also holds after `Retry-After: 0`.
    wait = max(config.backoff.wait(attempt, chance), retry_after or 0)
    ends = min(deadline, config.backoff.max_elapsed_time / 1000)
    # Checked before the sleep, so that no caller waits for an attempt that cannot be made.
    margin = CREATE_MARGIN if effect is Effect.CREATE else 0
    return wait if wait <= RETRY_AFTER_CAP and elapsed + wait + margin < ends else None


def read_retry_after(headers: Mapping[str, str], now: Callable[[], datetime]) -> float | None:
    """Return the seconds that an answer asks to wait; None: it has no usable value.

    `retry-after-ms` goes first, as in the official SDK; then `Retry-After`, a number of seconds or
    an HTTP date (https://www.rfc-editor.org/rfc/rfc9110#name-retry-after).

    Args:
        headers: the answer's headers.
        now: returns the time, to compare a date with if the answer has no `Date`.
    """
    millis = _seconds(headers.get("retry-after-ms"))
    if millis is not None:
        return millis / 1000
    text = headers.get("Retry-After")
    seconds = _seconds(text)
    if seconds is not None or text is None:
        return seconds
    until = read_date(text)
    return None if until is None else _between(read_date(headers.get("Date")) or now(), until)


def _between(since: datetime, until: datetime) -> float | None:
    seconds = (until - since).total_seconds()
    return seconds if seconds >= 0 else None


def _seconds(text: str | None) -> float | None:
    try:
        seconds = float(text) if text is not None else -1.0
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) and seconds >= 0 else None


def read_date(text: str | None) -> datetime | None:
    """Return the time in a header; None: it has none.

    Args:
        text: an HTTP date (https://www.rfc-editor.org/rfc/rfc9110#name-date-time-formats).
    """
    try:
        date = parsedate_to_datetime(text) if text is not None else None
    except (ValueError, OverflowError):
        return None
    # A date with zone "-0000" comes out naive; HTTP dates are always in UTC.
    return date.replace(tzinfo=UTC) if date is not None and date.tzinfo is None else date


class RetryQuota:
    """A budget of tokens for a client's retries, so that they cannot amplify an outage.

    The rule is that of the AWS SDKs
    (https://docs.aws.amazon.com/sdkref/latest/guide/feature-retry-behavior.html): each retry costs
    5 of 500 tokens, each success gives one back.
    """

    capacity = 500
    cost = 5

    def __init__(self) -> None:
        self.tokens = self.capacity

    def take(self) -> bool:
        """Take the tokens of one retry; False: too few are left."""
        if self.tokens < self.cost:
            return False
        self.tokens -= self.cost
        return True

    def refund(self) -> None:
        """Return a token after a success."""
        if self.tokens < self.capacity:
            self.tokens += 1
