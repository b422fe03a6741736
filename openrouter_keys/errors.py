"""The whole error tree; every error of this package is an `OpenRouterError`.

::

    OpenRouterError
    ├── InvalidArgumentError            bad input, refused before anything was sent (ValueError)
    ├── ClientStateError                the client cannot be used here (RuntimeError)
    │   ├── ClientClosedError           … after it was closed
    │   ├── WrongEventLoopError         … in a second event loop
    │   └── ForkedClientError           … in a forked child
    ├── APIKeyError                     the callable given as `api_key` gave no usable key
    ├── NoResponseError                 no answer came
    │   ├── NotSentError                … and it is proven that no byte was sent
    │   └── DeadlineExceededError       … within `timeout_ms` (TimeoutError)
    ├── CreateOutcomeUnknownError       a create was sent and nobody can say whether it made a key
    ├── ResponseValidationError         an answer that does not read as documented
    │   ├── MalformedBodyError          … cut short, or no JSON at all
    │   ├── AnotherKeyError             … of another key than was asked for
    │   ├── IncompleteListingError      … pages that do not make up a whole list
    │   ├── SecretLostError             … a key was made and its secret cannot be read
    │   └── CreatedKeyUnreadableError   … its secret can: `.key`
    └── ResponseError                   the service said no; the status decides the class
        ├── BadRequestResponseError 400, UnauthorizedResponseError 401, ForbiddenResponseError 403,
        │   NotFoundResponseError 404, ConflictResponseError 409, TooManyRequestsResponseError 429,
        │   InternalServerResponseError 500
        ├── QuotaExhaustedError         429 of a daily quota (TooManyRequestsResponseError)
        └── OpenRouterDefaultError      any other status
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import NoReturn, TypeAlias

from attrs import field, frozen

from openrouter_keys.masking import escaped, mask
from openrouter_keys.pickling import pickled, restored

JSON: TypeAlias = "dict[str, JSON] | list[JSON] | str | int | float | bool | None"

_NO_HEADERS: Mapping[str, str] = {}
_END_OF_TIME = datetime.max.replace(tzinfo=UTC)


class OpenRouterError(Exception):
    """What every error of this package tells.

    Pickled or copied, it keeps its facts and its notes, and a `__cause__` that is one of these:
    what others raise may hold a secret. An error that holds one itself refuses both.

    Attributes:
        message: what happened, in the service's words where it said any.
        operation: the operation's name, such as `create`; empty before there was one.
        status_code: the answer's status; None when there was no answer.
        headers: the answer's headers; empty when there was no answer.
        body: the answer's text with secrets masked; empty when there was no answer.
        attempts: how many times the request was tried.
        maybe_applied: whether the service may have carried the request out.
        retry_after: the seconds that the service asked to wait, if it did.
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
        return f"{what}{self._attempts_told()}"

    def _attempts_told(self) -> str:
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
    """The client lives in another event loop; make one client for each loop."""


class ForkedClientError(ClientStateError):
    """The client was used before `fork()`; make a new one in the child."""


class APIKeyError(OpenRouterError):
    """The callable given as `api_key` failed, or gave something that is not a key."""


class NoResponseError(OpenRouterError):
    """The request was sent, or may have been, and no answer came."""


class NotSentError(NoResponseError):
    """No connection could be made: it is proven that no byte was sent."""


class DeadlineExceededError(NoResponseError, TimeoutError):
    """The call's `timeout_ms` ran out."""


class CreateOutcomeUnknownError(OpenRouterError):
    """A create was sent and no answer tells whether it made a key; it is never sent again.

    If a key was made, nobody holds its secret. Look for it with
    `iterate(include_disabled=True, include_expired=True, workspace_id=error.workspace_id)`: an
    unused key named `error.name`, made between `error.started_at` and a while after
    `error.ended_at` (a late commit can still land), can only be used by deleting it.
    `__cause__` is the error that the answer, or its absence, would otherwise have raised.

    Attributes:
        name: the name asked for.
        workspace_id: the workspace asked for; None for the default one.
        started_at: when the request was sent, by this machine's clock, in UTC.
        ended_at: when it was given up.
        asked: what was asked for, as it was sent, but `external.api_key`.
    """

    maybe_applied = True
    name: str = ""
    workspace_id: str | None = None
    asked: Mapping[str, JSON] | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None


class ResponseValidationError(OpenRouterError):
    """An answer came that does not read as the service documents it."""


class MalformedBodyError(ResponseValidationError):
    """A successful answer's body was cut short, or is no JSON."""


class AnotherKeyError(ResponseValidationError):
    """The answer is the record of another key than was asked for: it says nothing of that one.

    Attributes:
        asked: the hash that was asked for.
        answered: the hash in the answer.
    """

    asked: str = ""
    answered: str = ""


class IncompleteListingError(ResponseValidationError):
    """A walk through all keys did not come to the list's end: its pages do not fit together.

    What it gave until then are keys, and there may be more of them.

    Attributes:
        seen: how many keys were seen.
        pages: how many pages were asked for.
        offset: how many keys the last page was asked to skip.
        why: what was wrong with the pages.
    """

    seen: int = 0
    pages: int = 0
    offset: int = 0
    why: str = ""


class SecretLostError(ResponseValidationError):
    """A key was made, and its secret, shown only once, cannot be read from the answer.

    Delete that key, then create another one.

    Attributes:
        name: the name asked for.
        workspace_id: the workspace asked for; None for the default one.
        hash: the key's hash, where the answer still told it; None otherwise.
        started_at: when the request was sent, by this machine's clock, in UTC.
        ended_at: when its answer came.
        asked: what was asked for, as it was sent, but `external.api_key`.
    """

    maybe_applied = True
    name: str = ""
    workspace_id: str | None = None
    hash: str | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    asked: Mapping[str, JSON] | None = None


class CreatedKeyUnreadableError(ResponseValidationError):
    """A key was made and its secret is here, though the rest of the answer cannot be read.

    It refuses to be pickled, since the secret must not be written anywhere unasked.

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
    """What the service says went wrong.

    Attributes:
        code: the service's number or name for it; the answer's status where it gave none.
        message: its text; the status's usual phrase where it gave none.
        metadata: whatever else it told, such as `error_type`.
    """

    code: int | str
    message: str
    metadata: Mapping[str, JSON] | None = None


@frozen
class ErrorData:
    """The body of an answer that says no."""

    error: ErrorDetail
    user_id: str | None = None
    openrouter_metadata: Mapping[str, JSON] | None = field(default=None, repr=False)


class ResponseError(OpenRouterError):
    """The service answered, and said no.

    Attributes:
        data: the body, read as far as it can be.
    """

    data: ErrorData = ErrorData(ErrorDetail(0, ""))
    _hint = ""

    def __str__(self) -> str:
        said = f"answered {self.status_code}: {self.message}"
        wait = "" if self.retry_after is None else f"; it asks to wait {self.retry_after:g} s"
        return f"{self.operation or 'request'} {said}{wait}{self._hint}{self._attempts_told()}"


class BadRequestResponseError(ResponseError):
    """400: the service refuses the request as it stands."""


class UnauthorizedResponseError(ResponseError):
    """401: the key is missing, unknown, expired, or no management key."""

    _hint = "; is the API key right? all but the current key's metadata needs a management key"


class ForbiddenResponseError(ResponseError):
    """403: the key may not do this."""


class NotFoundResponseError(ResponseError):
    """404: there is no such key, or workspace; or no such API at the base URL."""

    def __str__(self) -> str:
        alien = (
            "; the answer is not the API's: does the base URL end as the API's does, in /api/v1?"
        )
        return super().__str__() + (alien if self.body.lstrip().startswith("<") else "")


class ConflictResponseError(ResponseError):
    """409: the request conflicts with what is there."""


class TooManyRequestsResponseError(ResponseError):
    """429: too many requests, and the wait asked for does not fit the call's deadline."""


class QuotaExhaustedError(TooManyRequestsResponseError):
    """429: the quota of creates, updates and deletes a day is used up; it is never retried.

    For up to a minute after it, the client refuses further ones without a request (`attempts` is
    0); then it sends one again, since a quota can be raised. Reads go on.

    Attributes:
        limit_name: the service's name of the limit, such as `keys-modify-api-rpd-v2`.
        resets_at: when it is full again, in UTC: as the answer says, or else the next midnight.
        limit: how many requests a day it is; None: the answer does not say.
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
            f"{self.resets_at:%Y-%m-%d %H:%M} UTC{self._attempts_told()}"
        )


class InternalServerResponseError(ResponseError):
    """500: the service failed."""


class OpenRouterDefaultError(ResponseError):
    """Any other status that is no success."""


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
