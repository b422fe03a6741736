"""Plain JSON values as tables: HTML for notebooks, and rich's for terminals."""

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, TypeAlias

from openrouter_keys._base.masking import escaped
from openrouter_keys.errors import JSON

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

Row: TypeAlias = dict[str, JSON]


def html(value: JSON, columns: Sequence[str] = ()) -> str:
    """Return a value as HTML: a record is a table of its fields, a list of records has rows.

    Args:
        value: plain JSON values.
        columns: the fields of a list of records that are shown; empty: all.
    """
    if rows := _rows(value):
        names = _names(rows, columns)
        lines = ["".join(f"<td>{html(row.get(name, ''))}</td>" for name in names) for row in rows]
        head = "".join(f"<th>{_text(name)}</th>" for name in names)
        body = "".join(f"<tr>{line}</tr>" for line in lines)
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    if isinstance(value, dict):
        fields = (f"<tr><th>{_text(n)}</th><td>{html(v)}</td></tr>" for n, v in value.items())
        return f"<table><tbody>{''.join(fields)}</tbody></table>"
    return _text(value)


def terminal(value: JSON, columns: Sequence[str] = ()) -> "Table | Text":
    """Return a value as what rich prints; otherwise as `html`."""
    # Only rich itself asks for this, so it is there.
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    if rows := _rows(value):
        names = _names(rows, columns)
        table = Table()
        for name in names:
            table.add_column(Text(escaped(name)))
        for row in rows:
            table.add_row(*(terminal(row.get(name, "")) for name in names))
        return table
    if isinstance(value, dict):
        table = Table(show_header=False)
        for name, each in value.items():
            table.add_row(Text(escaped(name)), terminal(each))
        return table
    return Text(escaped(str(value)))  # a text of `Text` has no markup


def _rows(value: JSON) -> list[Row]:
    """Return a list of records; empty: the value is none."""
    if not isinstance(value, list):
        return []
    rows = [row for row in value if isinstance(row, dict)]
    return rows if len(rows) == len(value) else []


def _names(rows: list[Row], columns: Sequence[str]) -> Sequence[str]:
    return columns or [*dict.fromkeys(name for row in rows for name in row)]


def _text(value: object) -> str:
    return escape(escaped(str(value)))
