"""How keys are given: one by one, or by a text such as `list` prints. No I/O."""

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from attrs import frozen

from openrouter_keys.cli.exit_codes import UsageError
from openrouter_keys.cli.terminal.csv_cells import restored

# The SHA-256 of the secret.
HASH: Final = re.compile(r"[0-9a-f]{64}")
BEGINNING: Final = re.compile(r"[0-9a-f]{6,63}")
_COLUMNS: Final = ("hash", "name")


@frozen
class Given:
    """A key as it is given; more than one key may be meant, and then none is chosen.

    Attributes:
        names: what its name may be: all readings of a text that can be read in several ways.
        hash: its hash, or the beginning of it; empty: no hash is given.
        is_shown: whether control characters of the name may be escapes in the text.
    """

    names: tuple[str, ...]
    hash: str = ""
    is_shown: bool = False

    @property
    def text(self) -> str:
        """What is meant, in one text."""
        return self.names[0] if self.names else self.hash


def typed(word: str) -> Given:
    """Return the key that a word of the command line names.

    Raises:
        UsageError: it is empty, or an option.
    """
    if not word.strip():
        raise UsageError("the key's hash or name is empty")
    if word.startswith("-"):
        raise UsageError(f"there is no option {word}")
    return Given((), word) if HASH.fullmatch(word) else Given((word,), _hash_in(word))


def keys_of(text: str, file: str) -> Iterator[Given]:
    """Go through the keys that a text names: one a line, or in a column of CSV or of tabs.

    Args:
        text: all of it, whose line ends are as they are.
        file: what it is called in errors.

    Raises:
        UsageError: it is not clear which keys it names.
    """
    text = text.removeprefix("\ufeff")
    lines = _lines(text)
    first = lines[0] if lines else ""
    heading = first.strip().strip('"').casefold()
    if "\t" in first:
        yield from _column([line.split("\t") for line in lines], is_shown=True)
    elif "," in first:
        try:
            rows = [[*map(restored, cells)] for cells, _ in _records(text)]
        except csv.Error as error:
            raise UsageError(f"{file} is not readable as CSV: {error}") from None
        yield from _column(rows, is_shown=False)
    elif heading == "name":
        yield from _names(text, lines[1:])
    else:
        # A table's headings are in capitals.
        headed = heading == "hash" or first.startswith("HASH ")
        yield from (_of_line(line) for line in lines[headed:] if line.strip())


def _lines(text: str) -> list[str]:
    return [line.rstrip("\n") for line in io.StringIO(text, newline=None)]


def _records(text: str) -> Iterator[tuple[list[str], str]]:
    """Go through CSV: the cells of each row that is not blank, and its own text."""
    lines, start = [*io.StringIO(text, newline="")], 0
    reader = csv.reader(lines, strict=True)
    for cells in reader:
        if cells:
            yield cells, "".join(lines[start : reader.line_num])
        start = reader.line_num


def _of_line(line: str) -> Given:
    # What a table shows begins with a part of a hash; a name may hold spaces.
    word = line.split(maxsplit=1)[0]
    if HASH.fullmatch(word):
        return Given((), word)
    return Given(_readings(line), _hash_in(word), is_shown=True)


def _names(text: str, lines: Iterable[str]) -> Iterator[Given]:
    """Go through one column of names: CSV, or names alone, which nothing else tells apart."""
    try:
        records = [*_records(text)]
    except csv.Error:
        records = []
    if not records or any(len(cells) > 1 for cells, _ in records):
        yield from (_named(line, is_shown=True) for line in lines if line.strip())
        return
    for (cell,), own in records[1:]:
        if cell or own.strip():
            yield _named(restored(cell), *_lines(own), is_shown=True)


def _named(*texts: str, is_shown: bool) -> Given:
    return Given(_readings(*texts), _hash_in(texts[0].strip()), is_shown)


def _readings(*texts: str) -> tuple[str, ...]:
    """Return what a name may be; people set names in with spaces."""
    return tuple(dict.fromkeys(each for text in texts for each in (text, text.strip())))


def _hash_in(word: str) -> str:
    return word if HASH.fullmatch(word) or BEGINNING.fullmatch(word) else ""


def _column(rows: Sequence[Sequence[str]], *, is_shown: bool) -> Iterator[Given]:
    """Go through the cells that name keys: those of the column of hashes, or else of names."""
    header = [cell.strip().casefold() for cell in rows[0]]
    for name in _COLUMNS:
        if name in header:
            column = header.index(name)
            cells = (row[column] for row in rows[1:] if len(row) > column and row[column])
            if name == "name":
                yield from (_named(cell, is_shown=is_shown) for cell in cells)
            else:
                yield from (_of_line(cell.strip()) for cell in cells if cell.strip())
            return
    for row in rows:
        cell = row[0].strip() if row else ""
        if cell and not _hash_in(cell):
            hint = "begin with a header that has `hash` or `name`"
            raise UsageError(f"{cell!r} is no hash, and no header says what it is: {hint}")
        if cell:
            yield _of_line(cell)
