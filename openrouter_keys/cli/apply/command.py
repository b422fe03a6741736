"""`apply`: the account as a file says, with a plan that is shown before anything is changed."""

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

from attrs import define, frozen
from cyclopts import Group, Parameter

from openrouter_keys._base.masking import scrub
from openrouter_keys.applying.report import (
    ApplyProgress,
    ApplyReport,
    Plan,
    PruneExcess,
    TooManyPrunedError,
)
from openrouter_keys.applying.settings import Prune
from openrouter_keys.cli.apply.outcome import ApplyOutcome
from openrouter_keys.cli.apply.view import plan_lines, plan_record, second_keys, to_do
from openrouter_keys.cli.exit_codes import DONE, SOME_FAILED, USAGE, UsageError
from openrouter_keys.cli.options.connection import Connection
from openrouter_keys.cli.options.journal import OPTION, JournalOption, Place, place_of
from openrouter_keys.cli.provision.source import journal_of, opened, source_of
from openrouter_keys.cli.runs.options import Bounds, Pace
from openrouter_keys.cli.runs.rescue import Keeping
from openrouter_keys.cli.runs.results import results_of
from openrouter_keys.cli.runs.run import run
from openrouter_keys.cli.secrets.destination import Destination
from openrouter_keys.cli.specs.csv_rows import COLUMNS
from openrouter_keys.cli.specs.file import FileFormat, FormatOption, SpecFile
from openrouter_keys.cli.terminal.messages import can_ask, command, say
from openrouter_keys.cli.terminal.output import print_json
from openrouter_keys.cli.terminal.progress import Later, progress_of
from openrouter_keys.cli.terminal.prompts import PlanOnly, Yes, confirm
from openrouter_keys.cli.terminal.text import printable
from openrouter_keys.cli.values import Flag, Quiet, Share
from openrouter_keys.client import AsyncOpenRouter
from openrouter_keys.provisioning.report import ProvisionProgress

_CHANGES = Group("Changes", sort_key=50)


@Parameter(name="*", group=_CHANGES)
@frozen(kw_only=True)
class Changes:
    """Which changes are made besides creates, updates and restores."""

    prune: Annotated[
        Prune | None,
        Parameter(
            help="Disable, or delete for good, the journal's keys that no row names; else they are "
            "only shown."
        ),
    ] = None
    max_prune: Annotated[
        Share,
        Parameter(
            help="Do nothing if more keys than this would be pruned, or more than this share of "
            "those that work: the file may be cut off. Else half of them, or 3."
        ),
    ] = None
    recreate: Annotated[
        Flag, Parameter(help="Create keys anew that somebody deleted: their secrets are new.")
    ] = False
    replace: Annotated[
        Flag,
        Parameter(
            help="Replace keys where no update can make the change, as of expires_at: their "
            "secrets are new, and the old keys are deleted once the new ones are handed over."
        ),
    ] = False
    duplicate_names: Annotated[
        Flag,
        Parameter(
            help="Create keys also if the journal is new, and others of the account have their "
            "names. Without it, --yes does not."
        ),
    ] = False


@Parameter(name="*", group=Group("Output", sort_key=90))
@frozen(kw_only=True)
class ApplyOutput:
    """What to print."""

    json: Annotated[Flag, Parameter(help="Print how it ended as JSON; with --plan, the plan.")] = (
        False
    )
    fail_on_changes: Annotated[
        Flag,
        Parameter(
            help="Exit with 3 if the plan has changes; without --plan, if some are left undone."
        ),
    ] = False


def apply(
    file: Annotated[
        str | Path | None,
        Parameter(
            name="FILE",
            allow_leading_hyphen=True,
            show_default=False,
            help="The keys that there are to be: CSV, JSON, lines of JSON or YAML; - for standard "
            f"input. Its columns are {', '.join(COLUMNS)}; only `name` is required.",
        ),
    ] = None,
    /,
    *,
    format: FormatOption = None,
    journal: JournalOption = None,
    plan: PlanOnly = False,
    yes: Yes = False,
    quiet: Quiet = False,
    changes: Changes = Changes(),
    pace: Pace = Pace(),
    bounds: Bounds = Bounds(),
    to: Destination = Destination(),
    out: ApplyOutput = ApplyOutput(),
    connection: Connection = Connection(),
) -> int:
    """Have the account as a file says: create, update, restore, replace and prune its keys.

    A new row gets a key, a changed row changes its key, and what somebody changed by hand is
    changed back. A key that somebody deleted, a change that needs a new key, and a key whose row is
    gone are shown, and wait for --recreate, --replace and --prune. Keys that the journal does not
    know are never touched: `adopt` them first. An empty cell changes nothing.

    The plan is shown first, and the command asks before it changes anything, unless --yes is given.
    The file, the journal and the secrets of new keys are those of `provision`. After an interrupt
    or an error, run the same command again.
    """
    source = source_of(file, connection, "have")
    path = journal_of(source, journal)
    _refuse_conflicts(to, bounds)
    empties = changes.prune is not None and changes.max_prune is not None
    with opened(source, format, path, may_be_empty=empties) as specs:
        excess = bounds.excess(specs.totals)
        adoption = _adoption(source, format, journal)
        call = _Call(
            specs, path, adoption, yes=yes, quiet=quiet, changes=changes, pace=pace, out=out
        )
        if plan:
            code = asyncio.run(call.show_plan(connection.client()))
            return code if excess is None else _refused(excess)
        if excess is not None:
            raise UsageError(f"{excess}: nothing was sent; lower them, or raise it")
        return call.apply(connection.client(), bounds, to)


def _refuse_conflicts(to: Destination, bounds: Bounds) -> None:
    if to.show_secret:
        raise UsageError("--show-secret: give --secret-file, --to-command, or neither")
    if bounds.no_store_secrets and not to.hands_over:
        problem = "the secrets would be lost: with --no-store-secrets, give --secret-file"
        raise UsageError(f"{problem}, or --to-command")


def _adoption(file: str, format: FileFormat | None, journal: str | Path | None) -> str:
    """Return the command that puts the keys of a file's names into the journal."""
    named = place_of(journal)
    words = [] if named is None else named.words(OPTION)
    return command("adopt", "--file", file, *(["--format", format] if format else []), *words)


def _refused(excess: str) -> int:
    say(f"{excess}: a run would refuse to begin")
    return USAGE


@define
class _Call:
    """One call of the command.

    Args:
        adoption: the command by which keys of the file's names join the journal.
    """

    specs: SpecFile
    journal: Place
    adoption: str
    yes: bool
    quiet: bool
    changes: Changes
    pace: Pace
    out: ApplyOutput

    async def show_plan(self, client: AsyncOpenRouter) -> int:
        """Print the plan, and return the exit code."""
        async with client:
            plan = await client.plan_apply(
                self.specs,
                journal=self.journal.given,
                prune=self.changes.prune,
                max_prune=self.changes.max_prune,
                recreate=self.changes.recreate,
                replace=self.changes.replace,
                concurrency=self.pace.concurrency,
                rate=self.pace.rate,
            )
        if self.out.json:
            print_json({"journal": str(self.journal), **plan_record(plan)})
        else:
            _print(plan)
        self._warn(plan)
        if (excess := plan.excess) is not None:
            option = f"without --max-prune {excess.pruned}"
            say(f"{excess}: a run would refuse to begin {option}")
            return USAGE
        return SOME_FAILED if self.out.fail_on_changes and plan.changes else DONE

    def apply(self, client: AsyncOpenRouter, bounds: Bounds, to: Destination) -> int:
        """Do it, and return the exit code."""
        stored = not bounds.no_store_secrets
        outcome = ApplyOutcome(
            Keeping(journal=self.journal, to=to, stored=stored, recipient=bounds.recipient),
            self.pace.concurrency,
            quiet=self.quiet,
            fail_on_changes=self.out.fail_on_changes,
        )
        progress = Later(lambda: progress_of(quiet=self.quiet))

        async def start(see: Callable[[ProvisionProgress], None]) -> ApplyReport:
            def watch(at: ApplyProgress) -> None:
                outcome.watch(at)
                if at.phase == "creating" and at.provision is not None:
                    see(at.provision)
                elif not self.quiet:
                    progress.step(at.phase, at.done, at.total)

            async with client:
                try:
                    return await client.apply(
                        self.specs,
                        journal=self.journal.given,
                        prune=self.changes.prune,
                        max_prune=self.changes.max_prune,
                        recreate=self.changes.recreate,
                        replace=self.changes.replace,
                        on_plan=self._agreed,
                        on_result=results,
                        on_progress=watch,
                        concurrency=self.pace.concurrency,
                        rate=self.pace.rate,
                        quiet_period=self.pace.quiet_period or 0.0,
                        max_failures=bounds.max_failures,
                        max_total_limit=bounds.max_total_limit,
                        store_secrets=stored,
                        recipient=bounds.recipient,
                    )
                except TooManyPrunedError as error:
                    self._show(error.plan)
                    raise UsageError(_too_many(error.excess)) from error

        with results_of(to, lines=False, durable=not stored) as results:
            ended = asyncio.run(run(start, outcome, progress, results))
            code = ended if isinstance(ended, int) else outcome.ended(ended)
        if self.out.json and outcome.applied is not None:
            print_json(outcome.record())
        return code

    def _agreed(self, plan: Plan) -> bool:
        """Show the plan, and ask whether it is to be done."""
        self._show(plan)
        if not (work := to_do(plan)):
            return True
        second = second_keys(plan) if plan.is_new and not self.changes.duplicate_names else ""
        if second and (self.yes or not can_ask()):
            raise UsageError(
                f"the journal is new, and {second}: nothing was changed; --duplicate-names creates "
                "second keys"
            )
        confirm(f"{work}, though {second}" if second else work, yes=self.yes)
        return True

    def _show(self, plan: Plan) -> None:
        if not (self.out.json or self.quiet):
            _print(plan)
        self._warn(plan)

    def _warn(self, plan: Plan) -> None:
        """Say which journal it is, and what is odd about it or the file, if it costs keys."""
        if not self.quiet:
            say(f"the journal is {self.journal}{', a new one' if plan.is_new else ''}")
        if (second := second_keys(plan)) and not self.changes.duplicate_names:
            other = "; or name their journal with --journal" if plan.is_new else ""
            say(f"{second}: adopt the others with: {self.adoption}{other}")
        if self.specs.ends_midline:
            self._warn_of_cut(plan)

    def _warn_of_cut(self, plan: Plan) -> None:
        """Say what it costs if the file, whose last line has no end, is cut off."""
        costs = list[str]()
        if self.specs.may_end_in_a_cell:
            last = [change for change in plan.to_do if change.ref == self.specs.last_ref]
            costs += [f"the {change.action} of {change.ref!r} may be wrong" for change in last]
        if any(change.action == "prune" for change in plan.to_do):
            costs.append("the rest is pruned")
        if costs:
            problem = f"{self.specs.name} ends without a line end"
            say(f"{problem}: if it is cut off, {' and '.join(costs)}")


def _too_many(excess: PruneExcess) -> str:
    permits = f"if the file is whole, give --max-prune {excess.pruned}"
    return f"{excess}: nothing was changed; {permits}"


def _print(plan: Plan) -> None:
    for line in plan_lines(plan):
        sys.stdout.write(f"{printable(scrub(line))}\n")
    sys.stdout.flush()
