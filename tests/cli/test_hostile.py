"""Texts that steer a terminal or forge a line: every output shows them as escapes."""

import io
import json
import logging
import re
import sys
from collections.abc import Generator
from typing import Final

import pytest

from openrouter_keys.__main__ import main
from openrouter_keys.cli.terminal.text import as_json, printable
from openrouter_keys.emulator import Fault
from openrouter_keys.errors import JSON
from tests.commands import Command, Ran
from tests.processes import ROOT
from tests.raw_server import answer, raw_server
from tests.tables import in_one_test

HOSTILE: Final = {
    "clears the screen": "\x1b[2J",
    "fills the clipboard": "\x1b]52;c;ZXZpbA==\x07",
    "C1": "\x9b31m\x9d0;title\x9c",
    "DEL and backspace": "\x7f\b\b",
    "next line": "\x85",
    "overrides": "\u202egpj.exe\u202c",
    "isolates": "\u2066x\u2069",
    "marks": "\u200e\u200f\u061c",
    "separators": "\u2028\u2029",
    "forges": "x\r\nopenrouter-keys: forged\n\x0b\x0c",
    "tags": "\U000e0041",
    "invisible": "\u200b\ufeff\u00ad",
}
ODD: Final = "".join(HOSTILE.values())
HASH: Final = "ab" * 32


class TerminalText(io.TextIOWrapper):
    """An output that says that it is a terminal."""

    def isatty(self) -> bool:
        """Say so."""
        return True


def harmless(ran: Ran) -> None:
    """Whatever was written is text, and every line of the command's is its own."""
    for text in (ran.out.replace("\t", ""), ran.err):
        for line in text.split("\n"):
            assert line.isprintable(), repr(line)
            assert not line.startswith("openrouter-keys: forged")


def at_terminal(
    command: Command, monkeypatch: pytest.MonkeyPatch, *words: str, **settings: str
) -> Ran:
    """Run it in this process, where both outputs say that they are a terminal."""
    given = {**command.settings, "TERM": "dumb", "COLUMNS": "400", **settings}
    written = [io.BytesIO(), io.BytesIO()]
    outputs = [TerminalText(each, encoding="utf-8", newline="") for each in written]
    with monkeypatch.context() as patch:
        for name, value in given.items():
            patch.setenv(name, value)
        patch.chdir(command.folder)
        patch.setattr(sys, "stdout", outputs[0])
        patch.setattr(sys, "stderr", outputs[1])
        code = main(words)
    out, err = (each.getvalue().decode() for each in written)
    return Ran(code, out, err)


@pytest.fixture(autouse=True)
def _no_handler_is_left() -> Generator[None]:
    log = logging.getLogger("openrouter_keys")
    handlers, level = [*log.handlers], log.level
    yield
    log.handlers, log.level = handlers, level
    log.setLevel(level)


# --- the two functions ---


@in_one_test("text", [*HOSTILE.values(), "\ud800", "\x00", ODD])
def test_no_hostile_text_is_left_as_it_is(text: str) -> None:
    assert printable(text).isprintable()
    assert as_json(text).isprintable()
    assert json.loads(as_json(text)) == text
    assert json.loads(as_json({text: [text]}, 2)) == {text: [text]}


@in_one_test(
    "character",
    "\u034f\u115f\u1160\u17b4\u17b5\u180b\u180e\u180f\u2800\u3164\ufe00\ufe0f\uffa0\u200b"
    "\u00ad\U000e0041\U000e0100\U000e01ef",
)
def test_a_character_that_nobody_sees_is_an_escape(character: str) -> None:
    assert character not in printable(f"a{character}b")
    assert character not in as_json(f"a{character}b")
    assert json.loads(as_json(f"a{character}b")) == f"a{character}b"


@in_one_test("text", ["❤️", "☎️ 24/7", "1️⃣", "#️⃣", "👍🏽", "👨‍👩‍👧", "🏳️‍🌈", "🏴‍☠️ 🇫🇷", "👩🏽‍🚀!"])
def test_an_emoji_is_shown_with_what_joins_and_colours_it(text: str) -> None:
    assert printable(text) == text
    assert json.loads(as_json(text)) == text


@in_one_test(
    "text",
    [
        *(
            "a\ufe0f",
            "\ufe0f",
            "❤\ufe0f\ufe0f",
            "1\ufe0f",
            "1\ufe0fa",
            "日\ufe0f",
            "❤\ufe0e",
            "😀\ufe01",
        ),
        *("a\u200db", "\u200d😀", "😀\u200d", "😀\u200da", "👨\u200d\u200d👧", "a\u200d😀"),
        *("❤\ufe0f\u202e", "😀\u200d\n", "😀\U000e0067\U000e007f", "👨\u200d\u2066👧"),
    ],
)
def test_what_joins_or_selects_nothing_is_an_escape(text: str) -> None:
    assert printable(text) != text
    assert "\\" in printable(text)


@pytest.mark.parametrize("text", ["Møller — 日本 😀", "C:\\temp", '"', "a b", ""])
def test_ordinary_texts_are_as_they_are(text: str) -> None:
    assert printable(text) == text
    assert as_json([text]) == json.dumps([text], ensure_ascii=False)


def test_messages_go_through_one_function() -> None:
    files = [*(ROOT / "openrouter_keys" / "cli").rglob("*.py")]
    assert {file.name for file in files if "stderr.write(" in file.read_text()} == {"messages.py"}
    # Those that write a text as it is have escaped it, or wrote it themselves.
    raw = re.compile(r"messages import .*\bwrite\b")
    writing = {file.name for file in files if raw.search(file.read_text())}
    assert writing == {"app.py", "prompts.py", "create.py", "sources.py", "interrupts.py"}
    dumping = {file.name for file in files if "ensure_ascii" in file.read_text()}
    assert dumping == {"text.py", "output.py"}


# --- what a service answers ---

RECORD: Final[dict[str, JSON]] = {
    "hash": HASH,
    "name": ODD,
    "label": ODD,
    "disabled": False,
    "limit": 5,
    "limit_remaining": 4,
    "limit_reset": ODD,
    "include_byok_in_limit": False,
    "usage": 1,
    "usage_daily": 1,
    "usage_weekly": 1,
    "usage_monthly": 1,
    "byok_usage": 0,
    "byok_usage_daily": 0,
    "byok_usage_weekly": 0,
    "byok_usage_monthly": 0,
    "created_at": "2026-01-01T00:00:00Z",
    "updated_at": None,
    "expires_at": None,
    "creator_user_id": ODD,
    "workspace_id": ODD,
    ODD: {ODD: ODD},
}
CURRENT: Final[dict[str, JSON]] = {
    **RECORD,
    "is_free_tier": False,
    "is_management_key": True,
    "is_provisioning_key": True,
    "rate_limit": {"requests": 1, "interval": ODD, "note": ODD},
}


def served(request: bytes) -> bytes:
    """Keys with hostile texts in each field, and in the names of fields."""
    path = request.split(b" ")[1]
    if b"/keys?" in path or path.endswith(b"/keys"):
        first = b"offset=" not in path or b"offset=0" in path
        return answer({"data": [{**RECORD, "hash": HASH[:60] + "\x1b[2J"}] if first else []})
    return answer({"data": CURRENT if path.endswith(b"/key") else RECORD, ODD: ODD})


FORMATS: Final = ((), ("--json",), ("--jsonl",), ("--csv",))
READING: Final = (("list",), ("get", HASH), ("current",), ("usage",))


@pytest.mark.parametrize("terminal", [True, False], ids=["terminal", "pipe"])
@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("words", READING, ids=lambda words: str(words[0]))
def test_no_record_steers_a_terminal(
    command: Command,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    format: tuple[str, ...],
    terminal: bool,
) -> None:
    with raw_server(served) as server:
        url = {"OPENROUTER_BASE_URL": server.base_url}
        if terminal:
            ran = at_terminal(command, monkeypatch, *words, *format, **url)
        else:
            ran = command(*words, *format, **url)
    assert ran.code == 0, ran.err
    if terminal or format != ("--csv",):
        harmless(ran)
    if format in (("--json",), ("--jsonl",)):
        assert ODD in _texts(json.loads(ran.out))


def _texts(value: JSON) -> set[str]:
    if isinstance(value, str):
        return {value}
    if isinstance(value, dict):
        return {*value}.union(*map(_texts, value.values()))
    return set[str]().union(*map(_texts, value)) if isinstance(value, list) else set()


def failing(request: bytes) -> bytes:
    """An error whose message and headers are hostile."""
    error: JSON = {"error": {"code": 400, "message": ODD, "metadata": {ODD: ODD}}}
    return answer(error, "X-Request-Id: \x9b31m\x9d\x7f", status="400 \x9b31m\x85")


@pytest.mark.parametrize("debug", ["", "1"], ids=["", "debug"])
@pytest.mark.parametrize("terminal", [True, False], ids=["terminal", "pipe"])
@pytest.mark.parametrize(
    "words",
    [
        ("list",),
        ("get", HASH, "--json"),
        ("find", "--file", "secret"),
        ("delete", HASH, "--yes"),
        ("create", ODD, "--show-secret"),
        ("update", HASH, "--limit", "3"),
        ("rotate", HASH, "--journal", "j"),
        ("provision", "odd.jsonl", "--journal", "j"),
        ("provision", "odd.jsonl", "--journal", "j", "--plan"),
    ],
    ids=lambda words: " ".join(words).replace(ODD, "").replace(HASH, ""),
)
def test_no_error_steers_a_terminal(
    command: Command,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    terminal: bool,
    debug: str,
) -> None:
    (command.folder / "secret").write_text("sk-or-v1-" + "0" * 64)
    (command.folder / "odd.jsonl").write_text(json.dumps({"name": ODD}))
    with raw_server(failing) as server:
        settings = {"OPENROUTER_BASE_URL": server.base_url, "OPENROUTER_DEBUG": debug}
        if terminal:
            monkeypatch.setattr(sys, "stdin", io.StringIO())
            ran = at_terminal(command, monkeypatch, *words, **settings)
        else:
            ran = command(*words, **settings)
    assert ran.code != 0
    assert ("Traceback" in ran.err) <= bool(debug)
    harmless(ran)


# --- what the command does with names of its user's customers ---

RUNS: Final = (
    ("create", ODD),
    ("create", ODD, "--dry-run"),
    ("create", ODD, "-o", "a.env"),
    ("create", ODD, "--to-command", "false"),
    ("update", "{hash}", "--name", ODD, "--json"),
    ("update", "{hash}", "--name", ODD, "--dry-run"),
    ("delete", "{hash}"),
    ("delete", "{hash}", "--yes"),
    ("delete", "{hash}", "--dry-run", "--csv"),
    ("rotate", "{hash}", "--dry-run"),
    ("rotate", "{hash}", "--journal", "j"),
    ("rotate", "{hash}", "--journal", "j", "--show-secret", "--yes"),
    ("usage", "--fail-near", "--near", "1"),
    ("usage", "--html", "-"),
    ("provision", "odd.jsonl", "--plan"),
    ("provision", "odd.jsonl", "--plan", "--csv"),
    ("provision", "odd.jsonl", "--yes"),
    ("provision", "odd.jsonl", "--yes", "--jsonl", "--show-secret"),
    ("provision", "odd.jsonl", "--yes", "--to-command", "false"),
    ("provision", ODD),
    ("journal", "status", ODD),
    ("list", "--columns", ODD),
    (ODD,),
)


@pytest.mark.parametrize(
    "words", RUNS, ids=lambda words: " ".join(words).replace(ODD, "ODD").replace("{hash}", "")
)
def test_no_name_steers_a_terminal(
    command: Command, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("n\n"))
    key = command.emulator.account.create({"name": ODD, "limit": 5})
    (command.folder / "odd.jsonl").write_text(
        "\n".join(json.dumps({"ref": f"{ODD}{n}", "name": f"{ODD}{n}"}) for n in range(3))
    )
    harmless(at_terminal(command, monkeypatch, *(word.format(hash=key.hash) for word in words)))


@pytest.mark.slow
def test_no_journal_steers_a_terminal(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    (command.folder / "odd.jsonl").write_text(json.dumps({"ref": ODD, "name": ODD}))
    assert command("provision", "odd.jsonl", "--journal", "j").code == 0
    harmless(at_terminal(command, monkeypatch, "journal", "status", "j"))
    harmless(at_terminal(command, monkeypatch, "journal", "status", "j", "--json"))


def test_no_refused_name_steers_a_terminal(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    command.emulator.faults.append(Fault("create", status=400))
    (command.folder / "odd.jsonl").write_text(json.dumps({"ref": ODD, "name": ODD}))
    ran = at_terminal(command, monkeypatch, "provision", "odd.jsonl", "--yes")
    assert ran.code == 3
    harmless(ran)
