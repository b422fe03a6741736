"""`create --recipient`: the secret is encrypted wherever it goes."""

import json
from importlib import import_module
from typing import Any

import pytest

from tests.commands import Command, Ran

Identity = Any


@pytest.fixture
def identity() -> Identity:
    return import_module("pyrage").x25519.Identity.generate()


def create(command: Command, identity: Identity, *words: str) -> Ran:
    return command("create", "one", "--recipient", str(identity.to_public()), *words)


def opened(identity: Identity, text: str) -> str:
    found: bytes = import_module("pyrage").decrypt(text.encode(), [identity])
    return found.decode()


def secret(command: Command) -> str:
    (key,) = command.emulator.account.keys.values()
    assert key.secret is not None
    return key.secret


WAYS: dict[str, tuple[tuple[str, ...], str]] = {
    "a pipe": ((), ""),
    "a pipe, in so many words": (("--show-secret",), ""),
    "a file": (("--secret-file", "one.age"), "one.age"),
    "a file of another name": (("-o", "secret"), "secret"),
    "a program": (("--to-command", "tee taken"), "taken"),
}


@pytest.mark.parametrize("way", WAYS)
def test_only_the_identity_opens_it(command: Command, identity: Identity, way: str) -> None:
    words, file = WAYS[way]
    ran = create(command, identity, *words)
    text = (command.folder / file).read_text() if file else ran.out
    assert (ran.code, opened(identity, text)) == (0, secret(command))
    assert text.endswith("-----END AGE ENCRYPTED FILE-----\n")
    assert secret(command) not in ran.out + ran.err + text
    with pytest.raises(Exception, match=r"(?i)match"):
        opened(import_module("pyrage").x25519.Identity.generate(), text)


@pytest.mark.parametrize("format", ["--json", "--jsonl", "--csv"])
def test_programs_get_it_encrypted_too(command: Command, identity: Identity, format: str) -> None:
    ran = create(command, identity, format, "--show-secret")
    assert (ran.code, secret(command) in ran.out) == (0, False)
    if format == "--json":
        assert opened(identity, json.loads(ran.out)["key"]) == secret(command)
    assert "BEGIN AGE ENCRYPTED FILE" in ran.out


@pytest.mark.slow
def test_a_terminal_shows_it_below_the_record(command: Command, identity: Identity) -> None:
    words = ("create", "one", "--recipient", str(identity.to_public()))
    shown = command.at_a_terminal(*words).out.replace("\r\n", "\n")
    begins = shown.index("-----BEGIN AGE")
    ends = shown.index("-----END AGE ENCRYPTED FILE-----") + 33
    assert opened(identity, shown[begins:ends]) == secret(command)
    assert "one" in shown[:begins]


MISTAKES = {
    "no recipient": (("age1nobody",), "--recipient: must be an age recipient"),
    "none": (("",), "--recipient"),
    "a .env file": (("age1", "-o", "one.env"), "does not fit into a .env file"),
    "the format of one": (("age1", "-o", "x", "--secret-format", "env"), "does not fit"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_refused_before_anything_is_sent(
    command: Command, identity: Identity, case: str
) -> None:
    (given, *words), message = MISTAKES[case]
    recipient = str(identity.to_public()) if given == "age1" else given
    ran = command("create", "one", "--recipient", recipient, *words)
    assert (ran.code, ran.out, command.emulator.requests) == (2, "", [])
    assert message in ran.err
    assert not [*command.folder.iterdir()]


def test_a_secret_that_nobody_took_is_deleted_as_ever(command: Command, identity: Identity) -> None:
    ran = create(command, identity, "--to-command", "false")
    assert (ran.code, "was deleted again" in ran.err) == (1, True)
    assert not command.emulator.account.keys
