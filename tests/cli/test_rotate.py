"""`rotate`: what it makes of keys, for programs, in a terminal, and when it is interrupted."""

import csv
import io
import json
import os
import re
import signal
import stat
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

import pytest

from openrouter_keys.emulator import Account, Emulator, Fault, StoredKey
from tests.commands import Command, Ran
from tests.processes import PATIENCE, until
from tests.tables import in_one_test

ESCAPE = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")
JOURNAL = ("--journal", "r.journal")
QUICK = ("--quiet-period", "0")
AT_ONCE = 10  # seconds, on a machine with much else to do; a call may take 120
# Takes a key by writing its name and its secret down, but for one that is named in REFUSED.
TAKER = """
import os, sys
name, secret = os.environ["OPENROUTER_KEY_NAME"], sys.stdin.read().strip()
assert "OPENROUTER_API_KEY" not in os.environ
if name == os.environ.get("REFUSED"):
    sys.exit(7)
with open("taken", "a") as file:
    file.write(f"{name} {secret}\\n")
"""


def old_keys(emulator: Emulator, *names: str, **fields: Any) -> list[StoredKey]:
    given: dict[str, Any] = {"limit": 10, "usage": 4, **fields}
    return [emulator.account.add(name, **given) for name in names]


def hashes(keys: Sequence[StoredKey]) -> list[str]:
    return [key.hash for key in keys]


def twins(emulator: Emulator, *old: StoredKey) -> dict[str, StoredKey]:
    """The keys that are none of the old ones, by name; each name once."""
    gone = {key.hash for key in old}
    found = [key for key in emulator.account.keys.values() if key.hash not in gone]
    named = {key.name: key for key in found}
    assert len(named) == len(found)
    return named


def works(emulator: Emulator, key: StoredKey) -> bool:
    held = emulator.account.keys.get(key.hash)
    return held is not None and not held.disabled


def plain(text: str) -> list[str]:
    return [line.rstrip() for line in ESCAPE.sub("", text).splitlines()]


def read(ran: Ran) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    answer = json.loads(ran.out)
    return answer["data"], answer.get("report", {})


def taker() -> str:
    return f"{sys.executable} -c '{TAKER}'"


def assert_no_secret(emulator: Emulator, *texts: str) -> None:
    for key in emulator.account.keys.values():
        for text in texts:
            assert str(key.secret) not in text
            assert emulator.api_key not in text


# twins


def test_twins_are_made_beside_the_old_keys_and_their_secrets_are_in_the_journal(
    command: Command,
) -> None:
    old = old_keys(command.emulator, "a", "b", limit_reset="monthly", include_byok_in_limit=True)

    ran = command("rotate", *hashes(old), *JOURNAL)

    assert ran.code == 0
    made = twins(command.emulator, *old)
    assert [(key.limit, key.limit_reset, key.include_byok_in_limit) for key in made.values()] == [
        (10, "monthly", True)
    ] * 2
    assert all(works(command.emulator, key) for key in old)
    assert_no_secret(command.emulator, ran.out, ran.err)
    assert "2 rotated, 2 waiting to be retired" in ran.err
    assert "openrouter-keys journal export r.journal -o keys.csv" in ran.err
    assert "openrouter-keys rotate --finish --journal r.journal" in ran.err
    assert stat.S_IMODE((command.folder / "r.journal").stat().st_mode) == 0o600


def test_json_has_each_key_its_twin_and_how_it_ended(command: Command) -> None:
    spent, fresh = (
        old_keys(command.emulator, "spent", usage=4),
        old_keys(command.emulator, "monthly", usage=0, usage_monthly=6, limit_reset="monthly"),
    )
    old = [*spent, *fresh, *old_keys(command.emulator, "free", limit=None)]

    ran = command("rotate", *hashes(old), *JOURNAL, "--json")

    data, report = read(ran)
    made = twins(command.emulator, *old)
    shown = ("hash", "name", "twin", "limit", "spent", "twin_limit", "starts_anew", "state")
    assert [tuple(each[name] for name in shown) for each in data] == [
        (old[0].hash, "spent", made["spent"].hash, 10, 4, 6, False, "handed_over"),
        (old[1].hash, "monthly", made["monthly"].hash, 10, 6, 10, True, "handed_over"),
        (old[2].hash, "free", made["free"].hash, None, 4, None, False, "handed_over"),
    ]
    assert report == {
        "ok": True, "stopped": None, "rotated": 3, "retired": 0, "waiting": 3, "pending": 0,
        "skipped": 0, "failed": 0, "in_doubt": 0,
    }  # fmt: skip


@pytest.mark.parametrize(("budget", "limit"), [("remaining", 6), ("full", 10)])
def test_what_is_left_of_a_limit_is_not_silently_renewed(
    command: Command, budget: str, limit: float
) -> None:
    old = old_keys(command.emulator, "a")
    assert command("rotate", *hashes(old), *JOURNAL, "--budget", budget).code == 0
    assert twins(command.emulator, *old)["a"].limit == limit


def test_new_keys_may_have_another_limit_and_expiry(command: Command) -> None:
    old = old_keys(command.emulator, "a")
    words = ("--limit", "80", "--expires-at", "30d")
    looked = command("rotate", "a", *JOURNAL, *words, "-n", "--json")
    assert json.loads(looked.out)["data"][0]["twin_limit"] == 80
    assert command("rotate", "a", *JOURNAL, *words).code == 0
    twin = twins(command.emulator, *old)["a"]
    assert twin.limit == 80
    assert twin.expires_at is not None
    assert timedelta(days=29) < twin.expires_at - datetime.now(UTC) < timedelta(days=31)
    ran = command("rotate", *JOURNAL, "--limit", "3")
    assert (ran.code, "go with HASH" in ran.err) == (2, True)


@pytest.mark.slow
def test_the_beginning_of_a_hash_is_enough_and_a_pipe_may_bring_them(command: Command) -> None:
    first, second = old_keys(command.emulator, "a", "b")
    assert command("rotate", first.hash[:10], *JOURNAL).code == 0
    listed = f"hash\tname\n{second.hash}\tb\n"
    assert command("rotate", "-", *JOURNAL, stdin=listed).code == 0
    assert {*twins(command.emulator, first, second)} == {"a", "b"}


@pytest.mark.slow
def test_the_same_again_makes_nothing_twice(command: Command) -> None:
    old = old_keys(command.emulator, "a", "b")
    assert command("rotate", *hashes(old), *JOURNAL).code == 0
    for words in (hashes(old), []):
        ran = command("rotate", *words, *JOURNAL, "--json")
        assert (ran.code, len(read(ran)[0])) == (0, 2)
    assert len(command.emulator.account.keys) == 4


@pytest.mark.slow
def test_some_that_cannot_be_rotated_do_not_stop_the_others(command: Command) -> None:
    off, fine = *old_keys(command.emulator, "off", disabled=True), *old_keys(command.emulator, "b")

    ran = command("rotate", off.hash, fine.hash, "0" * 64, *JOURNAL, "--json")

    data, report = read(ran)
    assert ran.code == 3
    assert [each["state"] for each in data] == ["handed_over", "refused", "refused"]
    assert (report["rotated"], report["failed"]) == (1, 2)
    assert f"failed: {off.hash}: is disabled" in ran.err
    assert f"failed: {'0' * 64}: is not there" in ran.err


def test_what_is_in_doubt_ends_with_5(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    old = old_keys(command.emulator, "a")
    command.emulator.faults.append(Fault("create", kind="reset", phase="after"))
    create = Account.create

    def used(account: Account, body: object) -> StoredKey:
        key = create(account, body)
        account.spend(key.hash, 1)
        return key

    # What somebody uses is not deleted, and nobody can say whose it is.
    monkeypatch.setattr(Account, "create", used)

    ran = command("rotate", *hashes(old), *JOURNAL, *QUICK)

    assert ran.code == 5
    assert works(command.emulator, old[0])
    assert f"in doubt: {old[0].hash[:8]} 'a': " in ran.err


# where secrets go


def test_a_file_gets_the_secrets_and_is_private(command: Command) -> None:
    old = old_keys(command.emulator, "a", "b")

    ran = command("rotate", *hashes(old), *JOURNAL, "--secret-file", "keys.csv")

    file = command.folder / "keys.csv"
    assert (ran.code, stat.S_IMODE(file.stat().st_mode)) == (0, 0o600)
    rows = {row["ref"]: row for row in csv.DictReader(io.StringIO(file.read_text()))}
    made = twins(command.emulator, *old)
    assert {hash: row["key"] for hash, row in rows.items()} == {
        key.hash: made[key.name].secret for key in old
    }
    assert_no_secret(command.emulator, ran.out, ran.err)
    assert "journal export" not in ran.err


@pytest.mark.slow
def test_variables_are_called_after_the_keys_names(command: Command) -> None:
    old = old_keys(command.emulator, "customer 42")
    assert command("rotate", *hashes(old), *JOURNAL, "-o", ".env").code == 0
    secret = twins(command.emulator, *old)["customer 42"].secret
    written = (command.folder / ".env").read_text()
    assert written == f"# customer 42\nOPENROUTER_API_KEY_CUSTOMER_42={secret}\n"


def test_a_file_that_is_there_is_not_touched_and_nothing_is_made(command: Command) -> None:
    old = old_keys(command.emulator, "a")
    (command.folder / "keys.csv").write_text("mine")
    ran = command("rotate", *hashes(old), *JOURNAL, "--secret-file", "keys.csv")
    assert (ran.code, (command.folder / "keys.csv").read_text()) == (2, "mine")
    assert len(command.emulator.account.keys) == 1


@pytest.mark.slow
def test_standard_output_gets_secrets_only_when_that_is_said(command: Command) -> None:
    old = old_keys(command.emulator, "a")
    ran = command("rotate", *hashes(old), *JOURNAL, "--jsonl", "--show-secret")
    (line,) = map(json.loads, ran.out.splitlines())
    assert (line["ref"], line["key"]) == (
        old[0].hash, twins(command.emulator, *old)["a"].secret,
    )  # fmt: skip
    assert_no_secret(command.emulator, ran.err)


@pytest.mark.slow
def test_a_program_that_does_not_take_a_key_stops_and_gets_it_again(command: Command) -> None:
    old = old_keys(command.emulator, "a", "b", "c")
    words = ("rotate", *hashes(old), *JOURNAL, "--to-command", taker())

    ran = command(*words, REFUSED="b")
    assert ran.code == 1
    assert "exited with 7" in ran.err
    assert_no_secret(command.emulator, ran.out, ran.err)

    assert command(*words, REFUSED="").code == 0
    taken = [line.split() for line in (command.folder / "taken").read_text().splitlines()]
    made = twins(command.emulator, *old)
    assert dict(taken) == {name: key.secret for name, key in made.items()}


# the plan, and how it stands


def test_a_dry_run_sends_no_change_and_tells_what_is_refused(command: Command) -> None:
    old = [*old_keys(command.emulator, "a"), *old_keys(command.emulator, "off", disabled=True)]

    ran = command("rotate", *hashes(old), "--dry-run", "--json")

    data, _ = read(ran)
    assert ran.code == 3
    assert [(each["state"], each["twin_limit"]) for each in data] == [
        ("planned", 6), ("refused", None),
    ]  # fmt: skip
    assert f"{old[1].hash[:8]} 'off': is disabled" in ran.err
    assert {request.operation for request in command.emulator.requests} == {"get"}
    assert [*command.folder.iterdir()] == []


@pytest.mark.slow
def test_a_dry_run_tells_what_the_journal_has_planned_already(command: Command) -> None:
    old = old_keys(command.emulator, "a")
    assert command("rotate", *hashes(old), *JOURNAL).code == 0
    old[0].usage = 9
    ran = command("rotate", *hashes(old), *JOURNAL, "--budget", "full", "-n", "--json")
    (each,) = read(ran)[0]
    assert (ran.code, each["state"], each["twin_limit"]) == (0, "handed_over", 6)


@pytest.mark.slow
def test_the_status_tells_what_went_wrong_last(command: Command) -> None:
    old = old_keys(command.emulator, "a")
    assert command("rotate", *hashes(old), *JOURNAL).code == 0
    command.emulator.faults.append(Fault("delete", status=403))
    assert command("rotate", "--finish", *JOURNAL, "--yes").code == 3
    ran = command("rotate", "--status", *JOURNAL)
    assert ran.code == 0
    assert ran.err.startswith(f"openrouter-keys: {old[0].hash[:8]} 'a': ")
    assert len(ran.err.splitlines()) == 1


def test_the_status_needs_no_key_and_no_service(command: Command) -> None:
    old = old_keys(command.emulator, "a")
    assert command("rotate", *hashes(old), *JOURNAL).code == 0
    seen = len(command.emulator.requests)
    ran = command("rotate", "--status", *JOURNAL, "--json", OPENROUTER_API_KEY="")
    assert [each["state"] for each in read(ran)[0]] == ["handed_over"]
    assert len(command.emulator.requests) == seen


@in_one_test(
    "words, told",
    [
        ((), "give the hashes of the keys to rotate, and --journal FILE"),
        (("HASH",), "--journal"),
        (("--journal", "new"), ""),  # nothing to go on with
        (("--finish", "HASH", *JOURNAL), "--finish"),
        (("--finish", "--secret-file", "x", *JOURNAL), "--finish"),
        (("--finish", "--status", *JOURNAL), "give --finish, which deletes, or --status"),
        (("--finish", "--status"), "give --finish, which deletes, or --status"),
        (("HASH", "--grace", "1h", "--yes", *JOURNAL), "--grace"),
        (("HASH", "--grace", "soon", *JOURNAL), "--grace"),
        (("HASH", "--grace", "3s", "-o", "new", *JOURNAL), "delete the old keys 3 s later"),
        (("HASH", "--show-secret", *JOURNAL), "--show-secret"),
        (("HASH", "--secret-file", "x", "--to-command", "y", *JOURNAL), "--to-command"),
        (("HASH", "--budget", "half", *JOURNAL), "--budget"),
        (("HASH", "--rate", "0", *JOURNAL), "--rate: must be more than 0"),
        (("HASH", "--recipient", "age1nobody", *JOURNAL), "--recipient: must be an age"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_sent(
    command: Command, words: Sequence[str], told: str
) -> None:
    (old,) = old_keys(command.emulator, "a")
    ran = command("rotate", *(old.hash if word == "HASH" else word for word in words))
    assert ran.code == 2
    assert told in ran.err
    assert len(ran.err.splitlines()) == 1
    assert command.emulator.requests == []
    assert [*command.folder.iterdir()] == []


def test_a_journal_that_is_not_there_cannot_be_finished(command: Command) -> None:
    for mode in ("--finish", "--status"):
        ran = command("rotate", mode, "--journal", "nowhere", "--yes")
        assert ran.code == 1
        assert "nowhere" in ran.err
    assert [*command.folder.iterdir()] == []


# the old keys


def test_finish_deletes_the_old_keys_and_settles_what_they_spent_meanwhile(
    command: Command,
) -> None:
    old = old_keys(command.emulator, "a", "b")
    other = command.emulator.account.add("other")
    assert command("rotate", *hashes(old), *JOURNAL).code == 0
    command.emulator.account.spend(old[0].hash, 2.0)

    ran = command("rotate", "--finish", *JOURNAL, "--yes", "--json")

    data, report = read(ran)
    assert (ran.code, [each["state"] for each in data]) == (0, ["deleted", "deleted"])
    assert (report["retired"], report["waiting"]) == (2, 0)
    made = twins(command.emulator, *old)
    assert {name: key.limit for name, key in made.items()} == {"a": 4, "b": 6, "other": None}
    assert works(command.emulator, other)
    again = command("rotate", "--finish", *JOURNAL, "--yes")
    assert (again.code, again.err) == (0, "openrouter-keys: nothing is left to do\n")


@pytest.mark.slow
def test_finish_shows_what_it_would_delete_and_deletes_nothing_without_a_yes(
    command: Command,
) -> None:
    old = old_keys(command.emulator, "a", "b")
    assert command("rotate", *hashes(old), *JOURNAL).code == 0

    shown = command("rotate", "--finish", *JOURNAL, "--dry-run", "--json")
    refused = command("rotate", "--finish", *JOURNAL)

    assert [each["name"] for each in read(shown)[0]] == ["a", "b"]
    assert "would delete 2 keys" in shown.err
    assert refused.code == 2
    assert "delete 2 old keys ('a', 'b')" in refused.err
    assert "--yes" in refused.err
    assert all(works(command.emulator, key) for key in old)


@pytest.mark.slow
@pytest.mark.parametrize(("answer", "code", "left"), [("n", 1, 4), ("", 1, 4), ("y", 0, 2)])
def test_finish_asks_at_a_terminal_with_a_list(
    command: Command, answer: str, code: int, left: int
) -> None:
    old = old_keys(command.emulator, "a [red]b[/red]", "c\x1b[31m")
    assert command("rotate", *hashes(old), *JOURNAL).code == 0
    shown = command.terminal("rotate", "--finish", *JOURNAL, columns=80)
    shown.expect(r"\[y/N\] ")
    told = shown.before or ""
    assert "\x1b[31m" not in told
    assert "a [red]b[/red]" in told
    assert old[1].hash[:8] in told
    shown.sendline(answer)
    assert (shown.wait(), len(command.emulator.account.keys)) == (code, left)


@pytest.mark.slow
def test_finish_leaves_old_keys_alone_whose_twins_nobody_has(command: Command) -> None:
    old = old_keys(command.emulator, "a", "b")
    words = ("rotate", *hashes(old), *JOURNAL, "--to-command", taker())
    assert command(*words, "--concurrency", "1", REFUSED="b").code == 1

    ran = command("rotate", "--finish", *JOURNAL, "--yes")

    assert ran.code == 3
    assert "openrouter-keys rotate --journal r.journal" in ran.err
    assert [works(command.emulator, key) for key in old] == [False, True]


@pytest.mark.slow
def test_an_old_key_that_cannot_be_deleted_ends_with_3_and_goes_the_next_time(
    command: Command,
) -> None:
    old = old_keys(command.emulator, "a", "b")
    assert command("rotate", *hashes(old), *JOURNAL).code == 0
    command.emulator.faults.append(Fault("delete", status=403))

    ran = command("rotate", "--finish", *JOURNAL, "--yes")

    assert ran.code == 3
    assert re.search(r"failed: [0-9a-f]{8} '[ab]': ", ran.err)
    assert command("rotate", "--finish", *JOURNAL, "--yes").code == 0
    assert {*twins(command.emulator, *old)} == {"a", "b"}
    assert len(command.emulator.account.keys) == 2


@pytest.mark.slow
def test_a_grace_lets_both_keys_work_and_then_deletes_the_old_one(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = old_keys(command.emulator, "a")
    changes = list[tuple[str, float]]()

    def told(name: str) -> Callable[..., object]:
        change = getattr(Account, name)

        def changed(*arguments: object) -> object:
            changes.append((name, time.monotonic()))
            return change(*arguments)

        return changed

    for name in ("create", "update", "delete"):
        monkeypatch.setattr(Account, name, told(name))
    words = ("rotate", *hashes(old), *JOURNAL, "--secret-file", "k.csv", "--grace", "3s")
    ran = command(*words, "--yes", "--json")

    (_, made_at), (_, retired_at), _ = changes
    assert [name for name, _ in changes] == ["create", "update", "delete"]
    assert retired_at - made_at >= 1.9  # the service's clock, which counts too, has whole seconds
    assert (ran.code, [*command.emulator.account.keys]) == (
        0, [key.hash for key in twins(command.emulator, *old).values()],
    )  # fmt: skip
    _, report = read(ran)
    assert report["rotated"] == report["retired"] == 1
    assert re.search("the old keys go on working for [1-3] s; Ctrl-C keeps them", ran.err)


@pytest.mark.slow
def test_a_grace_forgets_no_key_that_could_not_be_rotated(command: Command) -> None:
    off, fine = *old_keys(command.emulator, "off", disabled=True), *old_keys(command.emulator, "b")
    words = ("--secret-file", "k.csv", "--grace", "0", "--yes", "--json")
    ran = command("rotate", off.hash, fine.hash, *JOURNAL, *words)
    data, report = read(ran)
    assert (ran.code, report["failed"], report["retired"]) == (3, 1, 1)
    assert [each["state"] for each in data] == ["deleted", "refused"]


@pytest.mark.slow
def test_a_grace_is_asked_about_for_it_deletes(command: Command) -> None:
    old = old_keys(command.emulator, "a")
    words = ("rotate", *hashes(old), *JOURNAL, "--secret-file", "k.csv", "--grace", "0")
    assert command(*words).code == 2
    assert len(command.emulator.account.keys) == 1
    assert command(*words, "--yes").code == 0
    assert len(command.emulator.account.keys) == 1
    assert not works(command.emulator, old[0])


@pytest.mark.slow
def test_finish_tells_that_nobody_may_have_the_new_secrets(command: Command) -> None:
    old = old_keys(command.emulator, "a", "b")
    assert command("rotate", *hashes(old), *JOURNAL).code == 0

    refused = command("rotate", "--finish", *JOURNAL)

    assert refused.code == 2
    assert "new secrets of 2 keys are in r.journal; it does not know whether" in refused.err
    assert "openrouter-keys journal export r.journal -o keys.csv" in refused.err
    assert "for good, whose new secrets may be nowhere but in r.journal" in refused.err
    assert "handed over" not in refused.err
    assert command("journal", "purge", "r.journal", "--yes").code == 0
    purged = command("rotate", "--finish", *JOURNAL)
    assert "for good, whose new keys were handed over, and" in purged.err


@pytest.mark.slow
def test_a_signal_while_old_keys_are_deleted_is_told_at_once(command: Command) -> None:
    old = old_keys(command.emulator, "a")
    assert command("rotate", *hashes(old), *JOURNAL).code == 0
    command.emulator.faults.append(Fault("delete", kind="slow", delay=2))
    running = command.process("rotate", "--finish", *JOURNAL, "--yes")
    until(lambda: command.emulator.count("delete"))
    running.send_signal(signal.SIGHUP)
    _, err = running.communicate(timeout=PATIENCE)
    assert running.returncode == 128 + signal.SIGHUP
    assert "stopping: what is under way is finished; Ctrl-C again stops at once" in err
    assert "go on with: openrouter-keys rotate --finish --journal r.journal --yes" in err
    assert "Traceback" not in err


# interrupted


@pytest.mark.slow
def test_ctrl_c_in_the_grace_keeps_the_old_keys_and_the_same_command_goes_on(
    command: Command,
) -> None:
    old = old_keys(command.emulator, "a", "b")
    words = ("rotate", *(hash[:12] for hash in hashes(old)), *JOURNAL, "--yes")
    shown = command.terminal(*words, "--secret-file", "k.csv", "--grace", "1h", columns=80)
    shown.expect("go on working for 59 min 5")
    shown.interrupt()

    assert shown.wait() == 130
    told = "".join(plain(shown.before or ""))
    assert "the old keys that are not deleted yet work as before" in told
    assert "--secret-file k-2.csv --grace 1h" in told
    assert all(works(command.emulator, key) for key in old)

    command.emulator.account.keys.pop(old[0].hash)  # somebody else was quicker
    again = command(*words, "--secret-file", "k-2.csv", "--grace", "0")
    assert again.code == 0, again.err
    assert {*twins(command.emulator, *old)} == {"a", "b"}
    assert len(command.emulator.account.keys) == 2
    assert not (command.folder / "k-2.csv").exists()
    assert "no new secret was handed over, so k-2.csv was not made" in again.err


@pytest.mark.slow
def test_a_signal_lets_what_is_under_way_end_and_the_next_run_makes_the_rest(
    command: Command,
) -> None:
    old = old_keys(command.emulator, *map(str, range(40)))
    command.emulator.latency = 0.1
    words = ("rotate", *hashes(old), *JOURNAL, "--concurrency", "4")
    running = command.process(*words)
    until(lambda: len(command.emulator.account.keys) >= 44)
    running.send_signal(signal.SIGTERM)
    _, err = running.communicate(timeout=PATIENCE)

    assert running.returncode == 128 + signal.SIGTERM
    assert "go on with: openrouter-keys rotate" in err
    assert len(command.emulator.account.keys) < 80
    command.emulator.latency = 0
    assert command(*words).code == 0
    assert len(twins(command.emulator, *old)) == 40
    assert command("journal", "export", "r.journal", "-o", "out.csv").code == 0
    rows = csv.DictReader(io.StringIO((command.folder / "out.csv").read_text()))
    exported = {sha256(row["key"].encode()).hexdigest() for row in rows}
    assert exported == {key.hash for key in twins(command.emulator, *old).values()}


@pytest.mark.slow
def test_a_second_signal_stops_at_once(command: Command) -> None:
    old = old_keys(command.emulator, "a")
    command.emulator.faults.append(Fault("create", kind="stalled", phase="after"))
    running = command.process("rotate", *hashes(old), *JOURNAL)
    until(lambda: len(command.emulator.account.keys) >= 2)
    running.send_signal(signal.SIGINT)
    assert running.stderr is not None
    while "again stops at once" not in running.stderr.readline():
        pass
    began = time.monotonic()
    running.send_signal(signal.SIGINT)
    running.communicate(timeout=PATIENCE)
    assert running.returncode == 130
    assert time.monotonic() - began < AT_ONCE

    again = command("rotate", *hashes(old), *JOURNAL, *QUICK)
    assert again.code == 0, again.err
    assert len(twins(command.emulator, *old)) == 1


# at a terminal


@pytest.mark.slow
def test_the_table_fits_80_columns_and_tells_what_each_twin_may_spend(command: Command) -> None:
    old = [
        *old_keys(command.emulator, "[red]spent[/red]", limit=100, usage=60),
        *old_keys(command.emulator, "monthly", limit=100, limit_reset="monthly", usage_monthly=60),
        *old_keys(command.emulator, "客户-東京", limit=None),
        *old_keys(command.emulator, "fresh\x1b[31m", limit=5, usage=0),
    ]

    shown = command.at_a_terminal("rotate", *hashes(old), "--dry-run", columns=80).out

    assert "\x1b[31m" not in shown
    lines = plain(shown)
    assert re.fullmatch("OLD KEY +NAME +NEW KEY +NEW KEY MAY SPEND +STATE", lines[0])
    text = "\n".join(lines)
    for told in (
        "$40.00 of $100.00: $60.00 spent", "$100.00/month, starts anew", "no limit", "$5.00",
        "[red]spent[/red]"[:12], "客户-東京",
    ):  # fmt: skip
        assert told in text
    assert max(map(len, lines)) <= 80


@pytest.mark.slow
def test_nobody_reads_the_table(command: Command) -> None:
    old = old_keys(command.emulator, "a", "b")
    assert command("rotate", *hashes(old), *JOURNAL).code == 0
    reading, writing = os.pipe()
    os.close(reading)
    running = command.process("rotate", "--status", *JOURNAL, stdout=writing)
    os.close(writing)
    _, err = running.communicate(timeout=PATIENCE)
    assert (running.returncode, err) == (141, "")
