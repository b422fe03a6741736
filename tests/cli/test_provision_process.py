"""`provision` in a process of its own: pipes, signals, full disks, and more than one at a time."""

import csv
import io
import json
import re
import signal
import subprocess
import sys
import time
from hashlib import sha256
from pathlib import Path

import pytest

from openrouter_keys.emulator import Fault
from tests.commands import Command
from tests.journals import written
from tests.processes import PATIENCE, run, until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals and terminals"),
]

QUICK = ("--quiet-period", "0.3s")
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")
COUNT = 60
AT_ONCE = 10  # seconds, on a machine with much else to do; a call may take 120


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return customers(tmp_path, COUNT)


def customers(folder: Path, count: int) -> Path:
    path = folder / "customers.csv"
    path.write_text("ref,name\n" + "".join(f"c-{n},Customer {n}\n" for n in range(count)))
    return path


def slow(command: Command, delay: float = 0.2) -> None:
    command.emulator.faults.append(Fault("create", "slow", delay=delay, times=None))


def stall(command: Command, skip: int) -> None:
    command.emulator.faults.append(Fault("create", "stalled", phase="after", skip=skip, times=None))


def exported(command: Command) -> dict[str, str]:
    """The secrets that the journal tells, by name."""
    file = command.folder / "exported.jsonl"
    file.unlink(missing_ok=True)
    assert command("journal", "export", "customers.csv.journal", "-o", file.name).code == 0
    return {row["name"]: row["key"] for row in map(json.loads, file.read_text().splitlines())}


def assert_completed(command: Command, count: int = COUNT) -> None:
    """The next run leaves one live key for each row, and each secret in hand."""
    command.emulator.faults.clear()
    ran = command("provision", "customers.csv", *QUICK, "--timeout", "5")
    assert ran.code == 0, ran.err
    live = {key.name: str(key.secret) for key in command.emulator.account.keys.values()}
    assert len(live) == len(command.emulator.account.keys) == count
    assert exported(command) == live


def shown_no_secret(command: Command, text: str) -> None:
    for secret in (command.emulator.api_key, *exported(command).values()):
        assert secret not in text


# --- signals ---


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_signal_lets_what_is_under_way_end(
    command: Command, file: Path, number: signal.Signals
) -> None:
    slow(command)
    with command.process("provision", file.name, *QUICK, "--concurrency", "4") as process:
        until(lambda: command.emulator.count("create") >= 8)
        sent = command.emulator.count("create")
        process.send_signal(number)
        out, err = process.communicate(timeout=PATIENCE)
    made = len(command.emulator.account.keys)
    assert (process.returncode, out) == (128 + number, "")
    assert command.emulator.count("create") == made <= sent + 4
    assert "finishing up to 4 creates; Ctrl-C again stops at once\n" in err
    assert f"openrouter-keys: {made} created, in " in err
    go_on = f"go on with: openrouter-keys provision {file.name} --quiet-period 0.3s --concurrency 4"
    assert err.endswith(f"openrouter-keys: {go_on}\n")
    assert not re.search(r"Traceback|never retrieved|Warning", err)
    assert len(exported(command)) == made
    shown_no_secret(command, err)
    assert_completed(command)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_second_signal_ends_it_at_once(
    command: Command, file: Path, number: signal.Signals
) -> None:
    stall(command, skip=8)
    with command.process("provision", file.name, *QUICK, "--concurrency", "4") as process:
        until(lambda: len(command.emulator.account.keys) == 12)
        process.send_signal(number)
        assert process.stderr is not None
        while "again stops at once" not in process.stderr.readline():
            pass
        began = time.monotonic()
        process.send_signal(number)
        _, err = process.communicate(timeout=PATIENCE)
    assert time.monotonic() - began < AT_ONCE
    assert process.returncode == 128 + number
    assert "openrouter-keys: stopped at once; go on with: openrouter-keys provision" in err
    assert "Traceback" not in err
    assert command("journal", "status", "customers.csv.journal").code == 5
    assert_completed(command)


def test_ctrl_c_at_a_terminal_wipes_the_bar_and_tells_how_to_go_on(
    command: Command, file: Path
) -> None:
    slow(command)
    words = ("provision", file.name, *QUICK, "--concurrency", "4", "--yes")
    shown = command.terminal(*words, columns=80)
    shown.logfile_read = io.StringIO()
    shown.expect("keys/s")
    shown.interrupt()
    shown.expect("Ctrl-C again stops at once")
    shown.expect("go on with: openrouter-keys provision customers.csv")
    assert shown.wait() == 130
    # The cursor that the bar hid is shown again.
    assert shown.logfile_read.getvalue().rpartition("\x1b[?25l")[2].count("\x1b[?25h") == 1
    assert_completed(command)


def test_ctrl_c_twice_at_a_terminal_ends_it_at_once(command: Command, file: Path) -> None:
    stall(command, skip=8)
    words = ("provision", file.name, *QUICK, "--concurrency", "4", "--yes")
    shown = command.terminal(*words, columns=80)
    until(lambda: len(command.emulator.account.keys) == 12)
    shown.interrupt()
    shown.expect("Ctrl-C again stops at once")
    began = time.monotonic()
    shown.interrupt()
    shown.expect("stopped at once; go on with: ")
    assert shown.wait() == 130
    assert time.monotonic() - began < AT_ONCE
    assert_completed(command)


# --- a terminal ---


@pytest.mark.parametrize("answer", ["n", "", "\x03"])
def test_nothing_is_made_unless_the_answer_is_yes(
    command: Command, file: Path, answer: str
) -> None:
    shown = command.terminal("provision", file.name, columns=80)
    shown.expect(r"Create 60 keys: 60 WITHOUT A LIMIT\? \[y/N\] ")
    shown.send(answer if answer == "\x03" else f"{answer}\r")
    assert shown.wait() == (130 if answer == "\x03" else 1)
    assert command.emulator.requests == []
    assert [path.name for path in command.folder.iterdir()] == [file.name]


def test_after_a_yes_a_bar_shows_how_far_it_is(command: Command, file: Path) -> None:
    slow(command, 0.1)
    command.emulator.faults.insert(0, Fault("create", "status", status=400, skip=7))
    command.emulator.faults.insert(0, Fault("create", "reset", phase="after", skip=56))
    words = ("provision", file.name, "--quiet-period", "1s", "--concurrency", "4")
    shown = command.terminal(*words, columns=100)
    shown.expect(r"\[y/N\] ")
    shown.send("y\r")
    assert shown.wait() == 3
    text = ESCAPE.sub("", str(shown.before))
    assert re.search(r"creating [━╸╺ ]+ \d+/60 · \d+ keys/s · 0:\d\d left", text)
    assert re.search(r"1 in doubt · 1 failed", text)
    assert "waiting for late commits" in text
    assert "59 created, 1 failed, in " in text
    # What a terminal writes behind the bar at a Ctrl-C finds room.
    assert max(len(line) for line in re.split("[\r\n]", text) if "━" in line) <= 96
    # Asked about what is new only; then there is nothing left to ask about.
    shown = command.terminal(*words)
    shown.expect(r"Create 1 key: 1 WITHOUT A LIMIT\? \[y/N\] ")
    shown.send("y\r")
    assert shown.wait() == 0
    assert "60 settled before" in command.at_a_terminal(*words).out


def test_a_dumb_terminal_gets_lines_and_no_color_gets_none(command: Command, file: Path) -> None:
    slow(command, 0.05)
    words = ("provision", file.name, *QUICK, "--yes")
    shown = command.terminal(*words, TERM="dumb")
    assert shown.wait() == 0
    out = str(shown.before)
    assert "\x1b" not in out
    assert "openrouter-keys: creating: 0/60\r\n" in out
    customers(command.folder, COUNT + 20)
    assert not re.search(r"\x1b\[[0-9;]*3\d", command.at_a_terminal(*words, NO_COLOR="1").out)


def test_ctrl_c_at_a_question_ends_a_command_that_runs_a_loop(command: Command) -> None:
    key = command.emulator.account.add("kept")
    shown = command.terminal("delete", key.hash)
    shown.expect(r"\[y/N\] ")
    shown.interrupt()
    shown.expect("interrupted")
    assert shown.wait() == 130
    assert key.hash in command.emulator.account.keys


# --- pipes and disks ---


def test_a_reader_that_goes_away_ends_it_and_the_rest_is_made_later(
    command: Command, file: Path
) -> None:
    slow(command, 0.05)
    words = ("provision", file.name, *QUICK, "--jsonl", "--show-secret", "--concurrency", "2")
    with command.process(*words) as process:
        assert process.stdout is not None
        first = json.loads(process.stdout.readline())
        process.stdout.close()
        assert process.stderr is not None
        err = process.stderr.read()
        process.wait(PATIENCE)
    assert process.returncode == 141
    assert sha256(first["key"].encode()).hexdigest() == first["hash"]
    assert "stopped: the reader of standard output is gone" in err
    assert "Traceback" not in err
    assert len(command.emulator.account.keys) < COUNT
    assert_completed(command)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux only")
def test_standard_output_on_a_full_disk_is_told(command: Command, file: Path) -> None:
    with open("/dev/full", "wb") as full:
        words = ("provision", file.name, *QUICK, "--jsonl", "--show-secret")
        with command.process(*words, stdout=full.fileno()) as process:
            _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert "stopped: cannot write the secret: No space left on device" in err
    assert "Traceback" not in err
    assert_completed(command)


def test_a_full_disk_stops_the_run_and_the_next_one_makes_it_whole(
    command: Command, file: Path
) -> None:
    # Of what it may write, in blocks; coverage's own file in a child would be too large as well.
    limit = 'ulimit -f 160; unset COVERAGE_PROCESS_CONFIG; exec "$@"'
    line = [sys.executable, "-m", "openrouter_keys", "provision", file.name, *QUICK]
    environment = command.environment()
    customers(command.folder, 600)
    done = subprocess.run(
        ["sh", "-c", limit, "sh", *line],
        cwd=command.folder, env=environment, capture_output=True, text=True, timeout=PATIENCE,
        check=False,
    )  # fmt: skip
    # What was under way and could not be written down is in doubt.
    assert done.returncode == (5 if " in doubt, " in done.stderr else 1)
    assert "stopped: the journal cannot be written" in done.stderr
    assert "make room on its disk" in done.stderr
    assert "Traceback" not in done.stderr
    assert_completed(command, 600)


def test_a_second_process_on_the_same_journal_waits_for_what_the_first_one_is_at(
    command: Command, file: Path
) -> None:
    command.emulator.faults.append(Fault("create", "slow", delay=0.5, skip=4, times=4))
    words = ("provision", file.name, *QUICK, "--concurrency", "4")
    with command.process(*words) as first:
        until(lambda: command.emulator.count("create") == 8)
        first.send_signal(signal.SIGSTOP)
        with command.process(*words) as second:
            assert second.stderr is not None
            told = ""
            while "waiting for another process" not in told:
                told = second.stderr.readline()
                assert told, "it has ended"
            assert told == f"openrouter-keys: waiting for another process: {COUNT - 4}/{COUNT}\n"
            status = command("journal", "status", f"{file.name}.journal", "--json")
            counts = json.loads(status.out)
            assert (status.code, counts["runs"], counts["under_way"]) == (0, 2, 4)
            assert command("provision", file.name, "--plan").code == 0
            first.send_signal(signal.SIGCONT)
            _, rest = second.communicate(timeout=PATIENCE)
            assert (second.returncode, first.wait(PATIENCE)) == (0, 0), rest
    assert command.emulator.count("create") == COUNT
    assert_completed(command)


def test_a_killed_process_leaves_what_can_be_gone_on_with(command: Command, file: Path) -> None:
    slow(command, 0.05)
    words = ("provision", file.name, *QUICK, "-o", "keys.csv", "--concurrency", "4")
    with command.process(*words) as process:
        until(lambda: command.emulator.count("create") >= 20)
        process.kill()
        process.communicate()
    assert command.emulator.api_key.encode() not in written(Path(f"{file}.journal"))
    rows = csv.DictReader(io.StringIO((command.folder / "keys.csv").read_text()))
    taken = {row["name"]: row["key"] for row in rows}
    assert_completed(command)
    assert taken.items() <= exported(command).items()


MEASURED = """
import resource, sys
from openrouter_keys.__main__ import main
for path in sys.argv[1:]:
    assert main(["provision", path]) == 0
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_a_thousand_rows_are_made_in_little_memory(command: Command, tmp_path: Path) -> None:
    paths = [str(customers(tmp_path, count).rename(f"{tmp_path / str(count)}.csv"))
             for count in (100, 1000)]  # fmt: skip
    done = run("-c", MEASURED, *paths, environment=command.environment())
    assert done.returncode == 0, done.stderr
    few, many = map(int, done.stdout.split())
    assert many - few < 3_000  # KiB
