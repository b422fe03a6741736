"""Reads the text of a file of keys, up to the longest row or document."""

from collections.abc import Iterator
from typing import Final, TextIO

from attrs import define, field

from openrouter_keys.cli.exit_codes import CommandError, UsageError

#: How many characters a line of JSON, or a row of CSV, may have.
LONGEST_ROW: Final = 1_000_000


@define
class Lines:
    """The lines of a file, unchanged; the lines since `renew` are one row.

    Args:
        file: the text.
        name: what it is called in errors.
    """

    _file: TextIO
    _name: str
    _number: int = field(default=0, init=False)
    _row: int = field(default=0, init=False)

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        """Return the next line.

        Raises:
            CommandError: the row is too long, or has a NUL.
        """
        line = self._file.readline(LONGEST_ROW + 1)
        self._number += 1
        self._row += len(line)
        if not line:
            raise StopIteration
        if self._row > LONGEST_ROW:
            raise self._refusal(f"a row has at most {LONGEST_ROW:,} characters")
        if "\0" in line:
            raise self._refusal("has a NUL in it, which no text has")
        return line

    def renew(self) -> None:
        """Begin a row."""
        self._row = 0

    def _refusal(self, problem: str) -> CommandError:
        return UsageError(f"{self._name}, line {self._number}: {problem}")


def document(file: TextIO, name: str, largest: int) -> str:
    """Return a whole text.

    Args:
        file: the text.
        name: what it is called in errors.
        largest: how many characters it may have.

    Raises:
        CommandError: it has more.
    """
    text = file.read(largest + 1)
    if len(text) > largest:
        hint = "give CSV or lines of JSON, which may have any number of rows"
        raise UsageError(f"{name} has more than {largest:,} characters: {hint}")
    return text
