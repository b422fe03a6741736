"""How far a run is, in lines: when one is told, and what is in it."""

import logging
from typing import Any

import pytest

from openrouter_keys.cli.rotate.countdown import in_words
from openrouter_keys.cli.terminal.progress import Lines, Speed, clock, progress_of
from openrouter_keys.cli.terminal.warnings import warnings_to
from openrouter_keys.provisioning.report import ProvisionProgress
from tests.tables import in_one_test


def progress(elapsed: float, created: int = 0, **given: Any) -> ProvisionProgress:
    wanted: dict[str, Any] = {
        "phase": "creating",
        "total": 1000,
        "read": 1000,
        "created": created,
        "resumed": 0,
        "settled_before": 0,
        "failed": 0,
        "mismatched": 0,
        "in_doubt": 0,
        "rate": 100.0,
        "concurrency": 32,
        "elapsed": elapsed,
        **given,
    }
    return ProvisionProgress(**wanted)


def lines(*seen: ProvisionProgress) -> list[str]:
    told: list[str] = []
    with Lines(told.append) as shown:
        for each in seen:
            shown.show(each)
    return [line.removeprefix("openrouter-keys: ").removesuffix("\n") for line in told]


def test_a_line_is_told_every_few_seconds() -> None:
    seen = [progress(tenth / 10, created=tenth) for tenth in range(121)]
    assert lines(*seen) == [
        "creating: 0/1,000",
        "creating: 50/1,000, 10 keys/s, 1:35 left",
        "creating: 100/1,000, 10 keys/s, 1:30 left",
    ]


def test_a_line_is_told_at_each_change_of_phase() -> None:
    assert lines(
        progress(0.0),
        progress(0.1, created=10, in_doubt=2, failed=1),
        progress(0.2, created=10, in_doubt=2, failed=1, phase="waiting"),
        progress(0.3, created=10, in_doubt=2, failed=1, phase="waiting"),
        progress(0.4, created=10, in_doubt=2, failed=1, phase="reconciling"),
        progress(0.5, created=10, phase="waiting"),
        progress(0.6, created=1000, phase="waiting"),
        progress(0.7, created=1000, phase="ended"),
    ) == [
        "creating: 0/1,000",
        "waiting for late commits: 11/1,000, 2 in doubt, 1 failed",
        "reconciling: 11/1,000, 2 in doubt, 1 failed",
        "waiting for the service: 10/1,000",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("counts", "told"),
    [
        ({"in_doubt": 2}, "waiting for late commits: 10/1,000, 2 in doubt"),
        ({"in_doubt": 2, "elsewhere": 2}, "waiting for another process: 10/1,000"),
        ({"in_doubt": 0, "elsewhere": 2}, "waiting for another process: 10/1,000"),
        ({"in_doubt": 3, "elsewhere": 2}, "waiting for another process: 10/1,000, 1 in doubt"),
        ({}, "waiting for the service: 10/1,000"),
    ],
)
def test_a_line_says_what_is_waited_for(counts: dict[str, int], told: str) -> None:
    assert lines(progress(0.1, created=10, phase="waiting", **counts)) == [told]


def test_what_was_settled_before_makes_nothing_look_fast() -> None:
    speed = Speed()
    speed.see(progress(0.0))
    last = progress(2.0, created=20, settled_before=900)
    speed.see(last)
    assert speed.per_second == 10
    assert speed.left(last) == 8


def test_the_speed_is_that_of_late() -> None:
    speed = Speed()
    for second in range(60):
        speed.see(progress(float(second), created=100 * min(second, 20)))
    assert speed.per_second == 0
    assert speed.left(progress(60.0)) is None


@pytest.mark.parametrize(
    ("seconds", "told"), [(0.2, "0:00"), (59.6, "1:00"), (125, "2:05"), (3723, "1:02:03")]
)
def test_durations_are_told_as_a_clock_tells_them(seconds: float, told: str) -> None:
    assert clock(seconds) == told


@in_one_test(
    "seconds, told",
    [
        (0, "0 s"),
        (3.2, "3 s"),
        (3590, "59 min 50 s"),
        (5400, "1 h 30 min"),
        (604_800, "7 d"),
        (90_061, "1 d 1 h"),
    ],
)
def test_a_grace_is_told_in_words(seconds: float, told: str) -> None:
    assert in_words(seconds) == told


def test_what_a_service_that_is_away_makes_the_library_warn_of_is_said_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    log = logging.getLogger("openrouter_keys")
    with progress_of(quiet=True) as quiet, warnings_to(quiet.say):
        for number in range(3):
            log.warning("provision: the reconcile waits for another round: %s", number)
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert told.startswith("openrouter-keys: the service does not list keys now: trying again")


def test_the_librarys_warnings_are_said_in_the_commands_own_words(
    capsys: pytest.CaptureFixture[str],
) -> None:
    log = logging.getLogger("openrouter_keys")
    with progress_of(quiet=True) as quiet, warnings_to(quiet.say):
        log.warning("provision: the reconcile waits for %s", "another round")
        quiet.show(progress(0.0))
    assert not log.handlers
    told = capsys.readouterr()
    assert "openrouter-keys: provision: the reconcile waits for another round\n" in told.err
