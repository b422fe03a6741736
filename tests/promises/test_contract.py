"""The service's contract as literal tables: each row that needs no server to be checked."""

import json
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import attrs
import pytest

from openrouter_keys import errors, operations
from openrouter_keys._base.masking import mask
from openrouter_keys._base.unset import UNSET
from openrouter_keys._protocol.answers import refusal
from openrouter_keys.converter import encode, structure
from openrouter_keys.errors import JSON, ResponseValidationError
from openrouter_keys.models import (
    Budget,
    CreateKeysRequest,
    CurrentKey,
    External,
    FreeModelDailyRequests,
    Key,
    RateLimit,
    UpdateKeysRequest,
)
from openrouter_keys.operations import Operation
from tests.records import (
    HASH,
    SECRET,
    Object,
    answer,
    budget_json,
    current_json,
    free_requests_json,
    key_json,
    rate_limit_json,
    without,
)
from tests.tables import in_one_test

# --- what is asked ---

# name, method, path, success status and body, documented errors
OPERATIONS: list[tuple[str, Operation[Any], str, str, int, JSON, tuple[int, ...]]] = [
    (
        "get_current_key_metadata",
        operations.current(),
        "GET",
        "/key",
        200,
        {"data": current_json()},
        (401, 500),
    ),
    (
        "list",
        operations.list_(
            include_disabled=True, include_expired=False, offset=100, workspace_id="w"
        ),
        "GET",
        "/keys?include_disabled=true&include_expired=false&offset=100&workspace_id=w",
        200,
        {"data": [key_json()]},
        (400, 401, 404, 429, 500),
    ),
    (
        "create",
        operations.create(CreateKeysRequest(name="n")),
        "POST",
        "/keys",
        201,
        {"data": key_json(), "key": SECRET},
        (400, 401, 403, 429, 500),
    ),
    (
        "get",
        operations.get(HASH),
        "GET",
        f"/keys/{HASH}",
        200,
        {"data": key_json()},
        (401, 404, 429, 500),
    ),
    (
        "update",
        operations.update(HASH, UpdateKeysRequest(name="n")),
        "PATCH",
        f"/keys/{HASH}",
        200,
        {"data": key_json()},
        (400, 401, 403, 404, 409, 429, 500),
    ),
    (
        "delete",
        operations.delete("abc"),
        "DELETE",
        "/keys/abc",
        200,
        {"deleted": True},
        (401, 404, 429, 500),
    ),
]
IDS = [row[0] for row in OPERATIONS]


@in_one_test("row", OPERATIONS, ids=IDS)
def test_an_operation_is_a_request_and_a_success(row: Any) -> None:
    name, operation, method, path, status, body, _ = row
    assert (operation.name, operation.method, operation.path) == (name, method, path)
    assert operation.read(answer(json.dumps(body).encode(), status)).http.status == status


@in_one_test("row", OPERATIONS, ids=IDS)
def test_every_documented_error_has_its_class(row: Any) -> None:
    for status in row[-1]:
        error = refusal(answer(b"{}", status))
        assert type(error) not in (errors.OpenRouterDefaultError, errors.ResponseError)


@in_one_test("status", [402, 405, 408, 413, 418, 422, 501, 502, 503, 504, 520, 524, 529])
def test_any_other_status_is_the_default_error(status: int) -> None:
    assert type(refusal(answer(b"<html>", status))) is errors.OpenRouterDefaultError


# --- request bodies: field → (a value, as it is written, whether null is allowed) ---

CREATE: dict[str, tuple[Any, JSON, bool]] = {
    "name": ("n", "n", False),
    "limit": (12.5, 12.5, True),
    "limit_reset": ("weekly", "weekly", True),
    "include_byok_in_limit": (False, False, False),
    "expires_at": (
        datetime(2027, 12, 31, 23, 59, 59, tzinfo=UTC),
        "2027-12-31T23:59:59Z",
        True,
    ),
    "creator_user_id": ("user_2", "user_2", True),
    "workspace_id": ("0df9e665", "0df9e665", False),
    "external": (External("acme"), {"user": "acme"}, False),
}
UPDATE: dict[str, tuple[Any, JSON, bool]] = {
    "name": ("n", "n", False),
    "disabled": (True, True, False),
    "include_byok_in_limit": (True, True, False),
    "workspace_id": ("0df9e665", "0df9e665", False),
    "limit": (12.5, 12.5, True),
    "limit_reset": ("monthly", "monthly", True),
}
BODIES: dict[type[Any], tuple[dict[str, tuple[Any, JSON, bool]], dict[str, Any]]] = {
    CreateKeysRequest: (CREATE, {"name": "n"}),
    UpdateKeysRequest: (UPDATE, {"disabled": True}),
}
BODY_FIELDS = [(cls, name) for cls, (table, _) in BODIES.items() for name in table]


def names(cls: type[Any]) -> set[str]:
    return {field.name for field in attrs.fields(cls)}


def body(record: object) -> Object:
    value: Object = json.loads(encode(record))
    return value


@pytest.mark.parametrize("cls", BODIES)
def test_a_request_has_the_fields_of_the_contract(cls: type[Any]) -> None:
    assert names(cls) == BODIES[cls][0].keys()


@in_one_test("cls, name", BODY_FIELDS)
def test_a_field_that_is_given_is_sent(cls: type[Any], name: str) -> None:
    table, least = BODIES[cls]
    value, written, _ = table[name]
    assert body(cls(**least | {name: value})) == least | {name: written}


@in_one_test("cls, name", BODY_FIELDS)
def test_null_is_sent_where_it_is_allowed_and_nowhere_else(cls: type[Any], name: str) -> None:
    table, least = BODIES[cls]
    if name in least:
        return
    null = {name: None} if table[name][2] else {}
    assert body(cls(**least | {name: None})) == least | null


@pytest.mark.parametrize("cls", BODIES)
def test_what_is_not_given_is_not_sent(cls: type[Any]) -> None:
    assert body(cls(**BODIES[cls][1])) == BODIES[cls][1]


def test_a_create_needs_a_name() -> None:
    with pytest.raises(TypeError, match="name"):
        CreateKeysRequest()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


def test_a_partners_identity_needs_a_user_and_may_hold_a_key() -> None:
    assert names(External) == {"user", "api_key"}
    assert body(External("acme", "k" * 32)) == {"user": "acme", "api_key": "k" * 32}


# --- response records: field → kind of value, whether it may be null, whether it may be absent ---

TEXT, FLAG, NUMBER, INTEGER, TIME = "text", "flag", "number", "integer", "time"
TEXTS, FREE, LIMITS, BUDGET, BUDGETS = "texts", "free requests", "rate limit", "budget", "budgets"

SAMPLES: dict[str, tuple[JSON, Any]] = {
    TEXT: ("a word yet unknown", "a word yet unknown"),
    FLAG: (True, True),
    NUMBER: (7, 7.0),
    INTEGER: (7, 7),
    TIME: ("2025-08-24T10:30:00Z", datetime(2025, 8, 24, 10, 30, tzinfo=UTC)),
    TEXTS: (["us", "a region yet unknown"], ["us", "a region yet unknown"]),
    FREE: (free_requests_json(), structure(free_requests_json(), FreeModelDailyRequests)),
    LIMITS: (rate_limit_json(), structure(rate_limit_json(), RateLimit)),
    BUDGET: (budget_json(), structure(budget_json(), Budget)),
    BUDGETS: ([budget_json()], [structure(budget_json(), Budget)]),
}
REQUIRED, NULLABLE, OPTIONAL, OPTIONAL_NULLABLE = "required", "nullable", "optional", "either"

USAGES: dict[str, tuple[str, str]] = {
    "usage": (NUMBER, REQUIRED),
    "usage_daily": (NUMBER, REQUIRED),
    "usage_weekly": (NUMBER, REQUIRED),
    "usage_monthly": (NUMBER, REQUIRED),
    "byok_usage": (NUMBER, REQUIRED),
    "byok_usage_daily": (NUMBER, REQUIRED),
    "byok_usage_weekly": (NUMBER, REQUIRED),
    "byok_usage_monthly": (NUMBER, REQUIRED),
}
RECORDS: dict[type[Any], tuple[Object, dict[str, tuple[str, str]]]] = {
    Key: (
        key_json(),
        USAGES
        | {
            "hash": (TEXT, REQUIRED),
            "name": (TEXT, REQUIRED),
            "label": (TEXT, REQUIRED),
            "disabled": (FLAG, REQUIRED),
            "include_byok_in_limit": (FLAG, REQUIRED),
            "limit": (NUMBER, NULLABLE),
            "limit_remaining": (NUMBER, NULLABLE),
            "limit_reset": (TEXT, NULLABLE),
            "created_at": (TIME, REQUIRED),
            "updated_at": (TIME, NULLABLE),
            "expires_at": (TIME, OPTIONAL_NULLABLE),
            "creator_user_id": (TEXT, OPTIONAL_NULLABLE),
            "workspace_id": (TEXT, OPTIONAL),
            "external_user": (TEXT, OPTIONAL_NULLABLE),
            "last_used_at": (TIME, OPTIONAL_NULLABLE),
        },
    ),
    CurrentKey: (
        current_json(),
        USAGES
        | {
            "label": (TEXT, REQUIRED),
            "limit": (NUMBER, NULLABLE),
            "limit_remaining": (NUMBER, NULLABLE),
            "limit_reset": (TEXT, NULLABLE),
            "include_byok_in_limit": (FLAG, REQUIRED),
            "is_free_tier": (FLAG, REQUIRED),
            "is_management_key": (FLAG, REQUIRED),
            "is_provisioning_key": (FLAG, OPTIONAL),  # deprecated
            "rate_limit": (LIMITS, OPTIONAL),  # deprecated
            "creator_user_id": (TEXT, OPTIONAL_NULLABLE),
            "expires_at": (TIME, OPTIONAL_NULLABLE),
            "workspace_id": (TEXT, OPTIONAL_NULLABLE),
            "organization_id": (TEXT, OPTIONAL_NULLABLE),
            "allowed_data_regions": (TEXTS, OPTIONAL),
            "free_model_daily_requests": (FREE, OPTIONAL),
            "budgets": (BUDGETS, OPTIONAL),
            "effective_budget": (BUDGET, OPTIONAL_NULLABLE),
        },
    ),
    Budget: (
        budget_json(),
        {
            "scope": (TEXT, REQUIRED),
            "limit_usd": (NUMBER, REQUIRED),
            "spend_usd": (NUMBER, REQUIRED),
            "remaining_usd": (NUMBER, REQUIRED),
            "reset_interval": (TEXT, NULLABLE),
            "resets_at": (TIME, NULLABLE),
            "include_byok": (FLAG, REQUIRED),
            "guardrail_id": (TEXT, NULLABLE),
            "budget_id": (TEXT, NULLABLE),
        },
    ),
    RateLimit: (
        rate_limit_json(),
        {"interval": (TEXT, REQUIRED), "note": (TEXT, REQUIRED), "requests": (INTEGER, REQUIRED)},
    ),
    FreeModelDailyRequests: (
        free_requests_json(),
        {
            "limit": (INTEGER, REQUIRED),
            "used": (INTEGER, REQUIRED),
            "remaining": (INTEGER, REQUIRED),
        },
    ),
}
FIELDS = [
    (cls, example, name, value_kind, presence)
    for cls, (example, table) in RECORDS.items()
    for name, (value_kind, presence) in table.items()
]
of_every_field = in_one_test("cls, example, name, value_kind, presence", FIELDS)


@pytest.mark.parametrize("cls", RECORDS)
def test_a_record_has_the_fields_of_the_contract(cls: type[Any]) -> None:
    example, table = RECORDS[cls]
    assert names(cls) == table.keys() | {"extra"}
    assert example.keys() == table.keys()


@of_every_field
def test_a_value_is_read(
    cls: type[Any], example: Object, name: str, value_kind: str, presence: str
) -> None:
    sent, expected = SAMPLES[value_kind]
    record = structure(example | {name: sent}, cls)
    assert getattr(record, name) == expected
    assert type(getattr(record, name)) is type(expected)
    assert record.extra == {}


@of_every_field
def test_a_value_of_another_kind_is_never_taken(
    cls: type[Any], example: Object, name: str, value_kind: str, presence: str
) -> None:
    for kind, (sent, _) in SAMPLES.items():
        if {kind, value_kind} in ({NUMBER, INTEGER}, {TEXT, TIME}) or kind == value_kind:
            continue
        if presence in (REQUIRED, NULLABLE):
            with pytest.raises(ResponseValidationError, match=rf"\$\.{name}"):
                structure(example | {name: sent}, cls)
        else:
            assert structure(example | {name: sent}, cls).extra == {name: sent}


@of_every_field
def test_only_what_was_added_or_deprecated_may_be_absent(
    cls: type[Any], example: Object, name: str, value_kind: str, presence: str
) -> None:
    absent = without(example, name)
    if presence in (REQUIRED, NULLABLE):
        with pytest.raises(ResponseValidationError, match=f"no field '{name}'"):
            structure(absent, cls)
    else:
        record = structure(absent, cls)
        assert getattr(record, name) is (None if presence == OPTIONAL else UNSET)
        assert name not in body(record)


@of_every_field
def test_only_what_can_be_null_is_null(
    cls: type[Any], example: Object, name: str, value_kind: str, presence: str
) -> None:
    null = example | {name: None}
    if presence == REQUIRED:
        with pytest.raises(ResponseValidationError, match=rf"\$\.{name}"):
            structure(null, cls)
    else:
        record = structure(null, cls)
        assert getattr(record, name) is None
        assert body(record)[name] is None
        assert record.extra == ({name: None} if presence == OPTIONAL else {})


# --- single facts ---


def test_a_hash_is_the_sha_256_of_the_whole_secret() -> None:
    secret = "sk-or-v1-" + "ab" * 32
    raw = json.dumps({"data": None, "key": secret}).encode()
    create = operations.create(CreateKeysRequest(name="n"))
    with pytest.raises(errors.CreatedKeyUnreadableError) as caught:
        create.read(answer(raw, 201))
    assert caught.value.hash == sha256(secret.encode()).hexdigest()


def test_a_masked_secret_looks_like_a_label() -> None:
    assert mask("sk-or-v1-0e6" + "ab" * 28 + "1c96") == "sk-or-v1-0e6...1c96"


@in_one_test(
    "status, message",
    [
        (401, "Missing Authentication header"),
        (401, "User not found."),
        (401, "Invalid management key"),
        (403, "Only management keys can perform this operation"),
        (403, "Key limit exceeded"),
        (404, "Resource not found"),
        (429, "Rate limit exceeded"),
    ],
)
def test_what_the_service_says_is_kept(status: int, message: str) -> None:
    raw = json.dumps({"error": {"code": status, "message": message}}).encode()
    error = refusal(answer(raw, status))
    assert (error.message, error.data.error.code) == (message, status)


@pytest.mark.parametrize("scope", ["workspace_default_member", "key_limit", "one added later"])
def test_enums_are_open(scope: str) -> None:
    assert structure(budget_json(scope=scope), Budget).scope == scope
    assert structure(key_json(limit_reset="yearly"), Key).limit_reset == "yearly"
