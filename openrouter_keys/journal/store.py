"""What an engine gives the writer: a connection, transactions, and the runs that live. No engine.

The statements of the journal are SQL that each engine speaks: values are `:name` or `?`.
"""

from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Any, Protocol, TypeAlias, TypeVar

from openrouter_keys.errors import JournalError

T = TypeVar("T")


class Cursor(Protocol):
    """What a statement brings."""

    @property
    def rowcount(self) -> int:
        """How many rows it changed."""
        ...

    @property
    def description(self) -> Sequence[Sequence[Any]] | None:
        """Its columns, each with its name first; None: it brings no rows."""
        ...

    def fetchone(self) -> Any:
        """Return the next row; None: there is none."""
        ...

    def fetchall(self) -> list[Any]:
        """Return all rows that are left."""
        ...

    def __iter__(self) -> Any:
        """Iterate over the rows that are left."""
        ...


class Connection(Protocol):
    """What carries out statements."""

    def execute(self, statement: str, values: Any = ..., /) -> Cursor:
        """Carry out a statement."""
        ...

    def executemany(self, statement: str, values: Iterable[Any], /) -> Cursor:
        """Carry it out for each of some values."""
        ...


class UnstorableError(JournalError):
    """The engine cannot store a value of one job; the others of its group are done without it."""


class Store:
    """A journal that is open: an engine makes a subclass of it.

    Attributes:
        place: where the journal is, as errors show it.
        failures: the engine's own exceptions: they concern a whole transaction.
        ends_with_process: whether a run lives until its process ends or ends it. Otherwise, a run
            that does not live may still have a process, which was cut off from the journal.
    """

    place: str
    failures: tuple[type[Exception], ...]
    ends_with_process: bool = True

    def __init__(self) -> None:
        self._runs: set[int] = set()

    @property
    def connection(self) -> Connection:
        """What carries out statements."""
        raise NotImplementedError

    @property
    def is_away(self) -> bool:
        """Whether the engine cannot be reached now."""
        return False

    def transact(self, act: Callable[[], None], *, reads: bool) -> None:
        """Do something in a transaction; it is done again where its first try left nothing.

        Args:
            act: what to do. It lets the engine's own exceptions through.
            reads: whether it changes nothing.

        Raises:
            JournalError: it is not done, or not known to be.
        """
        raise NotImplementedError

    def check(self) -> None:
        """See whether what is committed will be there tomorrow.

        Raises:
            JournalLostError: it will not.
        """

    def index_hashes(self) -> None:
        """See to it that a key is found by its hash."""

    # --- runs ---

    def begin(self, run: int) -> None:
        """Show others that a run lives."""
        self._runs.add(run)

    def end(self, run: int) -> None:
        """Show others that a run has ended."""
        self._runs.discard(run)

    def lives(self, run: int) -> bool:
        """Return whether a run lives, in any process."""
        return run in self._runs


#: What is to be done in a group's transaction; where it raises, it has not written.
Work: TypeAlias = Callable[[Store], T]


def rows(cursor: Cursor) -> Generator[dict[str, Any]]:
    """Iterate over what a statement brings, by the names of its columns."""
    names = [column[0] for column in cursor.description or ()]
    for row in cursor:
        yield dict(zip(names, row, strict=True))
