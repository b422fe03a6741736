"""What a command prints: a table for people on a terminal; JSON, lines of JSON, CSV for programs.

A standard output that is no terminal gets tab-separated values with a header.
"""

import json
import sys
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Mapping, Sequence
from typing import Annotated, Final, Literal, TypeAlias

from attrs import frozen
from cyclopts import Group, Parameter

from openrouter_keys._base.masking import scrub
from openrouter_keys._records.plain import scrubbed
from openrouter_keys.cli.exit_codes import UsageError
from openrouter_keys.cli.terminal.text import Record, as_json, printable
from openrouter_keys.cli.values import Flag
from openrouter_keys.errors import JSON

Format: TypeAlias = Literal["table", "text", "json", "jsonl", "csv"]

_GROUP: Final = Group("Output", sort_key=90)


@Parameter(name="*", group=_GROUP)
@frozen(kw_only=True)
class Output:
    """What to print; without any of these, a table on a terminal, and tabs in a pipe."""

    json: Annotated[Flag, Parameter(help="Print JSON, with the names of the API.")] = False
    jsonl: Annotated[Flag, Parameter(help="Print one line of JSON for each key.")] = False
    csv: Annotated[Flag, Parameter(help="Print CSV with a header.")] = False

    def __attrs_post_init__(self) -> None:
        if self.json + self.jsonl + self.csv > 1:
            raise UsageError("give one of --json, --jsonl and --csv")

    @property
    def format(self) -> Format:
        """The format that was asked for, or that suits standard output."""
        if self.json:
            return "json"
        if self.jsonl:
            return "jsonl"
        if self.csv:
            return "csv"
        return "table" if sys.stdout.isatty() else "text"


# Of a record, what people want to see whatever it is, and what only if it is set.
_ALWAYS: Final = ("key", "hash", "name", "limit")
_IF_SET: Final = ("limit_reset", "expires_at", "disabled")


@Parameter(name="*", group=_GROUP)
@frozen(kw_only=True)
class RecordOutput(Output):
    """What to print of one key; without any of these, a few lines on a terminal."""

    verbose: Annotated[Flag, Parameter(alias="-v", help="Print all fields on a terminal, too.")] = (
        False
    )

    def of(self, record: Record, *changed: str) -> Record:
        """Return the fields of a record that are printed.

        Args:
            record: all fields.
            *changed: fields that are printed whatever they are.
        """
        if self.verbose or self.format != "table":
            return record
        wanted = (*_ALWAYS, *changed)
        return {
            name: value
            for name, value in record.items()
            if name in wanted or (value and name in _IF_SET)
        }


def columns_of(
    given: str | None, default: Sequence[str], known: Sequence[str], option: str = "--columns"
) -> Sequence[str]:
    """Return the columns that an option names, comma-separated.

    Raises:
        CommandError: there is no such column.
    """
    if given is None:
        return default
    columns = [name.strip() for name in given.split(",")]
    for name in columns:
        if name not in known:
            raise UsageError(f"{option}: there is no {name!r}; there are {', '.join(known)}")
    return columns


async def print_records(
    records: AsyncIterable[Record] | Iterable[Record],
    output: Output,
    fields: Sequence[str],
    table: Callable[[Sequence[Record]], object],
    more: Callable[[], Record] = dict,
) -> None:
    """Print records, each as it comes where the format allows it; secrets in them are masked.

    Args:
        records: what to print.
        output: the format.
        fields: the columns of CSV and of tab-separated values.
        table: prints all of them for people.
        more: returns JSON's further members; called after all records.
    """
    each = records if isinstance(records, AsyncIterable) else _one_by_one(records)
    if output.format == "table":
        table([_masked(record) async for record in each])
    elif output.format == "json":
        print_json({"data": [dict(record) async for record in each], **more()})
    else:
        write = None
        async for record in each:
            # The header waits for the first record: an error before it leaves no output.
            write = write or _row_writer(output.format, fields)
            write(_masked(record))
        if write is None:
            _row_writer(output.format, fields)
    sys.stdout.flush()


async def _one_by_one(records: Iterable[Record]) -> AsyncIterator[Record]:
    for record in records:
        yield record


def in_columns(
    names: Sequence[str], headings: Mapping[str, str], row: Callable[[Record], Record] = dict
) -> Callable[[Sequence[Record]], None]:
    """Return a function that prints records as a table of columns, for `print_records`.

    Args:
        names: the columns.
        headings: their headings, where a column's name is not clear.
        row: makes the row of a record.
    """

    def table(records: Sequence[Record]) -> None:
        # Loaded late: programs need no table.
        from openrouter_keys.cli.terminal.tables import print_table  # noqa: PLC0415

        print_table([*map(row, records)], names, headings, what="key")

    return table


def print_record(record: Record, output: Output, **secret: str) -> None:
    """Print one record: a line for each field, or as `print_records` does.

    Args:
        record: the record; what looks like a secret in it is masked.
        output: how.
        **secret: a field that is printed as it is.
    """
    record = {**_masked(record), **secret}
    if output.format == "json":
        _write_json({"data": record})
    elif output.format == "text":
        for name, value in record.items():
            sys.stdout.write(f"{printable(name)}\t{printable(cell(value))}\n")
    elif output.format == "table":
        # Loaded late: programs need no table.
        from openrouter_keys.cli.terminal.tables import print_fields  # noqa: PLC0415

        print_fields(record)
    else:
        _row_writer(output.format, tuple(record))(record)


def _masked(record: Record) -> dict[str, JSON]:
    return {scrub(name): scrubbed(value) for name, value in record.items()}


def print_json(value: Record, **secret: str) -> None:
    """Print one JSON object: indented on a terminal, in one line elsewhere.

    Args:
        value: the object; what looks like a secret in it is masked.
        **secret: a member that is printed as it is, before the others.
    """
    _write_json({**secret, **_masked(value)})


def _write_json(value: JSON) -> None:
    indent = 2 if sys.stdout.isatty() else None
    sys.stdout.write(f"{as_json(value, indent)}\n")


def _row_writer(format: Format, columns: Sequence[str]) -> Callable[[Record], object]:
    if format == "jsonl":
        return lambda record: sys.stdout.write(f"{as_json(dict(record))}\n")
    if format == "csv":
        # Loaded late: few ask for CSV.
        from openrouter_keys.cli.terminal.csv_cells import csv_row  # noqa: PLC0415

        # The line ends of this system: the file that it is redirected to is a local one.
        # A name must not control a terminal.
        show = printable if sys.stdout.isatty() else str
        sys.stdout.write(csv_row(map(show, columns)))
        return lambda record: sys.stdout.write(
            csv_row(show(cell(record.get(name))) for name in columns)
        )
    sys.stdout.write("\t".join(map(printable, columns)) + "\n")
    return lambda record: sys.stdout.write(
        "\t".join(printable(cell(record.get(name))) for name in columns) + "\n"
    )


def cell(value: JSON) -> str:
    """Show a value in CSV: null is empty, a flag `true` or `false`."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)
