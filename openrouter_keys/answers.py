"""What the service sent back, and the error that it means when it is no success. Pure: no I/O."""

import json
from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus

from attrs import define, field

from openrouter_keys.converter import parse
from openrouter_keys.errors import (
    JSON,
    STATUS_ERRORS,
    ErrorData,
    ErrorDetail,
    MalformedBodyError,
    OpenRouterDefaultError,
    ResponseError,
)
from openrouter_keys.masking import scrub
from openrouter_keys.models import HTTPMeta


@define(eq=False)
class Answer:
    """What the service sent back."""

    body: bytes = field(repr=False)
    http: HTTPMeta


def refusal(answer: Answer, secrets: Iterable[str] = ()) -> ResponseError:
    """Return the error of an answer that says no; its status decides the class.

    Args:
        answer: the answer, with any status that is no success.
        secrets: what stood in the request and must not show in the error.
    """
    status = answer.http.status
    text = _shown(answer.body, [*secrets])
    data = _error_data(text, status)
    error = STATUS_ERRORS.get(status, OpenRouterDefaultError)(data.error.message)
    error.data, error.body = data, text
    return error


def _shown(body: bytes, secrets: Sequence[str]) -> str:
    """Return a body's text with secrets masked, also those that JSON's escapes hide."""
    text = scrub(body.decode(errors="replace"), *secrets)
    if "\\" not in text:
        return text
    try:
        plain = json.dumps(parse(text.encode(errors="replace")), ensure_ascii=False)
    except MalformedBodyError:
        return text
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
    return ErrorDetail(
        code=code if isinstance(code, int | str) and not isinstance(code, bool) else status,
        # Half a surrogate pair, which JSON can escape, cannot be printed.
        message=_printable(message) if isinstance(message, str) and message else _phrase(status),
        metadata=metadata if isinstance(metadata, dict) else None,
    )


def _printable(text: str) -> str:
    return text.encode(errors="replace").decode()


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "no message"
