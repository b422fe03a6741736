"""CSV whose cells a spreadsheet shows as text, and never runs as a formula."""

import re
from collections.abc import Iterable
from typing import Final

# What a formula begins with, the full-width forms that some spreadsheets take for it too, and what
# may stand before it unseen.
_UNSEEN: Final = r"(?:(?![\t\r\n])[\s\0-\x1f\x7f-\x9f\u200b-\u200f\u2060\ufeff])*"
_FORMULA: Final = _UNSEEN + r"[=+\-@\uff1d\uff0b\uff0d\uff20]"
# In a cell that begins behind a `;` quotes count, and in ours they are doubled.
_RUN: Final = rf"(?:{_UNSEEN}['\"])*{_FORMULA}"
# A spreadsheet of another country splits at semicolons, tabs and line ends, whatever is quoted.
_BEFORE: Final = r"(?:^|(?<=[;\t\r\n]))"
_RISKY: Final = re.compile(rf"{_BEFORE}(?={_RUN})|^(?='*[\t\r\n])")
_DEFUSED: Final = re.compile(rf"{_BEFORE}'(?={_RUN})|^'(?='*[\t\r\n])")
_NUMBER: Final = re.compile(r"[+-]?\d+(\.\d+)?([eE][+-]?\d+)?")
_QUOTED: Final = re.compile(r"""[",;\t\r\n]|^['\s]|\s$""")


def csv_row(cells: Iterable[str], end: str = "\n") -> str:
    """Return a row of CSV; `'` stands before whatever a spreadsheet could run.

    Args:
        cells: its texts.
        end: the end of its line.
    """
    row = ",".join(_quoted(_defused(cell)) for cell in cells)
    # A row of nothing would be no row.
    return (row or '""') + end


def restored(cell: str) -> str:
    """Return what a cell was before `csv_row` wrote it."""
    return _DEFUSED.sub("", cell)


def _defused(cell: str) -> str:
    return cell if _NUMBER.fullmatch(cell) else _RISKY.sub("'", cell)


def _quoted(cell: str) -> str:
    return '"' + cell.replace('"', '""') + '"' if _QUOTED.search(cell) else cell
