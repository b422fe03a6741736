"""Reads and writes an emulator's settings and account as JSON. No sockets."""

from typing import Any, Final, Literal, Protocol, cast

from attrs import Attribute, evolve, field, fields, fields_dict, frozen, validators

from openrouter_keys.emulator.bounds import integer, number
from openrouter_keys.emulator.contracts import CONTRACT_NAMES, ContractName
from openrouter_keys.emulator.fields import fields_of, made
from openrouter_keys.emulator.limits import DailyQuota, RateLimit
from openrouter_keys.emulator.refusals import JSON
from openrouter_keys.emulator.state import Account
from openrouter_keys.emulator.stored import Workspace

_LIMITS: Final[dict[str, type[RateLimit] | type[DailyQuota]]] = {
    "rate_limit": RateLimit,
    "daily_quota": DailyQuota,
}


class Settable(Protocol):
    """The parts of an emulator that can be set."""

    account: Account
    latency: float
    page_size: int
    rate_limit: RateLimit | None
    daily_quota: DailyQuota | None
    contract: ContractName
    max_body: int
    ledger_size: int
    ledger_bytes: int
    connections: int
    client_timeout: float
    idle_timeout: float


@frozen(kw_only=True)
class Settings:
    """What can be changed while serving; an emulator has attributes of these names.

    Raises:
        ValueError: a setting has the wrong type, or is out of its range.
    """

    latency: float = field(validator=number(0))
    page_size: int = field(validator=integer(1))
    rate_limit: RateLimit | None
    daily_quota: DailyQuota | None
    contract: ContractName = field(validator=validators.in_(CONTRACT_NAMES))
    max_body: int = field(validator=integer(0))
    ledger_size: int = field(validator=integer(0))
    ledger_bytes: int = field(validator=integer(0))
    connections: int = field(validator=integer(1))
    client_timeout: float = field(validator=[number(0), validators.gt(0)])
    idle_timeout: float = field(validator=[number(0), validators.gt(0)])


def _current(emulator: Settable) -> dict[str, Any]:
    return {name: getattr(emulator, name) for name in fields_dict(Settings)}


def settings_of(emulator: Settable) -> Settings:
    """Return the current settings.

    Raises:
        ValueError: one of them is wrong.
    """
    return Settings(**_current(emulator))


def apply(settings: Settings, emulator: Settable) -> None:
    """Set these settings."""
    for name in fields_dict(Settings):
        setattr(emulator, name, getattr(settings, name))


def fresh(settings: Settings) -> Settings:
    """Return the same settings with unused limits."""
    limits = {name: getattr(settings, name) for name in _LIMITS}
    return evolve(settings, **{name: limit and evolve(limit) for name, limit in limits.items()})


def settings_json(emulator: Settable) -> JSON:
    """Return the settings as JSON."""
    limits = {name: _limit_json(getattr(emulator, name)) for name in _LIMITS}
    return {**_current(emulator), **limits}


def _limit_json(limit: RateLimit | DailyQuota | None) -> JSON:
    if limit is None:
        return None
    return {each.name: getattr(limit, each.name) for each in fields(type(limit)) if each.init}


def change_settings(emulator: Settable, value: object) -> None:
    """Change the given settings.

    Raises:
        Refusal: 400, one of them is wrong; nothing changed.
    """
    given = fields_of("settings", value)
    for name, kind in _LIMITS.items():
        if given.get(name) is not None:
            given[name] = made(kind, name, fields_of(name, given[name]))
    # What was not given stays the same object: a limit counts its use.
    apply(made(Settings, "settings", _current(emulator) | given), emulator)


def _names(_instance: object, attribute: "Attribute[Any]", value: object) -> None:
    names = cast("dict[object, object]", value) if isinstance(value, dict) else {None: None}
    if not all(isinstance(text, str) for pair in names.items() for text in pair):
        raise ValueError(f"{attribute.name}: expected strings by strings")


def _ids(_instance: object, attribute: "Attribute[Any]", value: object) -> None:
    ids = cast("list[object]", value) if isinstance(value, list) else [None]
    if not all(isinstance(id, str) for id in ids):
        raise ValueError(f"{attribute.name}: expected a list of strings")


@frozen(kw_only=True)
class _AccountForm:
    organization_id: str | None = field(validator=validators.optional(validators.instance_of(str)))
    workspaces: dict[str, str] = field(validator=_names)
    members: list[str] | None = field(validator=validators.optional(_ids))
    inference_key_status: Literal[401, 403] = field(validator=validators.in_((401, 403)))


def account_json(account: Account) -> dict[str, JSON]:
    """Return the account as JSON, without a secret and without keys."""
    return {
        "organization_id": account.organization_id,
        "workspaces": {each.id: each.name for each in [*account.workspaces.values()]},
        "members": None if account.members is None else sorted(account.members),
        "inference_key_status": account.inference_key_status,
    }


def change_account(account: Account, value: object) -> None:
    """Change the given parts of the account; the default workspace always stays.

    Raises:
        Refusal: 400, one of them is wrong; nothing changed.
    """
    given = fields_of("account", value)
    form = made(_AccountForm, "account", {**account_json(account), **given})
    workspaces = {id: Workspace(id, name) for id, name in form.workspaces.items()}
    default = account.workspaces[account.default_workspace]
    account.workspaces = {default.id: default} | workspaces
    account.members = None if form.members is None else {*form.members}
    account.organization_id = form.organization_id
    account.inference_key_status = form.inference_key_status
