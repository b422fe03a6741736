"""At a terminal of any width, and whatever `COLUMNS` says, all of a key is shown."""

import re
from hashlib import sha256

import pytest

from openrouter_keys.cli.terminal import streams
from openrouter_keys.cli.terminal.tables import console
from tests.commands import Command
from tests.tables import in_one_test

ODD = ("0", "1", "00", "23", "9" * 9, "9" * 50, "²", "٣", "1000")
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


@in_one_test(
    "given, terminal, width",
    [
        *[(given, 100, 100) for given in ODD],
        *[(given, 1, 24) for given in ODD],
        ("0", 5_000, 1_000),
        ("24", 1, 24),
        ("999", 1, 999),
        ("-1", 100, 100),
        ("x", 100, 100),
        ("", 100, 100),
        ("", 1, 24),
        ("", 23, 24),
    ],
)
def test_a_line_is_as_wide_as_can_be_read(
    monkeypatch: pytest.MonkeyPatch, given: str, terminal: int, width: int
) -> None:
    monkeypatch.setenv("COLUMNS", given)
    monkeypatch.setattr(streams, "_of_terminal", lambda: (terminal, 25))
    better = streams.better_size()
    found = (int(given) if given.isdecimal() else terminal) if better is None else better.columns
    assert found == width
    assert better is None or console().width == width


@in_one_test("columns", ODD)
@in_one_test("words", [("--help",), ("create", "--help"), ("journal",), ("--version",), ()])
def test_help_is_shown_whatever_columns_says(
    command: Command, words: tuple[str, ...], columns: str
) -> None:
    ran = command(*words, COLUMNS=columns)
    assert (ran.code, ran.err) == (0, "")
    assert "openrouter-keys" in ran.out


@pytest.mark.slow
@pytest.mark.parametrize(
    ("width", "settings"),
    [
        (100, {"COLUMNS": "0"}),
        (100, {"COLUMNS": "1"}),
        (100, {"COLUMNS": "9" * 9}),
        (0, {}),
        (1, {}),
        (1, {"COLUMNS": "0"}),
    ],
)
def test_a_new_keys_secret_is_shown_at_any_width(
    command: Command, width: int, settings: dict[str, str]
) -> None:
    ran = command.at_a_terminal("create", "customer-42", columns=width, **settings)
    assert ran.code == 0
    (key,) = command.emulator.account.keys.values()
    (secret,) = re.findall(r"sk-or-v1-[0-9a-f]{64}", ran.out)
    assert sha256(secret.encode()).hexdigest() == key.hash
    assert key.hash in ran.out
    listed = ESCAPE.sub("", command.at_a_terminal("list", columns=width, **settings).out)
    assert "customer-42" in listed
    assert key.hash[:8] in listed
