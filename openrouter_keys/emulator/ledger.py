"""What the emulator writes down of each request."""

from attrs import define, field


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
