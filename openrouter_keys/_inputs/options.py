"""The options of one call, and the headers made from them. No I/O."""

import logging
from collections.abc import Mapping
from functools import lru_cache
from typing import TypedDict, cast
from urllib.parse import urlsplit

from attrs import field, frozen

from openrouter_keys._base.unset import UNSET, left_out
from openrouter_keys._inputs import checks
from openrouter_keys._inputs.proxies import FindProxy, Proxy, no_proxy
from openrouter_keys._inputs.retry_config import RetryConfig

#: Seconds after which a create whose connection was lost is taken to have landed, or never to.
QUIET_PERIOD = 30.0
#: How many creates are under way at once in a run, unless the caller sets it.
CONCURRENCY = 32


class RequestOptions(TypedDict, total=False):
    """Options of every operation. None, or left out: the client's own.

    Attributes:
        retries: when and how to retry.
        timeout_ms: milliseconds that the whole call may take, its retries and waits included. They
            begin when the call gets its turn among the client's connections.
        server_url: another base URL.
        http_headers: more headers; they replace the client's of the same name.
        http_referer: the app's URL (`HTTP-Referer`).
        x_open_router_title: the app's name (`X-OpenRouter-Title`).
        x_open_router_categories: its categories, comma-separated (`X-OpenRouter-Categories`).
    """

    retries: RetryConfig | None
    timeout_ms: float | None
    server_url: str | None
    http_headers: Mapping[str, str] | None
    http_referer: str | None
    x_open_router_title: str | None
    x_open_router_categories: str | None


_LOOPBACK = ("localhost", "127.0.0.1", "::1")

_log = logging.getLogger("openrouter_keys")


ATTRIBUTION: Mapping[str, str] = {
    "http_referer": "HTTP-Referer",
    "x_open_router_title": "X-OpenRouter-Title",
    "x_open_router_categories": "X-OpenRouter-Categories",
}

_NOT_YOURS: Mapping[str, str] = {
    "authorization": "made from api_key: give that instead",
    "content-type": "always application/json",
    "content-length": "made from the body",
    "transfer-encoding": "made from the body",
}


@lru_cache  # once for each server, not for each call
def warn_unencrypted(server_url: str) -> None:
    """Log a warning if the key goes to another machine unencrypted."""
    address = urlsplit(server_url)
    if address.scheme == "http" and address.hostname not in _LOOPBACK:
        _log.warning(
            "the management key goes to %s unencrypted: is http:// meant?", address.hostname
        )


@frozen(kw_only=True)
class CallOptions:
    """The options of one call, checked and complete."""

    retries: RetryConfig
    timeout: float
    server_url: str
    headers: Mapping[str, str] = field(repr=False)
    find_proxy: FindProxy = field(default=no_proxy, repr=False)
    proxy: Proxy | None = None

    def with_(self, options: RequestOptions) -> "CallOptions":
        """Return these options with a caller's changes.

        Raises:
            InvalidArgumentError: an option is not usable.
            TypeError: there is no such option.
        """
        refuse_unknown(options)
        options = _given(options)
        retries, timeout = left_out(options.get("retries")), options.get("timeout_ms")
        server_url, headers = options.get("server_url"), header_options(options)
        if server_url is None:
            server_url, proxy = self.server_url, self.proxy
        else:
            server_url = checks.server_url("server_url", server_url)
            warn_unencrypted(server_url)
            proxy = self.find_proxy(server_url)
        return CallOptions(
            retries=self.retries if retries is None else check_retries("retries", retries),
            timeout=self.timeout if timeout is None else checks.timeout_ms("timeout_ms", timeout),
            server_url=server_url,
            headers=merge_headers(self.headers, headers) if headers else self.headers,
            find_proxy=self.find_proxy,
            proxy=proxy,
        )


def header_options(options: RequestOptions) -> dict[str, str]:
    """Return the headers of a caller's options."""
    headers: dict[str, str] = {}
    for argument, name in ATTRIBUTION.items():
        value = options.get(argument)
        if value is not None:
            checks.header(argument, name, value)
            headers[name] = str(value)
    given = options.get("http_headers")
    return headers if given is None else merge_headers(headers, _own_headers(given))


def _own_headers(given: Mapping[str, str]) -> Mapping[str, str]:
    if not isinstance(given, Mapping):
        checks.refuse("http_headers", f"must be a mapping, not {type(given).__name__}")
    for name, value in given.items():
        checks.header("http_headers", name, value)
        if name.lower() in _NOT_YOURS:
            checks.refuse("http_headers", f"{name} is {_NOT_YOURS[name.lower()]}")
    return given


def merge_headers(headers: Mapping[str, str], winning: Mapping[str, str]) -> dict[str, str]:
    """Return both; the second replace the first, ignoring the case of their names."""
    replaced = {name.lower() for name in winning}
    kept = {name: value for name, value in headers.items() if name.lower() not in replaced}
    return {**kept, **winning}


def check_retries(argument: str, retries: object) -> RetryConfig:
    """Return a caller's `RetryConfig`; refuse anything else."""
    if not isinstance(retries, RetryConfig):
        checks.refuse(argument, f"must be a RetryConfig or None, not {type(retries).__name__}")
    return retries


def _given(options: RequestOptions) -> RequestOptions:
    # The official SDK's own default for `retries` is UNSET, which wrappers pass on.
    given = {name: value for name, value in options.items() if value is not UNSET}
    return cast("RequestOptions", given)


def refuse_unknown(options: RequestOptions) -> None:
    """Refuse an argument that neither the operation nor `RequestOptions` knows."""
    # `create(name=…, limt=5)` must not make a key without a limit.
    for name in options:
        if name not in RequestOptions.__annotations__:
            known = ", ".join(RequestOptions.__annotations__)
            message = f"unexpected keyword argument {name!r} (options of every operation: {known})"
            raise TypeError(message)
