"""`list`: keys, filtered, sorted, in the columns that are wanted."""

from collections.abc import AsyncIterator, Sequence
from fnmatch import fnmatchcase
from functools import partial
from typing import Annotated, Final, cast

from attrs import fields_dict
from cyclopts import Parameter

from openrouter_keys.cli.options import connection
from openrouter_keys.cli.options.connection import Connection
from openrouter_keys.cli.terminal import output
from openrouter_keys.cli.terminal.output import Output, columns_of, print_records
from openrouter_keys.cli.terminal.text import Record
from openrouter_keys.cli.values import Flag
from openrouter_keys.client import AsyncOpenRouter
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
    name: Annotated[
        str | None, Parameter(metavar="PATTERN", help="Only those whose name matches, as `cust-*`.")
    ] = None,
    all: Annotated[Flag, Parameter(alias="-a", help="Disabled and expired ones, too.")] = False,
    include_disabled: Annotated[Flag, Parameter(help="Disabled ones, too.")] = False,
    include_expired: Annotated[Flag, Parameter(help="Expired ones, too.")] = False,
    workspace_id: Annotated[
        str | None,
        Parameter(metavar="UUID", help="Those of a workspace; else those of the default one."),
    ] = None,
    sort: Annotated[
        str | None,
        Parameter(
            metavar="FIELD",
            help="The field to sort by, as `usage`; `-usage`: the largest first.",
            allow_leading_hyphen=True,
        ),
    ] = None,
    columns: Annotated[
        str | None,
        Parameter(metavar="FIELDS", help="The fields to print, comma-separated, as `name,usage`."),
    ] = None,
    out: Output = output.DEFAULT,
    connection: Connection = connection.DEFAULT,
) -> None:
    """List keys, newest first: every page, complete while others create and delete."""
    disabled = all or include_disabled
    shown = (*_SHOWN, "disabled") if disabled else _SHOWN
    wanted = columns_of(columns, shown if out.format == "table" else FIELDS, FIELDS)
    by = sort and columns_of(sort.removeprefix("-"), (), FIELDS, "--sort")[0]
    async with connection.client() as client:
        found = _matching(
            client,
            name,
            include_disabled=disabled,
            include_expired=all or include_expired,
            workspace_id=workspace_id,
        )
        if by:
            found = _sorted([each async for each in found], by, reverse=str(sort).startswith("-"))
        await print_records(found, out, wanted, partial(_print, columns=wanted))


async def _matching(
    client: AsyncOpenRouter,
    name: str | None,
    *,
    include_disabled: bool,
    include_expired: bool,
    workspace_id: str | None,
) -> AsyncIterator[Record]:
    keys = client.api_keys.iterate(
        include_disabled=include_disabled,
        include_expired=include_expired,
        workspace_id=workspace_id,
    )
    async for key in keys:
        if name is None or fnmatchcase(key.name, name):
            yield record_of(key)


async def _sorted(records: list[Record], by: str, *, reverse: bool) -> AsyncIterator[Record]:
    # What has no value comes last, either way.
    there = [record for record in records if record.get(by) is not None]
    there.sort(key=lambda record: _order(record.get(by)), reverse=reverse)
    for record in there + [record for record in records if record.get(by) is None]:
        yield record


def _order(value: object) -> tuple[float, str]:
    return (value, "") if isinstance(value, int | float) else (0.0, str(value).casefold())


def record_of(key: Key) -> Record:
    """Return a key as the API shows it."""
    return cast("Record", unstructure(key))


def _print(records: Sequence[Record], columns: Sequence[str]) -> None:
    # Loaded late: programs need no table.
    from openrouter_keys.cli.terminal.tables import print_table  # noqa: PLC0415

    print_table(records, columns, _HEADINGS, what="key")
