"""Counts what becomes of a run's keys, for its progress and its report. No journal."""

import logging
from collections.abc import Callable
from typing import Any

from attrs import Factory, define, field, fields_dict

from openrouter_keys.provisioning.rate_limiter import RateLimiter
from openrouter_keys.provisioning.report import (
    Counts,
    OnProgress,
    Phase,
    ProvisionProblem,
    ProvisionProgress,
    ProvisionReport,
    UndeliveredKey,
)

_log = logging.getLogger("openrouter_keys")

#: How many problems of a kind a report lists.
TOLD = 1000
#: Seconds between two calls of `on_progress` within a phase.
EVERY = 0.1


@define
class Problems:
    """Problems of one kind: all are counted, the first ones kept."""

    count: int = 0
    first: list[ProvisionProblem] = Factory(list[ProvisionProblem])

    def add(self, problem: ProvisionProblem) -> None:
        """Count one."""
        self.count += 1
        if self.count <= TOLD:
            self.first.append(problem)


@define(eq=False, kw_only=True)
class Counters:
    """What became of a run's keys; `ProvisionReport` says what each counts.

    Args:
        total: how many specs there are; None: not known.
        on_progress: called with how far the run is; None: not called.
        clock: seconds that never go back.
        limiter: has the pace.
    """

    on_progress: OnProgress | None
    clock: Callable[[], float]
    limiter: RateLimiter
    total: int | None = None
    read: int = 0
    created: int = 0
    resumed: int = 0
    settled_before: int = 0
    deleted: int = 0
    mismatched_before: int = 0
    in_doubt: int = 0
    failures: Problems = Factory(Problems)
    mismatches: Problems = Factory(Problems)
    unproven: list[ProvisionProblem] = Factory(list[ProvisionProblem])
    held: dict[str, UndeliveredKey] = Factory(dict[str, UndeliveredKey])
    _phase: Phase = field(init=False, default="creating")
    _elsewhere: int = field(init=False, default=0)
    _told_at: float = field(init=False, default=0.0)
    _began: float = field(
        init=False, default=Factory(lambda self: self.clock(), takes_self=True)
    )  # fmt: skip

    @property
    def failed(self) -> int:
        """How many keys the service refused to make, or cannot be handed over."""
        return self.failures.count

    @property
    def mismatched(self) -> int:
        """How many keys are not as they were asked for."""
        return self.mismatches.count

    @property
    def refused(self) -> int:
        """How many keys of this run count against `max_failures`."""
        return self.failed + self.mismatched - self.mismatched_before

    def enter(self, phase: Phase, *, elsewhere: int = 0) -> None:
        """Go on to another phase.

        Args:
            phase: what the run does.
            elsewhere: how many specs it waits for that other runs are at.
        """
        self._phase, self._elsewhere = phase, elsewhere
        self._tell()

    def changed(self) -> None:
        """Tell the caller of a change, now and then."""
        if self.on_progress is not None and self.clock() - self._told_at >= EVERY:
            self._tell()

    def report(self, doubts: Problems, *, pending: int, stopped: bool = False) -> ProvisionReport:
        """Return how the run ended, and tell the caller.

        Args:
            doubts: what is in doubt.
            pending: how many keys wait to be handed over.
            stopped: whether it ended before it was through.
        """
        self.in_doubt = doubts.count
        report = ProvisionReport(
            **self._counts(),
            failures=tuple(self.failures.first),
            mismatches=tuple(self.mismatches.first),
            doubts=tuple(doubts.first),
            unproven=tuple(self.unproven),
            pending=pending,
            deleted=self.deleted,
            undelivered=tuple(self.held.values()),
            stopped=stopped,
        )
        self._phase = "ended"
        try:
            self._tell(report)
        except Exception:  # noqa: BLE001 - it is the caller's own
            # Nothing is left that it could stop, and the caller needs the report.
            _log.exception("provision: on_progress raised at the end")
        return report

    def _tell(self, report: ProvisionReport | None = None) -> None:
        self._told_at = self.clock()
        if self.on_progress is not None:
            progress = ProvisionProgress(
                **self._counts(),
                phase=self._phase,
                elsewhere=self._elsewhere,
                total=self.total,
                read=self.read,
                rate=self.limiter.rate,
                concurrency=self.limiter.concurrency,
                report=report,
            )
            self.on_progress(progress)

    def _counts(self) -> dict[str, Any]:
        counts = {name: getattr(self, name) for name in fields_dict(Counts) if name != "elapsed"}
        return {**counts, "elapsed": self.clock() - self._began}
