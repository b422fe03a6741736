"""Lets other processes read and change an emulator, under ``/_emulator/``. No sockets."""

from collections import Counter
from collections.abc import Callable
from datetime import datetime
from typing import Final, Protocol, TypeAlias, cast

from attrs import field, frozen, validators

from openrouter_keys.emulator.answers import Answer, bearer, json_answer, read_json
from openrouter_keys.emulator.bounds import number
from openrouter_keys.emulator.faults import Fault
from openrouter_keys.emulator.fields import fields_of, made
from openrouter_keys.emulator.ledger import Request, counted, request_json
from openrouter_keys.emulator.page import view
from openrouter_keys.emulator.records import key_record
from openrouter_keys.emulator.refusals import JSON, Refusal
from openrouter_keys.emulator.schedule import fault_json, read_faults, require_few
from openrouter_keys.emulator.settings import (
    Settable,
    account_json,
    change_account,
    change_settings,
    settings_json,
)
from openrouter_keys.emulator.stored import StoredKey, hash_of
from openrouter_keys.emulator.times import offset_form

CONTROL: Final = "/_emulator"


class Controlled(Settable, Protocol):
    """The parts of an emulator that other processes read and change."""

    requests: list[Request]
    dropped: Counter[str]
    faults: list[Fault]

    def reset(self) -> None:
        """Restore what it was made with."""
        ...


@frozen
class _Expense:
    hash: str = field(validator=validators.instance_of(str))
    usd: float = field(validator=number(0, 1e12))
    byok: bool = field(default=False, validator=validators.instance_of(bool))


def control(emulator: Controlled, method: str, target: str, secret: str, body: bytes) -> Answer:
    """Answer a request that is meant for the emulator, not for the service.

    Args:
        emulator: the one to read or change.
        method: of the request.
        target: its raw path and query.
        secret: its ``Authorization`` header; the management key is required.
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
    return [request_json(request) for request in emulator.requests]


def _keys(emulator: Controlled, _body: bytes) -> JSON:
    return [_key_json(key) for key in [*emulator.account.keys.values()]]


def _key_json(key: StoredKey) -> JSON:
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
    counts = counted(emulator.requests, emulator.dropped)
    return {**counts, "keys": len(emulator.account.keys)}


def _faults(emulator: Controlled, _body: bytes) -> JSON:
    return [fault_json(fault) for fault in emulator.faults]


def _replace_faults(emulator: Controlled, body: bytes) -> JSON:
    faults = read_faults(read_json(body))
    require_few(faults, emulator.max_body)
    emulator.faults[:] = faults
    return _faults(emulator, body)


def _append_faults(emulator: Controlled, body: bytes) -> JSON:
    faults = read_faults(read_json(body))
    require_few([*emulator.faults, *faults], emulator.max_body)
    emulator.faults += faults
    return _faults(emulator, body)


def _remove_faults(emulator: Controlled, body: bytes) -> JSON:
    emulator.faults.clear()
    return _faults(emulator, body)


def _settings(emulator: Controlled, _body: bytes) -> JSON:
    return settings_json(emulator)


def _change_settings(emulator: Controlled, body: bytes) -> JSON:
    change_settings(emulator, read_json(body))
    return settings_json(emulator)


def _account(emulator: Controlled, _body: bytes) -> JSON:
    return account_json(emulator.account)


def _change_account(emulator: Controlled, body: bytes) -> JSON:
    change_account(emulator.account, read_json(body))
    return account_json(emulator.account)


def _clock(emulator: Controlled, _body: bytes) -> JSON:
    return {
        "now": offset_form(emulator.account.clock()),
        "ahead": emulator.account.ahead.total_seconds(),
    }


def _set_clock(emulator: Controlled, body: bytes) -> JSON:
    def set_time(now: object) -> None:
        emulator.account.set_time(datetime.fromisoformat(cast("str", now)))

    made(set_time, "clock", fields_of("clock", read_json(body)))
    return _clock(emulator, body)


def _advance_clock(emulator: Controlled, body: bytes) -> JSON:
    made(emulator.account.advance, "clock", fields_of("clock", read_json(body)))
    return _clock(emulator, body)


def _spend(emulator: Controlled, body: bytes) -> JSON:
    expense = made(_Expense, "an expense", fields_of("an expense", read_json(body)))
    emulator.account.spend(expense.hash, expense.usd, byok=expense.byok)
    return key_record(emulator.account.get(expense.hash), emulator.account)


def _reset(emulator: Controlled, body: bytes) -> JSON:
    emulator.reset()
    return _summary(emulator, body)


_Control: TypeAlias = Callable[[Controlled, bytes], JSON]
_CONTROLS: Final[dict[tuple[str, str], _Control]] = {
    ("GET", f"{CONTROL}/requests"): _requests,
    ("GET", f"{CONTROL}/keys"): _keys,
    ("GET", f"{CONTROL}/summary"): _summary,
    ("GET", f"{CONTROL}/view"): lambda emulator, _body: view(emulator),
    ("GET", f"{CONTROL}/faults"): _faults,
    ("PUT", f"{CONTROL}/faults"): _replace_faults,
    ("POST", f"{CONTROL}/faults"): _append_faults,
    ("DELETE", f"{CONTROL}/faults"): _remove_faults,
    ("GET", f"{CONTROL}/settings"): _settings,
    ("PUT", f"{CONTROL}/settings"): _change_settings,
    ("GET", f"{CONTROL}/account"): _account,
    ("PUT", f"{CONTROL}/account"): _change_account,
    ("GET", f"{CONTROL}/clock"): _clock,
    ("PUT", f"{CONTROL}/clock"): _set_clock,
    ("POST", f"{CONTROL}/clock"): _advance_clock,
    ("POST", f"{CONTROL}/spend"): _spend,
    ("POST", f"{CONTROL}/reset"): _reset,
}
