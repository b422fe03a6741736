"""The JSON that answers show of a key. Pure."""

from datetime import datetime
from operator import attrgetter
from typing import Final

from openrouter_keys.emulator.refusals import JSON
from openrouter_keys.emulator.state import Account
from openrouter_keys.emulator.stored import StoredKey
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
# Pages are long: one call for all attributes of a key is twice as fast as one for each.
_taken_for_key: Final = attrgetter(*_KEY)
_taken_for_current: Final = attrgetter(*_CURRENT)


def _shown(record: dict[str, JSON], account: Account) -> dict[str, JSON]:
    for name in account.hidden_fields:
        record.pop(name, None)
    return record | account.extra_fields


def key_record(key: StoredKey, account: Account) -> dict[str, JSON]:
    """A ``Key``; both forms of timestamp that the service uses are in it."""
    record: dict[str, JSON] = {
        **dict(zip(_KEY, _taken_for_key(key), strict=True)),
        "created_at": offset_form(key.created_at),
        "updated_at": offset_form(key.updated_at),
        "expires_at": zulu_form(key.expires_at),
        "last_used_at": offset_form(key.last_used_at),
    }
    return _shown(record, account)


def current_record(key: StoredKey, account: Account) -> dict[str, JSON]:
    """A ``CurrentKey``."""
    manages = key.secret == account.management_key
    budget = _budget(key, account.clock())
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
        "budgets": [] if budget is None else [budget],
        "effective_budget": budget,
    }
    return _shown(record, account)


def _budget(key: StoredKey, now: datetime) -> JSON:
    if key.limit is None:
        return None
    resets_at = period_end(key.limit_reset, now) if key.limit_reset in PERIODS else None
    return {
        "scope": "key_limit",
        "limit_usd": key.limit,
        "spend_usd": key.spent,
        "remaining_usd": key.limit_remaining,
        "reset_interval": key.limit_reset,
        "resets_at": zulu_form(resets_at),
        "include_byok": key.include_byok_in_limit,
        "guardrail_id": None,
        "budget_id": None,
    }
