"""The commands for single keys, as programs use them: no terminal."""

import csv
import io
import json
import os
import re
import stat
import subprocess
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
from attrs import evolve

from openrouter_keys.emulator import Emulator, Fault, StoredKey
from openrouter_keys.emulator.faults import OperationName
from openrouter_keys.errors import JSON
from tests.commands import Command, Ran
from tests.processes import PATIENCE
from tests.removals import ALIEN_404, NOT_DELETED, not_deleted
from tests.tables import in_one_test


def asked(emulator: Emulator, path: str) -> Any:
    """What the API itself answers, with its times as we write them."""
    headers = {"Authorization": f"Bearer {emulator.api_key}"}
    with urlopen(Request(emulator.base_url + path, headers=headers)) as answer:
        return json.loads(re.sub(r"\+00:00\b", "Z", answer.read().decode()))


def made(emulator: Emulator, *names: str, **fields: object) -> list[StoredKey]:
    return [emulator.account.create({"name": name, **fields}) for name in names]


def secret_of(emulator: Emulator, name: str) -> str:
    """Create a key and return its secret."""
    body = json.dumps({"name": name}).encode()
    headers = {
        "Authorization": f"Bearer {emulator.api_key}",
        "Content-Type": "application/json",
    }
    request = Request(f"{emulator.base_url}/keys", body, headers)
    with urlopen(request) as answer:
        return str(json.load(answer)["key"])


def only(emulator: Emulator) -> StoredKey:
    (key,) = emulator.account.keys.values()
    return key


def lines_of(ran: Ran) -> Sequence[Any]:
    return [json.loads(line) for line in ran.out.splitlines()]


# list


def test_list_json_is_the_apis_own_answer(command: Command) -> None:
    made(command.emulator, "a", "b", limit=3.5, limit_reset="daily")
    ran = command("list", "--json")
    assert (ran.code, ran.err) == (0, "")
    assert json.loads(ran.out) == asked(command.emulator, "/keys")


def test_list_jsonl_is_a_line_for_each_key(command: Command) -> None:
    made(command.emulator, "a", "b")
    assert lines_of(command("list", "--jsonl")) == asked(command.emulator, "/keys")["data"]


def test_list_csv_has_a_header_and_the_columns_asked_for(command: Command) -> None:
    made(command.emulator, 'with, comma and "quotes"', limit=None)
    made(command.emulator, "second", limit=2)
    rows = [*csv.DictReader(io.StringIO(command("list", "--csv", "--columns=name,limit").out))]
    assert rows == [
        {"name": "second", "limit": "2.0"},
        {"name": 'with, comma and "quotes"', "limit": ""},
    ]


def test_a_pipe_gets_tabs_and_a_header_and_no_colour(command: Command) -> None:
    made(command.emulator, "tab\there")
    assert (
        command("list", "--columns", "name,disabled").out == "name\tdisabled\ntab\\there\tfalse\n"
    )


@pytest.mark.slow
def test_list_leaves_disabled_and_expired_keys_out_until_they_are_asked_for(
    command: Command,
) -> None:
    made(command.emulator, "plain")
    made(command.emulator, "disabled")[0].disabled = True
    past = datetime.now(UTC) - timedelta(days=1)
    made(command.emulator, "expired")[0].expires_at = past

    def names(*words: str) -> set[str]:
        return {row["name"] for row in lines_of(command("list", "--jsonl", *words))}

    assert names() == {"plain"}
    assert names("--include-disabled") == {"plain", "disabled"}
    assert names("--include-expired") == {"plain", "expired"}
    assert names("--all") == names("-a") == {"plain", "disabled", "expired"}


def test_list_filters_by_name_and_sorts(command: Command) -> None:
    spent = {"cust-b": 2.0, "cust-a": 7.0, "cust-C": 1.0, "other": 9.0}
    for name, usage in spent.items():
        made(command.emulator, name)[0].usage = usage
    made(command.emulator, "cust-d", limit=4)

    def names(*words: str) -> list[str]:
        return [
            row["name"] for row in lines_of(command("list", "--jsonl", "--name=cust-*", *words))
        ]

    assert names("--sort", "name") == ["cust-a", "cust-b", "cust-C", "cust-d"]
    assert names("--sort=-usage")[:3] == ["cust-a", "cust-b", "cust-C"]
    assert names("--sort", "-limit")[0] == "cust-d"
    assert names("--sort", "limit")[0] == "cust-d"  # what has none comes last either way


def test_a_field_that_is_not_there_is_told_by_its_option(command: Command) -> None:
    assert "--sort: there is no 'colour'" in command("list", "--sort", "colour").err
    assert "--columns: there is no 'nam'" in command("list", "--columns", "nam").err


@pytest.mark.slow
def test_an_error_names_the_options_and_the_help_of_its_command(command: Command) -> None:
    assert "--limit: must be" in command("create", "x", "--limit", "-1", "--show-secret").err
    assert "--base-url: " in command("list", "--base-url", "nowhere").err
    told = command("create", "two", "words").err
    assert told == (
        "openrouter-keys: too many arguments: 'words'; quote what holds spaces; "
        "see openrouter-keys create --help\n"
    )


@pytest.mark.slow
def test_list_reads_every_page(command: Command) -> None:
    made(command.emulator, *(f"key-{n}" for n in range(250)))
    assert len(lines_of(command("list", "--jsonl"))) == 250


@pytest.mark.slow
def test_an_empty_list_is_a_header_or_an_empty_array(command: Command) -> None:
    assert command("list", "--csv", "--columns=name").out == "name\n"
    assert json.loads(command("list", "--json").out) == {"data": []}
    assert command("list", "--jsonl").out == ""


@pytest.mark.slow
@in_one_test(
    "words",
    [
        ("list", "--columns", "nam"),
        ("list", "--sort", "colour"),
        ("list", "--json", "--csv"),
        ("list", "--timeout", "0"),
        ("list", "--base-url", "ftp://nowhere"),
        ("get",),
        ("get", ""),
        ("get", "sk-or-v1-" + "0" * 64),
        ("create", ""),
        ("create", "x", "--limit", "-1"),
        ("create", "x", "--limit", "much"),
        ("create", "x", "--limit", "nan"),
        ("create", "x", "--limit-reset", "hourly"),
        ("create", "x", "--expires-at", "tomorrow"),
        ("create", "x", "--expires-at", "2027-01-01T00:00:00"),
        ("create", "x", "--secret-file", "f", "--to-command", "cat"),
        ("create", "x", "--to-command", "'"),
        ("create", "x", "--external-api-key-file", "f"),
        ("create", "x", "--workspace-id", ""),
        ("create", "sk-or-v1-" + "5" * 64),
        ("create", "x", "--expires-at", "2020-01-01T00:00:00Z"),
        ("create", "x", "--to-command", "no-such-program-anywhere"),
        ("delete", "sk-or-v1-" + "0" * 64, "--yes"),
        ("delete", "  ", "--yes"),
        ("list", "--timeout", "-1"),
        ("update", "a" * 64),
        ("update", "a" * 64, "--limit", "x"),
        ("delete",),
        ("delete", "a" * 64, "--frobnicate"),
        ("frobnicate",),
        ("list", "extra"),
    ],
    ids=" ".join,
)
def test_bad_input_is_refused_in_one_line_before_anything_is_sent(
    command: Command, words: tuple[str, ...]
) -> None:
    ran = command(*words, *(["--show-secret"] if words[0] == "create" and len(words) == 4 else []))
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("openrouter-keys: ")
    assert ran.err.count("\n") == 1
    assert command.emulator.requests == []


# get, current, find, hash


def test_get_takes_a_hash_or_its_beginning(command: Command) -> None:
    (key, *_) = made(command.emulator, "a", "b")
    whole = asked(command.emulator, f"/keys/{key.hash}")
    assert json.loads(command("get", key.hash, "--json").out) == whole
    assert json.loads(command("get", key.hash[:12], "--json").out) == whole
    assert lines_of(command("get", key.hash[:12], "--jsonl")) == [whole["data"]]


def test_a_beginning_of_several_hashes_is_refused(command: Command) -> None:
    first, second = made(command.emulator, "a", "b")
    for number, key in enumerate((first, second)):
        command.emulator.account.keys.pop(key.hash)
        key.hash = f"abcdef{number}" + key.hash[7:]
        command.emulator.account.keys[key.hash] = key
    ran = command("get", "abcdef")
    assert (ran.code, ran.out) == (1, "")
    assert "2 keys' hashes begin with abcdef" in ran.err
    assert json.loads(command("get", "abcdef1", "--json").out)["data"]["name"] == "b"


def test_a_beginning_that_no_hash_has_is_told(command: Command) -> None:
    assert "no key's hash begins with 0123456789" in command("get", "0123456789").err


def test_current_is_the_key_in_use(command: Command) -> None:
    assert json.loads(command("current", "--json").out) == asked(command.emulator, "/key")


@pytest.mark.parametrize("from_file", [False, True])
def test_find_says_which_key_a_secret_is_and_never_shows_or_sends_it(
    command: Command, from_file: bool
) -> None:
    secret = secret_of(command.emulator, "leaked")
    (command.folder / "found").write_text(f"{secret}\n")
    before = len(command.emulator.requests)
    ran = command("find", "--json", *(["--file", "found"] if from_file else []), stdin=secret)
    assert ran.code == 0
    assert json.loads(ran.out)["data"]["name"] == "leaked"
    assert secret not in ran.out + ran.err
    assert all(secret.encode() not in each.body for each in command.emulator.requests[before:])
    assert all(secret not in str(each) for each in command.emulator.requests[before:])


def test_a_secret_of_no_key_here_is_told_by_its_hash(command: Command) -> None:
    secret = "sk-or-v1-" + "5" * 64
    ran = command("find", stdin=secret)
    assert (ran.code, ran.out) == (1, "")
    assert sha256(secret.encode()).hexdigest() in ran.err
    assert secret not in ran.err


def hash_of(secret: str) -> str:
    return sha256(secret.encode()).hexdigest()


LEAK = """\
2026-11-29 10:00 first {0} and {1}
AUTH="{0}"; {2}
"""


@in_one_test("format", ["--json", "--jsonl", "--csv", None])
def test_find_says_of_each_key_in_a_text_which_it_is(command: Command, format: str | None) -> None:
    secrets = [secret_of(command.emulator, name) for name in ("Ada", "Bo")]
    other = "sk-or-v1-" + "5" * 64
    words = ("find",) if format is None else ("find", format)
    ran = command(*words, stdin=LEAK.format(*secrets, secrets[0]))
    assert (ran.code, ran.err) == (0, "")
    assert [ran.out.count(hash_of(secret)) for secret in secrets] == [1, 1]
    assert ran.out.index("Ada") < ran.out.index("Bo")
    ran = command(*words, stdin=LEAK.format(*secrets, other))
    assert ran.code == 3
    assert hash_of(other) in ran.err
    assert [ran.out.count(hash_of(secret)) for secret in secrets] == [1, 1]
    assert not [secret for secret in (*secrets, other) if secret in ran.out + ran.err]
    command.emulator.account.keys.clear()
    ran = command(*words, stdin=LEAK.format(*secrets, other))
    assert (ran.code, ran.err.count("no key of this account has the hash")) == (1, 3)


def test_hash_prints_the_hash_of_each_key_in_a_text(command: Command) -> None:
    secrets = ["sk-or-v1-" + digit * 64 for digit in "567"]
    ran = command("hash", stdin=LEAK.format(*secrets))
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.split() == [*map(hash_of, secrets)]


@in_one_test(
    "pattern, hint",
    [
        ("acme", ", whole: --name 'acme*' finds 2 keys"),
        ("prod", ", whole: --name '*prod' finds 1 key"),
        ("me-", ", whole: --name '*me-*' finds 2 keys"),
        ("globex", ": capitals count, and there is 'GLOBEX'"),
        ("Acme*", ": capitals count, and there is 'acme-prod', 'acme-dev'"),
        ("PROD", ": capitals count, and there is 'acme-prod'"),
        ("initech", ""),
        ("[", ""),
    ],
)
@in_one_test("words", [("list",), ("list", "--json"), ("list", "--sort", "name"), ("usage",)])
def test_a_name_that_matches_nothing_gets_a_hint(
    command: Command, words: tuple[str, ...], pattern: str, hint: str
) -> None:
    command.emulator.account.keys.clear()
    for name in ("GLOBEX", "acme-dev", "acme-prod"):
        command.emulator.account.create({"name": name})
    ran = command(*words, "--name", pattern)
    assert ran.code == 0
    assert ran.err == f"openrouter-keys: no key's name matches {pattern!r}{hint}\n"
    assert command(*words, "--name", "*acme-*").err == ""


def test_a_secret_on_the_command_line_is_refused_and_not_repeated(command: Command) -> None:
    secret = "sk-or-v1-" + "5" * 64
    for words in (("find", secret), ("get", secret), ("delete", secret, "--yes")):
        ran = command(*words)
        assert ran.code == 2
        assert secret not in ran.out + ran.err
        assert words[0] == "find" or "replace the leaked key" in ran.err


SECRET = "sk-or-v1-" + "5e" * 32
HASH = sha256(SECRET.encode()).hexdigest()


@in_one_test(
    "text",
    [
        SECRET,
        f"{SECRET}\r\n",
        f"OPENROUTER_API_KEY={SECRET}\n",
        f'{{"key": "{SECRET}"}}',
        f"leak at settings.py:3 key={SECRET} and once more {SECRET}",
        f"\ufeff{SECRET},",
    ],
)
def test_a_secret_is_found_wherever_it_stands_with_no_key_and_no_service(
    command: Command, text: str
) -> None:
    assert command("hash", stdin=text, OPENROUTER_API_KEY="") == Ran(0, f"{HASH}\n", "")
    assert command.emulator.requests == []


@in_one_test("text", ["", "\n", "hello", SECRET[:20], "sk-or-"])
def test_what_is_no_secret_is_not_taken_for_one(command: Command, text: str) -> None:
    for name in ("hash", "find"):
        ran = command(name, stdin=text)
        assert (ran.code, ran.out) == (2, "")
        assert SECRET not in ran.err
    assert command.emulator.requests == []


# create


def test_a_created_key_is_as_asked_for(command: Command) -> None:
    ran = command(
        "create", "customer-42", "--limit", "12.5", "--limit-reset", "Monthly",
        "--expires-at", "2099-01-02T03:04:05Z", "--include-byok-in-limit",
        "--external-user", "them", "--json", "--show-secret",
    )  # fmt: skip
    answer = json.loads(ran.out)
    assert ran.code == 0
    assert sha256(answer["key"].encode()).hexdigest() == answer["data"]["hash"]
    assert answer["data"] == asked(command.emulator, f"/keys/{answer['data']['hash']}")["data"]
    key = only(command.emulator)
    assert (key.name, key.limit, key.limit_reset) == ("customer-42", 12.5, "monthly")
    assert key.expires_at == datetime(2099, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert (key.include_byok_in_limit, key.external_user) == (True, "them")


def sent(command: Command) -> Any:
    return json.loads(command.emulator.requests[-1].body)


@pytest.mark.slow
def test_none_is_null_and_what_is_not_given_is_left_out(command: Command) -> None:
    command("create", "a", "--show-secret")
    assert sent(command) == {"name": "a"}
    command("create", "a", "--show-secret", "--limit=none", "--limit-reset=none")
    assert sent(command) == {"name": "a", "limit": None, "limit_reset": None}
    command("create", "a", "--show-secret", "--expires-at", "none", "--no-include-byok-in-limit")
    assert sent(command) == {"name": "a", "expires_at": None, "include_byok_in_limit": False}


@pytest.mark.slow
def test_an_expiry_may_be_a_duration(command: Command) -> None:
    command("create", "a", "--expires-at", "1d12h", "--show-secret")
    expires_at = only(command.emulator).expires_at
    assert expires_at is not None
    away = expires_at - datetime.now(UTC)
    assert timedelta(hours=35) < away <= timedelta(hours=36)


def test_no_secret_goes_into_a_pipe_unasked_and_no_key_is_made(command: Command) -> None:
    ran = command("create", "a")
    assert (ran.code, ran.out) == (2, "")
    assert "--show-secret" in ran.err
    assert command.emulator.account.keys == {}


def test_show_secret_prints_the_secret_alone_for_a_shell(command: Command) -> None:
    ran = command("create", "a", "--show-secret")
    assert sha256(ran.out.strip().encode()).hexdigest() == only(command.emulator).hash
    assert only(command.emulator).hash in ran.err
    assert ran.out.strip() not in ran.err


@pytest.mark.parametrize(
    ("file", "words", "text"),
    [
        ("secret", (), "{key}\n"),
        (".env", (), "OPENROUTER_API_KEY={key}\n"),
        ("prod.env", (), "OPENROUTER_API_KEY={key}\n"),
        ("secret", ("--secret-format", "csv"), "ref,name,hash,key,state\r\n,a,{hash},{key},\r\n"),
    ],
)
def test_a_secret_file_is_new_and_private(
    command: Command, file: str, words: tuple[str, ...], text: str
) -> None:
    ran = command("create", "a", "--secret-file", file, "--json", *words)
    path, hash = command.folder / file, only(command.emulator).hash
    written = path.read_bytes().decode()
    key = next(word for word in written.replace("=", ",").split(",") if "sk-or-" in word).strip()
    assert written == text.format(key=key, hash=hash)
    assert sha256(key.encode()).hexdigest() == hash
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert key not in ran.out + ran.err
    assert json.loads(ran.out)["data"]["hash"] == hash


def test_a_file_that_is_there_is_never_written_and_no_key_is_made(command: Command) -> None:
    (command.folder / "there").write_text("precious")
    ran = command("create", "a", "--secret-file", "there")
    assert ran.code == 2
    assert (command.folder / "there").read_text() == "precious"
    assert command.emulator.requests == []


def test_a_file_is_not_left_behind_by_a_create_that_failed(command: Command) -> None:
    command.emulator.faults.append(Fault("create", status=400))
    assert command("create", "a", "--secret-file", "secret").code == 1
    assert not (command.folder / "secret").exists()


def test_a_program_gets_the_secret_on_its_standard_input_and_no_management_key(
    command: Command,
) -> None:
    script = 'cat > got; env > environment; printf "%s" "$*" > arguments'
    ran = command("create", "a", "--to-command", f"sh -c '{script}' sh one 'two words'")
    assert ran.code == 0
    key = (command.folder / "got").read_text().strip()
    assert sha256(key.encode()).hexdigest() == only(command.emulator).hash
    environment = (command.folder / "environment").read_text()
    assert f"OPENROUTER_KEY_HASH={only(command.emulator).hash}\n" in environment
    assert "OPENROUTER_KEY_NAME=a\n" in environment
    assert command.emulator.api_key not in environment
    assert key not in environment + ran.out + ran.err
    assert (command.folder / "arguments").read_text() == "one two words"


def test_a_key_whose_secret_nobody_took_is_deleted_again(command: Command) -> None:
    ran = command("create", "a", "--to-command", "false")
    assert ran.code == 1
    assert "was deleted again" in ran.err
    assert command.emulator.account.keys == {}


@pytest.mark.slow
def test_a_key_whose_secret_nobody_took_is_told_if_it_cannot_be_deleted(command: Command) -> None:
    command.emulator.faults.append(Fault("delete", status=403))
    ran = command("create", "a", "--to-command", "false")
    assert ran.code == 5
    assert f"delete the key {only(command.emulator).hash}, whose secret is lost" in ran.err


def test_a_create_without_an_answer_ends_in_doubt_and_is_not_repeated(command: Command) -> None:
    command.emulator.faults.append(Fault("create", status=502, phase="after"))
    ran = command("create", "a", "--show-secret")
    assert (ran.code, ran.out) == (5, "")
    assert command.emulator.count("create") == 1


def test_a_dry_run_shows_the_body_and_sends_nothing(command: Command, tmp_path: Path) -> None:
    (tmp_path / "partner").write_text("a-partners-own-key-of-32-characters")
    ran = command(
        "create", "a", "--limit", "none", "--external-user", "u",
        "--external-api-key-file", "partner", "--dry-run",
    )  # fmt: skip
    assert ran.code == 0
    assert json.loads(ran.out) == {
        "name": "a",
        "limit": None,
        "external": {"user": "u", "api_key": "..."},
    }
    assert "partners-own" not in ran.out + ran.err
    assert command.emulator.requests == []


def test_a_create_whose_secret_is_lost_ends_in_doubt(command: Command) -> None:
    command.emulator.faults.append(Fault("create", "empty", phase="after"))
    ran = command("create", "a", "--show-secret")
    assert (ran.code, ran.out) == (5, "")


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_name_that_an_output_cannot_show_breaks_nothing(command: Command, encoding: str) -> None:
    words = ("create", "日本", "--show-secret", "--json")
    with command.process(*words, PYTHONIOENCODING=encoding, PYTHONUTF8="0") as process:
        assert process.stdout is not None
        answer = json.loads(process.stdout.read())
        assert process.wait(PATIENCE) == 0
    assert answer["data"]["name"] == "日本"
    words = ("list", "--csv", "--columns", "name")
    with command.process(*words, PYTHONIOENCODING=encoding, PYTHONUTF8="0") as process:
        assert process.stdout is not None
        assert process.stdout.read() == "name\n\\u65e5\\u672c\n"


@pytest.mark.slow
@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-"])
def test_a_stream_that_is_closed_is_no_traceback(command: Command, closed: str) -> None:
    line = f"{sys.executable} -m openrouter_keys create a --show-secret {closed}"
    done = subprocess.run(
        ["sh", "-c", line], env=command.environment(), capture_output=True, encoding="utf-8",
        timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    keys = command.emulator.account.keys
    assert (done.returncode, len(keys)) == ((1, 0) if closed == ">&-" else (0, 1))


@pytest.mark.parametrize(
    ("mode", "told"), [(0o600, 0), (0o400, 0), (0o640, 0), (0o644, 1), (0o604, 1), (0o444, 1)]
)
def test_a_key_file_that_everybody_can_read_is_told(
    mode: int, told: int, command: Command, tmp_path: Path
) -> None:
    file = tmp_path / "key"
    file.write_text(command.emulator.api_key)
    file.chmod(mode)

    ran = command("list", "--api-key-file", "key", OPENROUTER_API_KEY="")

    assert ran.code == 0
    assert ran.err.count("openrouter-keys: every user of this machine can read") == told


@pytest.mark.slow
def test_a_key_that_goes_out_unencrypted_is_told(command: Command) -> None:
    ran = command("list", "--base-url", "http://keys.invalid/api/v1", "--timeout", "0.2")
    assert "goes to keys.invalid unencrypted" in ran.err
    assert "unencrypted" not in command("list").err


# update


def test_update_changes_what_is_given_and_nothing_else(command: Command) -> None:
    (key,) = made(command.emulator, "a", limit=5)
    ran = command("update", key.hash[:10], "--limit", "none", "--json")
    assert sent(command) == {"limit": None}
    assert json.loads(ran.out) == asked(command.emulator, f"/keys/{key.hash}")
    command("update", key.hash, "--disabled", "--name", "b", "--limit-reset", "weekly")
    assert sent(command) == {"disabled": True, "name": "b", "limit_reset": "weekly"}
    command("update", key.hash, "--enabled")
    assert sent(command) == {"disabled": False}


@pytest.mark.slow
def test_an_update_can_be_shown_first(command: Command) -> None:
    (key,) = made(command.emulator, "a", limit=5)
    ran = command("update", key.hash, "--limit", "none", "--dry-run")
    assert json.loads(ran.out) == {"limit": None}
    assert key.hash in ran.err
    assert command.emulator.count("update") == 0


# delete


def test_delete_takes_many_and_needs_a_yes_where_nobody_can_be_asked(command: Command) -> None:
    keys = made(command.emulator, "a", "b", "c")
    hashes = [key.hash[:12] for key in keys]
    refused = command("delete", *hashes)
    assert (refused.code, len(command.emulator.account.keys)) == (2, 3)
    assert "--yes" in refused.err
    ran = command("delete", *hashes, hashes[0], "--yes", "--jsonl")
    assert ran.code == 0
    assert [row["outcome"] for row in lines_of(ran)] == ["deleted"] * 3
    assert command.emulator.account.keys == {}


def test_delete_reads_hashes_from_standard_input_as_list_prints_them(command: Command) -> None:
    made(command.emulator, "a", "b")
    listed = command("list", "--columns", "hash,name").out
    assert command("delete", "-", "--yes", stdin=listed).code == 0
    assert command.emulator.account.keys == {}
    made(command.emulator, "a", "b")
    listed = command("list", "--csv").out
    assert command("delete", "-", "--yes", stdin=listed).code == 0
    assert command.emulator.account.keys == {}


def test_a_dry_delete_says_which_keys_there_are(command: Command) -> None:
    (key,) = made(command.emulator, "a")
    ran = command("delete", key.hash, "f" * 64, "-n", "--jsonl")
    assert [row["outcome"] for row in lines_of(ran)] == ["would be deleted", "not found"]
    assert command.emulator.count("delete") == 0


def test_a_delete_that_only_some_keys_took_ends_with_3(command: Command) -> None:
    first, second = made(command.emulator, "a", "b")
    ran = command("delete", first.hash, "f" * 64, "--yes", "--jsonl")
    assert (ran.code, [row["outcome"] for row in lines_of(ran)]) == (3, ["deleted", "not found"])
    assert command("delete", "f" * 64, "--yes").code == 1
    command.emulator.faults.append(Fault("delete", status=409))
    ran = command("delete", second.hash, "--yes", "--jsonl")
    assert ran.code == 1
    assert "409" in lines_of(ran)[0]["outcome"]


# the key, and the service


@pytest.mark.slow
def test_the_management_key_comes_from_a_file_or_from_standard_input(command: Command) -> None:
    for text in ("{}\r\n", "\ufeff{}", "OPENROUTER_API_KEY={}\n", 'export KEY="{}"'):
        (command.folder / "key").write_text(text.format(command.emulator.api_key))
        assert command("list", "--api-key-file", "key", OPENROUTER_API_KEY="").code == 0
    (command.folder / "key").write_text("two words")
    assert command("list", "--api-key-file", "key").code == 4
    assert command("list", "--api-key-file", "/dev/zero").code == 2
    (command.folder / "key").write_text(f"{command.emulator.api_key}\n")
    assert command("list", "--api-key-file", "key", OPENROUTER_API_KEY="").code == 0
    key = command.emulator.api_key
    assert command("list", "--api-key-file", "-", stdin=key, OPENROUTER_API_KEY="wrong").code == 0


def test_no_key_a_wrong_one_and_one_that_may_not_end_with_4(command: Command) -> None:
    none = command("list", OPENROUTER_API_KEY="")
    assert (none.code, none.err.count("\n")) == (4, 1)
    assert "OPENROUTER_API_KEY" in none.err
    assert "--api-key-file" in none.err
    wrong = command("list", OPENROUTER_API_KEY="sk-or-v1-" + "7" * 64)
    assert (wrong.code, wrong.err.count("\n")) == (4, 1)
    assert "7777777777" not in wrong.err
    command.emulator.faults.append(Fault("list", status=403))
    assert command("list").code == 4


@pytest.mark.slow
def test_no_service_is_told_in_one_line(command: Command) -> None:
    ran = command("list", "--base-url", "http://127.0.0.1:9/api/v1", "--timeout", "2")
    assert (ran.code, ran.out, ran.err.count("\n")) == (1, "", 1)
    assert "127.0.0.1:9" in ran.err


@pytest.mark.slow
@pytest.mark.parametrize("debug", ["0", "1"])
def test_debugging_shows_a_traceback_and_no_secret(command: Command, debug: str) -> None:
    command.emulator.faults.append(Fault("list", status=409))
    process = command.process("list", OPENROUTER_DEBUG=debug)
    _, err = process.communicate(timeout=PATIENCE)
    assert ("Traceback" in err) == (debug == "1")
    assert ("openrouter_keys list: GET" in err) == (debug == "1")
    assert command.emulator.api_key not in err


@pytest.mark.slow
def test_a_reader_that_goes_away_is_no_error(command: Command) -> None:
    made(command.emulator, *(f"key-{n}" for n in range(3_000)))
    with command.process("list", "--jsonl") as process:
        assert process.stdout is not None
        json.loads(process.stdout.readline())
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == ""
        assert process.wait(PATIENCE) == 141


@pytest.mark.slow
def test_a_full_disk_below_a_redirection_is_told(command: Command) -> None:
    made(command.emulator, "a")
    with Path("/dev/full").open("w") as full:
        process = command.process("list", "--json", stdout=full.fileno())
        _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert err == "openrouter-keys: cannot write: No space left on device\n"


@pytest.mark.slow
def test_a_secret_that_a_full_disk_swallows_is_that_of_no_key(command: Command) -> None:
    with Path("/dev/full").open("w") as full:
        process = command.process("create", "a", "--show-secret", stdout=full.fileno())
        _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert "was deleted again" in err
    assert command.emulator.account.keys == {}


@contextmanager
def broken(kind: str) -> Generator[int]:
    """Give a descriptor that takes nothing."""
    if kind == "full":
        number = os.open("/dev/full", os.O_WRONLY)
    else:
        reader, number = os.pipe()
        os.close(reader)
    try:
        yield number
    finally:
        os.close(number)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("full", ("--show-secret",)),
        ("pipe", ("--show-secret",)),
        ("full", ("--show-secret", "--json")),
        ("pipe", ("--show-secret", "--csv")),
        ("full", ("--secret-file", "taken")),
        ("full", ("--to-command", "sh -c 'cat > taken'")),
    ],
)
def test_a_secret_that_is_taken_is_kept_although_nobody_can_be_told(
    command: Command, kind: str, words: tuple[str, ...]
) -> None:
    with broken(kind) as stderr:
        process = command.process("create", "a", *words, stderr=stderr)
        out, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    taken = command.folder / "taken"
    (secret,) = re.findall("sk-or-v1-[0-9a-f]{64}", taken.read_text() if taken.exists() else out)
    assert sha256(secret.encode()).hexdigest() == only(command.emulator).hash


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "words"),
    [("full", ("get", "ab" * 32)), ("pipe", ("list", "--nothing")), ("pipe", ("create", "a"))],
)
def test_an_error_that_nobody_can_be_told_keeps_its_exit_code(
    command: Command, kind: str, words: tuple[str, ...]
) -> None:
    with broken(kind) as stderr:
        process = command.process(*words, stderr=stderr)
        process.communicate(timeout=PATIENCE)
    assert process.returncode == (1 if words[0] == "get" else 2)


@pytest.mark.slow
def test_ten_thousand_keys_come_as_a_stream(command: Command) -> None:
    made(command.emulator, *(f"key-{n}" for n in range(10_000)))
    with command.process("list", "--jsonl") as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        assert command.emulator.count("list") < 60  # of 100 and more: the rest is still to come
        names = {json.loads(line)["name"] for line in [first, *process.stdout]}
        assert process.wait(PATIENCE) == 0
    assert len(names) == 10_000


@pytest.mark.slow
def test_the_extra_that_is_missing_is_named(tmp_path: Path) -> None:
    (tmp_path / "cyclopts.py").write_text("raise ModuleNotFoundError(name='cyclopts')")
    root = Path(__file__).parents[2]
    done = subprocess.run(
        ["python3", "-c", "import sys; sys.path[:0] = sys.argv[1:]; import openrouter_keys.__main__"
         " as m; sys.exit(m.main(['list']))", str(tmp_path), str(root)],
        capture_output=True, encoding="utf-8", check=False, timeout=PATIENCE,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    assert done.returncode == 1
    assert "openrouter-keys[cli]" in done.stderr
    assert "Traceback" not in done.stderr


# what is not proven


@pytest.mark.slow
@pytest.mark.parametrize("answer", NOT_DELETED)
def test_a_delete_that_is_not_proven_ends_with_1(command: Command, answer: str) -> None:
    (key,) = made(command.emulator, "a")
    command.emulator.faults.append(not_deleted(answer))
    ran = command("delete", key.hash, "--yes", "--jsonl", "--timeout", "5")
    assert (ran.code, [*command.emulator.account.keys]) == (1, [key.hash])
    (row,) = lines_of(ran)
    assert row["outcome"] != "deleted"
    assert (row["outcome"] == "not found") == (answer == "404")


def test_a_key_whose_secret_nobody_took_is_told_if_the_service_keeps_it(command: Command) -> None:
    command.emulator.faults.append(not_deleted("deleted: false"))
    ran = command("create", "a", "--to-command", "false")
    (hash,) = command.emulator.account.keys
    assert ran.code == 5
    assert f"delete the key {hash}" in ran.err


def answered_with_another_key(command: Command, operation: OperationName) -> StoredKey:
    key, other = made(command.emulator, "a", "b", limit=5)
    record = json.dumps(asked(command.emulator, f"/keys/{other.hash}")).encode()
    fault = Fault(operation, status=200, body=record, times=None)
    command.emulator.faults.append(fault)
    return key


@pytest.mark.parametrize("words", [("get",), ("delete", "--yes"), ("delete", "--dry-run")])
def test_another_keys_record_is_not_shown_for_the_key(
    command: Command, words: tuple[str, ...]
) -> None:
    key = answered_with_another_key(command, "get")
    ran = command(*words, key.hash)
    assert ran.code == 1
    assert "another key" in ran.out + ran.err
    assert command.emulator.count("delete") == 0


def test_a_leaked_secret_is_not_taken_for_another_keys(command: Command) -> None:
    secret = answered_with_another_key(command, "get").secret
    ran = command("find", stdin=secret or "")
    assert (ran.code, ran.out) == (1, "")
    assert "another key" in ran.err


@pytest.mark.parametrize("answer", ALIEN_404)
def test_a_proxys_404_does_not_say_that_a_leaked_secret_is_nobodys(
    command: Command, answer: str
) -> None:
    secret = secret_of(command.emulator, "a")
    command.emulator.faults.append(not_deleted(answer, "get"))
    ran = command("find", stdin=secret)
    assert (ran.code, ran.out) == (1, "")
    assert "404" in ran.err
    assert "somebody else's" not in ran.err


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["--disabled"], {"disabled": False}),
        (["--limit", "3"], {"limit": 5}),
        (["--limit", "none"], {"limit": 5}),
        (["--name", "b"], {"name": "a"}),
        (["--limit-reset", "daily"], {"limit_reset": None}),
    ],
)
def test_an_update_that_the_answer_does_not_show_ends_with_1(
    command: Command, words: list[str], shown: dict[str, JSON]
) -> None:
    (key,) = made(command.emulator, "a", limit=5)
    command.emulator.account.extra_fields |= shown
    ran = command("update", key.hash, *words)
    assert (ran.code, ran.out) == (1, "")
    assert f"shows no change of {next(iter(shown))}" in ran.err


def test_an_update_that_is_answered_with_another_key_ends_with_1(command: Command) -> None:
    key = answered_with_another_key(command, "update")
    (fault,) = command.emulator.faults
    command.emulator.faults.append(evolve(fault, operation="get"))
    ran = command("update", key.hash, "--limit", "5")
    assert (ran.code, ran.out) == (1, "")
    assert "another key" in ran.err
