"""Chooses the proxy to a server: the given one, or the environment's. No I/O."""

import base64
import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import TypeAlias
from urllib.parse import quote, unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from attrs import field, frozen
from yarl import URL

from openrouter_keys._base.pickling import NeverPickled
from openrouter_keys._inputs import checks

#: The header for a proxy.
TO_PROXY = "Proxy-Authorization"
# A shorter user or password is no secret: it may be any word, or number.
_LEAST, _LEAST_DIGITS = 4, 8
# What `Basic` is written in: by RFC 7617, and by aiohttp.
_BASIC_CODES = ("utf-8", "latin-1")
_SOCKS = (
    "SOCKS proxies need a session of yours: session=, with the connector of aiohttp-socks (pip "
    "install aiohttp-socks)"
)
_FORM = (
    "must be http(s)://[user:password@]host[:port], with what is special in a password "
    "percent-encoded"
)


@frozen
class Proxy(NeverPickled):
    """A proxy; neither `repr` nor `str` shows its credentials.

    Attributes:
        url: where it is, without credentials.
        headers: those for the proxy alone: `Proxy-Authorization`, if there are credentials.
    """

    url: URL
    headers: Mapping[str, str] = field(repr=False)

    def __str__(self) -> str:
        return str(self.url)


#: Finds the proxy to a server by the server's URL; None: there is none.
FindProxy: TypeAlias = Callable[[str], Proxy | None]


def no_proxy(_: str) -> None:
    """Find no proxy, whatever the server."""


def proxy_finder(given: str | None) -> FindProxy:
    """Return a function that finds the proxy to a server.

    Args:
        given: the proxy's URL; empty: no proxy; None: the environment's.

    Raises:
        InvalidArgumentError: it is no URL of a proxy that can be used.
    """
    if given is None:
        return proxy_of_environment
    if given == "":
        return no_proxy
    proxy = _parsed(given)
    del given  # crash reporters send local variables home
    if isinstance(proxy, str):
        checks.refuse("proxy", f'{proxy}; or "" for none')
    return lambda _: proxy


def proxy_of_environment(server_url: str) -> Proxy | None:
    """Return the proxy that the environment names for a server.

    That is `HTTPS_PROXY` or `HTTP_PROXY`, by the server's scheme, or else `ALL_PROXY`, unless
    `NO_PROXY` names the server's host; read as `urllib.request.getproxies` reads them.

    Raises:
        InvalidArgumentError: it is no URL of a proxy that can be used.
    """
    server = urlsplit(server_url)
    host = server.hostname or ""
    port = server.port or (443 if server.scheme == "https" else 80)
    if proxy_bypass(host) or proxy_bypass(f"{host}:{port}"):
        return None
    named = getproxies()
    scheme = server.scheme if server.scheme in named else "all"
    proxy = _parsed(named[scheme]) if scheme in named else None
    del named
    if isinstance(proxy, str):
        checks.refuse(_variable(scheme), proxy)
    return proxy


def _variable(scheme: str) -> str:
    """Return the name of the variable that counts: of two, the one in small letters."""
    names = [name for name in os.environ if name.lower() == f"{scheme}_proxy"]
    return max(names, default="the system's proxy settings")


def _parsed(text: object) -> Proxy | str:
    """Return a proxy, or what is wrong with its URL, without showing that."""
    if not isinstance(text, str):
        return f"must be a string, not {type(text).__name__}"
    if not text.isprintable() or " " in text:
        return _FORM
    # These errors may show a password, so they are neither chained nor quoted.
    with suppress(ValueError):
        parts = urlsplit(text if "://" in text else f"http://{text}")
        if parts.scheme.startswith("socks"):
            return _SOCKS
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        if usable and parts.path in ("", "/") and not {"?", "#"} & {*text}:
            url = URL(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}")
            return Proxy(url, _headers(parts.username, parts.password))
    return _FORM


def _headers(user: str | None, password: str | None) -> Mapping[str, str]:
    if user is None and password is None:
        return {}
    pair = f"{unquote(user or '')}:{unquote(password or '')}"
    return {TO_PROXY: f"Basic {base64.b64encode(pair.encode()).decode()}"}


def shown_forms(url: URL, headers: Iterable[str]) -> tuple[str, ...]:
    """Return the forms in which a proxy's credentials may appear in a text.

    Args:
        url: the proxy's URL, as a request has it.
        headers: values of `Proxy-Authorization`.
    """
    pairs = [_decoded(header.partition(" ")[2]) for header in headers]
    pairs.append((url.user or "", url.password or ""))
    return tuple(dict.fromkeys(form for pair in pairs for form in _forms(*pair)))


def _decoded(basic: str) -> tuple[str, str]:
    try:
        pair = base64.b64decode(basic)
    except ValueError:
        return "", ""
    try:
        text = pair.decode()
    except UnicodeDecodeError:
        text = pair.decode("latin-1")
    user, _, password = text.partition(":")
    return user, password


def _is_secret(text: str) -> bool:
    return len(text.encode()) >= (_LEAST_DIGITS if text.isdecimal() else _LEAST)


def _forms(user: str, password: str) -> tuple[str, ...]:
    pair = f"{user}:{password}"
    if pair == ":":
        return ()
    forms = [pair]
    for code in _BASIC_CODES:
        # The padding behind them, `=`, `%3D` or `\\u003d`, is no secret.
        padded = base64.b64encode(pair.encode(code, "replace")).decode()
        basic = padded.rstrip("=")
        safe = basic.replace("+", "-").replace("/", "_")
        forms += [padded, basic, safe, quote(basic, safe=""), basic.replace("/", "\\/")]
    for text in filter(_is_secret, (password, user)):
        forms += [text, quote(text, safe="")]
        for code in _BASIC_CODES:
            encoded = text.encode(code, "replace")
            # As aiohttp shows a head, or what it cannot parse; and as a body is shown.
            forms += [encoded.decode(errors="surrogateescape"), repr(encoded)[2:-1]]
            forms.append(encoded.decode(errors="replace"))
    return tuple(forms)
