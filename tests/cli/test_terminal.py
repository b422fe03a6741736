"""The commands for single keys, as people use them: at a terminal."""

import asyncio
import ctypes
import io
import operator
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from datetime import UTC, datetime
from functools import partial
from hashlib import sha256
from itertools import combinations, pairwise

import pytest

from openrouter_keys import AsyncOpenRouter
from openrouter_keys.cli.app import app
from openrouter_keys.cli.terminal.interrupts import asking, handled, signal_code
from openrouter_keys.cli.terminal.tables import SHORT_HASH
from openrouter_keys.emulator import Fault
from tests.commands import Command
from tests.processes import PATIENCE, ROOT, Process, until
from tests.tables import in_one_test

ESCAPE = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


def plain(text: str) -> list[str]:
    return [line.rstrip() for line in ESCAPE.sub("", text).splitlines()]


@pytest.mark.slow
def test_list_is_a_table_that_fits_and_shows_names_as_they_are(command: Command) -> None:
    account = command.emulator.account
    account.create({"name": "[b]no markup", "limit": 1234.5, "limit_reset": "monthly"})
    account.create({"name": "日本語の顧客"})
    account.create({"name": "\x1b[31mred\a", "expires_at": "2099-12-31T00:00:00Z"})
    key = account.create({"name": "x" * 90})
    key.usage = 0.00042
    shown = command.at_a_terminal("list", columns=80).out
    assert "\x1b[31m" not in shown
    assert "\a" not in shown
    lines = plain(shown)
    assert max(len(line) for line in lines) <= 80
    assert lines[0].split() == ["HASH", "NAME", "SPENT", "LIMIT", "LEFT", "RESETS", "EXPIRES"]
    assert any("[b]no markup" in line and "$1,234.50" in line for line in lines)
    assert any("日本語の顧客" in line for line in lines)
    assert any(r"\x1b[31mred\x07" in line and "2099-12-31" in line for line in lines)
    assert any(key.hash[:SHORT_HASH] in line and "$0.00042" in line for line in lines)
    assert lines[-1] == "4 keys"


@pytest.mark.slow
def test_colours_are_left_out_where_nobody_wants_them(command: Command) -> None:
    command.emulator.account.create({"name": "a"})
    shown = command.at_a_terminal("list", NO_COLOR="1").out
    assert not re.search(r"\x1b\[(3|4|9)\d", shown)


@pytest.mark.slow
def test_a_format_that_is_asked_for_is_no_table(command: Command) -> None:
    command.emulator.account.create({"name": "a"})
    assert command.at_a_terminal("list", "--csv", "--columns", "name").out == "name\r\na\r\n"


@pytest.mark.slow
def test_create_shows_the_secret_and_says_that_it_is_the_only_time(command: Command) -> None:
    ran = command.at_a_terminal("create", "customer-42", "--limit", "50", columns=60)
    (key,) = command.emulator.account.keys.values()
    lines = plain(ran.out)
    secret = next(line for line in lines if line.startswith("key ")).split()[1]
    assert sha256(secret.encode()).hexdigest() == key.hash
    assert any(line.split() == ["hash", key.hash] for line in lines)
    assert any(line.split() == ["limit", "$50.00"] for line in lines)
    assert "The secret is shown this once: keep it now." in lines


@pytest.mark.slow
@pytest.mark.parametrize(
    ("answer", "left"), [("y", 0), ("yes", 0), ("n", 1), ("", 1), ("maybe", 1)]
)
def test_delete_asks_and_takes_only_a_yes(command: Command, answer: str, left: int) -> None:
    key = command.emulator.account.create({"name": "customer-42"})
    shown = command.terminal("delete", key.hash[:SHORT_HASH])
    shown.expect(r"Delete 1 key for good \('customer-42'\)\? \[y/N\] ")
    shown.sendline(answer)
    assert shown.wait() == (1 if left else 0)
    assert len(command.emulator.account.keys) == left


class Asking(io.StringIO):
    """Standard error where somebody presses Ctrl-C as soon as a question is there."""

    def isatty(self) -> bool:
        return True

    def flush(self) -> None:
        if "[y/N] " in self.getvalue():
            signal.raise_signal(signal.SIGINT)


class Terminal(io.TextIOWrapper):
    """Standard input at a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    "words",
    [
        ("delete", "trial"),
        ("rotate", "--finish", "--journal", "r.journal"),
        ("provision", "a.csv"),
        ("journal", "purge", "r.journal"),
    ],
)
def test_ctrl_c_is_heard_as_soon_as_a_question_is_there(
    command: Command, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    key = command.emulator.account.add("trial")
    assert command("rotate", key.hash, "--journal", "r.journal").code == 0
    (command.folder / "a.csv").write_text("name\na\n")
    shown = Asking()
    monkeypatch.setattr(sys, "stderr", shown)
    monkeypatch.setattr(io, "TextIOWrapper", Terminal)
    assert command(*(key.hash if word == "trial" else word for word in words)).code == 130
    assert shown.getvalue().endswith("[y/N] \nopenrouter-keys: interrupted\n")
    assert len(command.emulator.account.keys) == 2


@pytest.mark.slow
def test_a_secret_that_is_typed_is_not_shown(command: Command) -> None:
    secret = "sk-or-v1-" + "5e" * 32
    shown = command.terminal("hash")
    shown.expect(r"\(not shown\): ")
    shown.sendline(secret)
    shown.expect(sha256(secret.encode()).hexdigest())
    assert secret not in str(shown.before)
    assert shown.wait() == 0


@pytest.mark.slow
@pytest.mark.parametrize("columns", [30, 40, 60, 200])
def test_a_narrow_terminal_gets_fewer_columns_and_never_half_an_amount(
    command: Command, columns: int
) -> None:
    key = command.emulator.account.create({"name": "customer-42", "limit": 123456.5})
    key.usage = 98765.43
    shown = "\n".join(plain(command.at_a_terminal("list", columns=columns).out))
    amounts = set(re.findall(r"\$[\d,.]+", shown))
    assert amounts <= {"$98,765.43", "$123,456.50", "$24,691.07"}
    assert "customer-42" in shown
    assert key.hash[:SHORT_HASH] in shown
    assert (len(amounts) == 3) == (columns >= 60)


@pytest.mark.slow
def test_times_are_told_in_utc(command: Command) -> None:
    key = command.emulator.account.create({"name": "a", "expires_at": "2099-12-31T22:00:00Z"})
    key.created_at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    lines = plain(command.at_a_terminal("get", key.hash, TZ="Pacific/Auckland").out)
    assert any(line.split(maxsplit=1) == ["created_at", "2026-01-02 03:04 UTC"] for line in lines)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_create_says_that_it_waits_and_leaves_no_key(
    command: Command, number: signal.Signals
) -> None:
    command.emulator.faults.append(Fault("create", "slow", delay=1.0))
    shown = command.terminal("create", "a")
    until(lambda: command.emulator.requests)
    shown.kill(number)
    shown.expect("openrouter-keys: waiting for the create to end")
    shown.expect("openrouter-keys: interrupted")
    assert shown.wait() == 128 + number
    assert command.emulator.account.keys == {}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "fault", "told"),
    [
        (signal.SIGINT, Fault("create", "closed", phase="after"), "key 'a' may exist"),
        (signal.SIGTERM, Fault("create", status=502, phase="after"), "key 'a' may exist"),
        (signal.SIGHUP, Fault("create", "cut", phase="after", portion=0.3), "the key was created"),
        (signal.SIGTERM, Fault("delete", status=403, times=None), "is left over, delete it"),
        (signal.SIGINT, Fault("delete", status=404, times=None), "is left over, delete it"),
    ],
)
def test_an_interrupted_create_ends_in_doubt_if_its_key_may_live(
    command: Command, number: signal.Signals, fault: Fault, told: str
) -> None:
    command.emulator.latency = 0.7
    command.emulator.faults.append(fault)
    with command.process("create", "a", "-o", "secret") as process:
        until(lambda: command.emulator.requests)
        process.send_signal(number)
        _, err = process.communicate(timeout=PATIENCE)
    assert told in err.splitlines()[-1]
    assert process.returncode == 5
    assert len(command.emulator.account.keys) == 1


@pytest.mark.parametrize(
    ("number", "faults", "code", "told"),
    [
        (signal.SIGTERM, [Fault("create", "closed", phase="after")], 5, "key 'a' may exist"),
        (signal.SIGHUP, [Fault("create", status=502, phase="after")], 5, "key 'a' may exist"),
        (signal.SIGTERM, [Fault("create", "cut", phase="after", portion=0.3)], 5, "was created"),
        (signal.SIGHUP, [Fault("create", status=402)], 129, "402"),
        (signal.SIGTERM, [], 143, "interrupted"),
    ],
)
def test_a_signal_at_the_end_of_a_create_hides_no_outcome(
    *,
    command: Command,
    monkeypatch: pytest.MonkeyPatch,
    number: signal.Signals,
    faults: list[Fault],
    code: int,
    told: str,
) -> None:
    close = AsyncOpenRouter.close

    async def close_and_hear(client: AsyncOpenRouter) -> None:
        await close(client)
        signal.raise_signal(number)
        await asyncio.sleep(60)

    monkeypatch.setattr(AsyncOpenRouter, "close", close_and_hear)
    command.emulator.faults += faults
    ran = command("create", "a", "-o", "secret")
    assert (ran.code, told in ran.err) == (code, True)


@pytest.mark.slow
def test_a_create_that_is_stopped_at_once_says_what_may_be_there(command: Command) -> None:
    command.emulator.faults.append(Fault("create", "slow", delay=30.0))
    shown = command.terminal("create", "a b")
    until(lambda: command.emulator.requests)
    shown.kill(signal.SIGINT)
    shown.expect("waiting for the create to end")
    shown.kill(signal.SIGINT)
    shown.expect("a key may exist whose secret is lost: openrouter-keys list --name 'a b'")
    assert shown.wait() == 130


STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# A program that takes a secret once the test says so, or fails.
TAKES = "sh -c 'touch begun; while [ ! -e go ]; do sleep 0.05; done; cat > taken'"
FAILS = "sh -c 'touch begun; while [ ! -e go ]; do sleep 0.05; done; exit 1'"


def begun(command: Command) -> bool:
    """Whether a hand-over goes on."""
    return (command.folder / "begun").exists()


@pytest.mark.slow
@pytest.mark.parametrize("number", STOPPING)
def test_a_signal_waits_for_the_program_that_takes_a_secret(
    command: Command, number: signal.Signals
) -> None:
    with command.process("create", "a", "--to-command", TAKES) as process:
        assert process.stderr is not None
        until(lambda: begun(command))
        process.send_signal(number)
        assert "waiting until the secret of the key" in process.stderr.readline()
        (command.folder / "go").touch()
        process.communicate(timeout=PATIENCE)
    (key,) = command.emulator.account.keys.values()
    assert (command.folder / "taken").read_text() == f"{key.secret}\n"
    assert process.returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize("number", STOPPING)
def test_a_second_signal_says_that_the_program_may_have_the_secret(
    command: Command, number: signal.Signals
) -> None:
    with command.process("create", "a", "--to-command", TAKES) as process:
        assert process.stderr is not None
        until(lambda: begun(command))
        process.send_signal(number)
        assert "Ctrl-C again stops at once" in process.stderr.readline()
        process.send_signal(number)
        process.wait(PATIENCE)
        (command.folder / "go").touch()  # the program has standard error, too
        _, err = process.communicate(timeout=PATIENCE)
    (hash,) = command.emulator.account.keys
    assert f"keep the key {hash} if its secret was taken, or delete it" in err
    assert process.returncode == 128 + number


@pytest.mark.slow
@pytest.mark.parametrize("number", STOPPING)
def test_a_key_that_nobody_took_is_deleted_although_its_delete_is_interrupted(
    command: Command, number: signal.Signals
) -> None:
    command.emulator.faults.append(Fault("delete", "slow", delay=1.0))
    with command.process("create", "a", "--to-command", "false") as process:
        until(lambda: command.emulator.count("delete"))
        (hash,) = command.emulator.account.keys
        process.send_signal(number)
        _, err = process.communicate(timeout=PATIENCE)
    first, last = err.splitlines()
    assert f"deleting the key {hash}, whose secret is lost" in first
    assert f"the key {hash} was deleted again" in last
    assert process.returncode == 128 + number
    assert command.emulator.account.keys == {}


@pytest.mark.slow
@pytest.mark.parametrize(("number", "answer"), [*zip(STOPPING, [403, 404, 500], strict=True)])
def test_an_interrupted_hand_over_ends_in_doubt_if_its_key_may_live(
    command: Command, number: signal.Signals, answer: int
) -> None:
    command.emulator.faults.append(Fault("delete", status=answer, times=None))
    words = ("create", "a", "--to-command", FAILS, "--timeout", "1")
    with command.process(*words) as process:
        until(lambda: begun(command))
        process.send_signal(number)
        (command.folder / "go").touch()
        _, err = process.communicate(timeout=PATIENCE)
    (hash,) = command.emulator.account.keys
    assert f"delete the key {hash}, whose secret is lost" in err.splitlines()[-1]
    assert process.returncode == 5


@pytest.mark.slow
@pytest.mark.parametrize("number", STOPPING)
def test_a_delete_that_is_stopped_at_once_says_which_key_is_left(
    command: Command, number: signal.Signals
) -> None:
    command.emulator.faults.append(Fault("delete", "stalled"))
    with command.process("create", "a", "--to-command", "false") as process:
        assert process.stderr is not None
        until(lambda: command.emulator.count("delete"))
        process.send_signal(number)
        assert "Ctrl-C again stops at once" in process.stderr.readline()
        process.send_signal(number)
        _, err = process.communicate(timeout=PATIENCE)
    (hash,) = command.emulator.account.keys
    assert f"stopped at once; delete the key {hash}, whose secret is lost" in err
    assert process.returncode == 128 + number


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_delete_says_what_may_be_there_still(
    command: Command, number: signal.Signals
) -> None:
    key = command.emulator.account.create({"name": "a"})
    command.emulator.faults.append(Fault("delete", "slow", delay=30.0))
    shown = command.terminal("delete", key.hash, "--yes")
    deadline = time.monotonic() + PATIENCE
    while not command.emulator.count("delete") and time.monotonic() < deadline:
        time.sleep(0.01)
    shown.kill(number)
    shown.expect("0 deleted; 1 may still exist")
    assert shown.wait() == 128 + number


@pytest.mark.slow
def test_a_create_whose_terminal_is_closed_leaves_no_key(command: Command) -> None:
    command.emulator.faults.append(Fault("create", "slow", delay=1.0))
    shown = command.terminal("create", "a")
    until(lambda: command.emulator.requests)
    shown.close()
    assert shown.process.wait(PATIENCE) == 128 + signal.SIGHUP
    assert command.emulator.count("delete") == 1
    assert command.emulator.account.keys == {}


IGNORING = """
import signal, sys
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
from openrouter_keys.__main__ import main
sys.exit(main(["create", "a", "--show-secret"]))
"""


@pytest.mark.slow
def test_what_ignores_signals_goes_on_as_nohup_and_trap_have_it(command: Command) -> None:
    command.emulator.faults.append(Fault("create", "slow", delay=0.5))
    with Process("-c", IGNORING, environment=command.environment()) as process:
        until(lambda: command.emulator.requests)
        for number in STOPPING:
            process.send_signal(number)
        out, _ = process.communicate(timeout=PATIENCE)
    (key,) = command.emulator.account.keys.values()
    assert (process.returncode, out.strip()) == (0, key.secret)


@in_one_test("ignored", [(), *combinations(STOPPING, 1), *combinations(STOPPING, 2), STOPPING])
def test_only_a_signal_that_is_not_ignored_is_heard(ignored: tuple[signal.Signals, ...]) -> None:
    heard, before = list[int](), {number: signal.getsignal(number) for number in STOPPING}
    try:
        for number in ignored:
            signal.signal(number, signal.SIG_IGN)
        with handled(lambda number, _: heard.append(number), STOPPING):
            for number in STOPPING:
                signal.raise_signal(number)
        assert heard == [number for number in STOPPING if number not in ignored]
        assert all(signal.getsignal(number) is signal.SIG_IGN for number in ignored)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@in_one_test("number", STOPPING)
def test_a_signal_ends_a_question_on_a_line_of_its_own(
    number: signal.Signals, capsys: pytest.CaptureFixture[str]
) -> None:
    async def ask() -> None:
        with asking():
            signal.raise_signal(number)

    capsys.readouterr()
    with pytest.raises(KeyboardInterrupt):
        asyncio.run(ask())
    assert capsys.readouterr().err == "\n"
    assert signal_code() == 128 + number


@pytest.mark.slow
@pytest.mark.parametrize("number", STOPPING)
@pytest.mark.parametrize("how", ["a line", "a byte", "some bytes"])
def test_a_signal_just_before_the_read_that_waits_ends_a_question(
    number: signal.Signals, how: str, capsys: pytest.CaptureFixture[str]
) -> None:
    reading, writing = os.pipe()
    answer = threading.Timer(5, os.write, (writing, b"too late\n"))
    with open(reading) as source, open(writing, "w"):
        reads = {
            "a line": source.readline,
            "a byte": partial(source.buffer.read, 1),
            "some bytes": partial(os.read, reading, 9),
        }
        arrives = partial(ctypes.pythonapi.PyErr_SetInterruptEx, number)
        answer.start()
        with pytest.raises(KeyboardInterrupt), asking():
            # Both in C: Python looks for signals between two of its own instructions.
            deque(map(operator.methodcaller("__call__"), [arrives, reads[how]]))
        assert answer.is_alive(), "it waited for the answer"
        answer.cancel()
        answer.join()
    assert capsys.readouterr().err == "\n"
    assert signal_code() == 128 + number


def test_a_question_leaves_the_alarm_of_others_as_it_was() -> None:
    heard, handler = list[int](), signal.getsignal(signal.SIGALRM)
    timer = signal.setitimer(signal.ITIMER_REAL, 60)
    try:
        signal.signal(signal.SIGALRM, lambda number, _: heard.append(number))
        with asking():
            pass
        assert 50 < signal.getitimer(signal.ITIMER_REAL)[0] <= 60
        signal.raise_signal(signal.SIGALRM)
        assert heard == [signal.SIGALRM]
    finally:
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, *timer)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "prompt"),
    [
        (("delete", "trial"), r"\[y/N\] "),
        (("find",), r"not shown\): "),
        (("list", "--api-key-file", "-"), r"not shown\): "),
    ],
)
def test_a_question_ends_with_ctrl_c_and_ctrl_d_in_one_line(
    command: Command, words: tuple[str, ...], prompt: str
) -> None:
    key = command.emulator.account.add("trial")
    words = tuple(key.hash if word == "trial" else word for word in words)
    for send, codes, told in (("\x03", {130}, "interrupted"), ("\x04", {1, 2, 4}, "")):
        shown = command.terminal(*words)
        shown.expect(prompt)
        shown.send(send)
        assert shown.wait() in codes
        first, last = plain(shown.before or "")[-2:]
        assert first in ("", "^C", "^D")
        assert last.startswith(f"openrouter-keys: {told}")


INTERRUPTED_AT_AN_IMPORT = """
import os, signal, sys, time

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "cyclopts":
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(60)

sys.meta_path.insert(0, Finder())
from openrouter_keys.__main__ import main
sys.exit(main(["list"]))
"""


@pytest.mark.slow
def test_an_interrupt_while_modules_are_loaded_shows_no_traceback() -> None:
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED_AT_AN_IMPORT],
        cwd=ROOT,
        capture_output=True,
        encoding="utf-8",
        timeout=PATIENCE,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


COMMANDS = [name for name in app.resolved_commands() if not name.startswith("-")]
NESTED = [f"journal {name}" for name in app["journal"].resolved_commands() if name[0] != "-"]


@pytest.mark.slow
@in_one_test("name", [*COMMANDS, *NESTED])
def test_every_command_explains_itself(command: Command, name: str) -> None:
    ran = command(*name.split(), "--help")
    assert (ran.code, ran.err) == (0, "")
    usage, _, text = ran.out.partition("\n\n")
    assert usage.startswith(f"Usage: openrouter-keys {name}")
    assert "Exit codes" in text
    assert max(len(line) for line in ran.out.splitlines()) <= 120
    # The lines are those of the terminal, and not those of the source.
    for paragraph in text[: text.index("╭")].strip().split("\n\n"):
        for line, after in pairwise(paragraph.splitlines()):
            assert len(f"{line.rstrip()} {after.split()[0]}") > 79


def test_help_names_every_command(command: Command) -> None:
    told = command("--help").out
    assert [name for name in COMMANDS if f" {name} " not in told] == []
    assert command().out == told


def test_the_version_is_told_with_aiohttps(command: Command) -> None:
    assert re.fullmatch(
        r"openrouter-keys \d[\w.]* \(aiohttp \d[\w.]*\)\n", command("--version").out
    )


@pytest.mark.slow
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_gets_a_script_that_knows_the_commands(command: Command, shell: str) -> None:
    script = command("completion", shell).out
    assert [name for name in COMMANDS if name not in script] == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "fields"),
    [
        (("create", "a", "--limit", "5"), "hash name limit key"),
        (
            ("create", "a", "--limit-reset", "daily", "--expires-at", "30d"),
            "hash name limit limit_reset expires_at key",
        ),
        (("update", "trial", "--limit", "5"), "hash name limit"),
        (("update", "trial", "--limit-reset", "none"), "hash name limit limit_reset"),
        (("disable", "trial"), "hash name disabled limit"),
        (("enable", "trial"), "hash name disabled limit"),
        (("ensure", "a", "--journal", "a.journal"), "hash name limit key"),
    ],
)
def test_a_key_that_is_made_or_changed_is_a_few_lines(
    command: Command, words: tuple[str, ...], fields: str
) -> None:
    command.emulator.account.create({"name": "trial"})
    shown = plain(command.at_a_terminal(*words).out)
    names = [line.split()[0] for line in shown if line and line.split()[0].islower()]
    assert [name for name in names if not name.endswith(":")] == fields.split()
    if words[0] == "disable":
        more = plain(command.at_a_terminal("update", "trial", "--limit", "1", "--verbose").out)
        assert len(more) > 15


FILES = (
    *("--api-key-file", "--ca-file", "--external-api-key-file", "--file", "--html", "--identity"),
    *("--journal", "--output", "--secret-file", "--state", "-o"),
)


def test_a_shell_completes_files_wherever_one_is_meant(command: Command) -> None:
    script = command("completion", "bash").out
    lines = re.findall(r"^ +(-\S+)\)\n +(.*)$", script, re.MULTILINE)
    for option in FILES:
        does = [line for name, line in lines if name == option]
        assert does
        assert [line for line in does if "compgen -f" not in line] == [], option
    assert not [name for name, _ in lines if name.endswith("file") and name not in FILES]
    for name in ("provision", "apply", "demo", "journal status", "journal backup"):
        section = script[script.index(f'"{name}")') :]
        assert "compgen -f" in re.split(r'\n +"[a-z ]+"\)', section)[0], name
