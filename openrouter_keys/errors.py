"""The error tree; every error of this package is an `OpenRouterError`.

docs/errors.md says of each what it means for the key, and what to do.

::

    OpenRouterError
    ├── InvalidArgumentError            bad input, refused before anything was sent (ValueError)
    ├── ClientStateError                the client cannot be used here (RuntimeError)
    │   ├── ClientClosedError           … after it was closed
    │   ├── WrongEventLoopError         … in a second event loop
    │   ├── ForkedClientError           … in a forked child
    │   └── LeaseEndedError             a lease is used after its block, or for a second one
    ├── APIKeyError                     the `api_key` callable returned no usable key
    ├── NoResponseError                 no answer came
    │   ├── NotSentError                … and it is proven that no byte was sent
    │   └── DeadlineExceededError       … within `timeout_ms` (TimeoutError)
    ├── CreateOutcomeUnknownError       a create was sent, and may have made a key
    ├── ResponseValidationError         an answer is not as documented
    │   ├── MalformedBodyError          … is cut short, or not JSON
    │   ├── AnotherKeyError             … is of another key than requested
    │   ├── IncompleteListingError      … pages do not make up a whole list
    │   ├── LeaseMismatchError          … a leased key is not as asked for, and was deleted
    │   ├── SecretLostError             … a key was made, its secret cannot be read
    │   └── CreatedKeyUnreadableError   … its secret can: `.key`
    ├── ResponseError                   the service refused; the status decides the class
    │   ├── BadRequestResponseError 400, UnauthorizedResponseError 401, ForbiddenResponseError 403,
    │   │   NotFoundResponseError 404, ConflictResponseError 409, TooManyRequestsResponseError 429,
    │   │   InternalServerResponseError 500
    │   ├── QuotaExhaustedError         429 of a daily quota (TooManyRequestsResponseError)
    │   └── OpenRouterDefaultError      any other status
    ├── AllowanceExceededError          a spec would exceed `max_total_limit`
    ├── TooManyPrunedError              more keys would be pruned than `max_prune`: `.plan`
    │                                   (in `applying.report`)
    ├── TooManyFailuresError            more keys were refused than `max_failures`
    ├── ServiceOutageError              no create succeeded, or nothing was settled, for too long
    ├── ProvisioningStoppedError        a run stopped: `.report` (in `provisioning.report`)
    └── JournalError
        ├── JournalInUseError           purge and accept need it alone, and it is in use
        ├── JournalInsecureError        others could read or replace it, or it is no plain file
        ├── JournalMismatchError        no journal, a newer version's, or another server's
        │   └── JournalOutdatedError    an older copy of it, or half of one
        ├── AccountChangedError         its keys belong to another account
        ├── JournalUnavailableError     its database is away: ask again later
        ├── JournalFullError            it cannot be written, so nothing more is sent
        ├── JournalLostError            its file was removed during a run
        ├── KeyGoneError                a key that it has is gone from the service
        ├── NotAdoptedError             a key that exists cannot become a ref's
        ├── PlanChangedError            a known ref has other fields now
        ├── TakenOverError              another process has taken a ref over
        ├── DuplicateRefError           two specs of a run have the same ref
        └── SecretNotKeptError          a key was made and could not be stored: `.key`
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import NoReturn, TypeAlias

from attrs import field, frozen

from openrouter_keys._base.masking import escaped, mask
from openrouter_keys._base.pickling import pickled, restored

JSON: TypeAlias = "dict[str, JSON] | list[JSON] | str | int | float | bool | None"

_NO_HEADERS: Mapping[str, str] = {}
_END_OF_TIME = datetime.max.replace(tzinfo=UTC)


@frozen
class RawResponse:
    """The answer that an error came from.

    Attributes:
        status_code: its status.
        headers: its headers.
        text: its body, with secrets masked.
    """

    status_code: int
    headers: Mapping[str, str] = field(repr=False)
    text: str = field(repr=False)

    def json(self) -> JSON:
        """Return the body's value.

        Raises:
            ValueError: the body is no JSON.
        """
        value: JSON = json.loads(self.text)
        return value


class OpenRouterError(Exception):
    """The base class of every error of this package.

    A pickle or a copy keeps its attributes, its notes, and a `__cause__` of this class: others'
    errors may contain a secret. An error that contains one itself can be neither.

    Attributes:
        message: what happened, in the service's words if there are any.
        operation: the operation's name, such as `create`; empty if there is none.
        status_code: the answer's status; None when there was no answer.
        headers: the answer's headers; empty when there was no answer.
        body: the answer's text with secrets masked; empty when there was no answer.
        attempts: how many times the request was sent, or tried.
        maybe_applied: whether the service may have applied the request.
        retry_after: the seconds that the service asked to wait, or after which to ask again; None:
            not known.
    """

    message: str
    operation: str = ""
    status_code: int | None = None
    body: str = ""
    headers: Mapping[str, str] = _NO_HEADERS
    attempts: int = 0
    maybe_applied: bool = False
    retry_after: float | None = None

    def __init__(self, message: str) -> None:
        # It may quote an answer, and stand in a log or on a terminal.
        self.message = escaped(message)
        super().__init__(self.message)

    def __reduce__(self) -> str | tuple[object, ...]:
        # `Exception` has a class called with its `args`, the finished text: too few for many.
        cause = pickled(self.__cause__) if isinstance(self.__cause__, OpenRouterError) else None
        return restored, (type(self), self.args, vars(self), cause)

    def __str__(self) -> str:
        what = f"{self.operation}: {self.message}" if self.operation else self.message
        return f"{what}{self._attempts_made()}"

    @property
    def raw_response(self) -> "RawResponse | None":
        """The answer, with secrets masked, as the official SDK's errors have it; None: none."""
        if self.status_code is None:
            return None
        return RawResponse(self.status_code, self.headers, self.body)

    def _attempts_made(self) -> str:
        if not self.attempts:
            return ""
        times = "1 attempt" if self.attempts == 1 else f"{self.attempts} attempts"
        if self.operation not in ("create", "update", "delete"):
            return f" ({times})"
        applied = "may have been applied" if self.maybe_applied else "was not applied"
        return f" ({times}; it {applied})"


class InvalidArgumentError(OpenRouterError, ValueError):
    """An argument was refused before anything was sent.

    Attributes:
        argument: the argument's name.
    """

    argument: str = ""

    def __init__(self, message: str, argument: str = "") -> None:
        super().__init__(f"{argument}: {message}" if argument else message)
        self.argument = argument


class ClientStateError(OpenRouterError, RuntimeError):
    """The client cannot be used here."""


class ClientClosedError(ClientStateError):
    """The client was closed; make a new one."""


class WrongEventLoopError(ClientStateError):
    """The client belongs to another event loop; make one client for each loop."""


class ForkedClientError(ClientStateError):
    """The client was used before `fork()`; make a new one in the child."""


class LeaseEndedError(ClientStateError):
    """A lease is used after its block, or for a second one; make another lease."""


class APIKeyError(OpenRouterError):
    """The `api_key` callable raised, or returned something that is not a key."""


class NoResponseError(OpenRouterError):
    """No answer came; `maybe_applied`: whether an update or a delete may have been applied.

    A create without an answer raises `CreateOutcomeUnknownError`.
    """


class NotSentError(NoResponseError):
    """No connection could be made: no byte was sent."""


class DeadlineExceededError(NoResponseError, TimeoutError):
    """The call's `timeout_ms` ran out; a create that raises it made no key."""


class CreateOutcomeUnknownError(OpenRouterError):
    """A create was sent, and it is unknown whether it made a key; it is never retried.

    If it made one, its secret is lost. `reconcile(error)` deletes the key if it is provably that
    create's. From `ensure` and `release`, which know no times: make the same call again, after
    `retry_after` seconds. By hand: `iterate(include_disabled=True, include_expired=True,
    workspace_id=error.workspace_id)`, then delete the unused key named `error.name` that was made
    between `error.started_at` and a while after `error.ended_at` (the service may commit late).
    `__cause__` is the error of the answer, or of its absence.

    Attributes:
        name: the requested name.
        workspace_id: the requested workspace; None: the default one.
        started_at: when the request was sent, by this machine's clock, in UTC.
        ended_at: when the client stopped waiting for an answer.
        steady: both times by a clock that cannot be set, in seconds.
        asked: the request's fields as they were sent, except `external.api_key`.
    """

    maybe_applied = True
    name: str = ""
    workspace_id: str | None = None
    asked: Mapping[str, JSON] | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    steady: tuple[float, float] | None = None


class ResponseValidationError(OpenRouterError):
    """The answer is not as the service documents it."""


class MalformedBodyError(ResponseValidationError):
    """A successful answer's body is cut short, or not JSON."""


class AnotherKeyError(ResponseValidationError):
    """The answer is the record of another key than requested.

    Attributes:
        asked: the requested hash.
        answered: the hash in the answer.
    """

    asked: str = ""
    answered: str = ""


class IncompleteListingError(ResponseValidationError):
    """The end of the list of keys was not reached: the pages do not fit together.

    The keys returned until then exist, and there may be more.

    Attributes:
        seen: how many keys were seen.
        pages: how many pages were requested.
        offset: how many keys the last request skipped.
        why: what is wrong with the pages.
    """

    seen: int = 0
    pages: int = 0
    offset: int = 0
    why: str = ""


class LeaseMismatchError(ResponseValidationError):
    """A key was made for a lease, and is not as asked for: its end or its limit is not certain.

    It was deleted again, unless the message says otherwise.

    Attributes:
        hash: the key's hash.
        fields: the fields that are not as asked for; `hash`: it is not that of the secret.
        deleted: whether the key is gone.
    """

    hash: str = ""
    fields: tuple[str, ...] = ()
    deleted: bool = False


class SecretLostError(ResponseValidationError):
    """A key was made, and its secret, which the service shows once, cannot be read.

    Run `reconcile(error)`, or delete that key, then create another one.

    Attributes:
        name: the requested name.
        workspace_id: the requested workspace; None: the default one.
        hash: the key's hash; None if the answer does not show it.
        started_at: when the request was sent, by this machine's clock, in UTC.
        ended_at: when its answer came.
        steady: both times by a clock that cannot be set, in seconds.
        asked: the request's fields as they were sent, except `external.api_key`.
    """

    maybe_applied = True
    name: str = ""
    workspace_id: str | None = None
    hash: str | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    steady: tuple[float, float] | None = None
    asked: Mapping[str, JSON] | None = None


class CreatedKeyUnreadableError(ResponseValidationError):
    """A key was made; the answer cannot be read, but for the secret, which is in `key`.

    It cannot be pickled: the secret must not be written anywhere unasked.

    Attributes:
        key: the secret.
        hash: the key's hash: that of the answer, or the SHA-256 of the secret.
    """

    maybe_applied = True
    key: str
    hash: str

    def __init__(self, message: str, key: str = "", hash: str = "") -> None:
        super().__init__(f"{message}; the created key {mask(key)} is in `error.key`")
        self.key = key
        self.hash = hash

    def __reduce__(self) -> NoReturn:
        message = "a created key's secret is never pickled: take `error.key` out first"
        raise TypeError(message)


@frozen
class ErrorDetail:
    """The error in an answer's body.

    Attributes:
        code: the service's number or name for the error; the answer's status if there is none.
        message: the service's text; the status's usual phrase if there is none.
        metadata: other facts, such as `error_type`.
    """

    code: int | str
    message: str
    metadata: Mapping[str, JSON] | None = None


@frozen
class ErrorData:
    """The body of a refusal."""

    error: ErrorDetail
    user_id: str | None = None
    openrouter_metadata: Mapping[str, JSON] | None = field(default=None, repr=False)


class ResponseError(OpenRouterError):
    """The service refused the request; a create that raises it made no key.

    Attributes:
        data: the body, read as far as it can be.
        key_source: for 401 and 403, where the client has its key from: the environment's variable,
            `api_key=`, or `the api_key callable`; otherwise empty.
    """

    data: ErrorData = ErrorData(ErrorDetail(0, ""))
    key_source: str = ""

    def __str__(self) -> str:
        wait = "" if self.retry_after is None else f"; it asks to wait {self.retry_after:g} s"
        more = wait + self._hint()
        said = self.message.removesuffix(".") if more else self.message
        what = f"{self.operation or 'request'} answered {self.status_code}: {said}{more}"
        return f"{what}{self._attempts_made()}"

    def _hint(self) -> str:
        return ""

    def _from(self) -> str:
        return f" (from {self.key_source})" if self.key_source else ""


class BadRequestResponseError(ResponseError):
    """400: the service refuses the request as it stands."""


class UnauthorizedResponseError(ResponseError):
    """401: the key is missing, unknown, expired, or not a management key."""

    def _hint(self) -> str:
        which = f"; check the API key{self._from()}"
        return f"{which}: all but the current key's metadata needs a management key"


class ForbiddenResponseError(ResponseError):
    """403: the key may not do this."""

    def _hint(self) -> str:
        return f"; the API key{self._from()} may not do this" if self.key_source else ""


class NotFoundResponseError(ResponseError):
    """404: there is no such key, or workspace; or no such API at the base URL."""

    def __str__(self) -> str:
        page = "; the answer is a web page, not the API's: the base URL should end in /api/v1"
        return super().__str__() + (page if self.body.lstrip().startswith("<") else "")


class ConflictResponseError(ResponseError):
    """409: the request conflicts with what is there."""


class TooManyRequestsResponseError(ResponseError):
    """429: too many requests, and the requested wait is longer than the call may take."""


class QuotaExhaustedError(TooManyRequestsResponseError):
    """429: the daily quota of creates, updates and deletes is used up; it is never retried.

    For a minute after it, the client refuses further ones without a request (`attempts` is 0);
    then it sends one again, since a quota can be raised. Reads continue.

    Attributes:
        limit_name: the service's name of the limit, such as `keys-modify-api-rpd-v2`.
        resets_at: when the quota resets, in UTC: as the answer says, or else the next midnight.
        limit: requests a day; None: the answer does not say.
        retry_after: the seconds until then.
    """

    limit_name: str = ""
    resets_at: datetime = _END_OF_TIME
    limit: int | None = None

    def __str__(self) -> str:
        said = f"answered 429: {self.message}" if self.attempts else "was not sent"
        size = "" if self.limit is None else f" of {self.limit:,}"
        return (
            f"{self.operation or 'request'} {said}; the daily quota{size} for creates, updates and "
            f"deletes ({self.limit_name}) is used up: go on after "
            f"{self.resets_at:%Y-%m-%d %H:%M} UTC{self._attempts_made()}"
        )


class InternalServerResponseError(ResponseError):
    """500: the service failed; a create raises `CreateOutcomeUnknownError` instead."""


class OpenRouterDefaultError(ResponseError):
    """Any other status that is no success, such as 402: no money."""


# The official SDK has a class for each.
BadRequestResponseErrorData = UnauthorizedResponseErrorData = ForbiddenResponseErrorData = ErrorData
NotFoundResponseErrorData = ConflictResponseErrorData = TooManyRequestsResponseErrorData = ErrorData
InternalServerResponseErrorData = ErrorData

STATUS_ERRORS: Mapping[int, type[ResponseError]] = MappingProxyType(
    {
        400: BadRequestResponseError,
        401: UnauthorizedResponseError,
        403: ForbiddenResponseError,
        404: NotFoundResponseError,
        409: ConflictResponseError,
        429: TooManyRequestsResponseError,
        500: InternalServerResponseError,
    }
)


class AllowanceExceededError(OpenRouterError):
    """A spec would exceed `max_total_limit`, or has no limit to count; it stops a run.

    Attributes:
        ref: the caller's own id; no key was made for it.
    """

    def __init__(self, ref: str, problem: str) -> None:
        super().__init__(f"the spec {ref!r} {problem}: no key was made for it")
        self.ref = ref


class TooManyFailuresError(OpenRouterError):
    """More keys were refused, or are not as requested, than `max_failures` allows.

    It is the `__cause__` of a run's error, whose `report` lists them.
    """

    def __init__(self, most: int) -> None:
        super().__init__(f"more than {most} keys were refused, or are not as asked for")


class ServiceOutageError(OpenRouterError):
    """For many rounds no create succeeded, or no unknown outcome could be reconciled.

    It is the `__cause__` of a run's error. Once the service is up, the same call goes on.
    """

    def __init__(
        self, rounds: int, last: OpenRouterError | None = None, obstacle: str | None = None
    ) -> None:
        # Of an unknown outcome, what made it so.
        why = None if last is None else last.__cause__ or last
        said = "" if why is None else f" (the last one: {why})"
        what = obstacle or f"no create succeeded: is the service up?{said}"
        super().__init__(f"{rounds} rounds went by without a key: {what}")
        self.__cause__: BaseException | None = last


class JournalError(OpenRouterError):
    """The journal cannot be used, or not for this."""


class JournalUnavailableError(JournalError):
    """The journal cannot be reached just now: its database is away, or another process locks it.

    What was asked of it is not done, and nothing was sent for it: ask again later.
    """


class JournalInUseError(JournalError):
    """Another process, or this one, has the journal open, and one of the two needs it alone.

    Runs and readers share a journal; `purge` and `accept` need it alone.

    Attributes:
        path: the journal.
        pid: a process that has it open; None: unknown.
    """

    def __init__(self, path: str, pid: int | None) -> None:
        who = "another process" if pid is None else f"process {pid}"
        super().__init__(f"{path} is in use by {who}: wait until it is done, or stop it")
        self.path: str = path
        self.pid: int | None = pid


class JournalInsecureError(JournalError):
    """The journal, or a file beside it, is not this user's own private file.

    Attributes:
        path: the file.
    """

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path} {problem}")
        self.path = path


class JournalMismatchError(JournalError):
    """The file is not a journal that this run can use.

    Attributes:
        path: the file.
    """

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path} {problem}")
        self.path = path


class JournalOutdatedError(JournalMismatchError):
    """The file is an older copy of the journal, or lacks its log: newer keys are missing in it.

    A run would make those keys again.
    """

    def __init__(self, path: str, problem: str) -> None:
        way = f"openrouter-keys journal accept {path}"
        super().__init__(
            path,
            f"{problem}; a run would make the keys that it does not know again. Restore the newest "
            f"file, or accept this one: {way}",
        )


class AccountChangedError(JournalError):
    """The management key does not see the workspace that the journal's keys are in, or no such key.

    For `provision` that is the default workspace. `rotate` looks at all workspaces of its open
    rotations, and at the keys that it is given: the management key sees none of them. Before a
    create, an account that cannot be compared so must show one of the journal's keys.

    Attributes:
        known: the workspace that the journal's keys were made in; None: not known.
        found: a workspace that the management key sees, its default one; None: it shows none.
        looked: the hashes of the journal's keys that were looked at, and not found.
    """

    def __init__(self, known: str | None, found: str | None, looked: tuple[str, ...] = ()) -> None:
        if looked:
            hashes = ", ".join(hash[:12] for hash in looked)
            command = "openrouter-keys create NAME"
            proof = "adopt it" if known is None else "run again"
            if known is not None:
                command += f" --workspace-id {known}"
            problem = (
                "no key is created, since this management key sees none of the journal's keys: it "
                f"lists none of them, and of those looked at ({hashes}) the service finds none. "
                "Give the management key of the account that they belong to. If it is that, and "
                f"all of them were deleted there, create a key by hand ({command}), then {proof}; "
                "or give another journal"
            )
        else:
            problem = (
                f"the journal's keys are in the workspace {known}, and this management key lists "
                f"{found or 'no key of it'}: give the management key of the account that they "
                "belong to; if that workspace may have been deleted, give another journal"
            )
        super().__init__(problem)
        self.known: str | None = known
        self.found: str | None = found
        self.looked: tuple[str, ...] = looked


class JournalFullError(JournalError):
    """The journal could not be written; what it could not record was not sent.

    Make room on its disk, then make the same call again.
    """


class JournalLostError(JournalError):
    """A file of the journal was removed, renamed, replaced or cut short while it was in use.

    Attributes:
        path: the file.
    """

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(
            f"{path} {problem} while it was in use. Nothing more is sent: restore it, then run "
            "again"
        )
        self.path = path


class PlanChangedError(JournalError):
    """A spec differs from the one in the journal with the same ref.

    Attributes:
        ref: the caller's own id.
        changed: the fields that differ.
    """

    def __init__(self, ref: str, changed: tuple[str, ...], way: str | None = None) -> None:
        way = way or "`apply` changes keys as specs say; or restore the old fields"
        super().__init__(
            f"the spec {ref!r} changed since the journal began ({', '.join(changed)}): {way}"
        )
        self.ref: str = ref
        self.changed: tuple[str, ...] = changed


class KeyGoneError(JournalError):
    """The service has not the key that the journal has of a ref.

    Attributes:
        ref: the caller's own id.
        hash: the key's hash.
        problem: why it may be there all the same; None: it is certainly gone.
    """

    def __init__(self, ref: str, hash: str, problem: str | None) -> None:
        is_gone = "is gone: make it anew with recreate=True"
        found = is_gone if problem is None else f"is not found, and may be there ({problem})"
        super().__init__(f"the key {hash} of {ref!r} {found}")
        self.ref: str = ref
        self.hash: str = hash
        self.problem: str | None = problem


class NotAdoptedError(JournalError):
    """A key cannot join the journal under a ref; nothing was changed.

    Attributes:
        ref: the caller's own id.
        hash: the key's hash.
        problem: why.
    """

    def __init__(self, ref: str, hash: str, problem: str) -> None:
        super().__init__(f"the key {hash} does not become that of {ref!r}: {problem}")
        self.ref: str = ref
        self.hash: str = hash
        self.problem: str = problem


class TakenOverError(JournalError):
    """Another run with the journal took a ref over, since this one seemed to be gone.

    The process was stopped for long, or was cut off from the database. Its key, if it made one, is
    handed to nobody: the other run deletes it, and makes another one.

    Attributes:
        ref: the caller's own id.
    """

    def __init__(self, ref: str) -> None:
        super().__init__(
            f"another run has taken {ref!r} over, since this one seemed to be gone: ask again"
        )
        self.ref = ref


class DuplicateRefError(JournalError):
    """Two specs of one run have the same ref.

    Attributes:
        ref: the caller's own id.
    """

    def __init__(self, ref: str) -> None:
        super().__init__(f"two specs have the ref {ref!r}: give each its own")
        self.ref = ref


class SecretNotKeptError(JournalError):
    """A key was made and the journal could not store its secret: take it from `key`.

    It cannot be pickled: the secret must not be written anywhere unasked.

    Attributes:
        ref: the caller's own id.
        key: the secret.
        hash: the key's hash.
        problem: why the journal could not store it.
    """

    maybe_applied = True

    def __init__(self, ref: str, key: str, hash: str, problem: str) -> None:
        super().__init__(
            f"the key {mask(key)} of {ref!r} was made and is not in the journal ({problem}): it is "
            "only in `error.key`"
        )
        self.ref: str = ref
        self.key: str = key
        self.hash: str = hash
        self.problem: str = problem

    def __reduce__(self) -> NoReturn:
        message = "a created key's secret is never pickled: take `error.key` out first"
        raise TypeError(message)
