"""The async client: a caller's settings, and the life of its session."""

import logging
import os
import sys
from collections.abc import Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from ssl import SSLContext
from typing import TYPE_CHECKING, Literal, NoReturn, Self, SupportsFloat, Unpack

from openrouter_keys._base.pickling import NeverPickled
from openrouter_keys._base.unset import UNSET, OptionalNullable, left_out
from openrouter_keys._base.version import __version__
from openrouter_keys._inputs import checks
from openrouter_keys._inputs.arguments import hides_arguments
from openrouter_keys._inputs.credentials import APIKey, credentials_of
from openrouter_keys._inputs.options import (
    ATTRIBUTION,
    CONCURRENCY,
    QUIET_PERIOD,
    CallOptions,
    RequestOptions,
    check_retries,
    warn_unencrypted,
)
from openrouter_keys._inputs.proxies import FindProxy, no_proxy, proxy_finder
from openrouter_keys._inputs.retry_config import RetryConfig
from openrouter_keys._transport.observing import Observing
from openrouter_keys._transport.transport import Transport
from openrouter_keys._transport.wire import Session
from openrouter_keys.api_keys import AsyncAPIKeys
from openrouter_keys.events import OnEvent, Telemetry
from openrouter_keys.lease import Lease, Leasing
from openrouter_keys.models import (
    CreateKeysLimitReset,
    CreateKeysRequest,
    External,
    ExternalTypedDict,
    external_of,
)

# Imported late: most programs never need what manages many keys, nor SQLite, which it imports. So
# annotations that name its types are texts, and its methods import what they run.
if TYPE_CHECKING:
    from openrouter_keys.adoption.report import AdoptedKey, AdoptionReport
    from openrouter_keys.applying.report import ApplyReport, Plan
    from openrouter_keys.applying.settings import OnApplyProgress, OnPlan, Prune
    from openrouter_keys.ensuring.report import Ensured
    from openrouter_keys.ensuring.settings import OnChange
    from openrouter_keys.journal.specs import KeySpec
    from openrouter_keys.provisioning.report import OnProgress, OnResult, ProvisionReport
    from openrouter_keys.provisioning.settings import JournalOrPlace
    from openrouter_keys.provisioning.spec_source import Specs
    from openrouter_keys.rotation.report import Rotation, RotationReport
    from openrouter_keys.rotation.settings import BudgetRule, Hashes
    from openrouter_keys.sweeping.report import SweepAction, SweepReport
    from openrouter_keys.sweeping.settings import Approve

DEFAULT_SERVER_URL = "https://openrouter.ai/api/v1"
DEFAULT_TIMEOUT_MS = 120_000

_ATTRIBUTION_VARIABLES: Mapping[str, str] = {
    "http_referer": "OPENROUTER_HTTP_REFERER",
    "x_open_router_title": "OPENROUTER_X_OPEN_ROUTER_TITLE",
    "x_open_router_categories": "OPENROUTER_X_OPEN_ROUTER_CATEGORIES",
}


class AsyncOpenRouter(NeverPickled):
    """A client of OpenRouter's key API, for one event loop.

    Use it with `async with`, or `close` it. `api_keys` has the operations: list, iterate, find,
    create, reconcile, get, update, delete and get_current_key_metadata. `ensure` returns the one
    key of a ref; `provision` creates many keys, `rotate` replaces many; `lease` makes a key for the
    time of a block.

    Args:
        api_key: the management key; or a callable, sync or async, that returns it, and is called in
            the event loop before each attempt; or a `CachedKey`, which is called once for each
            lifetime of a key. None, or empty: `OPENROUTER_MANAGEMENT_KEY`, or else
            `OPENROUTER_PROVISIONING_KEY`, or else `OPENROUTER_API_KEY`.
        http_referer: the app's URL, sent as `HTTP-Referer`. None: `OPENROUTER_HTTP_REFERER`.
        x_open_router_title: the app's name. None: `OPENROUTER_X_OPEN_ROUTER_TITLE`.
        x_open_router_categories: its categories, comma-separated. None:
            `OPENROUTER_X_OPEN_ROUTER_CATEGORIES`.
        user_agent: who asks, such as `billing/2.1` or the name of a worker; it is put before this
            package's own name in `User-Agent`. None: that name alone.
        server_url: the base URL. None: `OPENROUTER_BASE_URL`, or the service's own.
        retry_config: when and how to retry. None: up to 3 attempts, with backoff.
        timeout_ms: milliseconds that each call may take, its retries included. None: 120,000.
        session: your `aiohttp.ClientSession`, with your proxy, connector or tracing, which the
            client never closes; or a function that makes one in the event loop, which the client
            closes. None: a session of the client's own.
        proxy: the URL of a proxy, `http(s)://[user:password@]host[:port]`. `""`: none, not even the
            environment's. None: `HTTPS_PROXY`, `HTTP_PROXY` or `ALL_PROXY`, unless `NO_PROXY` names
            the host. Not with `session`, which has its own.
        ssl: the trusted certificates, such as `ssl.create_default_context(cafile="ca.pem")`. None:
            the system's, or those of `SSL_CERT_FILE` and `SSL_CERT_DIR`. Not with `session`.
        max_connections: how many calls may run at once; others wait for their turn, when their
            `timeout_ms` begins.
        grace: seconds that a cancelled create gets to finish, and again to delete its key. The
            event loop must run meanwhile: `async with`, or `close`, waits; `asyncio.run` alone
            cancels it, and then a warning in the log names the key.
        on_event: called in the event loop with each `Event`: an attempt, a retry, a wait, a pause.
            It must return at once; what it raises is logged once, and breaks no call. None: events
            are only in the log, where `DEBUG` is on.
        telemetry: makes spans and metrics, such as `openrouter_keys.otel.OpenTelemetry()`. None:
            none are made.

    Raises:
        InvalidArgumentError: an argument is invalid, or there is no API key.
    """

    @hides_arguments
    def __init__(
        self,
        api_key: APIKey | None = None,
        *,
        http_referer: str | None = None,
        x_open_router_title: str | None = None,
        x_open_router_categories: str | None = None,
        user_agent: str | None = None,
        server_url: str | None = None,
        retry_config: RetryConfig | None = None,
        timeout_ms: float | None = None,
        session: Session | None = None,
        proxy: str | None = None,
        ssl: SSLContext | None = None,
        max_connections: int = 100,
        grace: float = 5.0,
        on_event: OnEvent | None = None,
        telemetry: Telemetry | None = None,
    ) -> None:
        try:
            credentials = credentials_of(api_key)
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
            headers={"User-Agent": _user_agent(user_agent), **_headers(attribution)},
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
            observing=Observing(
                checks.listener("on_event", on_event), checks.telemetry("telemetry", telemetry)
            ),
        )
        #: The account's API keys.
        self.api_keys: AsyncAPIKeys = AsyncAPIKeys(self._transport)
        _debug_as_asked()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @hides_arguments
    def lease(
        self,
        *,
        name: str,
        limit: SupportsFloat | None,
        expires_in: float,
        limit_reset: OptionalNullable[CreateKeysLimitReset] = UNSET,
        include_byok_in_limit: bool | None = None,
        creator_user_id: OptionalNullable[str] = UNSET,
        workspace_id: str | None = None,
        external: External | ExternalTypedDict | None = None,
        on_unknown: Literal["raise", "reconcile"] = "raise",
        quiet_period: float = QUIET_PERIOD,
        **options: Unpack[RequestOptions],
    ) -> AbstractAsyncContextManager[Lease, None]:
        """Make a key for the time of a `with` block, and delete it at the block's end.

        The service ends the key at `expires_at` in any case: if the process is killed, or if the
        key cannot be deleted. The expiry counts by the service's clock, which a request before the
        create asks for. A key that comes back without its expiry or its limit, or otherwise not as
        asked for, is deleted at once.

        The block's own error is never hidden. If the deletion is not confirmed, a warning in the
        log has the key's hash and when it expires, and so does a note of the block's error;
        `Lease.ended` is False then. A block that is cancelled or interrupted waits for the end of
        its key, for the client's `grace` for each request.

        Args:
            name: the key's name, at least 1 character.
            limit: how much the key may spend, in US dollars, at least 0. None: no limit.
            expires_in: seconds after which the service ends the key, counted from the create, more
                than 0 and at most 366 days.
            limit_reset: see `AsyncAPIKeys.create`, and so the following ones.
            include_byok_in_limit: whether spending through own provider keys counts.
            creator_user_id: the creating member of an organization.
            workspace_id: the workspace.
            external: a partner's identity for the key.
            on_unknown: what to do if the create has no answer; the key expires all the same.
            quiet_period: seconds to wait for late commits before a reconcile.
            **options: see `RequestOptions`; they apply to each request.

        Returns:
            What makes the key in `async with`, once, and gives a `Lease`.

        Raises:
            InvalidArgumentError: an argument is invalid; nothing was sent.
            LeaseMismatchError: the key was not as asked for.
            OpenRouterError: the create's, as of `AsyncAPIKeys.create`.
        """
        request = CreateKeysRequest(
            name=name,
            limit=limit,
            limit_reset=limit_reset,
            include_byok_in_limit=include_byok_in_limit,
            creator_user_id=creator_user_id,
            workspace_id=workspace_id,
            external=external_of(external),
        )
        return Leasing(
            self._transport,
            request,
            expires_in=expires_in,
            on_unknown=on_unknown,
            quiet_period=quiet_period,
            options=options,
        )

    @hides_arguments
    async def ensure(
        self,
        spec: "KeySpec",
        *,
        journal: "JournalOrPlace",
        on_change: "OnChange" = "update",
        verify: bool = False,
        recreate: bool = False,
        wait: float | None = None,
        quiet_period: float = QUIET_PERIOD,
        **options: Unpack[RequestOptions],
    ) -> "Ensured":
        """Return the one key of a ref, and create it if there is none.

        Any number of tasks, processes and machines may ask for the same ref at once: with one
        journal, they all get the same key. Whatever is killed or cut off meanwhile, at most one
        live key comes of it, and its secret is in the journal.

        A key that exists costs no request. A create without an answer is settled as in `provision`,
        before another one is sent. Cancelled, a create that is running gets the client's `grace`;
        the next call goes on from the journal.

        Args:
            spec: the key, and the caller's own id for it, `ref`.
            journal: an open `Journal`, which saves opening it each time; or the path of its file,
                or the URL of a PostgreSQL database (`postgresql://…`).
            on_change: what to do if the journal knows the ref with other fields. `"update"`: update
                the key, if an update can; `"refuse"`: raise `PlanChangedError`.
            verify: whether to ask the service for the key's record, too, and see that it exists.
            recreate: whether to create another key if `verify`, or an update, finds it gone.
            wait: seconds to wait for another process, or for the settling of a create without an
                answer. None: the client's `timeout_ms`.
            quiet_period: see `provision`.
            **options: see `RequestOptions`; they apply to each request.

        Returns:
            The key's secret and record, and what was done.

        Raises:
            InvalidArgumentError: an argument is invalid; nothing was sent.
            CreateOutcomeUnknownError: the key cannot be settled within `wait`: ask again in
                `retry_after` seconds. Nothing is lost, and nothing is created twice.
            PlanChangedError: the ref is known with fields that no update can change, or
                `on_change` is `"refuse"`.
            KeyGoneError: the key is gone, and `recreate` is False; or it may be gone.
            SecretNotKeptError: the key was created, and the journal could not be written: the
                secret is in `error.key`.
            JournalError: the journal cannot be used.
            OpenRouterError: the service refused the create, or the update.
        """
        from openrouter_keys.ensuring.ensure import ensure  # noqa: PLC0415 - see the top
        from openrouter_keys.ensuring.settings import EnsureSettings  # noqa: PLC0415 - see the top

        settings = EnsureSettings(
            journal=journal,
            on_change=on_change,
            verify=verify,
            recreate=recreate,
            wait=wait,
            quiet_period=quiet_period,
            options=options,
        )
        return await ensure(self._transport, spec, settings)

    @hides_arguments
    async def release(
        self,
        ref: str,
        *,
        journal: "JournalOrPlace",
        wait: float | None = None,
        quiet_period: float = QUIET_PERIOD,
        **options: Unpack[RequestOptions],
    ) -> bool:
        """Delete the key of a ref, and forget the ref, which may be ensured anew.

        The secret is deleted from the journal first, then the key. Interrupted, the same call goes
        on, and so does `ensure`: it deletes the old key before it creates another one.

        Args:
            ref: the caller's own id for the key.
            journal: see `ensure`.
            wait: see `ensure`.
            quiet_period: see `provision`.
            **options: see `RequestOptions`; they apply to each request.

        Returns:
            Whether the journal knew the ref.

        Raises:
            InvalidArgumentError: an argument is invalid; nothing was sent.
            CreateOutcomeUnknownError: a create of it may still make a key: ask again in
                `retry_after` seconds.
            KeyGoneError: the service does not find the key, and it may be there.
            JournalError: the journal cannot be used.
            OpenRouterError: the key could not be deleted.
        """
        from openrouter_keys.ensuring.release import release  # noqa: PLC0415 - see the top
        from openrouter_keys.ensuring.settings import ReleaseSettings  # noqa: PLC0415 - see the top

        settings = ReleaseSettings(
            journal=journal, wait=wait, quiet_period=quiet_period, options=options
        )
        return await release(self._transport, checks.ref(ref), settings)

    @hides_arguments
    async def adopt(
        self,
        hash: str,
        ref: "str | KeySpec",
        *,
        journal: "JournalOrPlace",
        dry_run: bool = False,
        **options: Unpack[RequestOptions],
    ) -> "AdoptedKey":
        """Make a key that exists a ref's, without its secret, as if the journal had made it.

        From then on `ensure` returns and updates it (`key` is None: the service shows no secret
        twice), `rotate` gives it a new secret, and `release` deletes it. The key itself does not
        change. The same call again changes nothing.

        Args:
            hash: the key's.
            ref: the caller's own id for it. Or its spec: what the key is not counts as asked for
                otherwise, so that `ensure` with that spec changes it. A text: the key counts as
                asked for with the fields that it has; those that are the service's default count
                as left out.
            journal: see `ensure`.
            dry_run: whether the journal stays as it is; what is returned or raised is what would
                come of it.
            **options: see `RequestOptions`; they apply to each request.

        Returns:
            The key's record, and whether the ref had the key before.

        Raises:
            InvalidArgumentError: an argument is invalid; nothing was sent.
            NotAdoptedError: the ref has another key, or the key another ref; or a create without
                an answer, or a living one, may have made the key.
            NotFoundResponseError: there is no such key.
            JournalError: the journal cannot be used, or belongs to another account.
        """
        from openrouter_keys.adoption.adopt import adopt  # noqa: PLC0415 - see the top
        from openrouter_keys.ensuring.settings import ReleaseSettings  # noqa: PLC0415 - see the top

        settings = ReleaseSettings(journal=journal, options=options)
        return await adopt(self._transport, hash, ref, settings, dry_run=dry_run)

    @hides_arguments
    async def adopt_all(
        self,
        specs: "Specs",
        *,
        journal: "JournalOrPlace",
        dry_run: bool = False,
        **options: Unpack[RequestOptions],
    ) -> "AdoptionReport":
        """Make the keys that have the names of specs theirs, as `adopt` does for one.

        Each workspace of the specs is listed once. A key is a spec's if it is the only one of its
        name there, disabled and expired keys included, and the only spec of that name; otherwise,
        none is adopted.

        Args:
            specs: any iterable or async iterable, read to its end before anything is sent. Refs
                that the journal knows stay as they are.
            journal: see `ensure`.
            dry_run: whether the journal stays as it is, and the report says what would come of it.
            **options: see `RequestOptions`; they apply to each request.

        Returns:
            Which keys were adopted, which specs have none, and which could not be adopted, and why.

        Raises:
            InvalidArgumentError: an argument is invalid; nothing was sent.
            DuplicateRefError: two specs have the same ref; nothing was sent.
            IncompleteListingError: the list of keys is not whole; what was adopted by then stays.
            JournalError: the journal cannot be used, or belongs to another account.
        """
        from openrouter_keys.adoption.adopt import adopt_all  # noqa: PLC0415 - see the top
        from openrouter_keys.ensuring.settings import ReleaseSettings  # noqa: PLC0415 - see the top

        settings = ReleaseSettings(journal=journal, options=options)
        return await adopt_all(self._transport, specs, settings, dry_run=dry_run)

    @hides_arguments
    async def sweep(
        self,
        *,
        journals: "Iterable[JournalOrPlace]",
        unused: bool = False,
        older_than: float | None = None,
        name: str | None = None,
        workspace_id: str | None = None,
        action: "SweepAction | None" = None,
        approve: "Approve | None" = None,
        concurrency: int = CONCURRENCY,
        rate: float | None = None,
        **options: Unpack[RequestOptions],
    ) -> "SweepReport":
        """Find the keys that no journal knows, and disable or delete them if asked for.

        A key is known by its hash. The management key itself is never touched, nor is a key that a
        create of a journal which is not settled may have made, by its name. Each key is looked at
        once more right before anything is done with it, and disabled before it is deleted: if it
        is used meanwhile, and `unused` was asked for, it is enabled again and kept.

        Args:
            journals: all journals of the account: paths, URLs or open ones. They are only read.
                With an `action`, they may be left empty only with `unused`.
            unused: whether only keys of which the service shows no use: no spending, and no
                `last_used_at`, which the service shows since the end of 2025.
            older_than: seconds; only keys that were made earlier than so long ago. None: any.
            name: only keys whose name matches this pattern, such as `trial-*`. None: any.
            workspace_id: the workspace. None: the default one.
            action: what is done with the keys. `"disable"`: they stop working, until they are
                enabled; `"delete"`: they are gone for good. None: nothing.
            approve: called, and awaited, with the keys before the first of them changes. If what
                it returns is false, none does. None: all are approved.
            concurrency: the most keys at once.
            rate: the most requests a second. None: any number.
            **options: see `RequestOptions`; they apply to each request.

        Returns:
            The keys, with what proves them unused and what became of each.

        Raises:
            InvalidArgumentError: an argument is invalid; nothing was sent.
            IncompleteListingError: the list of keys is not whole; nothing was changed.
            JournalError: a journal cannot be read, or belongs to another account; nothing was
                changed.
            OpenRouterError: the service refused to list; nothing was changed.
        """
        from openrouter_keys.sweeping.settings import SweepSettings  # noqa: PLC0415 - see the top
        from openrouter_keys.sweeping.sweep import sweep  # noqa: PLC0415 - see the top

        settings = SweepSettings(
            journals=journals,
            unused=unused,
            older_than=older_than,
            name=name,
            workspace_id=workspace_id,
            action=action,
            approve=approve,
            concurrency=concurrency,
            rate=rate,
            options=options,
        )
        return await sweep(self._transport, settings)

    @hides_arguments
    async def provision(
        self,
        specs: "Specs",
        *,
        journal: "JournalOrPlace | None" = None,
        concurrency: int = CONCURRENCY,
        rate: float | None = None,
        on_result: "OnResult | None" = None,
        on_progress: "OnProgress | None" = None,
        quiet_period: float = QUIET_PERIOD,
        max_failures: int | None = None,
        max_total_limit: SupportsFloat | None = None,
        store_secrets: bool = True,
        recipient: str | None = None,
    ) -> "ProvisionReport":
        """Create a key for each spec, concurrently, none twice, and lose no secret.

        The same call with the same journal continues where the last one ended, even if it was
        killed: it creates no finished key again, and first reconciles unknown outcomes. The key of
        a create without an answer is deleted, after the quiet period, if it is provably that
        create's (see `AsyncAPIKeys.reconcile`); then another one is created.

        Cancelled, the run starts no new create, running ones get the client's `grace` to finish,
        and the last `on_progress` has the report. Cancelled again, it ends at once.

        Args:
            specs: the keys to create: any iterable or async iterable, read a few hundred ahead.
            journal: what records the run: the path of a file, private to this user and created if
                missing; the URL of a PostgreSQL database; or an open `Journal`. Several processes
                may share one. None: in memory, so that a killed process leaves keys whose secrets
                are lost.
            concurrency: the most creates at once; the client's `max_connections` bounds it too.
            rate: the most creates a second. None: as many as the service accepts.
            on_result: called, and awaited, with each key once its secret is durable, several at
                once. If it does not return, the next run calls it again (at least once). If it
                raises, the run stops. None: the journal is enough.
            on_progress: called every now and then, and at each change of phase.
            quiet_period: seconds after which a create whose connection was lost is certainly
                committed or lost. 0 leaves keys behind where the service commits late.
            max_failures: how many keys may be refused, or not as requested, before the run stops.
                None: any number.
            max_total_limit: US dollars that the limits of all specs may add up to, resets not
                counted; a spec without a limit is refused then. None: any.
            store_secrets: False: secrets are only passed to `on_result`, never written; a key that
                it did not get before the process died is deleted and created again.
            recipient: an `age` recipient to encrypt the secrets to in the journal (the extra
                `openrouter-keys[age]`). None: not encrypted.

        Returns:
            How many keys were created, failed and are in doubt, and why.

        Raises:
            InvalidArgumentError: an argument is invalid; nothing was sent.
            JournalError: the journal is being purged, not private, or not this service's.
            ProvisioningStoppedError: the run stopped early: the API key may not do this (401, 402,
                403), the journal cannot be written, a spec changed since the journal began, the
                source or `on_result` raised, or the service was down for long. Its `report` has
                the counts, its `__cause__` the reason.
        """
        from openrouter_keys.provisioning.run import provision  # noqa: PLC0415 - see the top
        from openrouter_keys.provisioning.settings import RunSettings  # noqa: PLC0415 - see the top

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

    @hides_arguments
    async def rotate(
        self,
        hashes: "Hashes",
        *,
        journal: "JournalOrPlace",
        on_result: "OnResult | None" = None,
        budget: "BudgetRule" = "remaining",
        limit: OptionalNullable[float] = UNSET,
        expires_at: OptionalNullable[datetime] = UNSET,
        retire_after: float | None = None,
        concurrency: int = CONCURRENCY,
        rate: float | None = None,
        on_progress: "OnProgress | None" = None,
        quiet_period: float = QUIET_PERIOD,
        max_failures: int | None = None,
        store_secrets: bool = True,
        recipient: str | None = None,
    ) -> "RotationReport":
        """Replace keys: create a replacement, hand its secret over, then delete the old key.

        A replacement has the old key's name, limit, reset, workspace, expiry, creator and external
        user, unless another limit or expiry is given. No old key changes before the replacement's
        secret is acknowledged. The same call with the same journal continues where the last one
        ended, and so does `rotate((), journal=…)`: each key's plan stays, and no replacement is
        created twice.

        Args:
            hashes: the keys to replace: any iterable or async iterable, read to its end before
                anything is sent. Rotations in the journal continue in any case.
            journal: what records the run, as in `provision`.
            on_result: called, and awaited, with each replacement, as in `provision`; its `ref` is
                the old key's hash. None: a secret counts as acknowledged once it is in the journal.
            budget: how much a replacement may spend of a limit that never resets. `"remaining"`:
                what the old key has left, less what it spends until it is retired; `"full"`: the
                whole limit again. A limit that resets is copied, and its period starts anew.
            limit: US dollars that each replacement may spend, whatever its old key has left. None:
                no limit. UNSET: as `budget` says.
            expires_at: when each replacement expires, an aware time. None: never. UNSET: when its
                old key does; one that has expired gets no replacement then.
            retire_after: seconds after a replacement's hand-over at which its old key is disabled
                and deleted; the call waits for that. 0: at once; None: not in this call. Without
                `on_result` it confirms: `hashes` must be empty, nothing is created, and each old
                key whose replacement was handed over is retired.
            concurrency: the most requests at once.
            rate: the most requests a second. None: as many as the service accepts.
            on_progress: called with the progress of the creates, as in `provision`.
            quiet_period: see `provision`.
            max_failures: how many creates may be refused, or not as requested, before it stops.
                None: any number.
            store_secrets: see `provision`.
            recipient: see `provision`.

        Returns:
            How many keys were replaced and retired, which could not be, and why.

        Raises:
            InvalidArgumentError: an argument is invalid; nothing was sent.
            JournalError: the journal is being purged, not private, not this service's or this
                account's, or full.
            ProvisioningStoppedError: the creates stopped early; this call retired no old key.
        """
        from openrouter_keys.rotation.run import rotate  # noqa: PLC0415 - see the top
        from openrouter_keys.rotation.settings import RotationSettings, Terms  # noqa: PLC0415 - see the top

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
            terms=Terms(budget=budget, limit=limit, expires_at=expires_at),
            retire_after=retire_after,
        )
        return await rotate(self._transport, hashes, settings)

    @hides_arguments
    async def plan_rotation(
        self,
        hashes: "Hashes",
        *,
        budget: "BudgetRule" = "remaining",
        limit: OptionalNullable[float] = UNSET,
        expires_at: OptionalNullable[datetime] = UNSET,
        concurrency: int = CONCURRENCY,
        rate: float | None = None,
    ) -> "list[Rotation]":
        """Return what `rotate` would plan for keys, and change nothing.

        `openrouter_keys.rotation.rotations` returns the plans in a journal, which `rotate` keeps.

        Args:
            hashes: the keys: any iterable or async iterable, read to its end.
            budget: as in `rotate`.
            limit: as in `rotate`.
            expires_at: as in `rotate`.
            concurrency: the most requests at once.
            rate: the most requests a second. None: as many as the service accepts.

        Returns:
            Each key once, in the order of the hashes: its replacement's spec, or why it cannot be
            rotated.

        Raises:
            InvalidArgumentError: an argument is invalid; nothing was sent.
        """
        from openrouter_keys.rotation.run import plan_rotation  # noqa: PLC0415 - see the top
        from openrouter_keys.rotation.settings import PlanSettings, Terms  # noqa: PLC0415 - see the top

        terms = Terms(budget=budget, limit=limit, expires_at=expires_at)
        settings = PlanSettings(concurrency=concurrency, rate=rate, terms=terms)
        return await plan_rotation(self._transport, hashes, settings)

    @hides_arguments
    async def plan_apply(
        self,
        specs: "Specs",
        *,
        journal: "JournalOrPlace",
        prune: "Prune | None" = None,
        max_prune: float | None = None,
        recreate: bool = False,
        replace: bool = False,
        concurrency: int = CONCURRENCY,
        rate: float | None = None,
    ) -> "Plan":
        """Return what `apply` would do, and change nothing: only reads are sent.

        One listing of the workspaces that the journal and the specs name shows all keys; a key that
        it does not show is asked for by itself. If the journal is new, `plan.namesakes` shows
        whether keys of the account have the names already.

        Args:
            specs: as in `apply`.
            journal: as in `apply`; a file that is not there is not made.
            prune: as in `apply`.
            max_prune: as in `apply`; `plan.excess` says that there would be more.
            recreate: as in `apply`.
            replace: as in `apply`.
            concurrency: the most requests at once.
            rate: the most requests a second, listings not counted. None: as many as the service
                accepts.

        Returns:
            The changes, and of each that would not be done the reason.

        Raises:
            InvalidArgumentError: an argument is invalid; nothing was sent.
            DuplicateRefError: two specs have the same ref.
            JournalError: the journal cannot be read, or is not this service's or this account's.
            OpenRouterError: the keys could not be listed.
        """
        from openrouter_keys.applying.planning import plan_apply  # noqa: PLC0415 - see the top
        from openrouter_keys.applying.settings import PlanSettings  # noqa: PLC0415 - see the top

        settings = PlanSettings(
            journal=journal,
            prune=prune,
            max_prune=max_prune,
            recreate=recreate,
            replace=replace,
            concurrency=concurrency,
            rate=rate,
        )
        return await plan_apply(self._transport, specs, settings)

    @hides_arguments
    async def apply(
        self,
        specs: "Specs",
        *,
        journal: "JournalOrPlace",
        prune: "Prune | None" = None,
        max_prune: float | None = None,
        recreate: bool = False,
        replace: bool = False,
        on_plan: "OnPlan | None" = None,
        on_result: "OnResult | None" = None,
        on_progress: "OnApplyProgress | None" = None,
        concurrency: int = CONCURRENCY,
        rate: float | None = None,
        quiet_period: float = QUIET_PERIOD,
        max_failures: int | None = None,
        max_total_limit: float | None = None,
        store_secrets: bool = True,
        recipient: str | None = None,
    ) -> "ApplyReport":
        """Have the account as the specs say: create, update, restore, replace and prune keys.

        Only fields that a spec names are compared; a key is enabled unless its spec is `disabled`.
        What is changed is journaled first, so that the same call goes on where the last one ended,
        even if it was killed, and no key is created twice. A key that the journal did not create or
        adopt is never touched. Nothing is pruned before all else is done.

        Cancelled, it begins nothing new; running creates get the client's `grace` to finish.

        Args:
            specs: the keys to have: any iterable or async iterable, read to its end before
                anything is sent.
            journal: as in `provision`; there must be one.
            prune: what is done with keys of the journal that no spec names: `"disable"` them, or
                `"delete"` them for good. None: they are only in the plan.
            max_prune: the most keys that are pruned, as an `int`, or as a share of the journal's
                keys from 0.0 to 1.0, as a `float`. Keys that are disabled already do not count.
                If there are more, nothing is changed: the specs may be half of a file. None: half
                of the keys, or 3 if those are more, and none if there are no specs.
            recreate: whether to create keys anew that are gone, or that were never as asked for:
                their users need the new secrets. False: they are only in the plan.
            replace: whether to replace keys where no update can make the change (`expires_at`,
                `creator_user_id`, `external`): a new key is created and handed over, then the old
                one is deleted. Its spending starts anew. False: they are only in the plan.
            on_plan: called, and awaited, with the plan before anything is changed. If it returns
                False, nothing is done.
            on_result: called, and awaited, with each key that is created, as in `provision`; its
                `ref` is the spec's.
            on_progress: called every now and then, and at each change of phase.
            concurrency: the most requests at once; the client's `max_connections` bounds it too.
            rate: the most requests a second. None: as many as the service accepts.
            quiet_period: see `provision`.
            max_failures: how many changes, or creates, may fail before it stops. None: any number.
            max_total_limit: see `provision`.
            store_secrets: see `provision`.
            recipient: see `provision`.

        Returns:
            How many changes were done, and which failed, and why.

        Raises:
            InvalidArgumentError: an argument is invalid; nothing was sent.
            DuplicateRefError: two specs have the same ref.
            AllowanceExceededError: the specs hand out too much.
            TooManyPrunedError: more keys would be pruned than `max_prune`; its `plan` has them.
            JournalError: the journal is being purged, not private, or not this service's or this
                account's.
            ApplyStoppedError: it stopped early, as `provision` does. Its `report` has the counts,
                its `__cause__` the reason.
            OpenRouterError: the keys could not be listed.
        """
        from openrouter_keys.applying.apply import apply  # noqa: PLC0415 - see the top
        from openrouter_keys.applying.settings import ApplySettings  # noqa: PLC0415 - see the top

        settings = ApplySettings(
            journal=journal,
            prune=prune,
            max_prune=max_prune,
            recreate=recreate,
            replace=replace,
            on_plan=on_plan,
            on_result=on_result,
            on_progress=on_progress,
            concurrency=concurrency,
            rate=rate,
            quiet_period=quiet_period,
            max_failures=max_failures,
            max_total_limit=max_total_limit,
            store_secrets=store_secrets,
            recipient=recipient,
        )
        return await apply(self._transport, specs, settings)

    async def close(self) -> None:
        """Wait for running creates, and the deletions after cancelled ones, then close the client.

        Each gets `grace` seconds. Leases that are open are ended. Calls that wait for their
        turn, or for a retry, raise `ClientClosedError`.
        """
        await self._transport.close()


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
    checks.refuse(argument, "does not work with session=: set it in the session that you pass")


def _server_url(given: str | None) -> str:
    if given is not None:
        return checks.server_url("server_url", given)
    variable = os.environ.get("OPENROUTER_BASE_URL")
    return checks.server_url("OPENROUTER_BASE_URL", variable) if variable else DEFAULT_SERVER_URL


def _user_agent(given: str | None) -> str:
    own = f"openrouter-keys/{__version__}"
    if left_out(given) is None:
        return own
    checks.nonempty("user_agent", given)
    checks.header("user_agent", "User-Agent", given)
    return f"{given} {own}"


def _headers(attribution: Mapping[str, str | None]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for argument, value in attribution.items():
        known = os.environ.get(_ATTRIBUTION_VARIABLES[argument]) if value is None else value
        if known:
            checks.header(argument, ATTRIBUTION[argument], known)
            headers[ATTRIBUTION[argument]] = known
    return headers


def debugging() -> bool:
    """Whether `OPENROUTER_DEBUG` is set, so that each attempt is logged."""
    return os.environ.get("OPENROUTER_DEBUG", "").lower() not in ("", "0", "false")


def _debug_as_asked() -> None:
    """Log each attempt to standard error if `OPENROUTER_DEBUG` is set."""
    log = logging.getLogger("openrouter_keys")
    if not debugging():
        return
    log.setLevel(logging.DEBUG)
    if not log.handlers:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(message)s"))
        log.addHandler(handler)
