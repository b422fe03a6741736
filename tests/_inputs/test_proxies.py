"""Proxies and certificates, with a proxy that listens: which one, how it fails, what it hides."""

import asyncio
import base64
import logging
import pickle
import re
import shutil
import subprocess
import warnings
from collections.abc import AsyncIterator, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest
import trustme
from anyio.from_thread import start_blocking_portal
from yarl import URL

from openrouter_keys import AsyncOpenRouter, OpenRouter, errors
from openrouter_keys._base.masking import scrub
from openrouter_keys._inputs.proxies import proxy_finder, proxy_of_environment, shown_forms
from openrouter_keys.emulator import Emulator, Fault
from tests.clients import FakeTime, api_keys
from tests.commands import Command
from tests.emulators import port_of
from tests.promises.test_matrix import HASH, OPERATIONS, outcome
from tests.promises.test_secrets import printed
from tests.proxies import HOST, Proxy, Secure, certified, secure, told_credentials
from tests.tables import in_one_test

USER, PASSWORD = "canary-user", "canary p@ss/word:é"
QUOTED = "canary-user:canary%20p%40ss%2Fword%3A%C3%A9"
CANARIES = (
    USER,
    "canary p@ss",
    "canary%20p",
    base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode(),
)
FACES = ("async", "blocking")
PLAIN, TLS = f"http://{HOST}/api/v1", f"https://{HOST}/api/v1"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
async def secured(emulator: Emulator, authority: trustme.CA) -> AsyncIterator[Secure]:
    async with secure(port_of(emulator), authority) as secured:
        yield secured


async def ask(face: str, key: str, server_url: str, **arguments: Any) -> object:
    """List keys over a client of either face."""
    if face == "async":
        async with AsyncOpenRouter(key, server_url=server_url, **arguments) as client:
            return await client.api_keys.list()

    def block() -> object:
        with OpenRouter(key, server_url=server_url, **arguments) as client:
            return client.api_keys.list()

    return await asyncio.to_thread(block)


def set_environment(monkeypatch: pytest.MonkeyPatch, settings: Mapping[str, str]) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(name, value)


# --- which proxy ---

P, Q = "http://p.test:1", "http://q.test:2"
CHOICES: list[tuple[Mapping[str, str], str, str | None]] = [
    ({}, TLS, None),
    ({}, PLAIN, None),
    *[
        ({name: P}, url, P if url in reached else None)
        for name, reached in {
            "HTTPS_PROXY": [TLS],
            "https_proxy": [TLS],
            "Https_Proxy": [TLS],
            "HTTP_PROXY": [PLAIN],
            "http_proxy": [PLAIN],
            "ALL_PROXY": [TLS, PLAIN],
            "all_proxy": [TLS, PLAIN],
            "FTP_PROXY": [],
        }.items()
        for url in (TLS, PLAIN)
    ],
    # The one of the scheme wins over the one of all; small letters over capitals, empty ones too.
    ({"HTTPS_PROXY": P, "ALL_PROXY": Q}, TLS, P),
    ({"HTTPS_PROXY": P, "ALL_PROXY": Q}, PLAIN, Q),
    ({"HTTPS_PROXY": P, "https_proxy": Q}, TLS, Q),
    ({"HTTPS_PROXY": P, "https_proxy": ""}, TLS, None),
    ({"HTTPS_PROXY": ""}, TLS, None),
    # In a CGI script, HTTP_PROXY is what a client sent as its header `Proxy`.
    ({"HTTP_PROXY": P, "REQUEST_METHOD": "GET"}, PLAIN, None),
    ({"http_proxy": P, "REQUEST_METHOD": "GET"}, PLAIN, P),
    ({"HTTPS_PROXY": P, "REQUEST_METHOD": "GET"}, TLS, P),
    *[
        ({"ALL_PROXY": P, name: form}, url, None)
        for name in ("NO_PROXY", "no_proxy")
        for form in (HOST, f".{HOST}", "test", ".test", f"a.test , {HOST}", HOST.upper(), "*")
        for url in (TLS, PLAIN)
    ],
    *[
        ({"ALL_PROXY": P, "NO_PROXY": form}, TLS, P)
        for form in ("", "router.test", "a.test,b.test", f"x.{HOST}", f"{HOST}:444", f"{HOST}:80")
    ],
    ({"ALL_PROXY": P, "NO_PROXY": f"{HOST}:443"}, TLS, None),
    ({"ALL_PROXY": P, "NO_PROXY": f"{HOST}:80"}, PLAIN, None),
    ({"ALL_PROXY": P, "NO_PROXY": f"{HOST}:8443"}, f"https://{HOST}:8443/v1", None),
    ({"ALL_PROXY": P, "NO_PROXY": HOST}, f"https://{HOST}:8443/v1", None),
    ({"ALL_PROXY": P, "NO_PROXY": "127.0.0.1,::1"}, "http://127.0.0.1:8080/v1", None),
    ({"ALL_PROXY": P, "NO_PROXY": "127.0.0.1,::1"}, "http://[::1]:8080/v1", None),
    # What everybody writes.
    ({"HTTPS_PROXY": "p.test:1"}, TLS, P),
    ({"HTTPS_PROXY": "http://p.test:1/"}, TLS, P),
    ({"HTTPS_PROXY": "https://p.test"}, TLS, "https://p.test"),
    ({"HTTPS_PROXY": f"http://{QUOTED}@p.test:1"}, TLS, P),
]


@pytest.mark.parametrize(("settings", "url", "found"), CHOICES)
def test_the_environment_chooses_the_proxy(
    settings: Mapping[str, str],
    url: str,
    found: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_environment(monkeypatch, settings)

    proxy = proxy_of_environment(url)

    assert (None if proxy is None else str(proxy).removesuffix("/")) == found
    given = proxy_finder(Q)(url)  # what was given wins over all of it
    assert str(given).removesuffix("/") == Q
    assert proxy_finder("")(url) is None


@pytest.mark.slow
@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("name", ["HTTPS_PROXY", "http_proxy", "ALL_PROXY", "proxy="])
@pytest.mark.parametrize("credentials", [None, f"{USER}:{PASSWORD}"])
@pytest.mark.parametrize("url", [TLS, PLAIN])
async def test_a_request_goes_through_the_proxy(
    url: str,
    *,
    credentials: str | None,
    name: str,
    face: str,
    emulator: Emulator,
    secured: Secure,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if name.upper()[:6] in ("HTTPS_", "HTTP_P") and (name[:5] == "HTTPS") != (url == TLS):
        pytest.skip("a variable of the other scheme")
    upstream = secured.port if url == TLS else port_of(emulator)
    proxy = Proxy(upstream, credentials)
    async with proxy.serving() as address:
        value = f"http://{address}" if credentials is None else f"http://{QUOTED}@{address}"
        arguments = {"proxy": value} if name == "proxy=" else {}
        if not arguments:
            monkeypatch.setenv(name, value)
        await ask(face, emulator.api_key, url, ssl=secured.context(), **arguments)

    asked = f"CONNECT {HOST}:443 " if url == TLS else f"GET {PLAIN}/keys"
    assert [head.startswith(asked) for head in proxy.heads] == [True]
    assert told_credentials(proxy.heads[0]) == credentials
    assert (emulator.api_key in proxy.heads[0]) == (url == PLAIN)
    (request,) = emulator.requests
    assert request.headers["authorization"] == f"Bearer {emulator.api_key}"
    if url == TLS:
        assert "proxy-authorization" not in request.headers


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize(
    ("settings", "arguments"),
    [
        ({"NO_PROXY": "127.0.0.1"}, {}),
        ({"no_proxy": "*"}, {}),
        ({}, {"proxy": ""}),
        ({}, {"session": aiohttp.ClientSession}),
    ],
)
async def test_a_request_goes_past_the_proxy(
    settings: Mapping[str, str],
    arguments: Mapping[str, Any],
    face: str,
    emulator: Emulator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    proxy = Proxy(port_of(emulator))
    async with proxy.serving() as address:
        set_environment(monkeypatch, {"ALL_PROXY": address, **settings})
        await ask(face, emulator.api_key, emulator.base_url, **arguments)

    assert proxy.heads == []
    assert len(emulator.requests) == 1


async def test_a_call_to_another_server_has_its_own_proxy(
    emulator: Emulator, secured: Secure, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = Proxy(port_of(emulator))
    async with proxy.serving() as address:
        set_environment(monkeypatch, {"HTTP_PROXY": address, "NO_PROXY": "127.0.0.1"})
        async with AsyncOpenRouter(emulator.api_key, server_url=emulator.base_url) as client:
            await client.api_keys.list()
            assert len(proxy.heads) == 0
            await client.api_keys.list(server_url=PLAIN)
            assert len(proxy.heads) == 1
            await client.api_keys.list(timeout_ms=9_000)
            assert len(proxy.heads) == 1
            monkeypatch.setenv("HTTP_PROXY", "socks5://p.test")
            with pytest.raises(errors.InvalidArgumentError, match="HTTP_PROXY"):
                await client.api_keys.list(server_url=PLAIN)

    assert len(emulator.requests) == 3


@pytest.mark.parametrize("url", [TLS, PLAIN])
async def test_a_proxy_may_speak_tls(url: str, emulator: Emulator, secured: Secure) -> None:
    context = certified(secured.authority, "127.0.0.1")
    upstream = secured.port if url == TLS else port_of(emulator)
    proxy = Proxy(upstream, f"{USER}:{PASSWORD}", context=context)
    async with (
        proxy.serving() as address,
        AsyncOpenRouter(
            emulator.api_key,
            server_url=url,
            proxy=f"https://{QUOTED}@{address}",
            ssl=secured.context(),
        ) as client,
    ):
        await client.api_keys.list()

    assert len(proxy.heads) == len(emulator.requests) == 1


BAD = [
    f"socks5://{QUOTED}@p.test:1080",
    f"socks5h://{QUOTED}@p.test",
    f"ftp://{QUOTED}@p.test",
    f"http://{QUOTED}@p.test:port",
    f"http://{QUOTED}@p.test:70000",
    f"http://{QUOTED}@p.test:0",
    f"http://{QUOTED}@p.test/path",
    f"http://{QUOTED}@p.test?query",
    f"http://{QUOTED}@",
    f"http://{QUOTED}@[::1",
    f"http://{USER}:canary p@ss@p.test",
    f"http://{USER}:canary#p@ss@p.test",
    f"http://{QUOTED}@p.test\n",
]


@pytest.mark.parametrize("client", [AsyncOpenRouter, OpenRouter])
@pytest.mark.parametrize("name", ["proxy", "HTTPS_PROXY", "all_proxy"])
@pytest.mark.parametrize("bad", BAD)
def test_a_bad_proxy_is_refused_by_name_and_not_shown(
    bad: str, name: str, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name != "proxy":
        monkeypatch.setenv(name, bad)

    with pytest.raises(errors.InvalidArgumentError) as caught:
        client("key", **({"proxy": bad} if name == "proxy" else {}))

    assert caught.value.argument == name
    assert ("aiohttp-socks" in str(caught.value)) == bad.startswith("socks")
    assert_hidden(printed(caught.value))


@in_one_test("client", [AsyncOpenRouter, OpenRouter])
@in_one_test(
    "argument, value, session",
    [
        ("proxy", 5, None),
        ("proxy", False, None),
        ("ssl", False, None),
        ("ssl", "ca.pem", None),
        ("proxy", f"http://{QUOTED}@p.test", aiohttp.ClientSession),
        ("proxy", "", aiohttp.ClientSession),
        ("ssl", trustme, aiohttp.ClientSession),
    ],
)
def test_what_is_no_proxy_or_goes_with_no_session_is_refused(
    argument: str, value: object, session: object, client: Any
) -> None:
    with pytest.raises(errors.InvalidArgumentError) as caught:
        client("key", session=session, **{argument: value})

    assert caught.value.argument == argument
    assert_hidden(printed(caught.value))


# --- how it fails ---


def refusing(status: str, body: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\nConnection: close\r\nX-Told: {{told}}\r\n\r\n{body}".encode()


NOT_SENT: dict[str, tuple[Mapping[str, Any], int, str]] = {
    # What the proxy does, how many attempts that is worth, and what is told.
    "407": ({"credentials": "other:word"}, 1, "407 .*user and password"),
    "403": ({"refusal": refusing("403 Forbidden")}, 1, "403 Forbidden.*NO_PROXY"),
    "404": ({"refusal": refusing("404 Not Found")}, 1, "404 Not Found"),
    "502": ({"refusal": refusing("502 Bad Gateway")}, 1, "502 Bad Gateway.*does not reach"),
    "504": ({"refusal": refusing("504 Gateway Timeout")}, 1, "504 "),
    "garbage": ({"refusal": b"SSH-2.0-{told}\r\n\r\n"}, 3, "Bad"),
    "cut when accepted": ({"cut": "accepted"}, 3, "ServerDisconnected|ClientOSError"),
    "cut when asked": ({"cut": "asked"}, 3, "ServerDisconnected"),
    "cut in its answer": ({"cut": "half"}, 3, "."),
    "cut before TLS": ({"cut": "established"}, 3, "."),
}


@pytest.mark.slow
@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("name", NOT_SENT)
async def test_nothing_was_sent_until_the_tunnel_stands(
    name: str,
    *,
    operation: str,
    emulator: Emulator,
    secured: Secure,
    fake_time: FakeTime,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    acts, attempts, told = NOT_SENT[name]
    proxy = Proxy(secured.port, **acts)
    async with (
        proxy.serving() as address,
        api_keys(
            TLS,
            emulator.api_key,
            fake_time,
            proxy=f"http://{QUOTED}@{address}",
            ssl_context=secured.context(),
        ) as keys,
    ):
        result = await outcome(keys, operation)

    assert type(result) is errors.NotSentError
    assert result.attempts == attempts
    assert not result.maybe_applied
    assert f"to {TLS} by http://127.0.0.1:{proxy.port}" in str(result)
    assert re.search(told, str(result))
    assert_hidden(printed(result) + caplog.text)
    assert emulator.requests == []


@pytest.mark.slow
@pytest.mark.parametrize("url", [TLS, PLAIN])
@pytest.mark.parametrize("operation", OPERATIONS)
async def test_a_proxy_that_dies_once_the_request_is_under_way_is_a_lost_connection(
    operation: str, url: str, emulator: Emulator, secured: Secure, fake_time: FakeTime
) -> None:
    emulator.account.add(name="there", hash=HASH, limit=5.0)
    proxy = Proxy(
        secured.port if url == TLS else port_of(emulator),
        arrived=lambda: len(emulator.requests),
    )
    async with (
        proxy.serving() as address,
        api_keys(
            url,
            emulator.api_key,
            fake_time,
            proxy=f"http://{QUOTED}@{address}",
            ssl_context=secured.context(),
        ) as keys,
    ):
        result = await outcome(keys, operation)

    assert isinstance(result, errors.OpenRouterError)
    assert_hidden(printed(result))
    if operation == "create":
        assert type(result) is errors.CreateOutcomeUnknownError
        assert len(emulator.requests) == 1
    else:
        assert type(result) is errors.NoResponseError


@pytest.mark.parametrize("status", ["407 Proxy Authentication Required", "502 Bad", "504 Late"])
@pytest.mark.parametrize("operation", OPERATIONS)
async def test_a_proxy_of_plain_requests_answers_in_the_services_place(
    operation: str, status: str, emulator: Emulator, fake_time: FakeTime
) -> None:
    proxy = Proxy(0, refusal=refusing(status, '{"error": {"message": "{told}"}}'))
    async with (
        proxy.serving() as address,
        api_keys(PLAIN, emulator.api_key, fake_time, proxy=f"http://{QUOTED}@{address}") as keys,
    ):
        result = await outcome(keys, operation)

    assert isinstance(result, errors.OpenRouterError)
    assert result.status_code == int(status[:3])
    unknown = operation == "create" and status[:3] != "407"
    assert (type(result) is errors.CreateOutcomeUnknownError) == unknown
    assert_hidden(printed(result) + str(dict(result.headers)) + result.body)


@pytest.mark.slow
async def test_a_proxy_that_never_answers_is_given_up(
    emulator: Emulator, fake_time: FakeTime
) -> None:
    async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(wait, "127.0.0.1", 0) as server:
        address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with api_keys(TLS, "key", fake_time, proxy=address, connect_timeout=0.05) as keys:
            result = await outcome(keys, "create")

    assert type(result) is errors.NotSentError
    assert result.attempts == 3


# --- what it hides ---


def assert_hidden(text: str) -> None:
    for canary in CANARIES:
        assert canary not in text


@pytest.mark.parametrize("name", NOT_SENT)
@pytest.mark.parametrize("way", ["proxy=", "proxy_auth", "environment"])
async def test_a_users_own_sessions_proxy_is_hidden_too(
    way: str,
    *,
    name: str,
    secured: Secure,
    fake_time: FakeTime,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    acts, _, _ = NOT_SENT[name]
    plain = f"{USER}:canary%20p%40ss%2Fword"
    async with Proxy(secured.port, **acts).serving() as address:
        session: dict[str, Any] = {"proxy": f"http://{plain}@{address}"}
        if way == "proxy_auth":
            # Both are deprecated; people use them.
            warnings.simplefilter("ignore", DeprecationWarning)
            auth = aiohttp.BasicAuth(USER, "canary p@ss/word")
            session = {"proxy": f"http://{address}", "proxy_auth": auth}
        elif way == "environment":
            monkeypatch.setenv("HTTPS_PROXY", f"http://{plain}@{address}")
            session = {"trust_env": True}
        async with (
            aiohttp.ClientSession(**session) as own,
            api_keys(TLS, "key", fake_time, session=own) as keys,
        ):
            result = await outcome(keys, "create")

    assert type(result) is errors.NotSentError
    assert_hidden(printed(result) + caplog.text)


async def test_a_client_does_not_show_its_proxy() -> None:
    async with AsyncOpenRouter("key", proxy=f"http://{QUOTED}@p.test") as client:
        options = client._transport.options
        assert options.proxy is not None
        assert_hidden(repr(client) + repr(vars(client)) + repr(options) + str(options.proxy))
        with pytest.raises(TypeError, match="never pickled"):
            pickle.dumps(options.proxy)


# --- .netrc ---


@pytest.mark.slow
@pytest.mark.parametrize("way", ["own", "trusting", "trusting, made here"])
@pytest.mark.parametrize("netrc", ["machine 127.0.0.1 login me password canary", "machine {"])
async def test_the_key_wins_over_netrc(
    netrc: str,
    way: str,
    emulator: Emulator,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / ".netrc").write_text(f"{netrc}\ndefault login you password canary\n")
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    arguments: dict[str, Any] = {}
    if way == "trusting":
        arguments = {"session": aiohttp.ClientSession(trust_env=True)}
    elif way == "trusting, made here":
        arguments = {"session": lambda: aiohttp.ClientSession(trust_env=True)}
    async with AsyncOpenRouter(
        emulator.api_key, server_url=emulator.base_url, **arguments
    ) as client:
        await client.api_keys.create(name="new")
        await client.api_keys.list()
        emulator.faults.append(Fault("list", kind="closed"))
        await client.api_keys.list()
    if way == "trusting":
        await arguments["session"].close()

    assert len(emulator.requests) == 4
    for request in emulator.requests:
        assert request.headers["authorization"] == f"Bearer {emulator.api_key}"


# --- certificates ---


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("way", ["ssl=", "SSL_CERT_FILE", "SSL_CERT_DIR"])
async def test_an_own_authority_is_trusted(
    way: str,
    *,
    face: str,
    emulator: Emulator,
    secured: Secure,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url, arguments = f"https://127.0.0.1:{secured.port}/api/v1", dict[str, Any]()
    with pytest.raises(errors.NotSentError, match=r"ssl=, SSL_CERT_FILE") as caught:
        await ask(face, emulator.api_key, url)
    assert caught.value.attempts == 1
    if way == "ssl=":
        arguments["ssl"] = secured.context()
    else:
        set_authority(way, secured.authority, tmp_path, monkeypatch)

    await ask(face, emulator.api_key, url, **arguments)

    assert len(emulator.requests) == 1


def set_authority(
    way: str, authority: trustme.CA, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pem = folder / "ca.pem"
    authority.cert_pem.write_to_path(pem)
    monkeypatch.setenv(way, str(pem if way == "SSL_CERT_FILE" else folder))
    if way == "SSL_CERT_DIR":  # OpenSSL finds them by the hash of their names
        openssl = shutil.which("openssl")
        if openssl is None:
            pytest.skip("only openssl knows how a file there is called")
        line = [openssl, "x509", "-hash", "-noout", "-in", str(pem)]
        name = subprocess.run(line, check=True, capture_output=True, text=True).stdout.strip()
        pem.rename(folder / f"{name}.0")


# --- the command ---


@pytest.mark.slow
def test_the_command_goes_through_a_proxy(
    command: Command, authority: trustme.CA, tmp_path: Path
) -> None:
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    with serving(port_of(command.emulator), authority) as proxy:
        way = ("--base-url", TLS, "--ca-file", "ca.pem")
        address = f"http://{QUOTED}@127.0.0.1:{proxy.port}"
        assert command("list", *way, "--proxy", address).code == 0
        assert command("list", *way, HTTPS_PROXY=address).code == 0
        assert len(proxy.heads) == 2
        assert command("list", "--proxy", "none", ALL_PROXY=address).code == 0
        assert len(proxy.heads) == 2
        not_trusted = command("list", "--base-url", TLS, "--proxy", address)
        assert (not_trusted.code, "--ca-file" in not_trusted.err) == (1, True)
        proxy.refusal = refusing("407 No")
        refused = command("list", *way, "--proxy", address)
        assert (refused.code, "407 No; give its user" in refused.err) == (1, True)
        assert_hidden(refused.err + not_trusted.err)


@contextmanager
def serving(port: int, authority: trustme.CA) -> Generator[Proxy]:
    """A proxy to TLS in front of a port, in a thread of its own."""
    with (
        start_blocking_portal("asyncio") as portal,
        portal.wrap_async_context_manager(secure(port, authority)) as secured,
    ):
        proxy = Proxy(secured.port)
        with portal.wrap_async_context_manager(proxy.serving()):
            yield proxy


@pytest.mark.parametrize("option", ["--proxy", "HTTPS_PROXY"])
@pytest.mark.parametrize("bad", BAD[:4])
def test_the_command_refuses_a_bad_proxy(bad: str, option: str, command: Command) -> None:
    words = ("--base-url", TLS)
    settings = {} if option == "--proxy" else {option: bad}
    ran = command("list", *words, *((option, bad) if not settings else ()), **settings)

    assert ran.code == 2
    assert ran.err.startswith(f"openrouter-keys: {option}: ")
    assert_hidden(ran.err)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "No such file"),
        ("", "no certificate"),
        ("no PEM", "no certificate"),
        (trustme.CA().private_key_pem.bytes().decode(), "no certificate"),
    ],
    ids=["missing", "empty", "no PEM", "private key"],  # this one differs from run to run
)
def test_the_command_refuses_a_bad_ca_file(
    content: str | None, problem: str, command: Command, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / "ca.pem").write_text(content)

    ran = command("list", "--ca-file", "ca.pem")

    assert ran.code == 2
    assert ran.err.startswith("openrouter-keys: --ca-file: ")
    assert problem in ran.err


PAIRS = [
    ("jörg", "grün-haus-geheim-7"),
    ("bobby", "correct-horse-battery-staple"),
    ("a user", "kurz"),
    ("ärger", ""),
    ("用户", "密码-very-secret"),
]


@pytest.mark.parametrize(("user", "password"), PAIRS)
def test_no_form_of_a_proxys_credentials_is_shown_nor_its_end(user: str, password: str) -> None:
    url = URL("http://proxy.example").with_user(user).with_password(password or None)
    forms = shown_forms(url, [])
    for code in ("utf-8", "latin-1"):
        for secret in filter(None, (user, password, f"{user}:{password}")):
            sent = secret.encode(code, "replace")
            for text in (
                sent.decode(errors="surrogateescape"),
                sent.decode(errors="replace"),
                repr(sent),
                base64.b64encode(sent).decode() if secret.count(":") else secret,
                quote(secret, safe=":"),
            ):
                told = scrub(f"the proxy says <{text}>", *forms)
                assert not set(told) - {*"the proxy says <>.:b'"}, (code, text)
