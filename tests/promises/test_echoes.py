"""What a service or a proxy repeats of a request: headers, errors, in any of their forms."""

import base64
import json
import pickle
from collections.abc import Callable
from hashlib import sha256
from typing import Any
from urllib.parse import quote

import attrs
import pytest

from openrouter_keys import OpenRouter, errors
from openrouter_keys._base.scrubbing import masked
from openrouter_keys._protocol.answers import is_api_404
from tests.raw_server import answer, raw_server
from tests.records import HASH, PARTNER_SECRET, key_json
from tests.tables import in_one_test

MANAGEMENT = "sk-or-mgmt-" + "0e" * 32
OPAQUE = "canary-management-key-of-no-known-form"
CREATED = ["sk-or-v1-" + "ab" * 32, "or.key." + "Zz9-" * 6]


def body_of(request: bytes) -> dict[str, object]:
    found: dict[str, object] = json.loads(request.partition(b"\r\n\r\n")[2])
    return found


# --- headers of successes ---


@pytest.mark.parametrize("management", [MANAGEMENT, OPAQUE])
@pytest.mark.parametrize("secret", CREATED)
@pytest.mark.parametrize("call", ["list", "get", "create", "delete", "update"])
def test_no_header_of_a_success_shows_a_secret(management: str, secret: str, call: str) -> None:
    def respond(request: bytes) -> bytes:
        sent = PARTNER_SECRET if request.startswith(b"POST") else ""
        echo = (f"X-Echo: Bearer {management} {sent}", f"X-New: {secret}", "X-Fact: 1.2.3")
        data = key_json(hash=sha256(secret.encode()).hexdigest() if sent else HASH)
        if request.startswith(b"POST"):
            return answer({"data": data, "key": secret}, *echo, status="201 Created")
        if request.startswith(b"DELETE"):
            return answer({"deleted": True}, *echo)
        return answer({"data": data if HASH.encode() in request else [data]}, *echo)

    with (
        raw_server(respond) as server,
        OpenRouter(management, server_url=server.base_url) as client,
    ):
        keys = client.api_keys
        calls: dict[str, Callable[[], Any]] = {
            "list": keys.list,
            "get": lambda: keys.get(HASH),
            "update": lambda: keys.update(HASH, name="customer-42"),
            "delete": lambda: keys.delete(HASH),
            "create": lambda: keys.create(
                name="customer-42", external={"user": "acme-7", "api_key": PARTNER_SECRET}
            ),
        }
        result = calls[call]()
    headers = repr([*result.http.headers.items()]) + repr(attrs.asdict(result.http))
    assert management not in headers
    assert PARTNER_SECRET not in headers
    assert call != "create" or secret not in headers
    assert result.http.headers["x-fact"] == "1.2.3"
    if call != "create":
        assert management.encode() not in pickle.dumps(result)


# --- bodies of errors ---


def escaped(text: str) -> str:
    return "".join(f"\\u{ord(each):04x}" for each in text)


LONG = "x" * 66_000
ERRORS: dict[str, Callable[[str], bytes]] = {
    "long, escaped": lambda k: (
        f'{{"error": {{"message": "{escaped(k)}", "p": "{LONG}"}}}}'.encode()
    ),
    "no JSON, escaped": lambda k: f"{{'error': '{escaped(k)}'}}".encode(),
    "cut, one character escaped": lambda k: f'{{"error": "{escaped(k[0])}{k[1:]}'.encode(),
    "long, UTF-16": lambda k: f'{{"error": {{"message": "{k}", "p": "{LONG}"}}}}'.encode(
        "utf-16-le"
    ),
    "no JSON, UTF-16": lambda k: f"{{'error': '{k}'}}".encode("utf-16"),
    "UTF-32": lambda k: json.dumps({"error": {"message": k}}).encode("utf-32-le"),
}


@pytest.mark.parametrize("management", [MANAGEMENT, OPAQUE])
@pytest.mark.parametrize("made", ERRORS.values(), ids=ERRORS)
def test_no_error_shows_the_key_in_another_form(
    management: str, made: Callable[[str], bytes]
) -> None:
    with (
        raw_server(lambda _: answer(made(management), status="400 Bad Request")) as server,
        OpenRouter(management, server_url=server.base_url) as client,
        pytest.raises(errors.OpenRouterError) as raised,
    ):
        client.api_keys.list()
    told = f"{raised.value} {getattr(raised.value, 'body', '')}".replace("\0", "")
    assert management not in told
    assert escaped(management)[6:-6] not in told


@in_one_test("secret", ["partner-key-0123456789-WXYZ", "partner-\U0001f600-key-0123456789-WXYZ"])
def test_not_even_the_end_of_a_partners_key_is_in_a_record(secret: str) -> None:
    for ascii_only in (True, False):
        raw = json.dumps({"note": f"you sent {secret}"}, ensure_ascii=ascii_only).encode()
        shown: str = json.loads(masked(raw, [secret]))["note"]
        assert shown == "you sent ..."


# --- what a proxy repeats of its credentials ---


def through_a_proxy(
    user: str, password: str, respond: Callable[[str], bytes]
) -> errors.OpenRouterError:
    """Ask for a key through a proxy that is told its credentials, and answers by itself."""
    basic = base64.b64encode(f"{user}:{password}".encode()).decode()
    with raw_server(lambda _: respond(basic)) as server:
        place = server.base_url.removesuffix("/api/v1").removeprefix("http://")
        proxy = f"http://{quote(user, safe='')}:{quote(password, safe='')}@{place}"
        url = "http://keys.example/api/v1"
        with (
            OpenRouter(MANAGEMENT, server_url=url, proxy=proxy, retry_config=None) as client,
            pytest.raises(errors.OpenRouterError) as raised,
        ):
            client.api_keys.get(HASH, timeout_ms=1500)
    return raised.value


FORMS: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "without padding": lambda basic: basic.rstrip("="),
    "percent-encoded": lambda basic: quote(basic, safe=""),
    "padding escaped": lambda basic: basic.replace("=", "\\u003d"),
    "slash escaped": lambda basic: basic.replace("/", "\\/"),
    "safe in URLs": lambda basic: basic.replace("+", "-").replace("/", "_"),
    "in a word": lambda basic: f"got{basic}",
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("password", ["Tr0ub4dor-pass", "???>>>~~~ooo"])
def test_no_form_of_what_a_proxy_was_told_is_shown(
    form: Callable[[str], str], password: str
) -> None:
    shown = ""

    def respond(basic: str) -> bytes:
        nonlocal shown
        shown = form(basic)
        return answer(
            f"<h1>bad: {shown}</h1>".encode(), f"X-Echo: {shown}", status="400 Bad Request"
        )

    error = through_a_proxy("annie", password, respond)
    assert isinstance(error, errors.ResponseError)
    told = f"{error} {error.body} {error.headers}"
    start = shown.removeprefix("got").rstrip("=")[:12]
    assert start not in told


NOT_FOUND = json.dumps({"error": {"message": "API key not found", "code": 404}}).encode()


@pytest.mark.parametrize(
    ("user", "password"),
    [
        ("zz", "zz"),
        ("me", "x9"),
        ("or", "q"),
        ("ann", "."),
        ("ann", "404"),
        (".", "."),
        ("error", "message"),
        ("code", "60"),
        ("a", "API key not found"),
        ("2026", "1.2.3"),
    ],
)
def test_short_credentials_of_a_proxy_change_nothing_of_what_the_service_says(
    user: str, password: str
) -> None:
    def respond(_: str) -> bytes:
        return answer(NOT_FOUND, "X-Note: 1.2.3. " * 9, "Retry-After: 60", status="404 Not Found")

    error = through_a_proxy(user, password, respond)
    assert is_api_404(error)
    assert error.retry_after == 60
    assert sum(map(len, error.headers.values())) < 500
