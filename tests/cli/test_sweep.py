"""The command `sweep`: it lists by default, asks, and changes nothing without a yes."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from openrouter_keys.emulator import Fault, StoredKey
from tests.commands import Command


def stray(command: Command, name: str = "stray", **given: Any) -> StoredKey:
    return command.emulator.account.add(name, **given)


def known(command: Command, ref: str, journal: str) -> None:
    assert command("ensure", ref, "--limit", "5", "--journal", journal, "--json").code == 0
    command.emulator.requests.clear()


def changes(command: Command) -> list[str]:
    operations = [request.operation for request in command.emulator.requests]
    return [each for each in operations if each not in ("list", "get", "current")]


def test_it_lists_what_no_journal_knows(command: Command) -> None:
    known(command, "a", "j")
    known(command, "b", "k")
    key = stray(command, usage=1.5, created_at=datetime(2026, 1, 2, tzinfo=UTC))
    ran = command("sweep", "--journal", "j", "--journal", "k", "--json")
    found = json.loads(ran.out)
    assert (ran.code, [row["hash"] for row in found["data"]]) == (0, [key.hash])
    assert (found["known"], found["others"], found["stopped"]) == (2, 0, None)
    row = found["data"][0]
    assert (row["unused"], row["outcome"], row["created_at"]) == (
        False, "unknown", "2026-01-02T00:00:00Z",
    )  # fmt: skip
    assert "1 key that no journal knows; 2 in the journals" in ran.err
    assert not changes(command)
    one = command("sweep", "--csv", OPENROUTER_KEYS_JOURNAL="j")
    assert len(one.out.splitlines()) == 3  # the header, the stray, and that of k
    without = command("sweep", "--jsonl", OPENROUTER_KEYS_JOURNAL="")
    assert (len(without.out.splitlines()), "no journal was given" in without.err) == (3, True)


@pytest.mark.parametrize("how", ["--disable", "--delete"])
def test_it_asks(command: Command, how: str) -> None:
    known(command, "a", "j")
    key = stray(command)
    ran = command("sweep", "--journal", "j", how)
    assert (ran.code, "give --yes" in ran.err, changes(command)) == (2, True, [])
    looked = command("sweep", "--journal", "j", how, "-n")
    assert (looked.code, "unknown" in looked.out, changes(command)) == (0, True, [])
    ran = command("sweep", "--journal", "j", how, "--yes")
    assert (ran.code, f"; 1 {how[2:]}d; 1 in" in ran.err) == (0, True)
    assert key.disabled
    assert (key.hash in command.emulator.account.keys) == (how == "--disable")
    assert changes(command) == (["update"] if how == "--disable" else ["update", "delete"])


@pytest.mark.slow
@pytest.mark.parametrize(("answer", "code"), [("n", 1), ("y", 0)])
def test_at_a_terminal_it_asks_with_names(command: Command, answer: str, code: int) -> None:
    known(command, "a", "j")
    stray(command)
    stray(command, "used", usage=1)
    shown = command.terminal("sweep", "--journal", "j", "--delete")
    shown.expect(r"Delete 2 keys for good \('used', 'stray'\), 1 of which were used\? \[y/N\] ")
    shown.sendline(answer)
    assert shown.wait() == code
    assert len(command.emulator.account.keys) == (3 if answer == "n" else 1)


def test_each_filter(command: Command) -> None:
    long_ago = datetime.now(UTC) - timedelta(days=40)
    stray(command, "trial-1", created_at=long_ago)
    stray(command, "trial-2")
    stray(command, "trial-3", created_at=long_ago, usage=1)
    stray(command, "other", created_at=long_ago)
    words = ("--unused", "--older-than", "30d", "--name", "trial-*", "--delete", "--yes")
    ran = command("sweep", *words)
    assert (ran.code, "3 more that were not asked for" in ran.err) == (0, True)
    left = sorted(key.name for key in command.emulator.account.keys.values())
    assert left == ["other", "trial-2", "trial-3"]


FAULTS = {
    "one of two": (Fault("delete", "status", status=409), 3),
    "both": (Fault("delete", "status", status=409, times=None), 1),
    "all": (Fault("update", "status", status=403, times=None), 4),
}


@pytest.mark.parametrize("case", FAULTS)
def test_what_is_kept_is_a_failure_that_says_why(command: Command, case: str) -> None:
    fault, code = FAULTS[case]
    known(command, "a", "j")
    stray(command)
    stray(command, "two")
    command.emulator.faults.append(fault)
    ran = command("sweep", "--journal", "j", "--delete", "--yes", "--json")
    assert ran.code == code
    kept = [row for row in json.loads(ran.out)["data"] if row["outcome"].startswith("kept: ")]
    assert kept
    assert ("stopped: " in ran.err) == (code == 4)


def test_a_key_that_a_create_may_have_made_is_told(command: Command) -> None:
    command.emulator.faults.append(Fault("create", "closed", phase="after", times=None))
    assert command("ensure", "a", "--wait", "0", "--journal", "j", "--json").code == 5
    command.emulator.faults.clear()
    ran = command("sweep", "--journal", "j", "--delete", "--yes")
    assert (ran.code, "in doubt: a create of the ref 'a'" in ran.out) == (0, True)
    assert len(command.emulator.account.keys) == 1


MISTAKES: dict[str, tuple[list[str], str]] = {
    "two actions": (["--disable", "--delete"], "give --disable or --delete"),
    "no journal": (["--delete", "--yes"], "--journal: there is none"),
    "no such journal": (["--journal", "none"], "is not there"),
    "no age": (["--older-than", "old"], "must be a duration"),
    "a word": (["stray"], "stray"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_one_line_that_helps(command: Command, case: str) -> None:
    words, message = MISTAKES[case]
    ran = command("sweep", *words)
    assert (ran.code in (1, 2), ran.out, len(ran.err.splitlines())) == (True, "", 1)
    assert message in ran.err
    assert not changes(command)
