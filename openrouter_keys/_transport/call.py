"""The state of one call. No I/O."""

from typing import Any, Generic, TypeVar, cast

from attrs import define, field, frozen

from openrouter_keys._base.clock import Moment
from openrouter_keys._base.masking import scrub
from openrouter_keys._base.pickling import NeverPickled
from openrouter_keys._inputs.options import CallOptions
from openrouter_keys._protocol.answers import Answer
from openrouter_keys._protocol.retries import Outcome
from openrouter_keys._transport.wire import SendTracker
from openrouter_keys.errors import CreateOutcomeUnknownError, OpenRouterError, SecretLostError
from openrouter_keys.events import Event, EventKind, EventOutcome
from openrouter_keys.operations import Operation

E = TypeVar("E", bound=OpenRouterError)
R = TypeVar("R")


@frozen
class Failure:
    """A failed attempt: its outcome, and the error to raise unless a later attempt succeeds."""

    what: Outcome
    error: OpenRouterError


@define(eq=False)
class Call(NeverPickled, Generic[R]):
    """One call, from its first attempt to its end.

    Attributes:
        operation: the request, and what its answers mean.
        options: the caller's options.
        started: when its first attempt began, by the monotonic clock.
        sent: when the first attempt that may have made the key was sent; None: none was.
        attempt: how many attempts began.
        began: when the last of them did, by the monotonic clock.
        status: the HTTP status of the last one's answer. None: it had none.
        has_begun: whether its telemetry has.
        is_observed: whether the last one is observed.
        rate_limited: how many of them were answered with 429.
        maybe_applied: whether the service may have applied the request.
        abandoned: whether its caller was cancelled: then it makes no further attempt.
        is_cleanup: whether it deletes the key of a cancelled create: a closing client sends it.
        asked_anew: whether a callable `api_key` was called again after a refused key.
        api_key: the key that the attempt uses.
        fresh_key: the key that the next attempt uses.
        tracker: that of the request that is under way.
        proven: whether the secret proves the answer's hash.
    """

    operation: Operation[R]
    options: CallOptions
    started: float
    sent: Moment | None = None
    attempt: int = 0
    began: float = 0.0
    status: int | None = None
    has_begun: bool = False
    is_observed: bool = False
    maybe_applied: bool = False
    abandoned: bool = False
    rate_limited: int = 0
    is_cleanup: bool = False
    asked_anew: bool = False
    api_key: str = field(default="", repr=False)
    fresh_key: str | None = field(default=None, repr=False)
    tracker: SendTracker | None = field(default=None, repr=False)
    proven: bool = False

    def counted(self, what: Outcome) -> int:
        """Return how many attempts count for an outcome: 429s are counted by themselves."""
        limited = what is Outcome.RATE_LIMITED
        return self.rate_limited if limited else self.attempt - self.rate_limited

    @property
    def in_flight(self) -> bool:
        """Whether a request of this call may be at the service now."""
        return self.tracker is not None and not self.tracker.unsent


def event_of(
    call: Call[Any],
    kind: EventKind,
    outcome: Outcome | EventOutcome,
    seconds: float,
    retry_after: float | None = None,
) -> Event:
    """Return what happened to a call, without its secrets."""
    operation, is_wait = call.operation, kind == "wait"
    named = outcome.name.lower() if isinstance(outcome, Outcome) else outcome
    return Event(
        kind=kind,
        operation=operation.name,
        method=operation.method,
        url=call.options.server_url + scrub(operation.path, call.api_key, *operation.secrets),
        attempt=call.attempt,
        status=None if is_wait else call.status,
        outcome=cast("EventOutcome", named),
        seconds=seconds,
        retry_after=retry_after,
    )


def dated(error: CreateOutcomeUnknownError | SecretLostError, call: Call[Any], now: Moment) -> None:
    """Set in the error when its create was sent, and that it ended now."""
    sent = now if call.sent is None else call.sent
    error.started_at, error.ended_at = sent[0], now[0]
    error.steady = sent[1], now[1]


def unknown_outcome(call: Call[Any], now: Moment, why: str = "") -> CreateOutcomeUnknownError:
    """Return the error of a create that may have made a key, and that ended now.

    Args:
        call: the create.
        now: the time.
        why: how the message begins.
    """
    make = call.operation.outcome_unknown
    error = CreateOutcomeUnknownError(why) if make is None else make(why)
    error.maybe_applied = True
    dated(error, call, now)
    return with_facts(error, call)


def with_facts(error: E, call: Call[Any], answer: Answer | None = None) -> E:
    """Return the error with the facts of its call."""
    error.operation, error.attempts = call.operation.name, call.attempt
    error.maybe_applied = error.maybe_applied or call.maybe_applied
    if answer is not None:
        error.status_code, error.headers = answer.http.status, answer.http.headers
    return error
