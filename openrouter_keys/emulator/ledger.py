"""What the emulator writes down of each request, and what it tells of that. No I/O."""

from collections import Counter
from collections.abc import Iterable
from operator import attrgetter
from typing import Final

from attrs import define, field

from openrouter_keys.emulator.refusals import JSON


@define(eq=False, kw_only=True)
class Request:
    """One request, in the ledger from its arrival on and filled in as it goes.

    Args:
        operation: ``list``, ``create``, ``get``, ``update``, ``delete``, ``current``, or
            ``unknown`` for a route that the service does not have.
        path: raw path and query, as sent.
        query: the last value of each name.
        headers: by lower-case name.
        connection: a number for each TCP connection, from 1.
        hash: of the path, or of the key that was made.
        name: of the body.
        status: of the answer; None without one.
        applied: whether the account did as asked, whatever the client was told.
        fault: the kind of the fault that struck.
        number: its place in the ledger, from 1, by arrival.
    """

    operation: str
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str] = field(repr=False)
    connection: int
    body: bytes = field(default=b"", repr=False)
    hash: str | None = None
    name: str | None = None
    status: int | None = None
    applied: bool = False
    fault: str | None = None
    number: int = 0


# Neither headers nor body: those hold secrets.
_TOLD: Final = (
    *("number", "operation", "method", "path", "name", "status"),
    *("applied", "fault", "connection", "hash"),
)
_taken: Final = attrgetter(*_TOLD)


def told(request: Request) -> dict[str, JSON]:
    """The JSON that others get to see of a request, and that is kept of it in a file."""
    return dict(zip(_TOLD, _taken(request), strict=True))


def drop_oldest(requests: list[Request], kept: int) -> Counter[str]:
    """Let go of all but the newest requests, and count the others by operation."""
    oldest = requests[: max(len(requests) - kept, 0)]
    del requests[: len(oldest)]
    return Counter(request.operation for request in oldest)


def counted(requests: Iterable[Request], dropped: Counter[str]) -> dict[str, JSON]:
    """How many requests of each operation came, and how many creates of each name are still there.

    Args:
        requests: those in the ledger.
        dropped: how many more there were of each operation.
    """
    kept = [*requests]
    names = (request.name for request in kept if request.operation == "create")
    return {
        "requests": dropped + Counter(request.operation for request in kept),
        "creates_by_name": Counter(name for name in names if name is not None),
        "dropped": dropped.total(),
    }
