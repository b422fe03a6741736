"""How a run ended, for people and for programs, and the command that goes on. No secret."""

import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Final

from attrs import define, evolve

from openrouter_keys._base.masking import scrub
from openrouter_keys.applying.report import ApplyReport, ApplyStoppedError
from openrouter_keys.cli.exit_codes import (
    AUTHENTICATION,
    BROKEN_PIPE,
    FAILED,
    IN_DOUBT,
    CommandError,
    code_of,
    code_of_report,
)
from openrouter_keys.cli.options.journal import Place
from openrouter_keys.cli.runs.rescue import Keeping, Rescue, rescue
from openrouter_keys.cli.runs.results import Results
from openrouter_keys.cli.secrets.sinks import free_name
from openrouter_keys.cli.terminal.messages import command, keys, say
from openrouter_keys.cli.terminal.text import without_passwords
from openrouter_keys.errors import (
    JSON,
    PlanChangedError,
    QuotaExhaustedError,
    ResponseError,
    SecretNotKeptError,
    TooManyFailuresError,
)
from openrouter_keys.provisioning.report import (
    ProvisioningStoppedError,
    ProvisionProblem,
    ProvisionProgress,
    ProvisionReport,
)

#: How many problems of a kind people see.
SHOWN: Final = 20
_COUNTS: Final = (
    "created", "resumed", "settled_before", "failed", "mismatched", "in_doubt", "pending",
    "deleted", "elapsed",
)  # fmt: skip
_PROBLEMS: Final = ("failures", "mismatches", "doubts", "unproven")
# What to do before the same command, which would stop again.
_REFUSALS: Final[Mapping[int, str]] = {
    401: "set a management key that is valid",
    402: "add credits to the account",
    403: "set a management key that may do this",
}
_CLEAR: Final = "which key is its own is unknown: delete those that are yours, then run again"


# In the URL of a proxy, with `--proxy=` before it or without.
_CREDENTIALS: Final = re.compile(r"^((?:--proxy=)?(?:\w+://)?)\S*@")


@define
class Outcome:
    """Follows a run, and says how it ended.

    Args:
        keeping: where its secrets are kept and go.
        concurrency: how many creates are under way at once, at most.
        quiet: whether only problems are said.
    """

    keeping: Keeping
    concurrency: int
    quiet: bool = False
    report: ProvisionReport | None = None
    rescued: Rescue | None = None
    stopped_by: str | None = None
    _last: ProvisionProgress | None = None

    def see(self, progress: ProvisionProgress) -> None:
        """Note the progress; the last one has the report."""
        self._last, self.report = progress, progress.report

    async def rescue(self, results: Results | None) -> None:
        """Save the secrets that nothing else has, before any message about them.

        Args:
            results: takes the run's secrets; None: the journal alone keeps them.
        """
        if self.report is None or not self.report.stopped:
            return
        if self.report.undelivered:
            sink = results if self.keeping.to.hands_over else None
            self.rescued = await rescue(self.report.undelivered, self.keeping, sink)

    # --- interrupted ---

    def finishing(self) -> str:
        """Return the message when the run is interrupted."""
        last = self._last
        if last is None or last.phase != "creating":
            return "stopping; Ctrl-C again stops at once"
        left = self.concurrency if last.total is None else last.total - last.done
        creates = min(left, self.concurrency)
        what = f"up to {creates:,} creates" if creates > 1 else "what is under way"
        return f"finishing {what}; Ctrl-C again stops at once"

    def final_message(self) -> str:
        """Return the message when the process ends at the second interrupt."""
        return f"stopped at once; go on with: {self.again()}"

    def again(self) -> str:
        """Return the command that goes on, with a new file in place of an existing one."""
        given = self.keeping.to.secret_file
        words = sys.argv[1:]
        if given is not None:
            free = free_name(given)
            words = [
                f"{word.removesuffix(given)}{free}"
                if word == given or word.endswith(f"={given}")
                else word
                for word in words
            ]
        return scrub(command(*_without_password(words)))

    def interrupted(self) -> None:
        """Say how far the run came."""
        self.stopped_by = "interrupted"
        self.tell(self.stopped_by)
        say(f"go on with: {self.again()}")

    # --- ended by itself ---

    def stopped(self, error: ProvisioningStoppedError | ApplyStoppedError) -> int:
        """Say why the run stopped, and return the exit code."""
        cause = error.__cause__
        self.take(error.report)
        self.stopped_by = scrub(str(cause) or type(cause).__name__)
        if isinstance(cause, BrokenPipeError):
            self.stopped_by = "the reader of standard output is gone"
        if isinstance(cause, SecretNotKeptError):
            self.stopped_by = scrub(cause.problem)
        self.tell(f"stopped: {self.stopped_by}")
        if isinstance(cause, CommandError) and self.keeping.stored:
            export = export_command(self.keeping.journal)
            say(f"no secret is lost: the journal has them, take them out with: {export}")
        first = _first(cause)
        say(f"{first}{', then ' if first else ''}go on with: {self.again()}")
        if isinstance(cause, BrokenPipeError):
            return BROKEN_PIPE
        if self.is_doubtful:
            return IN_DOUBT
        return AUTHENTICATION if code_of(error) == AUTHENTICATION else FAILED

    def completed(self, report: ProvisionReport) -> int:
        """Say how the run went, and return the exit code."""
        self.take(report)
        self.tell("")
        if not report.ok:
            say(f"try again with: {self.again()}")
        return code_of_report(ok=report.ok, in_doubt=self.is_doubtful)

    def take(self, report: ProvisionReport | ApplyReport) -> None:
        """Note how the run ended."""
        self.report = report.provision if isinstance(report, ApplyReport) else report

    @property
    def is_doubtful(self) -> bool:
        """Whether keys may be left that nobody knows of."""
        return self.report is not None and bool(self.report.in_doubt or self.report.unproven)

    def tell(self, why: str) -> None:
        """Say how the run went.

        Args:
            why: why it did not come to its end; empty: it did.
        """
        lines, report = [why] if why else [], self.report
        if report is not None:
            lines += problems_of(report)
            if self.rescued is not None:
                lines += self.rescued.lines(self.keeping.journal)
            if not self.quiet or not report.ok or why:
                lines.append(f"{report}, in {report.elapsed:,.1f} s")
            lines += self.where_secrets_are(report)
        for line in lines:
            say(line)

    def where_secrets_are(self, report: ProvisionReport) -> Iterator[str]:
        """Return lines on where the secrets of a run are."""
        handed, to = report.created + report.resumed, self.keeping.to
        # A journal that had not all of the secrets may be gone.
        kept = self.rescued is None or to.hands_over
        if handed and kept and not self.quiet:
            if to.secret_file is not None:
                yield f"the secrets are in {to.secret_file}"
            elif not to.hands_over:
                export = export_command(self.keeping.journal)
                yield f"the secrets are in the journal; take them out with: {export}"
        # Who asked for a file, and has none, needs to know in any case.
        if (
            report.settled_before
            and to.hands_over
            and not (self.quiet and (handed or not to.secret_file))
        ):
            yield self._of_earlier_run(report.settled_before, to.secret_file, made=handed > 0)

    def _of_earlier_run(self, count: int, file: str | None, *, made: bool) -> str:
        were, theirs = ("was", "its secret is") if count == 1 else ("were", "their secrets are")
        where, export = "not handed over again", export_command(self.keeping.journal)
        if file is not None:
            where = f"not in {file}" if made else f"not in {file}, which was not made"
            # A file that was not made is there for a moment longer.
            export = export_command(self.keeping.journal, free_name(file) if made else file)
        line = f"{keys(count)} {were} made by an earlier run, and {theirs} {where}"
        return f"{line}: take all out with: {export}" if self.keeping.stored else line

    def record(self) -> dict[str, JSON]:
        """Return the outcome for programs."""
        report = self.report
        about: dict[str, JSON] = {
            "stopped": self.stopped_by,
            "journal": str(self.keeping.journal),
        }
        if report is None:
            return about
        return {
            "ok": report.ok and self.stopped_by is None,
            **about,
            **{name: getattr(report, name) for name in _COUNTS},
            **{name: _records(getattr(report, name)) for name in _PROBLEMS},
            "undelivered": [{"ref": key.ref, "hash": key.hash} for key in report.undelivered],
            "rescued": None if self.rescued is None else self.rescued.file,
        }


def export_command(journal: Place, file: str | None = None) -> str:
    """Return the command that takes a journal's secrets out, into a file.

    Args:
        journal: the journal.
        file: the file; None: one that is not there yet.
    """
    return command("journal", "export", *journal.words(), "-o", file or free_name("keys.csv"))


def _first(cause: BaseException | None) -> str:
    """Return what to do first, since the same command would stop again."""
    if isinstance(cause, PlanChangedError):
        return "correct the file"
    if isinstance(cause, QuotaExhaustedError):
        return f"wait until {cause.resets_at:%Y-%m-%d %H:%M} UTC"
    if isinstance(cause, ResponseError):
        return _REFUSALS.get(cause.status_code or 0, "")
    return "find out why they failed" if isinstance(cause, TooManyFailuresError) else ""


def _records(problems: Sequence[ProvisionProblem]) -> list[JSON]:
    return [
        {"ref": problem.ref, "reason": problem.reason, "hashes": [*problem.hashes]}
        for problem in problems
    ]


def problems_of(report: ProvisionReport) -> Iterator[str]:
    """Return lines on what is wrong with a run's keys."""
    yield from listed("failed", report.failed, report.failures)
    yield from listed("not as asked for", report.mismatched, report.mismatches)
    # The reason says what to do after a single create; here the next run does it.
    unknown = [evolve(doubt, reason=_CLEAR) for doubt in report.doubts if doubt.hashes]
    yield from listed("in doubt", len(unknown), unknown)
    if rest := report.in_doubt - len(unknown):
        yield f"in doubt: {keys(rest)} may exist, without a secret: the next run settles it"
    yield from listed("unproven", len(report.unproven), report.unproven)


def listed(
    what: str,
    count: int,
    problems: Sequence[ProvisionProblem],
    key: Callable[[str], str] = str,
) -> Iterator[str]:
    """Return lines on the first problems of a kind, and how many more there are.

    Args:
        what: the kind.
        count: how many there are.
        problems: the first of them.
        key: what people call the key of a ref.
    """
    for problem in problems[:SHOWN]:
        hashes = f" ({', '.join(problem.hashes)})" if problem.hashes else ""
        yield f"{what}: {key(problem.ref)}: {problem.reason}{hashes}"
    if count > SHOWN:
        yield f"{what}: and {count - SHOWN:,} more: see --json"


def _without_password(words: Sequence[str]) -> list[str]:
    """Return a command line whose URLs are shown without a password."""
    return [without_passwords(word) for word in _without_proxys(words)]


def _without_proxys(words: Sequence[str]) -> Iterator[str]:
    return (
        _CREDENTIALS.sub(r"\1...@", word)
        if before == "--proxy" or word.startswith("--proxy=")
        else word
        for before, word in pairwise(["", *words])
    )
