"""Tables and lists for people on a terminal, through rich."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from openrouter_keys.cli.terminal.messages import counted
from openrouter_keys.cli.terminal.streams import better_size
from openrouter_keys.cli.terminal.text import Record, printable
from openrouter_keys.errors import JSON

#: How much of a hash a table shows; commands take it for the whole where it is unique.
SHORT_HASH: Final = 8

_NAME_WIDTH: Final = 12
_ALWAYS: Final = ("hash", "name", "outcome")
_MONEY: Final = ("limit", "limit_remaining", "usage", "spent")
_TIMES: Final = ("created_at", "updated_at", "expires_at", "last_used_at")


def console(*, stderr: bool = False) -> Console:
    """Return a console that minds `NO_COLOR`, and never reads markup out of a key's name."""
    size = better_size()
    return Console(
        stderr=stderr,
        markup=False,
        highlight=False,
        emoji=False,
        width=size and size.columns,
        height=size and size.lines,
    )


def table_of(
    records: Sequence[Record], columns: Sequence[str], headings: Mapping[str, str]
) -> Table:
    """Return a table of records.

    Args:
        records: its rows.
        columns: their fields.
        headings: what stands above a column whose field's name is not kind enough.
    """
    columns = fitting(records, columns, headings, console().width)
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    for name in columns:
        table.add_column(
            Text(printable(headings.get(name, name).upper())),
            justify="right" if _is_money(name) else "left",
            no_wrap=name != "name",
            min_width=_NAME_WIDTH if name == "name" else None,
            overflow="fold",
        )
    for record in records:
        style = "dim" if record.get("disabled") else None
        cells = (Text(shown(name, record.get(name), brief=True)) for name in columns)
        table.add_row(*cells, style=style)
    return table


def fitting(
    records: Sequence[Record], columns: Sequence[str], headings: Mapping[str, str], width: int
) -> list[str]:
    """Return the columns that there is room for: half an amount would pass for a whole one."""
    widths = {name: _width(records, name, headings.get(name, name)) for name in columns}
    kept = [*columns]
    while sum(widths[name] + 2 for name in kept) - 2 > width:
        others = [name for name in kept if name not in _ALWAYS]
        if not others:
            break
        kept.remove(others[-1])
    return kept


def _width(records: Sequence[Record], name: str, heading: str) -> int:
    cells = [cell_len(shown(name, record.get(name), brief=True)) for record in records]
    longest = max(len(heading), *cells) if cells else len(heading)
    # A name may be wrapped.
    return min(longest, _NAME_WIDTH) if name == "name" else longest


def print_table(
    records: Sequence[Record], columns: Sequence[str], headings: Mapping[str, str], *, what: str
) -> None:
    """Print a table of records, and how many there are."""
    out = console()
    if records:
        out.print(table_of(records, columns, headings))
    out.print(Text(counted(len(records), what), style="dim"))


def print_fields(record: Record) -> None:
    """Print one record, a line for each field."""
    names = {name: printable(name) for name in record}
    out, width = console(), max(map(len, names.values()), default=0)
    for name, value in record.items():
        line = Text.assemble((f"{names[name]:{width}}  ", "dim"), shown(name, value))
        out.print(line, soft_wrap=True)


def shown(name: str, value: JSON, *, brief: bool = False) -> str:
    """Show a field's value to people.

    Args:
        name: the field's name.
        value: its value.
        brief: there is little room: a day for a time, the beginning of a hash.
    """
    if value is None:
        return "none" if name in ("limit", "limit_remaining") else "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float) and _is_money(name):
        return money(value)
    if name in _TIMES and isinstance(value, str):
        return _moment(value, "%Y-%m-%d" if brief else "%Y-%m-%d %H:%M UTC")
    if brief and name == "hash" and isinstance(value, str):
        return printable(value[:SHORT_HASH])
    return printable(str(value))


def money(dollars: float) -> str:
    """Show US dollars: with cents, and with as many more digits as a small amount needs."""
    if dollars and abs(dollars) < 0.01:
        return f"${dollars:.2g}"
    return f"${dollars:,.2f}"


def _is_money(name: str) -> bool:
    return name in _MONEY or name.startswith(("usage", "byok_usage"))


def _moment(value: str, format: str) -> str:
    try:
        return datetime.fromisoformat(value).astimezone(UTC).strftime(format)
    except ValueError:
        return printable(value)
