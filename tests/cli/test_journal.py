"""`journal status`, `export` and `purge`, as processes where files and exit codes matter."""

import asyncio
import csv
import io
import json
import os
import pty
import re
import shlex
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from unittest.mock import patch

import pytest

from openrouter_keys.__main__ import main
from openrouter_keys.cli.journal import export as journal_export
from openrouter_keys.journal.encryption import sealing
from openrouter_keys.journal.journal import Journal
from tests import processes
from tests.journals import AT, SECRET, spec, written
from tests.tables import in_one_test

ENVIRONMENT = processes.environment()
COMMAND = ("-m", "openrouter_keys", "journal")
PATIENCE = 60
ODD_NAME = 'a "b", c\r\nd\re — ü'


JSONL = ("--secret-format", "jsonl")


def age_keys() -> tuple[str, str]:
    """An identity and its recipient."""
    identity = import_module("pyrage").x25519.Identity.generate()
    return str(identity), str(identity.to_public())


def secret(ref: str) -> str:
    return f"sk-or-v1-{sha256(ref.encode()).hexdigest()}"


def hash_of(ref: str) -> str:
    return sha256(secret(ref).encode()).hexdigest()


async def keep(journal: Journal, ref: str, name: str = "a customer") -> None:
    await journal.intend(spec(ref, name=name), AT)
    await journal.keep(ref, secret=secret(ref), hash=hash_of(ref))


async def fill(path: Path) -> None:
    async with Journal.open(path, server_url="https://one") as journal:
        await keep(journal, "settled", ODD_NAME)
        await journal.acknowledge("settled")
        await journal.intend(spec("refused"), AT)
        await journal.fail("refused", f"403 {SECRET}")
        await keep(journal, "made")
        await keep(journal, "rejected")
        await journal.reject("rejected", "limit")
    async with Journal.open(path, store_secrets=False) as journal:
        await keep(journal, "unstored")
        await keep(journal, "rejected and unstored")
        await journal.reject("rejected and unstored", "limit")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "customers.journal"
    asyncio.run(fill(path))
    return path


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "keys"


def row(ref: str, name: str = "a customer", state: str = "made") -> dict[str, str]:
    return {"ref": ref, "name": name, "hash": hash_of(ref), "key": secret(ref), "state": state}


ROWS = [row("settled", ODD_NAME, "settled"), row("made")]
REST = (
    "; without a secret here: 4 (1 refused, 2 not as asked for, 1 adopted, not stored, or purged)\n"
)
SUMMARY = f"openrouter-keys: exported 2 keys{REST}"


def summary(output: Path) -> str:
    return f"openrouter-keys: exported 2 keys to {output}{REST}"


def run(*arguments: object, given: str = "") -> "subprocess.CompletedProcess[str]":
    """In this process; secrets for standard output go past `sys.stdout`, so `start` shows those."""
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", newline="") for _ in range(2))
    source = io.TextIOWrapper(io.BytesIO(given.encode()), "utf-8")
    words = ["journal", *map(str, arguments)]
    with redirect_stdout(out), redirect_stderr(err), patch.object(sys, "stdin", source):
        code = main(words)
    return subprocess.CompletedProcess(words, code, written_to(out), written_to(err))


def written_to(stream: io.TextIOWrapper) -> str:
    stream.seek(0)
    return stream.read()


def start(*arguments: object, out: int | None = None) -> "subprocess.CompletedProcess[str]":
    """In a process of its own."""
    return processes.run(*COMMAND, *map(str, arguments), environment=ENVIRONMENT, stdout=out)


def start_within(limit: str, *arguments: object) -> "subprocess.CompletedProcess[str]":
    """In a process of its own, below a shell that sets a limit."""
    line = [sys.executable, "-W", "error", *COMMAND, *map(str, arguments)]
    return subprocess.run(
        ["sh", "-c", f'{limit}; exec "$@"', "sh", *line],
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=PATIENCE,
        check=False,
    )


def outcome(process: "subprocess.CompletedProcess[str]") -> tuple[int, str, str]:
    return process.returncode, process.stdout, process.stderr


def problem(process: "subprocess.CompletedProcess[str]", code: int) -> str:
    """The one line that a command says when it fails, in which no secret stands."""
    assert process.returncode == code, process.stderr
    assert process.stdout == ""
    assert process.stderr.startswith("openrouter-keys: ")
    assert process.stderr.count("\n") == 1
    assert "sk-or-v1-" not in process.stderr
    assert not re.search("AGE-SECRET-KEY-1[A-Z0-9]", process.stderr)
    return process.stderr


# --- export ---


@pytest.mark.slow
def test_every_key_whose_secret_is_there_is_exported_to_a_private_file(
    path: Path, output: Path
) -> None:
    words = ("export", path, "--output", output, "--secret-format", "jsonl")
    process = start_within("umask 0", *words)
    assert outcome(process) == (0, "", summary(output))
    assert [json.loads(line) for line in output.read_text().splitlines()] == ROWS
    assert output.stat().st_mode & 0o777 == 0o600


def test_a_csv_file_holds_the_same_whatever_the_names(path: Path, output: Path) -> None:
    process = run("export", path, "--output", output)
    assert outcome(process) == (0, "", summary(output))
    assert list(csv.DictReader(io.StringIO(output.read_bytes().decode(), newline=""))) == ROWS


@pytest.mark.parametrize("kind", ["file", "link", "dangling link", "folder"])
def test_what_is_there_already_is_never_written_over(path: Path, output: Path, kind: str) -> None:
    other = output.with_name("other")
    if kind in ("file", "link"):
        (output if kind == "file" else other).write_text("precious")
    if "link" in kind:
        output.symlink_to(other)
    if kind == "folder":
        output.mkdir()
    assert "is there already" in problem(run("export", path, "--output", output), 2)
    assert kind not in ("file", "link") or output.read_text() == "precious"
    assert kind != "dangling link" or not other.exists()


def test_a_file_that_cannot_be_made_is_told(path: Path, output: Path) -> None:
    said = problem(run("export", path, "--output", output / "nowhere"), 2)
    assert f"cannot make {output}/nowhere: there is no folder {output}\n" in said


@pytest.mark.slow
def test_a_full_disk_leaves_no_part_of_the_export(tmp_path: Path, output: Path) -> None:
    path = tmp_path / "many.journal"

    async def fill_with_many() -> None:
        async with Journal.open(path) as journal:
            await asyncio.gather(*(keep(journal, str(n)) for n in range(600)))

    asyncio.run(fill_with_many())
    # Of what it may write, in blocks; coverage's own file in a child would be too large as well.
    limit = "ulimit -f 80; unset COVERAGE_PROCESS_CONFIG"
    process = start_within(limit, "export", path, "--output", output)
    assert "cannot write the keys: File too large" in problem(process, 1)
    assert not output.exists()


def test_an_interrupted_export_leaves_no_part_of_it(
    path: Path, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_: object) -> str:
        assert output.exists()
        raise KeyboardInterrupt

    monkeypatch.setattr(journal_export, "_why_missing", interrupt)
    assert main(["journal", "export", str(path), "--output", str(output)]) == 130
    assert not output.exists()


def test_an_environment_file_has_a_variable_for_each_key(path: Path, output: Path) -> None:
    output = output.with_name("keys.env")
    assert run("export", path, "-o", output).returncode == 0
    written = output.read_text().splitlines()
    assert all(line.startswith("# ") for line in written[::2])  # its name
    lines = dict(line.split("=") for line in written[1::2])
    assert lines == {
        f"OPENROUTER_API_KEY_{ref.upper()}": secret(ref) for ref in ("settled", "made")
    }


# --- to a program ---

TAKES = """
import os, sys
with open(sys.argv[1], "a") as file:
    file.write(" ".join((os.environ["OPENROUTER_KEY_REF"], sys.stdin.read())))
if os.environ["OPENROUTER_KEY_REF"] == sys.argv[2]:
    sys.exit(7)
"""


@pytest.mark.slow
def test_a_program_gets_each_secret_on_its_standard_input(path: Path, output: Path) -> None:
    words = shlex.join([sys.executable, "-c", TAKES, str(output), "none"])
    assert outcome(run("export", path, "--to-command", words)) == (0, "", SUMMARY)
    refs = ("settled", "made")
    assert output.read_text() == "".join(f"{ref} {secret(ref)}\n" for ref in refs)


def test_a_program_that_fails_ends_the_export(path: Path, output: Path) -> None:
    words = shlex.join([sys.executable, "-c", TAKES, str(output), "settled"])
    said = problem(run("export", path, "--to-command", words), 1)
    assert "exited with 7 and did not take the key 'settled'" in said
    assert "made" not in output.read_text()


# --- to standard output ---


@pytest.mark.slow
def test_secrets_go_into_a_pipe_only_when_asked_for(path: Path) -> None:
    assert "--show-secret" in problem(run("export", path), 2)
    process = start("export", path, "--show-secret", "--secret-format", "jsonl")
    assert (process.returncode, process.stderr) == (0, SUMMARY)
    assert [json.loads(line) for line in process.stdout.splitlines()] == ROWS


@pytest.mark.slow
def test_secrets_are_shown_on_a_terminal(path: Path) -> None:
    ours, theirs = pty.openpty()
    with open(ours, "rb", buffering=0) as terminal, open(theirs, "wb") as shown:
        process = start("export", path, out=shown.fileno())
        assert secret("settled").encode() in terminal.read(4096)
    assert (process.returncode, process.stderr) == (0, SUMMARY)


@pytest.mark.slow
@pytest.mark.parametrize("format", ["csv", "jsonl", "env"])
def test_no_name_steers_a_terminal(tmp_path: Path, format: str) -> None:
    path = tmp_path / "odd.journal"

    async def fill_oddly() -> None:
        async with Journal.open(path) as journal:
            await keep(journal, "\x1b[31mref", "\x9b31m\x1b]0;title\x07 日本 [bold]")

    asyncio.run(fill_oddly())
    ours, theirs = pty.openpty()
    with open(ours, "rb", buffering=0) as terminal, open(theirs, "wb") as shown:
        assert start("export", path, "--secret-format", format, out=shown.fileno()).returncode == 0
        told = terminal.read(4096).decode()
    assert told.replace("\r", "").replace("\n", "").isprintable()
    assert secret("\x1b[31mref") in told


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux only")
def test_a_pipe_that_cannot_be_written_to_is_told_in_one_line(path: Path) -> None:
    with open("/dev/full", "wb") as full:
        process = start("export", path, "--show-secret", out=full.fileno())
    problem = "cannot write: No space left on device; standard output has nothing of them"
    said = f"openrouter-keys: {problem}\n"
    assert (process.returncode, process.stderr) == (1, said)


# --- sealed secrets ---


async def fill_sealed(path: Path, *recipients: str) -> None:
    for number, recipient in enumerate(recipients):
        async with Journal.open(path, seal=sealing(recipient)) as journal:
            await keep(journal, f"sealed {number}")


@pytest.mark.slow
def test_sealed_secrets_without_an_identity_are_refused_before_anything_is_written(
    path: Path, output: Path
) -> None:
    _, recipient = age_keys()
    asyncio.run(fill_sealed(path, recipient))  # after others that are not sealed
    assert "give --identity" in problem(run("export", path, "--output", output), 2)
    assert not output.exists()
    shown = run("export", path, "--show-secret")
    assert "give --identity" in problem(shown, 2)


@pytest.mark.slow
@pytest.mark.parametrize("source", ["file", "standard input"])
def test_sealed_secrets_are_exported_with_an_identity(
    path: Path, output: Path, source: str
) -> None:
    (one, first), (two, second) = age_keys(), age_keys()
    asyncio.run(fill_sealed(path, first, second))
    text, file = f"\ufeff# two of them\n{one}\n{two}\n", path.with_name("identity")
    file.write_text(text, encoding="utf-8")
    identity = file if source == "file" else "-"
    given = "" if source == "file" else text
    process = run("export", path, "-o", output, *JSONL, "--identity", identity, given=given)
    assert (process.returncode, process.stdout) == (0, "")
    found = [json.loads(line) for line in output.read_text().splitlines()]
    assert found == [*ROWS, row("sealed 0"), row("sealed 1")]


@pytest.mark.slow
def test_a_secret_of_another_recipient_leaves_no_part_of_the_export(
    path: Path, output: Path
) -> None:
    (identity, first), (_, second) = age_keys(), age_keys()
    asyncio.run(fill_sealed(path, first, second))
    process = run("export", path, "--output", output, "--identity", "-", given=identity)
    assert "'sealed 1': the sealed secret cannot be decrypted" in problem(process, 1)
    assert not output.exists()


def test_an_identity_is_read_from_a_file_and_never_shown(path: Path, output: Path) -> None:
    identity, _ = age_keys()
    export = ("export", path, "--output", output, "--identity")
    assert "cannot read the identity's file" in problem(run(*export, identity), 2)
    for broken in (f"{identity}\n?", f"{identity}\udcff"):
        file = path.with_name("identity")
        file.write_text(broken, encoding="utf-8", errors="surrogateescape")
        assert "must be the text of an age identity file" in problem(run(*export, file), 2)
    assert not output.exists()


# --- status ---

TABLE = """\
server_url   https://one  the service that its keys are made at
created_at   2026-11-21 12:00:00 UTC  when it was begun
written_off  0          made anew after a create without an answer, whose key may still turn up
purgeable    2          secrets of keys that need nothing more: export them, or purge them
runs         0          runs that have it open now
under_way    0          creates of those runs, which are in no doubt
intent       0          in doubt, unless it is under way: its run ended
made         2          made, and handed over by the next run
settled      1          made, and nothing is left to do
failed       3          refused, or made otherwise than asked for
doubt        0          in doubt: a key may exist, without its secret
releasing    0          being deleted; release it again, or ensure it anew
"""


def test_the_status_counts_keys_by_state(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["journal", "status", str(path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told == {
        "server_url": "https://one",
        "created_at": told["created_at"],
        "written_off": 0,
        "purgeable": 2,
        "runs": 0,
        "under_way": 0,
        "keys": {"intent": 0, "made": 2, "settled": 1, "failed": 3, "doubt": 0, "releasing": 0},
    }
    assert main(["journal", "status", str(path)]) == 0
    table = TABLE.replace("2026-11-21 12:00:00", told["created_at"].replace("T", " ").rstrip("Z"))
    assert capsys.readouterr().out == table


async def doubt(path: Path, *, crashed: bool) -> None:
    async with Journal.open(path) as journal:
        await journal.intend(spec("unknown"), AT)
        if not crashed:
            await journal.doubt("unknown", "no answer")
            await journal.again("unknown", AT)
            await journal.doubt("unknown", "no answer")


@pytest.mark.parametrize("crashed", [False, True])
def test_the_status_of_a_journal_in_doubt_exits_with_5(path: Path, crashed: bool) -> None:
    asyncio.run(doubt(path, crashed=crashed))
    process = run("status", path, "--json")
    told = json.loads(process.stdout)
    assert (process.returncode, process.stderr) == (5, "")
    assert (told["keys"]["doubt"], told["keys"]["intent"]) == ((0, 1) if crashed else (1, 0))
    assert told["written_off"] == (0 if crashed else 1)


@pytest.mark.slow
def test_a_key_in_doubt_has_no_secret_to_export(path: Path, output: Path) -> None:
    asyncio.run(doubt(path, crashed=True))
    process = run("export", path, "--output", output)
    assert process.returncode == 0
    assert "exported 2 keys" in process.stderr
    assert "without a secret here: 5 (" in process.stderr
    assert "1 in doubt" in process.stderr


# --- purge ---


def test_a_purge_asks_and_forgets_nothing_without_an_answer(path: Path) -> None:
    before = path.read_bytes()
    said = problem(run("purge", path), 2)
    assert "would forget the secrets of 2 keys in " in said
    assert said.endswith("and there is no terminal to ask at: give --yes\n")
    assert path.read_bytes() == before
    told = "openrouter-keys: would forget the secrets of 2 keys\n"
    assert outcome(run("purge", path, "--dry-run")) == (0, "", told)
    assert path.read_bytes() == before


def test_a_purge_forgets_what_is_settled_and_keeps_what_is_not(path: Path, output: Path) -> None:
    told = "openrouter-keys: forgot the secrets of 2 keys\n"
    assert outcome(run("purge", path, "--yes")) == (0, "", told)
    for ref in ("settled", "rejected"):
        assert secret(ref).encode() not in written(path)
    assert secret("made").encode() in written(path)
    assert json.loads(run("status", path, "--json").stdout)["purgeable"] == 0
    process = run("export", path, "-o", output, *JSONL)
    assert "exported 1 key to" in process.stderr
    assert [json.loads(line) for line in output.read_text().splitlines()] == ROWS[1:]
    again = "openrouter-keys: forgot the secrets of 0 keys\n"
    assert outcome(run("purge", path)) == (0, "", again)


@pytest.mark.slow
def test_a_journal_that_holds_no_secret_has_nothing_to_export(path: Path, output: Path) -> None:
    empty = path.with_name("empty.journal")

    async def fill_without_secrets() -> None:
        async with Journal.open(empty, store_secrets=False) as journal:
            await keep(journal, "unstored")

    asyncio.run(fill_without_secrets())
    told = (
        "there is nothing to export: without a secret here: 1 (1 adopted, not stored, or purged)\n"
    )
    for words in (("-o", output), ("--show-secret",)):
        assert problem(run("export", empty, *words), 1).endswith(told)
    assert not output.exists()


@pytest.mark.slow
def test_what_the_help_lists_is_taken(path: Path) -> None:
    shown = run("export", "--help").stdout
    assert "--jsonl" in shown
    assert "--json " not in shown
    process = start("export", path, "--jsonl", "--show-secret")
    assert [json.loads(line) for line in process.stdout.splitlines()] == ROWS


def test_the_status_tells_what_to_do_about_a_doubt(path: Path) -> None:
    asyncio.run(doubt(path, crashed=True))
    process = run("status", path)
    assert process.returncode == 5
    assert process.stderr == (
        "openrouter-keys: 1 key in doubt: the same `provision`, `rotate` or `ensure` with this "
        "journal settles it\n"
    )


@pytest.mark.parametrize("mode", [0o600, 0o644])
@pytest.mark.parametrize("action", ["status", "purge"])
def test_another_file_is_no_journal(tmp_path: Path, mode: int, action: str) -> None:
    other = tmp_path / "ok.csv"
    other.write_text("name\nAda\n")
    other.chmod(mode)
    said = problem(run(action, other), 1)
    assert "ok.csv is no journal: give another path" in said


# --- every one ---


@pytest.mark.parametrize("action", ["status", "export"])
def test_looking_at_a_journal_does_not_change_it(path: Path, output: Path, action: str) -> None:
    before = path.read_bytes()
    run(action, path, *(("--output", output) if action == "export" else ()))
    assert path.read_bytes() == before


@pytest.mark.parametrize("action", ["status", "export", "purge"])
def test_a_journal_that_is_not_there_is_told_and_not_made(tmp_path: Path, action: str) -> None:
    given = ("--output", tmp_path / "keys") if action == "export" else ()
    said = problem(run(action, tmp_path / "missing", *given), 1)
    assert "missing is not there: give the path of a journal" in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("action", ["purge", "accept"])
def test_what_needs_a_journal_alone_is_told_who_has_it(path: Path, action: str) -> None:
    async def act() -> str:
        async with Journal.open(path):
            return problem(start(action, path, "--yes"), 1)

    assert f"is in use by process {os.getpid()}" in asyncio.run(act())


@pytest.mark.slow
def test_a_journal_is_looked_at_beside_runs_whose_creates_are_in_no_doubt(
    path: Path, output: Path
) -> None:
    async def act() -> None:
        async with Journal.open(path) as one, Journal.open(path) as other:
            await one.intend(spec("1"), AT)
            await one.intend(spec("2"), AT)
            await other.intend(spec("3"), AT)
            process = start("status", path, "--json")
            told = json.loads(process.stdout)
            assert (process.returncode, process.stderr) == (0, "")
            assert (told["runs"], told["under_way"]) == (2, 3)
            assert told["keys"]["intent"] == 3
            assert start("export", path, "-o", output).returncode == 0
            assert start("backup", path, path.with_name("copy")).returncode == 0

    asyncio.run(act())
    ended = run("status", path, "--json")
    told = json.loads(ended.stdout)
    assert (ended.returncode, told["runs"], told["under_way"]) == (5, 0, 0)


@in_one_test(
    "arguments, told",
    [
        (["export"], "give JOURNAL, a file or a URL, or set OPENROUTER_KEYS_JOURNAL"),
        (["backup", "a.journal"], "requires an argument"),
        (["export", "a.journal", "-o", "b", "--secret-format", "xml"], 'Invalid value "xml"'),
        (["export", "a.journal", "-o", "b", "--to-command", "cat"], "not both"),
        (["export", "a.journal", "--to-command", "'"], "--to-command: No closing quotation"),
        (["forget", "a.journal"], 'Unknown command "forget"'),
    ],
)
def test_a_wrong_command_line_is_a_usage_error(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["journal", *arguments]) == 2
    said = capsys.readouterr().err
    assert told in said
    assert said.count("\n") == 1
