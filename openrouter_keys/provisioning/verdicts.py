"""What the error of a create means for a run. Pure."""

import enum

from openrouter_keys._protocol.retries import RETRY_AFTER_CAP, Outcome, outcome_of
from openrouter_keys.errors import (
    NoResponseError,
    OpenRouterError,
    QuotaExhaustedError,
    ResponseError,
    TooManyRequestsResponseError,
)


class Verdict(enum.Enum):
    """What follows on an error."""

    AGAIN = "not processed, and the service asks to slow down: send it again"
    LATER = "not sent, or not processed: send it again in another round"
    DOUBT = "a key may have been made: reconcile before anything is sent"
    FAILED = "refused for what it asks: go on with the others"
    STOP = "refused for this management key, or nothing can be sent: stop"


# Payment and permission: the next create would meet the same.
_STOPS = (401, 402, 403)


def verdict(error: OpenRouterError) -> Verdict:
    """Return what follows on the error of a create that was sent once."""
    if error.maybe_applied:
        return Verdict.DOUBT
    if isinstance(error, QuotaExhaustedError):
        return Verdict.STOP
    if isinstance(error, TooManyRequestsResponseError):
        too_long = (error.retry_after or 0) > RETRY_AFTER_CAP
        return Verdict.STOP if too_long else Verdict.AGAIN
    if isinstance(error, NoResponseError):
        return Verdict.LATER
    if isinstance(error, ResponseError) and error.status_code is not None:
        return _of_status(error.status_code)
    return Verdict.STOP


def _of_status(status: int) -> Verdict:
    if outcome_of(status) is Outcome.NOT_REACHED:
        return Verdict.LATER
    return Verdict.STOP if status in _STOPS else Verdict.FAILED
