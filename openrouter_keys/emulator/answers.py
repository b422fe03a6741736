"""Makes the service's answer to a request of the ledger. No sockets."""

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from http import HTTPStatus
from typing import Final
from urllib.parse import parse_qsl, unquote

from attrs import Factory, evolve, frozen

from openrouter_keys.emulator.bodies import list_query
from openrouter_keys.emulator.contracts import NEWEST, Contract
from openrouter_keys.emulator.ledger import Request
from openrouter_keys.emulator.limits import DailyQuota
from openrouter_keys.emulator.records import current_record, key_record
from openrouter_keys.emulator.refusals import JSON, Refusal
from openrouter_keys.emulator.state import Account
from openrouter_keys.emulator.stored import StoredKey

_CHANGES: Final = ("create", "update", "delete")
_JSON: Final = "application/json"
_KEYS: Final = "/api/v1/keys"
_ROUTES: Final = {
    ("GET", "/api/v1/key"): "current",
    ("GET", _KEYS): "list",
    ("POST", _KEYS): "create",
    ("GET", f"{_KEYS}/{{hash}}"): "get",
    ("PATCH", f"{_KEYS}/{{hash}}"): "update",
    ("DELETE", f"{_KEYS}/{{hash}}"): "delete",
}


@frozen(kw_only=True)
class Answer:
    """A status, headers and a body."""

    status: int
    headers: Mapping[str, str] = Factory(dict[str, str])
    body: bytes

    def with_headers(self, headers: Mapping[str, str]) -> "Answer":
        """Return a copy with these headers set; the case of their names does not matter."""
        given = {name.lower() for name in headers}
        kept = {name: text for name, text in self.headers.items() if name.lower() not in given}
        return evolve(self, headers=kept | dict(headers))


def json_answer(status: int, value: JSON) -> Answer:
    """Return an answer in JSON."""
    body = json.dumps(value, separators=(",", ":")).encode()
    return Answer(status=status, headers={"Content-Type": "application/json"}, body=body)


def html_answer(status: int, text: str) -> Answer:
    """Return an answer in HTML."""
    body = f"<!DOCTYPE html><html><body><h1>{text}</h1></body></html>".encode()
    return Answer(status=status, headers={"Content-Type": "text/html; charset=utf-8"}, body=body)


def error_answer(status: int, body: bytes | None = None) -> Answer:
    """Return the usual error of this status.

    Args:
        status: of 400 or more, known to HTTP or not.
        body: what to send instead of the usual JSON.
    """
    phrase = HTTPStatus(status).phrase if status in set(HTTPStatus) else f"Error {status}"
    usual = {
        401: Refusal(401, "User not found."),
        403: Refusal(403, "Only management keys can perform this operation"),
        404: Refusal(404, "Resource not found"),
        413: Refusal(413, "Request body too large"),
        429: Refusal(429, "Rate limit exceeded", "rate_limit_exceeded"),
    }
    answer = json_answer(status, usual.get(status, Refusal(status, phrase)).body)
    return answer if body is None else evolve(answer, body=body)


def limited(metadata: Mapping[str, JSON], message: str = "Rate limit exceeded") -> Answer:
    """Return the answer to a request beyond a limit, with this in the error's metadata."""
    details = {"error_type": "rate_limit_exceeded", **metadata}
    return json_answer(429, {"error": {"code": 429, "message": message, "metadata": details}})


def success_status(operation: str) -> int:
    """Return the status of the service's success."""
    return 201 if operation == "create" else 200


def parse(method: str, target: str) -> tuple[str, str | None, dict[str, str]]:
    """Return the operation, the hash in the path and the query of a request's first line."""
    path, _, query = target.partition("?")
    head, _, last = path.rpartition("/")
    of_one_key = head == _KEYS and last != ""
    operation = _ROUTES.get((method, f"{_KEYS}/{{hash}}" if of_one_key else path), "unknown")
    fields = dict(parse_qsl(query, keep_blank_values=True))
    return operation, unquote(last) if of_one_key else None, fields


def perform(
    account: Account,
    request: Request,
    *,
    page_size: int,
    contract: Contract = NEWEST,
    quota: DailyQuota | None = None,
) -> Answer:
    """Apply the request, note the result in it, and return the answer."""
    if request.operation == "unknown":
        return html_answer(404, "404: this page could not be found")
    try:
        _authorize(account, request)
        if quota and request.operation in _CHANGES and not quota.take(account.clock()):
            return _exhausted(quota, account.clock())
        value = _OPERATIONS[request.operation](_Call(account, request, page_size, contract))
    except Refusal as refusal:
        status = contract.status(request.operation, refusal.status)
        return json_answer(status, Refusal(status, refusal.message, refusal.error_type).body)
    request.applied = True
    return json_answer(success_status(request.operation), value)


def _exhausted(quota: DailyQuota, now: datetime) -> Answer:
    headers, metadata, message = quota.headers(now), dict[str, JSON](), "Rate limit exceeded"
    if quota.named_in == "metadata":
        metadata["limit_name"] = quota.name
    else:
        message = f"{message}: {quota.name}"
    if quota.headers_in == "metadata":
        metadata["headers"] = headers
    answer = limited(metadata, message)
    return answer.with_headers(headers) if quota.headers_in == "answer" else answer


def _authorize(account: Account, request: Request) -> None:
    secret = bearer(request.headers.get("authorization", ""))
    if request.operation != "current":
        account.require_management(secret)


def bearer(authorization: str) -> str:
    """Return the secret in an ``Authorization`` header.

    Raises:
        Refusal: 401, it has none.
    """
    scheme, _, secret = authorization.partition(" ")
    if scheme.lower() != "bearer" or not secret.strip():
        raise Refusal(401, "Missing Authentication header")
    return secret.strip()


def read_json(body: bytes) -> object:
    """Return the value of a JSON body.

    Raises:
        Refusal: 400, it is not JSON.
    """
    try:
        value: object = json.loads(body, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise Refusal(400, "The body is not JSON") from None
    return value


def _no_constant(name: str) -> None:
    # Python reads NaN and Infinity; the service's JSON has neither.
    raise ValueError(name)


@frozen
class _Call:
    """An authorized request, and what it needs."""

    account: Account
    request: Request
    page_size: int
    contract: Contract

    @property
    def hash(self) -> str:
        return self.request.hash or ""

    @property
    def query(self) -> dict[str, str]:
        return self.contract.known(self.request.operation, self.request.query)

    def body(self) -> object:
        # A missing type counts as JSON; another type means another kind of body.
        kind = self.request.headers.get("content-type", _JSON).partition(";")[0].strip().lower()
        if kind != _JSON:
            raise Refusal(400, f"Content-Type: expected {_JSON}")
        return self.contract.known(self.request.operation, read_json(self.request.body))

    def record(self, key: StoredKey) -> JSON:
        return key_record(key, self.account, self.contract)


def _list(call: _Call) -> JSON:
    query = list_query(call.query)
    page = call.account.list(
        include_disabled=query.include_disabled,
        include_expired=query.include_expired,
        offset=query.offset,
        workspace_id=query.workspace_id,
        page_size=call.page_size,
    )
    return {"data": [call.record(key) for key in page]}


def _create(call: _Call) -> JSON:
    key = call.account.create(call.body())
    call.request.hash = key.hash
    return {"data": call.record(key), "key": key.secret}


def _get(call: _Call) -> JSON:
    return {"data": call.record(call.account.get(call.hash))}


def _update(call: _Call) -> JSON:
    return {"data": call.record(call.account.update(call.hash, call.body()))}


def _delete(call: _Call) -> JSON:
    call.account.delete(call.hash)
    return {"deleted": True}


def _current(call: _Call) -> JSON:
    key = call.account.current(bearer(call.request.headers.get("authorization", "")))
    return {"data": current_record(key, call.account, call.contract)}


_OPERATIONS: Final[dict[str, Callable[[_Call], JSON]]] = {
    "list": _list,
    "create": _create,
    "get": _get,
    "update": _update,
    "delete": _delete,
    "current": _current,
}
