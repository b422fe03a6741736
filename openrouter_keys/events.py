"""What happens to a call, as records for `on_event`: attempts, retries, waits, pauses. No I/O."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Literal, Protocol, TypeAlias

from attrs import frozen

EventKind: TypeAlias = Literal["attempt", "retry", "wait", "pause"]
EventOutcome: TypeAlias = Literal[
    "done",
    "not_sent",
    "cannot_send",
    "no_answer",
    "unreadable",
    "rejected",
    "unauthorized",
    "rate_limited",
    "quota_exhausted",
    "failed",
    "overloaded",
    "not_reached",
    "unclear",
    "paused",
    "queued",
]


@frozen(kw_only=True)
class Event:
    """What happened to a call. It holds no secret, and no field of a key but its hash in `url`.

    Attributes:
        kind: `"attempt"`: a request ended. `"retry"`: the call is sent again, in `seconds`.
            `"wait"`: the call waited before an attempt. `"pause"`: the service asks every request
            of the client to wait.
        operation: the operation, such as `"create"`.
        method: its HTTP method.
        url: its URL; what looks like a secret in it is masked.
        attempt: the number of the attempt, from 1. Of a wait: how many were made before it.
        status: the HTTP status of that attempt. None: there was no answer, or this is a wait.
        outcome: what came of that attempt, as the rows of docs/retries.md: `"done"`,
            `"rate_limited"`, `"no_answer"` and others. Of a wait: why, `"paused"` by the service,
            or `"queued"`, since `max_connections` calls ran.
        seconds: how long the attempt took; until a retry; that a wait took; that a pause lasts.
        retry_after: the seconds that the service asked to wait. None: it did not ask.
    """

    kind: EventKind
    operation: str
    method: str
    url: str
    attempt: int
    status: int | None
    outcome: EventOutcome
    seconds: float
    retry_after: float | None = None


OnEvent: TypeAlias = Callable[[Event], object]
"""Called with each event, in the client's event loop: it must return at once."""


class Telemetry(Protocol):
    """What observes a client's calls from beginning to end, such as `otel.OpenTelemetry`.

    Its methods are called in the client's event loop. What they raise is logged once, and breaks no
    call.
    """

    def operation(self, name: str, server_url: str) -> AbstractContextManager[object]:
        """Return what is entered before an operation's attempts, and left with its error.

        Args:
            name: the operation, such as `"create"`.
            server_url: the base URL.
        """
        ...

    def event(self, event: Event) -> object:
        """Take an event of an operation that is under way, or that waits to begin."""
        ...
