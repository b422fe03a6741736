"""A key is given by its hash, by its first characters, or by its name: never by a guess."""

import json
from pathlib import Path
from typing import Any

import pytest

from openrouter_keys import AsyncOpenRouter
from openrouter_keys.emulator import Emulator, StoredKey
from openrouter_keys.emulator.stored import Workspace
from openrouter_keys.errors import InvalidArgumentError
from tests.commands import Command

ELSEWHERE = "e2e2e2e2-0000-4000-8000-000000000002"


def key(command: Command, name: str, hash: str | None = None, **given: Any) -> StoredKey:
    return command.emulator.account.add(name, hash=hash, **given)


COMMANDS = {
    "get": ("get", "customer 42", "--json"),
    "update": ("update", "customer 42", "--limit", "7", "--json"),
    "delete": ("delete", "customer 42", "--yes", "--json"),
    "rotate": ("rotate", "customer 42", "--journal", "j", "--yes", "--quiet"),
    "rotate, to look": ("rotate", "customer 42", "--journal", "j", "-n", "--json"),
    "adopt": ("adopt", "customer 42", "r", "--journal", "j", "--json"),
}


@pytest.mark.parametrize("case", COMMANDS)
def test_each_command_takes_a_name(command: Command, case: str) -> None:
    meant, other = key(command, "customer 42", limit=5), key(command, "customer 4")
    ran = command(*COMMANDS[case])
    assert ran.code == 0
    touched = {request.path.rpartition("/")[2] for request in command.emulator.requests}
    assert (meant.hash in touched, other.hash in touched) == (True, False)


@pytest.mark.parametrize("case", COMMANDS)
def test_two_keys_of_a_name_are_told_with_their_hashes(command: Command, case: str) -> None:
    keys = [key(command, "customer 42"), key(command, "customer 42", disabled=True)]
    ran = command(*COMMANDS[case])
    assert (ran.code, ran.out) == (1, "")
    told = ran.err.splitlines()
    assert "2 keys have the name 'customer 42': give the hash of one" in told[0]
    assert {line.split()[1] for line in told[1:]} == {each.hash for each in keys}
    assert sum(", disabled" in line for line in told) == 1
    assert {request.operation for request in command.emulator.requests} == {"list"}


GIVEN: dict[str, tuple[str, str]] = {
    "a part of the name": ("custom", "no key has the name 'custom'"),
    "other case": ("Customer-7", "there is 'customer-7'"),
    "spaces around it": (" customer-7 ", "there is 'customer-7'"),
    "a key elsewhere": ("away", "of another workspace, give the whole hash"),
    "a key elsewhere, where to look": ("away", "`list --all --workspace-id UUID` shows it"),
    "a short hash": ("abc12", "no key has the name 'abc12'"),
    "no hash of any key": ("abcdef012", "no key's hash begins with abcdef012"),
    "a hash in capitals": ("ABCDEF012", "no key has the name 'ABCDEF012'"),
    "a name that another hash begins with": ("facade", "give more of a hash"),
    "nothing": ("", "is empty"),
    "white space": ("  ", "is empty"),
    "no option": ("--everything", "--everything"),
    "a glob": ("customer-*", "no key has the name 'customer-*': for a pattern, give --name"),
    "all": ("*", "for a pattern, give --name"),
    "a path": ("../credits", "no key has the name '../credits'"),
}


@pytest.mark.parametrize("case", GIVEN)
def test_what_is_no_key_is_told(command: Command, case: str) -> None:
    command.emulator.account.workspaces[ELSEWHERE] = Workspace(ELSEWHERE)
    key(command, "customer-7")
    key(command, "away", workspace_id=ELSEWHERE)
    key(command, "facade")
    key(command, "another", hash="facade" + "1" * 58)
    given, message = GIVEN[case]
    ran = command("get", given)
    assert (ran.code in (1, 2), ran.out) == (True, "")
    assert message in ran.err
    assert {request.operation for request in command.emulator.requests} <= {"list"}


def test_a_name_may_look_like_a_hash(command: Command) -> None:
    meant = key(command, "decade")
    assert json.loads(command("get", "decade", "--json").out)["data"]["hash"] == meant.hash


def test_a_key_that_is_being_rotated_has_its_name(command: Command) -> None:
    """The replacement has the same name; the journal knows which is which."""
    old = key(command, "customer-42")
    words = ("rotate", "customer-42", "--journal", "j", "--yes")
    assert [command(*words).code, command(*words).code] == [0, 0]
    assert len(command.emulator.account.keys) == 2
    assert command("rotate", "--finish", "--journal", "j", "--yes").code == 0
    assert old.hash not in command.emulator.account.keys
    assert command("get", "customer-42").code == 0


LISTS: dict[str, tuple[str, list[str] | str]] = {
    "names": ("one\n\ntwo three\n", ["one", "two three"]),
    "with a header": ("Name\none\r\ntwo three\r\n", ["one", "two three"]),
    "a mark at the beginning": ("\ufeffone\n", ["one"]),
    "hashes": ("{one}\n{two}\n", ["one", "two three"]),
    "what a table shows": ("HASH      NAME\n{one:.8}  one  none\n", ["one"]),
    "CSV by name": ('limit,name\n5,"two three"\n,one\n', ["two three", "one"]),
    "CSV by hash, before the name": ("name,hash\nx,{one}\ny,{two}\n", ["one", "two three"]),
    "CSV without a header": ("{one},x\n{two:.12},y\n", ["one", "two three"]),
    "tabs": ("hash\tname\n{one}\tx\n", ["one"]),
    "ragged rows": ("name,hash\nx\ny,{two}\n,\n", ["two three"]),
    "CSV that says not what": ("Doe, John\none, x\n", "no header says what it is"),
    "CSV that is none": ('a,"b\n', "not readable as CSV"),
    "one that is missing": ("one\nnobody\n", "no key has the name 'nobody'"),
}


@pytest.mark.parametrize("case", LISTS)
def test_a_list_of_keys_is_read_as_it_comes(command: Command, case: str) -> None:
    one, two = key(command, "one"), key(command, "two three")
    text, expected = LISTS[case]
    ran = command("delete", "-", "--yes", "--json", stdin=text.format(one=one.hash, two=two.hash))
    if isinstance(expected, str):
        assert (ran.code in (1, 2), len(command.emulator.account.keys)) == (True, 2)
        assert expected in ran.err
        return
    assert [row["name"] for row in json.loads(ran.out)["data"]] == expected


def test_what_list_prints_can_be_deleted(command: Command, tmp_path: Path) -> None:
    for name in ("one", "two, three", "tab\tnew\nline"):
        key(command, name)
    for words in (["--csv"], [], ["--columns", "name,hash"], ["--csv", "--columns", "usage,hash"]):
        printed = command("list", *words).out
        ran = command("delete", "-", "-n", "--json", stdin=printed)
        assert (ran.code, len(json.loads(ran.out)["data"])) == (0, 3), words


# --- in the library ---


async def test_the_library_finds_keys_by_their_name(emulator: Emulator) -> None:
    account = emulator.account
    account.workspaces[ELSEWHERE] = Workspace(ELSEWHERE)
    found = [account.add("one"), account.add("one", disabled=True)]
    account.add("One")
    away = account.add("one", workspace_id=ELSEWHERE)
    async with AsyncOpenRouter(emulator.api_key, server_url=emulator.base_url) as client:
        keys = await client.api_keys.find("one")
        assert {each.hash for each in keys} == {each.hash for each in found}
        keys = await client.api_keys.find("one", workspace_id=ELSEWHERE, timeout_ms=9_000)
        assert [each.hash for each in keys] == [away.hash]
        assert not await client.api_keys.find("nobody")
        with pytest.raises(InvalidArgumentError):
            await client.api_keys.find("")
