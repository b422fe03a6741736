"""An operation's way over the wire: guards, turns, attempts, pauses, and what a cancel leaves.

No aiohttp (see `wire`), and no rule of when to repeat (see `retries`).
"""

import asyncio
import logging
import os
import random
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

import anyio
from attrs import define, field, frozen

from openrouter_keys.credentials import Credentials
from openrouter_keys.errors import (
    ClientClosedError,
    CreatedKeyUnreadableError,
    CreateOutcomeUnknownError,
    DeadlineExceededError,
    ForkedClientError,
    MalformedBodyError,
    NoResponseError,
    NotSentError,
    OpenRouterError,
    ResponseValidationError,
    WrongEventLoopError,
)
from openrouter_keys.masking import scrub
from openrouter_keys.models import HTTPMeta
from openrouter_keys.operations import Answer, Operation, delete, refusal
from openrouter_keys.options import CallOptions, RequestOptions
from openrouter_keys.retries import (
    MAYBE_APPLIED,
    PAUSES_ALL,
    RETRY_AFTER_CAP,
    Effect,
    Happening,
    RetryQuota,
    decide,
    happening,
    read_retry_after,
)
from openrouter_keys.wire import Departure, NoReply, Reply, Session, Timeouts, Wire

R = TypeVar("R")

E = TypeVar("E", bound=OpenRouterError)

#: Seconds by which a timer of the event loop may fire early.
_TIMER_RESOLUTION = 0.02

_log = logging.getLogger("openrouter_keys")


@frozen
class Clockwork:
    """Time and chance, handed in."""

    monotonic: Callable[[], float] = time.monotonic
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    sleep: Callable[[float], Awaitable[None]] = anyio.sleep
    random: Callable[[], float] = random.random


@frozen
class _Failure:
    """An attempt that came to nothing: what happened, and the error if it stays so."""

    what: Happening
    error: OpenRouterError


@define(eq=False)
class _Call(Generic[R]):
    """One call on its way."""

    operation: Operation[R]
    options: CallOptions
    started: float
    sent_at: datetime
    attempt: int = 0
    maybe_applied: bool = False
    abandoned: bool = False
    rejections: int = 0
    undoing: bool = False
    asked_anew: bool = False
    api_key: str = field(default="", repr=False)
    fresh_key: str | None = field(default=None, repr=False)
    departure: Departure | None = field(default=None, repr=False)

    def counted(self, what: Happening) -> int:
        """How many attempts count for what happened: a 429 uses up none of the others."""
        limited = what is Happening.RATE_LIMITED
        return self.rejections if limited else self.attempt - self.rejections

    @property
    def in_flight(self) -> bool:
        """Whether a request of this call may be with the service right now."""
        return self.departure is not None and not self.departure.unsent


class Transport:
    """Performs operations for one client, in one event loop.

    Args:
        credentials: the API key.
        options: what holds for every call.
        session: see `Wire`.
        max_connections: how many calls may be under way at once; the others wait their turn.
        connect_timeout: seconds for TCP and TLS to be set up.
        read_timeout: seconds of silence after which a request that may be repeated is given up; a
            create waits until its deadline, since asking again is impossible.
        grace: seconds that a cancelled create gets to finish, and again to be undone.
        clockwork: time and chance.
    """

    def __init__(
        self,
        *,
        credentials: Credentials,
        options: CallOptions,
        session: Session | None,
        max_connections: int,
        grace: float,
        connect_timeout: float = 10.0,
        read_timeout: float = 30.0,
        clockwork: Clockwork | None = None,
    ) -> None:
        self._credentials = credentials
        self._options = options
        self._session = session
        self._max_connections = max_connections
        self._grace = grace
        self._connect_timeout = connect_timeout
        self._read_timeout = read_timeout
        self._clockwork = Clockwork() if clockwork is None else clockwork
        self._quota = RetryQuota()
        self._paused_until = 0.0
        self._runs: set[asyncio.Task[Any]] = set()
        self._settling: set[asyncio.Task[Any]] = set()
        self._closed = False
        self._pid = os.getpid()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wire: Wire
        self._turns: asyncio.Semaphore

    async def perform(self, operation: Operation[R], options: RequestOptions) -> R:
        """Send an operation, again where that is safe, and return what its answer means.

        Raises:
            OpenRouterError: see `errors`; it tells how many attempts were made, and whether the
                request may have been applied.
        """
        self._guard()
        checked = self._options.with_(options)
        async with self._turns:
            self._guard()  # the client may have been closed while this call waited
            call = self._begin(operation, checked)
            if operation.made is None:
                return await self._run(call)
            return await self._run_to_the_end(call)

    async def take_back(self, hash: str) -> None:
        """Delete a key whose secret nobody holds, and log what came of it; `close` waits for it."""
        await _held(self._settling, asyncio.create_task(self._delete(hash)))

    async def _delete(self, hash: str) -> str:
        options = self._options.with_({"timeout_ms": max(self._grace, 1) * 1000})
        try:
            undo = self._begin(delete(hash), options)
            undo.undoing = True
            await self._run(undo)
        except OpenRouterError as error:
            told = f"the key {hash} of a cancelled create is left over, delete it: {error}"
        else:
            told = f"the key {hash} of a cancelled create was deleted, since nobody has its secret"
        _log.warning(told)
        return told

    async def close(self) -> None:
        """Let creates end, and what was cancelled settle, then close the session if it is ours.

        Both get `grace` seconds; then a create that is still under way has an unknown outcome.
        """
        if self._loop is None or self._pid != os.getpid():
            self._closed = True
            return
        if self._loop is not asyncio.get_running_loop():
            raise WrongEventLoopError("the client is closed in another event loop than its own")
        self._closed = True
        if self._runs:
            await asyncio.wait(self._runs, timeout=self._grace)
        while self._settling:  # each is bounded by the grace
            await asyncio.wait(self._settling)
        await self._wire.close()

    # --- guards ---

    def _guard(self) -> None:
        if self._closed:
            raise ClientClosedError("the client is closed; make a new one")
        if self._pid != os.getpid():
            raise ForkedClientError("the client was made before fork(); make one in the child")
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._settle_in(loop)
        if self._loop is not loop:
            raise WrongEventLoopError(
                "the client is used in a second event loop; make one client for each loop"
            )
        if self._wire.closed:
            raise ClientClosedError("the session was closed; make a new client")

    def _settle_in(self, loop: asyncio.AbstractEventLoop) -> None:
        wire = Wire(self._session)
        if not wire.lives_in(loop):
            raise WrongEventLoopError("the session was made in another event loop than this one")
        self._wire, self._loop = wire, loop
        self._turns = asyncio.Semaphore(int(min(self._max_connections, self._wire.connections)))

    # --- one call ---

    def _begin(self, operation: Operation[R], options: CallOptions) -> _Call[R]:
        return _Call(operation, options, self._clockwork.monotonic(), self._clockwork.now())

    async def _run(self, call: _Call[R]) -> R:
        while True:
            await self._wait_for_gate(call)
            if self._closed and not call.undoing:
                raise _told(ClientClosedError("the client was closed meanwhile"), call)
            outcome = self._judge(call, await self._send(call))
            if not isinstance(outcome, _Failure):
                self._quota.refund()
                return outcome
            if outcome.what is Happening.UNREADABLE and call.operation.read_back is not None:
                return await self._read_back(call, call.operation.read_back, outcome.error)
            await self._wait_or_raise(call, outcome)

    async def _send(self, call: _Call[R]) -> Reply | NoReply:
        call.api_key = await self._ask_api_key(call)
        left = call.options.timeout - self._elapsed(call)
        if left <= 0:
            raise _told(DeadlineExceededError("no time was left to send it"), call)
        call.departure = Departure()
        call.attempt += 1
        operation, began = call.operation, self._clockwork.monotonic()
        headers = {**call.options.headers, "Authorization": f"Bearer {call.api_key}"}
        if operation.body is not None:
            headers["Content-Type"] = "application/json"
        reply = await self._wire.send(
            operation.method,
            call.options.server_url + operation.path,
            headers,
            operation.body,
            timeouts=Timeouts(
                total=left,
                connect=self._connect_timeout,
                read=None if operation.effect is Effect.CREATE else self._read_timeout,
            ),
            departure=call.departure,
            secrets=(call.api_key, *operation.secrets),
        )
        if _log.isEnabledFor(logging.DEBUG):
            self._log_attempt(call, reply, self._clockwork.monotonic() - began)
        call.departure = None
        return reply

    def _log_attempt(self, call: _Call[Any], reply: Reply | NoReply, seconds: float) -> None:
        operation = call.operation
        came = (
            f"{reply.what.value} ({reply.reason})" if isinstance(reply, NoReply) else reply.status
        )
        _log.debug(
            "%s: %s %s -> %s in %.0f ms (attempt %d)",
            operation.name,
            operation.method,
            scrub(operation.path),
            came,
            seconds * 1000,
            call.attempt,
        )

    def _judge(self, call: _Call[R], reply: Reply | NoReply) -> R | _Failure:
        if isinstance(reply, NoReply):
            return self._unanswered(call, reply)
        answer = Answer(
            reply.body,
            HTTPMeta(
                status=reply.status,
                headers=reply.headers,
                attempts=call.attempt,
                elapsed=self._elapsed(call),
            ),
        )
        what = happening(reply.status)
        if what is Happening.DONE:
            return self._read(call, answer)
        if reply.status == 404 and call.maybe_applied and call.operation.gone is not None:
            return call.operation.gone(answer)
        error = refusal(answer, (call.api_key, *call.operation.secrets))
        error.retry_after = read_retry_after(reply.headers, self._clockwork.now)
        return _Failure(what, _told(error, call, answer))

    def _read(self, call: _Call[R], answer: Answer) -> R | _Failure:
        try:
            return call.operation.read(answer)
        except ResponseValidationError as unreadable:
            error = unreadable
        read_only = call.operation.effect is Effect.READ
        call.maybe_applied = not read_only
        _told(error, call, answer)
        if isinstance(error, MalformedBodyError):
            if read_only and self._is_over(call):
                return _Failure(Happening.UNREADABLE, self._too_late(call, error.message))
            return _Failure(Happening.UNREADABLE, error)
        raise error

    def _unanswered(self, call: _Call[Any], reply: NoReply) -> _Failure:
        if self._is_over(call):
            error: OpenRouterError = self._too_late(call, reply.reason)
        elif reply.what is Happening.NO_ANSWER:
            error = NoResponseError(f"no answer came ({reply.reason})")
        else:
            error = NotSentError(
                f"nothing could be sent to {call.options.server_url} ({reply.reason})"
            )
        return _Failure(reply.what, _told(error, call))

    def _is_over(self, call: _Call[Any]) -> bool:
        return self._elapsed(call) >= call.options.timeout - _TIMER_RESOLUTION

    def _too_late(self, call: _Call[Any], reason: str) -> DeadlineExceededError:
        return _told(
            DeadlineExceededError(f"no answer within {call.options.timeout:g} s ({reason})"), call
        )

    async def _read_back(self, call: _Call[R], get: Operation[R], error: OpenRouterError) -> R:
        """Ask what became of a request that was applied, since its answer does not tell."""
        try:
            return await self._run(_Call(get, call.options, call.started, call.sent_at))
        except OpenRouterError as unread:
            raise error from unread

    # --- the next attempt ---

    async def _wait_or_raise(self, call: _Call[Any], failure: _Failure) -> None:
        what, error, config = failure.what, failure.error, call.options.retries
        if what in MAYBE_APPLIED and call.operation.effect is not Effect.READ:
            call.maybe_applied = True
        error.maybe_applied = call.maybe_applied
        if what in PAUSES_ALL and error.retry_after is not None:
            self._pause(error.retry_after)
        if what is Happening.UNAUTHORIZED and await self._has_another_key(call, error):
            return
        call.rejections += what is Happening.RATE_LIMITED
        wait = decide(
            what,
            call.operation.effect,
            config,
            attempt=call.counted(what),
            elapsed=self._elapsed(call),
            deadline=call.options.timeout,
            retry_after=error.retry_after,
            chance=self._clockwork.random(),
        )
        if wait is None or call.abandoned or not self._pays(what):
            raise self._final(call, failure)
        _log.debug("%s: again in %.0f ms, since %s", call.operation.name, wait * 1000, what.value)
        await self._clockwork.sleep(wait)

    def _pays(self, what: Happening) -> bool:
        # A 429 is repeated at the pace that the service asks for; it amplifies nothing.
        return what is Happening.RATE_LIMITED or self._quota.take()

    def _final(self, call: _Call[Any], failure: _Failure) -> OpenRouterError:
        unknown = call.operation.outcome_unknown
        if unknown is None or failure.what not in MAYBE_APPLIED:
            return failure.error
        error = unknown()
        error.__cause__ = failure.error
        error.started_at, error.ended_at = call.sent_at, self._clockwork.now()
        error.status_code, error.body = failure.error.status_code, failure.error.body
        error.headers, error.retry_after = failure.error.headers, failure.error.retry_after
        return _told(error, call)

    def _pause(self, seconds: float) -> None:
        until = self._clockwork.monotonic() + min(seconds, RETRY_AFTER_CAP)
        self._paused_until = max(self._paused_until, until)

    async def _wait_for_gate(self, call: _Call[Any]) -> None:
        while (pause := self._paused_until - self._clockwork.monotonic()) > 0:
            if self._elapsed(call) + pause >= call.options.timeout:
                error = DeadlineExceededError(
                    f"the service asks every request to wait {pause:.1f} s more, "
                    f"longer than this one may take ({call.options.timeout:g} s)"
                )
                error.retry_after = pause
                raise _told(error, call)
            await self._clockwork.sleep(pause)

    def _elapsed(self, call: _Call[Any]) -> float:
        return self._clockwork.monotonic() - call.started

    # --- the key ---

    async def _ask_api_key(self, call: _Call[Any]) -> str:
        if call.fresh_key is not None:
            key, call.fresh_key = call.fresh_key, None
            return key
        left = call.options.timeout - self._elapsed(call)
        try:
            return await self._credentials.ask(left)
        except TimeoutError:
            pass
        raise _told(
            DeadlineExceededError(f"the api_key callable gave no key within {left:.1f} s"), call
        )

    async def _has_another_key(self, call: _Call[Any], refused: OpenRouterError) -> bool:
        """Whether a callable `api_key`, asked once more, gives another key than the refused one."""
        if call.asked_anew or call.abandoned or self._credentials.fixed:
            return False
        call.asked_anew = True
        try:
            key = await self._ask_api_key(call)
        except OpenRouterError as unasked:
            raise refused from unasked
        call.fresh_key = key if key != call.api_key else None
        return call.fresh_key is not None

    # --- a cancelled create ---

    async def _run_to_the_end(self, call: _Call[R]) -> R:
        """Run a call whose success must not be lost, even when its caller is cancelled."""
        run = _held(self._runs, asyncio.create_task(self._run(call)))
        try:
            await asyncio.wait({run})
            return run.result()
        except asyncio.CancelledError as cancelled:
            call.abandoned = True
            settling = _held(self._settling, asyncio.create_task(self._settle(call, run)))
            # A cancelled anyio scope cancels again and again; one more cancel of the task itself
            # is heard: then the settling goes on alone.
            with anyio.CancelScope(shield=True):
                await asyncio.wait({settling})
                cancelled.add_note(settling.result())
            raise
        finally:
            del run  # an exception's traceback would hold the task, which holds the exception

    async def _settle(self, call: _Call[R], run: "asyncio.Task[R]") -> str:
        """Let a cancelled exchange finish within the grace, and undo it; return what came of it."""
        if not call.in_flight:
            run.cancel()
        await asyncio.wait({run}, timeout=self._grace)
        if not run.done():
            run.cancel()
            await asyncio.wait({run})
        if run.cancelled():
            return self._cut_off(call)
        error = run.exception()
        if error is None and call.operation.made is not None:
            return await self._delete(call.operation.made(run.result()))
        if isinstance(error, CreatedKeyUnreadableError):
            return await self._delete(error.hash)
        if isinstance(error, OpenRouterError) and error.maybe_applied:
            _log.warning("%s", error)
        return str(error)

    def _cut_off(self, call: _Call[Any]) -> str:
        if not call.in_flight or call.operation.outcome_unknown is None:
            return f"{call.operation.name}: cancelled while nothing was with the service"
        error: CreateOutcomeUnknownError = call.operation.outcome_unknown()
        error.maybe_applied = True
        _log.warning("%s", _told(error, call))
        return str(error)


def _held(tasks: set[asyncio.Task[Any]], task: asyncio.Task[R]) -> asyncio.Task[R]:
    tasks.add(task)
    task.add_done_callback(tasks.discard)
    return task


def _told(error: E, call: _Call[Any], answer: Answer | None = None) -> E:
    """Return the error with the facts of its call."""
    error.operation, error.attempts = call.operation.name, call.attempt
    error.maybe_applied = error.maybe_applied or call.maybe_applied
    if answer is not None:
        error.status_code, error.headers = answer.http.status, answer.http.headers
    return error
