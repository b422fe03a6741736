"""`provision`: what it makes, where secrets go, how it ends, and what it tells of it."""

import csv
import io
import json
import os
import shlex
import sqlite3
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from hashlib import sha256
from importlib import import_module
from pathlib import Path

import pytest

from openrouter_keys.cli.options.journal import Place
from openrouter_keys.cli.runs.outcome import Outcome
from openrouter_keys.cli.runs.rescue import Keeping
from openrouter_keys.cli.secrets.destination import Destination
from openrouter_keys.emulator import Fault
from tests.commands import Command, Ran
from tests.journals import written
from tests.tables import in_one_test

QUICK = ("--quiet-period", "0.2s")
FAILING = "Failing"
TAKES = """
import os, sys
secret = sys.stdin.read().strip()
with open("taken", "a") as file:
    file.write(f"{os.environ['OPENROUTER_KEY_REF']} {secret}\\n")
assert "OPENROUTER_API_KEY" not in os.environ
with open("taken") as file:
    if os.path.exists("fails") and len(file.readlines()) == 3:
        sys.exit(9)
"""


def customers(folder: Path, count: int, name: str = "customers.csv") -> Path:
    path = folder / name
    rows = "".join(f"c-{n},Customer {n},{n + 1},monthly\n" for n in range(count))
    path.write_text(f"ref,name,limit,limit_reset\n{rows}", encoding="utf-8")
    return path


def provision(command: Command, *words: str, stdin: str = "") -> Ran:
    return command("provision", *words, *QUICK, stdin=stdin)


def live(command: Command) -> dict[str, str]:
    """The secrets of the live keys, by name; each name is there once."""
    keys = command.emulator.account.keys.values()
    found = {key.name: str(key.secret) for key in keys}
    assert len(found) == len(keys)
    return found


def expected(command: Command, count: int) -> dict[str, str]:
    """What must be in hand: the secret of each row's one live key, by ref."""
    keys = live(command)
    assert len(keys) == count
    return {f"c-{n}": keys[f"Customer {n}"] for n in range(count)}


def no_secret(command: Command, *texts: str | bytes) -> None:
    secrets = [*live(command).values(), command.emulator.api_key]
    for text in texts:
        told = text if isinstance(text, str) else text.decode(errors="replace")
        assert not [secret for secret in secrets if secret in told]


# --- a run, and the same once more ---


def test_a_key_is_made_for_each_row_and_none_twice(command: Command) -> None:
    file = customers(command.folder, 5)
    ran = provision(command, "customers.csv")
    assert (ran.code, ran.out) == (0, "")
    assert "openrouter-keys: the journal is customers.csv.journal\n" in ran.err
    assert "openrouter-keys: 5 created, in " in ran.err
    assert "openrouter-keys journal export customers.csv.journal -o keys.csv\n" in ran.err
    made = sorted((key.name, key.limit) for key in command.emulator.account.keys.values())
    assert made == [(f"Customer {n}", n + 1) for n in range(5)]
    journal = file.with_name("customers.csv.journal")
    assert journal.stat().st_mode & 0o777 == 0o600
    no_secret(command, ran.err)
    ran = provision(command, "customers.csv")
    assert ran.code == 0
    assert "5 settled before" in ran.err
    assert command.emulator.count("create") == 5


@pytest.mark.slow
def test_what_the_last_line_says_takes_the_secrets_out(command: Command) -> None:
    customers(command.folder, 3)
    (line,) = [
        line
        for line in provision(command, "customers.csv").err.splitlines()
        if "journal export" in line
    ]
    words = shlex.split(line.partition(" take them out with: ")[2])
    assert words[0] == "openrouter-keys"
    assert command(*words[1:]).code == 0
    rows = csv.DictReader(io.StringIO((command.folder / "keys.csv").read_text()))
    assert {row["ref"]: row["key"] for row in rows} == expected(command, 3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("format", "text"),
    [
        ("csv", "ref;name\nc-0;Customer 0\nc-1;Customer 1\n"),
        ("json", '[{"ref": "c-0", "name": "Customer 0"}, {"ref": "c-1", "name": "Customer 1"}]'),
        ("jsonl", '{"ref": "c-0", "name": "Customer 0"}\n{"ref": "c-1", "name": "Customer 1"}\n'),
        ("yaml", "- {ref: c-0, name: Customer 0}\n- {ref: c-1, name: Customer 1}\n"),
    ],
)  # fmt: skip
def test_keys_are_read_from_standard_input(command: Command, format: str, text: str) -> None:
    words = ("-", "--format", format, "--journal", "one.journal")
    assert provision(command, *words, stdin=text).code == 0
    assert provision(command, *words, stdin=text).code == 0
    expected(command, 2)


@pytest.mark.slow
@in_one_test(
    "words, told",
    [
        (("-", "--format", "csv"), "standard input has no name: give --journal FILE"),
        (("-", "--journal", "a"), "what is standard input? give --format"),
        (("-", "--format", "csv", "--journal", "a", "--api-key-file", "-"), "cannot both come"),
        (("nowhere.csv",), "cannot read nowhere.csv: No such file or directory"),
        (("bad.csv",), "bad.csv, line 3, column limit: must be a number or null"),
        (("customers.csv", "--csv"), "--csv goes with --plan"),
        (("customers.csv", "--show-secret"), "--show-secret goes with --jsonl"),
        (("customers.csv", "--jsonl", "-o", "new"), "give --jsonl, --secret-file or --to-command"),
        (("customers.csv", "-o", "a", "--to-command", "cat"), "not both"),
        (("customers.csv", "--no-store-secrets"), "the secrets would be lost"),
        (("customers.csv", "--no-store-secrets", "--jsonl"), "the secrets would be lost"),
        (("customers.csv", "-o", "customers.csv"), "customers.csv is there already"),
        (("customers.csv", "--concurrency", "0"), "--concurrency: must be"),
        (("customers.csv", "--rate", "-1"), "--rate: must be"),
        (("customers.csv", "--max-failures", "-1"), "--max-failures: must be"),
        (("customers.csv", "--max-total-limit", "-1"), "--max-total-limit: must be"),
        (("customers.csv", "-o", "nowhere/keys.csv"), "there is no folder nowhere"),
        (("customers.csv", "--recipient", "age1nobody"), "--recipient: must be an age recipient"),
        (("customers.csv", "--quiet-period", "long"), "must be a duration"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_sent(
    command: Command, words: Sequence[str], told: str
) -> None:
    customers(command.folder, 2)
    (command.folder / "bad.csv").write_text("name,limit\nAda,5\nBo,fifty\n")
    ran = command("provision", *words)
    assert (ran.code, ran.out) == (2, "")
    assert told in ran.err
    assert ran.err.count("\n") == 1  # nothing is said of a journal
    assert command.emulator.requests == []
    assert not (command.folder / "new").exists()


# --- how it ends ---


def fail(command: Command, *, status: int = 400, times: int | None = 1, skip: int = 0) -> None:
    fault = Fault("create", "status", status=status, times=times, skip=skip)
    command.emulator.faults.append(fault)


@pytest.mark.slow
def test_some_that_failed_exit_with_3_and_are_tried_again(command: Command) -> None:
    customers(command.folder, 30)
    fail(command, times=25, skip=2)
    ran = provision(command, "customers.csv", "--concurrency", "1")
    assert ran.code == 3
    assert ran.err.count("openrouter-keys: failed: c-") == 20
    assert "openrouter-keys: failed: c-2: create answered 400" in ran.err
    assert "openrouter-keys: failed: and 5 more" in ran.err
    assert "5 created, 25 failed, in " in ran.err
    assert "try again with: openrouter-keys" in ran.err
    assert provision(command, "customers.csv").code == 0
    expected(command, 30)


@pytest.mark.slow
def test_what_is_left_in_doubt_exits_with_5(command: Command) -> None:
    customers(command.folder, 1)
    # Another key of that name, made in the same seconds: which is whose cannot be told.
    other = command.emulator.account.create(
        {"name": "Customer 0", "limit": 1, "limit_reset": "monthly"}
    )
    command.emulator.faults.append(Fault("create", "reset", phase="after"))
    ran = provision(command, "customers.csv")
    assert ran.code == 5
    assert "openrouter-keys: in doubt: c-0: which key is its own is unknown" in ran.err
    assert other.hash in ran.err
    assert command("journal", "status", "customers.csv.journal").code == 5


@pytest.mark.parametrize("status", [401, 403])
def test_a_key_that_may_not_do_this_exits_with_4(command: Command, status: int) -> None:
    customers(command.folder, 2)
    command.emulator.faults.append(Fault("*", "status", status=status, times=None))
    ran = provision(command, "customers.csv")
    assert ran.code == 4
    assert f"openrouter-keys: stopped: list answered {status}" in ran.err
    assert "go on with: " in ran.err


def test_a_missing_management_key_exits_with_4(command: Command) -> None:
    customers(command.folder, 2)
    ran = command("provision", "customers.csv", OPENROUTER_API_KEY="")
    assert ran.code == 4
    assert "there is no management key" in ran.err


@pytest.mark.slow
def test_too_many_failures_exit_with_1(command: Command) -> None:
    customers(command.folder, 9)
    fail(command, times=None)
    ran = provision(command, "customers.csv", "--max-failures", "2", "--concurrency", "1")
    assert ran.code == 1
    assert "openrouter-keys: stopped: more than 2 keys were refused" in ran.err
    assert "failed: c-0: " in ran.err


@pytest.mark.slow
def test_a_total_beyond_the_bound_is_refused_before_anything_is_sent(command: Command) -> None:
    customers(command.folder, 3)
    told = "the limits of the file's 3 keys add up to $6.00, beyond --max-total-limit 5.99, where"
    for words in ((), ("--plan",)):
        ran = provision(command, "customers.csv", "--max-total-limit", "5.99", *words)
        assert ran.code == 2
        assert told in ran.err
        assert command.emulator.count("create") == 0
    assert [path.name for path in command.folder.iterdir()] == ["customers.csv"]
    assert provision(command, "customers.csv", "--max-total-limit", "6").code == 0
    assert provision(command, "customers.csv", "--max-total-limit", "5").code == 2
    (command.folder / "free.csv").write_text("name\nAda\n")
    ran = provision(command, "free.csv", "--max-total-limit", "1000000")
    assert ran.code == 2
    assert "1 key has no limit, and --max-total-limit 1000000 needs one of each" in ran.err


@pytest.mark.slow
def test_a_service_that_goes_away_leaves_doubts_and_exits_with_5(command: Command) -> None:
    customers(command.folder, 4)
    command.emulator.faults.append(Fault("create", "reset", phase="after"))
    fail(command, status=402, skip=1)
    ran = provision(command, "customers.csv", "--concurrency", "1")
    assert ran.code == 5
    assert "stopped: create answered 402" in ran.err
    assert "1 in doubt" in ran.err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("status", "first"),
    [
        (401, "set a management key that is valid"),
        (402, "add credits to the account"),
        (403, "set a management key that may do this"),
    ],
)
def test_what_would_stop_the_same_command_again_is_to_be_mended_first(
    command: Command, status: int, first: str
) -> None:
    customers(command.folder, 2)
    fail(command, status=status, times=None)
    ran = provision(command, "customers.csv")
    assert f"openrouter-keys: {first}, then go on with: openrouter-keys" in ran.err


@pytest.mark.slow
@pytest.mark.parametrize("mode", [0o600, 0o644])
def test_a_journal_that_is_none_is_refused_before_anything_is_said_of_it(
    command: Command, mode: int
) -> None:
    customers(command.folder, 3)
    (command.folder / "p3.csv").write_text("name\nAda\n")
    (command.folder / "p3.csv").chmod(mode)
    ran = provision(command, "customers.csv", "--journal", "p3.csv")
    assert ran.code == 1
    assert ran.err.count("\n") == 1
    assert "p3.csv is no journal: give another path" in ran.err
    assert command.emulator.requests == []


@pytest.mark.slow
def test_an_empty_private_file_becomes_a_journal(command: Command) -> None:
    customers(command.folder, 3)
    (command.folder / "new.journal").touch(0o600)
    assert command("provision", "customers.csv", "--journal", "new.journal", "--plan").code == 0
    assert provision(command, "customers.csv", "--journal", "new.journal").code == 0
    expected(command, 3)


def test_a_row_that_changed_exits_with_1_and_names_what(command: Command) -> None:
    file = customers(command.folder, 3)
    provision(command, "customers.csv")
    file.write_text(file.read_text().replace("Customer 1,2,", "Customer 1,20,"))
    ran = provision(command, "customers.csv")
    assert ran.code == 1
    assert "'c-1' changed since the journal began (limit)" in ran.err
    assert "correct the file, then go on with: " in ran.err


def test_the_report_is_json_without_a_secret(command: Command) -> None:
    customers(command.folder, 4)
    fail(command)
    ran = provision(command, "customers.csv", "--json", "--concurrency", "1")
    told = json.loads(ran.out)
    assert ran.code == 3
    assert (told["ok"], told["stopped"], told["created"], told["failed"]) == (False, None, 3, 1)
    assert told["failures"][0]["ref"] == "c-0"
    assert told["journal"] == "customers.csv.journal"
    no_secret(command, ran.out)
    fail(command, status=402)
    told = json.loads(provision(command, "customers.csv", "--json").out)
    assert told["stopped"].startswith("create answered 402")
    assert told["settled_before"] == 3


@pytest.mark.slow
def test_quiet_tells_nothing_but_problems(command: Command) -> None:
    customers(command.folder, 2)
    fail(command)
    ran = provision(command, "customers.csv", "--quiet")
    failed, ended, again = ran.err.splitlines()
    assert ran.code == 3
    assert failed.startswith("openrouter-keys: failed: c-")
    assert ended.startswith("openrouter-keys: 1 created, 1 failed, in ")
    assert again.startswith("openrouter-keys: try again with: ")
    assert provision(command, "customers.csv", "-q").err == ""


def test_names_are_never_interpreted(command: Command) -> None:
    rows = [{"ref": f"\x1b[31m[bold]{n}", "name": "[red]\x07日本"} for n in range(2)]
    (command.folder / "odd.json").write_text(json.dumps(rows))
    fail(command)
    ran = provision(command, "odd.json", "--concurrency", "1")
    assert ran.code == 3
    assert r"failed: \x1b[31m[bold]0: " in ran.err
    assert "\x1b" not in ran.err


# --- where secrets go ---


@pytest.mark.slow
@pytest.mark.parametrize("format", ["csv", "jsonl", "env", "raw"])
def test_secrets_go_to_a_new_private_file(command: Command, format: str) -> None:
    customers(command.folder, 3)
    ran = provision(command, "customers.csv", "--secret-file", f"keys.{format}", *(
        ("--secret-format", "raw") if format == "raw" else ()
    ))  # fmt: skip
    assert (ran.code, ran.out) == (0, "")
    assert f"the secrets are in keys.{format}\n" in ran.err
    path = command.folder / f"keys.{format}"
    assert path.stat().st_mode & 0o777 == 0o600
    text, wanted = path.read_text(), expected(command, 3)
    assert all(secret in text for secret in wanted.values())
    if format == "csv":
        assert {row["ref"]: row["key"] for row in csv.DictReader(io.StringIO(text))} == wanted
    if format == "jsonl":
        assert {row["ref"]: row["key"] for row in map(json.loads, text.splitlines())} == wanted
    no_secret(command, ran.err, (command.folder / "customers.csv").read_bytes())


@pytest.mark.slow
def test_a_file_that_is_there_is_never_written_over_and_another_is_proposed(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    customers(command.folder, 3)
    words = ["provision", "customers.csv", "--concurrency", "1", "--secret-file=keys.csv"]
    monkeypatch.setattr(sys, "argv", ["openrouter-keys", *words])
    fail(command, status=402, skip=1)
    ran = command(*words)
    assert ran.code == 1
    before = (command.folder / "keys.csv").read_bytes()
    (line,) = [line for line in ran.err.splitlines() if "go on with: " in line]
    assert line.endswith(" --secret-file=keys-2.csv")
    refused = command(*words)
    assert refused.code == 2
    assert "keys.csv is there already: give a new file, such as keys-2.csv" in refused.err
    assert command(*shlex.split(line.partition("with: ")[2])[1:]).code == 0
    assert (command.folder / "keys.csv").read_bytes() == before
    texts = [(command.folder / name).read_text() for name in ("keys.csv", "keys-2.csv")]
    rows = [row for text in texts for row in csv.DictReader(io.StringIO(text))]
    assert {row["ref"]: row["key"] for row in rows} == expected(command, 3)
    assert len(rows) == 3


def taken(command: Command) -> list[tuple[str, str]]:
    lines = (command.folder / "taken").read_text().splitlines()
    return [(ref, secret) for ref, secret in map(str.split, lines)]


@pytest.mark.slow
def test_a_command_that_fails_stops_the_run_and_gets_that_key_again(command: Command) -> None:
    customers(command.folder, 12)
    (command.folder / "fails").touch()
    words = ("customers.csv", "--to-command", shlex.join([sys.executable, "-c", TAKES]))
    ran = provision(command, *words)
    assert ran.code == 1
    assert f"stopped: {sys.executable} exited with 9 and did not take the key 'c-" in ran.err
    first = taken(command)
    assert len(first) == 3  # none is run after the one that failed
    (command.folder / "fails").unlink()
    ran = provision(command, *words)
    assert ran.code == 0
    assert "handed over from an earlier run" in ran.err
    assert dict(taken(command)) == expected(command, 12)
    assert len(taken(command)) == 13
    assert taken(command).count(first[2]) == 2
    no_secret(command, ran.err)


def test_a_program_that_is_not_there_is_found_out_before_a_key_is_made(command: Command) -> None:
    customers(command.folder, 2)
    ran = provision(command, "customers.csv", "--to-command", "no-such-program --at-all")
    assert ran.code == 2
    assert "--to-command: there is no program 'no-such-program'" in ran.err
    assert command.emulator.requests == []


@pytest.mark.slow
@pytest.mark.parametrize("quiet", [(), ("--quiet",)])
def test_keys_of_an_earlier_run_that_are_not_in_the_file_are_told(
    command: Command, quiet: Sequence[str]
) -> None:
    customers(command.folder, 3)
    provision(command, "customers.csv")
    ran = provision(command, "customers.csv", "-o", "keys.csv", *quiet)
    assert ran.code == 0
    (line,) = [line for line in ran.err.splitlines() if "not in keys.csv" in line]
    assert "3 keys were made by an earlier run, and their secrets are not in keys.csv" in line
    assert command(*shlex.split(line.partition("take all out with: ")[2])[1:]).code == 0
    rows = csv.DictReader(io.StringIO((command.folder / "keys.csv").read_text()))
    assert {row["ref"]: row["key"] for row in rows} == expected(command, 3)


@pytest.mark.slow
def test_keys_of_an_earlier_run_that_a_program_does_not_get_are_told(command: Command) -> None:
    customers(command.folder, 3)
    provision(command, "customers.csv")
    customers(command.folder, 4)
    ran = provision(command, "customers.csv", "--to-command", "true")
    assert "3 keys were made by an earlier run, and their secrets are not handed over again" in (
        ran.err
    )


@pytest.mark.slow
def test_lines_on_standard_output_have_secrets_only_if_asked_for(command: Command) -> None:
    customers(command.folder, 3)
    ran = provision(command, "customers.csv", "--jsonl")
    assert [sorted(json.loads(line)) for line in ran.out.splitlines()] == [
        ["hash", "name", "ref", "state"]
    ] * 3
    no_secret(command, ran.out, ran.err)
    file = customers(command.folder, 5)
    ran = provision(command, file.name, "--jsonl", "--show-secret", "--journal", "two.journal")
    shown = {row["ref"]: row["key"] for row in map(json.loads, ran.out.splitlines())}
    hashes = {sha256(secret.encode()).hexdigest() for secret in shown.values()}
    assert len(hashes & command.emulator.account.keys.keys()) == 5
    assert "journal export" not in ran.err


def test_what_is_not_stored_goes_to_the_file_alone(command: Command) -> None:
    customers(command.folder, 4)
    ran = provision(command, "customers.csv", "--no-store-secrets", "-o", "keys.jsonl")
    assert ran.code == 0
    text = (command.folder / "keys.jsonl").read_text()
    assert {row["ref"]: row["key"] for row in map(json.loads, text.splitlines())} == expected(
        command, 4
    )
    no_secret(command, written(command.folder / "customers.csv.journal"))


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="Linux only")
@pytest.mark.parametrize(("words", "each"), [(("--no-store-secrets",), True), ((), False)])
def test_what_no_journal_has_is_on_the_disk_before_it_counts_as_taken(
    command: Command, monkeypatch: pytest.MonkeyPatch, words: Sequence[str], each: bool
) -> None:
    customers(command.folder, 8)
    synced: list[int] = []
    fsync = os.fsync

    def watch(descriptor: int) -> None:
        if os.readlink(f"/proc/self/fd/{descriptor}").endswith("keys.csv"):
            synced.append((command.folder / "keys.csv").stat().st_size)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", watch)
    assert provision(command, "customers.csv", "-o", "keys.csv", *words).code == 0
    assert len({*synced}) == (8 if each else 1)


@pytest.mark.slow
def test_secrets_are_sealed_in_the_journal_for_a_recipient(command: Command) -> None:
    identity = import_module("pyrage").x25519.Identity.generate()
    customers(command.folder, 4)
    assert provision(command, "customers.csv", "--recipient", str(identity.to_public())).code == 0
    no_secret(command, written(command.folder / "customers.csv.journal"))
    export = ("journal", "export", "customers.csv.journal", "-o", "keys.jsonl", "--identity", "-")
    assert command(*export, stdin=str(identity)).code == 0
    lines = (command.folder / "keys.jsonl").read_text().splitlines()
    assert {row["ref"]: row["key"] for row in map(json.loads, lines)} == expected(command, 4)


@pytest.mark.slow
def test_nothing_but_the_journal_holds_a_secret(command: Command) -> None:
    customers(command.folder, 6)
    fail(command)
    command.emulator.faults.append(Fault("create", "cut", phase="after", skip=1))
    told = [provision(command, "customers.csv", *words) for words in ((), ("--json",), ("-q",))]
    told += [command("provision", "customers.csv", "--plan", *words) for words in ((), ("--json",))]
    assert len(live(command)) == 6
    others = [
        path.read_bytes()
        for path in command.folder.iterdir()
        if not path.name.startswith("customers.csv.journal")
    ]
    no_secret(command, *(ran.out + ran.err for ran in told), *others)
    assert all(
        secret.encode() in written(command.folder / "customers.csv.journal")
        for secret in live(command).values()
    )


@pytest.mark.parametrize(
    "proxy",
    [
        ("--proxy", "http://ann:Tr0ub4dor-pass@127.0.0.1:9"),
        ("--proxy=http://ann:Tr0ub4dor-pass@127.0.0.1:9",),
        ("--proxy", "ann:Tr0ub4dor-pass@127.0.0.1:9"),
        ("--proxy", "http://ann:Tr0ub4dor%2Dpass@127.0.0.1:9"),
        ("--proxy", "https://Tr0ub4dor-pass@127.0.0.1:9"),
    ],
)
def test_the_command_to_go_on_with_shows_no_proxys_password(
    proxy: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("provision", "customers.csv", *proxy, "--timeout", "1", "-q")
    monkeypatch.setattr(sys, "argv", ["openrouter-keys", *words])
    outcome = Outcome(Keeping(journal=Place("j"), to=Destination()), 1)
    told = outcome.again()
    assert "Tr0ub4dor" not in told
    assert "ann" not in told
    assert "...@127.0.0.1:9 --timeout 1" in told


def _begun_with_a_log(file: Path) -> None:
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")


def _with_an_empty_log(file: Path) -> None:
    _begun_with_a_log(file)
    file.with_name(f"{file.name}-wal").touch(0o600)


UNBEGUN: dict[str, Callable[[Path], object]] = {
    "empty": Path.touch,
    "a header alone": _begun_with_a_log,
    "and an empty log": _with_an_empty_log,
}


@pytest.mark.parametrize("leave", UNBEGUN.values(), ids=UNBEGUN)
def test_a_run_begins_anew_where_a_full_disk_left_a_journal_without_a_table(
    command: Command, leave: Callable[[Path], object]
) -> None:
    customers(command.folder, 2)
    journal = command.folder / "customers.csv.journal"
    leave(journal)
    journal.chmod(0o600)
    assert provision(command, "customers.csv").code == 0
    assert len(live(command)) == 2
    assert provision(command, "customers.csv").code == 0
    assert command.emulator.count("create") == 2


def test_another_programs_database_is_still_refused(command: Command) -> None:
    customers(command.folder, 2)
    journal = command.folder / "customers.csv.journal"
    with closing(sqlite3.connect(journal)) as connection:
        connection.execute("CREATE TABLE theirs (id)")
    journal.chmod(0o600)
    ran = provision(command, "customers.csv")
    assert ran.code != 0
    assert "give another path" in ran.err
    assert live(command) == {}
