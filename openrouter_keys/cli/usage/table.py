"""The table of `usage`: bars of characters, and as many columns as the terminal has room for."""

from collections.abc import Mapping, Sequence
from typing import Final

from attrs import frozen
from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.text import Text

from openrouter_keys.cli.terminal.messages import keys
from openrouter_keys.cli.terminal.tables import SHORT_HASH, console, money
from openrouter_keys.cli.terminal.text import printable
from openrouter_keys.cli.usage.spending import Spending, Spendings, State, sums

#: How a table and a page call a limit's period; a word that the service adds one day is itself.
PERIODS: Final[Mapping[str, str]] = {"daily": "day", "weekly": "week", "monthly": "month"}

_GAP: Final = 2
_NAME: Final = 8
# From which width of a terminal on a bar has how many cells.
_BARS: Final = ((100, 16), (72, 8), (0, 0))
_STYLES: Final[Mapping[State, str]] = {
    "active": "blue",
    "near": "yellow",
    "reached": "red",
    "disabled": "dim",
    "expired": "dim",
}
# What there is if a terminal has room for it, by weight; and what a long name gets before it.
_OPTIONAL: Final = (
    ("today", "usage_daily", 12),
    ("all time", "usage", 24),
    ("byok month", "byok_usage_monthly", 24),
    ("week", "usage_weekly", 24),
    ("hash", "", 24),
)
_ORDER: Final = ("today", "week", "month", "all time", "byok month", "hash")


@frozen
class _Column:
    """A column: its heading, and a cell for each row."""

    heading: str
    cells: Sequence[Text]
    right: bool = True

    @property
    def width(self) -> int:
        """How many cells of a terminal it takes."""
        return max(map(cell_len, (self.heading, *(each.plain for each in self.cells))))


@frozen
class _Row:
    """A key, the others together, or all together."""

    name: str
    amounts: Mapping[str, float]
    key: Spending | None = None


@frozen
class _Marks:
    """The characters that a terminal can show: those of a bar, of a rule, of what was cut."""

    full: str = "█"
    empty: str = "░"
    rule: str = "─"
    cut: str = "…"

    @classmethod
    def of(cls, out: Console) -> "_Marks":
        """Return those for a console."""
        unicode = out.encoding.lower().startswith("utf")
        return cls() if unicode else cls(full="#", empty=".", rule="-", cut="..")


def print_usage(spendings: Spendings) -> None:
    """Print what keys have spent."""
    out = console()
    if spendings.shown:
        lines = _lines(_rows(spendings), out)
        out.print(Text("\n").join(lines), no_wrap=True, overflow="ignore", crop=False)
    out.print(Text(_summary(spendings), style="dim"), soft_wrap=True)


def _rows(spendings: Spendings) -> list[_Row]:
    rows = [_Row(printable(each.name), each.amounts, each) for each in spendings.shown]
    if spendings.others:
        rows.append(_Row(f"{len(spendings.others):,} more", sums(spendings.others)))
    return [*rows, _Row("total", sums(spendings.every))]


def _lines(rows: Sequence[_Row], out: Console) -> list[Text]:
    marks, states = _Marks.of(out), _states(rows)
    bar = next(cells for width, cells in _BARS if out.width >= width)
    limits = _limits([row.key for row in rows], bar, marks)
    amounts = {"month": _amounts(rows, "month", "usage_monthly")}
    longest = max(cell_len(row.name) for row in rows)

    def room(*more: _Column) -> int:
        taken = (limits, *amounts.values(), *more, *states)
        return out.width - sum(each.width + _GAP for each in taken)

    for heading, amount, name in _OPTIONAL:
        column = _amounts(rows, heading, amount) if amount else _hashes(rows)
        if room(column) >= min(longest, name) and _wanted(rows, amount):
            amounts[heading] = column
    names = _names(rows, min(longest, max(room(), _NAME)), marks)
    ordered = [amounts[heading] for heading in _ORDER if heading in amounts]
    return _laid_out([names, limits, *ordered, *states], marks)


def _wanted(rows: Sequence[_Row], amount: str) -> bool:
    # Most have no provider keys of their own.
    return not amount.startswith("byok") or any(row.amounts[amount] for row in rows)


def _names(rows: Sequence[_Row], width: int, marks: _Marks) -> _Column:
    cells = [
        Text(_shortened(row.name, width, marks.cut), style="" if row.key else "dim") for row in rows
    ]
    return _Column("name", cells, right=False)


def _shortened(text: str, width: int, cut: str) -> str:
    if cell_len(text) <= width:
        return text
    return f"{set_cell_size(text, width - len(cut)).rstrip()}{cut}"


def _hashes(rows: Sequence[_Row]) -> _Column:
    cells = [
        Text(printable(row.key.hash[:SHORT_HASH]) if row.key else "", style="dim") for row in rows
    ]
    return _Column("hash", cells, right=False)


def _amounts(rows: Sequence[_Row], heading: str, name: str) -> _Column:
    return _Column(heading, [_dollars(row.amounts[name]) for row in rows])


def _dollars(amount: float) -> Text:
    return Text(money(amount), style="" if amount else "dim")


def _states(rows: Sequence[_Row]) -> list[_Column]:
    if not any(row.key and row.key.state != "active" for row in rows):
        return []
    cells = [
        Text(row.key.state, style=f"bold {_STYLES[row.key.state]}")
        if row.key and row.key.state != "active"
        else Text()
        for row in rows
    ]
    return [_Column("", cells, right=False)]


def _limits(keys: Sequence[Spending | None], bar: int, marks: _Marks) -> _Column:
    limits = [money(key.limit) if key and key.limit is not None else "" for key in keys]
    width = max(map(len, limits))
    cells = [
        _limit(key, limit.rjust(width), bar, marks) for key, limit in zip(keys, limits, strict=True)
    ]
    return _Column("of its limit", cells, right=False)


def _limit(key: Spending | None, limit: str, bar: int, marks: _Marks) -> Text:
    if key is None:
        return Text()
    if key.share is None:
        return Text(f"{'':{bar}}      no limit", style="dim")
    filled = filled_of(key.share, bar)
    period = "" if key.limit_reset is None else f"/{_period(key.limit_reset)}"
    return Text.assemble(
        (marks.full * filled, _STYLES[key.state]),
        (marks.empty * (bar - filled), "dim"),
        f"{percent(key.share):>5} of {limit}{period}",
    )


def _period(reset: str) -> str:
    return printable(PERIODS.get(reset, reset))


def filled_of(share: float, width: int) -> int:
    """Return how much of a bar is full: nothing and all of it only where that is so."""
    if 0 < share < 1 and width > 1:
        return min(max(round(share * width), 1), width - 1)
    return width if share >= 1 else 0


def percent(share: float) -> str:
    """Show a share; rounded down, so that 100% is all."""
    return f"{int(share * 100 + 1e-9)}%" if share < 10 else ">999%"


def _laid_out(columns: Sequence[_Column], marks: _Marks) -> list[Text]:
    widths = [column.width for column in columns]
    head = [Text(column.heading.upper(), style="bold") for column in columns]
    rows = [head, *zip(*(column.cells for column in columns), strict=True)]
    lines = [_line(row, columns, widths) for row in rows]
    above = Text(marks.rule * (sum(widths) + _GAP * (len(widths) - 1)), style="dim")
    return [*lines[:-1], above, lines[-1]]


def _line(cells: Sequence[Text], columns: Sequence[_Column], widths: Sequence[int]) -> Text:
    line = Text()
    for cell, column, width in zip(cells, columns, widths, strict=True):
        space = " " * (width - cell_len(cell.plain))
        before, after = (space, "") if column.right else ("", space)
        line = line.append(before).append_text(cell).append(after + " " * _GAP)
    line.rstrip()
    return line


def _summary(spendings: Spendings) -> str:
    total = sums(spendings.every)
    parts = [keys(len(spendings.every))]
    states = [each.state for each in spendings.alarming]
    if near := states.count("near"):
        parts.append(f"{near:,} near the limit ({100 * spendings.near:g}% or more)")
    if reached := states.count("reached"):
        parts.append(f"{reached:,} at the limit")
    return "\n".join(["; ".join(parts), *_byok(total)])


def _byok(total: Mapping[str, float]) -> list[str]:
    month, ever = money(total["byok_usage_monthly"]), money(total["byok_usage"])
    line = f"own provider keys (BYOK): {month} this month, {ever} of all time"
    return [line] if total["byok_usage"] else []
