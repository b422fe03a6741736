"""Counts what becomes of a run's keys, and tells its caller how far it is. No journal."""

import logging
from collections.abc import Callable

from attrs import Factory, define, field

from openrouter_keys.provisioning.pacing import Pacer
from openrouter_keys.provisioning.report import (
    OnProgress,
    Phase,
    ProvisionProblem,
    ProvisionProgress,
    ProvisionReport,
    UndeliveredKey,
)

_log = logging.getLogger("openrouter_keys")

#: How many problems of a kind are told.
TOLD = 1000
#: Seconds between two tellings of progress within a phase.
EVERY = 0.1


@define
class Problems:
    """Problems of one kind: all counted, the first ones kept."""

    count: int = 0
    first: list[ProvisionProblem] = Factory(list[ProvisionProblem])

    def add(self, problem: ProvisionProblem) -> None:
        """Count one."""
        self.count += 1
        if self.count <= TOLD:
            self.first.append(problem)


@define(eq=False, kw_only=True)
class Tally:
    """What became of a run's keys; the attributes are those of `ProvisionReport`.

    Args:
        total: how many specs there are; None: their source does not tell.
        on_progress: called with how far it is; None: nobody is.
        clock: seconds that never go back.
        pacer: tells the pace.
    """

    total: int | None
    on_progress: OnProgress | None
    clock: Callable[[], float]
    pacer: Pacer
    read: int = 0
    created: int = 0
    resumed: int = 0
    settled_before: int = 0
    deleted: int = 0
    mismatched_before: int = 0
    in_doubt: int = 0
    failed: Problems = Factory(Problems)
    mismatched: Problems = Factory(Problems)
    unproven: list[ProvisionProblem] = Factory(list[ProvisionProblem])
    held: dict[str, UndeliveredKey] = Factory(dict[str, UndeliveredKey])
    _phase: Phase = field(init=False, default="creating")
    _told_at: float = field(init=False, default=0.0)
    _began: float = field(
        init=False, default=Factory(lambda self: self.clock(), takes_self=True)
    )  # fmt: skip

    @property
    def refused(self) -> int:
        """How many keys of this run count against `max_failures`."""
        return self.failed.count + self.mismatched.count - self.mismatched_before

    def enter(self, phase: Phase) -> None:
        """Go on to another phase."""
        self._phase = phase
        self._tell()

    def changed(self) -> None:
        """Something was counted; it is told now and then."""
        if self.on_progress is not None and self.clock() - self._told_at >= EVERY:
            self._tell()

    def report(self, doubts: Problems, *, pending: int, stopped: bool = False) -> ProvisionReport:
        """Return how the run ended, and tell it.

        Args:
            doubts: what is in doubt.
            pending: how many keys wait to be handed over.
            stopped: whether it ended before it was through.
        """
        report = ProvisionReport(
            created=self.created,
            resumed=self.resumed,
            settled_before=self.settled_before,
            failed=self.failed.count,
            failures=tuple(self.failed.first),
            mismatched=self.mismatched.count,
            mismatches=tuple(self.mismatched.first),
            in_doubt=doubts.count,
            doubts=tuple(doubts.first),
            unproven=tuple(self.unproven),
            pending=pending,
            deleted=self.deleted,
            undelivered=tuple(self.held.values()),
            elapsed=self.clock() - self._began,
            stopped=stopped,
        )
        self._phase, self.in_doubt = "ended", doubts.count
        try:
            self._tell(report)
        except Exception:  # noqa: BLE001 - it is the caller's own
            # Nothing is left that it could stop, and the caller needs the report.
            _log.exception("provision: on_progress raised at the end")
        return report

    def _tell(self, report: ProvisionReport | None = None) -> None:
        self._told_at = self.clock()
        if self.on_progress is not None:
            self.on_progress(self._progress(report))

    def _progress(self, report: ProvisionReport | None) -> ProvisionProgress:
        return ProvisionProgress(
            phase=self._phase,
            total=self.total,
            read=self.read,
            created=self.created,
            resumed=self.resumed,
            settled_before=self.settled_before,
            failed=self.failed.count,
            mismatched=self.mismatched.count,
            in_doubt=self.in_doubt,
            rate=self.pacer.rate,
            concurrency=self.pacer.concurrency,
            elapsed=self.clock() - self._began,
            report=report,
        )
