"""`list`: keys, filtered, sorted, in the columns that are wanted."""

from collections.abc import AsyncIterator
from typing import Annotated, Final, cast

from attrs import fields_dict
from cyclopts import Parameter

from openrouter_keys.cli.options.connection import Connection
from openrouter_keys.cli.options.selection import Selection
from openrouter_keys.cli.terminal.output import Output, columns_of, in_columns, print_records
from openrouter_keys.cli.terminal.text import Record
from openrouter_keys.cli.values import Flag
from openrouter_keys.converter import unstructure
from openrouter_keys.models import Key

#: All that a key's record has, in the record's order.
FIELDS: Final = tuple(name for name in fields_dict(Key) if name != "extra")
_SHOWN: Final = (
    "hash", "name", "usage", "limit", "limit_remaining", "limit_reset", "expires_at",
)  # fmt: skip
_HEADINGS: Final = {
    "usage": "spent",
    "limit_remaining": "left",
    "limit_reset": "resets",
    "expires_at": "expires",
}


async def list_keys(
    *,
    of: Selection = Selection(),
    include_disabled: Annotated[Flag, Parameter(help="Disabled keys, too.")] = False,
    include_expired: Annotated[Flag, Parameter(help="Expired keys, too.")] = False,
    sort: Annotated[
        str | None,
        Parameter(
            metavar="FIELD",
            help="Sort by this field, such as `usage`; `-usage`: the largest first.",
            allow_leading_hyphen=True,
        ),
    ] = None,
    columns: Annotated[
        str | None,
        Parameter(
            metavar="FIELDS", help="Print these fields, comma-separated, such as `name,usage`."
        ),
    ] = None,
    out: Output = Output(),
    connection: Connection = Connection(),
) -> None:
    """List keys, newest first: all of them, even while others create and delete keys."""
    disabled = of.all or include_disabled
    shown = (*_SHOWN, "disabled") if disabled else _SHOWN
    wanted = columns_of(columns, shown if out.format == "table" else FIELDS, FIELDS)
    by = sort and columns_of(sort.removeprefix("-"), (), FIELDS, "--sort")[0]
    async with connection.client() as client:
        keys = of.keys(client, disabled=include_disabled, expired=include_expired)
        records: AsyncIterator[Record] = (cast("Record", unstructure(key)) async for key in keys)
        if by:
            records = _sorted(records, by, reverse=str(sort).startswith("-"))
        await print_records(records, out, wanted, in_columns(wanted, _HEADINGS))


async def _sorted(
    records: AsyncIterator[Record], by: str, *, reverse: bool
) -> AsyncIterator[Record]:
    every = [record async for record in records]
    # Records without a value come last in both orders.
    there = [record for record in every if record.get(by) is not None]
    there.sort(key=lambda record: _order(record.get(by)), reverse=reverse)
    for record in there + [record for record in every if record.get(by) is None]:
        yield record


def _order(value: object) -> tuple[float, str]:
    return (value, "") if isinstance(value, int | float) else (0.0, str(value).casefold())
