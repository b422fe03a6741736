"""Keys in a CSV file, as spreadsheets write it, row by row. No file is opened."""

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Final, TextIO

from openrouter_keys.cli.exit_codes import UsageError
from openrouter_keys.cli.specs.rows import NULLABLE, FieldError, Row, likely, spec_of
from openrouter_keys.cli.specs.text import Lines
from openrouter_keys.cli.terminal.csv_cells import restored
from openrouter_keys.journal.specs import KeySpec

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
)
_NULL: Final = "null"
_END: Final = "unexpected end of data"
_DELIMITERS: Final = ",;\t"
_EXTERNAL: Final = ("external_user", "external_api_key")


class CSVRow(Row):
    """A row of cells: an empty one is left out, and `null` is null where the service takes it."""

    def spec(self) -> KeySpec:
        """Read it.

        Raises:
            CommandError: it is not usable.
        """
        try:
            return spec_of(_values({name: str(cell) for name, cell in self.fields.items()}))
        except FieldError as error:
            column = error.field.replace(".", "_")
            raise UsageError(f"{self.where}, column {column}: {error}") from None


def csv_rows(file: TextIO, name: str) -> Iterator[Row]:
    """Go through a CSV file.

    Args:
        file: its text, whose line ends are as they are.
        name: what it is called in errors.

    Raises:
        CommandError: its header or a row is not usable.
    """
    lines = Lines(file, name)
    head = list(_up_to_header(lines))
    numbered = _numbered(head, lines, _delimiter(head), name)
    header = [cell.strip().lower() for _, cells in islice(numbered, 1) for cell in cells]
    _check_header(name, header)
    for line, cells in numbered:
        if len(cells) != len(header):
            raise UsageError(f"{name}, line {line}: {len(cells)} cells under {len(header)} columns")
        values = map(restored, cells)  # of a file that `list` wrote, say
        yield CSVRow(f"{name}, line {line}", dict(zip(header, values, strict=True)))


def _up_to_header(lines: Lines) -> Iterator[str]:
    for line in lines:
        yield line
        if line.strip():
            return


def _delimiter(head: Sequence[str]) -> str:
    """Return what splits the header into the most columns that there are."""
    header = head[-1].lower() if head else ""

    def known(delimiter: str) -> int:
        return sum(cell.strip('" \r\n') in COLUMNS for cell in header.split(delimiter))

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


def _check_header(name: str, header: Sequence[str]) -> None:
    known = ", ".join(COLUMNS)
    odd = [number for number, column in enumerate(header) if column not in COLUMNS]
    if odd:
        # Not what it says: without a header, that is a cell of the first key, maybe a secret.
        missing = len(odd) == len(header)
        hint = " is the header missing?" if missing else likely(header[odd[0]], COLUMNS)
        place = f"{name}, line 1, column {odd[0] + 1}"
        raise UsageError(f"{place}: there is no such column;{hint} columns are {known}")
    if "name" not in header or len({*header}) < len(header):
        message = f"{name}, line 1: `name` must be there, and each column once; columns are {known}"
        raise UsageError(message)


def _values(cells: Mapping[str, str]) -> dict[str, object]:
    values: dict[str, object] = {"name": cells["name"]}
    for column, text in cells.items():
        if text.strip() and column not in (*_EXTERNAL, "name"):
            values[column] = _value(column, text)
    external = {name: cells[name] for name in _EXTERNAL if cells.get(name)}
    if external:
        values["external"] = _external(external)
    return values


def _value(column: str, text: str) -> object:
    if column in NULLABLE and text.strip().lower() == _NULL:
        return None
    try:
        return _READ.get(column, str)(text)
    except ValueError as error:
        raise FieldError(column, str(error)) from None


def _external(cells: Mapping[str, str]) -> dict[str, str]:
    if "external_user" not in cells:
        raise FieldError("external_user", "must be there where there is an external_api_key")
    return {name.removeprefix("external_"): cell for name, cell in cells.items()}


def _amount(text: str) -> float:
    try:
        return float(text.strip().removeprefix("$"))
    except ValueError:
        hint = ": a point before the cents, and nothing between thousands" if "," in text else ""
        raise ValueError(f"must be a number or null{hint}") from None


def _flag(text: str) -> bool:
    # Spreadsheets write them in capitals.
    if text.strip().lower() not in ("true", "false"):
        raise ValueError("must be true or false")
    return text.strip().lower() == "true"


_READ: Final[Mapping[str, Callable[[str], object]]] = {
    "limit": _amount,
    "limit_reset": lambda text: text.strip().lower(),
    "include_byok_in_limit": _flag,
    "expires_at": str.strip,
    "workspace_id": str.strip,
}
