"""`provision`: a key for each row of a file, none twice, and no secret lost."""

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

from attrs import frozen
from cyclopts import Group, Parameter

from openrouter_keys.cli.exit_codes import (
    AUTHENTICATION,
    DONE,
    USAGE,
    CommandError,
    UsageError,
)
from openrouter_keys.cli.journal.export import reading
from openrouter_keys.cli.options.connection import Connection
from openrouter_keys.cli.options.journal import JournalOption, Place
from openrouter_keys.cli.provision.plan import planned
from openrouter_keys.cli.provision.plan_view import show
from openrouter_keys.cli.provision.source import begun, journal_of, opened, source_of
from openrouter_keys.cli.runs.options import Bounds, Pace
from openrouter_keys.cli.runs.outcome import Outcome
from openrouter_keys.cli.runs.rescue import Keeping
from openrouter_keys.cli.runs.results import results_of
from openrouter_keys.cli.runs.run import run
from openrouter_keys.cli.secrets.destination import Destination
from openrouter_keys.cli.specs.csv_rows import COLUMNS
from openrouter_keys.cli.specs.example import example as sample
from openrouter_keys.cli.specs.file import FormatOption, SpecFile
from openrouter_keys.cli.terminal.messages import can_ask, say
from openrouter_keys.cli.terminal.output import Output, print_json
from openrouter_keys.cli.terminal.progress import progress_of
from openrouter_keys.cli.terminal.prompts import PlanOnly, Yes, confirm
from openrouter_keys.cli.values import Flag, Quiet
from openrouter_keys.provisioning.report import (
    ProvisionProgress,
    ProvisionReport,
)


@Parameter(name="*", group=Group("Output", sort_key=90))
@frozen(kw_only=True)
class ProvisionOutput(Output):
    """What to print; without any of these, nothing but a plan."""

    json: Annotated[Flag, Parameter(help="Print how it ended as JSON; with --plan, the plan.")] = (
        False
    )
    jsonl: Annotated[
        Flag, Parameter(help="Print a line of JSON for each key made; with --plan, for each row.")
    ] = False
    csv: Annotated[Flag, Parameter(help="With --plan only: print it as CSV.")] = False


def provision(
    file: Annotated[
        str | Path | None,
        Parameter(
            name="FILE",
            allow_leading_hyphen=True,
            show_default=False,
            help="The keys to create: CSV, JSON, lines of JSON or YAML; - for standard input. "
            f"Its columns are {', '.join(COLUMNS)}; only `name` is required.",
        ),
    ] = None,
    /,
    *,
    example: Annotated[
        Flag, Parameter(help="Print a file to begin with, in CSV, and do nothing else.")
    ] = False,
    format: FormatOption = None,
    journal: JournalOption = None,
    plan: PlanOnly = False,
    yes: Yes = False,
    quiet: Quiet = False,
    pace: Pace = Pace(),
    bounds: Bounds = Bounds(),
    to: Destination = Destination(),
    out: ProvisionOutput = ProvisionOutput(),
    connection: Connection = Connection(),
) -> int:
    """Create a key for each row of a file: none twice, whatever fails, and without losing a secret.

    The columns (fields) are those of the API, and `ref`, your own id for the key. A duration in
    `expires_at`, such as 30d, counts from the create. `provision --example > customers.csv` writes
    a file to begin with. The journal,
    FILE.journal unless you name another one, keeps the secrets until you take them out with
    `journal export`; --secret-file and --to-command hand them over at once. After an interrupt or
    an error, run the same command again.

    At a terminal the command asks before it creates keys, unless --yes is given. In a script it
    starts without a question: use --plan first.
    """
    if example:
        sys.stdout.write(sample())
        return DONE
    source = source_of(file, connection, "create")
    path = journal_of(source, journal)
    with opened(source, format, path) as specs:
        there = begun(path)
        if specs.totals.disabled:
            raise UsageError(f"{specs.name} has keys that are disabled: only `apply` makes those")
        excess = bounds.excess(specs.totals)
        if plan:
            code = asyncio.run(_show_plan(specs, there, connection, out))
            return code if excess is None else _refused(excess)
        _refuse_conflicts(to, out, bounds)
        if excess is not None:
            raise UsageError(f"{excess}: nothing was sent; lower them, or raise it")
        client = connection.client()
        if not yes and can_ask():
            _ask(specs, there)
        stored = not bounds.no_store_secrets
        keeping = Keeping(journal=path, to=to, stored=stored, recipient=bounds.recipient)
        outcome = Outcome(keeping, pace.concurrency, quiet=quiet)
        progress = progress_of(quiet=quiet, bar=not (out.jsonl and sys.stdout.isatty()))

        async def start(see: Callable[[ProvisionProgress], None]) -> ProvisionReport:
            async with client:
                return await client.provision(
                    specs,
                    journal=path.given,
                    concurrency=pace.concurrency,
                    rate=pace.rate,
                    on_result=results,
                    on_progress=see,
                    quiet_period=pace.quiet_period or 0.0,
                    max_failures=bounds.max_failures,
                    max_total_limit=bounds.max_total_limit,
                    store_secrets=stored,
                    recipient=bounds.recipient,
                )

        with results_of(to, lines=out.jsonl, durable=not stored) as results:
            if there is not None:
                asyncio.run(_check(there))
            if not quiet:
                say(f"the journal is {path}")
            report = asyncio.run(run(start, outcome, progress, results))
            code = report if isinstance(report, int) else outcome.completed(report)
    if out.json and outcome.report is not None:
        print_json(outcome.record())
    return code


def _refused(excess: str) -> int:
    say(f"{excess}: a run would refuse to begin")
    return USAGE


def _ask(specs: SpecFile, journal: Place | None) -> None:
    new = asyncio.run(planned(specs, journal)).new
    if new.count:
        confirm(f"create {new}", yes=False)


def _refuse_conflicts(to: Destination, out: ProvisionOutput, bounds: Bounds) -> None:
    if out.csv:
        raise UsageError("--csv goes with --plan; --secret-file FILE.csv has the secrets")
    if to.show_secret and not out.jsonl:
        raise UsageError("--show-secret goes with --jsonl")
    if out.jsonl and (to.secret_file or to.to_command):
        raise UsageError("give --jsonl, --secret-file or --to-command, not two of them")
    if bounds.no_store_secrets and not to.hands_over:
        problem = "the secrets would be lost: with --no-store-secrets, give --secret-file"
        raise UsageError(f"{problem}, --to-command, or --jsonl --show-secret")


# --- the plan ---


async def _show_plan(
    specs: SpecFile, journal: Place | None, connection: Connection, out: ProvisionOutput
) -> int:
    try:
        client = connection.client()
    except CommandError as error:
        if error.code != AUTHENTICATION:
            raise
        say(f"the service was not asked: {error}")
        return await show(specs, journal, None, out)
    async with client:
        return await show(specs, journal, client, out)


async def _check(journal: Place) -> None:
    async with reading(journal):
        pass  # what is no journal is refused before anything is said of it
