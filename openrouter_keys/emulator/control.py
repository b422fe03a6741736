"""What tests in other processes ask and tell an emulator, under ``/_emulator/``. No sockets."""

from collections.abc import Callable, Iterable, Mapping
from inspect import signature
from typing import Final, Protocol, TypeAlias, TypeVar, cast

from attrs import asdict, field, frozen

from openrouter_keys.emulator.answers import Answer, bearer, json_answer, read_json
from openrouter_keys.emulator.bounds import integer, number
from openrouter_keys.emulator.faults import Fault
from openrouter_keys.emulator.ledger import Request, counted, told
from openrouter_keys.emulator.limits import RateLimit
from openrouter_keys.emulator.refusals import JSON, Refusal
from openrouter_keys.emulator.state import Account
from openrouter_keys.emulator.stored import StoredKey, hash_of
from openrouter_keys.emulator.times import offset_form

T = TypeVar("T")

CONTROL: Final = "/_emulator"


class Controlled(Protocol):
    """What of an emulator can be asked and told."""

    account: Account
    requests: list[Request]
    faults: list[Fault]
    latency: float
    page_size: int
    rate_limit: RateLimit | None


@frozen(kw_only=True)
class _Settings:
    latency: float = field(validator=number(0))
    page_size: int = field(validator=integer(1))
    rate_limit: RateLimit | None


def control(emulator: Controlled, method: str, target: str, secret: str, body: bytes) -> Answer:
    """Do as a request asks that is meant for the emulator, not for the service.

    Args:
        emulator: whose state is asked for or changed.
        method: of the request.
        target: its raw path and query.
        secret: its ``Authorization`` header; only the management key's may control.
        body: its body, in JSON where one is needed.
    """
    try:
        emulator.account.require_management(bearer(secret))
        return json_answer(200, _route(method, target)(emulator, body))
    except Refusal as refusal:
        return json_answer(refusal.status, refusal.body)


def _route(method: str, target: str) -> "_Control":
    path = target.partition("?")[0]
    methods = {known: route for (known, name), route in _CONTROLS.items() if name == path}
    if not methods:
        raise Refusal(404, f"There are {', '.join(sorted({name for _, name in _CONTROLS}))}")
    if method not in methods:
        raise Refusal(405, f"{path} takes {', '.join(methods)}")
    return methods[method]


def _requests(emulator: Controlled, _body: bytes) -> JSON:
    return [told(request) for request in emulator.requests]


def _keys(emulator: Controlled, _body: bytes) -> JSON:
    return [_told_key(key) for key in [*emulator.account.keys.values()]]


def _told_key(key: StoredKey) -> JSON:
    return {
        "hash": key.hash,
        "name": key.name,
        "created_at": offset_form(key.created_at),
        "disabled": key.disabled,
        "limit": key.limit,
        "workspace_id": key.workspace_id,
        "last_used_at": offset_form(key.last_used_at),
        "secret_sha256": None if key.secret is None else hash_of(key.secret),
    }


def _summary(emulator: Controlled, _body: bytes) -> JSON:
    return {**counted(emulator.requests), "keys": len(emulator.account.keys)}


def _faults(emulator: Controlled, _body: bytes) -> JSON:
    return [_told_fault(fault) for fault in emulator.faults]


def _replace_faults(emulator: Controlled, body: bytes) -> JSON:
    emulator.faults[:] = _read_faults(body)
    return _faults(emulator, body)


def _append_faults(emulator: Controlled, body: bytes) -> JSON:
    emulator.faults += _read_faults(body)
    return _faults(emulator, body)


def _remove_faults(emulator: Controlled, body: bytes) -> JSON:
    emulator.faults.clear()
    return _faults(emulator, body)


def _told_fault(fault: Fault) -> JSON:
    body = None if fault.body is None else fault.body.decode(errors="surrogateescape")
    return cast("dict[str, JSON]", asdict(fault)) | {"body": body}


def _read_faults(body: bytes) -> list[Fault]:
    value = read_json(body)
    return [*map(_fault, cast("list[object]", value) if isinstance(value, list) else [value])]


def _fault(value: object) -> Fault:
    fields = _object("a fault", value)
    body = fields.get("body")
    if isinstance(body, str):
        fields["body"] = body.encode(errors="surrogateescape")
    elif body is not None:
        raise Refusal(400, "'body' must be a string or null")
    return _built(Fault, "a fault", fields)


def _change_settings(emulator: Controlled, body: bytes) -> JSON:
    given = _object("settings", read_json(body))
    if given.get("rate_limit") is not None:
        limit = _object("rate_limit", given["rate_limit"])
        given["rate_limit"] = _built(RateLimit, "rate_limit", limit)
    # What was not given stays the very same: a rate limit knows how much of it is used up.
    current = {name: getattr(emulator, name) for name in signature(_Settings).parameters}
    settings = _built(_Settings, "settings", current | given)
    for name in current:
        setattr(emulator, name, getattr(settings, name))
    return _told_settings(emulator)


def _told_settings(emulator: Controlled) -> JSON:
    limit = emulator.rate_limit
    return {
        "latency": emulator.latency,
        "page_size": emulator.page_size,
        "rate_limit": None if limit is None else _told_limit(limit),
    }


def _told_limit(limit: RateLimit) -> JSON:
    return {"rate": limit.rate, "burst": limit.burst, "retry_after": limit.retry_after}


def _object(what: str, value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        raise Refusal(400, f"{what}: expected a JSON object")
    return cast("dict[str, object]", value)


def _built(make: Callable[..., T], what: str, fields: Mapping[str, object]) -> T:
    known = signature(make).parameters
    if unknown := fields.keys() - known.keys():
        raise Refusal(400, f"{what} has no {_listed(unknown)}; it has {_listed(known)}")
    try:
        return make(**fields)
    except (TypeError, ValueError) as error:
        raise Refusal(400, f"{what}: {error.args[0]}") from None


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))


_Control: TypeAlias = Callable[[Controlled, bytes], JSON]
_CONTROLS: Final[dict[tuple[str, str], _Control]] = {
    ("GET", f"{CONTROL}/requests"): _requests,
    ("GET", f"{CONTROL}/keys"): _keys,
    ("GET", f"{CONTROL}/summary"): _summary,
    ("GET", f"{CONTROL}/faults"): _faults,
    ("PUT", f"{CONTROL}/faults"): _replace_faults,
    ("POST", f"{CONTROL}/faults"): _append_faults,
    ("DELETE", f"{CONTROL}/faults"): _remove_faults,
    ("PUT", f"{CONTROL}/settings"): _change_settings,
}
