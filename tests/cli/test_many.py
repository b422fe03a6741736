"""`delete`, `update`, `enable` and `disable` of many keys: chosen one by one, by file, by name."""

import json
from typing import Any

import pytest

from openrouter_keys.emulator import Fault, StoredKey
from openrouter_keys.emulator.stored import Workspace
from tests.commands import Command, Ran

ELSEWHERE = "e2e2e2e2-0000-4000-8000-000000000002"


def add(command: Command, *names: str, **given: Any) -> list[StoredKey]:
    return [command.emulator.account.add(name, **given) for name in names]


def outcomes(ran: Ran) -> dict[str, str]:
    return {row["name"]: row["outcome"] for row in json.loads(ran.out)["data"]}


def left(command: Command) -> list[str]:
    return sorted(key.name for key in command.emulator.account.keys.values())


WAYS: dict[str, tuple[list[str], str]] = {
    "one by one": (["trial-1", "trial-2"], ""),
    "by a pattern": (["--name", "trial-*"], ""),
    "by a pattern, in other words": (["--match", "trial-[12]"], ""),
    "by a file of names": (["--file", "names.txt"], ""),
    "by a file of a table": (["--file", "names.csv"], ""),
    "by a file on standard input": (["--file", "-"], "trial-1\ntrial-2\n"),
    "by standard input": (["-"], "name\ntrial-2\ntrial-1\n"),
}


def chosen(command: Command) -> None:
    (command.folder / "names.txt").write_text("\ufefftrial-1\r\n\r\ntrial-2\r\n")
    (command.folder / "names.csv").write_text("limit,name\n5,trial-1\n6,trial-2\n")


@pytest.mark.parametrize("way", WAYS)
def test_delete(command: Command, way: str) -> None:
    add(command, "trial-1", "trial-3"[:6] + "2", "customer")
    chosen(command)
    words, stdin = WAYS[way]
    refused = command("delete", *words, stdin=stdin)
    assert (refused.code, len(left(command))) == (2, 3)
    assert "would delete 2 keys for good ('trial-" in refused.err
    ran = command("delete", *words, "--yes", "--json", stdin=stdin)
    assert (ran.code, outcomes(ran)) == (0, {"trial-1": "deleted", "trial-2": "deleted"})
    assert left(command) == ["customer"]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("verb", ["disable", "enable", "update"])
def test_a_change_asks_first(command: Command, way: str, verb: str) -> None:
    keys = add(command, "trial-1", "trial-2", "customer", disabled=verb == "enable")
    chosen(command)
    words, stdin = WAYS[way]
    change = (verb, *words)
    if verb == "update":
        change = (*(word.replace("--name", "--match") for word in change), "--limit", "3")
    refused = command(*change, stdin=stdin)
    assert (refused.code, f"would {verb} 2 keys" in refused.err) == (2, True)
    looked = command(*change, "-n", "--json", stdin=stdin)
    assert outcomes(looked) == dict.fromkeys(("trial-1", "trial-2"), "would be changed")
    assert command.emulator.count("update") == 0
    ran = command(*change, "--yes", "--json", stdin=stdin)
    assert (ran.code, outcomes(ran)) == (0, dict.fromkeys(("trial-1", "trial-2"), "changed"))
    shown = [(key.limit, key.disabled) for key in keys]
    expected = {"disable": (None, True), "enable": (None, False), "update": (3, False)}[verb]
    assert shown[:2] == [expected, expected]
    assert shown[2] == (None, verb == "enable")
    again = command(*change, "--json", stdin=stdin)  # nothing is left to ask for
    assert (again.code, {*outcomes(again).values()}) == (0, {"as asked for already"})
    assert command.emulator.count("update") == 2


@pytest.mark.parametrize("verb", ["disable", "enable"])
def test_one_key_is_changed_without_a_question(command: Command, verb: str) -> None:
    (key,) = add(command, "customer", disabled=verb == "enable")
    assert command(verb, "customer", "-n").code == 0
    assert key.disabled == (verb == "enable")
    ran = command(verb, "customer", "--json")
    assert (ran.code, json.loads(ran.out)["data"]["disabled"]) == (0, verb == "disable")
    assert key.disabled == (verb == "disable")


def test_a_pattern_asks_for_one_key_too(command: Command) -> None:
    """Who writes a pattern does not know how many keys it has."""
    add(command, "trial-1")
    assert command("disable", "--name", "trial-*").code == 2
    assert command.emulator.count("update") == 0


@pytest.mark.slow
@pytest.mark.parametrize(("answer", "code"), [("n", 1), ("y", 0)])
def test_at_a_terminal_it_asks_with_the_count(command: Command, answer: str, code: int) -> None:
    add(command, *(f"trial-{number}" for number in range(5)))
    shown = command.terminal("disable", "--name", "trial-*")
    shown.expect(r"Disable 5 keys \('trial-4', 'trial-3', 'trial-2' and 2 more\)\? \[y/N\] ")
    shown.sendline(answer)
    assert shown.wait() == code
    assert command.emulator.count("update") == (5 if answer == "y" else 0)


def test_a_pattern_may_be_of_another_workspace(command: Command) -> None:
    command.emulator.account.workspaces[ELSEWHERE] = Workspace(ELSEWHERE)
    add(command, "trial-1")
    add(command, "trial-2", workspace_id=ELSEWHERE)
    words = ("--name", "trial-*", "--workspace-id", ELSEWHERE, "--yes")
    assert command("delete", *words).code == 0
    assert left(command) == ["trial-1"]


MISSING: dict[str, tuple[list[str], int, str]] = {
    "by its hash": (["f" * 64], 0, ""),
    "by a beginning": (["ffffffff"], 0, "no key's hash begins with ffffffff"),
    "by its name": (["nobody"], 0, "no key has the name 'nobody'"),
    "by a pattern": (["--name", "no*"], 0, "no key has a name like 'no*'"),
    "one of two": (["customer", "nobody"], 0, "no key has the name 'nobody'"),
    "one of two hashes": (["f" * 64, "customer"], 0, ""),
}


@pytest.mark.parametrize("case", MISSING)
def test_missing_ok(command: Command, case: str) -> None:
    words, code, message = MISSING[case]
    add(command, "customer")
    strict = command("delete", *words, "--yes")
    assert strict.code in (1, 3)
    if "customer" in words and strict.code == 3:
        add(command, "customer")
    ran = command("delete", *words, "--yes", "--missing-ok")
    assert (ran.code, message in ran.err) == (code, True)
    assert left(command) == ([] if "customer" in words else ["customer"])


def test_missing_ok_excuses_nothing_else(command: Command) -> None:
    add(command, "one", "two")
    command.emulator.faults.append(Fault("delete", "status", status=409))
    ran = command("delete", "one", "two", "f" * 64, "--yes", "--missing-ok", "--json")
    assert ran.code == 3
    assert len(left(command)) == 1


FAULTS: dict[str, tuple[Fault, int]] = {
    "one is refused": (Fault("update", "status", status=409), 3),
    "all are refused": (Fault("update", "status", status=409, times=None), 1),
    "one is not there": (Fault("get", "status", status=404), 3),
    "the management key may not": (Fault("update", "status", status=403), 4),
    "the management key may not look": (Fault("get", "status", status=401, times=None), 4),
}


@pytest.mark.parametrize("case", FAULTS)
def test_what_some_keys_did_not_take_is_told(command: Command, case: str) -> None:
    fault, code = FAULTS[case]
    keys = add(command, "one", "two", "three")
    command.emulator.faults.append(fault)
    ran = command("disable", *(key.hash for key in keys), "--yes", "--json")
    assert ran.code == code
    if code != 4:
        changed = [name for name, outcome in outcomes(ran).items() if outcome == "changed"]
        assert len(changed) == sum(key.disabled for key in keys) == (2 if code == 3 else 0)


MISTAKES: dict[str, tuple[list[str], str]] = {
    "nothing": (["delete"], "give HASH, --file FILE or --name PATTERN"),
    "nothing to disable": (["disable", "--yes"], "give HASH, --file FILE or --name PATTERN"),
    "nothing to update": (["update", "--limit", "3"], "give HASH, --file FILE or --match PATTERN"),
    "two ways": (["delete", "one", "--name", "o*"], "give one of HASH"),
    "two files": (["delete", "-", "--file", "f"], "give one of HASH"),
    "no change": (["update", "one"], "nothing to update: give at least one"),
    "no change of many": (["update", "--match", "*"], "nothing to update: give at least one"),
    "one name for many": (["update", "one", "two", "--name", "x"], "the new name of one key"),
    "one name for a pattern": (["update", "--match", "*", "--name", "x"], "the new name of one"),
    "no such file": (["delete", "--file", "none.txt"], "cannot read none.txt"),
    "a folder": (["delete", "--file", "."], "cannot read ."),
    "no text": (["delete", "--file", "binary"], "is not UTF-8 text"),
    "two from standard input": (
        ["delete", "--file", "-", "--api-key-file", "-"], "cannot both come from standard input",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_one_line_that_helps(command: Command, case: str) -> None:
    words, message = MISTAKES[case]
    (command.folder / "binary").write_bytes(b"\xff\xfe\x00")
    ran = command(*words)
    assert (ran.code, ran.out, len(ran.err.splitlines())) == (2, "", 1)
    assert message in ran.err
    assert not command.emulator.requests
