"""Keys in a CSV file, as spreadsheets write it, row by row. No file is opened."""

import csv
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import chain, islice
from typing import Final, TextIO

from attrs import define, frozen

from openrouter_keys.cli.exit_codes import UsageError
from openrouter_keys.cli.specs.problems import Place, Problem, numbered
from openrouter_keys.cli.specs.rows import NULLABLE, Read, Reading, Row, likely
from openrouter_keys.cli.specs.text import Lines
from openrouter_keys.cli.terminal.csv_cells import restored
from openrouter_keys.cli.values import NONE, dollars_in

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
    "external_api_key",
    "disabled",
)
_KNOWN: Final = ", ".join(COLUMNS)
_NULL: Final = "null"
_END: Final = "unexpected end of data"
_SEMICOLON: Final = ";"
_DELIMITERS: Final = f",{_SEMICOLON}\t"
_SEPARATOR: Final = re.compile(r'"?(?i:sep)=([^"\w\s]|\t)"?\s*')
_AMOUNT: Final = "must be a number or null"
_UNCLEAR: Final = (
    "the point may stand before the cents, or between thousands: write 1234, or 1.2340"
)
# Spreadsheets with a comma before the cents split cells by semicolons.
_THOUSANDS: Final = re.compile(r"[$\s]*[1-9]\d{0,2}\.\d{3}[$\s]*")


@frozen
class CSVRow(Row):
    """A row of cells: an empty one is left out, and `null` is null where the service takes it.

    Attributes:
        is_named: whether there is a column of names.
        has_thousands: whether a point before three digits may stand between thousands.
        ragged: that it has more or fewer cells than there are columns; empty: it has as many.
    """

    is_named: bool = True
    has_thousands: bool = False
    ragged: str = ""

    def _read(self, now: datetime) -> Read:
        reading = Reading(now)
        values = self._values(reading)
        reading.has_ref = self.is_named or "ref" in values
        spec = reading.spec_of(values)
        problems = [Problem(self.ragged)] if self.ragged else []
        problems += [
            Problem(text, cell.replace(".", "_")) for text, cell in reading.problems("column")
        ]
        return Read(spec, spec.ref if reading.has_ref else None, reading.lasts, problems)

    def _values(self, reading: Reading) -> dict[str, object]:
        # Without such a column, the header is refused: that is enough.
        values: dict[str, object] = {} if self.is_named else {"name": "?"}
        for column, cell in self.fields.items():
            text = str(cell)
            if not text.strip():
                continue
            try:
                values[column] = self._value(column, text)
            except ValueError as error:
                reading.refuse(column, str(error))
        return values

    def _value(self, column: str, text: str) -> object:
        word = text.strip().lower()
        if column in NULLABLE and (word == _NULL or (word == NONE and column in _READ)):
            return None
        if column == "limit" and self.has_thousands and _THOUSANDS.fullmatch(word):
            raise ValueError(f"{_AMOUNT}: {_UNCLEAR}")
        return _READ.get(column, str)(text)


def csv_rows(file: TextIO, name: str) -> Iterator[Row]:
    """Go through a CSV file.

    Args:
        file: its text, whose line ends are as they are.
        name: what it is called in errors.

    Raises:
        CommandError: the rest cannot be read.
    """
    lines = Lines(file, name)
    head, delimiter = _up_to_header(lines)
    numbered = _numbered(head, lines, delimiter, name)
    for line, cells in islice(numbered, 1):
        header = Header(line, [_column(cell) for cell in cells])
        yield from header.problems()
        if not header.is_missing:
            yield from _rows(header, numbered, delimiter)


def _rows(
    header: "Header", numbered: Iterable[tuple[int, list[str]]], delimiter: str
) -> Iterator[Row]:
    columns = header.columns
    for line, cells in numbered:
        # Spreadsheets write empty cells beyond the last column, too.
        while len(cells) > len(columns) and not cells[-1].strip():
            cells.pop()
        ragged = ""
        if len(cells) != len(columns):
            # What is in it shows in the same round.
            ragged = f"{len(cells)} cells under {len(columns)} columns"
            cells.extend([""] * (len(columns) - len(cells)))
        if header.unnamed and any(cells[number].strip() for number in header.unnamed):
            yield header.refused(header.unnamed)
            header.unnamed = []
        values = map(restored, cells)  # of a file that `list` wrote, say
        found = dict(zip(columns, values, strict=False))
        yield CSVRow(
            Place(line),
            {name: cell for name, cell in found.items() if name in COLUMNS},
            is_named="name" in columns,
            has_thousands=delimiter == _SEMICOLON,
            ragged=ragged,
        )


def _column(cell: str) -> str:
    """Return a column's name: `Limit reset` is `limit_reset`."""
    return re.sub(r"[\s.-]+", "_", cell.strip().lower())


def _up_to_header(lines: Lines) -> tuple[list[str], str]:
    """Return the lines up to the header, and what splits its cells."""
    head, delimiter = list[str](), ""
    for line in lines:
        # Spreadsheets read this line, and show none.
        if not delimiter and (found := _SEPARATOR.fullmatch(line)):
            delimiter, line = found[1], "\n"  # noqa: PLW2901 - a blank line, so that it counts
        head.append(line)
        if line.strip():
            break
    return head, delimiter or _delimiter(head)


def _delimiter(head: Sequence[str]) -> str:
    """Return what splits the header into the most columns that there are."""
    header = head[-1] if head else ""

    def known(delimiter: str) -> int:
        return sum(_column(cell.strip('" \r\n')) in COLUMNS for cell in header.split(delimiter))

    return max(_DELIMITERS, key=known)


def _numbered(
    head: Sequence[str], lines: Lines, delimiter: str, name: str
) -> Iterator[tuple[int, list[str]]]:
    """Each row that is not blank, with the number of its first line: a cell may have several."""
    reader = csv.reader(chain(head, lines), strict=True, delimiter=delimiter)
    line = 1
    try:
        for cells in reader:
            # Spreadsheets end with rows of nothing.
            if any(map(str.strip, cells)):
                yield line, cells
            line = reader.line_num + 1
            lines.renew()
    except csv.Error as error:
        # At the end of the file, a quote in this row is still open.
        hint = ": a quote is not closed" if str(error) == _END else ""
        raise UsageError(f"{name}, line {line}: is not readable as CSV: {error}{hint}") from error


@define
class Header:
    """The names of the columns.

    Attributes:
        line: the line that they are in.
        columns: the names, in small letters.
        unnamed: the places of columns without a name, which must be empty.
    """

    line: int
    columns: Sequence[str]
    unnamed: Sequence[int] = ()

    @property
    def is_missing(self) -> bool:
        """Whether none of the names is one: without a header, a cell is the first key's."""
        return not any(name in COLUMNS for name in self.columns)

    def problems(self) -> Iterator[Row]:
        """Go through what is wrong with it."""
        odd = [number for number, name in enumerate(self.columns) if name not in COLUMNS]
        if self.is_missing:
            yield self.refused(odd[:1], " is the header missing?")
            return
        named = [name for name in self.columns if name]
        is_whole = "name" in named and len({*named}) == len(named)
        if is_whole:
            self.unnamed = [number for number in odd if not self.columns[number]]
            odd = [number for number in odd if self.columns[number]]
        hints = [likely(self.columns[number], COLUMNS) for number in odd]
        for hint in dict.fromkeys(hints):
            alike = [number for number, own in zip(odd, hints, strict=True) if own == hint]
            yield self.refused(alike, hint)
        if not is_whole:
            problem = f"`name` must be there, and each column once; columns are {_KNOWN}"
            yield self._refusal(Problem(problem))

    def refused(self, columns: Sequence[int], hint: str = "") -> Row:
        """Return a row that refuses columns, by their places.

        Their names are not shown: one may be a cell of the first key, and so a secret.
        """
        numbers = numbered(number + 1 for number in columns)
        cell = f"column{'' if numbers.isdigit() else 's'} {numbers}"
        return self._refusal(Problem(f"there is no such column;{hint} columns are {_KNOWN}", cell))

    def _refusal(self, problem: Problem) -> Row:
        return Row(Place(self.line), problems=[problem])


def _amount(text: str) -> float:
    try:
        return dollars_in(text)
    except ValueError as error:
        raise ValueError(f"{_AMOUNT}{error}") from None


def _flag(text: str) -> bool:
    # Spreadsheets write them in capitals.
    if text.strip().lower() not in ("true", "false"):
        raise ValueError("must be true or false")
    return text.strip().lower() == "true"


_READ: Final[Mapping[str, Callable[[str], object]]] = {
    "limit": _amount,
    "limit_reset": lambda text: text.strip().lower(),
    "include_byok_in_limit": _flag,
    "disabled": _flag,
    "expires_at": str.strip,
    "workspace_id": str.strip,
}
