"""A client's calls in one event loop: guards, turns, closing, and deleting cancelled creates' keys.

`attempts` sends and retries a call.
"""

import asyncio
import functools
import logging
import os
import ssl
import sys
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, TypeVar

import anyio
from attrs import evolve

from openrouter_keys._base.clock import Clockwork
from openrouter_keys._base.clock_skew import Sample
from openrouter_keys._base.made_keys import MadeKey, MadeKeys
from openrouter_keys._base.masking import escaped, hash_of
from openrouter_keys._base.pickling import NeverPickled
from openrouter_keys._base.tracebacks import strip
from openrouter_keys._inputs.credentials import Credentials
from openrouter_keys._inputs.options import CallOptions, RequestOptions
from openrouter_keys._protocol.answers import is_cached
from openrouter_keys._transport.attempts import Attempts
from openrouter_keys._transport.call import Call, event_of, unknown_outcome
from openrouter_keys._transport.deletion import Removal, remove
from openrouter_keys._transport.observing import Observing
from openrouter_keys._transport.turns import Turns
from openrouter_keys._transport.wire import Session, Wire
from openrouter_keys.errors import (
    APIKeyError,
    ClientClosedError,
    ClientStateError,
    CreatedKeyUnreadableError,
    ForkedClientError,
    OpenRouterError,
    WrongEventLoopError,
)
from openrouter_keys.models import CreateKeysResponse, HTTPMeta, Key
from openrouter_keys.operations import Operation

R = TypeVar("R")

# How many answered creates are remembered, whose times show the service's clock.
_SAMPLES = 32
_UNPROVEN = (
    "the key of a cancelled create is left over: the answer has the hash {0.hash}, but its secret "
    "has {0.secret_hash}, so the hash may be another key's. Look at both and delete yours"
)
_COPIED = (
    "the answer is a copy of an earlier create's, of the key {}: from a cache or a proxy, or from "
    "a test that gives one answer to many creates (each needs a secret of its own); "
)
_ANOTHERS = (
    "the answer of a cancelled create is a copy: another client of this process made the key {}, "
    "so it is not deleted. If this create made a key, that one is left over"
)

_log = logging.getLogger("openrouter_keys")


class Transport(NeverPickled):
    """Performs operations for one client, in one event loop.

    Args:
        credentials: the API key.
        options: the options of every call.
        session: see `Wire`.
        ssl_context: see `Wire`.
        max_connections: how many calls may run at once; the others wait their turn.
        grace: seconds that a cancelled create gets to finish, and its key to be deleted.
        connect_timeout: see `Wire`.
        read_timeout: see `Wire`; a create waits until its deadline.
        clockwork: time and chance.
        observing: what observes the calls. None: nothing but the log.

    Attributes:
        options: the options of every call.
        max_connections: how many calls may run at once.
        grace: seconds that a cancelled create gets to finish.
        clockwork: time and chance.
        made: the keys that it made.
        recent: the last keys that it made, by their proven hashes, each with the requested
            workspace.
        at_close: what `close` starts and waits for, each bounded by the grace.
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
        observing: Observing | None = None,
    ) -> None:
        self._credentials = credentials
        self._observing = Observing() if observing is None else observing
        self.options = options
        self._make_wire = functools.partial(
            Wire,
            session,
            ssl_context=ssl_context,
            connect_timeout=connect_timeout,
            read_timeout=read_timeout,
        )
        self.max_connections = max_connections
        self.grace = grace
        self.clockwork: Clockwork = Clockwork() if clockwork is None else clockwork
        self.made: MadeKeys = MadeKeys(options.server_url)
        self._answered: deque[tuple[datetime, HTTPMeta, datetime]] = deque(maxlen=_SAMPLES)
        self.recent: dict[str, tuple[str | None, Key]] = {}
        self.at_close: set[Callable[[], Coroutine[Any, Any, None]]] = set()
        self._settling: set[asyncio.Task[Any]] = set()
        self._closed = False
        self._pid: int | None = None  # that of the first call
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wire: Wire
        self._attempts: Attempts
        self._turns: Turns
        self._most: int

    async def own_hash(self) -> str:
        """Return the SHA-256 of the API key: that key's hash.

        Raises:
            APIKeyError: the `api_key` callable gave no usable key.
        """
        fixed = self._credentials.fixed
        try:
            return hash_of(
                fixed()
                or await self._credentials.ask(self.options.timeout, self.clockwork.monotonic)
            )
        except TimeoutError:
            raise APIKeyError("the api_key callable gave no key in time") from None

    async def perform(
        self, operation: Operation[R], options: RequestOptions | CallOptions | None = None
    ) -> R:
        """Send an operation, retry it where that is safe, and return its result.

        Args:
            operation: what to send.
            options: the caller's, or checked ones. None: those of the client.

        Raises:
            OpenRouterError: see `errors`; it has the number of attempts, and whether the request
                may have been applied.
        """
        handled = sys.exception()
        try:
            self._guard()
            if isinstance(options, CallOptions):
                checked = options
            else:
                checked = self.options.with_(options) if options else self.options
            turns = self._turns
            queued = None if turns.free else self.clockwork.monotonic()
            await turns.acquire()
            try:
                call = Call(operation, checked, self.clockwork.monotonic())
                if queued is not None:
                    self._waited(call, call.started - queued)
                if operation.made is None:
                    return await self._attempts.run(call)
                return await self._make(call, operation.made)
            finally:
                turns.release()
        except BaseException as error:
            strip(error, handled)
            raise

    def _waited(self, call: Call[Any], seconds: float) -> None:
        text, shown = "%s: waited %.0f ms for its turn", (call.operation.name, seconds * 1000)
        event = event_of(call, "wait", "queued", seconds)
        self._observing.pass_on(event, logging.DEBUG, text, *shown)

    def ready(self) -> int:
        """Bind the client to this event loop, and return how many calls may run at once."""
        self._guard()
        return self._most

    async def _make(self, call: Call[R], made_by: Callable[[R], MadeKey]) -> R:
        ended = self.made.begin()  # a context manager would take twice as long
        copied: MadeKey | None = None
        try:
            undo = call.operation.undo_if_cancelled
            answer = await (self._run_to_the_end(call) if undo else self._attempts.run(call))
            # Before the create ends, so that no reconcile takes its key for a lost one.
            copied = self._remembered(call, answer, made_by)
            if copied is None:
                return answer
            del answer  # crash reporters send local variables home
        except CreatedKeyUnreadableError as error:
            with suppress(Exception):
                made = MadeKey.of(error.hash, error.key)
                copied = made if self.made.is_repeated(made) else None
                self.made.add(made)
            if copied is None:
                raise
        finally:
            self.made.end(ended)
        raise unknown_outcome(call, self.clockwork.moment(), _COPIED.format(copied.hash))

    def _remembered(
        self, call: Call[R], answer: R, made_by: Callable[[R], MadeKey]
    ) -> MadeKey | None:
        """Remember the key of an answer; return it if the answer is a copy of an earlier one."""
        try:
            created = answer if isinstance(answer, CreateKeysResponse) else None
            if created is not None and call.proven:  # its secret was hashed already
                made = MadeKey(created.data.hash, created.data.hash)
            else:
                made = made_by(answer)
            if self.made.is_repeated(made):
                return made
            self.made.add(made)
            if created is not None and made.proven:
                self._answered.append((created.data.created_at, created.http, self.clockwork.now()))
                self.recent[created.data.hash] = call.operation.workspace_id, created.data
                if len(self.recent) > _SAMPLES:
                    del self.recent[next(iter(self.recent))]
        except Exception:  # noqa: BLE001 - the answer holds the secret
            return None
        return None

    @property
    def samples(self) -> list[Sample]:
        """The service's and this machine's times of the last creates."""
        return [_sample(*each) for each in self._answered]

    async def take_back(self, made: MadeKey) -> None:
        """Delete a key whose secret is lost, and log the outcome; `close` waits for it."""
        await _held(self._settling, asyncio.create_task(self._undo(made, self.options)))

    async def _undo(self, made: MadeKey, options: CallOptions) -> tuple[str, bool]:
        """Delete a key if its secret proves its hash and no other client made it.

        Args:
            made: the key.
            options: those of its create, which may name another server.

        Returns:
            The outcome, which is logged, and whether the key is gone.
        """
        gone = False
        if self.made.is_of_another_client(made):
            outcome = _ANOTHERS.format(made.hash)
        elif not made.proven:
            outcome = _UNPROVEN.format(made)
        else:
            outcome, gone = await self._delete(made.hash, options)
        outcome = escaped(outcome)
        _log.warning(outcome)
        return outcome, gone

    async def _delete(self, hash: str, options: CallOptions) -> tuple[str, bool]:
        async def perform(operation: Operation[R]) -> R:
            return await self._clean_up(operation, options)

        key = f"the key {hash} of a cancelled create"
        try:
            removal = await remove(perform, hash)
        except OpenRouterError as error:
            return f"{key} is left over, delete it: {error}", False
        if removal is Removal.DELETED:
            return f"{key} was deleted, since its secret is lost", True
        # It existed a moment ago: the answering servers may lag behind.
        return f"{key} may be left over, delete it: {removal.value}", False

    async def clean_up(self, operation: Operation[R], options: RequestOptions | None = None) -> R:
        """Send what ends something, within the grace, and also when the client is closing."""
        return await self._clean_up(operation, self.options.with_(options or {}))

    async def _clean_up(self, operation: Operation[R], options: CallOptions) -> R:
        given = evolve(options, timeout=float(max(self.grace, 1)))
        undo = Call(operation, given, self.clockwork.monotonic())
        undo.is_cleanup = True
        return await self._run(undo)

    async def see_through(self, work: Coroutine[Any, Any, R]) -> R:
        """Await what must end, even if its caller is cancelled meanwhile; `close` waits for it."""
        task = _held(self._settling, asyncio.create_task(work))
        with anyio.CancelScope(shield=True):  # one more cancel of the task itself is heard
            await asyncio.wait({task})
        return task.result()

    async def close(self) -> None:
        """Wait for creates, and for deletes of cancelled ones' keys, then close our own session.

        It starts what is `at_close`, too. Creates and deletes get `grace` seconds; after that, a
        running create has an unknown outcome.
        """
        if self._loop is None or self._pid != os.getpid():
            self._closed = True
            return
        if self._loop is not _running_loop():
            raise WrongEventLoopError("close the client in its own event loop, not in another one")
        self._closed = self._attempts.closed = True
        await self.made.settled(self.grace)
        for end in self.at_close:
            _held(self._settling, asyncio.create_task(end()))
        while self._settling:  # each is bounded by the grace
            await asyncio.wait(self._settling)
        await self._wire.close()

    # --- guards ---

    def _guard(self) -> None:
        if self._closed:
            raise ClientClosedError("the client is closed; make a new one")
        if self._pid is not None and self._pid != os.getpid():
            raise ForkedClientError("the client was used before fork(); make one in the child")
        loop = _running_loop()
        if self._loop is None:
            self._bind(loop)
        if self._loop is not loop:
            raise WrongEventLoopError(
                "the client belongs to another event loop; make one client for each loop"
            )
        if self._wire.closed:
            raise ClientClosedError("the client's session was closed; make a new client")

    def _bind(self, loop: asyncio.AbstractEventLoop) -> None:
        wire = self._make_wire()
        if not wire.lives_in(loop):
            raise WrongEventLoopError(
                "the session belongs to another event loop; make one in this loop"
            )
        self._wire, self._loop, self._pid = wire, loop, os.getpid()
        self._attempts = Attempts(
            wire, self._credentials, clockwork=self.clockwork, observing=self._observing
        )
        self._most = int(min(self.max_connections, self._wire.connections))
        self._turns = Turns(self._most)

    async def _run(self, call: Call[R], ended: "asyncio.Future[None] | None" = None) -> R:
        """Make a call's attempts in a separate task, whose errors event loops may log."""
        handled = sys.exception()
        try:
            return await self._attempts.run(call)
        except BaseException as error:
            strip(error, handled)
            raise
        finally:
            if ended is not None:  # a task tells of its end one turn of the loop later
                _end(ended)

    # --- a cancelled create ---

    async def _run_to_the_end(self, call: Call[R]) -> R:
        """Run a call to its end, even if its caller is cancelled: its key must not be lost."""
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        run = _begun(self._run(call, ended))
        run.add_done_callback(lambda _: _end(ended))  # it may be cancelled before its first step
        try:
            await ended  # and not the task, which a cancellation would reach
            if not run.done():  # a task factory may do something after it
                await asyncio.wait({run})
            return run.result()
        except asyncio.CancelledError as cancelled:
            call.abandoned = True
            settling = _held(self._settling, asyncio.create_task(self._settle(call, run)))
            # A cancelled anyio scope cancels repeatedly, which the shield stops. After another
            # cancellation of the task itself, the settling goes on alone.
            with anyio.CancelScope(shield=True):
                await asyncio.wait({settling})
                note, cancelled.__cause__ = settling.result()
                cancelled.add_note(note)
            raise
        finally:
            del run  # an exception's traceback would hold the task, which holds the exception

    async def _settle(
        self, call: Call[R], run: "asyncio.Task[R]"
    ) -> tuple[str, OpenRouterError | None]:
        """Wait for a cancelled create within the grace, and delete its key.

        Returns:
            The outcome, and the error for `reconcile`; None: it left no key.
        """
        if not call.in_flight:
            run.cancel()
        await asyncio.wait({run}, timeout=self.grace)
        if not run.done():
            run.cancel()
            await asyncio.wait({run})
        if run.cancelled():
            if not call.in_flight or call.operation.outcome_unknown is None:
                return f"{call.operation.name}: cancelled while no request was under way", None
            return _logged(unknown_outcome(call, self.clockwork.moment()))
        error = run.exception()
        if error is None and call.operation.made is not None:
            return await self._unless_copied(call, call.operation.made(run.result()))
        if isinstance(error, CreatedKeyUnreadableError):
            return await self._unless_copied(call, MadeKey.of(error.hash, error.key))
        if isinstance(error, OpenRouterError) and error.maybe_applied:
            return _logged(error)
        return str(error), None

    async def _unless_copied(
        self, call: Call[Any], made: MadeKey
    ) -> tuple[str, OpenRouterError | None]:
        if self.made.is_repeated(made):
            why = _COPIED.format(made.hash)
            return _logged(unknown_outcome(call, self.clockwork.moment(), why))
        outcome, gone = await self._undo(made, call.options)
        if gone:
            return outcome, None
        return outcome, unknown_outcome(call, self.clockwork.moment(), f"{outcome}; ")


def _sample(made_at: datetime, http: HTTPMeta, now: datetime) -> Sample:
    # Until the headers came: they have the `Date`, and the key existed by then.
    ended = now - timedelta(seconds=http.body_seconds)
    date = None if is_cached(http.headers) else http.headers.get("Date")
    return Sample(made_at, date, ended, http.elapsed - http.body_seconds)


def _logged(error: OpenRouterError) -> tuple[str, OpenRouterError]:
    _log.warning("%s", error)
    return str(error), error


def _running_loop() -> asyncio.AbstractEventLoop:
    """Return the event loop of the calling asyncio task; trio's tasks may run in a loop, too."""
    try:
        task = asyncio.current_task()
    except RuntimeError:
        task = None
    if task is not None:
        return task.get_loop()
    raise ClientStateError(
        "AsyncOpenRouter needs asyncio, and no asyncio task is running here. Under trio, call the "
        "blocking OpenRouter in a worker thread (trio.to_thread.run_sync)"
    )


def _begun(work: Coroutine[Any, Any, R]) -> "asyncio.Task[R]":
    """Return a task that begins at once where Python can do that, or else in the next turn."""
    loop = asyncio.get_running_loop()
    if sys.version_info >= (3, 12) and loop.get_task_factory() is None:
        return asyncio.Task(work, loop=loop, eager_start=True)
    return asyncio.create_task(work)


def _end(ended: "asyncio.Future[None]") -> None:
    if not ended.done():
        ended.set_result(None)


def _held(tasks: set[asyncio.Task[Any]], task: asyncio.Task[R]) -> asyncio.Task[R]:
    tasks.add(task)
    task.add_done_callback(tasks.discard)
    return task
