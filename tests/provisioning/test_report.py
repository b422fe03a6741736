"""What a run tells: how its counts become progress and a report, and how that reads. No network."""

from typing import Any

import pytest

from openrouter_keys import (
    ProvisioningStoppedError,
    ProvisionProblem,
    ProvisionProgress,
    ProvisionReport,
    UndeliveredKey,
)
from openrouter_keys.errors import OpenRouterError
from openrouter_keys.provisioning.counters import EVERY, TOLD, Counters, Problems
from openrouter_keys.provisioning.rate_limiter import RateLimiter
from tests.journals import HASH, SECRET
from tests.tables import in_one_test

problem = ProvisionProblem(ref="r", reason="odd", hashes=(HASH,))
lost = UndeliveredKey(ref="r", key=SECRET, hash=HASH)


# --- counters ---


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def counters(clock: Clock, told: list[ProvisionProgress] | None = None) -> Counters:
    on_progress = None if told is None else told.append
    limiter = RateLimiter(4, rate=7)
    return Counters(total=9, on_progress=on_progress, clock=clock, limiter=limiter)


def test_progress_is_told_at_each_phase_and_otherwise_now_and_then() -> None:
    clock, told = Clock(), list[ProvisionProgress]()
    counted = counters(clock, told)
    counted.enter("creating")
    for created in range(100):
        clock.now += EVERY / 10
        counted.created = created
        counted.changed()
    counted.enter("waiting")

    assert 10 <= len(told) <= 12
    assert (told[0].phase, told[-1].phase) == ("creating", "waiting")
    last = told[-1]
    assert (last.total, last.created, last.rate, last.concurrency) == (9, 99, 7, 4)
    assert last.elapsed == pytest.approx(10 * EVERY)
    assert last.report is None


def test_the_report_counts_all_problems_and_tells_the_first_ones() -> None:
    clock, told = Clock(), list[ProvisionProgress]()
    counted = counters(clock, told)
    for number in range(TOLD + 5):
        counted.failures.add(ProvisionProblem(ref=str(number), reason="refused"))
    counted.mismatches.add(problem)
    counted.unproven.append(problem)
    counted.held["r"] = lost
    counted.created, counted.resumed, counted.settled_before, counted.deleted = 1, 2, 3, 4
    doubts = Problems()
    doubts.add(problem)
    clock.now += 60

    report = counted.report(doubts, pending=7)

    assert report.pending == 7
    assert (report.failed, len(report.failures)) == (TOLD + 5, TOLD)
    assert [it.ref for it in report.failures[:2]] == ["0", "1"]
    assert (report.created, report.resumed, report.settled_before, report.deleted) == (1, 2, 3, 4)
    assert (report.mismatches, report.doubts, report.unproven) == ((problem,),) * 3
    assert (report.undelivered, report.elapsed) == ((lost,), 60)
    assert counted.refused == TOLD + 6
    assert (told[-1].phase, told[-1].report, told[-1].in_doubt) == ("ended", report, 1)
    assert told[-1].done == 1 + 2 + 3 + TOLD + 5 + 1


def test_nobody_need_be_told() -> None:
    counted = counters(Clock())
    counted.enter("creating")
    counted.changed()
    assert counted.report(Problems(), pending=0).ok


# --- report ---


def report_of(**given: Any) -> ProvisionReport:
    nothing: dict[str, Any] = {
        **dict.fromkeys(("created", "resumed", "settled_before", "failed", "mismatched"), 0),
        **dict.fromkeys(("in_doubt", "pending", "deleted"), 0),
        **dict.fromkeys(("failures", "mismatches", "doubts", "unproven", "undelivered"), ()),
        "elapsed": 1.5,
    }
    return ProvisionReport(**nothing | given)


@in_one_test(
    "given, ok, text",
    [
        ({}, True, "nothing"),
        ({"created": 100_000}, True, "100,000 created"),
        ({"created": 1, "deleted": 1}, True, "1 created"),
        (
            {"resumed": 2, "settled_before": 3},
            True,
            "2 handed over from an earlier run, 3 settled before",
        ),
        ({"failed": 1, "failures": (problem,)}, False, "1 failed"),
        ({"mismatched": 1, "mismatches": (problem,)}, False, "1 not as asked for"),
        ({"in_doubt": 1, "doubts": (problem,)}, False, "1 in doubt"),
        ({"pending": 1}, False, "1 not handed over"),
        ({"unproven": (problem,)}, False, "1 unproven"),
        ({"undelivered": (lost,)}, False, "1 undelivered"),
        ({"stopped": True}, False, "nothing"),
        ({"created": 2, "stopped": True}, False, "2 created"),
    ],
)
def test_a_report_says_in_a_line_how_it_went(given: dict[str, Any], ok: bool, text: str) -> None:
    report = report_of(**given)
    assert (report.ok, str(report)) == (ok, text)
    assert SECRET not in repr(report)
    assert ("sk-or-v1-c4c...c4c4" in repr(report)) == ("undelivered" in given)


def test_a_report_of_many_problems_has_a_short_repr() -> None:
    many = report_of(failed=5000, failures=(problem,) * 1000, mismatches=(problem,) * 1000)
    assert len(repr(many)) < 500


@pytest.mark.parametrize(
    ("reason", "text"),
    [
        (ConnectionError("the vault is sealed"), "stopped: the vault is sealed; 2 created; go on"),
        (ConnectionError(), "stopped: ConnectionError; 2 created; go on"),
    ],
)
def test_a_stopped_run_says_why_how_far_it_came_and_what_to_do(
    reason: Exception, text: str
) -> None:
    report = report_of(created=2)
    error = ProvisioningStoppedError(reason, report, "go on")
    assert (str(error), error.report) == (text, report)
    assert isinstance(error, OpenRouterError)
