"""The JSON of a key and its budgets in answers. Pure."""

from collections.abc import Set
from datetime import datetime
from itertools import chain
from operator import attrgetter
from typing import Final

from openrouter_keys.emulator.contracts import NEWEST, Contract
from openrouter_keys.emulator.refusals import JSON
from openrouter_keys.emulator.state import Account
from openrouter_keys.emulator.stored import Budget, StoredKey
from openrouter_keys.emulator.times import PERIODS, offset_form, period_end, zulu_form

_LIMITS: Final = ("label", "limit", "limit_remaining", "limit_reset", "include_byok_in_limit")
_USAGE: Final = tuple(
    f"{kind}{suffix}"
    for kind in ("usage", "byok_usage")
    for suffix in ("", *(f"_{period}" for period in PERIODS))
)
_OWNERS: Final = ("creator_user_id", "workspace_id")
_KEY: Final = ("hash", "name", *_LIMITS, "disabled", *_USAGE, *_OWNERS, "external_user")
_CURRENT: Final = (*_LIMITS, *_USAGE, *_OWNERS)
_BUDGET: Final = (
    *("scope", "limit_usd", "spend_usd", "remaining_usd", "reset_interval"),
    *("include_byok", "guardrail_id", "budget_id"),
)
# Pages are long, and one call for all attributes of a key is twice as fast as one for each.
_taken_for_key: Final = attrgetter(*_KEY)
_taken_for_current: Final = attrgetter(*_CURRENT)
_taken_for_budget: Final = attrgetter(*_BUDGET)
_remaining: Final = attrgetter("remaining_usd")


def _shown(record: dict[str, JSON], account: Account, absent: Set[str]) -> dict[str, JSON]:
    for name in chain(account.hidden_fields, absent):
        record.pop(name, None)
    return record | account.extra_fields


def key_record(key: StoredKey, account: Account, contract: Contract = NEWEST) -> dict[str, JSON]:
    """Return a ``Key``; it has both forms of timestamp that the service uses."""
    record: dict[str, JSON] = {
        **dict(zip(_KEY, _taken_for_key(key), strict=True)),
        "created_at": offset_form(key.created_at),
        "updated_at": offset_form(key.updated_at),
        "expires_at": zulu_form(key.expires_at),
        "last_used_at": offset_form(key.last_used_at),
    }
    return _shown(record, account, contract.key)


def current_record(
    key: StoredKey, account: Account, contract: Contract = NEWEST
) -> dict[str, JSON]:
    """Return a ``CurrentKey``."""
    manages = key.secret == account.management_key
    budgets = [*account.budgets, *([] if key.budget is None else [key.budget])]
    now = account.clock()
    shown = [_budget_record(budget, now) for budget in budgets]
    record: dict[str, JSON] = {
        **dict(zip(_CURRENT, _taken_for_current(key), strict=True)),
        "expires_at": zulu_form(key.expires_at),
        "organization_id": account.organization_id,
        "is_free_tier": False,
        "is_management_key": manages,
        "is_provisioning_key": manages,
        "rate_limit": {"interval": "10s", "note": "Deprecated; means nothing.", "requests": -1},
        "free_model_daily_requests": {"limit": 1000, "used": 0, "remaining": 1000},
        "allowed_data_regions": ["global"],
        "budgets": shown,
        "effective_budget": shown[budgets.index(min(budgets, key=_remaining))] if shown else None,
    }
    return _shown(record, account, contract.current)


def _budget_record(budget: Budget, now: datetime) -> JSON:
    interval = budget.reset_interval
    resets_at = period_end(interval, now) if interval in PERIODS else None
    return {
        **dict(zip(_BUDGET, _taken_for_budget(budget), strict=True)),
        "resets_at": zulu_form(resets_at),
    }
