"""What a service says cannot steer a terminal, forge a line of a log, or show a secret."""

import json
import logging

import pytest

from openrouter_keys import errors
from openrouter_keys._base.masking import escaped
from tests.clients import FakeTime, api_keys
from tests.promises.test_matrix import OPERATIONS
from tests.raw_server import answer, raw_server
from tests.records import SECRET, key_json

HOSTILE: dict[str, tuple[str, str]] = {
    "a new line": ("a\nWARNING b", r"a\nWARNING b"),
    "a carriage return": ("a\rb", r"a\rb"),
    "a terminal's escape": ("\x1b[2J", r"\x1b[2J"),
    "OSC 52": ("\x1b]52;c;YQ==\x07", r"\x1b]52;c;YQ==\x07"),
    "C1's CSI": ("\x9b31m", r"\x9b31m"),
    "C1's next line": ("a\x85b", r"a\x85b"),
    "DEL": ("a\x7fb", r"a\x7fb"),
    "NUL": ("a\x00b", r"a\x00b"),
    "right to left": ("\u202egpj.exe", r"\u202egpj.exe"),
    "an isolate": ("\u2067a\u2069", r"\u2067a\u2069"),
    "a mark of direction": ("a\u200f\u061c", r"a\u200f\u061c"),
    "a separator of lines": ("a\u2028b\u2029", r"a\u2028b\u2029"),
    "half a surrogate pair": ("a\ud800", r"a\ud800"),
    "nothing of the kind": ("Schlüssel 中 \U0001f511 \\n", "Schlüssel 中 \U0001f511 \\n"),
}


@pytest.mark.parametrize(("text", "shown"), HOSTILE.values(), ids=HOSTILE)
async def test_what_a_service_says_is_shown_escaped(text: str, shown: str) -> None:
    assert escaped(text) == shown
    body = json.dumps({"error": {"message": text}}).encode()
    with raw_server(lambda _: answer(body, status="400 No")) as server:
        async with api_keys(server.base_url, "key", FakeTime()) as keys:
            with pytest.raises(errors.BadRequestResponseError) as raised:
                await keys.list()
    assert raised.value.message == shown
    assert shown in str(raised.value)
    assert json.loads(raised.value.body)["error"]["message"] == text


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 \x1b[2J\x9b\r\nX: \x00\r\n\r\n",
        b"\x1b]52;c;YQ==\x07\r\n\r\n",
        b"HTTP/1.1 2\n00\x85\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: \x1b[2J\r\n\r\n",
    ],
)
async def test_bytes_that_are_no_answer_reach_neither_error_nor_log_unescaped(
    raw: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "openrouter_keys")
    with raw_server(lambda _: raw) as server:
        async with api_keys(server.base_url, "key", FakeTime()) as keys:
            with pytest.raises(errors.OpenRouterError) as raised:
                await keys.list()
    for text in (str(raised.value), *caplog.messages):
        assert escaped(text) == text


async def test_a_lost_secrets_error_does_not_show_a_hash_that_steers() -> None:
    body = answer({"data": {"hash": "\x1b[2J\n"}}, status="201 Created")
    with raw_server(lambda _: body) as server:
        async with api_keys(server.base_url, "key", FakeTime()) as keys:
            with pytest.raises(errors.SecretLostError) as raised:
                await keys.create(name="new")
    assert escaped(str(raised.value)) == str(raised.value)


UNREADABLE: dict[str, bytes] = {
    "cut": b'{"data": {"na',
    "not the record": json.dumps({"data": {}}).encode(),
    "without the field": json.dumps({"data": key_json(usage="much")}).encode(),
    "HTML": b"<html>",
}


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("body", UNREADABLE.values(), ids=UNREADABLE)
async def test_the_headers_of_an_unreadable_success_show_no_secret(
    body: bytes, operation: str
) -> None:
    api_key = "canary-" + "0123456789" * 4
    echo = (f"X-Echo: Bearer {api_key}", f"X-Made: {SECRET}", "X-Trace: 7")
    with raw_server(lambda _: answer(body, *echo)) as server:
        async with api_keys(server.base_url, api_key, FakeTime()) as keys:
            with pytest.raises(errors.OpenRouterError) as raised:
                await OPERATIONS[operation](keys)
    shown = repr(dict(raised.value.headers))
    assert api_key not in shown
    assert SECRET not in shown
    assert raised.value.headers["X-Trace"] == "7"
