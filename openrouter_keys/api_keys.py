"""The six operations as coroutines, and the iterator over all keys: signatures and docstrings."""

import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from datetime import datetime
from typing import Literal, TypeAlias, Unpack

from openrouter_keys import operations
from openrouter_keys._base.made_keys import MadeKey
from openrouter_keys._base.pickling import NeverPickled
from openrouter_keys._base.unset import UNSET, OptionalNullable
from openrouter_keys._inputs import checks
from openrouter_keys._inputs.options import RequestOptions, refuse_unknown
from openrouter_keys._protocol.paging import Pager
from openrouter_keys._reconcile.reconcile import Reconciliation
from openrouter_keys._reconcile.single import QUIET_PERIOD, Settler
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

Switch: TypeAlias = bool | str | None

_log = logging.getLogger("openrouter_keys")


class AsyncAPIKeys(NeverPickled):
    """The account's API keys; all but `get_current_key_metadata` needs a management key.

    Every operation takes the options of `RequestOptions` and may raise:

    * `InvalidArgumentError`: an argument is not usable; nothing was sent.
    * a `ResponseError` whose class is that of the status, such as `UnauthorizedResponseError`.
    * a `NoResponseError`: no answer came; `maybe_applied` tells whether it was proven unsent.
    * `ResponseValidationError`: the answer does not read as documented.
    * `ClientStateError`: the client is closed, in another event loop or in none, or was forked.

    Errors say how many attempts were made; docs/retries.md tells which failures are repeated.
    Source: https://openrouter.ai/docs/api-reference (API keys).
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def get_current_key_metadata(
        self, **options: Unpack[RequestOptions]
    ) -> GetCurrentKeyResponse:
        """Tell which key this client uses: its limit, its usage, its budgets.

        Args:
            **options: see `RequestOptions`.
        """
        return await self._transport.perform(operations.current(), options)

    async def list(
        self,
        *,
        include_disabled: Switch = None,
        include_expired: Switch = None,
        offset: int | str | None = None,
        workspace_id: str | None = None,
        **options: Unpack[RequestOptions],
    ) -> ListResponse:
        """List one page of keys, newest first; `iterate` walks through all pages.

        Args:
            include_disabled: True: disabled keys too; None: as the service likes. The strings
                `"true"` and `"false"` count too, as in the older SDK.
            include_expired: True: expired keys too; None: as the service likes.
            offset: how many keys to skip, at least 0; None: none. A decimal string counts too.
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
        **options: Unpack[RequestOptions],
    ) -> AsyncGenerator[Key, None]:
        """Go through all keys, newest first, each once; pages are asked for as they are needed.

        A key that exists from the beginning to the end is never missed, whatever others create or
        delete meanwhile: pages overlap, and one that does not join what was seen is asked for
        again from further back.

        Args:
            include_disabled: True: disabled keys too; None: as the service likes.
            include_expired: True: expired keys too; None: as the service likes.
            workspace_id: the workspace, a UUID; None: the default workspace.
            **options: see `RequestOptions`; they hold for each page.

        Raises:
            IncompleteListingError: the service's pages do not fit together, or do not end; what
                came until then are keys, but maybe not all.
        """
        found = pages(
            self,
            include_disabled=include_disabled,
            include_expired=include_expired,
            workspace_id=workspace_id,
            **options,
        )
        async with aclosing(found):
            async for page in found:
                for key in page:
                    yield key

    async def create(
        self,
        *,
        name: str,
        limit: OptionalNullable[float] = UNSET,
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

        A create is never sent again while it may have been applied. Cancelled while it is under
        way, it is let finish for a moment, and its key is deleted, since nobody holds the secret.

        Args:
            name: the key's name, at least 1 character.
            limit: what it may spend, in US dollars, at least 0. None: no limit; UNSET: left out.
            limit_reset: `daily`, `weekly` or `monthly`, at midnight UTC, weeks from Monday. None:
                never; UNSET: left out.
            include_byok_in_limit: whether spending through own provider keys counts. None: left
                out.
            expires_at: an aware time, sent in UTC. None: never; UNSET: left out.
            creator_user_id: who creates it, in an organization's account, at least 1 character.
                None: null; UNSET: left out.
            workspace_id: the workspace, a UUID. None: the default workspace.
            external: a partner's identity for the key. None: left out.
            on_unknown: what follows on a create without an answer, or whose answer lost the
                secret. `"raise"`: the error; `"reconcile"`: after the quiet period its key is
                looked for and deleted, as `reconcile` does, and another one is created, up to 3 in
                all. What is left by then is raised.
            quiet_period: seconds to wait for late commits before a reconcile.
            **options: see `RequestOptions`; they hold for each create.

        Raises:
            CreateOutcomeUnknownError: sent, and no answer tells whether there is a key now.
            SecretLostError: a key was made and its secret cannot be read: delete it.
            CreatedKeyUnreadableError: a key was made; its secret is in the error's `key`.
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
        if on_unknown != "reconcile":
            checks.refuse("on_unknown", f'must be "raise" or "reconcile", not {on_unknown!r}')
        return await Settler(self._transport, options, quiet_period).create(request)

    async def reconcile(
        self,
        error: CreateOutcomeUnknownError | SecretLostError,
        *,
        quiet_period: float = QUIET_PERIOD,
        **options: Unpack[RequestOptions],
    ) -> Reconciliation:
        """Look for the key that a create without an answer may have made, and delete it.

        A key is deleted only if it is provably that create's: it has the name, was made while the
        create was under way, by the service's clock, and was never used; and there are not more
        such keys than creates. Anything else of that name and time is returned as `unproven`, and a
        list that may not be whole as `incomplete`: then nothing is settled.

        Args:
            error: what the create raised.
            quiet_period: seconds after the create's end before which nothing is looked for: one
                whose connection was lost can still land.
            **options: see `RequestOptions`; those that the create had.
        """
        return await Settler(self._transport, options, quiet_period).settle(error)

    async def get(self, hash: str, **options: Unpack[RequestOptions]) -> GetKeyResponse:
        """Get one key.

        Args:
            hash: the key's hash: the SHA-256 of its secret, in lower-case hexadecimal digits.
            **options: see `RequestOptions`.
        """
        return await self._transport.perform(operations.get(hash), options)

    async def update(
        self,
        hash: str,
        *,
        name: str | None = None,
        disabled: bool | None = None,
        limit: OptionalNullable[float] = UNSET,
        limit_reset: OptionalNullable[UpdateKeysLimitReset] = UNSET,
        include_byok_in_limit: bool | None = None,
        workspace_id: str | None = None,
        **options: Unpack[RequestOptions],
    ) -> UpdateKeysResponse:
        """Change what is given, and leave the rest as it is.

        Args:
            hash: the key's hash.
            name: a new name, at least 1 character. None: left as it is.
            disabled: True: it stops working until it is enabled again. None: left as it is.
            limit: what it may spend, in US dollars, at least 0. None: no limit; UNSET: left as it
                is.
            limit_reset: `daily`, `weekly` or `monthly`. None: never; UNSET: left as it is.
            include_byok_in_limit: whether spending through own provider keys counts. None: left
                as it is.
            workspace_id: the workspace to move it to, a UUID. None: left where it is.
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

    async def delete(self, hash: str, **options: Unpack[RequestOptions]) -> DeleteKeysResponse:
        """Delete a key, for good.

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
    **options: Unpack[RequestOptions],
) -> AsyncGenerator[Sequence[Key], None]:
    """Go through all keys as `AsyncAPIKeys.iterate` does, which tells the arguments, by pages."""
    clockwork = api_keys._transport.clockwork  # pyright: ignore[reportPrivateUsage]  # the same module
    pager = Pager()
    while not pager.done:
        if pager.wait:
            await clockwork.sleep(pager.wait)
        page = await api_keys.list(
            include_disabled=include_disabled,
            include_expired=include_expired,
            offset=pager.offset,
            workspace_id=workspace_id,
            **options,
        )
        yield pager.take(page.data)


async def take_back(api_keys: AsyncAPIKeys, came: CreateKeysResponse | BaseException) -> None:
    """Delete a key that was made for somebody who no longer waits for its secret.

    Args:
        api_keys: what made it.
        came: the create's answer, or its error. What comes of the deletion is logged, not raised,
            and so is an error that tells of a key that there may be.
    """
    transport = api_keys._transport  # pyright: ignore[reportPrivateUsage]  # the same module
    if isinstance(came, CreateKeysResponse):
        await transport.take_back(MadeKey.of(came.data.hash, came.key))
    elif isinstance(came, CreatedKeyUnreadableError):
        await transport.take_back(MadeKey.of(came.hash, came.key))
    elif isinstance(came, OpenRouterError) and came.maybe_applied:
        _log.warning("%s", came)
