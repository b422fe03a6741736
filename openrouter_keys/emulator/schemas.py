"""JSON schemas of requests and answers, as far as the service is known. Data only."""

from collections.abc import Iterable
from typing import Final, TypeAlias

from openrouter_keys.emulator.refusals import JSON

Schema: TypeAlias = dict[str, JSON]

TEXT: Final[Schema] = {"type": "string"}
FILLED: Final[Schema] = {"type": "string", "minLength": 1}
FLAG: Final[Schema] = {"type": "boolean"}
_WHOLE: Final[Schema] = {"type": "integer"}
_USD: Final[Schema] = {"type": "number", "description": "US dollars"}
_LIMIT: Final[Schema] = {"type": ["number", "null"], "minimum": 0, "description": "US dollars"}
_RESET: Final[Schema] = {
    "type": ["string", "null"],
    "enum": ["daily", "weekly", "monthly", None],
    "description": "At midnight UTC; weeks are Monday to Sunday. null: never.",
}
UUID: Final[Schema] = {"type": "string", "format": "uuid"}
_MOMENT: Final[Schema] = {"type": "string", "format": "date-time"}
_UTC: Final[Schema] = {
    "type": ["string", "null"],
    "format": "date-time",
    "pattern": r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?Z$",
    "description": "UTC with seconds; other zones and minute precision are refused.",
    "examples": ["2027-12-31T23:59:59Z"],
}


def or_null(schema: Schema) -> Schema:
    """Return a schema of this, or null."""
    return {"anyOf": [schema, {"type": "null"}]}


def ref(name: str) -> Schema:
    """Return a reference to a schema of `SCHEMAS`."""
    return {"$ref": f"#/components/schemas/{name}"}


def _object(properties: Schema, required: Iterable[str] = ()) -> Schema:
    """Return an object that may have more: unknown request fields are ignored, answers grow."""
    needed = [*required]
    schema: Schema = {"type": "object", "properties": properties}
    return schema | {"required": needed} if needed else schema


def all_of(properties: Schema) -> Schema:
    """Return an object that has at least all of these properties."""
    return _object(properties, properties)


_USAGE: Final[Schema] = {
    f"{kind}{period}": _USD
    for kind in ("usage", "byok_usage")
    for period in ("", "_daily", "_weekly", "_monthly")
}
_LIMITS: Final[Schema] = {
    "label": TEXT | {"description": "The secret, masked", "examples": ["sk-or-v1-0e6...1c96"]},
    "limit": or_null(_USD),
    "limit_remaining": or_null(_USD),
    # Answers may have intervals that no document has yet.
    "limit_reset": or_null(TEXT),
    "include_byok_in_limit": FLAG,
}
_SINCE_THE_FIRST: Final[Schema] = {
    "hash": TEXT | {"description": "The secret's SHA-256 in hexadecimal digits"},
    "name": TEXT,
    "disabled": FLAG,
    **_LIMITS,
    **_USAGE,
    "created_at": _MOMENT,
    "updated_at": or_null(_MOMENT),
}
_ADDED_TO_KEY: Final[Schema] = {
    "expires_at": or_null(_MOMENT),
    "creator_user_id": or_null(TEXT),
    "workspace_id": TEXT,
    "external_user": or_null(TEXT),
    "last_used_at": or_null(_MOMENT),
}
_CURRENT_SINCE_THE_FIRST: Final[Schema] = {
    **_LIMITS,
    **_USAGE,
    "is_free_tier": FLAG,
    "is_management_key": FLAG,
    "is_provisioning_key": FLAG | {"deprecated": True},
    "rate_limit": all_of({"interval": TEXT, "note": TEXT, "requests": _WHOLE})
    | {"deprecated": True},
}
_ADDED_TO_CURRENT: Final[Schema] = {
    "creator_user_id": or_null(TEXT),
    "expires_at": or_null(_MOMENT),
    "workspace_id": or_null(TEXT),
    "organization_id": or_null(TEXT),
    "allowed_data_regions": {"type": "array", "items": TEXT},
    "free_model_daily_requests": all_of({"limit": _WHOLE, "used": _WHOLE, "remaining": _WHOLE}),
    "budgets": {"type": "array", "items": ref("Budget")},
    "effective_budget": or_null(ref("Budget")),
}
_CHANGEABLE: Final[Schema] = {
    "name": FILLED,
    "limit": _LIMIT,
    "limit_reset": _RESET,
    "include_byok_in_limit": FLAG,
    "workspace_id": UUID,
}
_EXTERNAL: Final[Schema] = {
    "user": {
        "type": "string",
        "minLength": 1,
        "maxLength": 512,
        # No NUL, no outer white space.
        "pattern": r"^[^\s\x00]([^\x00]*[^\s\x00])?$",
    },
    "api_key": {"type": "string", "minLength": 32, "writeOnly": True},
}
SCHEMAS: Final[Schema] = {
    "Key": _object(_SINCE_THE_FIRST | _ADDED_TO_KEY, _SINCE_THE_FIRST),
    "CurrentKey": _object(_CURRENT_SINCE_THE_FIRST | _ADDED_TO_CURRENT, _CURRENT_SINCE_THE_FIRST),
    "Budget": all_of(
        {
            "scope": TEXT,
            "limit_usd": _USD,
            "spend_usd": _USD,
            "remaining_usd": _USD,
            "reset_interval": or_null(TEXT),
            "resets_at": or_null(_MOMENT),
            "include_byok": FLAG,
            "guardrail_id": or_null(TEXT),
            "budget_id": or_null(TEXT),
        }
    ),
    "CreateKey": _object(
        {
            **_CHANGEABLE,
            "expires_at": _UTC,
            "creator_user_id": or_null(FILLED),
            "external": _object(_EXTERNAL, ["user"]),
        },
        ["name"],
    ),
    "UpdateKey": _object(_CHANGEABLE | {"disabled": FLAG})
    | {"anyOf": [{"required": [name]} for name in (*_CHANGEABLE, "disabled")]},
    "Error": _object(
        {
            "error": _object(
                {
                    "code": _WHOLE,
                    "message": TEXT,
                    "metadata": {"type": ["object", "null"]},
                },
                ["code", "message"],
            ),
            "user_id": or_null(TEXT),
            "openrouter_metadata": {"type": ["object", "null"]},
        },
        ["error"],
    ),
}
