"""The six operations as values: what to send, and what each answer means.

Pure: no I/O but a warning in the log. The rules are those of
https://openrouter.ai/docs/api-reference (API keys).
"""

import logging
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Generic, NoReturn, TypeVar
from urllib.parse import urlencode

from attrs import define, field

from openrouter_keys._base.identifiers import canonical
from openrouter_keys._base.made_keys import MadeKey
from openrouter_keys._base.masking import escaped, hash_of
from openrouter_keys._base.scrubbing import count
from openrouter_keys._base.unset import left_out
from openrouter_keys._inputs import checks
from openrouter_keys._protocol.answers import Answer, refuse_error
from openrouter_keys._protocol.drift import mismatches
from openrouter_keys._protocol.retries import Effect
from openrouter_keys._protocol.salvage import Salvage, documented, salvage
from openrouter_keys.converter import decode, encode, parse, structure
from openrouter_keys.errors import (
    JSON,
    AnotherKeyError,
    CreatedKeyUnreadableError,
    CreateOutcomeUnknownError,
    ResponseValidationError,
    SecretLostError,
)
from openrouter_keys.models import (
    CreateKeysLimitReset,
    CreateKeysRequest,
    CreateKeysResponse,
    CurrentKey,
    DeleteKeysResponse,
    External,
    ExternalTypedDict,
    GetCurrentKeyResponse,
    GetKeyResponse,
    Key,
    ListResponse,
    RateLimit,
    UpdateKeysLimitReset,
    UpdateKeysRequest,
    UpdateKeysResponse,
)

# The official SDK has these names here, one of a record for each operation.
CreateKeysData = GetKeyData = ListData = UpdateKeysData = Key
GetCurrentKeyData = CurrentKey
CreateKeysRequestBody = CreateKeysRequest
UpdateKeysRequestBody = UpdateKeysRequest

__all__ = [
    "Answer",
    "CreateKeysData",
    "CreateKeysLimitReset",
    "CreateKeysRequest",
    "CreateKeysRequestBody",
    "CreateKeysResponse",
    "DeleteKeysResponse",
    "External",
    "ExternalTypedDict",
    "GetCurrentKeyData",
    "GetCurrentKeyResponse",
    "GetKeyData",
    "GetKeyResponse",
    "ListData",
    "ListResponse",
    "Operation",
    "RateLimit",
    "UpdateKeysData",
    "UpdateKeysLimitReset",
    "UpdateKeysRequest",
    "UpdateKeysRequestBody",
    "UpdateKeysResponse",
    "create",
    "current",
    "delete",
    "get",
    "list_",
    "update",
]

R = TypeVar("R")
A = TypeVar(
    "A",
    GetCurrentKeyResponse,
    ListResponse,
    GetKeyResponse,
    UpdateKeysResponse,
    DeleteKeysResponse,
)
K = TypeVar("K", GetKeyResponse, UpdateKeysResponse)

_log = logging.getLogger("openrouter_keys")

_UNPROVEN = "nothing proves that the key was deleted: delete it again"


@define(eq=False)  # a frozen one takes twice as long to make
class Operation(Generic[R]):
    """One request, and what its answers mean.

    Attributes:
        name: the operation's name, for errors and logs.
        method: the HTTP method.
        path: the path below the base URL, with its query.
        effect: its effect on the account, which decides whether it may be repeated.
        read: returns the result of a success, or raises a `ResponseValidationError`.
        body: JSON; None: no body.
        secrets: the body's, which must never be shown.
        gone: returns the result of the API's own 404 after an attempt that may have been applied.
        read_back: the request to send when the answer of an applied request cannot be read.
        outcome_unknown: returns the error for an attempt that may have been applied and must not
            be repeated; its message begins with the argument.
        made: returns the key that a success made. None: the operation makes none.
        workspace_id: the requested workspace of the key; None: the default one.
        undo_if_cancelled: whether the key is deleted if the caller was cancelled meanwhile.
        salvage: returns the error for a success on which `read` failed unexpectedly; the error has
            the secret if the answer does.
    """

    name: str
    method: str
    path: str
    effect: Effect
    read: Callable[[Answer], R] = field(repr=False)
    body: bytes | None = field(default=None, repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)
    gone: Callable[[Answer], R] | None = field(default=None, repr=False)
    read_back: "Operation[R] | None" = field(default=None, repr=False)
    outcome_unknown: Callable[[str], CreateOutcomeUnknownError] | None = field(
        default=None, repr=False
    )
    made: Callable[[R], MadeKey] | None = field(default=None, repr=False)
    workspace_id: str | None = None
    undo_if_cancelled: bool = True
    salvage: Callable[[bytes, Exception], ResponseValidationError] | None = field(
        default=None, repr=False
    )


def current() -> Operation[GetCurrentKeyResponse]:
    """`GET /key`: the key that the request was made with."""
    return Operation(
        "get_current_key_metadata",
        "GET",
        "/key",
        Effect.READ,
        lambda answer: _read(answer, GetCurrentKeyResponse),
    )


def list_(
    *,
    include_disabled: bool | str | None = None,
    include_expired: bool | str | None = None,
    offset: int | str | None = None,
    workspace_id: str | None = None,
) -> Operation[ListResponse]:
    """`GET /keys`: one page of keys, newest first."""
    query: dict[str, str] = {}
    include_disabled, include_expired = left_out(include_disabled), left_out(include_expired)
    offset, workspace_id = left_out(offset), left_out(workspace_id)
    if include_disabled is not None:
        query["include_disabled"] = checks.switch("include_disabled", include_disabled)
    if include_expired is not None:
        query["include_expired"] = checks.switch("include_expired", include_expired)
    if offset is not None:
        query["offset"] = str(checks.offset(offset))
    if workspace_id is not None:
        query["workspace_id"] = checks.nonempty("workspace_id", workspace_id)
    return Operation(
        "list",
        "GET",
        f"/keys?{urlencode(query)}" if query else "/keys",
        Effect.READ,
        lambda answer: _read(answer, ListResponse),
    )


def get(hash: str) -> Operation[GetKeyResponse]:
    """`GET /keys/{hash}`: one key."""
    return Operation(
        "get",
        "GET",
        f"/keys/{checks.key_hash(hash)}",
        Effect.READ,
        lambda answer: _read_key(answer, GetKeyResponse, hash),
    )


def create(
    request: CreateKeysRequest, *, undo_if_cancelled: bool = True
) -> Operation[CreateKeysResponse]:
    """`POST /keys`: a new key, and its secret, shown once.

    Args:
        request: the body.
        undo_if_cancelled: whether the key is deleted if the caller was cancelled meanwhile.
    """

    def outcome_unknown(why: str) -> CreateOutcomeUnknownError:
        error = CreateOutcomeUnknownError(
            f"{why}outcome unknown: key {request.name!r} may exist, but its secret is lost. Not "
            f"retried, to avoid a duplicate. {_end_of(request)}Run `reconcile(error)`, or delete "
            "the unused key first"
        )
        error.name, error.workspace_id = request.name, request.workspace_id
        error.asked = _asked(request)
        return error

    return Operation(
        "create",
        "POST",
        "/keys",  # `POST /keys/` answers 404, though a guide writes it so
        Effect.CREATE,
        lambda answer: _read_created(answer, request),
        body=encode(request),
        secrets=_secrets(request),
        outcome_unknown=outcome_unknown,
        made=_made,
        workspace_id=request.workspace_id or None,
        undo_if_cancelled=undo_if_cancelled,
        salvage=lambda body, error: _salvaged(body, request, error),
    )


def update(hash: str, request: UpdateKeysRequest) -> Operation[UpdateKeysResponse]:
    """`PATCH /keys/{hash}`: change what is given, null included, and leave the rest."""

    def read(answer: Answer) -> UpdateKeysResponse:
        return _read_key(answer, UpdateKeysResponse, hash)

    path = f"/keys/{checks.key_hash(hash)}"
    return Operation(
        "update",
        "PATCH",
        path,
        Effect.UPDATE,
        read,
        body=encode(request),
        read_back=Operation("get", "GET", path, Effect.READ, read),
    )


def delete(hash: str) -> Operation[DeleteKeysResponse]:
    """`DELETE /keys/{hash}`: delete the key for good."""

    def gone(answer: Answer) -> DeleteKeysResponse:
        return DeleteKeysResponse(deleted=True, http=answer.http)

    def read_kept(answer: Answer) -> NoReturn:
        _read_key(answer, GetKeyResponse, hash)
        raise ResponseValidationError("the key is there")

    path = f"/keys/{checks.key_hash(hash)}"
    return Operation(
        "delete",
        "DELETE",
        path,
        Effect.DELETE,
        _read_deleted,
        gone=gone,
        read_back=Operation("get", "GET", path, Effect.READ, read_kept, gone=gone),
    )


def _read(answer: Answer, cls: type[A]) -> A:
    try:
        read = decode(answer.body, cls, http=answer.http)
    except ResponseValidationError:
        refuse_error(answer.body)
        raise
    if "error" in read.extra:
        refuse_error(answer.body)
    return read


def _read_key(answer: Answer, cls: type[K], hash: str) -> K:
    read = _read(answer, cls)
    found = read.data.hash
    if canonical(found) != canonical(hash):
        error = AnotherKeyError(f"the answer is of another key than {hash}: of {found}")
        error.asked, error.answered = hash, found
        raise error
    return read


def _read_deleted(answer: Answer) -> DeleteKeysResponse:
    """Accept `{"deleted": true}`, with any other fields, and nothing else: no status, no 404."""
    try:
        deleted = decode(answer.body, DeleteKeysResponse, http=answer.http)
    except ResponseValidationError as error:
        refuse_error(answer.body)
        raise type(error)(f"{error.message}; {_UNPROVEN}") from None
    if not deleted.deleted:
        refuse_error(answer.body)
    return deleted


def _made(created: CreateKeysResponse) -> MadeKey:
    return MadeKey.of(created.data.hash, created.key)


def _read_created(answer: Answer, request: CreateKeysRequest) -> CreateKeysResponse:
    """Return the key if the hash proves its secret; otherwise search the bytes for the secret."""
    if (proven := _proven(answer)) is not None:
        _log_mismatches(proven, request)
        return proven
    found = _found(answer.body)
    if found.secret is None:
        refuse_error(answer.body)
        raise _secret_lost(request, found)
    try:
        read = structure(_record(found.rest), GetKeyResponse)
        created = CreateKeysResponse(
            data=read.data, key=found.secret, extra=read.extra, http=answer.http
        )
    except Exception as error:  # noqa: BLE001 - as above
        unreadable = _unreadable(error, found)
    else:
        _compare(created)
        _log_mismatches(created, request)
        return created
    finally:
        del found  # crash reporters send local variables home
    raise unreadable


def _proven(answer: Answer) -> CreateKeysResponse | None:
    try:
        created = decode(answer.body, CreateKeysResponse, http=answer.http)
        # A second copy would show in `extra`.
        once = count(answer.body, created.key) == 1 and "key" not in created.data.extra
        answer.proven = once and created.data.hash == hash_of(created.key)
    except Exception:  # noqa: BLE001 - none may come between a key and its secret
        return None
    return created if answer.proven else None


def _found(body: bytes) -> Salvage:
    try:
        return salvage(body)
    except Exception:  # noqa: BLE001 - whatever it is, the secret may be there all the same
        return documented(body)


def _record(rest: bytes | None) -> JSON:
    """Return an answer without the values in a secret's place."""
    if rest is None:
        return None
    whole = _object(parse(rest))
    data = _object(whole.get("data"))
    for holder in (whole, data):
        holder.pop("key", None)
    return {**whole, "data": data}


def _compare(created: CreateKeysResponse) -> None:
    with suppress(Exception):  # a handler of the log may raise
        if created.data.hash != hash_of(created.key):
            message = "create: the hash %s is not the SHA-256 of the secret"
            _log.warning(message, escaped(created.data.hash))


def _log_mismatches(created: CreateKeysResponse, request: CreateKeysRequest) -> None:
    """Log a warning if the key is not as requested; the caller gets it anyway."""
    try:
        if wrong := mismatches(request, created.data):
            message = "create: the key %s is not as it was asked for: %s"
            _log.warning(message, escaped(created.data.hash), ", ".join(wrong))
    except Exception:  # noqa: BLE001 - as above
        return


def _salvaged(body: bytes, request: CreateKeysRequest, error: Exception) -> ResponseValidationError:
    """Return the error for an unreadable answer, with the secret if it is found."""
    found = _found(body)
    return _secret_lost(request, found) if found.secret is None else _unreadable(error, found)


def _unreadable(error: Exception, found: Salvage) -> CreatedKeyUnreadableError:
    # Another error's text may quote the answer.
    wrong = f"reading the answer raised {type(error).__name__}"
    if isinstance(error, ResponseValidationError):
        wrong = error.message
    hash, secret = found.hash, found.secret or ""
    with suppress(Exception):
        hash = hash or hash_of(secret)
    try:
        return CreatedKeyUnreadableError(wrong, secret, hash or "")
    finally:
        del secret  # crash reporters send local variables home


def _object(value: JSON) -> dict[str, JSON]:
    return dict(value) if isinstance(value, dict) else {}


def _secret_lost(request: CreateKeysRequest, found: Salvage) -> SecretLostError:
    hash = found.hash
    which = f"the key {escaped(hash)}" if hash else f"the newest unused key named {request.name!r}"
    holds = "the answer does not hold its secret"
    if found.doubtful:
        holds = f"nothing proves which of {found.doubtful} texts in the answer is its secret"
    elif found.redacted:
        holds = "the text in its secret's place looks redacted or made up (docs/testing.md)"
    error = SecretLostError(
        f"the key was created, but {holds}. {_end_of(request)}Run `reconcile(error)`, or delete "
        f"{which}, then create it again"
    )
    error.name, error.workspace_id, error.hash = request.name, request.workspace_id, hash
    error.asked = _asked(request)
    return error


def _end_of(request: CreateKeysRequest) -> str:
    if not isinstance(request.expires_at, datetime):
        return ""
    return f"It expires at {request.expires_at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC. "


def _secrets(request: CreateKeysRequest) -> tuple[str, ...]:
    if request.external is None or request.external.api_key is None:
        return ()
    return (request.external.api_key,)


def _asked(request: CreateKeysRequest) -> dict[str, JSON]:
    """Return a request's fields for an error, without the partner's key, which is a secret."""
    asked = _object(parse(encode(request)))
    if request.external is not None:
        asked["external"] = {"user": request.external.user}
    return asked
