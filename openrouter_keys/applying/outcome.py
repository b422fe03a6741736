"""What a call of `apply` has done so far, what failed, and what its caller sees of it."""

import logging
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TypeVar

from attrs import define, evolve, field

from openrouter_keys._base.clock import Clockwork
from openrouter_keys._base.masking import scrub
from openrouter_keys.applying.compare import Making, Replacing, Step
from openrouter_keys.applying.report import Action, ApplyPhase, ApplyProgress, ApplyReport, Plan
from openrouter_keys.applying.settings import ApplySettings
from openrouter_keys.errors import (
    JournalFullError,
    JournalInUseError,
    JournalLostError,
    NoResponseError,
    OpenRouterError,
    QuotaExhaustedError,
    ResponseError,
    TooManyFailuresError,
)
from openrouter_keys.provisioning.circuit_breaker import OUTAGE
from openrouter_keys.provisioning.counters import EVERY, Problems
from openrouter_keys.provisioning.report import (
    ProvisionProblem,
    ProvisionProgress,
    ProvisionReport,
    UndeliveredKey,
)

P = TypeVar("P", ProvisionProblem, UndeliveredKey)

_log = logging.getLogger("openrouter_keys")

# What no other change with the journal, or with the management key, would do better with.
_STOPS = (JournalFullError, JournalLostError, JournalInUseError, QuotaExhaustedError)
# Of the management key, or of the account's money.
_STATUSES = (401, 402)
_SERVERS_FAULT = 500


@define
class Outcome:
    """Counts what is done and what fails, and reports it.

    Args:
        plan: what was to be done.
        settings: of the call.
        clockwork: the time.
    """

    _plan: Plan
    _settings: ApplySettings
    _clockwork: Clockwork
    #: How often each action was done, but for creates.
    done: Counter[Action] = field(init=False, factory=Counter[Action])
    #: The refs of the changes that failed.
    failed: set[str] = field(init=False, factory=set[str])
    #: The refs of the changes that another process was faster with.
    done_elsewhere: set[str] = field(init=False, factory=set[str])
    #: The refs of keys that were made, and whose secrets nobody has taken.
    not_handed_over: list[str] = field(init=False, factory=list[str])
    #: The run that created keys.
    made: ProvisionReport | None = field(init=False, default=None)
    #: How many of its creates count as another action.
    anew: int = field(init=False, default=0)
    _problems: Problems = field(init=False, factory=Problems)
    _unanswered: int = field(init=False, default=0)
    _progress: ApplyProgress = field(
        init=False, factory=lambda: ApplyProgress(phase="changing", done=0, total=0)
    )
    _told_at: float = field(init=False, default=0.0)
    _began: float = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._began = self._clockwork.monotonic()

    def succeed(self) -> None:
        """Note that the service answered a change."""
        self._unanswered = 0

    def fail(self, step: Step, error: OpenRouterError) -> None:
        """Count a failure, unless the others would fail too."""
        status = error.status_code if isinstance(error, ResponseError) else None
        if isinstance(error, _STOPS) or status in _STATUSES:
            raise error
        if isinstance(error, NoResponseError) or (status or 0) >= _SERVERS_FAULT:
            self._unanswered += 1
            if self._unanswered >= OUTAGE:
                raise error
        change = step.change
        hashes = () if change.hash is None else (change.hash,)
        self.count(ProvisionProblem(ref=change.ref, reason=scrub(str(error)), hashes=hashes))
        most = self._settings.max_failures
        if most is not None and self._problems.count > most:
            raise TooManyFailuresError(most)

    def count(self, problem: ProvisionProblem) -> None:
        """Count what failed."""
        self.failed.add(problem.ref)
        self._problems.add(problem)

    # --- what the caller sees ---

    def enter(self, phase: ApplyPhase, total: int) -> None:
        """Begin a phase of so many steps."""
        self._told_at = -math.inf
        self._tell(ApplyProgress(phase=phase, done=0, total=total))

    def advance(self) -> None:
        """Note that a step of the phase is over."""
        self._tell(evolve(self._progress, done=self._progress.done + 1))

    def see(self, progress: ProvisionProgress) -> None:
        """Take over the progress of the run that creates keys."""
        self.made = progress.report or self.made
        self._told_at = -math.inf  # it comes now and then
        self._tell(evolve(self._progress, done=progress.done, provision=progress))

    def _tell(self, progress: ApplyProgress) -> None:
        self._progress = progress
        now = self._clockwork.monotonic()
        if self._settings.on_progress is not None and now - self._told_at >= EVERY:
            self._told_at = now
            self._settings.on_progress(progress)

    def end(
        self,
        made_for: Mapping[str, Making | Replacing],
        *,
        declined: bool = False,
        stopped: bool = False,
    ) -> ApplyReport:
        """Return how it ended, and tell the caller.

        Args:
            made_for: the changes, by the refs that keys are made under.
            declined: whether the caller did not agree to the plan.
            stopped: whether it ended before it was through.
        """
        done, made = self.done, self.made and _with_own_refs(self.made, made_for)
        report = ApplyReport(
            plan=self._plan,
            created=0 if made is None else max(0, made.created - self.anew),
            handed_over=0 if made is None else made.resumed,
            updated=done["update"],
            restored=done["restore"],
            recreated=done["recreate"],
            replaced=done["replace"],
            pruned=done["prune"],
            done_elsewhere=len(self.done_elsewhere),
            failed=self._problems.count,
            failures=tuple(self._problems.first),
            not_handed_over=tuple(sorted(self.not_handed_over)),
            provision=made,
            declined=declined,
            stopped=stopped,
            elapsed=self._clockwork.monotonic() - self._began,
        )
        if self._settings.on_progress is not None and not declined:
            try:
                self._settings.on_progress(evolve(self._progress, phase="ended", report=report))
            except Exception:  # noqa: BLE001 - it is the caller's own, and the report is needed
                _log.exception("apply: on_progress raised at the end")
        return report


def _with_own_refs(
    report: ProvisionReport, made_for: Mapping[str, Making | Replacing]
) -> ProvisionReport:
    """Return a report in which replacements have their own refs, not their old keys' hashes."""

    def own(problems: Sequence[P]) -> tuple[P, ...]:
        found = ((each, made_for.get(each.ref)) for each in problems)
        return tuple(
            each if step is None else evolve(each, ref=step.change.ref) for each, step in found
        )

    return evolve(
        report,
        failures=own(report.failures),
        mismatches=own(report.mismatches),
        doubts=own(report.doubts),
        undelivered=own(report.undelivered),
    )
