"""`provision --plan`: what would be made, what is there already; no create is sent."""

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest

from openrouter_keys.cli.options.journal import Place
from openrouter_keys.cli.provision.plan import planned
from openrouter_keys.emulator import Fault
from openrouter_keys.journal.journal import Journal
from tests.commands import Command, Ran
from tests.journals import AT, HASH, SECRET, spec

ROWS = """\
ref,name,limit,limit_reset
a,Ada,50,monthly
b,Bo,0.1,daily
c,Chi,0.2,daily
d,Dee,7,
e,Eve,null,weekly
f,Fay,,
"""
SUMMARY = (
    "openrouter-keys: would create 6 keys: limits of $0.30 a day + $50.00 a month + $7.00 once, "
    "2 WITHOUT A LIMIT\n"
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "customers.csv"
    path.write_text(ROWS)
    return path


def plan(command: Command, *words: str, **settings: str) -> Ran:
    return command("provision", "customers.csv", "--plan", *words, **settings)


def actions(ran: Ran) -> dict[str, str]:
    return {row["ref"]: row["action"] for row in csv.DictReader(io.StringIO(ran.out))}


def test_a_plan_sums_limits_up_and_creates_nothing(command: Command, file: Path) -> None:
    ran = plan(command)
    assert (ran.code, ran.err) == (0, SUMMARY)
    lines = [line.split("\t") for line in ran.out.splitlines()]
    assert lines[0] == [
        "ref", "name", "limit", "limit_reset", "expires_at", "workspace_id", "action", "same_name",
    ]  # fmt: skip
    assert lines[1] == ["a", "Ada", "50.0", "monthly", "", "", "create", "0"]
    assert lines[6] == ["f", "Fay", "", "", "", "", "create", "0"]
    assert command.emulator.count("create") == 0
    assert [path.name for path in command.folder.iterdir()] == [file.name]


@pytest.mark.parametrize("name", ["--dry-run", "-n"])
def test_a_dry_run_is_a_plan(command: Command, file: Path, name: str) -> None:
    assert command("provision", file.name, name).err == SUMMARY
    assert command.emulator.count("create") == 0


@pytest.mark.usefixtures("file")
def test_a_plan_is_there_for_programs(command: Command) -> None:
    told = json.loads(plan(command, "--json").out)
    assert told["summary"] == {
        "create": 6,
        "changes": 6,
        "limits": {"monthly": 50.0, "daily": 0.3, "once": 7.0},
        "without_limit": 2,
        "actions": {"create": 6},
    }
    assert [row["ref"] for row in told["data"]] == list("abcdef")
    lines = plan(command, "--jsonl").out.splitlines()
    assert [json.loads(line) for line in lines] == told["data"]
    assert actions(plan(command, "--csv")) == dict.fromkeys("abcdef", "create")


@pytest.mark.usefixtures("file")
def test_what_the_journal_knows_is_not_made_again(command: Command) -> None:
    command.emulator.faults.append(Fault("create", "status", status=400, skip=1))
    stopped = Fault("create", "status", status=402, skip=4)
    command.emulator.faults.append(stopped)
    command("provision", "customers.csv", "--concurrency", "1")
    ran = plan(command, "--csv")
    assert actions(ran) == {
        "a": "done before", "b": "try again", "c": "done before",
        "d": "done before", "e": "create", "f": "create",
    }  # fmt: skip
    assert "would create 3 keys: limits of $0.10 a day, 2 WITHOUT A LIMIT\n" in ran.err
    assert "done before: 3, try again: 1\n" in ran.err
    # What the journal has made is not told as another's.
    assert [row["same_name"] for row in csv.DictReader(io.StringIO(ran.out))] == ["0"] * 6


@pytest.mark.slow
def test_a_row_that_changed_is_told_and_exits_with_1(command: Command, file: Path) -> None:
    command("provision", "customers.csv")
    file.write_text(ROWS.replace("Ada,50,monthly", "Ada,51,weekly").replace("Chi", "Cho"))
    ran = plan(command, "--csv")
    assert ran.code == 1
    assert actions(ran) == {**dict.fromkeys("abdef", "done before"), "a": "changed", "c": "changed"}
    assert "2 keys changed since the journal began, first 'a' (limit, limit_reset)" in ran.err


@pytest.mark.usefixtures("file")
def test_keys_of_the_same_name_are_told(command: Command) -> None:
    account = command.emulator.account
    for name in ("Bo", "Bo", "Somebody"):
        account.add(name)
    account.add("Chi", disabled=True)
    ran = plan(command, "--json")
    assert {row["ref"]: row["same_name"] for row in json.loads(ran.out)["data"]} == {
        "a": 0, "b": 2, "c": 1, "d": 0, "e": 0, "f": 0,
    }  # fmt: skip
    assert (
        "2 names (such as 'Bo'): there are keys called so that the journal does not know\n"
        in ran.err
    )
    assert command.emulator.count("list") == 2  # its one page, and the end


@pytest.mark.slow
@pytest.mark.usefixtures("file")
def test_a_plan_needs_neither_the_service_nor_a_key(command: Command) -> None:
    ran = plan(command, OPENROUTER_BASE_URL="http://127.0.0.1:9/api/v1")
    assert ran.code == 0
    assert "which names are there already is not known: " in ran.err
    assert ran.err.endswith(SUMMARY)
    ran = plan(command, OPENROUTER_API_KEY="")
    assert ran.code == 0
    assert "the service was not asked: there is no management key" in ran.err


@pytest.mark.usefixtures("file")
def test_a_key_that_may_not_list_exits_with_4(command: Command) -> None:
    command.emulator.faults.append(Fault("list", "status", status=401, times=None))
    assert plan(command).code == 4


def test_a_file_that_is_not_usable_is_refused(command: Command, file: Path) -> None:
    file.write_text(ROWS.replace("Bo,0.1", "Bo,-1"))
    ran = plan(command)
    assert (ran.code, ran.out) == (2, "")
    assert "customers.csv, line 3, column limit: must be a finite number" in ran.err


@pytest.mark.slow
def test_a_plan_shows_no_external_key(command: Command) -> None:
    key = "partner-" + "4c" * 20
    path = command.folder / "keys.json"
    path.write_text(json.dumps([{"name": "Ada", "external": {"user": "a", "api_key": key}}]))
    path.chmod(0o600)
    for words in ((), ("--json",), ("--csv",)):
        ran = command("provision", path.name, "--plan", *words)
        assert ran.code == 0
        assert key not in ran.out + ran.err


@pytest.mark.slow
def test_people_see_a_table_of_the_first_rows_and_the_sums(command: Command) -> None:
    rows = "".join(f"c-{n},Kunde [b]{n} 日本,{n},monthly\n" for n in range(1000))
    (command.folder / "customers.csv").write_text("ref,name,limit,limit_reset\n" + rows)
    command.emulator.account.add("Kunde [b]7 日本")
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", command.at_a_terminal(
        "provision", "customers.csv", "--plan", columns=80
    ).out).splitlines()  # fmt: skip
    assert max(map(len, shown[:-2])) <= 80
    assert next(line for line in shown if "Kunde [b]7 日本" in line).split()[-1] == "1"
    assert "and 970 more: --csv shows all" in shown
    assert any("would create 1,000 keys: limits of $499,500.00 a month" in line for line in shown)


# --- what a run makes of a key that an earlier one did not settle ---

#: How each was left: how its journal was opened, and the hash that the answer gave.
LEFT: dict[str, tuple[dict[str, Any], str | None, str, int]] = {
    "refused": ({}, None, "try again", 1),
    "not as asked for": ({}, HASH, "report", 0),
    "not handed over": ({}, HASH, "hand over", 0),
    "not stored": ({"store_secrets": False}, HASH, "delete, then create", 2),
    "not stored, nor proven": ({"store_secrets": False}, "0" * 64, "report", 0),
    "sealed": ({"seal": bytes.swapcase}, HASH, "report", 0),
    "in doubt": ({}, None, "settle the doubt", 2),
    "settled": ({}, HASH, "done before", 0),
}


async def _leave(journal: Journal, how: str, hash: str | None) -> None:
    await journal.intend(spec(), AT)
    if how == "refused":
        await journal.fail("r", "refused")
    elif hash is not None:
        await journal.keep("r", secret=SECRET, hash=hash, settled=how == "settled")
    if how == "not as asked for":
        await journal.reject("r", "its limit")


@pytest.mark.parametrize("how", LEFT)
async def test_a_plan_says_what_a_run_does_with_what_is_left(how: str, tmp_path: Path) -> None:
    given, hash, action, changes = LEFT[how]
    async with Journal.open(tmp_path / "j", **given) as journal:
        await _leave(journal, how, hash)

    plan = await planned([spec()], Place(str(tmp_path / "j")))

    assert plan.actions == {action: 1}
    assert plan.changes == changes
    assert plan.new.count == (1 if changes else 0)
