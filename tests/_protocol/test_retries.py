import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from openrouter_keys._inputs.retry_config import BackoffStrategy, RetryConfig
from openrouter_keys._protocol.retries import (
    MAYBE_APPLIED,
    PAUSES_ALL,
    Effect,
    Outcome,
    RetryQuota,
    attempts_allowed,
    decide,
    outcome_of,
    read_retry_after,
)
from openrouter_keys.errors import InvalidArgumentError
from tests.records import patient
from tests.tables import in_one_test

# reliability.md, "The matrix": what happened | attempts of get, create, update, delete.
# A word is an attempt that no status tells of; D: again until the deadline.
D = 10_000
MATRIX: list[tuple[tuple[int, ...] | str, int, int, int, int]] = [
    ("NOT_SENT", 3, 3, 3, 3),
    ("CANNOT_SEND", 1, 1, 1, 1),
    ("NO_ANSWER", 3, 1, 2, 3),
    ("UNREADABLE", 3, 1, 1, 1),
    ((400, 402, 403, 404, 409, 413, 422), 1, 1, 1, 1),
    ((401,), 1, 1, 1, 1),
    ((429,), D, D, D, D),
    ((408, 500, 502, 504, 520, 522, 524, 527, 529), 3, 1, 2, 3),
    ((503,), 3, 1, 2, 3),
    ((521, 523, 525, 526, 530), 3, 3, 3, 3),
    ("QUOTA_EXHAUSTED", 1, 1, 1, 1),
    ((405, 406, 410, 411, 412, 414, 415, 417, 418, 421, 424, 426, 428, 431, 451), 1, 1, 1, 1),
    ((101, 103, 300, 301, 302, 303, 304, 307, 308, 399), 1, 1, 1, 1),
    ((419, 420, 425, 430, 440, 444, 449, 460, 494, 498, 499), 1, 1, 1, 1),
    ((0, 1, 99), 1, 1, 1, 1),
    ((600, 602, 700, 999), 3, 1, 2, 3),
]
COLUMNS = (Effect.READ, Effect.CREATE, Effect.UPDATE, Effect.DELETE)
CELLS = [
    (what, effect, attempts)
    for row, *cells in MATRIX
    for what in ((row,) if isinstance(row, str) else row)
    for effect, attempts in zip(COLUMNS, cells, strict=True)
]


def happened(what: int | str) -> Outcome:
    return Outcome[what] if isinstance(what, str) else outcome_of(what)


def decided(what: Outcome = Outcome.NOT_SENT, **changes: Any) -> float | None:
    """A decision that would be to wait for 0.25 s, but for the changes."""
    usual: dict[str, Any] = {
        "effect": Effect.READ,
        "config": RetryConfig(),
        "attempt": 1,
        "elapsed": 0.0,
        "deadline": 60.0,
        "retry_after": None,
        "chance": 0.5,
    }
    return decide(what, **usual | changes)


def attempts_made(what: Outcome, **changes: Any) -> int:
    attempt = 1
    while attempt < D and decided(what, attempt=attempt, **changes) is not None:
        attempt += 1
    return attempt


@in_one_test("what, effect, attempts", CELLS)
def test_the_matrix_says_how_often_a_request_is_tried(
    what: int | str, effect: Effect, attempts: int
) -> None:
    assert attempts_made(happened(what), effect=effect) == attempts


def test_every_happening_of_a_failure_is_a_row_of_the_matrix() -> None:
    rows = {happened(w) for row, *_ in MATRIX for w in ((row,) if isinstance(row, str) else row)}
    assert rows == set(Outcome) - {Outcome.DONE}


@in_one_test("what", [400, 403, 405, 418, 424, 429, 451, 521, 523, 525, 526, 530, "NOT_SENT"])
def test_what_was_not_processed_leaves_no_doubt(what: int | str) -> None:
    assert happened(what) not in MAYBE_APPLIED


@in_one_test(
    "what",
    [
        *(408, 500, 502, 503, 504, 520, 522, 524, 527, 529, 501, 599, 600, 999, "NO_ANSWER"),
        *(0, 99, 101, 102, 103, 199, 300, 301, 302, 303, 304, 305, 307, 308, 399),
        *(419, 420, 425, 427, 430, 440, 444, 449, 450, 452, 460, 494, 498, 499),
    ],
)
def test_what_may_have_been_applied_is_in_doubt_and_a_create_is_sent_once(what: int | str) -> None:
    assert happened(what) in MAYBE_APPLIED
    assert attempts_made(happened(what), effect=Effect.CREATE) == 1


def test_everybody_pauses_for_a_429_and_a_503() -> None:
    assert {status for status in range(100, 600) if outcome_of(status) in PAUSES_ALL} == {429, 503}


STATUSES: dict[int, str] = (
    dict.fromkeys(range(200), "UNCLEAR")
    | dict.fromkeys(range(200, 300), "DONE")
    | dict.fromkeys(range(300, 500), "UNCLEAR")  # a redirect is an error: it is never followed
    | dict.fromkeys((*range(400, 408), *range(409, 419)), "REJECTED")
    | dict.fromkeys((421, 422, 423, 424, 426, 428, 431, 451), "REJECTED")
    | dict.fromkeys(range(500, 1000), "FAILED")
    | {401: "UNAUTHORIZED", 408: "FAILED", 429: "RATE_LIMITED", 503: "OVERLOADED"}
    | dict.fromkeys((521, 523, 525, 526, 530), "NOT_REACHED")
)


def test_every_status_is_classified() -> None:
    assert {status: outcome_of(status).name for status in range(1000)} == STATUSES


@in_one_test("what", [what for what in Outcome if what is not Outcome.DONE])
@in_one_test("effect", Effect)
def test_no_strategy_repeats_nothing(what: Outcome, effect: Effect) -> None:
    assert attempts_allowed(what, effect, RetryConfig("none")) == 1


@pytest.mark.parametrize(
    ("what", "attempts"), [("NOT_SENT", 1), ("NO_ANSWER", 1), (502, 3), (521, 3), (429, D)]
)
def test_without_connection_errors_only_answers_are_repeated(
    what: int | str, attempts: int
) -> None:
    config = RetryConfig("backoff", BackoffStrategy(), False)
    assert attempts_made(happened(what), config=config) == attempts


def test_the_wait_is_drawn_between_nothing_and_a_growing_most() -> None:
    backoff = BackoffStrategy(initial_interval=500, max_interval=8000, exponent=2)
    most = [backoff.wait(attempt, 1.0) for attempt in range(1, 8)]
    assert most == [0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0]
    assert [backoff.wait(attempt, 0.0) for attempt in range(1, 8)] == [0.0] * 7
    assert backoff.wait(2, 0.25) == 0.25


def test_a_jitter_in_milliseconds_comes_on_top() -> None:
    backoff = BackoffStrategy(500, 8000, 2.0, 3_600_000, jitter_ms=100)
    assert [backoff.wait(1, chance) for chance in (0.0, 0.5, 1.0)] == [0.5, 0.55, 0.6]
    assert BackoffStrategy(500, jitter_ms=0).wait(1, 0.7) == 0.5


@pytest.mark.parametrize("exponent", [2, 1.5, 1e300])
def test_a_wait_never_overflows(exponent: float) -> None:
    backoff = BackoffStrategy(initial_interval=500, max_interval=8000, exponent=exponent)
    assert backoff.wait(100_000, 1.0) == 8.0


@in_one_test(
    "argument", ["initial_interval", "max_interval", "exponent", "max_elapsed_time", "jitter_ms"]
)
@in_one_test("value", [-1, math.nan, math.inf, "1", True, 10**400])
def test_a_backoff_that_makes_no_sense_is_refused(argument: str, value: Any) -> None:
    with pytest.raises(InvalidArgumentError, match=f"^{argument}: "):
        BackoffStrategy(**{argument: value})


def test_waits_that_shrink_are_refused() -> None:
    with pytest.raises(InvalidArgumentError, match=r"^exponent: .*at least 1"):
        BackoffStrategy(exponent=0.5)


@in_one_test(
    "argument, value",
    [
        ("strategy", "always"),
        ("strategy", None),
        ("backoff", None),
        ("backoff", 500),
        ("retry_connection_errors", 1),
        ("retry_connection_errors", None),
    ],
)
def test_a_retry_config_that_makes_no_sense_is_refused(argument: str, value: Any) -> None:
    with pytest.raises(InvalidArgumentError, match=f"^{argument}: "):
        RetryConfig(**{argument: value})


# --- the deadline ---


def test_a_wait_that_fits_is_waited() -> None:
    assert decided() == 0.25
    assert decided(elapsed=59.74) == 0.25


@pytest.mark.parametrize("elapsed", [59.75, 60.0, 61.0])
def test_the_deadline_is_asked_before_the_sleep(elapsed: float) -> None:
    assert decided(elapsed=elapsed) is None


def test_the_longest_time_of_the_backoff_ends_a_call_too() -> None:
    config = RetryConfig(backoff=BackoffStrategy(max_elapsed_time=10_000))
    assert decided(config=config, elapsed=9.7) == 0.25
    assert decided(config=config, elapsed=9.75) is None


def test_a_429_is_repeated_until_the_deadline_and_no_longer() -> None:
    limited = outcome_of(429)
    assert decided(limited, attempt=1_000_000, elapsed=50.0, retry_after=5.0) == 5.0
    assert decided(limited, attempt=2, elapsed=55.0, retry_after=5.0) is None


def test_the_services_own_wait_goes_before_ours() -> None:
    assert decided(outcome_of(503), retry_after=7.5) == 7.5


@pytest.mark.parametrize(("retry_after", "wait"), [(120.0, 120.0), (120.1, None), (1e9, None)])
def test_a_wait_beyond_the_cap_is_raised(retry_after: float, wait: float | None) -> None:
    assert decided(outcome_of(429), retry_after=retry_after, deadline=1e12) == wait


# --- Retry-After ---

NOW = datetime(2026, 11, 20, 12, 0, 0, tzinfo=UTC)


def told(headers: Mapping[str, str]) -> float | None:
    return read_retry_after(headers, lambda: NOW)


@in_one_test(
    "text, seconds",
    [
        ("0", 0.0),
        ("30", 30.0),
        (" 30 ", 30.0),
        ("1.5", 1.5),
        ("1e1", 10.0),
        ("Fri, 20 Nov 2026 12:00:30 GMT", 30.0),
        ("Friday, 20-Nov-26 12:00:30 GMT", 30.0),
        ("Fri, 20 Nov 2026 13:00:30 +0100", 30.0),
        ("Fri, 20 Nov 2026 12:00:30 -0000", 30.0),
        ("Fri, 20 Nov 2026 12:00:00 GMT", 0.0),
        ("Fri, 20 Nov 2026 11:59:59 GMT", None),
        ("Fri, 20 Nov 99999 12:00:00 GMT", None),
        ("Fri, 20 Nov 2026 12:00:00 +9999999999999", None),
        ("Fri, 99 Nov 2026 12:00:00 GMT", None),
        ("nan", None),
        ("inf", None),
        ("-inf", None),
        ("-1", None),
        ("1e999", None),
        ("9" * 400, None),
        ("", None),
        ("soon", None),
        ("30 s", None),
        ("\N{SNOWMAN}", None),
    ],
)
def test_retry_after_is_a_number_of_seconds_or_a_date(text: str, seconds: float | None) -> None:
    assert told({"Retry-After": text}) == seconds


def test_no_retry_after_asks_for_nothing() -> None:
    assert told({}) is None


def test_a_date_is_read_by_the_services_own_clock() -> None:
    headers = {
        "Retry-After": "Thu, 01 Jan 2015 00:01:00 GMT",
        "Date": "Thu, 01 Jan 2015 00:00:50 GMT",
    }
    assert told(headers) == 10.0


@pytest.mark.parametrize("date", ["", "garbage", "Fri, 99 Nov 2026 12:00:00 GMT"])
def test_a_date_is_read_by_our_clock_where_the_services_does_not_read(date: str) -> None:
    assert told({"Retry-After": "Fri, 20 Nov 2026 12:00:30 GMT", "Date": date}) == 30.0


def test_milliseconds_go_first() -> None:
    assert told({"retry-after-ms": "1500", "Retry-After": "30"}) == 1.5
    assert told({"retry-after-ms": "0", "Retry-After": "30"}) == 0.0


@in_one_test("millis", ["", "soon", "nan", "inf", "-5", "1e999"])
def test_milliseconds_that_make_no_sense_leave_the_word_to_retry_after(millis: str) -> None:
    assert told({"retry-after-ms": millis, "Retry-After": "30"}) == 30.0
    assert told({"retry-after-ms": millis}) is None


PIECES = st.sampled_from(
    [
        *("Fri,", "Fri", "20", "Nov", "2026", "12:00:30", "12.0.1", "GMT", "+0100", "-0000"),
        *("20-Nov-26", "2026,", "Nov,", "--", "1:", ":1", "9" * 30, *"-,:+.²\x00"),
    ]
)
TEXTS = st.text() | st.builds(str.join, st.sampled_from([" ", "-", ""]), st.lists(PIECES))
HEADERS = st.dictionaries(st.sampled_from(["Retry-After", "retry-after-ms", "Date"]), TEXTS)


@pytest.mark.slow
@patient
@given(HEADERS)
@example(
    {"Retry-After": "Fri, 31 Dec 9999 23:59:59 -2359", "Date": "Mon, 01 Jan 0001 00:00:00 GMT"}
)
def test_whatever_the_headers_say_the_wait_is_finite_and_not_negative(
    headers: dict[str, str],
) -> None:
    seconds = told(headers)
    assert seconds is None or 0 <= seconds < math.inf


# --- the quota ---


def drained() -> RetryQuota:
    quota = RetryQuota()
    while quota.take():
        pass
    return quota


def count(take: Callable[[], bool]) -> int:
    return sum(iter(take, False))


def test_a_full_quota_pays_for_a_hundred_retries() -> None:
    assert count(RetryQuota().take) == 100


def test_five_successes_pay_for_one_retry() -> None:
    quota = drained()
    for _ in range(4):
        quota.refund()
    assert not quota.take()
    quota.refund()
    assert count(quota.take) == 1


def test_successes_never_fill_the_quota_beyond_its_capacity() -> None:
    quota = RetryQuota()
    for _ in range(1000):
        quota.refund()
    assert count(quota.take) == 100
