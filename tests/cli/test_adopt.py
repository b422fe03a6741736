"""The command `adopt`: one key by its hash, or those that have a file's names."""

import json
from typing import Any

import pytest

from openrouter_keys.emulator import StoredKey
from tests.commands import Command, Ran


def stray(command: Command, name: str, **given: Any) -> StoredKey:
    return command.emulator.account.add(name, **given)


def rows(ran: Ran) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(ran.out)["data"]
    return found


def test_a_key_is_adopted_and_goes_on_as_any_other(command: Command) -> None:
    key = stray(command, "trial", limit=5)
    ran = command("adopt", key.hash[:10], "customer-42", "--journal", "j")
    assert (ran.code, ran.out.splitlines()[1].split("\t")) == (
        0, ["customer-42", "trial", key.hash, "adopted"],
    )  # fmt: skip
    again = command("adopt", key.hash, "customer-42", "--journal", "j", "--json")
    assert rows(again)[0]["outcome"] == "known before"
    words = ("--name", "trial", "--journal", "j")
    ran = command("ensure", "customer-42", *words, "--limit", "6", "--json")
    assert (ran.code, json.loads(ran.out)["outcome"], key.limit) == (0, "updated", 6)
    status = json.loads(command("journal", "status", "j", "--json").out)
    assert (status["keys"]["settled"], status["purgeable"]) == (1, 0)
    ran = command("ensure", "customer-42", *words, "--limit", "6", "--show-secret")
    assert (ran.code, "the key was adopted" in ran.err) == (1, True)
    ran = command("journal", "export", "j", "--show-secret")
    assert "1 adopted, not stored, or purged" in ran.err
    assert command("rotate", key.hash, "--journal", "j", "--yes").code == 0
    ran = command("ensure", "customer-42", *words, "--limit", "6", "--show-secret")
    assert ran.out.strip() in {each.secret for each in command.emulator.account.keys.values()}
    assert command("release", "customer-42", "--journal", "j", "--yes").code == 0
    assert not command.emulator.account.keys


FILE = "ref,name,limit\n1,one,5\n2,two,\n3,three,\n4,four,\n"


def test_the_keys_of_a_files_names_are_adopted(command: Command) -> None:
    one, known = stray(command, "one", limit=5), stray(command, "four")
    twins = [stray(command, "two"), stray(command, "two", disabled=True)]
    (command.folder / "c.csv").write_text(FILE)
    assert command("adopt", known.hash, "4", "--journal", "c.csv.journal").code == 0
    looked = command("adopt", "--file", "c.csv", "--dry-run", "--json")
    ran = command("adopt", "--file", "c.csv", "--json")
    assert (looked.code, ran.code) == (3, 3)
    found = {row["ref"]: (row["outcome"], row["hash"]) for row in rows(ran)}
    assert found["1"] == ("adopted", one.hash)
    assert found["2"][0] == "2 keys have the name 'two': adopt one of them by its hash"
    assert {*str(found["2"][1]).split()} == {key.hash for key in twins}
    assert (found["3"], found["4"]) == (("no key has this name", None), ("known before", None))
    assert rows(looked)[0]["outcome"] == "would be adopted"
    assert all(key.hash in ran.err for key in twins)
    assert (
        "adopted 1 key of 4; 1 known before; 1 without a key: `provision` creates them; 1 refused"
        in ran.err
    )


def test_to_look_makes_no_journal(command: Command) -> None:
    stray(command, "one")
    ran = command(
        "adopt", "--file", "-", "--format", "csv", "-n", "--journal", "j", stdin="name\none\n"
    )
    assert (ran.code, "would adopt 1 key of 1" in ran.err) == (0, True)
    assert not [*command.folder.glob("j*")]
    ran = command(
        "adopt", "--file", "-", "--format", "csv", "--journal", "j", "--csv", stdin="name\none\n"
    )
    assert (ran.code, ran.out.splitlines()[1].split(",")[0]) == (0, "one")


MISTAKES: dict[str, tuple[list[str], str]] = {
    "nothing": ([], "give HASH and REF, or --file FILE"),
    "no ref": (["abcdef"], "give HASH and REF"),
    "both": (["abcdef", "r", "--file", "c.csv"], "not both"),
    "a format for one": (["abcdef", "r", "--format", "csv"], "goes with --file"),
    "a look without a journal": (["abcdef", "r", "-n"], "give --journal"),
    "no journal": (["abcdef", "r"], "give --journal"),
    "standard input without a journal": (["--file", "-"], "give --journal FILE"),
    "a file that is none": (["--file", "none.csv"], "none.csv"),
    "a secret": (["sk-or-v1-" + "ab" * 32, "r", "--journal", "j"], "replace the leaked key"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_one_line_that_helps(command: Command, case: str) -> None:
    words, message = MISTAKES[case]
    ran = command("adopt", *words)
    assert (ran.code, ran.out, len(ran.err.splitlines())) == (2, "", 1)
    assert message in ran.err
    assert not command.emulator.requests


def test_to_look_at_one_changes_nothing(command: Command) -> None:
    """What would come of it, with its exit code: of a new key, a known one, another ref's."""
    key, known = stray(command, "one"), stray(command, "two")
    ran = command("adopt", key.hash, "a", "--journal", "j", "--dry-run", "--json")
    assert (ran.code, rows(ran)[0]["outcome"]) == (0, "would be adopted")
    assert not [*command.folder.glob("j*")]
    assert command("adopt", known.hash, "b", "--journal", "j").code == 0
    for hash, ref, code, word in (
        (key.hash, "a", 0, "would be adopted"),
        (known.hash, "b", 0, "known before"),
        (known.hash, "c", 1, "it is the key of the ref 'b'"),
        (key.hash, "b", 1, f"has the key {known.hash}"),
    ):
        ran = command("adopt", hash, ref, "--journal", "j", "-n")
        assert (ran.code, word in ran.out + ran.err) == (code, True), ran
    status = json.loads(command("journal", "status", "j", "--json").out)
    assert status["keys"]["settled"] == 1


def test_a_key_of_another_ref_is_refused(command: Command) -> None:
    key = stray(command, "one")
    assert command("adopt", key.hash, "a", "--journal", "j").code == 0
    ran = command("adopt", key.hash, "b", "--journal", "j")
    assert (ran.code, "it is the key of the ref 'a'" in ran.err) == (1, True)
