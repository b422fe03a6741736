"""A file of keys to begin with, which shows each column. No I/O."""

from typing import Final

from openrouter_keys.cli.specs.csv_rows import COLUMNS
from openrouter_keys.cli.terminal.csv_cells import csv_row

_ROWS: Final = (
    {
        "ref": "customer-1",
        "name": "Acme, production",
        "limit": "50",
        "limit_reset": "monthly",
        "include_byok_in_limit": "true",
    },
    {"ref": "customer-2", "name": "Globex, trial", "limit": "2.50", "expires_at": "30d"},
    {"ref": "customer-3", "name": "Initech", "limit": "null", "expires_at": "2031-12-31T23:59:59Z"},
)


def example() -> str:
    """Return the file as CSV: no cell for the service's default, and `null` for no limit."""
    rows = [[row.get(column, "") for column in COLUMNS] for row in _ROWS]
    return "".join(map(csv_row, (COLUMNS, *rows)))
