"""The async client: what a caller sets once, and the life of its session."""

import logging
import os
import sys
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from openrouter_keys import checks
from openrouter_keys.api_keys import AsyncAPIKeys
from openrouter_keys.credentials import APIKey, Credentials
from openrouter_keys.options import ATTRIBUTION, CallOptions, check_retries
from openrouter_keys.retries import RetryConfig
from openrouter_keys.transport import Transport
from openrouter_keys.unset import left_out
from openrouter_keys.version import __version__
from openrouter_keys.wire import Session

DEFAULT_SERVER_URL = "https://openrouter.ai/api/v1"
DEFAULT_TIMEOUT_MS = 120_000

_ATTRIBUTION_VARIABLES: Mapping[str, str] = {
    "http_referer": "OPENROUTER_HTTP_REFERER",
    "x_open_router_title": "OPENROUTER_X_OPEN_ROUTER_TITLE",
    "x_open_router_categories": "OPENROUTER_X_OPEN_ROUTER_CATEGORIES",
}


class AsyncOpenRouter:
    """A client of OpenRouter's key API, for one event loop.

    Use it with `async with`, or `close` it. Its operations are those of its `api_keys`: list,
    iterate, create, get, update, delete and get_current_key_metadata.

    Args:
        api_key: the management key, or a callable, sync or async, that is asked for it at each
            attempt (it runs in the event loop). None, or empty: `OPENROUTER_API_KEY`.
        http_referer: the app's URL, sent as `HTTP-Referer`. None: `OPENROUTER_HTTP_REFERER`.
        x_open_router_title: the app's name. None: `OPENROUTER_X_OPEN_ROUTER_TITLE`.
        x_open_router_categories: its categories, comma-separated. None:
            `OPENROUTER_X_OPEN_ROUTER_CATEGORIES`.
        server_url: the base URL. None: `OPENROUTER_BASE_URL`, or the service's own.
        retry_config: how to repeat what may be repeated. None: up to 3 attempts, with back-off.
        timeout_ms: milliseconds that each call may take, its waits included. None: 120,000.
        session: an `aiohttp.ClientSession` of yours, with your proxy, connector or tracing: it is
            never closed here; or a function that makes one in the event loop: that one is. None: a
            session of our own.
        max_connections: how many calls may be under way at once; more wait their turn, and their
            `timeout_ms` begins with it.
        grace: seconds that a cancelled create gets to finish, so that its key can be deleted, and
            again for the deletion. The event loop must live on for it: `async with`, or `close`,
            waits; `asyncio.run` alone cancels what is left, and then the log says what it was.

    Raises:
        InvalidArgumentError: an argument is not usable, or there is no key.
    """

    def __init__(
        self,
        api_key: APIKey | None = None,
        *,
        http_referer: str | None = None,
        x_open_router_title: str | None = None,
        x_open_router_categories: str | None = None,
        server_url: str | None = None,
        retry_config: RetryConfig | None = None,
        timeout_ms: float | None = None,
        session: Session | None = None,
        max_connections: int = 100,
        grace: float = 5.0,
    ) -> None:
        try:
            credentials = Credentials(_api_key(api_key))
        finally:
            del api_key  # crash reporters send local variables home
        attribution = {
            "http_referer": http_referer,
            "x_open_router_title": x_open_router_title,
            "x_open_router_categories": x_open_router_categories,
        }
        retries = left_out(retry_config)
        options = CallOptions(
            retries=RetryConfig() if retries is None else check_retries("retry_config", retries),
            timeout=checks.timeout_ms(
                "timeout_ms", DEFAULT_TIMEOUT_MS if timeout_ms is None else timeout_ms
            ),
            server_url=_server_url(server_url),
            headers={"User-Agent": f"openrouter-keys/{__version__}", **_headers(attribution)},
        )
        self._transport = Transport(
            credentials=credentials,
            options=options,
            session=session,
            max_connections=checks.count("max_connections", max_connections),
            grace=checks.seconds("grace", grace),
        )
        #: The account's API keys.
        self.api_keys = AsyncAPIKeys(self._transport)
        _debug_as_asked()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the client, once the creates under way have ended, and cancelled ones settled.

        Each gets `grace` seconds. What still waits for its turn, or to be sent again, raises
        `ClientClosedError`.
        """
        await self._transport.close()


def _api_key(given: APIKey | None) -> APIKey:
    key = given or os.environ.get("OPENROUTER_API_KEY")
    del given
    if key is None or key == "":
        checks.refuse("api_key", "there is none: pass api_key= or set OPENROUTER_API_KEY")
    if callable(key):
        return key
    problem = checks.api_key_problem(key)
    if problem is not None:
        del key
        checks.refuse("api_key", f"the key {problem}")
    return key


def _server_url(given: str | None) -> str:
    if given is not None:
        return checks.server_url("server_url", given)
    variable = os.environ.get("OPENROUTER_BASE_URL")
    return checks.server_url("OPENROUTER_BASE_URL", variable) if variable else DEFAULT_SERVER_URL


def _headers(attribution: Mapping[str, str | None]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for argument, value in attribution.items():
        known = os.environ.get(_ATTRIBUTION_VARIABLES[argument]) if value is None else value
        if known:
            checks.header(argument, ATTRIBUTION[argument], known)
            headers[ATTRIBUTION[argument]] = known
    return headers


def _debug_as_asked() -> None:
    """Log each attempt to standard error when `OPENROUTER_DEBUG` asks for it."""
    log = logging.getLogger("openrouter_keys")
    if os.environ.get("OPENROUTER_DEBUG", "").lower() in ("", "0", "false"):
        return
    if not log.handlers:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(message)s"))
        log.addHandler(handler)
        log.setLevel(logging.DEBUG)
