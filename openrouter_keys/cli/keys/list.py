"""`list`: keys, filtered, sorted, in the columns that are wanted."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Annotated, Final, cast

from attrs import fields_dict
from cyclopts import Parameter
from cyclopts.validators import Number

from openrouter_keys.cli.options.connection import Connection
from openrouter_keys.cli.options.selection import Selection
from openrouter_keys.cli.terminal.messages import say
from openrouter_keys.cli.terminal.output import Output, columns_of, in_columns, print_records
from openrouter_keys.cli.terminal.text import Record
from openrouter_keys.cli.values import Flag
from openrouter_keys.client import AsyncOpenRouter
from openrouter_keys.converter import unstructure
from openrouter_keys.models import Key

#: All that a key's record has, in the record's order.
FIELDS: Final = tuple(name for name in fields_dict(Key) if name != "extra")
#: What people see of it.
SHOWN: Final = (
    "hash", "name", "usage", "limit", "limit_remaining", "limit_reset", "expires_at",
)  # fmt: skip
# Ten requests more, at most.
_MOST_SEEN: Final = 1000
HEADINGS: Final = {
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
    limit: Annotated[
        int | None,
        Parameter(metavar="N", validator=Number(gte=1), help="Print at most N keys."),
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
    """List keys, newest first: all of them, even while others create and delete keys.

    Without --all, a table is followed by how many disabled and expired keys it does not show.
    """
    disabled = of.all or include_disabled
    shown = (*SHOWN, "disabled") if disabled else SHOWN
    wanted = columns_of(columns, shown if out.format == "table" else FIELDS, FIELDS)
    by = sort and columns_of(sort.removeprefix("-"), (), FIELDS, "--sort")[0]
    async with (
        connection.client() as client,
        # Also when a reader has gone away: the loop's end closes its generators all at once.
        aclosing(of.keys(client, disabled=include_disabled, expired=include_expired)) as keys,
    ):
        records: AsyncIterator[Record] = (cast("Record", unstructure(key)) async for key in keys)
        if by:
            records = _sorted(records, by, reverse=str(sort).startswith("-"))
        records = records if limit is None else _first(records, limit)
        await print_records(records, out, wanted, in_columns(wanted, HEADINGS))
        if out.format == "table" and not of.all:
            await _say_hidden(
                client, of, disabled=not include_disabled, expired=not include_expired
            )


async def _first(records: AsyncIterator[Record], count: int) -> AsyncIterator[Record]:
    """Go through the first records; the next one is not asked for."""
    async for record in records:
        yield record
        count -= 1
        if not count:
            return


async def _say_hidden(
    client: AsyncOpenRouter, of: Selection, *, disabled: bool, expired: bool
) -> None:
    """Say how many keys the table leaves out; of a large account, the newest ones are counted.

    Args:
        client: what asks for them.
        of: which keys the table is of.
        disabled: whether it leaves disabled ones out.
        expired: whether it leaves expired ones out.
    """
    words = [word for word, hides in (("disabled", disabled), ("expired", expired)) if hides]
    if not words:
        return
    now, seen, hidden = datetime.now(UTC), 0, 0
    async with aclosing(of.every(client, prefetch=1)) as every:  # an early end requests no page
        async for key in every:
            seen += 1
            over = isinstance(key.expires_at, datetime) and key.expires_at <= now
            hidden += of.matches(key) and ((disabled and key.disabled) or (expired and over))
            if seen == _MOST_SEEN:
                break
    if hidden:
        more = " or more" if seen == _MOST_SEEN else ""
        kinds = f"{' or '.join(words)} {'key' if hidden == 1 and not more else 'keys'}"
        say(f"{hidden:,}{more} {kinds} not shown: give --all")


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
