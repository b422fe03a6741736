"""`lease`: a program with a key of its own, its exit code, its signals, and the key's end."""

import json
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from pexpect import EOF

from openrouter_keys.emulator import Fault
from tests.commands import Command
from tests.processes import Process
from tests.terminals import Terminal

PATIENCE = 60
TRIAL = ("lease", "--name", "ci 7", "--limit", "0.5", "--expires-in", "1h", "--")


def python(script: str) -> tuple[str, ...]:
    return (sys.executable, "-c", script)


SHOW = (
    "import json, os, sys; json.dump([dict(os.environ), sys.argv, sys.stdin.read()],"
    " open('seen', 'w')); print('out'); print('err', file=sys.stderr)"
)


def seen(folder: Path) -> tuple[dict[str, str], list[str], str]:
    environment, arguments, read = json.loads((folder / "seen").read_text())
    return environment, arguments, read


@pytest.mark.slow
def test_a_program_has_a_key_of_its_own_and_no_management_key(command: Command) -> None:
    process = command.process(*TRIAL, *python(SHOW), "one", "--two", OPENROUTER_KEYS_X="y")
    out, err = process.communicate("", PATIENCE)
    environment, arguments, read = seen(command.folder)
    (create,) = [each for each in command.emulator.requests if each.operation == "create"]
    assert (process.returncode, out, read) == (0, "out\n", "")
    assert err == f"err\nopenrouter-keys: the key {str(create.hash)[:8]} spent $0.00 of $0.50; " + (
        "it is deleted\n"
    )
    key = environment["OPENROUTER_API_KEY"]
    assert key.startswith("sk-or-v1-")
    assert environment["OPENROUTER_KEY_NAME"] == "ci 7"
    assert environment["OPENROUTER_KEY_HASH"] == create.hash
    assert environment["OPENROUTER_KEYS_X"] == "y"
    assert command.emulator.api_key not in str(environment)
    assert arguments == ["-c", "one", "--two"]
    assert key not in out + err + " ".join(arguments)
    assert command.emulator.account.keys == {}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "code"),
    [
        ("raise SystemExit(0)", 0),
        ("raise SystemExit(5)", 5),
        ("import os; os._exit(77)", 77),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", 137),
        ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", 143),
    ],
)
def test_the_exit_code_is_the_programs(command: Command, script: str, code: int) -> None:
    assert command(*TRIAL, *python(script)).code == code
    assert command.emulator.account.keys == {}


@pytest.mark.slow
def test_what_was_spent_is_told(command: Command) -> None:
    process = command.process(*TRIAL, *python("open('begun', 'w'); input()"), stdin=-1)
    wait_for(command.folder / "begun", process)
    (hash,) = command.emulator.account.keys
    command.emulator.account.spend(hash, 0.0123)
    _, err = process.communicate("\n", PATIENCE)
    assert "spent $0.01 of $0.50; it is deleted" in err


def wait_for(path: Path, process: Process) -> None:
    while not path.exists():
        assert process.poll() is None
        time.sleep(0.01)


def asked(*program: str, without: str = "", **changes: str) -> tuple[str, ...]:
    options = {"--name": "a", "--limit": "1", "--expires-in": "1h"}
    options |= {f"--{name.replace('_', '-')}": value for name, value in changes.items()}
    options.pop(without, None)
    return tuple(word for pair in options.items() for word in pair) + program


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (asked("--", "true", without="--name"), "--name"),
        (asked("--", "true", without="--limit"), "--limit"),
        (asked("--", "true", without="--expires-in"), "--expires-in"),
        (asked(), "PROGRAM"),
        (asked("--"), "PROGRAM"),
        (asked("--", "true", expires_in="soon"), "duration"),
        (asked("--", "true", expires_in="0s"), "--expires-in"),
        (asked("--", "true", expires_in="60w"), "366 days"),
        (asked("--", "true", limit="-1"), "--limit"),
        (asked("--", "true", name=""), "name"),
        (asked("--", "true", name="sk-or-v1-" + "a" * 64), "is a secret"),
        (asked("--", "no-such-program"), "there is no program"),
        (asked("true", "-q"), "-q"),
        (asked("true"), "put -- before the program"),
        (asked("true", "--limit", "50"), "put -- before the program"),
        (asked("true", "--timeout", "50"), "put -- before the program"),
    ],
)
def test_what_cannot_be_leased_is_refused_before_anything_is_sent(
    command: Command, words: tuple[str, ...], told: str
) -> None:
    ran = command("lease", *words)
    assert (ran.code, ran.out, command.emulator.requests) == (2, "", [])
    assert told in ran.err


@pytest.mark.slow
@pytest.mark.parametrize("limit", ["none", "0", "$2.50"])
def test_a_limit_is_said(command: Command, limit: str) -> None:
    words = ("lease", "--name", "a", "--limit", limit, "--expires-in", "90s", "--", "true")
    ran = command(*words)
    assert ran.code == 0
    (create,) = [each for each in command.emulator.requests if each.operation == "create"]
    asked: dict[str, Any] = json.loads(create.body)
    assert asked["limit"] == {"none": None, "0": 0, "$2.50": 2.5}[limit]
    told = {"none": "of no limit", "0": "of $0.00", "$2.50": "of $2.50"}[limit]
    assert told in ran.err


@pytest.mark.slow
def test_the_program_finds_the_service_that_the_command_was_given(command: Command) -> None:
    ran = command(
        "lease", "--base-url", command.emulator.base_url, *TRIAL[1:], *python(SHOW),
        OPENROUTER_BASE_URL="http://127.0.0.1:9",
    )  # fmt: skip
    assert ran.code == 0
    assert seen(command.folder)[0]["OPENROUTER_BASE_URL"] == command.emulator.base_url


@pytest.mark.slow
def test_a_program_that_cannot_be_started_leaves_no_key(command: Command) -> None:
    program = command.folder / "program"
    program.write_text("#!/no/such/interpreter\n")
    program.chmod(0o755)
    ran = command(*TRIAL, str(program))
    assert ran.code == 2
    assert "cannot run" in ran.err
    assert command.emulator.account.keys == {}


@pytest.mark.slow
def test_a_key_that_cannot_be_deleted_is_told_and_the_code_stays(command: Command) -> None:
    command.emulator.faults.append(Fault("delete", status=403, times=None))
    ran = command(*TRIAL, *python("raise SystemExit(3)"))
    (key,) = command.emulator.account.keys.values()
    assert ran.code == 3
    assert ran.err.count(key.hash) == 2
    assert f"it is left: the key {key.hash} may work until {key.expires_at:%Y-%m-%d}" in ran.err


def test_a_key_that_is_not_as_asked_for_runs_nothing(command: Command) -> None:
    command.emulator.account.hidden_fields.add("expires_at")
    ran = command(*TRIAL, *python("open('begun', 'w')"))
    assert (ran.code, command.emulator.account.keys) == (1, {})
    assert "deleted again" in ran.err
    assert not (command.folder / "begun").exists()


@pytest.mark.slow
def test_a_refused_key_that_stays_is_in_doubt(command: Command) -> None:
    command.emulator.account.hidden_fields.add("expires_at")
    command.emulator.faults.append(Fault("delete", status=403, times=None))
    assert command(*TRIAL, "true").code == 5


def test_a_create_without_an_answer_is_in_doubt_and_says_when_its_key_ends(
    command: Command,
) -> None:
    command.emulator.faults.append(Fault("create", status=502, phase="after"))
    ran = command(*TRIAL, "true")
    assert ran.code == 5
    assert "It expires at 2" in ran.err


# --- signals ---

# Says which signals it hears, and ends with the second one.
LISTEN = """
import signal, sys, time
heard = []
def hear(number, _):
    heard.append(signal.Signals(number).name)
    if number != signal.SIGHUP:
        print(*heard, flush=True)
        sys.exit(9)
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, hear)
open('begun', 'w').close()
for _ in range(200):  # a signal that is lost must not hold the test's pipe for ever
    time.sleep(0.05)
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_goes_to_the_program_and_its_end_ends_the_key(
    command: Command, number: signal.Signals
) -> None:
    process = command.process(*TRIAL, *python(LISTEN))
    wait_for(command.folder / "begun", process)
    process.send_signal(signal.SIGHUP)
    time.sleep(0.2)
    assert process.poll() is None
    process.send_signal(number)
    out, err = process.communicate("", PATIENCE)
    assert (process.returncode, out) == (9, f"SIGHUP {number.name}\n")
    assert "it is deleted" in err
    assert command.emulator.account.keys == {}


@pytest.mark.slow
def test_a_program_that_a_signal_ends_ends_the_key(command: Command) -> None:
    process = command.process(*TRIAL, *python("open('begun', 'w'); input()"), stdin=-1)
    wait_for(command.folder / "begun", process)
    process.send_signal(signal.SIGTERM)
    process.communicate("", PATIENCE)
    assert process.returncode == 143
    assert command.emulator.account.keys == {}


@pytest.mark.slow
def test_ctrl_c_at_a_terminal_reaches_the_program_once(command: Command) -> None:
    script = LISTEN.replace("sys.exit(9)", "number == signal.SIGTERM and sys.exit(9)")
    shown = command.terminal(*TRIAL, *python(script))
    wait_for(command.folder / "begun", shown.process)
    shown.send("\x03")
    shown.expect("SIGINT\r\n")
    time.sleep(0.5)  # in which a second one would come
    shown.process.send_signal(signal.SIGTERM)
    shown.expect("(SIGINT )+SIGTERM\r\n")
    assert str(shown.after).split() == ["SIGINT", "SIGTERM"]
    shown.expect("it is deleted")
    shown.expect(EOF)
    assert shown.wait() == 9
    assert command.emulator.account.keys == {}


def signalled_at(
    command: Command, operation: Any, program: str, number: signal.Signals
) -> tuple[int | None, str]:
    """Lease a key for a program, send a signal in a request, and return the exit code and text."""
    command.emulator.faults.append(Fault(operation, "slow", delay=0.5))
    process = command.process(*TRIAL, *python(program))
    while operation not in [each.operation for each in command.emulator.requests]:
        time.sleep(0.01)
    process.send_signal(number)
    _, err = process.communicate("", PATIENCE)
    return process.returncode, err


@pytest.mark.slow
@pytest.mark.parametrize("operation", ["current", "create"])
def test_a_signal_before_the_program_leaves_no_key(command: Command, operation: Any) -> None:
    code, err = signalled_at(command, operation, "open('begun', 'w')", signal.SIGTERM)
    assert code == 143
    assert "interrupted" in err
    assert command.emulator.account.keys == {}
    assert not (command.folder / "begun").exists()


@pytest.mark.slow
@pytest.mark.parametrize("operation", ["get", "delete"])
def test_a_signal_at_the_end_keeps_the_programs_code(command: Command, operation: Any) -> None:
    code, err = signalled_at(command, operation, "raise SystemExit(4)", signal.SIGINT)
    assert code == 4
    assert "deleting the key" in err
    assert command.emulator.account.keys == {}


@pytest.mark.slow
def test_a_second_signal_at_the_end_says_until_when_the_key_works(command: Command) -> None:
    command.emulator.faults.append(Fault("get", "stalled"))
    command.emulator.faults.append(Fault("delete", "stalled"))
    process = command.process(*TRIAL, "true")
    assert process.stderr is not None
    while "get" not in [each.operation for each in command.emulator.requests]:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    assert "deleting the key" in process.stderr.readline()
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate("", PATIENCE)
    (key,) = command.emulator.account.keys.values()
    assert process.returncode == 143
    assert f"stopped at once; the key {key.hash} may work until" in err


HAND_ON = """
import time
from openrouter_keys.cli.terminal.interrupts import handed_on
with handed_on() as to:
    to(lambda number: print("sent", int(number), flush=True))
    print("ready", flush=True)
    time.sleep(5)
"""


@pytest.mark.slow
def test_only_what_no_terminal_sends_to_both_is_handed_on(command: Command) -> None:
    shown = Terminal("-c", HAND_ON, folder=command.folder, environment=command.environment())
    shown.expect("ready\r\n")
    shown.send("\x03")
    time.sleep(0.3)  # in which it would be handed on
    shown.process.send_signal(signal.SIGTERM)
    shown.expect(r"sent \d+")
    assert shown.after == "sent 15"
    shown.process.kill()
    shown.wait()
