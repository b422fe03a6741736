from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from decimal import Decimal
from functools import partial
from typing import Any

import pytest

from openrouter_keys import operations
from openrouter_keys._inputs import checks
from openrouter_keys.errors import InvalidArgumentError
from openrouter_keys.models import CreateKeysRequest, External, UpdateKeysRequest
from openrouter_keys.utils import parse_datetime
from tests.records import HASH, PARTNER_SECRET
from tests.tables import in_one_test

NAIVE = datetime(2027, 12, 31, 23, 59, 59)  # that is the point
BEFORE_TIME = datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14)))
NO_NUMBERS = (
    *(float("nan"), float("inf"), float("-inf"), -1, -0.01, "5", True, 10**400),
    *map(Decimal, ("NaN", "sNaN", "Infinity", "-5", "1e400")),
)
NO_FLAGS = (1, 0, "true", "")
NO_TEXTS = ("", 5, b"name", ["name"])
NO_RESETS = ("yearly", "", "DAILY", 1, ["daily"])


class Nowhere(tzinfo):
    """A zone that does not say how far from UTC it is."""

    def utcoffset(self, dt: datetime | None) -> None:
        return None

    dst = utcoffset

    def tzname(self, dt: datetime | None) -> str:
        return "nowhere"


def create(**fields: Any) -> Any:
    named: dict[str, Any] = {"name": "customer-42", **fields}
    return operations.create(CreateKeysRequest(**named))


def update(**fields: Any) -> Any:
    return operations.update(HASH, UpdateKeysRequest(**fields))


def list_(**arguments: Any) -> Any:
    return operations.list_(**arguments)


# argument → what is refused for it, whichever operation takes it.
BOTH: dict[str, tuple[object, ...]] = {
    "name": NO_TEXTS,
    "limit": NO_NUMBERS,
    "limit_reset": NO_RESETS,
    "include_byok_in_limit": NO_FLAGS,
    "workspace_id": NO_TEXTS,
}
BAD: dict[Callable[..., Any], dict[str, tuple[object, ...]]] = {
    create: BOTH
    | {
        "name": (None, *NO_TEXTS),
        "expires_at": (
            NAIVE,
            datetime(2027, 1, 1, tzinfo=Nowhere()),
            "2027-12-31T23:59:59Z",
            1830297599,
            BEFORE_TIME,
        ),
        "creator_user_id": NO_TEXTS,
        "external": ("acme", {}, {"api_key": PARTNER_SECRET}, {"user": "u", "more": 1}, ["user"]),
    },
    update: BOTH | {"disabled": NO_FLAGS},
    list_: {
        "include_disabled": (1, "yes", "True", ""),
        "include_expired": (0, "no", "FALSE", ""),
        "offset": (-1, "-1", "", "1.5", 1.5, True, "ten", "+1", "9" * 5000),
        "workspace_id": NO_TEXTS,
    },
}
ROWS = [
    (operation, argument, value)
    for operation, arguments in BAD.items()
    for argument, values in arguments.items()
    for value in values
]


@in_one_test("operation, argument, value", ROWS)
def test_bad_input_is_refused_and_the_argument_named(
    operation: Callable[..., Any], argument: str, value: object
) -> None:
    with pytest.raises(InvalidArgumentError) as refused:
        operation(**{argument: value})
    assert refused.value.argument == argument
    assert str(refused.value).startswith(f"{argument}: ")
    assert len(str(refused.value)) > len(argument) + 10


@in_one_test(
    "argument, external",
    [
        ("external.user", {"user": ""}),
        ("external.user", {"user": "u" * 513}),
        ("external.user", {"user": "a\0b"}),
        ("external.user", {"user": " acme"}),
        ("external.user", {"user": "acme\n"}),
        ("external.user", {"user": None}),
        ("external.user", {"user": 7}),
        ("external.api_key", {"user": "acme", "api_key": "k" * 31}),
        ("external.api_key", {"user": "acme", "api_key": ""}),
        ("external.api_key", {"user": "acme", "api_key": 7}),
    ],
)
def test_a_bad_partner_identity_is_refused_by_the_name_of_its_field(
    argument: str, external: dict[str, Any]
) -> None:
    with pytest.raises(InvalidArgumentError) as refused:
        create(external=external)
    assert refused.value.argument == argument


def test_a_refusal_never_shows_a_partners_key() -> None:
    for external in ({"user": "", "api_key": PARTNER_SECRET}, {"api_key": PARTNER_SECRET}):
        with pytest.raises(InvalidArgumentError) as refused:
            create(external=external)
        assert PARTNER_SECRET not in repr(refused.value) + str(refused.value)


@in_one_test(
    "fields",
    [
        {"limit": 0},
        {"limit": 0.1 + 0.2},
        {"limit": None},
        {"limit_reset": None},
        {"limit_reset": "weekly"},
        {"include_byok_in_limit": False},
        {"name": " "},
    ],
)
@in_one_test("operation", [create, update])
def test_good_input_is_taken(operation: Callable[..., Any], fields: dict[str, Any]) -> None:
    assert operation(**fields).body


def test_the_bounds_of_a_partners_identity_are_inclusive() -> None:
    assert External("u" * 512, "k" * 32).user == "u" * 512
    assert External("u").api_key is None


def test_an_update_with_nothing_in_it_is_refused_with_what_it_could_hold() -> None:
    with pytest.raises(InvalidArgumentError, match="nothing to update") as refused:
        update()
    fields = {"name", "disabled", "limit", "limit_reset", "include_byok_in_limit", "workspace_id"}
    assert all(field in str(refused.value) for field in fields)


@pytest.mark.parametrize("limit", [None, 0])
def test_null_and_zero_are_something_to_update(limit: float | None) -> None:
    assert update(limit=limit).body == (b'{"limit":null}' if limit is None else b'{"limit":0}')


@in_one_test(
    "hash",
    ["", ".", "..", "../credits", "a/b", "a\\b", "a?b", "a#b", "a%2fb", "a b", "a\n", "é", None, 5],
)
@in_one_test(
    "operation",
    [
        operations.get,
        operations.delete,
        partial(operations.update, request=UpdateKeysRequest(name="new")),
    ],
    ids=["get", "delete", "update"],
)
def test_a_hash_that_is_not_one_path_segment_is_refused(
    operation: Callable[[Any], Any], hash: object
) -> None:
    with pytest.raises(InvalidArgumentError) as refused:
        operation(hash)
    assert refused.value.argument == "hash"


@pytest.mark.parametrize("hash", [HASH, "abc", "with-dash_and.dot~"])
def test_a_hash_need_not_look_like_a_sha_256(hash: str) -> None:
    assert checks.key_hash(hash) == hash


@pytest.mark.parametrize(
    ("value", "sent"), [(True, "true"), (False, "false"), ("true", "true"), ("false", "false")]
)
def test_a_switch_is_a_boolean_or_the_older_sdks_string(value: object, sent: str) -> None:
    assert checks.switch("include_disabled", value) == sent


@pytest.mark.parametrize(("value", "number"), [(0, 0), (250, 250), ("0", 0), ("250", 250)])
def test_an_offset_is_an_integer_or_the_older_sdks_string(value: object, number: int) -> None:
    assert checks.offset(value) == number


@pytest.mark.parametrize(
    ("given", "base"),
    [
        ("https://openrouter.ai/api/v1", "https://openrouter.ai/api/v1"),
        ("https://openrouter.ai/api/v1/", "https://openrouter.ai/api/v1"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("http://[::1]:8080/api", "http://[::1]:8080/api"),
        ("HTTPS://example.com", "HTTPS://example.com"),
    ],
)
def test_a_base_url_loses_only_the_slash_at_its_end(given: str, base: str) -> None:
    assert checks.server_url("server_url", given) == base


@in_one_test(
    "url",
    [
        "",
        "openrouter.ai",
        "/api/v1",
        "ftp://openrouter.ai",
        "https://",
        "https:///api",
        "http://host:port",
        "http://host:99999",
        "http://host:0",
        "http://[::1",
        "http://host/api?key=1",
        "http://host/api?",
        "http://host/api#part",
        "http://host/api#",
        "http://ho st/",
        "http://ho\tst/",
        "http://host/\r\nX: y",
        None,
        b"http://host",
    ],
)
def test_what_is_no_base_url_is_refused(url: object) -> None:
    with pytest.raises(InvalidArgumentError) as refused:
        checks.server_url("server_url", url)
    assert refused.value.argument == "server_url"


@pytest.mark.parametrize("url", ["http://me:canary@host", "http://canary@host", "http://:canary@h"])
def test_credentials_in_a_base_url_are_refused_and_not_shown(url: str) -> None:
    with pytest.raises(InvalidArgumentError, match="credentials") as refused:
        checks.server_url("server_url", url)
    assert "canary" not in str(refused.value)


@in_one_test("value", [0, -1, 1.0, True, "3", None])
def test_a_count_is_an_integer_from_1(value: object) -> None:
    with pytest.raises(InvalidArgumentError, match="concurrency: "):
        checks.count("concurrency", value)
    assert checks.count("concurrency", 1) == 1


@in_one_test("value", [0, -1, float("nan"), float("inf"), True, "10", None, 10**400])
def test_a_time_out_is_a_number_of_milliseconds(value: object) -> None:
    with pytest.raises(InvalidArgumentError, match="timeout_ms: "):
        checks.timeout_ms("timeout_ms", value)


@pytest.mark.parametrize(("millis", "seconds"), [(1, 0.001), (1500, 1.5), (0.5, 0.0005)])
def test_a_time_out_comes_out_in_seconds(millis: float, seconds: float) -> None:
    assert checks.timeout_ms("timeout_ms", millis) == seconds


@pytest.mark.parametrize("value", [-0.1, float("nan"), "1", None])
def test_seconds_are_a_number_from_0(value: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="quiet_period: "):
        checks.seconds("quiet_period", value)
    assert checks.seconds("quiet_period", 0) == 0


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match=r"since: .* naive"):
        checks.aware_time("since", NAIVE)
    later = NAIVE.replace(tzinfo=UTC)
    assert checks.aware_time("since", later) is later
    assert parse_datetime("2027-12-31T23:59:59Z") == later


@in_one_test(
    "name, value",
    [
        ("", "x"),
        ("X Y", "x"),
        ("X:", "x"),
        ("X\n", "x"),
        ("é", "x"),
        (7, "x"),
        ("X", "a\r\nAuthorization: b"),
        ("X", "a\0"),
        ("X", "a\x7f"),
        ("X", 7),
        ("X", None),
    ],
)
def test_a_header_that_could_not_be_sent_or_smuggles_another_is_refused(
    name: object, value: object
) -> None:
    with pytest.raises(InvalidArgumentError, match="http_headers: "):
        checks.header("http_headers", name, value)


@in_one_test("key", [None, 7, b"canary", "", "canary canary", "canary\n", "canäry", "canary\x7f"])
def test_what_is_wrong_with_a_key_is_told_without_showing_it(key: object) -> None:
    problem = checks.api_key_problem(key)
    assert problem
    assert "canary" not in problem


@pytest.mark.parametrize("key", ["sk-or-v1-x", "sk-or-mgmt-x", "anything"])
def test_no_prefix_of_a_key_is_asked_for(key: str) -> None:
    assert checks.api_key_problem(key) is None
