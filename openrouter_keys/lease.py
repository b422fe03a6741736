"""A key for the time of a block: made with an expiry, deleted at the block's end."""

import asyncio
import logging
from contextlib import AbstractAsyncContextManager, suppress
from datetime import datetime, timedelta
from types import TracebackType
from typing import Final, Literal

from attrs import asdict, define, evolve, field

from openrouter_keys import operations
from openrouter_keys._base.clock_skew import MARGIN
from openrouter_keys._base.made_keys import MadeKey
from openrouter_keys._base.masking import escaped
from openrouter_keys._base.pickling import NeverPickled
from openrouter_keys._base.unset import UNSET
from openrouter_keys._inputs import checks
from openrouter_keys._inputs.options import RequestOptions
from openrouter_keys._protocol.answers import is_cached
from openrouter_keys._protocol.drift import mismatches
from openrouter_keys._protocol.retries import read_date
from openrouter_keys._transport.deletion import Perform, Removal, remove
from openrouter_keys._transport.transport import Transport
from openrouter_keys.api_keys import AsyncAPIKeys, take_back
from openrouter_keys.errors import (
    ClientStateError,
    CreatedKeyUnreadableError,
    LeaseEndedError,
    LeaseMismatchError,
    OpenRouterError,
    ResponseValidationError,
)
from openrouter_keys.models import (
    CreateKeysRequest,
    CreateKeysResponse,
    GetKeyResponse,
    HoldsSecret,
    HTTPMeta,
    Key,
)
from openrouter_keys.operations import Operation, R

#: The longest lease, in seconds: 366 days.
LONGEST: Final = 366 * 86_400.0
# By how much a key may live longer or shorter than asked for: the service changes an expiry by up
# to two minutes, and may cut `created_at` to minutes.
_INEXACT: Final = timedelta(minutes=5)
_HALF: Final = timedelta(seconds=0.5)  # a `Date` has whole seconds

_log = logging.getLogger("openrouter_keys")


@define(eq=False, kw_only=True)
class Lease(HoldsSecret):
    """A key that ends with its block, or at `expires_at` if that does not come to its end.

    Attributes:
        data: the key's record; after the block, the last one that the service showed.
        expires_at: when the service ends the key in any case, by the service's clock.
        usage: US dollars that the key had spent just before it was deleted, as far as the service
            had counted them. None: the block has not ended, or the usage could not be read.
        ended: whether the key has certainly ended: deleted, or expired. If it is False after the
            block, the deletion was not confirmed: a warning in the log says why, and the key may
            work until `expires_at`.
    """

    data: Key
    expires_at: datetime
    usage: float | None = None
    ended: bool = False
    _secret: str | None = field(alias="secret", repr=False)

    @property
    def key(self) -> str:
        """The secret; never shown in `repr`, never pickled.

        Raises:
            LeaseEndedError: the block has ended, or its client was closed.
        """
        if self._secret is None:
            hash = self.data.hash
            raise LeaseEndedError(f"the lease of the key {hash} has ended: make another lease")
        return self._secret

    def _let_go(self) -> None:
        self._secret = None


class Leasing(NeverPickled, AbstractAsyncContextManager[Lease, None]):
    """Makes the key when its block begins, and deletes it when the block ends.

    Args:
        transport: what to send with.
        request: the key to make, without its expiry.
        expires_in: seconds after which it expires.
        on_unknown: see `AsyncAPIKeys.create`.
        quiet_period: see `AsyncAPIKeys.create`.
        options: those of each request.

    Raises:
        InvalidArgumentError: an argument is invalid.
    """

    def __init__(
        self,
        transport: Transport,
        request: CreateKeysRequest,
        *,
        expires_in: float,
        on_unknown: Literal["raise", "reconcile"],
        quiet_period: float,
        options: RequestOptions,
    ) -> None:
        if request.limit is UNSET:
            checks.refuse("limit", "must be US dollars, or None for no limit")
        checks.on_unknown(on_unknown)
        transport.options.with_(options)
        self._transport, self._request, self._options = transport, request, options
        self._expires_in = timedelta(seconds=_lasting(expires_in))
        self._on_unknown: Literal["raise", "reconcile"] = on_unknown
        self._quiet_period = checks.seconds("quiet_period", quiet_period)
        self._is_entered = self._has_sent_delete = self._has_read_usage = False
        self._lease: Lease | None = None
        self._over = 0.0  # when the key has expired, by `Clockwork.steady`
        self._ending = asyncio.Lock()
        self._has_tried = False  # to end it, to the end
        self._left: str | None = None  # what may be left of it then

    async def __aenter__(self) -> Lease:
        if self._is_entered:
            raise LeaseEndedError("a lease is for one block: make another one with `client.lease`")
        self._is_entered = True
        now, at = await self._service_time()
        try:
            self._request = evolve(self._request, expires_at=now + self._expires_in)
        except OverflowError:
            raise ResponseValidationError(f"the service's Date is no usable time: {now}") from None
        try:
            created = await self._create()
        except CreatedKeyUnreadableError as error:
            # Nothing shows that it expires.
            left = await self._transport.see_through(self._undo(MadeKey.of(error.hash, error.key)))
            error.add_note("the key was deleted again" if left is None else f"the key: {left}")
            raise
        expires_at = created.data.expires_at
        came = self._transport.clockwork.steady()
        wrong = _wrong(created, self._request, self._expires_in, timedelta(seconds=came - at))
        if wrong or not isinstance(expires_at, datetime):
            raise await self._refusal(created, wrong)
        # By the service's own two times: `now` may be by this machine's clock, which may be wrong.
        self._over = came + (expires_at - created.data.created_at).total_seconds() + MARGIN
        self._lease = Lease(data=created.data, expires_at=expires_at, secret=created.key)
        # An interrupt may keep a blocking caller from its lease, or from asking for the end of it.
        self._transport.at_close.add(self._end_at_close)
        return self._lease

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        lease = self._lease
        if lease is None:
            raise LeaseEndedError("a lease that was not entered cannot end")
        if exc is None or isinstance(exc, Exception):
            try:
                left = await self._end(lease, self._perform)
            except asyncio.CancelledError as cancelled:
                if left := await self._transport.see_through(self._end_soon(lease)):
                    cancelled.add_note(left)
                raise
        else:
            left = await self._transport.see_through(self._end_soon(lease))
        if left and exc is not None:
            exc.add_note(left)

    async def drop(self, came: Lease | BaseException) -> None:
        """End a lease that an interrupt kept from its caller, or log what is left of its create."""
        if isinstance(came, Lease):
            await self._transport.see_through(self._end_soon(came))
        else:
            await take_back(AsyncAPIKeys(self._transport), came)

    def unreachable(self, error: ClientStateError, exc: BaseException | None) -> None:
        """End the block of a blocking client that cannot end the lease any more: it is closed.

        Args:
            error: why it cannot.
            exc: the block's own error, which gets a note of what is left.

        Raises:
            ClientStateError: `error`, if the lease was not entered.
        """
        if self._lease is None:
            raise error
        self._lease._let_go()  # pyright: ignore[reportPrivateUsage]  # the same module
        if not self._has_tried:
            self._left = _left(self._lease, str(error))
        if self._left and exc is not None:
            exc.add_note(self._left)

    # --- the beginning ---

    async def _service_time(self) -> tuple[datetime, float]:
        """Return the service's time, which ends the key, and when it was, by the steady clock.

        This machine's clock may be wrong: it counts only where no answer shows the service's.
        """
        http = (await self._perform(operations.current())).http
        now, at = self._transport.clockwork.moment()
        return _date_of(http) or now, at

    async def _create(self) -> CreateKeysResponse:
        return await AsyncAPIKeys(self._transport).create(
            **asdict(self._request, recurse=False),
            on_unknown=self._on_unknown,
            quiet_period=self._quiet_period,
            **self._options,
        )

    async def _refusal(
        self, created: CreateKeysResponse, wrong: tuple[str, ...]
    ) -> LeaseMismatchError:
        """Delete a key that may not end as a lease must, and return the error."""
        made, key = MadeKey.of(created.data.hash, created.key), created.data
        left = await self._transport.see_through(self._undo(made))
        became = "it was deleted again" if left is None else left
        ends = key.expires_at if isinstance(key.expires_at, datetime) else "not shown"
        error = LeaseMismatchError(
            f"the key {key.hash} was made, but not as asked for ({', '.join(wrong)}): {became}. "
            f"The service shows: made at {key.created_at}, expires at {ends}, limit {key.limit}"
        )
        error.hash, error.fields, error.deleted = key.hash, wrong, left is None
        return error

    async def _undo(self, made: MadeKey) -> str | None:
        """Delete a key that was just made, if it is proven ours; return what is left to do."""
        if not made.proven:
            return f"it is left over, and its secret has the hash {made.secret_hash}: delete yours"
        if self._transport.made.is_of_another_client(made):
            return "another client of this process made it, so it was not deleted"
        why = await _removed(self._clean_up, made.hash)
        return None if why is None else f"it may be left over, delete it ({why})"

    # --- the end ---

    async def _perform(self, operation: Operation[R]) -> R:
        return await self._transport.perform(operation, self._options)

    async def _clean_up(self, operation: Operation[R]) -> R:
        return await self._transport.clean_up(operation, self._options)

    async def _end(self, lease: Lease, perform: Perform) -> str | None:
        """End it, once; return what may be left of the key. None: nothing."""
        lease._let_go()  # pyright: ignore[reportPrivateUsage]  # the same module
        async with self._ending:
            if not self._has_tried:
                self._left = await self._delete(lease, perform)
                self._has_tried = True
                self._transport.at_close.discard(self._end_at_close)
        return self._left

    async def _delete(self, lease: Lease, perform: Perform) -> str | None:
        """Read the usage, delete the key, and return what may be left of it."""
        hash = lease.data.hash
        if not self._has_read_usage:
            await self._read_usage(lease, perform)
        again, self._has_sent_delete = self._has_sent_delete, True
        why = await _removed(perform, hash, again=again)
        lease.ended = why is None or self._transport.clockwork.steady() >= self._over
        return None if why is None or lease.ended else _left(lease, why)

    async def _end_soon(self, lease: Lease) -> str | None:
        """End it with the client's grace for each request."""
        try:
            return await self._end(lease, self._clean_up)
        except asyncio.CancelledError:  # the event loop ends
            _warned(f"{_may_work(lease)}: its deletion was cancelled")
            raise

    async def _end_at_close(self) -> None:
        if self._lease is not None:
            await self._end_soon(self._lease)

    async def _read_usage(self, lease: Lease, perform: Perform) -> None:
        try:
            found: GetKeyResponse = await perform(operations.get(lease.data.hash))
        except Exception as error:  # noqa: BLE001 - the key must be deleted all the same
            with suppress(Exception):  # as in `_warned`
                _log.info("lease: the usage could not be read: %s", _reason(error))
        else:
            lease.data, lease.usage, self._has_read_usage = found.data, found.data.usage, True


async def drop(
    leasing: AbstractAsyncContextManager[Lease, None], came: Lease | BaseException
) -> None:
    """Do what `Leasing.drop` does, for the blocking client."""
    if isinstance(leasing, Leasing):
        await leasing.drop(came)


def unreachable(
    leasing: AbstractAsyncContextManager[Lease, None],
    error: ClientStateError,
    exc: BaseException | None,
) -> None:
    """Do what `Leasing.unreachable` does, for the blocking client."""
    if isinstance(leasing, Leasing):
        leasing.unreachable(error, exc)


def _lasting(expires_in: float) -> float:
    """Return a lease's time in seconds; refuse one that a lease cannot have."""
    seconds = checks.seconds("expires_in", expires_in)
    if not 0 < seconds <= LONGEST:
        most = f"{LONGEST:,.0f} s (366 days)"
        checks.refuse("expires_in", f"must be more than 0 s and at most {most}, not {seconds:g}")
    return seconds


def _date_of(http: HTTPMeta) -> datetime | None:
    date = None if is_cached(http.headers) else read_date(http.headers.get("Date"))
    return None if date is None else date + timedelta(seconds=http.body_seconds) + _HALF


def _wrong(
    created: CreateKeysResponse, asked: CreateKeysRequest, lasts: timedelta, slept: timedelta
) -> tuple[str, ...]:
    """Return the fields that keep a key from ending as a lease must.

    Args:
        created: the answer.
        asked: the create's body.
        lasts: how long the key is to live.
        slept: how long ago the expiry was set: the create may have waited.
    """
    key = created.data
    wrong = dict.fromkeys(mismatches(asked, key))
    if not _ends(key, lasts, slept):
        wrong["expires_at"] = None
    if not MadeKey.of(key.hash, created.key).proven:
        wrong["hash"] = None  # another key may have it, so that this one cannot be deleted
    return tuple(wrong)


def _ends(key: Key, lasts: timedelta, slept: timedelta) -> bool:
    """Whether a key's record shows that the service ends it when it should."""
    if not isinstance(key.expires_at, datetime) or key.expires_at <= key.created_at:
        return False
    # By the service's own two times: the clock that the expiry was reckoned by may be wrong.
    off = key.expires_at - key.created_at - lasts
    return -_INEXACT - slept <= off <= _INEXACT


async def _removed(perform: Perform, hash: str, *, again: bool = False) -> str | None:
    """Delete a key; return why that is not confirmed, or None.

    Args:
        perform: what sends the requests.
        hash: the key's hash.
        again: whether an earlier delete may have been carried out.
    """
    try:
        removal = await remove(perform, hash)
    except Exception as error:  # noqa: BLE001 - no error of the end may hide the block's own
        return _reason(error)
    # A server that lags behind may not know a key that was made a moment ago.
    return removal.value if removal is Removal.MISSING and not again else None


def _reason(error: Exception) -> str:
    if isinstance(error, OpenRouterError):
        return str(error)
    return escaped(f"{type(error).__name__}: {error}")


def _left(lease: Lease, why: str) -> str:
    return _warned(f"{_may_work(lease)}, since it could not be deleted: {why}")


def _warned(left: str) -> str:
    """Log what is left of a lease, and return it escaped."""
    left = escaped(left)
    with suppress(Exception):  # a handler of the log may raise: the block's own error comes first
        _log.warning("lease: %s", left)
    return left


def _may_work(lease: Lease) -> str:
    return f"the key {lease.data.hash} may work until {lease.expires_at:%Y-%m-%d %H:%M:%S} UTC"
