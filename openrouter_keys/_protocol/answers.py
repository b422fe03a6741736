"""What the service sent back, and the error that it means when it is no success. Pure: no I/O."""

import json
from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus

from attrs import define, field

from openrouter_keys._base.masking import escaped, scrub
from openrouter_keys._base.scrubbing import text_of, unescaped
from openrouter_keys.converter import parse
from openrouter_keys.errors import (
    JSON,
    STATUS_ERRORS,
    ErrorData,
    ErrorDetail,
    MalformedBodyError,
    NotFoundResponseError,
    OpenRouterDefaultError,
    OpenRouterError,
    ResponseError,
    ResponseValidationError,
)
from openrouter_keys.models import HTTPMeta


@define(eq=False)
class Answer:
    """What the service sent back.

    Attributes:
        body: the body.
        http: what happened on the wire.
        proven: set by who reads it: the hash that it tells is that of the secret in it.
    """

    body: bytes = field(repr=False)
    http: HTTPMeta
    proven: bool = False


class ErrorInSuccessError(ResponseValidationError):
    """A success's status over a body that is an error; `refusal` returns that error."""


def refusal(answer: Answer, secrets: Iterable[str] = ()) -> ResponseError:
    """Return the error of an answer that says no; its status decides the class.

    The status of a success does not: there the error's own `code` does, if it is such a status.

    Args:
        answer: the answer.
        secrets: what stood in the request and must not show in the error.
    """
    status = answer.http.status
    text = _shown(answer.body, [*secrets])
    data = _error_data(text, status)
    code = data.error.code
    kind = code if _is_success(status) and isinstance(code, int) else status
    error = STATUS_ERRORS.get(kind, OpenRouterDefaultError)(data.error.message)
    error.data, error.body = data, text
    return error


def refuse_error(body: bytes) -> None:
    """Raise if the body of a success is an error all the same: `{"error": …}`.

    Raises:
        ErrorInSuccessError: it is one.
    """
    if b'"error"' not in body:  # what nearly every answer ends with
        return
    try:
        told = parse(body)
    except MalformedBodyError:
        return
    error = told.get("error") if isinstance(told, dict) else None
    if error and isinstance(error, dict | str):
        raise ErrorInSuccessError("the answer is an error, under the status of a success")


def is_cached(headers: Mapping[str, str]) -> bool:
    """Whether an answer is a cache's, and shows what was so a while ago.

    Only a cache sends `Age` (https://www.rfc-editor.org/rfc/rfc9111#name-age). One that cannot be
    read counts as well.
    """
    return headers.get("Age", "").strip("0 ") != ""


def is_api_404(error: OpenRouterError) -> bool:
    """Whether an error is the API's own "there is no such key".

    A proxy's 404, a cached one, a login page or an unknown route proves nothing about a key.
    """
    if not isinstance(error, NotFoundResponseError) or error.status_code != 404:
        return False
    if is_cached(error.headers):
        return False
    try:
        body = parse(error.body.encode(errors="replace"))
    except MalformedBodyError:
        return False
    told = body.get("error") if isinstance(body, dict) else None
    if not isinstance(told, dict):
        return False
    code, message = told.get("code"), told.get("message")
    return type(code) is int and code == 404 and isinstance(message, str)


def _is_success(status: int) -> bool:
    return 200 <= status < 300


def _shown(body: bytes, secrets: Sequence[str]) -> str:
    """Return a body's text with secrets masked, also those that JSON's escapes hide."""
    wide = b"\0" in body  # as only UTF-16 and UTF-32 have it
    text = _printable(text_of(body)) if wide else body.decode(errors="replace")
    text = scrub(text, *secrets)
    if "\\" not in text:
        return text
    try:
        plain = json.dumps(parse(text.encode(errors="replace")), ensure_ascii=False)
    except MalformedBodyError:
        plain = unescaped(text)
    masked = scrub(plain, *secrets)
    return text if masked == plain else _printable(masked)


def _error_data(text: str, status: int) -> ErrorData:
    try:
        body = parse(text.encode(errors="replace"))
    except MalformedBodyError:
        body = None
    told = body if isinstance(body, dict) else {}
    user_id, metadata = told.get("user_id"), told.get("openrouter_metadata")
    return ErrorData(
        error=_error_detail(told.get("error"), status),
        user_id=user_id if isinstance(user_id, str) else None,
        openrouter_metadata=metadata if isinstance(metadata, dict) else None,
    )


def _error_detail(told: JSON, status: int) -> ErrorDetail:
    """Read `{"code", "message", "metadata"}`, a bare text, or nothing that makes sense."""
    detail: Mapping[str, JSON] = told if isinstance(told, dict) else {"message": told}
    code, message, metadata = detail.get("code"), detail.get("message"), detail.get("metadata")
    code = code if isinstance(code, int | str) and not isinstance(code, bool) else status
    means = code if _is_success(status) else status
    return ErrorDetail(
        code=code,
        message=escaped(message) if isinstance(message, str) and message else _phrase(means),
        metadata=metadata if isinstance(metadata, dict) else None,
    )


def _printable(text: str) -> str:
    return text.encode(errors="replace").decode()


def _phrase(status: int | str) -> str:
    if status == HTTPStatus.OK:
        return "no message"  # an error that says nothing of itself
    try:
        return HTTPStatus(int(status)).phrase
    except ValueError:
        return "no message"
