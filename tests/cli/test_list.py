"""`list`: as many keys as are wanted, and how many a table does not show."""

from datetime import UTC, datetime, timedelta

import pytest

from tests.commands import Command


def fill(command: Command) -> None:
    account = command.emulator.account
    past = datetime.now(UTC) - timedelta(days=1)
    account.add("live-1")
    account.add("live-2")
    account.add("off", disabled=True)
    account.add("over", expires_at=past)
    account.add("both", expires_at=past, disabled=True)


NAMES = ("--csv", "--columns", "name")
LIMITS: dict[str, tuple[tuple[str, ...], list[str]]] = {
    "one": (("--limit", "1"), ["live-2"]),
    "more than there are": (("--limit", "9"), ["live-2", "live-1"]),
    "the first by another order": (("--limit", "1", "--sort", "name"), ["live-1"]),
    "of all": (("--limit", "2", "--all"), ["both", "over"]),
    "of a name": (("--limit", "1", "--name", "*1"), ["live-1"]),
}


@pytest.mark.parametrize("case", LIMITS)
def test_a_limit(command: Command, case: str) -> None:
    fill(command)
    words, expected = LIMITS[case]
    ran = command("list", *NAMES, *words)
    assert (ran.code, ran.out.splitlines()[1:], ran.err) == (0, expected, "")


def test_a_limit_asks_for_no_more_pages_than_it_needs(command: Command) -> None:
    for number in range(250):
        command.emulator.account.add(f"key-{number}")
    assert len(command("list", *NAMES, "--limit", "100").out.splitlines()) == 101
    assert command.emulator.count("list") == 1


@pytest.mark.parametrize("limit", ["0", "-1", "many"])
def test_what_is_no_limit_is_refused(command: Command, limit: str) -> None:
    ran = command("list", "--limit", limit)
    assert (ran.code, ran.out, command.emulator.requests) == (2, "", [])


HIDDEN = {
    "": "3 disabled or expired keys not shown: give --all",
    "--include-disabled": "2 expired keys not shown: give --all",
    "--include-expired": "2 disabled keys not shown: give --all",
    "--limit=1": "3 disabled or expired keys not shown: give --all",
    "--name=o*": "2 disabled or expired keys not shown: give --all",
    "--name=both": "1 disabled or expired key not shown: give --all",
    "--name=live*": "",
    "--all": "",
    "--include-disabled --include-expired": "",
}


@pytest.mark.slow
@pytest.mark.parametrize("words", HIDDEN)
def test_a_table_says_what_it_does_not_show(command: Command, words: str) -> None:
    fill(command)
    shown = command.at_a_terminal("list", *words.split()).out
    assert HIDDEN[words] in shown
    assert ("not shown" in shown) == bool(HIDDEN[words])


@pytest.mark.slow
def test_of_a_large_account_the_newest_are_counted(command: Command) -> None:
    for number in range(1_500):
        command.emulator.account.add(f"key-{number}", disabled=number >= 500)
    shown = command.at_a_terminal("list", "--limit", "1").out
    assert "1,000 or more disabled or expired keys not shown: give --all" in shown
    assert command.emulator.count("list") <= 12
