"""`usage`: what keys spent, of which limit, for programs and at a terminal."""

import csv
import io
import json
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from attrs import evolve

from openrouter_keys.cli.terminal.tables import SHORT_HASH
from openrouter_keys.cli.usage.spending import AMOUNTS, ordered, spending
from openrouter_keys.cli.usage.table import filled_of, percent
from openrouter_keys.emulator import Emulator, StoredKey, Workspace
from openrouter_keys.models import Key
from tests.commands import Command, Ran
from tests.records import key as key_record
from tests.tables import in_one_test

ESCAPE = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")
NOON = datetime(2027, 3, 17, 12, tzinfo=UTC)  # a Wednesday
ELSEWHERE = "e2e2e2e2-0000-4000-8000-000000000002"


def spender(emulator: Emulator, name: str, usd: float, **fields: Any) -> StoredKey:
    """A key that spent as much this month, a half of it this week, a tenth of it today."""
    key = emulator.account.add(name, **fields)
    for days, part in ((10, 0.5), (1, 0.4), (0, 0.1)):
        emulator.account.clock = days_before(days)
        if usd:
            emulator.account.spend(key.hash, usd * part)
    return key


def days_before(days: int) -> Callable[[], datetime]:
    return lambda: NOON - timedelta(days=days)


def three(emulator: Emulator) -> tuple[StoredKey, StoredKey, StoredKey]:
    return (
        spender(emulator, "small", 1.0, limit=100, limit_reset="monthly"),
        spender(emulator, "large", 400.0),
        spender(emulator, "tight", 9.0, limit=10),
    )


def data(ran: Ran) -> list[dict[str, Any]]:
    assert (ran.code, ran.err) == (0, "")
    found: list[dict[str, Any]] = json.loads(ran.out)["data"]
    return found


def names(ran: Ran) -> list[str]:
    return [each["name"] for each in data(ran)]


def plain(text: str) -> list[str]:
    return [line.rstrip() for line in ESCAPE.sub("", text).splitlines()]


def record(**changes: Any) -> Key:
    nothing = dict.fromkeys(AMOUNTS, 0.0)
    return evolve(key_record(), include_byok_in_limit=False, **{**nothing, **changes})


# what programs get


def test_json_has_each_keys_amounts_and_its_share_of_the_limit(command: Command) -> None:
    small, large, tight = three(command.emulator)

    got = {each["hash"]: each for each in data(command("usage", "--json"))}

    amounts = {"usage_daily": 40.0, "usage_weekly": 200.0, "usage_monthly": 400.0, "usage": 400.0}
    assert {name: got[large.hash][name] for name in amounts} == amounts
    shown = ("state", "limit", "limit_reset", "limit_remaining", "limit_spent", "share")
    assert [got[small.hash][name] for name in shown] == ["active", 100, "monthly", 99, 1, 0.01]
    assert [got[large.hash][name] for name in shown] == ["active", None, None, None, None, None]
    assert [got[tight.hash][name] for name in shown] == ["near", 10, None, 1, 9, 0.9]


def test_json_has_the_total_of_all_keys_also_of_those_that_are_not_shown(command: Command) -> None:
    three(command.emulator)

    ran = command("usage", "--json", "--top", "1")

    assert names(ran) == ["large"]
    total = json.loads(ran.out)["total"]
    assert (total["keys"], total["near"], total["reached"]) == (3, 1, 0)
    assert total["usage_monthly"] == 410
    assert total["usage_daily"] == pytest.approx(41)


@pytest.mark.parametrize(
    ("reset", "share"), [("daily", 0.1), ("weekly", 0.5), ("monthly", 1.0), (None, 1.5)]
)
def test_a_limit_that_resets_is_compared_with_its_own_period(
    command: Command, reset: str | None, share: float
) -> None:
    key = spender(command.emulator, "a", 10.0, limit=10, limit_reset=reset)
    key.usage += 5  # before this month

    (got,) = data(command("usage", "--json"))

    assert got["share"] == pytest.approx(share)
    assert got["state"] == ("reached" if share >= 1 else "active")


def test_what_the_service_says_is_left_counts_more_than_the_amounts() -> None:
    told = record(limit=50.0, limit_remaining=20.0, limit_reset=None, usage=49.0)
    unknown = record(limit=50.0, limit_remaining=None, limit_reset="daily", usage_daily=5.0)
    passed = record(limit=50.0, limit_remaining=0.0, limit_reset=None, usage=75.0)
    binary = record(limit=0.3, limit_remaining=0.2, limit_reset=None)
    credit = record(limit=50.0, limit_remaining=60.0, limit_reset=None)
    nothing = record(limit=0.0, limit_remaining=0.0, limit_reset=None)

    got = [spending(each, 0.8, NOON) for each in (told, unknown, passed, binary, credit, nothing)]

    assert [each.limit_spent for each in got] == [30.0, 5.0, 75.0, 0.1, 0.0, 0.0]
    assert [each.share for each in got] == [0.6, 0.1, 1.5, pytest.approx(1 / 3), 0.0, 1.0]


def test_spending_on_own_provider_keys_is_told_and_counts_where_it_should(
    command: Command,
) -> None:
    account = command.emulator.account
    counts = account.add("counts", limit=10, include_byok_in_limit=True)
    apart = account.add("apart", limit=10)
    for key in (counts, apart):
        account.spend(key.hash, 9.0, byok=True)

    got = {each["name"]: each for each in data(command("usage", "--json"))}

    assert [got[name]["byok_usage_monthly"] for name in ("counts", "apart")] == [9, 9]
    assert [got[name]["share"] for name in ("counts", "apart")] == [0.9, 0]


@pytest.mark.parametrize(
    ("by", "order"),
    [
        ("month", ["b", "d", "A", "c"]),
        ("today", ["d", "A", "b", "c"]),
        ("week", ["A", "b", "d", "c"]),
        ("spent", ["c", "b", "d", "A"]),
        ("share", ["A", "b", "d", "c"]),
        ("name", ["A", "b", "c", "d"]),
    ],
)
def test_the_largest_come_first_and_names_as_in_a_dictionary(
    command: Command, by: str, order: Sequence[str]
) -> None:
    spent = {"A": (2, 9, 5, 5), "b": (1, 8, 9, 10), "c": (0, 0, 0, 99), "d": (3, 7, 8, 9)}
    for name, (daily, weekly, monthly, usage) in spent.items():
        limit = {"A": 5.0, "b": 20.0, "d": 90.0}.get(name)
        command.emulator.account.add(
            name, usage_daily=daily, usage_weekly=weekly, usage_monthly=monthly, usage=usage,
            limit=limit,
        )  # fmt: skip

    assert names(command("usage", "--json", "--sort", by)) == order
    if by == "month":
        assert names(command("usage", "--json")) == order


def test_equals_stand_by_name() -> None:
    keys = [record(name=name) for name in ("c", "B", "a")]
    got = ordered([spending(key, 0.8, NOON) for key in keys], "month")
    assert [each.name for each in got] == ["a", "B", "c"]


def test_keys_that_do_not_work_are_left_out_unless_all_are_wanted(command: Command) -> None:
    account = command.emulator.account
    account.add("works")
    account.add("off", disabled=True, limit=1, usage=1)
    account.add("over", expires_at=account.clock() - timedelta(days=1), limit=1, usage=1)

    assert names(command("usage", "--json")) == ["works"]
    got = {each["name"]: each["state"] for each in data(command("usage", "--json", "--all"))}
    assert got == {"works": "active", "off": "disabled", "over": "expired"}


def test_names_and_a_workspace_choose_keys(command: Command) -> None:
    account = command.emulator.account
    account.workspaces[ELSEWHERE] = Workspace(ELSEWHERE, "Elsewhere")
    for name, workspace in (("cust-1", None), ("other", None), ("cust-2", ELSEWHERE)):
        account.add(name, **({"workspace_id": workspace} if workspace else {}))

    assert names(command("usage", "--json", "--name", "cust-*")) == ["cust-1"]
    assert names(command("usage", "--json", "--workspace-id", ELSEWHERE)) == ["cust-2"]


def test_lines_csv_and_a_pipe_have_the_same_fields(command: Command) -> None:
    key = spender(command.emulator, "a\tb", 4.0, limit=5)

    (line,) = command("usage", "--jsonl").out.splitlines()
    (row,) = csv.DictReader(io.StringIO(command("usage", "--csv").out))
    head, piped = command("usage").out.splitlines()

    known = json.loads(line)
    assert known["hash"] == row["hash"] == key.hash
    assert [*known] == [*row] == head.split("\t")
    assert (known["share"], row["share"], row["name"]) == (0.8, "0.8", "a\tb")
    assert r"a\tb" in piped.split("\t")


# an alarm


@pytest.mark.parametrize(
    ("near", "code", "told"),
    [
        ("50", 3, "2 of 4 keys have spent 50% of their limit or more: 'c', 'b'"),
        ("80", 3, "1 of 4 keys have spent 80% of their limit or more: 'c'"),
        ("100", 3, "1 of 4 keys have spent 100% of their limit or more: 'c'"),
    ],
)
def test_fail_near_is_an_alarm_for_working_keys(
    command: Command, near: str, code: int, told: str
) -> None:
    account = command.emulator.account
    account.add("a", limit=10, usage=4, usage_monthly=4)
    account.add("b", limit=10, usage=6, usage_monthly=6)
    account.add("c", limit=10, usage=10, usage_monthly=10)
    account.add("off", limit=10, usage=10, disabled=True)

    ran = command("usage", "--all", "--fail-near", "--near", near, "--top", "1")

    assert ran.code == code
    assert ran.err == f"openrouter-keys: {told}\n"


def test_fail_near_ends_with_0_where_none_is_and_near_alone_never_fails(command: Command) -> None:
    command.emulator.account.add("a", limit=10, usage=7.9)
    assert command("usage", "--fail-near").code == 0
    assert command("usage", "--near", "50").code == 0
    assert command("usage", "--near", "50", "--fail-near").code == 3


@in_one_test(
    "words",
    [
        ("--near", "0"),
        ("--near", "101"),
        ("--near", "nan"),
        ("--top", "0"),
        ("--sort", "size"),
        ("--json", "--csv"),
        ("--force",),
        ("--html", "x.html", "--json"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_asked(
    command: Command, words: Sequence[str]
) -> None:
    ran = command("usage", *words)
    assert ran.code == 2
    assert len(ran.err.splitlines()) == 1
    assert command.emulator.requests == []


# at a terminal


@pytest.mark.slow
def test_at_80_columns_there_is_a_bar_for_each_limit_and_a_total(command: Command) -> None:
    three(command.emulator)

    lines = plain(command.at_a_terminal("usage", columns=80).out)

    assert lines == [
        "NAME   OF ITS LIMIT                     TODAY     WEEK    MONTH  ALL TIME",
        "large                no limit          $40.00  $200.00  $400.00   $400.00",
        "tight  ███████░  90% of  $10.00         $0.90    $4.50    $9.00     $9.00  near",
        "small  █░░░░░░░   1% of $100.00/month   $0.10    $0.50    $1.00     $1.00",
        "───────────────────────────────────────────────────────────────────────────────",
        "total                                  $41.00  $205.00  $410.00   $410.00",
        "3 keys; 1 near the limit (80% or more)",
    ]


@pytest.mark.slow
def test_at_140_columns_there_is_more(command: Command) -> None:
    _, large, _ = three(command.emulator)
    command.emulator.account.spend(large.hash, 3.0, byok=True)

    lines = plain(command.at_a_terminal("usage", columns=140).out)

    heads = "NAME OF ITS LIMIT TODAY WEEK MONTH ALL TIME BYOK MONTH HASH"
    assert lines[0].split() == heads.split()
    assert lines[1].split()[-1] == large.hash[:SHORT_HASH]
    assert "$3.00" in lines[1]
    assert "████████████████"[:14] + "░░" in lines[2]
    assert lines[-1] == "own provider keys (BYOK): $3.00 this month, $3.00 of all time"


@pytest.mark.slow
def test_those_that_are_not_shown_are_one_line(command: Command) -> None:
    three(command.emulator)
    lines = plain(command.at_a_terminal("usage", "--top", "1", columns=80).out)
    assert [line.split()[0] for line in lines[1:3]] == ["large", "2"]
    assert lines[2].split() == ["2", "more", "$1.00", "$5.00", "$10.00", "$10.00"]


def test_a_bar_is_full_or_empty_only_where_that_is_so() -> None:
    shares = (0, 0.001, 0.5, 0.9999, 1, 3.7, 50)
    assert [filled_of(share, 8) for share in shares] == [0, 1, 4, 7, 8, 8, 8]
    told = ["0%", "0%", "50%", "99%", "100%", "370%", ">999%"]
    assert [percent(share) for share in shares] == told


@pytest.mark.slow
@pytest.mark.parametrize("columns", [40, 60, 80, 100, 140])
def test_every_line_fits(command: Command, columns: int) -> None:
    account = command.emulator.account
    account.add("客户-東京-ロングネーム支店" * 3, limit=5, usage=5)
    account.add("x" * 200, limit=12345.67, limit_reset="monthly", usage_monthly=12000)
    account.add("y", disabled=True, byok_usage=2, byok_usage_monthly=2)

    table = command.at_a_terminal("usage", "--all", columns=columns).out.partition("3 keys")[0]

    widths = [len(line) + len(re.findall(r"[^\x00-\u2fff]", line)) for line in plain(table)]
    assert max(widths) <= max(columns, 58)
    assert len({*widths[1:3]}) >= 1
    if columns >= 60:
        assert "reached" in table
        assert "$12,345.67/month" in table


@pytest.mark.slow
def test_names_steer_no_terminal_and_are_no_markup(command: Command) -> None:
    command.emulator.account.add("[red]x[/red] \x1b[31m\a :smile:")
    shown = command.at_a_terminal("usage", columns=140).out
    assert "\x1b[31m" not in shown
    assert "\a" not in shown
    assert r"[red]x[/red] \x1b[31m\x07 :smile:" in shown


@pytest.mark.slow
def test_without_colours_marks_are_words_and_bars_are_characters(command: Command) -> None:
    three(command.emulator)
    coloured = command.at_a_terminal("usage").out
    shown = command.at_a_terminal("usage", NO_COLOR="1").out
    assert re.search(r"\x1b\[[0-9;]*3\d", coloured)
    assert not re.search(r"\x1b\[[0-9;]*[349]\d", shown)
    assert plain(shown) == plain(coloured)


@pytest.mark.slow
def test_a_terminal_of_few_characters_gets_those(command: Command) -> None:
    three(command.emulator)
    shown = command.at_a_terminal("usage", PYTHONIOENCODING="ascii").out
    assert shown.isascii()
    assert "##############..  90%" in ESCAPE.sub("", shown)


@pytest.mark.slow
def test_no_keys_are_no_table(command: Command) -> None:
    assert plain(command.at_a_terminal("usage").out) == ["0 keys"]
    assert json.loads(command("usage", "--json").out)["data"] == []
    assert command("usage", "--fail-near").code == 0


@pytest.mark.slow
def test_thousands_of_keys_are_read_and_shown(command: Command) -> None:
    for number in range(3000):
        command.emulator.account.add(f"customer-{number}", limit=10, usage=number % 11)

    lines = plain(command.at_a_terminal("usage", columns=80).out)

    assert len(lines) == 3004
    assert lines[-1].startswith("3,000 keys; 544 near the limit (80% or more); 272 at the limit")
