"""How a run of `provision` ended, for people and for programs. No secret is told."""

import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from attrs import define, evolve

from openrouter_keys._base.masking import scrub
from openrouter_keys.cli.exit_codes import (
    AUTHENTICATION,
    BROKEN_PIPE,
    DONE,
    FAILED,
    IN_DOUBT,
    SOME_FAILED,
    CommandError,
    code_of,
)
from openrouter_keys.cli.secrets import whereabouts
from openrouter_keys.cli.secrets.handover import free_name
from openrouter_keys.cli.secrets.rescue import Keeping, Rescue, handed_of, rescue
from openrouter_keys.cli.secrets.sinks import Results
from openrouter_keys.cli.terminal.messages import keys, say
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

#: How many problems of a kind people are told.
TOLD: Final = 20


@define
class Ending:
    """Watches a run, and tells how it ended.

    Args:
        keeping: where its secrets are kept and go.
        concurrency: how many creates are under way at once, at most.
        quiet: whether only problems are told.
    """

    keeping: Keeping
    concurrency: int
    quiet: bool = False
    report: ProvisionReport | None = None
    rescued: Rescue | None = None
    stopped_by: str | None = None
    _last: ProvisionProgress | None = None

    def begin(self) -> None:
        """Tell where the journal is."""
        if not self.quiet:
            say(f"the journal is {self.keeping.journal}")

    def see(self, progress: ProvisionProgress) -> None:
        """Look at how far it is; the last look shows the report."""
        self._last, self.report = progress, progress.report

    async def rescue(self, results: Results | None) -> None:
        """Save the secrets that nobody has, before anything is told of them.

        Args:
            results: takes the run's secrets; None: the journal alone does.
        """
        if self.report is None or not self.report.stopped:
            return
        handed = [*map(handed_of, self.report.undelivered)]
        if handed:
            taker = results if self.keeping.to.hands_over else None
            self.rescued = await rescue(handed, self.keeping, taker)

    # --- interrupted ---

    def finishing(self) -> str:
        """Return what is told at once when the run is interrupted."""
        last = self._last
        if last is None or last.phase != "creating":
            return "stopping; Ctrl-C again stops at once"
        left = self.concurrency if last.total is None else last.total - last.done
        creates = min(left, self.concurrency)
        told = f"up to {creates:,} creates" if creates > 1 else "what is under way"
        return f"finishing {told}; Ctrl-C again stops at once"

    def last_words(self) -> str:
        """Return what is told when it ends there and then."""
        return f"stopped at once; go on with: {self.again()}"

    def again(self) -> str:
        """Return the command that goes on."""
        words = ["openrouter-keys", *sys.argv[1:]]
        given = self.keeping.to.secret_file
        if given is not None:
            free = free_name(given)
            for place, word in enumerate(words):
                if word == given or word.endswith(f"={given}"):
                    words[place] = f"{word.removesuffix(given)}{free}"
        return scrub(shlex.join(words))

    def interrupted(self) -> None:
        """Tell how far it came."""
        self.stopped_by = "interrupted"
        self._tell(self.stopped_by, self.report)
        say(f"go on with: {self.again()}")

    # --- ended by itself ---

    def stopped(self, error: ProvisioningStoppedError) -> int:
        """Tell why it stopped, and return the exit code."""
        cause, self.report = error.__cause__, error.report
        self.stopped_by = scrub(str(cause) or type(cause).__name__)
        if isinstance(cause, BrokenPipeError):
            self.stopped_by = "nobody reads standard output any more"
        if isinstance(cause, SecretNotKeptError):
            self.stopped_by = scrub(cause.problem)
        self._tell(f"stopped: {self.stopped_by}", error.report)
        if isinstance(cause, CommandError) and self.keeping.stored:
            export = whereabouts.export_command(self.keeping.journal, free_name("keys.csv"))
            say(f"no secret is lost: the journal has them, take them out with: {export}")
        first = _first(cause)
        say(f"{first}{', then ' if first else ''}go on with: {self.again()}")
        if isinstance(cause, BrokenPipeError):
            return BROKEN_PIPE
        if _doubtful(error.report):
            return IN_DOUBT
        return AUTHENTICATION if code_of(error) == AUTHENTICATION else FAILED

    def through(self, report: ProvisionReport) -> int:
        """Tell how it went, and return the exit code."""
        self.report = report
        self._tell("", report)
        if report.ok:
            return DONE
        say(f"try again with: {self.again()}")
        return IN_DOUBT if _doubtful(report) else SOME_FAILED

    def _tell(self, why: str, report: ProvisionReport | None) -> None:
        if why:
            say(why)
        if report is None:
            return
        for line in _problems(report):
            say(line)
        for line in () if self.rescued is None else self.rescued.told(self.keeping.journal):
            say(line)
        if not self.quiet or not report.ok or why:
            say(f"{report}, in {report.elapsed:,.1f} s")
        handed = report.created + report.resumed
        keeping, told = self.keeping, list[str]()
        # A journal that had not all of them may be gone.
        kept = self.rescued is None or keeping.to.hands_over
        if handed and kept and not self.quiet:
            told += whereabouts.of_new(keeping.to, keeping.journal)
        # Whoever asked for a file, and has none, is told so in any case.
        if not self.quiet or (keeping.to.secret_file and not handed):
            told += whereabouts.of_earlier(
                report, keeping.to, keeping.journal, stored=keeping.stored
            )
        for line in told:
            say(line)

    def record(self) -> dict[str, JSON]:
        """Return it for programs."""
        report = self.report
        if report is None:
            return {"stopped": self.stopped_by, "journal": str(self.keeping.journal)}
        return {
            "ok": report.ok and self.stopped_by is None,
            "stopped": self.stopped_by,
            "journal": str(self.keeping.journal),
            "created": report.created,
            "resumed": report.resumed,
            "settled_before": report.settled_before,
            "failed": report.failed,
            "failures": _records(report.failures),
            "mismatched": report.mismatched,
            "mismatches": _records(report.mismatches),
            "in_doubt": report.in_doubt,
            "doubts": _records(report.doubts),
            "unproven": _records(report.unproven),
            "pending": report.pending,
            "deleted": report.deleted,
            "undelivered": [{"ref": key.ref, "hash": key.hash} for key in report.undelivered],
            "rescued": None if self.rescued is None else self.rescued.file,
            "elapsed": report.elapsed,
        }


def _doubtful(report: ProvisionReport) -> bool:
    return bool(report.in_doubt or report.unproven)


def _first(cause: BaseException | None) -> str:
    """Return what is to be mended, since the same command would stop once more."""
    if isinstance(cause, PlanChangedError):
        return "mend the file"
    if isinstance(cause, QuotaExhaustedError):
        return f"wait until {cause.resets_at:%Y-%m-%d %H:%M} UTC"
    if isinstance(cause, ResponseError):
        return _REFUSALS.get(cause.status_code or 0, "")
    if isinstance(cause, TooManyFailuresError):
        return "look why they failed"
    return ""


_REFUSALS: Final[Mapping[int, str]] = {
    401: "set a management key that is valid",
    402: "add credits to the account",
    403: "set a management key that may do this",
}


def _records(problems: Sequence[ProvisionProblem]) -> list[JSON]:
    return [
        {"ref": problem.ref, "reason": problem.reason, "hashes": [*problem.hashes]}
        for problem in problems
    ]


def _problems(report: ProvisionReport) -> Iterator[str]:
    yield from _listed("failed", report.failed, report.failures)
    yield from _listed("not as asked for", report.mismatched, report.mismatches)
    # The reason tells what to do after a single create; here the next run does it.
    unknown = [evolve(doubt, reason=_CLEAR) for doubt in report.doubts if doubt.hashes]
    yield from _listed("in doubt", len(unknown), unknown)
    if rest := report.in_doubt - len(unknown):
        unsure = f"{keys(rest)} {'was' if rest == 1 else 'were'} made"
        yield f"in doubt: nobody can say whether {unsure}: the next run settles it"
    yield from _listed("unproven", len(report.unproven), report.unproven)


_CLEAR: Final = "which key is its own cannot be told: delete those that are yours, then run again"


def _listed(what: str, count: int, problems: Sequence[ProvisionProblem]) -> Iterator[str]:
    for problem in problems[:TOLD]:
        hashes = f" ({', '.join(problem.hashes)})" if problem.hashes else ""
        yield f"{what}: {problem.ref}: {problem.reason}{hashes}"
    if count > TOLD:
        yield f"{what}: and {count - TOLD:,} more (--json tells up to 1,000)"
