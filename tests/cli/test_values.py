"""Values of options that people get wrong: one line says what is meant, and nothing is sent."""

import pytest

from openrouter_keys.cli.values import read_amount, read_duration, read_expiry
from tests.commands import Command
from tests.tables import in_one_test

LONG = ("3000000d", "36526d", "999999999999w", "9" * 400 + "d", "9" * 400, "inf", "nan", "1e400")


@in_one_test(
    "words",
    [
        ("create", "a", "--show-secret", "--expires-at"),
        ("ensure", "a", "--show-secret", "--journal", "a.journal", "--expires-at"),
        ("ensure", "a", "--show-secret", "--journal", "a.journal", "--wait"),
        ("release", "a", "--yes", "--journal", "a.journal", "--quiet-period"),
        ("provision", "a.csv", "--quiet-period"),
        ("list", "--timeout"),
        ("rotate", "3f9a1c07", "--journal", "a.journal", "-o", "a.env", "--grace"),
        ("lease", "--name", "a", "--limit", "1", "--expires-in"),
    ],
)
@in_one_test("duration", LONG)
def test_a_duration_without_end_is_refused(
    command: Command, words: tuple[str, ...], duration: str
) -> None:
    program = ("--", "true") if words[0] == "lease" else ()
    ran = command(*words, duration, *program)
    assert (ran.code, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert "must be a" in ran.err
    assert not command.emulator.requests


@in_one_test(
    "text, hint",
    [
        ("2031-12-31", ": add the time of day and the zone: T23:59:59Z is the end of that day"),
        ("2031-W52", ": add the time of day and the zone"),
        ("2031-12-31T10:00", ": add its zone: Z for UTC, or +02:00"),
        ("2031-12-31 10:00:00.5", ": add its zone"),
        ("31/12/2031", ": write the year first"),
        ("12.31.2031 10:00", ": write the year first"),
        ("3000000d", ": must be a duration of at most 36525d"),
        ("30days", ": must be a duration such as"),
        ("2031-13-31", ""),
        ("someday", ""),
    ],
)
def test_a_time_that_is_not_clear_gets_a_hint(command: Command, text: str, hint: str) -> None:
    problem = "must be a time such as 2027-12-31T23:59:59Z, a duration such as 30d, or none, not "
    with pytest.raises(ValueError, match=r"^must be") as raised:
        read_expiry(text)
    assert str(raised.value).startswith(f"{problem}{text!r}{hint}")
    ran = command("create", "a", "--show-secret", "--expires-at", text)
    assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert f"{text!r}{hint}" in ran.err


@in_one_test(
    "text, amount",
    [
        *[(text, 5.0) for text in ("5", "$5", "5$", "5 $", "US$ 5", "USD 5.00", " 5 usd ")],
        ("none", None),
        ("None", None),
    ],
)
def test_dollars_may_have_their_sign(text: str, amount: float | None) -> None:
    assert read_amount(text) == amount


@in_one_test("text", ["5,50", "1.234,56 €", "€5", "5 EUR", "1'000", "five", "", "$", "5 5"])
def test_no_other_amount_is_guessed(text: str) -> None:
    with pytest.raises(ValueError, match=r"^must be US dollars such as 50, or none, not "):
        read_amount(text)


@in_one_test(
    "text, seconds",
    [("90", 90), ("1h30m", 5400), ("0.5d", 43_200), ("36525d", 3_155_760_000), ("1w", 604_800)],
)
def test_a_duration_is_in_seconds(text: str, seconds: float) -> None:
    assert read_duration(text) == seconds


@in_one_test("given", ["2s", "1.5m", "1h30m", "0.5s", "20", "0.5"])
def test_a_timeout_is_a_duration_or_seconds(command: Command, given: str) -> None:
    assert command("list", "--timeout", given).code == 0


@in_one_test("given", ["0", "0s", "-1", "2x", "soon"])
def test_a_timeout_is_longer_than_nothing(command: Command, given: str) -> None:
    ran = command("list", "--timeout", given)
    assert (ran.code, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert not command.emulator.requests
