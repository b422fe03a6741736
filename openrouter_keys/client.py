"""The async client: what a caller sets once, and the life of its session."""

import logging
import os
import sys
from collections.abc import Mapping
from ssl import SSLContext
from types import TracebackType
from typing import NoReturn, Self

from openrouter_keys._base.pickling import NeverPickled
from openrouter_keys._base.unset import left_out
from openrouter_keys._base.version import __version__
from openrouter_keys._inputs import checks
from openrouter_keys._inputs.credentials import APIKey, Credentials
from openrouter_keys._inputs.options import (
    ATTRIBUTION,
    CallOptions,
    check_retries,
    warn_unencrypted,
)
from openrouter_keys._inputs.proxies import FindProxy, no_proxy, proxy_finder
from openrouter_keys._inputs.retry_config import RetryConfig
from openrouter_keys._reconcile.single import QUIET_PERIOD
from openrouter_keys._transport.transport import Transport
from openrouter_keys._transport.wire import Session
from openrouter_keys.api_keys import AsyncAPIKeys
from openrouter_keys.provisioning.report import OnProgress, OnResult, ProvisionReport
from openrouter_keys.provisioning.settings import CONCURRENCY, RunSettings
from openrouter_keys.provisioning.spec_source import Specs
from openrouter_keys.rotation.report import Rotation, RotationReport
from openrouter_keys.rotation.settings import (
    BudgetRule,
    Hashes,
    PlanSettings,
    RotationSettings,
)

DEFAULT_SERVER_URL = "https://openrouter.ai/api/v1"
DEFAULT_TIMEOUT_MS = 120_000

_ATTRIBUTION_VARIABLES: Mapping[str, str] = {
    "http_referer": "OPENROUTER_HTTP_REFERER",
    "x_open_router_title": "OPENROUTER_X_OPEN_ROUTER_TITLE",
    "x_open_router_categories": "OPENROUTER_X_OPEN_ROUTER_CATEGORIES",
}


class AsyncOpenRouter(NeverPickled):
    """A client of OpenRouter's key API, for one event loop.

    Use it with `async with`, or `close` it. Its operations are those of its `api_keys`: list,
    iterate, create, reconcile, get, update, delete and get_current_key_metadata; `provision` makes
    many keys, `rotate` replaces many.

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
        proxy: the URL of a proxy, `http(s)://[user:password@]host[:port]`. `""`: none, not even the
            environment's. None: `HTTPS_PROXY`, `HTTP_PROXY` or `ALL_PROXY`, unless `NO_PROXY` names
            the host. Not with `session`, which has its own.
        ssl: whose certificates are trusted: `ssl.create_default_context(cafile="ca.pem")`, say.
            None: the system's, or those of `SSL_CERT_FILE` and `SSL_CERT_DIR`. Not with `session`.
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
        proxy: str | None = None,
        ssl: SSLContext | None = None,
        max_connections: int = 100,
        grace: float = 5.0,
    ) -> None:
        try:
            credentials = Credentials(_api_key(api_key))
            find_proxy = _find_proxy(proxy, session)
        finally:
            del api_key, proxy  # crash reporters send local variables home
        base_url = _server_url(server_url)
        warn_unencrypted(base_url)
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
            server_url=base_url,
            headers={"User-Agent": f"openrouter-keys/{__version__}", **_headers(attribution)},
            find_proxy=find_proxy,
            proxy=find_proxy(base_url),
        )
        self._transport = Transport(
            credentials=credentials,
            options=options,
            session=session,
            ssl_context=_ssl_context(ssl, session),
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

    async def provision(
        self,
        specs: Specs,
        *,
        journal: str | os.PathLike[str] | None = None,
        concurrency: int = CONCURRENCY,
        rate: float | None = None,
        on_result: OnResult | None = None,
        on_progress: OnProgress | None = None,
        quiet_period: float = QUIET_PERIOD,
        max_failures: int | None = None,
        max_total_limit: float | None = None,
        store_secrets: bool = True,
        recipient: str | None = None,
    ) -> ProvisionReport:
        """Make a key for each spec, concurrently, none twice, and lose no secret.

        The same call with the same journal goes on where the last one ended, however that was:
        nothing settled is created again, and what was in doubt is reconciled first. A create
        without an answer is looked for once late commits have landed: its key is deleted if it is
        provably its own (see `AsyncAPIKeys.reconcile`), and another one is made.

        Cancelled, nothing new begins, what is under way gets the client's `grace` to finish, and
        the last `on_progress` has the report; cancelled once more, it ends at once.

        Args:
            specs: what to make: any iterable or async iterable, read a few hundred ahead.
            journal: the file that makes it durable, private to this user; made if it is not there.
                None: kept in memory, so that a killed process leaves keys that nobody holds.
            concurrency: how many creates are under way at once, at most; the client's
                `max_connections` bounds it too.
            rate: creates a second that are never passed. None: as many as the service accepts.
            on_result: called, and awaited, with each key once its secret is durable, several at
                once. What it did not return from is handed over again by the next run (at least
                once). What it raises stops the run. None: the journal is enough.
            on_progress: called now and then, and at each change of phase.
            quiet_period: seconds after which a create whose connection was lost is taken to have
                landed, or never to. 0 leaves keys behind where the service commits late.
            max_failures: how many keys may be refused, or not as asked for, before the run stops.
                None: any number.
            max_total_limit: US dollars that the limits of all specs may add up to, resets not
                counted; a spec without a limit is refused then. None: any.
            store_secrets: False: secrets are never written, only handed to `on_result`; a key that
                was not handed over before the process died is deleted and made anew.
            recipient: an `age` recipient that secrets are encrypted to in the journal (the extra
                `openrouter-keys[age]`). None: written as they are.

        Returns:
            How many keys were made, failed and are in doubt, and why.

        Raises:
            InvalidArgumentError: an argument is not usable; nothing was sent.
            JournalError: the journal is in use, not private, or not this service's.
            ProvisioningStoppedError: it ended before it was through: the key may not do this (401,
                402, 403), the journal cannot be written, a spec changed since the journal began,
                the source or `on_result` raised, or the service was down for long. Its `report`
                tells how far it came, its `__cause__` why.
        """
        # Loaded late: most programs never need it, nor SQLite, which comes with it.
        from openrouter_keys.provisioning.run import provision  # noqa: PLC0415

        settings = RunSettings(
            journal=journal,
            concurrency=concurrency,
            rate=rate,
            on_result=on_result,
            on_progress=on_progress,
            quiet_period=quiet_period,
            max_failures=max_failures,
            max_total_limit=max_total_limit,
            store_secrets=store_secrets,
            recipient=recipient,
        )
        return await provision(self._transport, specs, settings)

    async def rotate(
        self,
        hashes: Hashes,
        *,
        journal: str | os.PathLike[str],
        on_result: OnResult | None = None,
        budget: BudgetRule = "remaining",
        retire_after: float | None = None,
        concurrency: int = CONCURRENCY,
        rate: float | None = None,
        on_progress: OnProgress | None = None,
        quiet_period: float = QUIET_PERIOD,
        max_failures: int | None = None,
        store_secrets: bool = True,
        recipient: str | None = None,
    ) -> RotationReport:
        """Replace keys: make a twin of each, hand its secret over, then delete the old key.

        A twin has the old key's name, limit, reset, workspace, expiry, creator and external user.
        No old key is touched before its twin's secret was acknowledged. The same call with the
        same journal goes on where the last one ended, and so does `rotate((), journal=…)`: what
        was planned for a key stays as it was, and no twin is made twice.

        Args:
            hashes: the keys to replace: any iterable or async iterable, read to its end before
                anything is sent. What the journal knows already is gone on with in any case.
            journal: the file that makes it durable, private to this user; made if it is not there.
            on_result: called, and awaited, with each twin, as in `provision`; its `ref` is the old
                key's hash. None: the secrets are in the journal, and being there counts as
                acknowledged.
            budget: what a twin may spend of a limit that never resets. `"remaining"`: what the old
                key has left, and what that spends until it is retired is taken off the twin's
                limit then; `"full"`: the whole limit once more. A limit that resets is the same
                again, and this period's spending starts anew.
            retire_after: seconds after a twin's hand-over at which its old key is disabled and
                deleted; the call waits for that. 0: at once; None: not in this call. Without
                `on_result` it confirms: `hashes` must be empty, no twin is made, and each old key
                whose twin was handed over is retired.
            concurrency: how many requests are under way at once, at most.
            rate: requests a second that are never passed. None: as many as the service accepts.
            on_progress: called with how far the making of twins is, as in `provision`.
            quiet_period: see `provision`.
            max_failures: how many twins may be refused, or not as asked for, before it stops.
                None: any number.
            store_secrets: see `provision`.
            recipient: see `provision`.

        Returns:
            How many keys were replaced and retired, and which could not be, and why.

        Raises:
            InvalidArgumentError: an argument is not usable; nothing was sent.
            JournalError: the journal is in use, not private, not this service's or this
                account's, or full.
            ProvisioningStoppedError: the making of twins ended before it was through; no old key
                was retired in this call.
        """
        from openrouter_keys.rotation.run import rotate  # noqa: PLC0415 - as in `provision`

        settings = RotationSettings(
            journal=journal,
            concurrency=concurrency,
            rate=rate,
            on_result=on_result,
            on_progress=on_progress,
            quiet_period=quiet_period,
            max_failures=max_failures,
            store_secrets=store_secrets,
            recipient=recipient,
            budget=budget,
            retire_after=retire_after,
        )
        return await rotate(self._transport, hashes, settings)

    async def plan_rotation(
        self,
        hashes: Hashes,
        *,
        budget: BudgetRule = "remaining",
        concurrency: int = CONCURRENCY,
        rate: float | None = None,
    ) -> list[Rotation]:
        """Tell what `rotate` would plan for keys, and change nothing.

        What a journal holds already is told by `openrouter_keys.rotation.rotations`: `rotate`
        goes on with that as it was planned.

        Args:
            hashes: the keys: any iterable or async iterable, read to its end.
            budget: as in `rotate`.
            concurrency: how many requests are under way at once, at most.
            rate: requests a second that are never passed. None: as many as the service accepts.

        Returns:
            Each key once, in the order of the hashes: its twin's spec, or the problem for which it
            cannot be rotated.

        Raises:
            InvalidArgumentError: an argument is not usable; nothing was sent.
        """
        from openrouter_keys.rotation.run import plan_rotation  # noqa: PLC0415 - as above

        settings = PlanSettings(concurrency=concurrency, rate=rate, budget=budget)
        return await plan_rotation(self._transport, hashes, settings)

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


def _find_proxy(given: str | None, session: Session | None) -> FindProxy:
    try:
        if session is None:
            return proxy_finder(given)
        if given is not None:
            _only_ours("proxy")
        return no_proxy  # of ours: the session may have one
    finally:
        del given


def _ssl_context(given: SSLContext | None, session: Session | None) -> SSLContext | None:
    if given is not None and not isinstance(given, SSLContext):
        kind = type(given).__name__
        checks.refuse(
            "ssl", f'must be an SSLContext (ssl.create_default_context(cafile="…")), not {kind}'
        )
    if given is not None and session is not None:
        _only_ours("ssl")
    return given


def _only_ours(argument: str) -> NoReturn:
    checks.refuse(argument, "is for a session of our own: give it to the session that you pass")


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


def debugging() -> bool:
    """Whether `OPENROUTER_DEBUG` asks for more to be told."""
    return os.environ.get("OPENROUTER_DEBUG", "").lower() not in ("", "0", "false")


def _debug_as_asked() -> None:
    """Log each attempt to standard error when `OPENROUTER_DEBUG` asks for it."""
    log = logging.getLogger("openrouter_keys")
    if not debugging():
        return
    if not log.handlers:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(message)s"))
        log.addHandler(handler)
        log.setLevel(logging.DEBUG)
