import copy
import json
import math
import pickle
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta, timezone
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openrouter_keys import converter
from openrouter_keys._base.fast_reader import AnswerReader
from openrouter_keys._base.unset import UNSET, Unset
from openrouter_keys.converter import decode, encode, parse, structure, unstructure, write_time
from openrouter_keys.errors import (
    JSON,
    MalformedBodyError,
    OpenRouterError,
    ResponseValidationError,
)
from openrouter_keys.models import (
    Budget,
    CreateKeysRequest,
    CreateKeysResponse,
    CurrentKey,
    DeleteKeysResponse,
    External,
    FreeModelDailyRequests,
    GetCurrentKeyResponse,
    GetKeyResponse,
    HTTPMeta,
    Key,
    ListResponse,
    RateLimit,
    UpdateKeysRequest,
    UpdateKeysResponse,
)
from tests.records import (
    PARTNER_SECRET,
    SECRET,
    Object,
    budget_json,
    current_json,
    free_requests_json,
    key_json,
    old_current_json,
    old_key_json,
    patient,
    rate_limit_json,
    without,
)
from tests.tables import in_one_test

RECORDS: dict[type[Any], Object] = {
    Key: key_json(),
    CurrentKey: current_json(),
    Budget: budget_json(),
    RateLimit: rate_limit_json(),
    FreeModelDailyRequests: free_requests_json(),
    ListResponse: {"data": [key_json(), old_key_json()]},
    CreateKeysResponse: {"data": key_json(), "key": SECRET},
    GetKeyResponse: {"data": key_json()},
    UpdateKeysResponse: {"data": key_json()},
    DeleteKeysResponse: {"deleted": True},
    GetCurrentKeyResponse: {"data": current_json()},
}
REQUESTS: list[type[Any]] = [CreateKeysRequest, UpdateKeysRequest, External]
EVERY = [*RECORDS, *REQUESTS]


def encoded(record: object) -> JSON:
    value: JSON = json.loads(encode(record))
    return value


# --- what hypothesis makes ---

NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
JSONS: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | NUMBERS | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)
TIMES = st.datetimes(
    datetime(1, 1, 2),  # hypothesis wants them naive
    datetime(9999, 12, 30),
    timezones=st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=30))]),
)
VALUES: dict[Any, st.SearchStrategy[Any]] = {
    str: st.text(max_size=12),
    bool: st.booleans(),
    int: st.integers(),
    float: NUMBERS | st.integers(-(10**15), 10**15).map(float),
    datetime: TIMES,
    NoneType: st.none(),
    Unset: st.just(UNSET),
}


def values(kind: Any) -> st.SearchStrategy[Any]:
    if attrs.has(kind):
        return records(kind)
    if get_origin(kind) is list:
        return st.lists(values(get_args(kind)[0]), max_size=2)
    if get_origin(kind) in (Union, UnionType):
        return st.one_of([values(each) for each in get_args(kind)])
    return VALUES[kind]


def records(cls: type[Any]) -> st.SearchStrategy[Any]:
    fields = {f.name: f for f in attrs.fields(cls)}
    unknown = st.text(max_size=8) | st.sampled_from(["extra", "http", "self", "cls"])
    extra = st.dictionaries(
        unknown.filter(lambda name: name not in fields.keys() - {"extra", "http"}),
        JSONS,
        max_size=2,
    )
    known = {n: values(f.type) for n, f in fields.items() if n not in ("extra", "http")}
    return st.builds(cls, extra=extra, **known)


@pytest.mark.slow
@patient
@given(st.sampled_from(list(RECORDS)), st.data())
def test_every_record_comes_back_as_it_was_written(cls: type[Any], data: st.DataObject) -> None:
    record = data.draw(records(cls))
    again = decode(encode(record), cls)
    assert again == record
    assert again.extra == record.extra


CREATES = st.builds(
    CreateKeysRequest,
    name=st.text(min_size=1),
    limit=st.just(UNSET) | st.none() | st.floats(0, allow_infinity=False),
    limit_reset=st.sampled_from([UNSET, None, "daily", "weekly", "monthly"]),
    include_byok_in_limit=st.none() | st.booleans(),
    expires_at=st.just(UNSET) | st.none() | TIMES,
    creator_user_id=st.just(UNSET) | st.none() | st.text(min_size=1),
    workspace_id=st.none() | st.text(min_size=1),
    external=st.none() | st.builds(External, st.just("acme"), st.sampled_from([PARTNER_SECRET])),
)


@pytest.mark.slow
@patient
@given(CREATES)
def test_a_request_comes_back_as_it_was_written(request: CreateKeysRequest) -> None:
    assert decode(encode(request), CreateKeysRequest) == request


def mutations(value: JSON) -> st.SearchStrategy[JSON]:
    """What is like a valid answer, but for parts that are replaced, left out or added."""
    if isinstance(value, list):
        return st.tuples(*map(mutations, value)).map(list) | JSONS
    if not isinstance(value, dict):
        return st.just(value)
    same = {name: mutations(item) for name, item in value.items()}
    changes = st.dictionaries(st.sampled_from(list(value)), JSONS | st.just(GONE), max_size=2)
    changed = st.tuples(st.fixed_dictionaries(same), changes).map(change)
    return st.one_of([changed] * 4 + [JSONS])


GONE = object()


def change(both: tuple[dict[str, Any], dict[str, Any]]) -> JSON:
    changed = both[0] | both[1]
    return {name: item for name, item in changed.items() if item is not GONE}


@pytest.mark.slow
@patient
@given(st.sampled_from(EVERY), st.data())
def test_any_json_is_read_and_written_out_again_or_is_no_readable_answer(
    cls: type[Any], data: st.DataObject
) -> None:
    value = data.draw(mutations(RECORDS.get(cls, {"name": "n", "user": "u", "limit": None})))
    try:
        record = structure(value, cls)
    except ResponseValidationError as error:
        assert str(error).startswith(f"not a readable {cls.__name__}: ")
    else:
        assert decode(encode(record), cls) == record


@pytest.mark.slow
@patient
@given(st.sampled_from(list(RECORDS)), st.data())
def test_nothing_of_a_readable_answer_is_lost(cls: type[Any], data: st.DataObject) -> None:
    value = data.draw(mutations(RECORDS[cls]))
    try:
        record = structure(value, cls)
    except ResponseValidationError:
        return
    assert normal(unstructure(record)) == normal(value)


def normal(value: Any) -> Any:
    """A value whose times and numbers are written in one way only."""
    if isinstance(value, dict):
        return {name: normal(item) for name, item in value.items()}  # pyright: ignore[reportUnknownVariableType] # any JSON
    if isinstance(value, list):
        return [normal(item) for item in value]  # pyright: ignore[reportUnknownVariableType] # any JSON
    if isinstance(value, str):
        return value.replace("+00:00", "Z").replace(".5Z", ".500000Z")
    return value


def cut(value: JSON, start: int, left_off: int) -> bytes:
    body = json.dumps(value).encode()
    return body[start : len(body) - left_off]


BYTES = st.binary() | st.builds(
    cut,
    st.sampled_from(list(RECORDS.values())) | JSONS,
    st.sampled_from([0, 0, 1]),
    st.integers(0, 60),
)


@pytest.mark.slow
@patient
@given(st.sampled_from(list(RECORDS)), BYTES)
def test_any_bytes_are_read_or_are_no_readable_answer(cls: type[Any], body: bytes) -> None:
    try:
        record = decode(body, cls)
    except OpenRouterError as error:
        assert isinstance(error, ResponseValidationError)
    else:
        assert type(record) is cls


# --- bodies ---


@in_one_test(
    "body",
    [
        b"",
        b" ",
        b"{",
        b'{"data": {',
        b'{"data": NaN}',
        b'{"data": Infinity}',
        b'{"data": -Infinity}',
        b'{"deleted": true} trailing',
        b"{'deleted': true}",
        b"<html><body>502 Bad Gateway</body></html>",
        b"\xff\xfe\xfd",
        b'{"deleted": "\xff"}',
        b"\x80",
        b"9" * 5000,
        b"[" * 100_000,
        b"[" * 100_000 + b"]" * 100_000,
        b'{"data":' * 100_000,
    ],
    ids=lambda body: f"{len(body)} bytes {body[:12]!r}",
)
def test_what_is_no_json_is_a_malformed_body(body: bytes) -> None:
    with pytest.raises(MalformedBodyError, match=rf"\({len(body)} bytes\)"):
        decode(body, GetKeyResponse)


def test_a_malformed_body_does_not_show_in_its_error() -> None:
    body = f'{{"data": {{}}, "key": "{SECRET}"'.encode()
    with pytest.raises(MalformedBodyError) as malformed:
        decode(body, GetKeyResponse)
    assert malformed.value.__cause__ is None
    assert malformed.value.__context__ is None
    assert SECRET not in repr(malformed.value) + str(malformed.value)


@in_one_test("body", [b"null", b"[]", b'"text"', b"7", b"true", b"{}", b'{"data":[]}'])
def test_json_that_is_no_answer_is_refused(body: bytes) -> None:
    with pytest.raises(ResponseValidationError, match="not a readable GetKeyResponse"):
        decode(body, GetKeyResponse)


def test_of_duplicate_names_the_last_counts() -> None:
    assert decode(b'{"deleted": "odd", "deleted": true}', DeleteKeysResponse).deleted is True


def test_half_a_surrogate_pair_is_kept_and_written_out_again() -> None:
    body = b'{"deleted":true,"later":"\\ud800"}'
    answer = decode(body, DeleteKeysResponse)
    assert answer.extra == {"later": "\ud800"}
    assert parse(encode(answer)) == {"later": "\ud800", "deleted": True}


def test_a_text_of_a_subclass_is_written_as_a_text() -> None:
    class Text(str):  # such as those of NumPy, of Django's templates, and of ruamel.yaml
        __slots__ = ()

    assert encode(CreateKeysRequest(name=Text("é"))) == rb'{"name":"\u00e9"}'


def test_an_unknown_field_may_be_nested_deep() -> None:
    depth = 400
    body = b'{"deleted":true,"later":' + b"[" * depth + b"]" * depth + b"}"
    assert parse(encode(decode(body, DeleteKeysResponse))) == parse(body)


def test_unreadable_fields_are_named_and_their_values_are_not() -> None:
    odd = without(key_json(name=[SECRET], usage=SECRET, created_at=SECRET), "label")
    with pytest.raises(ResponseValidationError) as unreadable:
        structure({"data": odd}, GetKeyResponse)
    told = str(unreadable.value)
    assert all(f"$.data.{name}" in told for name in ("name", "usage", "created_at", "label"))
    assert SECRET not in told + repr(unreadable.value)
    assert unreadable.value.__cause__ is None
    assert unreadable.value.__context__ is None


# --- strict primitives ---

STRICT: list[tuple[str, tuple[Any, ...]]] = [
    ("name", (None, 7, 1.5, True, ["n"], {})),
    ("hash", (None, 7)),
    ("disabled", (None, 0, 1, "true", "", [])),
    ("usage", (None, True, False, "1.0", [], 10**400, math.inf, math.nan)),
    ("limit", (True, "50", [], math.inf)),
    ("limit_reset", (7, ["daily"])),
    (
        "created_at",
        (None, 1756031400, True, "", "soon", "2025-08-24", "2025-08-24T10:30:00", "10:30:00Z"),
    ),
    ("updated_at", (0, "2025-08-24T10:30:00", "0001-01-01T00:00:00+14:00")),
]


@in_one_test("name, value", [(name, value) for name, values in STRICT for value in values])
def test_a_required_field_of_another_kind_is_refused(name: str, value: JSON) -> None:
    with pytest.raises(ResponseValidationError, match=rf"\$\.{name}$"):
        structure(key_json(**{name: value}), Key)


@pytest.mark.parametrize("value", [True, 1.0, "1000", None])
def test_an_integer_is_neither_a_boolean_nor_a_float(value: JSON) -> None:
    with pytest.raises(ResponseValidationError, match="is not an integer"):
        structure(rate_limit_json(requests=value), RateLimit)


@pytest.mark.parametrize("data", ["keys", {"0": "key"}, None, 7])
def test_only_a_list_is_a_list(data: JSON) -> None:
    with pytest.raises(ResponseValidationError, match="is not a list"):
        structure({"data": data}, ListResponse)


def test_a_text_is_not_a_list_of_its_letters() -> None:
    current = structure(current_json(allowed_data_regions="us"), CurrentKey)
    assert (current.allowed_data_regions, current.extra) == (None, {"allowed_data_regions": "us"})


def test_an_integer_is_a_number() -> None:
    key = structure(key_json(usage=25, limit=50), Key)
    assert (key.usage, type(key.usage), key.limit, type(key.limit)) == (25.0, float, 50.0, float)


# --- fields left out, null, odd or unknown ---

NEWER = {
    "expires_at": "2027-12-31T23:59:59Z",
    "creator_user_id": "user_2abc",
    "external_user": "acme-7",
    "last_used_at": "2025-08-25T00:00:00Z",
}


def test_an_older_answer_decodes_and_is_written_without_the_newer_fields() -> None:
    key = structure(old_key_json(), Key)
    assert {getattr(key, name) for name in NEWER} == {UNSET}
    assert key.workspace_id is None
    assert encoded(key) == old_key_json(updated_at="2025-02-19T20:52:27.363244Z")


def test_an_older_current_key_decodes_and_is_written_as_it_came() -> None:
    assert encoded(structure(old_current_json(), CurrentKey)) == old_current_json()


@pytest.mark.parametrize("name", NEWER)
def test_null_in_a_newer_field_is_not_left_out(name: str) -> None:
    key = structure(key_json(**{name: None}), Key)
    assert getattr(key, name) is None
    assert key.extra == {}
    assert encoded(key) == normal(key_json(**{name: None}))


@in_one_test("name", [*NEWER, "workspace_id"])
@in_one_test("odd", [True, 7, ["odd"], {"odd": None}])
def test_an_odd_newer_field_is_kept_and_written_out_again(name: str, odd: JSON) -> None:
    key = structure(key_json(**{name: odd}), Key)
    assert getattr(key, name) is (None if name == "workspace_id" else UNSET)
    assert key.extra == {name: odd}
    assert encoded(key) == normal(key_json(**{name: odd}))


def test_null_where_there_is_none_is_kept_and_written_out_again() -> None:
    current = structure(current_json(workspace_id=None, budgets=None, rate_limit=None), CurrentKey)
    assert current.extra == {"budgets": None, "rate_limit": None}
    key = structure(key_json(workspace_id=None), Key)
    assert (key.workspace_id, key.extra) == (None, {"workspace_id": None})
    assert encoded(key) == normal(key_json(workspace_id=None))


def test_an_odd_part_of_a_newer_field_keeps_the_whole_field() -> None:
    odd: list[JSON] = [budget_json(), budget_json(limit_usd="100")]
    current = structure(current_json(budgets=odd), CurrentKey)
    assert current.budgets is None
    assert current.extra == {"budgets": odd}
    assert current.effective_budget == structure(budget_json(), Budget)


@in_one_test("cls", RECORDS)
def test_unknown_fields_are_kept_at_every_level(cls: type[Any]) -> None:
    later: Object = {"later": [1, {"deep": None}], "extra": "ours", "http": {"status": 200}}
    record = structure(RECORDS[cls] | later, cls)
    assert record.extra == later
    assert not hasattr(record, "http") or record.http == HTTPMeta()
    assert encoded(record) == normal(RECORDS[cls] | later)


def test_an_unknown_field_of_a_nested_record_is_kept_there() -> None:
    answer = structure({"data": [key_json(later=1)]}, ListResponse)
    assert (answer.extra, answer.data[0].extra) == ({}, {"later": 1})


def test_what_happened_on_the_wire_is_not_written() -> None:
    answer = DeleteKeysResponse(deleted=True, http=HTTPMeta(status=200))
    assert encode(answer) == b'{"deleted":true}'


def test_a_known_field_wins_over_one_that_is_kept() -> None:
    key = attrs.evolve(structure(key_json(expires_at=7), Key), expires_at=None)
    assert encoded(key) == normal(key_json(expires_at=None))


@in_one_test(
    "request_, body",
    [
        (CreateKeysRequest(name="n"), b'{"name":"n"}'),
        (CreateKeysRequest(name="n", limit=None), b'{"name":"n","limit":null}'),
        (CreateKeysRequest(name="n", limit=50), b'{"name":"n","limit":50}'),
        (UpdateKeysRequest(limit=None), b'{"limit":null}'),
        (UpdateKeysRequest(disabled=False), b'{"disabled":false}'),
        (CreateKeysRequest(name="é\ud83d\ude00"), rb'{"name":"\u00e9\ud83d\ude00"}'),
        (External("acme"), b'{"user":"acme"}'),
    ],
)
def test_left_out_null_and_a_value_are_written_apart(request_: object, body: bytes) -> None:
    assert encode(request_) == body


# --- times ---


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2025-08-24T10:30:00Z", datetime(2025, 8, 24, 10, 30, tzinfo=UTC)),
        (
            "2025-02-19T20:52:27.363244+00:00",
            datetime(2025, 2, 19, 20, 52, 27, 363244, tzinfo=UTC),
        ),
        ("2025-08-24T10:30:00.5Z", datetime(2025, 8, 24, 10, 30, 0, 500000, tzinfo=UTC)),
        ("2025-08-24T12:30:00+02:00", datetime(2025, 8, 24, 10, 30, tzinfo=UTC)),
    ],
)
def test_a_timestamp_is_aware_and_in_utc(text: str, time: datetime) -> None:
    read = structure(key_json(created_at=text), Key).created_at
    assert (read, read.tzinfo) == (time, UTC)


@pytest.mark.parametrize(
    ("time", "text"),
    [
        (datetime(2027, 12, 31, 23, 59, tzinfo=UTC), "2027-12-31T23:59:00Z"),
        (datetime(2027, 12, 31, 23, 59, 59, 5, tzinfo=UTC), "2027-12-31T23:59:59.000005Z"),
        (datetime(2028, 1, 1, 1, tzinfo=timezone(timedelta(hours=2))), "2027-12-31T23:00:00Z"),
        (datetime(1, 1, 1, tzinfo=UTC), "0001-01-01T00:00:00Z"),
    ],
)
def test_a_time_is_written_in_utc_with_seconds_and_z(time: datetime, text: str) -> None:
    assert write_time(time) == text
    request = CreateKeysRequest(name="n", expires_at=time)
    assert encoded(request) == {"name": "n", "expires_at": text}


def test_a_number_beyond_all_bounds_is_no_json() -> None:
    with pytest.raises(MalformedBodyError):
        parse(b'{"new": 1e999}')


# --- the fast way and the careful way ---

TIME_NAMES = ("created_at", "updated_at", "expires_at", "last_used_at")
ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**20), 10**20),
    st.floats(),
    st.text(max_size=5),
    st.lists(st.integers(), max_size=1),
    st.sampled_from(
        [
            "2025-08-24T10:30:00Z",
            "2025-08-24T10:30:00.123456+00:00",
            "2025-08-24T12:30:00+02:00",
            "2025-08-24T10:30:00-00:30",
            "2025-08-24T10:30:00",
            "2025-08-24 10:30Z",
            "2025-08-24",
            "0001-01-01T00:00:00+14:00",
            "2025-02-30T10:30:00Z",
            "2025-08-24T10:30:60Z",
        ]
    ),
)
NEW = st.sampled_from(["a_new_field", "extra", "http", "__class__", "self"])
CHANGED = st.dictionaries(st.sampled_from([*key_json()]) | NEW, ODD, max_size=4)
LEFT_OUT = st.sets(st.sampled_from([*key_json()]), max_size=3)
FLAT = [Key, Budget, RateLimit, FreeModelDailyRequests]


def reader_of(cls: type[Any]) -> Any:
    return converter._converter().get_structure_hook(cls)


@contextmanager
def read_carefully() -> Generator[None]:
    """Keep msgspec from reading records."""
    fast = {cls: reader_of(cls).fast for cls in FLAT}

    def never(_: object) -> None: ...

    with pytest.MonkeyPatch.context() as patched:
        for reader in fast.values():
            patched.setattr(reader, "read", never)
        yield


def outcome(value: Any, cls: type[Any]) -> object:
    try:
        read: Any = structure(value, cls)
    except ResponseValidationError as error:
        return "refused", error.message
    keys: list[Any] = read.data if cls is ListResponse else [read]
    times = [repr(getattr(key, name, None)) for key in keys for name in TIME_NAMES]
    extras = [repr(sorted(key.extra.items())) for key in keys]
    written: Any = unstructure(read)
    plain = [repr(sorted(key.items())) for key in written.get("data", [written])]
    return cls, repr(read), extras, times, plain


@pytest.mark.slow
@patient
@given(changed=CHANGED, left_out=LEFT_OUT)
def test_both_ways_come_to_the_same(changed: Object, left_out: set[str]) -> None:
    value = without(key_json(**changed), *left_out)
    fast = outcome(value, Key)
    with read_carefully():
        assert outcome(value, Key) == fast


@pytest.mark.slow
@patient
@given(st.lists(st.tuples(CHANGED, LEFT_OUT), max_size=3))
def test_both_ways_come_to_the_same_for_a_page(keys: list[tuple[Object, set[str]]]) -> None:
    page: Any = {"data": [without(key_json(**changed), *names) for changed, names in keys]}
    fast = outcome(page, ListResponse)
    with read_carefully():
        assert outcome(page, ListResponse) == fast


@in_one_test("cls", FLAT)
@in_one_test("beside", [{}, {"a_new_field": [1]}, {"extra": {}, "http": 7}, {"__class__": "other"}])
def test_an_ordinary_record_is_read_the_fast_way_and_so_is_one_with_new_fields(
    cls: type[Any], beside: Object
) -> None:
    (record,) = reader_of(cls).fast.read([{**RECORDS[cls], **beside}])
    assert type(record) is cls
    assert record == attrs.evolve(structure(RECORDS[cls], cls), extra=beside)
    assert record.extra == beside
    assert hash(record) == hash(copy.copy(record))
    assert pickle.loads(pickle.dumps(record)) == record


def answered(body: bytes, cls: type[Any]) -> object:
    """Return what an answer's bytes are read as, or refused with."""
    try:
        read: Any = decode(body, cls)
    except ResponseValidationError as error:
        return type(error), error.message
    keys: list[Any] = read.data if cls is ListResponse else [read.data]
    extras = [repr(sorted(each.extra.items())) for each in (read, *keys)]
    # NaN is no JSON, so that equal answers are told by `==`.
    return read, getattr(read, "key", None), extras, [*map(repr, keys)]


OTHERS = st.dictionaries(st.sampled_from(["key", "data", "error", "later"]), ODD, max_size=1)


@patient
@given(changed=CHANGED, left_out=LEFT_OUT, others=OTHERS)
@pytest.mark.parametrize("cls", [ListResponse, CreateKeysResponse, GetKeyResponse])
def test_an_answer_s_bytes_come_to_what_its_values_come_to(
    cls: type[Any], changed: Object, left_out: set[str], others: Object
) -> None:
    key = without(key_json(**changed), *left_out)
    value: Object = {"data": [key_json(), key] if cls is ListResponse else key, **others}
    if cls is CreateKeysResponse:
        value.setdefault("key", "sk-or-v1-" + "5e" * 32)
    body = json.dumps(value).encode()
    fast = answered(body, cls)

    def never(*_: object) -> None: ...

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(AnswerReader, "read", never)
        assert answered(body, cls) == fast


@pytest.mark.parametrize(
    ("cls", "value"),
    [
        (ListResponse, {"data": []}),
        (ListResponse, {"data": [key_json(), key_json(last_used_at=None)]}),
        (GetKeyResponse, {"data": key_json()}),
        (UpdateKeysResponse, {"data": without(key_json(), "workspace_id", "external_user")}),
        (CreateKeysResponse, {"key": "secret", "data": key_json()}),
    ],
)
def test_an_ordinary_answer_is_read_from_its_bytes(cls: type[Any], value: Object) -> None:
    reader, http = converter._answer_reader(cls), HTTPMeta(status=207)
    assert reader is not None
    read: Any = reader.read(json.dumps(value).encode(), {"http": http})
    assert read == structure(value, cls)
    assert read.http is http
    records = read.data if cls is ListResponse else [read.data]
    assert {type(record) for record in records} <= {Key}
    assert reader.read(json.dumps({**value, "later": 1}).encode(), {}) is None


@pytest.mark.parametrize("name", ["usage", "extra", "__class__"])
def test_a_record_that_was_read_is_frozen(name: str) -> None:
    record = decode(json.dumps({"data": key_json()}).encode(), GetKeyResponse).data
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        setattr(record, name, 1)
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        delattr(record, name)


@pytest.mark.parametrize("odd", [{"expires_at": "2025-08-24T12:30:00+02:00"}, {"usage": None}])
def test_what_is_odd_is_left_to_the_careful_way(odd: Object) -> None:
    assert reader_of(Key).fast.read([key_json(**odd)]) is None
    assert reader_of(Key).fast.read([key_json(), key_json(**odd)]) is None


def test_records_with_records_inside_are_read_the_careful_way() -> None:
    assert reader_of(CurrentKey).fast is None


@pytest.mark.parametrize(
    "error", [TypeError, RuntimeError, RecursionError, MemoryError, AttributeError]
)
@pytest.mark.parametrize(
    "where", ["msgspec.convert", "openrouter_keys._base.fast_reader.FlatReader.record"]
)
def test_whatever_the_fast_way_raises_the_careful_way_reads(
    monkeypatch: pytest.MonkeyPatch, where: str, error: type[Exception]
) -> None:
    page: Any = {"data": [key_json(), key_json(later=1)]}
    ordinary = structure(page, ListResponse)

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(where, fail)
    assert structure(page, ListResponse) == ordinary


def test_reading_leaves_the_annotations_as_they_were_written() -> None:
    structure(key_json(), Key)
    assert "Unset" in str(Key.__annotations__["expires_at"])


def test_an_answer_gets_what_happened_on_the_wire() -> None:
    http = HTTPMeta(status=207)
    assert decode(b'{"deleted":true,"http":1}', DeleteKeysResponse, http=http).http is http


@pytest.mark.parametrize("row", [[], {}, 1, None, "x", {"hash": 1}])
def test_of_a_million_rows_that_no_record_is_the_first_is_told(row: object) -> None:
    body = json.dumps({"data": [key_json(), row, *[row] * 100_000]}).encode()
    began = time.process_time()
    with pytest.raises(ResponseValidationError) as raised:
        decode(body, ListResponse)
    assert time.process_time() - began < 5
    assert "[1]" in str(raised.value)
    assert len(str(raised.value)) < 1000


def test_of_all_that_is_wrong_with_a_record_five_things_are_told() -> None:
    with pytest.raises(ResponseValidationError, match=r"; and 1?[0-9] more$") as raised:
        decode(b'{"data": {}}', GetKeyResponse)
    assert str(raised.value).count(";") == 5


def test_new_names_come_and_go_and_no_more_than_a_few_are_learned(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(converter, "_answer_readers", {})
    names = [f"new_{number}" for number in range(40)]
    for name in [*names, *names[::-1]]:
        pages = [
            decode(page({name: [1]}, beside), ListResponse) for beside in ({}, {"other": None})
        ]
        assert [each.data[0].extra for each in pages] == [{name: [1]}, {name: [1]}]
        assert [each.data[1].extra for each in pages] == [{}, {"other": None}]


def page(*beside: Mapping[str, JSON]) -> bytes:
    return json.dumps({"data": [key_json(**each) for each in beside]}).encode()
