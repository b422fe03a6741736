"""The service's answers as literal JSON, for tests; every secret in here is visibly fake."""

import copy
from datetime import UTC, datetime
from hashlib import sha256

from hypothesis import HealthCheck, settings

from openrouter_keys._protocol.answers import Answer
from openrouter_keys.errors import JSON
from openrouter_keys.models import HTTPMeta, Key

Object = dict[str, JSON]

SECRET = "sk-or-v1-" + "fa4e" * 16
HASH = sha256(SECRET.encode()).hexdigest()
PARTNER_SECRET = "partner-canary-" + "0123456789" * 3

#: For property tests: a slow machine is no failure.
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

_USAGE: Object = {
    "usage": 25.5,
    "usage_daily": 0.25,
    "usage_weekly": 5,
    "usage_monthly": 25.5,
    "byok_usage": 17.38,
    "byok_usage_daily": 0,
    "byok_usage_weekly": 17.38,
    "byok_usage_monthly": 17.38,
}

_OLD_KEY: Object = {
    "hash": HASH,
    "name": "customer-42",
    "label": "sk-or-v1-fa4...fa4e",
    "disabled": False,
    "include_byok_in_limit": True,
    "limit": 50,
    "limit_remaining": 24.5,
    "limit_reset": "monthly",
    **_USAGE,
    "created_at": "2025-08-24T10:30:00Z",
    "updated_at": "2025-02-19T20:52:27.363244+00:00",
}

_KEY: Object = {
    **_OLD_KEY,
    "expires_at": "2027-12-31T23:59:59Z",
    "creator_user_id": "user_2abc",
    "workspace_id": "0df9e665-d932-5740-b2c7-b52af166bc11",
    "external_user": "acme-7",
    "last_used_at": "2025-08-25T00:00:00.5Z",
}

_BUDGET: Object = {
    "scope": "workspace_default_member",
    "limit_usd": 100,
    "spend_usd": 12.5,
    "remaining_usd": 87.5,
    "reset_interval": "weekly",
    "resets_at": "2026-11-23T00:00:00Z",
    "include_byok": False,
    "guardrail_id": "guardrail-1",
    "budget_id": None,
}

_RATE_LIMIT: Object = {"interval": "1h", "note": "deprecated", "requests": 1000}

_FREE: Object = {"limit": 50, "used": 3, "remaining": 47}

_OLD_CURRENT: Object = {
    "label": "sk-or-v1-fa4...fa4e",
    "limit": None,
    "limit_remaining": None,
    "limit_reset": None,
    "include_byok_in_limit": False,
    **_USAGE,
    "is_free_tier": False,
    "is_management_key": True,
}

_CURRENT: Object = {
    **_OLD_CURRENT,
    "is_provisioning_key": True,
    "rate_limit": _RATE_LIMIT,
    "creator_user_id": "user_2abc",
    "expires_at": None,
    "workspace_id": "0df9e665-d932-5740-b2c7-b52af166bc11",
    "organization_id": None,
    "allowed_data_regions": ["global", "europe"],
    "free_model_daily_requests": _FREE,
    "budgets": [_BUDGET],
    "effective_budget": _BUDGET,
}


def key_json(**changes: JSON) -> Object:
    """A key with every field of November 2026."""
    return copy.deepcopy(_KEY) | changes


def old_key_json(**changes: JSON) -> Object:
    """A key as the first documents have it."""
    return copy.deepcopy(_OLD_KEY) | changes


def current_json(**changes: JSON) -> Object:
    """The current key with every field of November 2026."""
    return copy.deepcopy(_CURRENT) | changes


def old_current_json(**changes: JSON) -> Object:
    """The current key without what was added or deprecated."""
    return copy.deepcopy(_OLD_CURRENT) | changes


def budget_json(**changes: JSON) -> Object:
    return copy.deepcopy(_BUDGET) | changes


def rate_limit_json(**changes: JSON) -> Object:
    return copy.deepcopy(_RATE_LIMIT) | changes


def free_requests_json(**changes: JSON) -> Object:
    return copy.deepcopy(_FREE) | changes


def without(record: Object, *names: str) -> Object:
    """The record, some of its fields left out."""
    return {name: value for name, value in record.items() if name not in names}


def key(hash: str = HASH) -> Key:
    """A key as a record, made without the converter."""
    return Key(
        hash=hash,
        name="customer-42",
        label="sk-or-v1-fa4...fa4e",
        disabled=False,
        include_byok_in_limit=True,
        limit=50.0,
        limit_remaining=24.5,
        limit_reset="monthly",
        created_at=datetime(2025, 8, 24, 10, 30, tzinfo=UTC),
        updated_at=None,
        usage=25.5,
        usage_daily=0.25,
        usage_weekly=5.0,
        usage_monthly=25.5,
        byok_usage=17.38,
        byok_usage_daily=0.0,
        byok_usage_weekly=17.38,
        byok_usage_monthly=17.38,
    )


def answer(body: bytes, status: int = 200) -> Answer:
    """What the service sent back at the first attempt."""
    return Answer(body, HTTPMeta(status=status, attempts=1))
