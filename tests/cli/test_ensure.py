"""`ensure` and `release`: the one key of a ref, from any number of processes."""

import asyncio
import json
import signal
import stat
import time
from datetime import UTC, datetime
from hashlib import sha256
from importlib import import_module
from typing import Any

import pytest

from openrouter_keys.emulator import Fault
from openrouter_keys.journal.journal import Journal
from openrouter_keys.journal.schema import State
from tests.commands import Command, Ran
from tests.journals import AT, spec, written
from tests.processes import PATIENCE, until
from tests.tables import in_one_test

J = ("--journal", "j")
#: No create without an answer can land later.
QUICK = (*J, "--quiet-period", "0", "--wait", "0.5", "--timeout", "5")


def ensure(command: Command, *words: str, **given: Any) -> Ran:
    return command("ensure", "customer-42", *QUICK, *words, **given)


def answer(ran: Ran) -> Any:
    assert ran.code == 0, ran.err
    return json.loads(ran.out)


def only(command: Command) -> Any:
    (key,) = command.emulator.account.keys.values()
    return key


def lines(command: Command, *words: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in command(*words).out.splitlines()]


# --- ensure ---


def test_the_key_of_a_ref_is_created_once_and_given_to_each_who_asks(command: Command) -> None:
    first = ensure(command, "--limit", "50", "--json", "--show-secret")
    again = ensure(command, "--limit", "50", "--json", "--show-secret")
    key = answer(first)["key"]
    hash = sha256(key.encode()).hexdigest()
    assert (answer(first)["ref"], answer(first)["outcome"]) == ("customer-42", "created")
    assert answer(again) == {**answer(first), "outcome": "existing"}
    assert answer(first)["data"]["hash"] == only(command).hash == hash
    assert first.err == f"openrouter-keys: created the key {hash}\n"
    assert again.err == f"openrouter-keys: the key {hash} is there\n"
    assert command.emulator.count("create") == 1


@pytest.mark.parametrize(
    ("words", "field", "value"),
    [
        (("--limit", "60"), "limit", 60),
        (("--limit", "none"), "limit", None),
        (("--limit", "50", "--limit-reset", "weekly"), "limit_reset", "weekly"),
        (("--limit", "50", "--name", "another"), "name", "another"),
        (("--limit", "50", "--include-byok-in-limit"), "include_byok_in_limit", True),
    ],
)
def test_other_options_update_the_key_unless_that_is_refused(
    command: Command, words: tuple[str, ...], field: str, value: object
) -> None:
    made = answer(ensure(command, "--limit", "50", "--json"))
    before = only(command)
    refused = ensure(command, *words, "--json", "--on-change", "refuse")
    assert (refused.code, refused.out) == (1, "")
    assert field in refused.err
    assert only(command) == before
    updated = ensure(command, *words, "--json", "--show-secret")
    assert answer(updated)["outcome"] == "updated"
    assert (answer(updated)["data"]["hash"], answer(updated)["data"][field]) == (
        made["data"]["hash"], value,
    )  # fmt: skip
    assert updated.err == f"openrouter-keys: updated the key {only(command).hash}\n"
    assert ensure(command, *words, "--json").err.endswith(" is there\n")


@in_one_test(
    "words, outcome",
    [
        (("--limit", "50"), "existing"),
        (("--limit", "50", "--on-change", "refuse"), "existing"),
        (("--limit", "50", "--verify"), "existing"),
        (("--limit", "60"), "updated"),
        (("--limit", "50", "--name", "Ada"), "updated"),
        (("--limit", "50", "--name", "customer-42"), "updated"),
    ],
)
def test_a_name_that_is_left_out_renames_no_key(
    command: Command, words: tuple[str, ...], outcome: str
) -> None:
    answer(ensure(command, "--limit", "50", "--name", "Ada, production", "--json"))
    name = words[3] if words[2:3] == ("--name",) else "Ada, production"
    planned = ensure(command, *words, "--dry-run")
    assert ("as asked for" in planned.err) == (outcome == "existing")
    assert ("name" in planned.err) == (name != "Ada, production")
    assert answer(ensure(command, *words, "--json"))["outcome"] == outcome
    assert only(command).name == name
    # Another key has the ref for its name again.
    assert command("release", "customer-42", *QUICK[:4], "--yes").code == 0
    assert answer(ensure(command, "--json"))["data"]["name"] == "customer-42"
    assert command("release", "customer-42", *QUICK[:4], "--yes").code == 0


def test_what_no_update_can_change_is_refused_with_what_helps(command: Command) -> None:
    ensure(command, "--expires-at", "2099-01-01T00:00:00Z", "--json")
    ran = ensure(command, "--expires-at", "2098-01-01T00:00:00Z", "--json")
    assert (ran.code, ran.out) == (1, "")
    assert "expires_at" in ran.err
    assert "release the ref" in ran.err
    left_out = ensure(command, "--json")
    assert left_out.code == 1


def test_options_that_are_left_out_are_named_as_options(command: Command) -> None:
    ensure(command, "--limit", "50", "--json")
    ran = ensure(command, "--json")
    assert (ran.code, ran.out) == (1, "")
    assert "--limit none is no limit" in ran.err


@pytest.mark.slow
def test_a_duration_until_the_expiry_counts_from_the_create(command: Command) -> None:
    made = answer(ensure(command, "--expires-at", "30d", "--json"))
    for lasting in ("30d", "2w"):
        again = answer(ensure(command, "--expires-at", lasting, "--json"))
        assert again == {**made, "outcome": "existing"}
    command("release", "customer-42", *QUICK, "--yes")
    anew = answer(ensure(command, "--expires-at", "2w", "--json"))
    assert anew["outcome"] == "created"
    assert anew["data"]["expires_at"] < made["data"]["expires_at"]


def test_an_expired_key_is_given_and_is_a_failure(command: Command) -> None:
    made = json.loads(ensure(command, "--expires-at", "1s", "--json").out)
    expires_at = datetime.fromisoformat(made["data"]["expires_at"])
    time.sleep(max((expires_at - datetime.now(UTC)).total_seconds(), 0) + 0.01)
    ran = ensure(command, "--expires-at", "1s", "--json")
    assert ran.code == 1
    assert json.loads(ran.out)["data"]["hash"] == made["data"]["hash"]
    assert "it expired on " in ran.err
    assert "`release` it" in ran.err


@pytest.mark.parametrize(
    ("words", "keys"),
    [((), 0), (("--recreate",), 0), (("--verify",), 0), (("--verify", "--recreate"), 1)],
)
def test_a_key_that_is_gone_is_found_out_and_made_anew_if_asked_for(
    command: Command, words: tuple[str, ...], keys: int
) -> None:
    ensure(command, "--json")
    ensure_other(command)
    del command.emulator.account.keys[answer(ensure(command, "--json"))["data"]["hash"]]
    ran = ensure(command, "--json", *words)
    assert sum(key.name == "customer-42" for key in command.emulator.account.keys.values()) == keys
    if words == ("--verify",):
        assert (ran.code, ran.out) == (1, "")
        assert "make it anew with --recreate" in ran.err
    else:
        assert answer(ran)["outcome"] == ("created" if keys else "existing")


def ensure_other(command: Command) -> None:
    """A key that shows whose account this is."""
    assert command("ensure", "other", *QUICK, "--json").code == 0


# --- where the secret goes ---


def test_no_secret_goes_into_a_pipe_unasked(command: Command) -> None:
    ran = ensure(command)
    assert (ran.code, ran.out, command.emulator.requests) == (2, "", [])
    assert "--show-secret" in ran.err
    assert "--json for the record alone" in ran.err
    for format in ("--json", "--jsonl", "--csv"):
        shown = ensure(command, format)
        assert shown.code == 0
        assert "sk-or-v1-e2e2" not in shown.out.replace(only(command).label, "")


def test_show_secret_prints_the_secret_alone_for_a_shell(command: Command) -> None:
    for _ in range(2):
        ran = ensure(command, "--show-secret")
        assert sha256(ran.out.removesuffix("\n").encode()).hexdigest() == only(command).hash
        assert ran.out.strip() not in ran.err


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("secret", "{key}\n"),
        ("prod.env", "OPENROUTER_API_KEY_CUSTOMER_42={key}\n"),
        ("k.csv", "ref,name,hash,key,state\r\ncustomer-42,customer-42,{hash},{key},\r\n"),
    ],
)
def test_a_secret_file_is_new_and_private(command: Command, file: str, text: str) -> None:
    ran = ensure(command, "-o", file, "--json")
    path = command.folder / file
    hash = answer(ran)["data"]["hash"]
    whole = path.read_bytes().decode()
    key = next(word for word in whole.replace("=", ",").split(",") if "sk-or-" in word).strip()
    assert sha256(key.encode()).hexdigest() == hash
    assert whole == text.format(key=key, hash=hash)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert key not in ran.out + ran.err
    assert ensure(command, "-o", file).code == 2
    assert path.read_bytes().decode() == whole


def test_a_secret_that_was_not_taken_is_handed_over_by_the_same_command(command: Command) -> None:
    ran = ensure(command, "--to-command", "false")
    assert (ran.code, ran.out) == (1, "")
    assert "the journal has it, and the same command hands it over" in ran.err
    assert ensure(command, "--to-command", "sh -c 'cat > got; env > environment'").code == 0
    key = (command.folder / "got").read_text().strip()
    assert sha256(key.encode()).hexdigest() == only(command).hash
    environment = (command.folder / "environment").read_text()
    assert "OPENROUTER_KEY_REF=customer-42\n" in environment
    assert command.emulator.api_key not in environment


WANTS = [("--show-secret",), ("-o", "secret"), ("--to-command", "cat"), ("--json", "--show-secret")]


@pytest.mark.parametrize("words", WANTS, ids=" ".join)
def test_a_secret_that_the_journal_has_not_is_a_failure_that_says_what_helps(
    command: Command, words: tuple[str, ...]
) -> None:
    ensure(command, "--json")
    assert command("journal", "purge", "j", "--yes").code == 0
    ran = ensure(command, *words)
    assert ran.code == 1
    assert "its secret is not in the journal: it was not stored, or purged" in ran.err
    assert not (command.folder / "secret").exists()
    assert ensure(command, "--json").code == 0  # the record alone is there
    assert command.emulator.count("create") == 1


def test_a_sealed_secret_is_opened_with_its_identity(command: Command) -> None:
    identity = import_module("pyrage").x25519.Identity.generate()
    (command.folder / "identity").write_text(f"{identity}\n")
    sealed = ("--recipient", str(identity.to_public()), "--show-secret")
    key = ensure(command, *sealed).out
    assert key.encode() not in written(command.folder / "j")
    ran = ensure(command, *sealed)
    assert (ran.code, ran.out) == (2, "")
    assert "its secret is sealed: give --identity, a file" in ran.err
    assert ensure(command, *sealed, "--identity", "identity").out == key
    assert ensure(command, *sealed, "--identity", "-", stdin=str(identity)).out == key
    for wrong in ("nowhere", str(identity)):
        refused = ensure(command, *sealed, "--identity", wrong)
        assert (refused.code, refused.out) == (2, "")
        assert str(identity) not in refused.err


# --- what fails ---


def test_a_create_without_an_answer_is_in_doubt_and_settled_by_the_same_command(
    command: Command,
) -> None:
    command.emulator.faults.append(Fault("create", status=502, phase="after"))
    ran = command("ensure", "customer-42", *J, "--wait", "1", "--timeout", "1", "--json")
    assert (ran.code, ran.out) == (5, "")
    assert "ask again in " in ran.err
    lost = only(command).hash
    ensure_other(command)
    settled = ensure(command, "--json", "--timeout", "1", "--wait", "60")
    assert answer(settled)["data"]["hash"] != lost
    assert lost not in command.emulator.account.keys


@in_one_test(
    "words, told",
    [
        (("customer-42",), "--journal, a file or a URL, or set OPENROUTER_KEYS_JOURNAL"),
        (("customer-42", "--journal", ""), "the name is empty"),
        (("customer-42", "--journal", "mysql://u:canary@h/d"), "begins with postgresql://"),
        ((), "REF"),
        (("", *J), "REF"),
        (("a", *J, "--limit", "-1"), "--limit"),
        (("a", *J, "--name", ""), "name"),
        (("a", *J, "--expires-at", "2020-01-01T00:00:00Z"), "is over"),
        (("a", *J, "--on-change", "replace"), "--on-change"),
        (("a", *J, "--wait", "soon"), "--wait"),
        (("a", *J, "--recipient", "nobody"), "--recipient"),
        (("sk-or-v1-" + "5" * 64, *J), "is a secret"),
        (("a", *J, "--name", "sk-or-v1-" + "5" * 64), "is a secret"),
        (("a", *J, "--identity", "-", "--api-key-file", "-"), "standard input"),
        (("a", *J, "-o", "f", "--to-command", "cat"), "not both"),
    ],
)
def test_bad_input_is_refused_in_one_line_before_anything_is_sent(
    command: Command, words: tuple[str, ...], told: str
) -> None:
    ran = command("ensure", *words, "--json")
    assert (ran.code, ran.out, command.emulator.requests) == (2, "", [])
    assert told in ran.err
    assert "canary" not in ran.err
    assert ran.err.count("\n") == 1
    assert not (command.folder / "j").exists()


@pytest.mark.parametrize("status", [401, 403])
def test_a_key_that_may_not_is_an_authentication_failure(command: Command, status: int) -> None:
    command.emulator.faults.append(Fault("list", status=status, times=None))
    assert ensure(command, "--json").code == 4


@pytest.fixture
def known(command: Command) -> Command:
    """A journal with a ref in each state, of another process that is gone."""

    async def fill() -> None:
        async with Journal.open(command.folder / "j") as journal:
            for ref in (*State, "changed"):
                await journal.intend(spec(ref, name=ref, limit=5), AT)
            for ref in ("made", "settled", "changed", "releasing"):
                secret = f"sk-or-v1-{sha256(ref.encode()).hexdigest()}"
                hash = sha256(secret.encode()).hexdigest()
                await journal.keep(ref, secret=secret, hash=hash, settled=ref == "settled")
            await journal.doubt("doubt", "no answer")
            await journal.fail("failed", "400")
            await journal.release("releasing")

    asyncio.run(fill())
    return command


@pytest.mark.parametrize(
    ("ref", "told"),
    [
        ("new", "would create the key"),
        ("intent", "would settle a create that may have made the key"),
        ("doubt", "would settle a create that may have made the key"),
        ("failed", "would create the key, which was refused before"),
        ("releasing", "would delete the key that is being released, and create another"),
        ("made", "is there, as asked for"),
        ("settled", "is there, as asked for"),
        ("changed", "would update the key"),
    ],
)
def test_a_dry_run_says_what_would_be_done_and_does_nothing(
    known: Command, ref: str, told: str
) -> None:
    before = (known.folder / "j").read_bytes()
    limit = "6" if ref == "changed" else "5"
    ran = known("ensure", ref, "--limit", limit, *J, "--dry-run")
    assert (ran.code, known.emulator.requests) == (0, [])
    assert told in ran.err
    creates = ref not in ("made", "settled", "changed")
    assert ran.out == (f'{{"name": "{ref}", "limit": 5.0}}\n' if creates else "")
    assert (known.folder / "j").read_bytes() == before


# --- several processes ---


@pytest.mark.slow
def test_processes_that_ask_at_once_all_get_the_same_key(command: Command) -> None:
    command.emulator.faults.append(Fault("create", "slow", delay=1.0, phase="before"))
    words = ("ensure", "customer-42", *J, "--limit", "5", "--json", "--show-secret")
    processes = [command.process(*words) for _ in range(4)]
    answers = list[dict[str, Any]]()
    for process in processes:
        out, err = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, err
        answers.append(json.loads(out))
    assert len({each["key"] for each in answers}) == 1
    assert sorted(each["outcome"] for each in answers) == ["created", *["existing"] * 3]
    assert only(command).hash == answers[0]["data"]["hash"]


@pytest.mark.slow
@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_ensure_is_gone_on_with_by_the_same_command(
    command: Command, number: signal.Signals, times: int
) -> None:
    command.emulator.faults.append(Fault("create", "slow", delay=1.0, phase="after"))
    words = ("ensure", "customer-42", *J, "--json", "--show-secret")
    with command.process(*words) as process:
        until(lambda: command.emulator.count("create") == 1)
        process.send_signal(number)
        assert process.stderr is not None
        assert "waiting for what is under way to end" in process.stderr.readline()
        if times == 2:
            process.send_signal(number)
        out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out, err.count("\n")) == (128 + number, "", 1)
    assert "the same command goes on" in err
    if times == 1:  # the create has ended, and the journal has its secret
        hash = only(command).hash
        again = ensure(command, "--json", "--show-secret")
        assert answer(again)["data"]["hash"] == hash
        assert command.emulator.count("create") == 1


@pytest.mark.slow
def test_a_command_that_waits_says_so_at_a_terminal(command: Command) -> None:
    command.emulator.faults.append(Fault("create", "slow", delay=4.0))
    shown = command.at_a_terminal("ensure", "customer-42", *J)
    assert shown.code == 0
    assert "waiting for the service, or for another process with this journal" in shown.out


# --- release ---


def test_a_released_key_is_deleted_and_its_ref_may_have_another(command: Command) -> None:
    first = answer(ensure(command, "--json"))["data"]["hash"]
    ran = command("release", "customer-42", *QUICK, "--yes", "--json")
    assert answer(ran)["data"] == [
        {"ref": "customer-42", "name": "customer-42", "hash": first, "outcome": "released"}
    ]
    assert command.emulator.account.keys == {}
    second = answer(ensure(command, "--json"))
    assert (second["outcome"], second["data"]["hash"] != first) == ("created", True)


def test_what_is_not_known_is_said_and_needs_nothing(command: Command) -> None:
    ensure(command, "--json")
    words = ("nobody", "customer-42", "nobody", *QUICK, "--yes", "--jsonl")
    assert [(row["ref"], row["outcome"]) for row in lines(command, "release", *words)] == [
        ("nobody", "not in the journal"), ("customer-42", "released"),
    ]  # fmt: skip
    again = command("release", *words)
    assert again.code == 0
    assert again.out.count("not in the journal") == 2


def test_a_release_asks_and_deletes_nothing_without_an_answer(command: Command) -> None:
    ensure(command, "--json")
    ran = command("release", "customer-42", *QUICK)
    assert (ran.code, ran.out) == (2, "")
    assert "would delete 1 key for good ('customer-42'), and there is no terminal" in ran.err
    dry = command("release", "customer-42", "nobody", *QUICK, "--dry-run", "--jsonl")
    assert dry.out.count("would be released") == 1
    assert len(command.emulator.account.keys) == 1


@pytest.mark.slow
@pytest.mark.parametrize(("answered", "keys"), [("n", 1), ("y", 0)])
def test_a_release_asks_at_a_terminal(command: Command, answered: str, keys: int) -> None:
    ensure(command, "--json")
    shown = command.terminal("release", "customer-42", *QUICK)
    shown.expect(r"Delete 1 key for good \('customer-42'\)\? \[y/N\] ")
    shown.sendline(answered)
    assert shown.wait() == keys
    assert len(command.emulator.account.keys) == keys


@pytest.mark.parametrize(("refs", "code"), [(("customer-42",), 1), (("customer-42", "other"), 3)])
def test_a_key_that_cannot_be_deleted_is_said_and_the_others_are(
    command: Command, refs: tuple[str, ...], code: int
) -> None:
    for ref in refs:
        command("ensure", ref, *QUICK, "--json")
    command.emulator.faults.append(Fault("delete", status=400))
    ran = command("release", *refs, *QUICK, "--yes", "--jsonl")
    assert ran.code == code
    outcomes = [json.loads(line)["outcome"] for line in ran.out.splitlines()]
    assert sum(outcome != "released" for outcome in outcomes) == 1
    assert len(command.emulator.account.keys) == 1
    assert command("release", *refs, *QUICK, "--yes").code == 0
    assert command.emulator.account.keys == {}


def test_a_release_of_a_journal_that_is_not_there_makes_none(command: Command) -> None:
    ran = command("release", "customer-42", *QUICK, "--yes")
    assert (ran.code, ran.out) == (1, "")
    assert "is not there" in ran.err
    assert list(command.folder.iterdir()) == []
