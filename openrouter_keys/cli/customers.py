"""A CSV file of customers, each row checked as a spec. Nothing is sent."""

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Final, TypeVar, cast
from uuid import UUID

from attrs import frozen

from openrouter_keys.cli import USAGE, CommandError
from openrouter_keys.errors import InvalidArgumentError
from openrouter_keys.models import External, LimitReset
from openrouter_keys.provisioning.specs import KeySpec
from openrouter_keys.unset import UNSET, OptionalNullable
from openrouter_keys.utils import parse_datetime

T = TypeVar("T")

COLUMNS: Final = (
    "ref",
    "name",
    "limit",
    "limit_reset",
    "include_byok_in_limit",
    "expires_at",
    "creator_user_id",
    "workspace_id",
    "external_user",
)
_NULL: Final = "null"


def read_customers(path: Path) -> list[KeySpec]:
    """Read all rows, or none.

    A row without a `ref` has its name for one; no two rows may have the same. An empty cell is left
    out; the word `null` is null in `limit`, `limit_reset`, `expires_at` and `creator_user_id`,
    which the service takes as null, and ordinary text elsewhere.

    Args:
        path: a CSV file in UTF-8, whose first row names the columns; only `name` must be there.

    Raises:
        CommandError: it cannot be read, or a row is not usable; which line and column is told.
    """
    lines: dict[str, int] = {}
    customers: list[KeySpec] = []
    try:
        for row in _rows(path, _text(path)):
            customers.append(row.customer())
            row.refuse_twin(customers[-1].ref, lines)
    except csv.Error as error:
        raise CommandError(f"{path} is not readable as CSV: {error}", USAGE) from error
    if not customers:
        raise CommandError(f"{path} has no rows below its header: add a customer", USAGE)
    return customers


@frozen
class _Row:
    """A row and where it stands."""

    path: Path
    line: int
    cells: Mapping[str, str]

    def refuse_twin(self, ref: str, lines: dict[str, int]) -> None:
        """Remember a ref and its line; refuse one that another line has."""
        first = lines.setdefault(ref, self.line)
        if first != self.line:
            column = "ref" if self.cells.get("ref") else "name"
            problem = f"{ref!r} is that of line {first}: give each row a ref of its own"
            raise self._refusal(column, ValueError(problem))

    def customer(self) -> KeySpec:
        """Read the row."""
        try:
            return KeySpec(
                # A row without a name is refused for that.
                ref=self.cells.get("ref") or self.cells["name"] or "?",
                name=self.cells["name"],
                limit=self._nullable("limit", _amount),
                limit_reset=self._nullable("limit_reset", _reset),
                include_byok_in_limit=self._optional("include_byok_in_limit", _flag),
                expires_at=self._nullable("expires_at", parse_datetime),
                creator_user_id=self._nullable("creator_user_id", str),
                workspace_id=self._optional("workspace_id", _uuid),
                external=self._optional("external_user", External),
            )
        except InvalidArgumentError as error:
            raise self._refusal(error.argument, error) from error

    def _optional(self, column: str, read: Callable[[str], T]) -> T | None:
        text = self.cells.get(column)
        return self._read(column, read, text) if text else None

    def _nullable(self, column: str, read: Callable[[str], T]) -> OptionalNullable[T]:
        if self.cells.get(column) == _NULL:
            return None
        value = self._optional(column, read)
        return UNSET if value is None else value

    def _read(self, column: str, read: Callable[[str], T], text: str) -> T:
        try:
            return read(text)
        except ValueError as error:
            raise self._refusal(column, error) from error

    def _refusal(self, column: str, error: ValueError) -> CommandError:
        named = f"{error.argument}: " if isinstance(error, InvalidArgumentError) else ""
        problem = str(error).removeprefix(named)
        return CommandError(f"{self.path}, line {self.line}, column {column}: {problem}", USAGE)


def _text(path: Path) -> str:
    try:
        # Spreadsheets put a byte order mark in front.
        with path.open(encoding="utf-8-sig", newline="") as file:
            return file.read()
    except OSError as error:
        message = f"cannot read {path}: {error.strerror}; give a CSV file of customers"
        raise CommandError(message, USAGE) from error
    except UnicodeDecodeError as error:
        raise CommandError(f"{path} is not UTF-8 text: {error.reason}", USAGE) from error


def _rows(path: Path, text: str) -> Iterator[_Row]:
    numbered = _numbered(text)
    header = [cell for _, cells in islice(numbered, 1) for cell in cells]
    _check_header(path, header)
    for line, cells in numbered:
        if len(cells) != len(header):
            message = f"{path}, line {line}: {len(cells)} cells under {len(header)} columns"
            raise CommandError(message, USAGE)
        yield _Row(path, line, dict(zip(header, cells, strict=True)))


def _numbered(text: str) -> Iterator[tuple[int, list[str]]]:
    """Each row that is not blank, with the number of its first line: a cell may have several."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    line = 1
    for cells in reader:
        if cells:
            yield line, cells
        line = reader.line_num + 1


def _check_header(path: Path, header: Sequence[str]) -> None:
    unknown = [column for column in header if column not in COLUMNS]
    known = ", ".join(COLUMNS)
    if unknown:
        message = f"{path}, line 1: there is no column {unknown[0]!r}; columns are {known}"
        raise CommandError(message, USAGE)
    if "name" not in header or len({*header}) < len(header):
        message = f"{path}, line 1: `name` must be there, and each column once; columns are {known}"
        raise CommandError(message, USAGE)


def _amount(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"must be a number or null, not {text!r}") from None


def _reset(text: str) -> LimitReset:
    # The record refuses other words, and names those that there are.
    return cast("LimitReset", text)


def _flag(text: str) -> bool:
    # Spreadsheets write them in capitals.
    if text.lower() not in ("true", "false"):
        raise ValueError(f"must be true or false, not {text!r}")
    return text.lower() == "true"


def _uuid(text: str) -> str:
    try:
        return str(UUID(text))
    except ValueError:
        raise ValueError(f"must be a UUID, not {text!r}") from None
