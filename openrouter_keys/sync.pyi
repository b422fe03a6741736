"""Made by `python -m tests.stubs` of `sync.py` and what it names: change those."""

from aiohttp import ClientSession
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from openrouter_keys._base.unset import OptionalNullable, UNSET
from openrouter_keys._blocking.facade import Facade
from openrouter_keys._inputs.credentials import APIKey
from openrouter_keys._inputs.options import CONCURRENCY, QUIET_PERIOD, RequestOptions
from openrouter_keys._inputs.retry_config import RetryConfig
from openrouter_keys._reconcile.reconcile import Reconciliation
from openrouter_keys._transport.pages import PREFETCH
from openrouter_keys.adoption.report import AdoptedKey, AdoptionReport
from openrouter_keys.api_keys import AsyncAPIKeys, Switch
from openrouter_keys.applying.report import ApplyReport, Plan
from openrouter_keys.applying.settings import OnApplyProgress, OnPlan, Prune
from openrouter_keys.client import AsyncOpenRouter
from openrouter_keys.ensuring.report import Ensured
from openrouter_keys.ensuring.settings import OnChange
from openrouter_keys.errors import CreateOutcomeUnknownError, SecretLostError
from openrouter_keys.events import OnEvent, Telemetry
from openrouter_keys.journal.specs import KeySpec
from openrouter_keys.lease import Lease
from openrouter_keys.models import CreateKeysLimitReset, CreateKeysResponse, DeleteKeysResponse, External, ExternalTypedDict, GetCurrentKeyResponse, GetKeyResponse, Key, ListResponse, UpdateKeysLimitReset, UpdateKeysResponse
from openrouter_keys.provisioning.report import OnProgress, OnResult, ProvisionReport
from openrouter_keys.provisioning.settings import JournalOrPlace
from openrouter_keys.provisioning.spec_source import Specs
from openrouter_keys.rotation.report import Rotation, RotationReport
from openrouter_keys.rotation.settings import BudgetRule, Hashes
from openrouter_keys.sweeping.report import SweepAction, SweepReport
from openrouter_keys.sweeping.settings import Approve
from ssl import SSLContext
from typing import Literal, Self, SupportsFloat, Unpack

class APIKeys(Facade[AsyncAPIKeys]):
    """`AsyncAPIKeys`, blocking: the same methods, arguments and errors."""

    def get_current_key_metadata(
        self, **options: Unpack[RequestOptions]
    ) -> GetCurrentKeyResponse:
        """Return the record of this client's own key: its limit, usage and budgets.

        Args:
            **options: see `RequestOptions`.
        """

    def list(
        self,
        *,
        include_disabled: Switch = None,
        include_expired: Switch = None,
        offset: int | str | None = None,
        workspace_id: str | None = None,
        **options: Unpack[RequestOptions],
    ) -> ListResponse:
        """Return one page of keys, newest first; `iterate` goes through all pages.

        Args:
            include_disabled: True: disabled keys too; None: the service's default. The strings
                `"true"` and `"false"` work too, as in the older SDK.
            include_expired: True: expired keys too; None: the service's default.
            offset: how many keys to skip, at least 0; None: 0. A decimal string works too.
            workspace_id: the workspace, a UUID; None: the default workspace.
            **options: see `RequestOptions`.
        """

    def iterate(
        self,
        *,
        include_disabled: Switch = None,
        include_expired: Switch = None,
        workspace_id: str | None = None,
        prefetch: int = PREFETCH,
        **options: Unpack[RequestOptions],
    ) -> Iterator[Key]:
        """Yield all keys, newest first, each once; pages are requested shortly before their turn.

        A key that exists all the time is never missed, whatever others create or delete meanwhile:
        pages overlap, and a page that does not is requested again from further back.

        The first page is requested alone. While keys are taken, two pages at once follow, then
        four, and so on. To stop early, close the generator, as `contextlib.aclosing` does: it
        cancels the requests that are under way. An error is raised once its page has its turn.

        Args:
            include_disabled: True: disabled keys too; None: the service's default.
            include_expired: True: expired keys too; None: the service's default.
            workspace_id: the workspace, a UUID; None: the default workspace.
            prefetch: how many pages may be requested at once, at least 1, which requests each page
                when its keys are needed. `max_connections` limits it, too.
            **options: see `RequestOptions`; they apply to each page.

        Raises:
            IncompleteListingError: the service's pages do not fit together, or do not end. The keys
                yielded until then exist, but may not be all.
        """

    def find(
        self,
        name: str,
        *,
        workspace_id: str | None = None,
        **options: Unpack[RequestOptions],
    ) -> Sequence[Key]:
        """Return the keys that have a name, newest first: none, one or several.

        All keys of the workspace are listed for it; the service has no other way.

        Args:
            name: the whole name, as it was written.
            workspace_id: the workspace, a UUID. None: the default workspace.
            **options: see `RequestOptions`; they apply to each page.

        Returns:
            The keys, disabled and expired ones too.

        Raises:
            IncompleteListingError: as of `iterate`.
        """

    def create(
        self,
        *,
        name: str,
        limit: OptionalNullable[SupportsFloat] = UNSET,
        limit_reset: OptionalNullable[CreateKeysLimitReset] = UNSET,
        include_byok_in_limit: bool | None = None,
        expires_at: OptionalNullable[datetime] = UNSET,
        creator_user_id: OptionalNullable[str] = UNSET,
        workspace_id: str | None = None,
        external: External | ExternalTypedDict | None = None,
        on_unknown: Literal["raise", "reconcile"] = "raise",
        quiet_period: float = QUIET_PERIOD,
        **options: Unpack[RequestOptions],
    ) -> CreateKeysResponse:
        """Create a key and return its secret, which the service shows this once.

        A create that may have been applied is never retried. If the caller is cancelled, the
        request may finish within the client's `grace`; then its key is deleted, since its secret
        would be lost. If that is not proven, the exception's `__cause__` is the error for
        `reconcile`.

        Args:
            name: the key's name, at least 1 character.
            limit: how much the key may spend, in US dollars, at least 0: a number of any kind, such
                as a Decimal. None: no limit; UNSET: left out.
            limit_reset: `daily`, `weekly` or `monthly`, at midnight UTC, on Mondays for weeks.
                None: never; UNSET: left out.
            include_byok_in_limit: whether spending through own provider keys counts. None: left
                out.
            expires_at: a time with a zone; sent in UTC. None: never; UNSET: left out.
            creator_user_id: the creating member of an organization, at least 1 character. None:
                null; UNSET: left out.
            workspace_id: the workspace, a UUID. None: the default workspace.
            external: a partner's identity for the key. None: left out.
            on_unknown: what to do if no answer came, or the answer lacks the secret. `"raise"`:
                raise the error. `"reconcile"`: after the quiet period, delete the key as
                `reconcile` does, and create another one; up to 3 creates, then raise.
            quiet_period: seconds to wait for late commits before a reconcile.
            **options: see `RequestOptions`; they apply to each create.

        Raises:
            CreateOutcomeUnknownError: the create was sent, and may have made a key.
            SecretLostError: a key was made, and its secret cannot be read.
            CreatedKeyUnreadableError: a key was made, and its secret is in the error's `key`.
        """

    def get(self, hash: str, **options: Unpack[RequestOptions]) -> GetKeyResponse:
        """Get one key.

        Args:
            hash: the key's hash: the SHA-256 of its secret, in lower-case hexadecimal.
            **options: see `RequestOptions`.
        """

    def update(
        self,
        hash: str,
        *,
        name: str | None = None,
        disabled: bool | None = None,
        limit: OptionalNullable[SupportsFloat] = UNSET,
        limit_reset: OptionalNullable[UpdateKeysLimitReset] = UNSET,
        include_byok_in_limit: bool | None = None,
        workspace_id: str | None = None,
        **options: Unpack[RequestOptions],
    ) -> UpdateKeysResponse:
        """Change the given fields of a key; the others stay.

        Args:
            hash: the key's hash.
            name: a new name, at least 1 character. None: unchanged.
            disabled: True: the key stops working until it is enabled again. None: unchanged.
            limit: how much the key may spend, in US dollars, at least 0: a number of any kind, such
                as a Decimal. None: no limit; UNSET: unchanged.
            limit_reset: `daily`, `weekly` or `monthly`. None: never; UNSET: unchanged.
            include_byok_in_limit: whether spending through own provider keys counts. None:
                unchanged.
            workspace_id: the workspace to move the key to, a UUID. None: unchanged.
            **options: see `RequestOptions`.
        """

    def reconcile(
        self,
        error: CreateOutcomeUnknownError | SecretLostError,
        *,
        quiet_period: float = QUIET_PERIOD,
        **options: Unpack[RequestOptions],
    ) -> Reconciliation:
        """Find the key that a create without an answer may have made, and delete it.

        A key is deleted only if it is provably that create's: it has the name, was made during the
        create, by the service's clock, and was never used; and there are not more such keys than
        creates. Other keys of that name and time are returned as `unproven`, and a list that may
        not be whole as `incomplete`: then nothing is settled.

        Args:
            error: the error of the create.
            quiet_period: seconds to wait after the create's end: the service may still commit one
                whose connection was lost.
            **options: see `RequestOptions`; give those of the create.
        """

    def delete(self, hash: str, **options: Unpack[RequestOptions]) -> DeleteKeysResponse:
        """Delete a key for good.

        Args:
            hash: the key's hash.
            **options: see `RequestOptions`.
        """

class OpenRouter(Facade[AsyncOpenRouter]):
    """`AsyncOpenRouter`, blocking: from scripts, notebooks (also in a running loop) and threads.

    Use it with `with`, or `close` it. `api_keys` has the operations: list, iterate, find, create,
    reconcile, get, update, delete and get_current_key_metadata. `ensure` returns the one key of a
    ref; `provision` creates many keys, `apply` has the account as specs say, `rotate` replaces many
    keys; `lease` makes a key for the time of a block.

    Ctrl-C is raised at once and leaves the client usable; the key of an interrupted create is
    deleted in the background, at `close` at the latest. `provision`, `apply` and `rotate` first
    wait for running requests, until a second Ctrl-C; they iterate over their arguments and call
    `on_result` in the caller's thread. The arguments are those of `AsyncOpenRouter`, but for these:

    Args:
        session: a function that makes an `aiohttp.ClientSession`, with your proxy, connector or
            tracing; it is called in the client's own event loop, and the client closes the
            session. None: a session of the client's own.
        on_event: as of `AsyncOpenRouter`; it is called in the thread of the client's own event
            loop, and must not call this client.
    """

    api_keys: APIKeys

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
        session: Callable[[], ClientSession] | None = None,
        proxy: str | None = None,
        ssl: SSLContext | None = None,
        max_connections: int = 100,
        grace: float = 5.0,
        on_event: OnEvent | None = None,
        telemetry: Telemetry | None = None,
    ) -> None: ...

    def ensure(
        self,
        spec: KeySpec,
        *,
        journal: JournalOrPlace,
        on_change: OnChange = "update",
        verify: bool = False,
        recreate: bool = False,
        wait: float | None = None,
        quiet_period: float = QUIET_PERIOD,
        **options: Unpack[RequestOptions],
    ) -> Ensured:
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

    def release(
        self,
        ref: str,
        *,
        journal: JournalOrPlace,
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

    def adopt(
        self,
        hash: str,
        ref: str | KeySpec,
        *,
        journal: JournalOrPlace,
        dry_run: bool = False,
        **options: Unpack[RequestOptions],
    ) -> AdoptedKey:
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

    def adopt_all(
        self,
        specs: Specs,
        *,
        journal: JournalOrPlace,
        dry_run: bool = False,
        **options: Unpack[RequestOptions],
    ) -> AdoptionReport:
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
    ) -> AbstractContextManager[Lease, None]:
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

    def sweep(
        self,
        *,
        journals: Iterable[JournalOrPlace],
        unused: bool = False,
        older_than: float | None = None,
        name: str | None = None,
        workspace_id: str | None = None,
        action: SweepAction | None = None,
        approve: Approve | None = None,
        concurrency: int = CONCURRENCY,
        rate: float | None = None,
        **options: Unpack[RequestOptions],
    ) -> SweepReport:
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

    def provision(
        self,
        specs: Specs,
        *,
        journal: JournalOrPlace | None = None,
        concurrency: int = CONCURRENCY,
        rate: float | None = None,
        on_result: OnResult | None = None,
        on_progress: OnProgress | None = None,
        quiet_period: float = QUIET_PERIOD,
        max_failures: int | None = None,
        max_total_limit: SupportsFloat | None = None,
        store_secrets: bool = True,
        recipient: str | None = None,
    ) -> ProvisionReport:
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

    def rotate(
        self,
        hashes: Hashes,
        *,
        journal: JournalOrPlace,
        on_result: OnResult | None = None,
        budget: BudgetRule = "remaining",
        limit: OptionalNullable[float] = UNSET,
        expires_at: OptionalNullable[datetime] = UNSET,
        retire_after: float | None = None,
        concurrency: int = CONCURRENCY,
        rate: float | None = None,
        on_progress: OnProgress | None = None,
        quiet_period: float = QUIET_PERIOD,
        max_failures: int | None = None,
        store_secrets: bool = True,
        recipient: str | None = None,
    ) -> RotationReport:
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

    def apply(
        self,
        specs: Specs,
        *,
        journal: JournalOrPlace,
        prune: Prune | None = None,
        max_prune: float | None = None,
        recreate: bool = False,
        replace: bool = False,
        on_plan: OnPlan | None = None,
        on_result: OnResult | None = None,
        on_progress: OnApplyProgress | None = None,
        concurrency: int = CONCURRENCY,
        rate: float | None = None,
        quiet_period: float = QUIET_PERIOD,
        max_failures: int | None = None,
        max_total_limit: float | None = None,
        store_secrets: bool = True,
        recipient: str | None = None,
    ) -> ApplyReport:
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

    def plan_apply(
        self,
        specs: Specs,
        *,
        journal: JournalOrPlace,
        prune: Prune | None = None,
        max_prune: float | None = None,
        recreate: bool = False,
        replace: bool = False,
        concurrency: int = CONCURRENCY,
        rate: float | None = None,
    ) -> Plan:
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

    def plan_rotation(
        self,
        hashes: Hashes,
        *,
        budget: BudgetRule = "remaining",
        limit: OptionalNullable[float] = UNSET,
        expires_at: OptionalNullable[datetime] = UNSET,
        concurrency: int = CONCURRENCY,
        rate: float | None = None,
    ) -> list[Rotation]:
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

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def close(self) -> None:
        """Close the client once the calls of other threads have ended.

        Interrupted creates get `grace` seconds each, so that their keys can be deleted. Leases
        that are open are ended.
        """
