"""`apply`: the plan that people read, what it asks, where secrets go, how it ends."""

import json
import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from openrouter_keys import KeySpec, OpenRouter
from openrouter_keys.emulator import Fault
from tests.commands import Command, Ran
from tests.tables import in_one_test

QUICK = ("--quiet-period", "0.2s")
ROWS = ["a,50,monthly", "b,5,", "c,5,", "d,5,", "e,5,"]


def write(command: Command, rows: Sequence[str], name: str = "keys.csv") -> None:
    text = "".join(f"{row}\n" for row in ("name,limit,limit_reset", *rows))
    (command.folder / name).write_text(text, encoding="utf-8")


def apply(command: Command, *words: str) -> Ran:
    return command("apply", "keys.csv", *QUICK, *words)


def key(command: Command, name: str) -> Any:
    (found,) = [key for key in command.emulator.account.keys.values() if key.name == name]
    return found


def writes(command: Command) -> list[str]:
    return [
        each.operation
        for each in command.emulator.requests
        if each.operation not in ("list", "get")
    ]


@pytest.fixture
def applied(command: Command) -> Command:
    """An account as a file says."""
    write(command, ROWS)
    ran = apply(command, "--yes")
    assert (ran.code, len(command.emulator.account.keys)) == (0, 5)
    assert "the secrets are in the journal" in ran.err
    command.emulator.requests.clear()
    return command


def changed(command: Command) -> None:
    """Of each kind of change one."""
    write(command, ["a,80,monthly", "b,5,", "c,5,", "d,5,", "f,1,daily"])
    key(command, "b").limit = 500.0
    del command.emulator.account.keys[key(command, "c").hash]


PLAN = """\
~ update    a  limit 50 → 80
~ restore   b  limit 500 → 5  (changed by hand)
+ recreate  c  not done without --recreate: the key is gone; its user needs the secret of a new one
+ create    f  limit 1, limit_reset daily
- prune     e  not done without --prune disable|delete: no spec names it

create 1 key, update 1 key, restore 1 key; 1 unchanged
not done without --recreate: recreate 1 key
not done without --prune disable|delete: prune 1 key
limits a day: $0.00 → $1.00
limits a month: $50.00 → $80.00
limits once: $510.00 → $15.00
"""


def test_the_plan(applied: Command) -> None:
    """It is read at a glance, and changes nothing."""
    changed(applied)
    ran = apply(applied, "--plan")
    assert (ran.code, ran.out) == (0, PLAN)
    assert not writes(applied)
    assert apply(applied, "--plan", "--fail-on-changes").code == 3


def test_it_converges(applied: Command) -> None:
    """All changes are made, and a second run makes none."""
    changed(applied)
    words = ("--yes", "--recreate", "--prune", "delete", "--secret-file", "new.csv")
    ran = apply(applied, *words)
    assert ran.code == 0
    assert "1 created, 1 updated, 1 restored, 1 recreated, 1 pruned, 1 unchanged" in ran.err
    secrets = (applied.folder / "new.csv").read_text(encoding="utf-8")
    assert [str(key(applied, name).secret) in secrets for name in "abcdf"] == [
        *(False, False, True, False, True)
    ]
    assert sorted(each.name for each in applied.emulator.account.keys.values()) == [*"abcdf"]
    applied.emulator.requests.clear()
    ran = apply(applied, "--yes", "--recreate", "--prune", "delete", "--fail-on-changes")
    assert (ran.code, writes(applied)) == (0, [])
    assert "nothing to do; 5 unchanged\n" in ran.out


def test_what_is_left_undone(applied: Command) -> None:
    changed(applied)
    ran = apply(applied, "--yes", "--fail-on-changes")
    assert (ran.code, "2 not done" in ran.err) == (3, True)
    assert apply(applied, "--yes").code == 0


@pytest.mark.parametrize(
    ("words", "code", "problem"),
    [
        ((), 2, "would create 1 key, update 1 key, restore 1 key, and there is no terminal"),
        (("--yes", "--show-secret"), 2, "--show-secret: give --secret-file"),
        (("--yes", "--no-store-secrets"), 2, "the secrets would be lost"),
        (("--yes", "--prune", "keep"), 2, "--prune"),
        (("--yes", "--max-total-limit", "10"), 2, "beyond --max-total-limit 10"),
        (("--plan", "--max-total-limit", "10"), 2, "a run would refuse to begin"),
    ],
)
def test_refusals(applied: Command, words: Sequence[str], code: int, problem: str) -> None:
    changed(applied)
    ran = apply(applied, *words)
    assert (ran.code, problem in ran.err) == (code, True), ran.err
    assert not writes(applied)


def test_no_file(command: Command) -> None:
    assert "give FILE, the keys to have" in command("apply").err
    assert "no such" in command("apply", "none.csv").err.lower()


@pytest.mark.parametrize(("answer", "code"), [("n", 1), ("y", 0)])
@pytest.mark.slow
def test_it_asks_at_a_terminal(applied: Command, answer: str, code: int) -> None:
    """The plan, then the question; nothing is drawn before the answer."""
    changed(applied)
    shown = applied.terminal("apply", "keys.csv", *QUICK)
    shown.expect_exact("Create 1 key, update 1 key, restore 1 key? [y/N] ")
    told = shown.before or ""
    assert "~ update    a" in told
    assert "creating" not in told
    assert not writes(applied)
    shown.sendline(answer)
    assert shown.wait() == code
    assert bool(writes(applied)) is (answer == "y")


def test_json(applied: Command) -> None:
    changed(applied)
    plan = json.loads(apply(applied, "--plan", "--json").out)
    assert [(each["action"], each["needs"]) for each in plan["changes"]] == [
        ("update", None),
        ("restore", None),
        ("recreate", "recreate"),
        ("create", None),
        ("prune", "prune"),
    ]
    assert plan["changes"][0]["fields"] == [{"name": "limit", "before": 50.0, "after": 80}]
    assert plan["limits_before"] == {"monthly": 50.0, "once": 510.0, "without_limit": 0}
    ran = apply(applied, "--yes", "--json")
    record = json.loads(ran.out)
    assert (record["ok"], record["created"], record["updated"]) == (True, 1, 1)
    assert (record["plan"]["not_done"], record["provision"]["created"]) == (2, 1)


def test_it_stops_and_says_how_to_go_on(applied: Command) -> None:
    changed(applied)
    applied.emulator.faults.append(Fault("create", "status", status=403, times=None))
    ran = apply(applied, "--yes", "--json")
    assert ran.code == 4
    assert "stopped: " in ran.err
    assert "go on with: openrouter-keys" in ran.err
    record = json.loads(ran.out)
    assert (record["ok"], record["updated"], record["plan"]["unchanged"]) == (False, 1, 1)


def test_a_failure_is_shown(applied: Command) -> None:
    changed(applied)
    applied.emulator.faults.append(Fault("update", "status", status=400, times=1))
    ran = apply(applied, "--yes")
    assert ran.code == 3
    assert "failed: " in ran.err
    assert "try again with: " in ran.err


def test_disabled_rows(command: Command) -> None:
    """A row may ask for a key that is disabled; `provision` makes none."""
    (command.folder / "keys.csv").write_text("name,disabled\na,true\nb,false\n", encoding="utf-8")
    assert "only `apply`" in command("provision", "keys.csv").err
    assert not writes(command)
    assert apply(command, "--yes").code == 0
    assert {each.name: each.disabled for each in command.emulator.account.keys.values()} == {
        "a": True,
        "b": False,
    }
    ran = command("provision", "keys.json", "--journal", "keys.csv.journal")
    (command.folder / "keys.csv").write_text("name,disabled\na,\nb,\n", encoding="utf-8")
    ran = command("provision", "keys.csv")
    assert ran.code == 1
    assert "changed since the journal began (disabled): `apply`" in ran.err


def test_names_that_steer_a_terminal(command: Command, tmp_path: Path) -> None:
    text = json.dumps([{"ref": "a\x1b[2J", "name": "sk-or-v1-" + "a1" * 32}])
    (command.folder / "keys.json").write_text(text, encoding="utf-8")
    ran = command("apply", "keys.json", "--plan")
    assert "\x1b" not in ran.out
    assert "a1" * 32 not in ran.out


# --- a file that is cut off ---


@pytest.fixture
def cut(applied: Command) -> Command:
    """One row of five is left, and one is new."""
    write(applied, ["a,50,monthly", "z,5,"])
    return applied


TOO_MANY = "4 keys of 5 that work would be pruned, and at most 3 may be: "


@in_one_test("words", [(), ("--max-prune", "3"), ("--max-prune=79.9%",)])
def test_too_many_are_pruned(cut: Command, words: Sequence[str]) -> None:
    plan = apply(cut, "--plan", "--prune", "delete", *words)
    assert (plan.code, TOO_MANY in plan.err, "- prune     e" in plan.out) == (2, True, True)
    ran = apply(cut, "--yes", "--prune", "disable", *words)
    assert (ran.code, TOO_MANY in ran.err, "- prune     e" in ran.out) == (2, True, True)
    assert "if the file is whole, give --max-prune 4\n" in ran.err
    assert not writes(cut)


@pytest.mark.parametrize("most", ["4", "80%", "100 %"])
def test_so_many_may_be_pruned(cut: Command, most: str) -> None:
    assert apply(cut, "--plan", "--prune", "delete", "--max-prune", most).code == 0
    assert apply(cut, "--yes", "--prune", "delete", "--max-prune", most).code == 0
    assert sorted(each.name for each in cut.emulator.account.keys.values()) == ["a", "z"]


@in_one_test("most", ["-1", "half", "101%", "1.5", "%", "1e3", "٣"])
def test_what_is_no_number_of_keys(cut: Command, most: str) -> None:
    ran = apply(cut, "--yes", "--prune", "delete", f"--max-prune={most}")
    assert (ran.code, "must be a number of keys" in ran.err) == (2, True), ran.err
    assert not writes(cut)


def test_the_excess_for_programs(cut: Command) -> None:
    plan = json.loads(apply(cut, "--plan", "--json", "--prune", "delete").out)
    assert plan["excess"] == {"pruned": 4, "working": 5, "most": 3, "no_specs": False}
    assert json.loads(apply(cut, "--plan", "--json").out)["excess"] is None


@in_one_test(
    "name, text, odd",
    [
        ("keys.csv", "name\na\nb\nc\nd", True),
        ("keys.csv", "name\na\nb\nc\nd\n", False),
        ("keys.csv", "name\ra\rb\rc\rd\r", False),
        ("keys.jsonl", '{"name": "a"}\n{"name": "b"}\n{"name": "c"}\n{"name": "d"}', True),
        ("keys.yaml", "[{name: a}, {name: b}, {name: c}, {name: d}]", True),
        ("keys.json", '[{"name": "a"}, {"name": "b"}, {"name": "c"}, {"name": "d"}]', False),
    ],
)
def test_a_file_without_a_last_line_end(
    applied: Command, name: str, text: str, *, odd: bool
) -> None:
    """It may be cut off, which matters where a missing row costs a key."""
    (applied.folder / name).write_text(text, encoding="utf-8", newline="")
    words = ("apply", name, "--plan", "--journal", "keys.csv.journal")
    assert "ends without a line end" not in applied(*words).err
    ran = applied(*words, "--prune", "disable")
    assert (ran.code, "ends without a line end: if it is cut off" in ran.err) == (0, odd)


@pytest.mark.parametrize(
    ("name", "text", "costs"),
    [
        ("an update", "ref,name,limit\nd,d,5\ne,e,50", "the update of 'e' may be wrong"),
        ("a create", "name,limit\ne,5\nf,5", "the create of 'f' may be wrong"),
        ("CSV of another country", "name;limit\r\nd;5\r\ne;50", "the update of 'e' may be wrong"),
        ("YAML", "- name: d\n- name: e\n  limit: 50", "the update of 'e' may be wrong"),
        ("a whole file", "name,limit\nd,5\ne,50\n", None),
        ("another row", "name,limit\nd,50\ne,5", None),
        ("a whole row of JSON", '{"name": "d"}\n{"name": "e", "limit": 50}', None),
    ],
)
def test_a_last_row_that_may_be_cut_off(
    applied: Command, name: str, text: str, costs: str | None
) -> None:
    format = {"YAML": "yaml", "a whole row of JSON": "jsonl"}.get(name, "csv")
    file = f"cut.{format}"
    (applied.folder / file).write_text(text, encoding="utf-8", newline="")
    words = ("apply", file, "--journal", "keys.csv.journal")
    for more in (("--plan",), ("--yes", *QUICK)):
        ran = applied(*words, *more)
        said = f"{file} ends without a line end: if it is cut off, {costs}\n"
        assert (ran.code, said in ran.err) == (0, costs is not None)
        assert costs or "without a line end" not in ran.err


# --- a file without rows ---


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("none.csv", "name,limit\n"),
        ("none.csv", "name"),
        ("none.json", "[]"),
        ("none.json", '{"keys": []}'),
        ("none.yaml", "[]\n"),
    ],
)
def test_a_file_without_rows_prunes_all_only_with_a_bound(
    applied: Command, file: str, text: str
) -> None:
    (applied.folder / file).write_text(text, encoding="utf-8")
    words = ("apply", file, "--journal", "keys.csv.journal", "--yes", *QUICK)
    all_of_them = ("--max-prune", "100%")
    for more in ((), ("--prune", "disable"), all_of_them):
        ran = applied(*words, *more)
        assert (ran.code, f"{file} has no keys in it" in ran.err) == (2, True)
    ran = applied(*words, "--prune", "disable", "--max-prune", "4")
    assert (ran.code, "nothing was changed" in ran.err, writes(applied)) == (2, True, [])
    assert applied(*words, "--prune", "disable", *all_of_them).code == 0
    assert all(key.disabled for key in applied.emulator.account.keys.values())


@pytest.mark.parametrize("text", ["", "\n", "\ufeff\r\n"])
def test_an_empty_file_prunes_nothing(applied: Command, text: str) -> None:
    (applied.folder / "none.csv").write_text(text, encoding="utf-8", newline="")
    words = ("apply", "none.csv", "--journal", "keys.csv.journal", "--yes", *QUICK)
    ran = applied(*words, "--prune", "delete", "--max-prune", "100%")
    assert (ran.code, "none.csv is empty" in ran.err, writes(applied)) == (2, True, [])


# --- a pipe ---


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
@pytest.mark.parametrize(
    "words",
    [
        ("apply", "--replace", "--yes"),
        ("apply", "--plan", "--fail-on-changes"),
        ("provision",),
        ("provision", "--plan"),
    ],
    ids=" ".join,
)
def test_a_journal_that_is_begun_while_a_pipe_is_read(
    command: Command, words: tuple[str, ...]
) -> None:
    """A duration counts from the create, also if another process made it meanwhile."""
    pipe, journal = command.folder / "pipe.csv", command.folder / "keys.journal"
    os.mkfifo(pipe)
    expires_at = datetime.now(UTC) + timedelta(days=20)
    specs = [KeySpec(ref=name, name=name, expires_at=expires_at) for name in "ab"]

    def write_late() -> None:
        emulator = command.emulator
        with (
            pipe.open("w", encoding="utf-8") as file,  # the command waits for what is in it
            OpenRouter(emulator.api_key, server_url=emulator.base_url) as client,
        ):
            client.apply(specs, journal=journal)
            file.write("name,expires_at\na,30d\nb,30d\n")

    writer = Thread(target=write_late, daemon=True)
    writer.start()
    verb, *more = words
    ran = command(verb, "pipe.csv", "--journal", "keys.journal", *more)
    writer.join(timeout=10)
    assert (ran.code, writes(command)) == (0, ["create", "create"]), ran.err


# --- a journal that is left behind ---


@pytest.fixture
def copied(applied: Command) -> Command:
    """The file has another name, and so another journal."""
    (applied.folder / "keys.csv").rename(applied.folder / "new.csv")
    return applied


ALIKE = "5 keys to be created have the names of other keys of the account"


def test_a_new_journal_makes_no_second_keys(copied: Command) -> None:
    plan = copied("apply", "new.csv", "--plan")
    assert plan.code == 0
    assert "the journal is new.csv.journal, a new one\n" in plan.err
    adoption = "openrouter-keys adopt --file new.csv"
    assert f"{ALIKE}: adopt the others with: {adoption}; or name their journal" in plan.err
    assert "+ create    a  limit 50, limit_reset monthly  (another key has this name)\n" in plan.out
    for words in (("--yes",), ()):  # where there is nobody to ask, --yes would not do either
        ran = copied("apply", "new.csv", *words, *QUICK)
        assert (ran.code, f"is new, and {ALIKE}: nothing was changed" in ran.err) == (2, True)
    assert not writes(copied)
    assert copied(*adoption.split()[1:]).code == 0
    ran = copied("apply", "new.csv", "--yes", *QUICK)
    assert (ran.code, "nothing to do; 5 unchanged\n" in ran.out) == (0, True)
    assert not writes(copied)
    assert "the journal is new.csv.journal\n" in ran.err


def test_second_keys_that_are_wanted(copied: Command) -> None:
    ran = copied("apply", "new.csv", "--yes", "--duplicate-names", *QUICK)
    assert (ran.code, ALIKE in ran.err) == (0, False), ran.err
    assert len(copied.emulator.account.keys) == 10


def test_one_more_row_of_a_name_that_is_there(applied: Command) -> None:
    """The journal is the right one: it is said, and done."""
    applied.emulator.account.add("z")
    write(applied, [*ROWS, "z,5,"])
    ran = apply(applied, "--yes", "--quiet")
    assert (ran.code, ran.out) == (0, "")
    assert "1 key to be created has the name of another key of the account: adopt" in ran.err
    assert len(applied.emulator.account.keys) == 7


def test_a_new_journal_for_programs(copied: Command) -> None:
    words = ("apply", "new.csv", "--plan", "--json", "--journal", "b.journal")
    ran = copied(*words)
    assert "adopt --file new.csv --journal b.journal;" in ran.err
    plan = json.loads(ran.out)
    assert [plan[name] for name in ("journal", "new_journal", "namesakes")] == [
        *("b.journal", True, 5)
    ]
    assert plan["changes"][0]["namesakes"] == [key(copied, "a").hash]


@pytest.mark.slow
def test_second_keys_at_a_terminal(copied: Command) -> None:
    shown = copied.terminal("apply", "new.csv", *QUICK, columns=200)
    shown.expect_exact(f"Create 5 keys, though {ALIKE}? [y/N] ")
    shown.sendline("n")
    assert shown.wait() == 1
    assert not writes(copied)
