"""The command, and records that repeat secrets, or have what no program's environment can hold."""

import json
import os
from collections.abc import Callable
from typing import Final

import pytest

from openrouter_keys._base.masking import hash_of
from openrouter_keys.cli.secrets.formats import Handed
from openrouter_keys.cli.secrets.sinks import ProgramSink
from openrouter_keys.errors import JSON
from tests.commands import Command
from tests.raw_server import answer, raw_server
from tests.records import HASH, SECRET, current_json, key_json
from tests.tables import in_one_test

EARLIER = "sk-or-v1-" + "0d" * 32
FORMATS: Final = ((), ("--json",), ("--jsonl",), ("--csv",))
DELETED: Final = "was deleted again"


def serving(record: dict[str, JSON]) -> Callable[[bytes], bytes]:
    """A service whose every record is this one."""

    def respond(request: bytes) -> bytes:
        method, path = request.split(b" ")[:2]
        if method == b"POST":
            return answer({"data": record, "key": SECRET}, status="201 Created")
        if method == b"DELETE":
            return answer({"deleted": True})
        if path.endswith(b"/key"):
            return answer({"data": current_json() | record})
        rows: list[JSON] = [record] if b"offset" not in path or b"offset=0" in path else []
        return answer({"data": record if b"/keys/" in path else rows})

    return respond


COMMANDS: Final = (
    ("create", "a", "--secret-file", "s.env"),
    ("create", "a", "--to-command", "true"),
    ("list",),
    ("get", HASH),
    ("current",),
    ("usage",),
    ("update", HASH, "--limit", "5"),
    ("update", HASH, "--limit", "5", "--dry-run"),
    ("rotate", HASH, "--dry-run"),
    ("usage", "--html", "page.html"),
)
REPEATED: Final[dict[str, JSON]] = {
    "name": f"customer-42 {EARLIER}",
    "label": SECRET,
    "creator_user_id": f"by {EARLIER}",
    "example": f"curl -H 'Authorization: Bearer {SECRET}' {EARLIER}",
    "others": [{EARLIER: {"key": SECRET}}],
}


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: "-".join(words[:3]))
def test_no_record_puts_a_secret_into_a_pipe(words: tuple[str, ...], command: Command) -> None:
    record = key_json(**REPEATED, limit=5)
    columns = ("--columns", "name,label,creator_user_id") if words == ("list",) else ()
    with raw_server(serving(record)) as server:
        for format in FORMATS:
            if format and "--html" in words:
                continue
            ran = command(*words, *format, *columns, OPENROUTER_BASE_URL=server.base_url)
            page = command.folder / "page.html"
            shown = ran.out + ran.err + (page.read_text() if page.exists() else "")
            assert (ran.code, ("customer-42" in shown) or words[-1] == "--dry-run") == (0, True)
            for secret in (SECRET, EARLIER):
                assert secret not in shown, format
            (command.folder / "s.env").unlink(missing_ok=True)


def test_a_secret_that_is_asked_for_is_printed_once(command: Command) -> None:
    record = key_json(**REPEATED)
    for format in FORMATS:
        with raw_server(serving(record)) as server:
            words = ("create", "a", "--show-secret", *format)
            ran = command(*words, OPENROUTER_BASE_URL=server.base_url)
        assert (ran.code, ran.out.count(SECRET), EARLIER in ran.out) == (0, 1, False), format


NAMES: Final = {
    "half a pair": "n\ud800",
    "half a pair that stands for a byte": "n\udcff",
    "NUL": "n\0m",
    "another script": "\u65e5\u672c",
    "nothing": "",
}


@in_one_test("name", NAMES.values(), ids=NAMES)
def test_a_key_of_any_name_is_handed_over(name: str, command: Command) -> None:
    for number, to in enumerate(("s.env", "s.csv", "s.jsonl", "s.raw", "")):
        script = 'read key && test ${#key} = 73 && test "${OPENROUTER_KEY_NAME+told}" = told'
        file = f"{len(os.listdir(command.folder))}-{number}{to}"
        where = ("--secret-file", file) if to else ("--to-command", f"sh -c '{script}'")
        with raw_server(serving(key_json(name=name))) as server:
            ran = command("create", "a", *where, OPENROUTER_BASE_URL=server.base_url)
        assert (ran.code, server.requests[1:]) == (0, []), (to, ran.err)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
async def test_a_program_is_told_a_name_in_any_encoding(
    encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.getfilesystemencoding", lambda: encoding)
    handed = Handed(ref="\ud800", name="\u65e5\ud800\0", hash=HASH, key=SECRET)
    await ProgramSink.of("sh -c 'test -n \"$OPENROUTER_KEY_NAME\"'").take(handed)


@pytest.mark.parametrize("raised", [ValueError, UnicodeError, LookupError, MemoryError])
def test_whatever_fails_on_the_way_the_key_is_deleted_again(
    raised: type[Exception], command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: object) -> dict[str, str]:
        raise raised(SECRET)

    monkeypatch.setattr("openrouter_keys.cli.secrets.sinks.environment", broken)
    ran = command("create", "a", "--to-command", "true")
    assert (ran.code, command.emulator.account.keys) == (1, {})
    assert DELETED in ran.err
    assert raised.__name__ in ran.err
    assert SECRET not in ran.err


def test_a_secret_that_no_text_can_hold_is_that_of_no_key(command: Command) -> None:
    odd = "sk-or-v1-\ud800" + "5" * 40
    record = key_json(hash=hash_of(odd), name="a")
    told = json.dumps({"data": record, "key": odd}).encode()

    def respond(request: bytes) -> bytes:
        return answer({"deleted": True} if request.startswith(b"DELETE") else told)

    for where in (("--to-command", "true"), ("--secret-file", "s.csv"), ("--secret-file", "s.env")):
        with raw_server(respond) as server:
            ran = command("create", "a", *where, OPENROUTER_BASE_URL=server.base_url)
        assert ran.code == 1
        assert DELETED in ran.err
    with raw_server(respond) as server:
        words = ("create", "a", "--secret-file", "s.jsonl")
        assert command(*words, OPENROUTER_BASE_URL=server.base_url).code == 0
    assert json.loads((command.folder / "s.jsonl").read_text())["key"] == odd
