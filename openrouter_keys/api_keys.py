"""The operations as coroutines, and the iterator over all keys: signatures and docstrings."""

import logging
from collections.abc import AsyncGenerator, Awaitable, Sequence
from contextlib import aclosing
from datetime import datetime
from typing import TYPE_CHECKING, Literal, SupportsFloat, TypeAlias, Unpack

from openrouter_keys import operations
from openrouter_keys._base.made_keys import MadeKey
from openrouter_keys._base.pickling import NeverPickled
from openrouter_keys._base.unset import UNSET, OptionalNullable
from openrouter_keys._inputs import checks
from openrouter_keys._inputs.arguments import HiddenArguments, hides_arguments
from openrouter_keys._inputs.options import QUIET_PERIOD, RequestOptions, refuse_unknown
from openrouter_keys._protocol.paging import Pager
from openrouter_keys._transport.pages import PREFETCH, Pages
from openrouter_keys._transport.transport import Transport
from openrouter_keys.errors import (
    CreatedKeyUnreadableError,
    CreateOutcomeUnknownError,
    OpenRouterError,
    SecretLostError,
)
from openrouter_keys.models import (
    CreateKeysLimitReset,
    CreateKeysRequest,
    CreateKeysResponse,
    DeleteKeysResponse,
    External,
    ExternalTypedDict,
    GetCurrentKeyResponse,
    GetKeyResponse,
    Key,
    ListResponse,
    UpdateKeysLimitReset,
    UpdateKeysRequest,
    UpdateKeysResponse,
    external_of,
)

if TYPE_CHECKING:  # it takes long to import, and few processes need it
    from openrouter_keys._reconcile.reconcile import Reconciliation

Switch: TypeAlias = bool | str | None

_log = logging.getLogger("openrouter_keys")


class AsyncAPIKeys(NeverPickled):
    """The account's API keys; all but `get_current_key_metadata` needs a management key.

    Every operation takes the options of `RequestOptions` and may raise:

    * `InvalidArgumentError`: an argument is invalid; nothing was sent.
    * `ResponseError`: the service refused; the status decides the class, such as
      `UnauthorizedResponseError`.
    * `NoResponseError`: no answer came; `maybe_applied` is False if nothing was sent.
    * `ResponseValidationError`: the answer is not as documented.
    * `ClientStateError`: the client is closed, was forked, or belongs to another event loop.

    Errors have the number of attempts; docs/retries.md lists which failures are retried.
    Source: https://openrouter.ai/docs/api-reference (API keys).
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    @hides_arguments
    async def get_current_key_metadata(
        self, **options: Unpack[RequestOptions]
    ) -> GetCurrentKeyResponse:
        """Return the record of this client's own key: its limit, usage and budgets.

        Args:
            **options: see `RequestOptions`.
        """
        return await self._transport.perform(operations.current(), options)

    @hides_arguments
    async def list(
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
        operation = operations.list_(
            include_disabled=include_disabled,
            include_expired=include_expired,
            offset=offset,
            workspace_id=workspace_id,
        )
        return await self._transport.perform(operation, options)

    async def iterate(
        self,
        *,
        include_disabled: Switch = None,
        include_expired: Switch = None,
        workspace_id: str | None = None,
        prefetch: int = PREFETCH,
        **options: Unpack[RequestOptions],
    ) -> AsyncGenerator[Key, None]:
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
        found = pages(
            self,
            include_disabled=include_disabled,
            include_expired=include_expired,
            workspace_id=workspace_id,
            prefetch=prefetch,
            **options,
        )
        with HiddenArguments():
            async with aclosing(found):
                async for page in found:
                    for key in page:
                        yield key

    @hides_arguments
    async def find(
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
        checks.nonempty("name", name)
        every = self.iterate(
            include_disabled=True, include_expired=True, workspace_id=workspace_id, **options
        )
        return [key async for key in every if key.name == name]

    @hides_arguments
    async def create(
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
        try:
            masked = external_of(external)
        finally:
            del external  # crash reporters send local variables home
        request = CreateKeysRequest(
            name=name,
            limit=limit,
            limit_reset=limit_reset,
            include_byok_in_limit=include_byok_in_limit,
            expires_at=expires_at,
            creator_user_id=creator_user_id,
            workspace_id=workspace_id,
            external=masked,
        )
        if on_unknown == "raise":
            return await self._transport.perform(operations.create(request), options)
        checks.on_unknown(on_unknown)
        from openrouter_keys._reconcile.single import Settler  # noqa: PLC0415 - see the top

        return await Settler(self._transport, options, quiet_period).create(request)

    @hides_arguments
    async def reconcile(
        self,
        error: CreateOutcomeUnknownError | SecretLostError,
        *,
        quiet_period: float = QUIET_PERIOD,
        **options: Unpack[RequestOptions],
    ) -> "Reconciliation":
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
        from openrouter_keys._reconcile.single import Settler  # noqa: PLC0415 - see the top

        return await Settler(self._transport, options, quiet_period).settle(error)

    @hides_arguments
    async def get(self, hash: str, **options: Unpack[RequestOptions]) -> GetKeyResponse:
        """Get one key.

        Args:
            hash: the key's hash: the SHA-256 of its secret, in lower-case hexadecimal.
            **options: see `RequestOptions`.
        """
        return await self._transport.perform(operations.get(hash), options)

    @hides_arguments
    async def update(
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
        refuse_unknown(options)  # or a mistyped name would pass for "nothing to update"
        request = UpdateKeysRequest(
            name=name,
            disabled=disabled,
            limit=limit,
            limit_reset=limit_reset,
            include_byok_in_limit=include_byok_in_limit,
            workspace_id=workspace_id,
        )
        return await self._transport.perform(operations.update(hash, request), options)

    @hides_arguments
    async def delete(self, hash: str, **options: Unpack[RequestOptions]) -> DeleteKeysResponse:
        """Delete a key for good.

        Args:
            hash: the key's hash.
            **options: see `RequestOptions`.
        """
        return await self._transport.perform(operations.delete(hash), options)


async def pages(
    api_keys: AsyncAPIKeys,
    *,
    include_disabled: Switch = None,
    include_expired: Switch = None,
    workspace_id: str | None = None,
    prefetch: int = PREFETCH,
    **options: Unpack[RequestOptions],
) -> AsyncGenerator[Sequence[Key], None]:
    """Yield all keys by pages; the arguments are those of `AsyncAPIKeys.iterate`."""
    transport = api_keys._transport  # pyright: ignore[reportPrivateUsage]  # the same module

    def ask(offset: int, extra: RequestOptions) -> Awaitable[ListResponse]:
        merged: RequestOptions = {**options, **extra}
        return api_keys.list(
            include_disabled=include_disabled,
            include_expired=include_expired,
            offset=offset,
            workspace_id=workspace_id,
            **merged,
        )

    pager = Pager()
    with HiddenArguments():
        most = min(checks.count("prefetch", prefetch), transport.ready())
        async with Pages(ask, most) as found:
            while not pager.done:
                if pager.wait:
                    await transport.clockwork.sleep(pager.wait)
                page = await found.next(pager)
                yield pager.take(page.data)


async def take_back(api_keys: AsyncAPIKeys, came: CreateKeysResponse | BaseException) -> None:
    """Delete the key of a create whose caller was interrupted, and log the outcome.

    Args:
        api_keys: the API keys that made it.
        came: the create's answer, or its error, which is logged if it may have made a key.
    """
    transport = api_keys._transport  # pyright: ignore[reportPrivateUsage]  # the same module
    if isinstance(came, CreateKeysResponse):
        await transport.take_back(MadeKey.of(came.data.hash, came.key))
    elif isinstance(came, CreatedKeyUnreadableError):
        await transport.take_back(MadeKey.of(came.hash, came.key))
    elif isinstance(came, OpenRouterError) and came.maybe_applied:
        _log.warning("%s", came)
