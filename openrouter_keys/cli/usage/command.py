"""`usage`: each key's spending and limit, as a table with bars, for programs, or as a page."""

import sys
from datetime import UTC, datetime
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from openrouter_keys.cli.exit_codes import DONE, SOME_FAILED, UsageError
from openrouter_keys.cli.options.connection import Connection
from openrouter_keys.cli.options.selection import Selection
from openrouter_keys.cli.secrets.sources import STANDARD
from openrouter_keys.cli.terminal.messages import keys, named, say
from openrouter_keys.cli.terminal.output import Output, print_records
from openrouter_keys.cli.usage.spending import FIELDS, Sort, Spendings, ordered, spending
from openrouter_keys.cli.values import File, Flag


async def usage(
    *,
    of: Selection = Selection(),
    sort: Annotated[
        Sort,
        Parameter(help="Sort by this, the largest first; spent: of all time; share: of the limit."),
    ] = "month",
    top: Annotated[
        int | None,
        Parameter(
            metavar="N",
            validator=Number(gte=1),
            help="Show only the first N; the total counts all.",
        ),
    ] = None,
    near: Annotated[
        float,
        Parameter(
            metavar="PERCENT",
            validator=Number(gt=0, lte=100),
            help="Mark a key as near its limit from this share on.",
        ),
    ] = 80.0,
    fail_near: Annotated[
        Flag, Parameter(help="End with exit code 3 if a key is near its limit or has reached it.")
    ] = False,
    html: Annotated[
        File | None, Parameter(help="Write a page to this new file; - for standard output.")
    ] = None,
    force: Annotated[Flag, Parameter(help="Replace the file if it exists.")] = False,
    out: Output = Output(),
    connection: Connection = Connection(),
) -> int:
    """Show what each key spends, in US dollars. Days, weeks and months begin at midnight UTC."""
    _check_page(html, out, force=force)
    async with connection.client() as client:
        now = datetime.now(UTC)
        every = ordered([spending(key, near / 100, now) async for key in of.keys(client)], sort)
    spendings = Spendings(
        shown=every[:top],
        others=[] if top is None else every[top:],
        sort=sort,
        near=near / 100,
        made_at=now,
        scope=str(of),
    )
    if html is None:
        await _print(spendings, out)
    else:
        _make_page(spendings, html, force=force)
    return _alarm(spendings) if fail_near else DONE


async def _print(spendings: Spendings, out: Output) -> None:
    def table(_: object) -> None:
        # Loaded late: programs need no table.
        from openrouter_keys.cli.usage.table import print_usage  # noqa: PLC0415

        print_usage(spendings)

    records = [each.record() for each in spendings.shown]
    await print_records(records, out, FIELDS, table, lambda: {"total": dict(spendings.total())})


def _check_page(html: str | None, out: Output, *, force: bool) -> None:
    """Refuse a page that could not be written before anything is sent."""
    if html is None:
        if force:
            raise UsageError("--force goes with --html")
        return
    if out != Output():
        raise UsageError("give --html, or one of --json, --jsonl and --csv")
    if html != STANDARD:
        # Loaded late: few make a page.
        from openrouter_keys.cli.usage.page_file import check_place  # noqa: PLC0415

        check_place(html, force=force)


def _make_page(spendings: Spendings, file: str, *, force: bool) -> None:
    from openrouter_keys.cli.usage.page import page  # noqa: PLC0415
    from openrouter_keys.cli.usage.page_file import write_page  # noqa: PLC0415

    if file == STANDARD:
        sys.stdout.write(page(spendings))
        return
    write_page(file, page(spendings), force=force)
    say(f"made {file}: a page on {keys(len(spendings.every))}")


def _alarm(spendings: Spendings) -> int:
    alarming = spendings.alarming
    if not alarming:
        return DONE
    names = named([each.name for each in alarming])
    count = f"{len(alarming):,} of {len(spendings.every):,} keys have spent"
    share = f"{100 * spendings.near:g}% of their limit or more"
    say(f"{count} {share}: {names}")
    return SOME_FAILED
