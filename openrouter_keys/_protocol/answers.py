"""An answer of the service, and the error that it means if it is no success. Pure: no I/O."""

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
        proven: whether the hash in it is that of the secret in it; `Operation.read` sets this.
    """

    body: bytes = field(repr=False)
    http: HTTPMeta
    proven: bool = False


class ErrorInSuccessError(ResponseValidationError):
    """The status says success, and the body is an error; `refusal` returns that error."""


def refusal(answer: Answer, secrets: Iterable[str] = ()) -> ResponseError:
    """Return the error of an answer that refuses or fails; its status decides the class.

    Under the status of a success, the error's own `code` decides, if it is a status of an error.

    Args:
        answer: the answer.
        secrets: those of the request, which the error must not show.
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
    """Raise if the body of a success is an error: `{"error": …}`.

    Raises:
        ErrorInSuccessError: it is one.
    """
    if body.find(b'"error"') < 0:  # nearly always
        return
    error = _object(_parsed(body)).get("error")
    if error and isinstance(error, dict | str):
        raise ErrorInSuccessError("the answer is an error, under the status of a success")


def is_cached(headers: Mapping[str, str]) -> bool:
    """Whether an answer comes from a cache, and may be out of date.

    Only a cache sends `Age` (https://www.rfc-editor.org/rfc/rfc9111#name-age). An unreadable one
    counts too.
    """
    return headers.get("Age", "").strip("0 ") != ""


def is_api_404(error: OpenRouterError) -> bool:
    """Whether an error is the API's own 404: there is no such key.

    A 404 of a proxy, a cache, a login page or an unknown route proves nothing about a key.
    """
    if not isinstance(error, NotFoundResponseError) or error.status_code != 404:
        return False
    if is_cached(error.headers):
        return False
    detail = _object(_object(_parsed(error.body.encode(errors="replace"))).get("error"))
    code = detail.get("code")
    return type(code) is int and code == 404 and isinstance(detail.get("message"), str)


def _parsed(body: bytes) -> JSON:
    """Return the value of a body; None: it is no JSON."""
    try:
        return parse(body)
    except MalformedBodyError:
        return None


def _object(value: JSON) -> Mapping[str, JSON]:
    return value if isinstance(value, dict) else {}


def _is_success(status: int) -> bool:
    return 200 <= status < 300


def _shown(body: bytes, secrets: Sequence[str]) -> str:
    """Return a body's text with secrets masked, also those that JSON's escapes hide."""
    wide = b"\0" in body  # as only UTF-16 and UTF-32 have it
    text = _printable(text_of(body)) if wide else body.decode(errors="replace")
    text = scrub(text, *secrets)
    if "\\" not in text:
        return text
    value = _parsed(text.encode(errors="replace"))
    plain = unescaped(text) if value is None else json.dumps(value, ensure_ascii=False)
    masked = scrub(plain, *secrets)
    return text if masked == plain else _printable(masked)


def _error_data(text: str, status: int) -> ErrorData:
    body = _object(_parsed(text.encode(errors="replace")))
    user_id, metadata = body.get("user_id"), body.get("openrouter_metadata")
    return ErrorData(
        error=_error_detail(body.get("error"), status),
        user_id=user_id if isinstance(user_id, str) else None,
        openrouter_metadata=metadata if isinstance(metadata, dict) else None,
    )


def _error_detail(error: JSON, status: int) -> ErrorDetail:
    """Read `{"code", "message", "metadata"}`, a bare text, or nothing that makes sense."""
    detail: Mapping[str, JSON] = error if isinstance(error, dict) else {"message": error}
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
