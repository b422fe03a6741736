"""What is wrong with a file of keys: all of it, the same problem of many rows in one line."""

from collections.abc import Iterable
from typing import Final

from attrs import Factory, define, frozen

from openrouter_keys.cli.exit_codes import UsageError

# So many kinds of problems, and so many rows of each, are named; the others are counted.
_KINDS: Final = 20
_RANGES: Final = 10


@frozen
class Place:
    """Where a row is: the number of its line, or of its item.

    Attributes:
        number: the number.
        items: what the item is in: `keys`, or nothing; None: it is a line.
    """

    number: int
    items: str | None = None

    def __str__(self) -> str:
        return _named(self.items, str(self.number))


@frozen
class Problem:
    """What is wrong with a row.

    Attributes:
        text: what, without any value of the file.
        cell: the cell, as `column limit`; empty: it is the row.
    """

    text: str
    cell: str = ""


@define
class _Places:
    """The rows of a problem, the first of them as ranges of numbers."""

    _items: str | None
    _ranges: list[tuple[int, int]] = Factory(list[tuple[int, int]])
    _others: int = 0

    def add(self, number: int) -> None:
        if len(self._ranges) < _RANGES or _continues(self._ranges, number):
            _extend(self._ranges, number)
        else:
            self._others += 1

    def __str__(self) -> str:
        more = f" and {self._others:,} more" if self._others else ""
        return f"{_named(self._items, _shown(self._ranges))}{more}"


def _named(items: str | None, numbers: str) -> str:
    if items is not None:
        return f"{items}[{numbers}]"
    return f"line{'' if numbers.isdigit() else 's'} {numbers}"


def numbered(numbers: Iterable[int]) -> str:
    """Return increasing numbers as `1, 3-5`."""
    ranges = list[tuple[int, int]]()
    for number in numbers:
        _extend(ranges, number)
    return _shown(ranges)


def _continues(ranges: list[tuple[int, int]], number: int) -> bool:
    return bool(ranges) and ranges[-1][1] + 1 == number


def _extend(ranges: list[tuple[int, int]], number: int) -> None:
    first = ranges.pop()[0] if _continues(ranges, number) else number
    ranges.append((first, number))


def _shown(ranges: list[tuple[int, int]]) -> str:
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in ranges)


@define
class Problems:
    """Collects what is wrong with a file.

    Args:
        name: what the file is called.

    Attributes:
        count: how many problems there are.
    """

    _name: str
    _whole: list[str] = Factory(list[str])
    _last: list[str] = Factory(list[str])
    _rows: dict[tuple[Problem, str | None], _Places] = Factory(
        dict[tuple[Problem, str | None], _Places]
    )
    count: int = 0
    _hidden: int = 0

    def add(self, place: Place, problem: Problem) -> None:
        """Add a problem of a row."""
        self.count += 1
        kind = (problem, place.items)
        if kind not in self._rows and len(self._rows) < _KINDS:
            self._rows[kind] = _Places(place.items)
        if kind in self._rows:
            self._rows[kind].add(place.number)
        else:
            self._hidden += 1

    def add_to_file(self, text: str) -> None:
        """Add a problem of the whole file."""
        self.count += 1
        self._whole.append(text)

    def end(self, text: str) -> None:
        """Add the problem because of which the rest of the file could not be read."""
        self.count += 1
        self._last.append(text)

    def refuse(self) -> None:
        """Refuse the file if anything is wrong with it.

        Raises:
            CommandError: each kind of problem is a line of it.
        """
        if not self.count:
            return
        first, *more = [*self._whole, *map(self._line, self._rows), *self._last]
        if self.count > 1:
            hidden = f", {self._hidden:,} of them not shown" if self._hidden else ""
            more.append(f"{self._name} has {self.count:,} problems{hidden}: nothing was sent")
        raise UsageError(first, more)

    def _line(self, kind: tuple[Problem, str | None]) -> str:
        problem, _ = kind
        cell = f", {problem.cell}" if problem.cell else ""
        return f"{self._name}, {self._rows[kind]}{cell}: {problem.text}"
