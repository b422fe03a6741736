"""The attempt loop: get the API key, send, judge the answer, wait for the next attempt.

No aiohttp (see `wire`), and no rules of retries (see `retries`).
"""

import functools
import logging
from contextlib import suppress
from typing import Any, TypeVar

from openrouter_keys._base.clock import Clockwork
from openrouter_keys._base.making import maker
from openrouter_keys._base.pickling import NeverPickled
from openrouter_keys._base.scrubbing import masked
from openrouter_keys._inputs.credentials import Credentials
from openrouter_keys._protocol.answers import Answer, ErrorInSuccessError, is_api_404, refusal
from openrouter_keys._protocol.quota import SpentQuota, exhausted
from openrouter_keys._protocol.retries import (
    MAYBE_APPLIED,
    PAUSES_ALL,
    RETRY_AFTER_CAP,
    Effect,
    Outcome,
    RetryQuota,
    decide,
    outcome_of,
    read_retry_after,
)
from openrouter_keys._transport.call import (
    Call,
    Failure,
    dated,
    event_of,
    unknown_outcome,
    with_facts,
)
from openrouter_keys._transport.observing import Observing
from openrouter_keys._transport.wire import NoReply, Reply, SendTracker, Wire
from openrouter_keys.errors import (
    APIKeyError,
    ClientClosedError,
    CreatedKeyUnreadableError,
    DeadlineExceededError,
    ForbiddenResponseError,
    MalformedBodyError,
    NoResponseError,
    NotSentError,
    OpenRouterError,
    QuotaExhaustedError,
    ResponseError,
    ResponseValidationError,
    SecretLostError,
    UnauthorizedResponseError,
)
from openrouter_keys.models import CreateKeysResponse, HTTPMeta
from openrouter_keys.operations import Operation

R = TypeVar("R")

#: Seconds by which a timer of the event loop may fire early.
_TIMER_RESOLUTION = 0.02

_log = logging.getLogger("openrouter_keys")
_meta = maker(HTTPMeta, ("status", "headers", "attempts", "elapsed", "body_seconds"))
# Seconds after which a wait is worth a line in the log, and a pause of the client a warning.
_LONG = 2.0


class Attempts(NeverPickled):
    """Makes the attempts of a client's calls.

    The calls share the quota of retries, the pauses, and the service's known daily quota.

    Args:
        wire: sends the requests.
        credentials: the API key.
        clockwork: time and chance.
        observing: what observes the calls.

    Attributes:
        closed: whether the client is closed: then no new request is sent.
    """

    def __init__(
        self, wire: Wire, credentials: Credentials, *, clockwork: Clockwork, observing: Observing
    ) -> None:
        self.closed = False
        self._observing = observing
        self._wire = wire
        self._credentials = credentials
        self._clockwork = clockwork
        self._quota = RetryQuota()
        self._paused_until = 0.0
        self._spent = SpentQuota()

    async def run(self, call: Call[R]) -> R:
        """Send a call, retry it where that is safe, and return its result.

        Raises:
            OpenRouterError: it failed; the error has the facts of the call.
        """
        if self._observing.telemetry is not None and not call.has_begun:
            call.has_begun = True
            run = functools.partial(self.run, call)
            return await self._observing.within(call.operation.name, call.options.server_url, run)
        while True:
            if self._paused_until:
                await self._wait_out_pause(call)
            if self.closed and not call.is_cleanup:
                raise with_facts(
                    ClientClosedError("the client was closed meanwhile; make a new one"), call
                )
            if self._spent.error is not None and call.operation.effect is not Effect.READ:
                self._refuse_if_quota_spent(call)
            reply = await self._send(call)
            outcome = (self._observed if call.is_observed else self._judged)(call, reply)
            if not isinstance(outcome, Failure):
                return outcome
            if outcome.what is Outcome.UNREADABLE and call.operation.read_back is not None:
                return await self._read_back(call, call.operation.read_back, outcome.error)
            await self._wait_or_raise(call, outcome)

    async def _send(self, call: Call[R]) -> Reply | NoReply:
        call.api_key = self._credentials.fixed() or await self._ask_api_key(call)
        operation, began = call.operation, self._clockwork.monotonic()
        left = call.options.timeout - (began - call.started)
        if left <= 0:
            raise with_facts(
                DeadlineExceededError("no time was left to send it; raise timeout_ms"), call
            )
        call.tracker = SendTracker()
        call.attempt += 1
        call.began = began
        # Before there is a secret to lose.
        call.is_observed = self._observing.listens or _log.isEnabledFor(logging.DEBUG)
        if operation.effect is Effect.CREATE and not call.maybe_applied:
            # Earlier attempts made no key: the key's time window begins now.
            call.sent = self._clockwork.moment()
        reply = await self._wire.send(
            operation.method,
            call.options.server_url + operation.path,
            call.options.headers,
            operation.body,
            proxy=call.options.proxy,
            api_key=call.api_key,
            secrets=operation.secrets,
            seconds=left,
            patient=operation.effect is Effect.CREATE,  # asking again is impossible
            tracker=call.tracker,
        )
        call.tracker = None
        call.status = reply.status if isinstance(reply, Reply) else None
        return reply

    def _log_attempt(
        self, call: Call[Any], reply: Reply | NoReply, what: Outcome, retry_after: float | None
    ) -> None:
        operation, seconds = call.operation, self._clockwork.monotonic() - call.began
        came = (
            f"{reply.what.value} ({reply.reason})" if isinstance(reply, NoReply) else reply.status
        )
        event = event_of(call, "attempt", what, seconds, retry_after)
        self._observing.pass_on(
            event,
            logging.DEBUG,
            "%s: %s %s -> %s in %.0f ms (attempt %d)",
            operation.name,
            operation.method,
            event.url.removeprefix(call.options.server_url),
            came,
            seconds * 1000,
            call.attempt,
        )

    def _observed(self, call: Call[R], reply: Reply | NoReply) -> R | Failure:
        """Return the result or the failure, and pass on what the attempt came to."""
        what, retry_after = Outcome.UNREADABLE, None
        try:
            outcome = self._judged(call, reply)
            what = Outcome.DONE
            if isinstance(outcome, Failure):
                what, retry_after = outcome.what, outcome.error.retry_after
            return outcome
        finally:
            with suppress(Exception):  # none may come between a key and its secret
                self._log_attempt(call, reply, what, retry_after)

    def _judged(self, call: Call[R], reply: Reply | NoReply) -> R | Failure:
        """Return the result or the failure; any foreign exception becomes our error."""
        if isinstance(reply, NoReply):
            return self._unanswered(call, reply)
        try:
            outcome = self._judge(call, reply)
            if not isinstance(outcome, Failure):
                self._quota.refund()
                if call.operation.effect is not Effect.READ:
                    self._spent.error = None
            return outcome
        except OpenRouterError:
            raise
        except Exception as foreign:  # noqa: BLE001 - none may come between a key and its secret
            error = _unexpected(call, reply, foreign)
            self._date(call, error)
        raise error

    def _judge(self, call: Call[R], reply: Reply) -> R | Failure:
        answer = Answer(
            reply.body
            if reply.too_long  # it makes no record
            else masked(reply.body, (call.api_key, *call.operation.secrets)),
            _meta(reply.status, reply.headers, call.attempt, self._elapsed(call), reply.seconds),
        )
        what = outcome_of(reply.status)
        if what is Outcome.DONE:
            return self._read(call, answer, reply)
        error = self._refusal(call, answer, reply)
        gone = call.operation.gone
        if call.maybe_applied and gone is not None and is_api_404(error):
            reply.mask_headers(*reply.secrets)
            return gone(answer)
        return _failure(what, error)

    def _refusal(self, call: Call[Any], answer: Answer, reply: Reply) -> ResponseError:
        error = refusal(answer, reply.secrets)
        # By the original headers: a mask might change their meaning.
        spent = exhausted(error, reply.headers, self._clockwork.now())
        if spent is None:
            error.retry_after = read_retry_after(reply.headers, self._clockwork.now)
        refused = with_facts(error if spent is None else spent, call, answer)
        refused.headers = reply.shown_headers()
        if isinstance(refused, UnauthorizedResponseError | ForbiddenResponseError):
            refused.key_source = self._credentials.source
        return refused

    def _read(self, call: Call[R], answer: Answer, reply: Reply) -> R | Failure:
        try:
            if reply.too_long and call.operation.effect is not Effect.CREATE:
                raise MalformedBodyError(f"the body is longer than {len(reply.body):,} bytes")
            read = call.operation.read(answer)
            call.proven = answer.proven
            if isinstance(read, CreateKeysResponse):
                reply.mask_headers(read.key)
            return read
        except ErrorInSuccessError:
            return self._refused(call, answer, reply)
        except CreatedKeyUnreadableError as unreadable:
            reply.secrets += (unreadable.key,)
            error: ResponseValidationError = unreadable
        except ResponseValidationError as unreadable:
            error = unreadable
        read_only = call.operation.effect is Effect.READ
        call.maybe_applied = call.maybe_applied or not read_only
        with_facts(error, call, answer)
        self._date(call, error)
        error.headers = reply.shown_headers()
        if isinstance(error, MalformedBodyError) or call.operation.read_back is not None:
            if read_only and self._is_over(call):
                return Failure(Outcome.UNREADABLE, self._too_late(call, error.message))
            return Failure(Outcome.UNREADABLE, error)
        raise error

    def _date(self, call: Call[Any], error: OpenRouterError) -> None:
        if isinstance(error, SecretLostError):
            with suppress(Exception):  # a clock that is handed in may raise
                dated(error, call, self._clockwork.moment())

    def _refused(self, call: Call[Any], answer: Answer, reply: Reply) -> Failure:
        """Judge an error under the status of a success by its own `code`, if that is a status."""
        effect = call.operation.effect
        # The HTTP status and the body's code contradict each other: it may have been applied.
        call.maybe_applied = call.maybe_applied or effect is not Effect.READ
        error = self._refusal(call, answer, reply)
        code = error.data.error.code
        if effect is Effect.CREATE or not isinstance(code, int) or not 400 <= code < 600:
            return Failure(Outcome.FAILED, error)
        return _failure(outcome_of(code), error)

    def _unanswered(self, call: Call[Any], reply: NoReply) -> Failure:
        if self._is_over(call):
            error: OpenRouterError = self._too_late(call, reply.reason)
        elif reply.what is Outcome.NO_ANSWER:
            error = NoResponseError(f"no answer came ({reply.reason})")
        else:
            url, proxy = call.options.server_url, call.options.proxy
            to = url if proxy is None else f"{url} by {proxy}"
            error = NotSentError(f"nothing could be sent to {to} ({reply.reason})")
        return Failure(reply.what, with_facts(error, call))

    def _is_over(self, call: Call[Any]) -> bool:
        return self._elapsed(call) >= call.options.timeout - _TIMER_RESOLUTION

    def _too_late(self, call: Call[Any], reason: str) -> DeadlineExceededError:
        return with_facts(
            DeadlineExceededError(f"no answer within {call.options.timeout:g} s ({reason})"), call
        )

    async def _read_back(self, call: Call[R], get: Operation[R], error: OpenRouterError) -> R:
        """Read back the effect of an applied request whose answer is unreadable."""
        try:
            again = Call(get, call.options, call.started)
            again.maybe_applied = call.maybe_applied
            return await self.run(again)
        except OpenRouterError as unread:
            raise error from unread

    # --- the next attempt ---

    async def _wait_or_raise(self, call: Call[Any], failure: Failure) -> None:
        what, error, config = failure.what, failure.error, call.options.retries
        if what in MAYBE_APPLIED and call.operation.effect is not Effect.READ:
            call.maybe_applied = True
        error.maybe_applied = call.maybe_applied
        if isinstance(error, QuotaExhaustedError) and call.operation.effect is not Effect.READ:
            self._spent.learn(error, self._clockwork.monotonic())
        if what in PAUSES_ALL and error.retry_after is not None:
            self._pause(call, what, error.retry_after)
        if what is Outcome.UNAUTHORIZED and await self._has_another_key(call, error):
            self._retry(call, failure, 0.0)
            return
        call.rate_limited += what is Outcome.RATE_LIMITED
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
        if wait is None or call.abandoned or not self._may_retry(what):
            raise self._final(call, failure)
        self._retry(call, failure, wait)
        await self._clockwork.sleep(wait)

    def _retry(self, call: Call[Any], failure: Failure, wait: float) -> None:
        what, retry_after = failure.what, failure.error.retry_after
        event = event_of(call, "retry", what, wait, retry_after)
        if wait > _LONG and not (what in PAUSES_ALL and retry_after is not None):
            text = "waiting %.0f s, to send a request again (%s)"
            self._observing.pass_on(event, logging.INFO, text, wait, what.value)
        else:
            text = "%s: again in %.0f ms, since %s"
            shown = call.operation.name, wait * 1000, what.value
            self._observing.pass_on(event, logging.DEBUG, text, *shown)

    def _may_retry(self, what: Outcome) -> bool:
        # A 429 is repeated at the service's own pace, so it amplifies no outage.
        return what is Outcome.RATE_LIMITED or self._quota.take()

    def _final(self, call: Call[Any], failure: Failure) -> OpenRouterError:
        cause = failure.error
        if call.operation.outcome_unknown is None or failure.what not in MAYBE_APPLIED:
            return cause
        error = unknown_outcome(call, self._clockwork.moment())
        error.__cause__ = cause
        error.status_code, error.body = cause.status_code, cause.body
        error.headers, error.retry_after = cause.headers, cause.retry_after
        return error

    def _pause(self, call: Call[Any], what: Outcome, retry_after: float) -> None:
        now, seconds = self._clockwork.monotonic(), min(retry_after, RETRY_AFTER_CAP)
        longer = now + seconds - max(self._paused_until, now)
        if longer <= 0:
            return
        self._paused_until = now + seconds
        event = event_of(call, "pause", what, seconds, retry_after)
        if longer > _LONG:
            text = "waiting %.0f s, as the service asks (Retry-After)"
            self._observing.pass_on(event, logging.WARNING, text, seconds)
        else:
            text = "%s: no request is sent for %.0f ms, as the service asks (Retry-After)"
            shown = call.operation.name, seconds * 1000
            self._observing.pass_on(event, logging.DEBUG, text, *shown)

    async def _wait_out_pause(self, call: Call[Any]) -> None:
        began, waited = self._clockwork.monotonic(), False
        while (pause := self._paused_until - self._clockwork.monotonic()) > 0:
            if self._elapsed(call) + pause >= call.options.timeout:
                error = DeadlineExceededError(
                    f"the service asks every request to wait {pause:.1f} s more, longer than "
                    f"this call may take; raise timeout_ms ({call.options.timeout * 1000:g})"
                )
                error.retry_after = pause
                raise with_facts(error, call)
            await self._clockwork.sleep(pause)
            waited = True
        if waited:
            seconds = self._clockwork.monotonic() - began
            text = "%s: waited %.0f ms for the end of a pause"
            shown = call.operation.name, seconds * 1000
            event = event_of(call, "wait", "paused", seconds)
            self._observing.pass_on(event, logging.DEBUG, text, *shown)

    def _refuse_if_quota_spent(self, call: Call[Any]) -> None:
        error = self._spent.refusal(self._clockwork.monotonic())
        if error is not None:
            raise with_facts(error, call)

    def _elapsed(self, call: Call[Any]) -> float:
        return self._clockwork.monotonic() - call.started

    # --- the key ---

    async def _ask_api_key(self, call: Call[Any]) -> str:
        if call.fresh_key is not None:
            key, call.fresh_key = call.fresh_key, None
            return key
        left, clock = call.options.timeout - self._elapsed(call), self._clockwork.monotonic
        try:
            with suppress(TimeoutError):
                if call.asked_anew:  # the last one was refused
                    return await self._credentials.ask_anew(call.api_key, left, clock)
                return await self._credentials.ask(left, clock)
        except APIKeyError as error:
            with_facts(error, call)  # an earlier attempt may have been applied
            raise
        raise with_facts(
            DeadlineExceededError(f"the api_key callable gave no key within {left:.1f} s"), call
        )

    async def _has_another_key(self, call: Call[Any], refused: OpenRouterError) -> bool:
        """Call `api_key` again; return whether its key differs from the refused one."""
        if call.asked_anew or call.abandoned or self._credentials.fixed() is not None:
            return False
        call.asked_anew = True
        try:
            key = await self._ask_api_key(call)
        except OpenRouterError as unasked:
            raise refused from unasked
        call.fresh_key = key if key != call.api_key else None
        return call.fresh_key is not None


def _failure(what: Outcome, error: ResponseError) -> Failure:
    spent = isinstance(error, QuotaExhaustedError)
    return Failure(Outcome.QUOTA_EXHAUSTED if spent else what, error)


def _unexpected(call: Call[Any], reply: Reply, foreign: Exception) -> OpenRouterError:
    """Return the error for a reply that could not be judged; a create's has the secret."""
    salvage = call.operation.salvage
    if salvage is not None and 200 <= reply.status < 300:
        error = salvage(reply.body, foreign)
    else:
        error = ResponseValidationError(f"reading the answer raised {type(foreign).__name__}")
        error.maybe_applied = call.operation.effect is not Effect.READ
    error.operation, error.attempts = call.operation.name, call.attempt
    error.status_code = reply.status
    with suppress(Exception):  # the error may hold the only secret
        error.headers = reply.shown_headers()
    return error
