"""A client's calls in one event loop: guards, turns, closing, and what a cancelled create leaves.

How a call is sent, and sent again, is in `attempts`.
"""

import asyncio
import logging
import os
import ssl
import sys
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any, TypeVar

import anyio

from openrouter_keys._base.clock import Clockwork
from openrouter_keys._base.clock_skew import Sample
from openrouter_keys._base.made_keys import MadeKey, MadeKeys
from openrouter_keys._base.masking import escaped
from openrouter_keys._base.pickling import NeverPickled
from openrouter_keys._base.tracebacks import strip
from openrouter_keys._inputs.credentials import Credentials
from openrouter_keys._inputs.options import CallOptions, RequestOptions
from openrouter_keys._protocol.answers import is_cached
from openrouter_keys._transport.attempts import Attempts
from openrouter_keys._transport.call import Call, dated, with_facts
from openrouter_keys._transport.deletion import Removal, remove
from openrouter_keys._transport.wire import Session, Wire
from openrouter_keys.errors import (
    ClientClosedError,
    ClientStateError,
    CreatedKeyUnreadableError,
    CreateOutcomeUnknownError,
    ForkedClientError,
    OpenRouterError,
    WrongEventLoopError,
)
from openrouter_keys.models import CreateKeysResponse
from openrouter_keys.operations import Operation

R = TypeVar("R")

# How many answered creates are remembered, to tell by them how the service stamps its keys.
_SAMPLES = 32
_UNPROVEN = (
    "the key of a cancelled create is left over: the answer tells the hash {0.hash}, and that of "
    "its secret is {0.secret_hash}, so another's key may be meant: look at both, delete yours"
)
_COPIED = (
    "the answer is a copy of an earlier create's, of the key {}: a cache or a proxy gave it, or a "
    "test that gives one answer to many creates (each needs a secret of its own); "
)
_ANOTHERS = (
    "the answer of a cancelled create is a copy: another client of this process made the key {}, "
    "which stays; a key that this create may have made is left over"
)

_log = logging.getLogger("openrouter_keys")


class Transport(NeverPickled):
    """Performs operations for one client, in one event loop.

    Args:
        credentials: the API key.
        options: what holds for every call.
        session: see `Wire`.
        ssl_context: see `Wire`.
        max_connections: how many calls may be under way at once; the others wait their turn.
        grace: seconds that a cancelled create gets to finish, and again to be undone.
        connect_timeout: see `Wire`.
        read_timeout: see `Wire`; a create waits until its deadline.
        clockwork: time and chance.

    Attributes:
        options: what holds for every call.
        max_connections: how many calls may be under way at once.
        grace: seconds that what was cancelled gets to finish.
        clockwork: time and chance.
        made: the keys that it made.
        samples: how the last ones were stamped by the service.
    """

    def __init__(
        self,
        *,
        credentials: Credentials,
        options: CallOptions,
        session: Session | None,
        ssl_context: ssl.SSLContext | None = None,
        max_connections: int,
        grace: float,
        connect_timeout: float = 10.0,
        read_timeout: float = 30.0,
        clockwork: Clockwork | None = None,
    ) -> None:
        self._credentials = credentials
        self.options = options
        self._session = session
        self._ssl_context = ssl_context
        self.max_connections = max_connections
        self.grace = grace
        self._connect_timeout = connect_timeout
        self._read_timeout = read_timeout
        self.clockwork = Clockwork() if clockwork is None else clockwork
        self.made = MadeKeys(options.server_url)
        self.samples: deque[Sample] = deque(maxlen=_SAMPLES)
        self._settling: set[asyncio.Task[Any]] = set()
        self._closed = False
        self._pid: int | None = None  # that of the first call
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wire: Wire
        self._attempts: Attempts
        self._turns: asyncio.Semaphore
        self._most: int

    async def perform(self, operation: Operation[R], options: RequestOptions) -> R:
        """Send an operation, again where that is safe, and return what its answer means.

        Raises:
            OpenRouterError: see `errors`; it tells how many attempts were made, and whether the
                request may have been applied.
        """
        handled = sys.exception()
        try:
            self._guard()
            checked = self.options.with_(options) if options else self.options
            await self._turns.acquire()
            try:
                call = self._begin(operation, checked)
                if operation.made is None:
                    return await self._attempts.run(call)
                return await self._make(call, operation.made)
            finally:
                self._turns.release()
        except BaseException as error:
            strip(error, handled)
            raise

    def ready(self) -> int:
        """Settle in this event loop, and return how many calls may be under way at once."""
        self._guard()
        return self._most

    async def _make(self, call: Call[R], made_by: Callable[[R], MadeKey]) -> R:
        ended = self.made.begin()  # a context manager would take twice as long
        copied: MadeKey | None = None
        created: CreateKeysResponse | None = None
        try:
            undo = call.operation.undo_if_cancelled
            answer = await (self._run_to_the_end(call) if undo else self._attempts.run(call))
            # Before the create counts as ended, lest a reconcile takes its key for a lost one.
            with suppress(Exception):  # the answer holds the secret
                created = answer if isinstance(answer, CreateKeysResponse) else None
                if created is not None and call.proven:  # its secret need not be hashed once more
                    made = MadeKey(created.data.hash, created.data.hash)
                else:
                    made = made_by(answer)
                if self.made.is_repeated(made):
                    copied = made
                else:
                    self.made.add(made)
                    if created is not None and made.proven:
                        self._sample(created)
            if copied is None:
                return answer
            del answer, created  # crash reporters send local variables home
        except CreatedKeyUnreadableError as error:
            with suppress(Exception):
                made = MadeKey.of(error.hash, error.key)
                copied = made if self.made.is_repeated(made) else None
                self.made.add(made)
            if copied is None:
                raise
        finally:
            self.made.end(ended)
        raise self._unknown(call, _COPIED.format(copied.hash))

    def _unknown(self, call: Call[Any], why: str = "") -> CreateOutcomeUnknownError:
        unknown = call.operation.outcome_unknown
        error = CreateOutcomeUnknownError(why) if unknown is None else unknown(why)
        error.maybe_applied = True
        dated(error, call, self.clockwork.moment())
        return with_facts(error, call)

    def _sample(self, answer: CreateKeysResponse) -> None:
        # Until its headers came: the key had been made by then, and they have the `Date`.
        http = answer.http
        ended = self.clockwork.now() - timedelta(seconds=http.body_seconds)
        seconds = http.elapsed - http.body_seconds
        date = None if is_cached(http.headers) else http.headers.get("Date")
        self.samples.append(Sample(answer.data.created_at, date, ended, seconds))

    async def take_back(self, made: MadeKey) -> None:
        """Delete a key whose secret nobody holds, and log what came of it; `close` waits for it."""
        await _held(self._settling, asyncio.create_task(self._undo(made)))

    async def _undo(self, made: MadeKey) -> str:
        """Delete a key if its hash is proven and nobody had it before: it could be another's."""
        if self.made.is_of_another_client(made):
            outcome = _ANOTHERS.format(made.hash)
        else:
            outcome = await self._delete(made.hash) if made.proven else _UNPROVEN.format(made)
        outcome = escaped(outcome)
        _log.warning(outcome)
        return outcome

    async def _delete(self, hash: str) -> str:
        try:
            removal = await remove(self._run_undoing, hash)
        except OpenRouterError as error:
            return f"the key {hash} of a cancelled create is left over, delete it: {error}"
        if removal is Removal.DELETED:
            return f"the key {hash} of a cancelled create was deleted: nobody has its secret"
        # It was there a moment ago: the servers that answer may lag behind.
        return f"the key {hash} of a cancelled create may be left over, delete it: {removal.value}"

    async def _run_undoing(self, operation: Operation[R]) -> R:
        options = self.options.with_({"timeout_ms": max(self.grace, 1) * 1000})
        undo = self._begin(operation, options)
        undo.is_cleanup = True
        return await self._run(undo)

    async def close(self) -> None:
        """Let creates end, and what was cancelled settle, then close the session if it is ours.

        Both get `grace` seconds; then a create that is still under way has an unknown outcome.
        """
        if self._loop is None or self._pid != os.getpid():
            self._closed = True
            return
        if self._loop is not _running_loop():
            raise WrongEventLoopError("the client is closed in another event loop than its own")
        self._closed = self._attempts.closed = True
        with anyio.move_on_after(self.grace):
            await self.made.settled()
        while self._settling:  # each is bounded by the grace
            await asyncio.wait(self._settling)
        await self._wire.close()

    # --- guards ---

    def _guard(self) -> None:
        if self._closed:
            raise ClientClosedError("the client is closed; make a new one")
        if self._pid not in (None, os.getpid()):
            raise ForkedClientError("the client was used before fork(); make one in the child")
        loop = _running_loop()
        if self._loop is None:
            self._settle_in(loop)
        if self._loop is not loop:
            raise WrongEventLoopError(
                "the client is used in a second event loop; make one client for each loop"
            )
        if self._wire.closed:
            raise ClientClosedError("the session was closed; make a new client")

    def _settle_in(self, loop: asyncio.AbstractEventLoop) -> None:
        wire = Wire(
            self._session,
            ssl_context=self._ssl_context,
            connect_timeout=self._connect_timeout,
            read_timeout=self._read_timeout,
        )
        if not wire.lives_in(loop):
            raise WrongEventLoopError("the session was made in another event loop than this one")
        self._wire, self._loop, self._pid = wire, loop, os.getpid()
        self._attempts = Attempts(wire, self._credentials, clockwork=self.clockwork)
        self._most = int(min(self.max_connections, self._wire.connections))
        self._turns = asyncio.Semaphore(self._most)

    def _begin(self, operation: Operation[R], options: CallOptions) -> Call[R]:
        return Call(operation, options, self.clockwork.monotonic())

    async def _run(self, call: Call[R]) -> R:
        """Make the attempts of a call in a task of its own, which event loops may tell of."""
        handled = sys.exception()
        try:
            return await self._attempts.run(call)
        except BaseException as error:
            strip(error, handled)
            raise

    # --- a cancelled create ---

    async def _run_to_the_end(self, call: Call[R]) -> R:
        """Run a call whose success must not be lost, even when its caller is cancelled."""
        run = asyncio.create_task(self._run(call))
        ended = asyncio.get_running_loop().create_future()
        run.add_done_callback(lambda _: None if ended.done() else ended.set_result(None))
        try:
            await ended  # and not the task, which a cancellation would reach
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

    async def _settle(self, call: Call[R], run: "asyncio.Task[R]") -> str:
        """Let a cancelled exchange finish within the grace, and undo it; return what came of it."""
        if not call.in_flight:
            run.cancel()
        await asyncio.wait({run}, timeout=self.grace)
        if not run.done():
            run.cancel()
            await asyncio.wait({run})
        if run.cancelled():
            return self._cut_off(call)
        error = run.exception()
        if error is None and call.operation.made is not None:
            return await self._unless_copied(call, call.operation.made(run.result()))
        if isinstance(error, CreatedKeyUnreadableError):
            return await self._unless_copied(call, MadeKey.of(error.hash, error.key))
        if isinstance(error, OpenRouterError) and error.maybe_applied:
            _log.warning("%s", error)
        return str(error)

    def _cut_off(self, call: Call[Any]) -> str:
        if not call.in_flight or call.operation.outcome_unknown is None:
            return f"{call.operation.name}: cancelled while nothing was with the service"
        error = self._unknown(call)
        _log.warning("%s", error)
        return str(error)

    async def _unless_copied(self, call: Call[Any], made: MadeKey) -> str:
        if not self.made.is_repeated(made):
            return await self._undo(made)
        error = self._unknown(call, _COPIED.format(made.hash))
        _log.warning("%s", error)
        return str(error)


def _running_loop() -> asyncio.AbstractEventLoop:
    """Return asyncio's loop, if it is what runs the caller: trio's tasks may run inside it."""
    try:
        task = asyncio.current_task()
    except RuntimeError:
        task = None
    if task is not None:
        return task.get_loop()
    raise ClientStateError(
        "AsyncOpenRouter works in asyncio only, and no asyncio task is running here: under trio, "
        "call the blocking OpenRouter in a worker thread (trio.to_thread.run_sync)"
    )


def _held(tasks: set[asyncio.Task[Any]], task: asyncio.Task[R]) -> asyncio.Task[R]:
    tasks.add(task)
    task.add_done_callback(tasks.discard)
    return task
