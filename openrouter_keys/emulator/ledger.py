"""The ledger: the emulator's record of each request, and its JSON. No I/O."""

from collections import Counter
from collections.abc import Iterable
from operator import attrgetter
from sys import getsizeof
from typing import Final, Protocol

from attrs import define, field

from openrouter_keys.emulator.refusals import JSON


@define(eq=False, kw_only=True)
class Request:
    """One request: in the ledger from its arrival on, and completed step by step.

    Args:
        operation: ``list``, ``create``, ``get``, ``update``, ``delete``, ``current``, or
            ``unknown`` for a route that the service does not have.
        path: raw path and query, as sent.
        query: the last value of each name.
        headers: by lower-case name.
        connection: a number for each TCP connection, from 1.
        body: empty unless it came with the management key and was within ``max_body``.
        size: how many bytes of a body were read, kept or not.
        hash: in the path, or of the key that was made.
        name: in the body.
        status: of the answer. None: no answer.
        applied: whether the account was read or changed as asked, whatever the client got.
        fault: the kind of the fault that struck.
        number: its place in the ledger, from 1, by arrival.
        user_agent: who asked, by the first 200 characters of its ``User-Agent``; what steers a
            terminal is escaped.
    """

    operation: str
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str] = field(repr=False)
    connection: int
    body: bytes = field(default=b"", repr=False)
    size: int = 0
    hash: str | None = None
    name: str | None = None
    status: int | None = None
    applied: bool = False
    fault: str | None = None
    number: int = 0
    user_agent: str = ""
    held: int = field(init=False, repr=False, default=0)  # bytes of memory that it uses


# No other header and no body: those hold secrets.
_SHOWN: Final = (
    *("number", "operation", "method", "path", "size", "name", "status"),
    *("applied", "fault", "connection", "hash", "user_agent"),
)
_taken: Final = attrgetter(*_SHOWN)
_AGENT_SHOWN: Final = 200
# Of a request itself, its hash, two mappings and its place in the list.
_ALWAYS_HELD: Final = 1000
# Of a name and its text besides their characters, and of their place in a mapping.
_HELD_BY_PAIR: Final = 260


def shown_agent(header: str) -> str:
    """Return the beginning of a ``User-Agent`` as it may be shown anywhere."""
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape", "replace").decode()
        for each in header[:_AGENT_SHOWN]
    )


def request_json(request: Request) -> dict[str, JSON]:
    """Return the JSON of a request for other processes and for the state file."""
    return dict(zip(_SHOWN, _taken(request), strict=True))


class Book(Protocol):
    """Where requests are noted, and how many and how much it may hold."""

    requests: list[Request]
    dropped: Counter[str]
    ledger_size: int
    ledger_bytes: int


class Ledger:
    """Notes requests, and drops the oldest if they are too many or too large.

    Args:
        book: where they are noted; what is too much in it is dropped at once.
    """

    def __init__(self, book: Book) -> None:
        self._book = book
        for request in book.requests:
            request.held = _held_by(request) + getsizeof(request.name)
        self._held = sum(request.held for request in book.requests)
        # Numbers start from one, so this is the newest one's.
        self.last_dropped: int = book.dropped.total()
        self._drop_oldest()

    def add(self, request: Request) -> None:
        """Note a request that has arrived, without its body."""
        if not self._book.requests:  # a test may have cleared them, too
            self._held = 0
        request.held = _held_by(request)
        self._held += request.held
        self._book.requests.append(request)
        if self._is_too_much():
            self._drop_oldest()

    def add_body(self, request: Request, body: bytes, name: str | None) -> None:
        """Note the body of a request, and the name that is in it."""
        request.body, request.name = body, name
        if request.number > self.last_dropped:
            more = getsizeof(body) + getsizeof(name)
            request.held += more
            self._held += more
            if self._is_too_much():
                self._drop_oldest()

    def clear(self) -> None:
        """Remove every request, and the counts."""
        self._book.requests.clear()
        self._book.dropped.clear()
        self._held = self.last_dropped = 0

    def _is_too_much(self) -> bool:
        book = self._book
        return self._held > book.ledger_bytes or len(book.requests) > book.ledger_size

    def _drop_oldest(self) -> None:
        book, requests, held = self._book, self._book.requests, self._held
        dropped = max(len(requests) - book.ledger_size, 0)
        held -= sum(request.held for request in requests[:dropped])
        while held > book.ledger_bytes and dropped < len(requests):
            held -= requests[dropped].held
            dropped += 1
        if dropped:
            oldest = requests[:dropped]
            del requests[:dropped]
            book.dropped.update(request.operation for request in oldest)
            self._held, self.last_dropped = held, oldest[-1].number


def _held_by(request: Request) -> int:
    """Return no less than what it holds; exact sizes of all texts would take four times as long."""
    held = _ALWAYS_HELD + getsizeof(request.path) + _held_in(request.headers)
    held += getsizeof(request.user_agent)
    if request.query:
        held += _held_in(request.query)
    return held if request.hash is None else held + getsizeof(request.hash)


def _held_in(texts: dict[str, str]) -> int:
    return _HELD_BY_PAIR * len(texts) + getsizeof("".join(texts) + "".join(texts.values()))


def counted(requests: Iterable[Request], dropped: Counter[str]) -> dict[str, JSON]:
    """Count the requests by operation, and the creates that are still there by name.

    Args:
        requests: those in the ledger.
        dropped: how many more of each operation came.
    """
    kept = [*requests]
    names = (request.name for request in kept if request.operation == "create")
    return {
        "requests": dropped + Counter(request.operation for request in kept),
        "creates_by_name": Counter(name for name in names if name is not None),
        "dropped": dropped.total(),
    }
