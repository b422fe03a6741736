"""`apply` in a process of its own, without a terminal: signals, and kills at random moments."""

import json
import re
import signal
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from random import Random
from typing import Any

import pytest

from openrouter_keys.emulator import Fault
from tests.commands import Command
from tests.processes import PATIENCE, until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals"),
]

SEED = 11
KILLS = 3
WORDS = (
    *("apply", "keys.jsonl", "--yes", "--prune", "delete", "--recreate", "--replace"),
    *("--quiet-period", "0.2s", "--concurrency", "4"),
)
ENDS = ("2090-01-01T00:00:00Z", "2091-01-01T00:00:00Z")
Rows = dict[str, dict[str, Any]]


def row(ref: str) -> dict[str, Any]:
    return {"ref": ref, "name": f"Customer {ref}", "limit": 5, "expires_at": ENDS[0]}


def write(command: Command, rows: Rows) -> None:
    text = "".join(f"{json.dumps(each)}\n" for each in rows.values())
    (command.folder / "keys.jsonl").write_text(text, encoding="utf-8")


@pytest.fixture
def rows(command: Command) -> Rows:
    """An account as a file says, and a key that is none of its rows'."""
    command.emulator.account.add("another's")
    found = {str(n): row(str(n)) for n in range(12)}
    write(command, found)
    assert command(*WORDS).code == 0
    command.emulator.requests.clear()
    return found


def change(command: Command, rows: Rows, random: Random) -> None:
    """Change, remove, add and replace rows, and keys by hand."""
    for ref in random.sample([*rows], 3):
        rows[ref] |= {"limit": random.randint(6, 99)}
    rows[random.choice([*rows])] |= {"expires_at": random.choice(ENDS)}
    rows[random.choice([*rows])] |= {"disabled": random.random() < 0.5}
    for ref in random.sample([*rows], 2):
        del rows[ref]
    for ref in map(str, random.sample(range(30), 4)):  # new ones, and such that come back
        rows.setdefault(ref, row(ref))
    write(command, rows)
    # What somebody changed is not provably that of a create without an answer.
    settled = [key for key in command.emulator.account.keys.values() if key.secret in kept(command)]
    edited, gone = random.sample(settled, 2)
    edited.limit = 1000.0
    del command.emulator.account.keys[gone.hash]


def kept(command: Command) -> Mapping[str, str]:
    """The names of keys, by the secrets that the journal has."""
    file = command.folder / "exported.jsonl"
    file.unlink(missing_ok=True)
    assert command("journal", "export", "keys.jsonl.journal", "-o", file.name).code == 0
    return {each["key"]: each["name"] for each in map(json.loads, file.read_text().splitlines())}


def assert_converges(command: Command, rows: Rows) -> None:
    """The same command ends it: a key for each row, no key twice, none besides, no secret lost."""
    command.emulator.faults.clear()
    for _ in range(2):  # a replacement is ended as it was begun
        ran = command(*WORDS)
        assert ran.code == 0, ran.err
    keys = command.emulator.account.keys.values()
    made = {key.name: (key.limit, key.disabled, key.expires_at) for key in keys}
    wanted = {
        each["name"]: (
            each["limit"],
            each.get("disabled", False),
            datetime.fromisoformat(each["expires_at"]).astimezone(UTC),
        )
        for each in rows.values()
    }
    assert made == {**wanted, "another's": (None, False, None)}
    assert len(keys) == len(made)
    secrets = {str(key.secret): key.name for key in keys if key.name != "another's"}
    assert secrets.items() <= kept(command).items()
    command.emulator.requests.clear()
    assert "nothing to do; " in command(*WORDS).out
    assert {each.operation for each in command.emulator.requests} <= {"list", "get"}


@pytest.mark.parametrize(
    ("number", "operation"),
    [
        (signal.SIGINT, "update"),
        (signal.SIGTERM, "create"),
        (signal.SIGHUP, "delete"),
    ],
)
def test_a_signal_ends_it_with_one_summary(
    command: Command, rows: Rows, number: signal.Signals, operation: Any
) -> None:
    change(command, rows, Random(SEED))
    command.emulator.faults.append(Fault(operation, "slow", delay=0.5, times=None))
    command.emulator.requests.clear()
    with command.process(*WORDS) as process:
        until(lambda: command.emulator.count(operation))
        process.send_signal(number)
        out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 128 + number, err
    assert out.count("\ncreate ") == 1  # the plan
    assert not re.search(r"Traceback|never retrieved|Warning", err)
    assert len(re.findall("again stops at once\n", err)) == 1
    assert len(re.findall(r"^openrouter-keys: interrupted\n", err, re.MULTILINE)) == 1
    assert len(re.findall(r", in [0-9.]+ s\n", err)) == 1
    assert err.endswith(f"openrouter-keys: go on with: openrouter-keys {' '.join(WORDS)}\n")
    assert err.count("go on with") == 1
    assert_converges(command, rows)


def test_two_signals_end_it_at_once(command: Command, rows: Rows) -> None:
    change(command, rows, Random(SEED))
    command.emulator.faults.append(Fault("create", "stalled", phase="after", times=None))
    with command.process(*WORDS) as process:
        until(lambda: command.emulator.count("create"))
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        while "again stops at once" not in process.stderr.readline():
            pass
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert "stopped at once; go on with: openrouter-keys apply keys.jsonl --yes" in err
    assert "Traceback" not in err
    assert_converges(command, rows)


def kill(command: Command, moment: int) -> None:
    """Start it, and kill it once it has sent so many requests."""
    command.emulator.requests.clear()
    with command.process(*WORDS) as process:
        until(lambda: len(command.emulator.requests) >= moment)
        process.kill()
        process.communicate()
    assert process.returncode == -signal.SIGKILL


def test_killed_at_random_moments(command: Command, rows: Rows) -> None:
    """In the end the account is as the file says: no key twice, and no orphan."""
    random = Random(SEED)
    command.emulator.latency = 0.01
    for _ in range(KILLS):
        change(command, rows, random)
        kill(command, random.randint(3, 20))
    command.emulator.latency = 0.0
    assert_converges(command, rows)
