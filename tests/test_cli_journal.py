"""`journal status` and `journal export`, as processes where files and exit codes matter."""

import asyncio
import csv
import io
import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Sequence
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import IO

import pytest

from openrouter_keys.__main__ import main
from openrouter_keys.cli import journal as cli_journal
from openrouter_keys.provisioning.journal import Journal
from openrouter_keys.provisioning.sealing import sealing
from tests.journals import AT, SECRET, spec

ROOT = Path(__file__).parent.parent
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}
COMMAND = [sys.executable, "-W", "error", "-m", "openrouter_keys", "journal"]
PATIENCE = 60
ODD_NAME = 'a "b", c\r\nd\re — ü'


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


ROWS = [row("settled", ODD_NAME, "settled"), row("made"), row("rejected", state="failed")]
SUMMARY = (
    "openrouter-keys journal: exported: 3; without a secret here: 3 "
    "(1 refused, 2 made without storing secrets)\n"
)


def run(
    *arguments: object,
    given: str = "",
    out: int | IO[bytes] = subprocess.PIPE,
    within: Sequence[str] = (),
    umask: int = -1,
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*within, *COMMAND, *map(str, arguments)],
        env=ENVIRONMENT,
        input=given,
        stdout=out,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        timeout=PATIENCE,
        check=False,
        umask=umask,
    )


def outcome(process: "subprocess.CompletedProcess[str]") -> tuple[int, str, str]:
    return process.returncode, process.stdout, process.stderr


def problem(process: "subprocess.CompletedProcess[str]", code: int) -> str:
    """The one line that a command says when it fails, in which no secret stands."""
    assert process.returncode == code, process.stderr
    assert process.stdout == ""
    assert process.stderr.startswith("openrouter-keys journal: ")
    assert process.stderr.count("\n") == 1
    assert "sk-or-v1-" not in process.stderr
    assert not re.search("AGE-SECRET-KEY-1[A-Z0-9]", process.stderr)
    return process.stderr


# --- export ---


def test_every_key_whose_secret_is_there_is_exported_to_a_private_file(
    path: Path, output: Path
) -> None:
    assert outcome(run("export", path, "--output", output, umask=0)) == (0, "", SUMMARY)
    assert [json.loads(line) for line in output.read_text().splitlines()] == ROWS
    assert output.stat().st_mode & 0o777 == 0o600


def test_a_csv_file_holds_the_same_whatever_the_names(path: Path, output: Path) -> None:
    process = run("export", path, "--output", output, "--format", "csv")
    assert outcome(process) == (0, "", SUMMARY)
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
    assert said.endswith("nowhere: No such file or directory\n")


def test_a_full_disk_leaves_no_part_of_the_export(tmp_path: Path, output: Path) -> None:
    path = tmp_path / "many.journal"

    async def fill_with_many() -> None:
        async with Journal.open(path) as journal:
            await asyncio.gather(*(keep(journal, str(n)) for n in range(600)))

    asyncio.run(fill_with_many())
    # Of what it may write, in blocks; coverage's own file in a child would be too large as well.
    limit = ("sh", "-c", 'ulimit -f 80; unset COVERAGE_PROCESS_CONFIG; exec "$@"', "sh")
    process = run("export", path, "--output", output, within=limit)
    assert "cannot write the keys: File too large" in problem(process, 1)
    assert not output.exists()


def test_an_interrupted_export_leaves_no_part_of_it(
    path: Path, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_: object) -> str:
        assert output.exists()
        raise KeyboardInterrupt

    monkeypatch.setattr(cli_journal, "_why_missing", interrupt)
    assert main(["journal", "export", str(path), "--output", str(output)]) == 130
    assert not output.exists()


# --- to standard output ---


def test_secrets_go_into_a_pipe_only_when_asked_for(path: Path) -> None:
    assert "--show-secret" in problem(run("export", path, "--output", "-"), 2)
    process = run("export", path, "--output", "-", "--show-secret")
    assert (process.returncode, process.stderr) == (0, SUMMARY)
    assert [json.loads(line) for line in process.stdout.splitlines()] == ROWS


def test_secrets_are_shown_on_a_terminal(path: Path) -> None:
    ours, theirs = pty.openpty()
    with open(ours, "rb", buffering=0) as terminal, open(theirs, "wb") as shown:
        process = run("export", path, "--output", "-", out=shown)
        assert secret("settled").encode() in terminal.read(4096)
    assert (process.returncode, process.stderr) == (0, SUMMARY)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux only")
def test_a_pipe_that_cannot_be_written_to_is_told_in_one_line(path: Path) -> None:
    with open("/dev/full", "wb") as full:
        process = run("export", path, "--output", "-", "--show-secret", out=full)
    said = "openrouter-keys journal: cannot write the keys: No space left on device\n"
    assert (process.returncode, process.stderr) == (1, said)


# --- sealed secrets ---


async def fill_sealed(path: Path, *recipients: str) -> None:
    for number, recipient in enumerate(recipients):
        async with Journal.open(path, seal=sealing(recipient)) as journal:
            await keep(journal, f"sealed {number}")


def test_sealed_secrets_without_an_identity_are_refused_before_anything_is_written(
    path: Path, output: Path
) -> None:
    _, recipient = age_keys()
    asyncio.run(fill_sealed(path, recipient))  # after others that are not sealed
    assert "give --identity" in problem(run("export", path, "--output", output), 2)
    assert not output.exists()
    shown = run("export", path, "--output", "-", "--show-secret")
    assert "give --identity" in problem(shown, 2)


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
    process = run("export", path, "--output", output, "--identity", identity, given=given)
    assert (process.returncode, process.stdout) == (0, "")
    found = [json.loads(line) for line in output.read_text().splitlines()]
    assert found == [*ROWS, row("sealed 0"), row("sealed 1")]


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
server_url   https://one
created_at   2026-11-21T12:00:00Z
written_off  0
intent       0          in doubt: under way when its run ended
made         2          made, and handed over by the next run
settled      1          made, and nothing is left to do
failed       3          refused, or made otherwise than asked for
doubt        0          in doubt: nobody can say whether a key was made
"""


def test_the_status_counts_keys_by_state(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["journal", "status", str(path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told == {
        "server_url": "https://one",
        "created_at": told["created_at"],
        "written_off": 0,
        "keys": {"intent": 0, "made": 2, "settled": 1, "failed": 3, "doubt": 0},
    }
    assert main(["journal", "status", str(path)]) == 0
    table = TABLE.replace("2026-11-21T12:00:00Z", told["created_at"])
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


def test_a_key_in_doubt_has_no_secret_to_export(path: Path, output: Path) -> None:
    asyncio.run(doubt(path, crashed=True))
    process = run("export", path, "--output", output)
    assert process.returncode == 0
    assert "exported: 3; without a secret here: 4 (" in process.stderr
    assert "1 in doubt" in process.stderr


# --- either ---


@pytest.mark.parametrize("action", ["status", "export"])
def test_looking_at_a_journal_does_not_change_it(path: Path, output: Path, action: str) -> None:
    before = path.read_bytes()
    run(action, path, *(("--output", output) if action == "export" else ()))
    assert path.read_bytes() == before


@pytest.mark.parametrize("action", ["status", "export"])
def test_a_journal_that_is_not_there_is_told_and_not_made(tmp_path: Path, action: str) -> None:
    given = ("--output", tmp_path / "keys") if action == "export" else ()
    said = problem(run(action, tmp_path / "missing", *given), 1)
    assert "missing is not there: give the path of a journal" in said
    assert list(tmp_path.iterdir()) == []


def test_a_journal_in_use_is_told_with_its_user(path: Path) -> None:
    async def look() -> str:
        async with Journal.open(path):
            return problem(run("status", path), 1)

    assert f"is in use by process {os.getpid()}" in asyncio.run(look())


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "the following arguments are required: ACTION"),
        (["export", "a.journal"], "the following arguments are required: --output"),
        (["export", "a.journal", "--output", "b", "--format", "xml"], "invalid choice: 'xml'"),
    ],
)
def test_a_wrong_command_line_is_a_usage_error(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as raised:
        main(["journal", *arguments])
    assert raised.value.code == 2
    assert told in capsys.readouterr().err
