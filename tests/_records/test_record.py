"""What every record can do: plain values, a collection, a hash, and its fields' documentation."""

import inspect
import json
import re
from datetime import UTC, datetime
from types import NoneType
from typing import Any, get_args

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openrouter_keys import models
from openrouter_keys._base.unset import Unset
from openrouter_keys._records.record import Record
from openrouter_keys.converter import encode, structure
from openrouter_keys.errors import ResponseValidationError
from openrouter_keys.models import (
    CreateKeysResponse,
    CurrentKey,
    DeleteKeysResponse,
    GetCurrentKeyResponse,
    GetKeyResponse,
    Key,
    ListResponse,
    UpdateKeysResponse,
)
from tests.records import SECRET, current_json, key, key_json, old_key_json, patient, without
from tests.tables import in_one_test
from tests.test_converter import RECORDS, records

KEY = structure(key_json(), Key)
CURRENT = structure(current_json(), CurrentKey)
OTHER_SECRET = "sk-or-v1-" + "0dd5" * 16


def name(value: object) -> str:
    return value.__name__ if isinstance(value, type) else type(value).__name__


def test_every_record_of_the_service_has_plain_values() -> None:
    found = inspect.getmembers(models, lambda each: attrs.has(each) and "extra" in dir(each))
    assert {cls for _, cls in found if issubclass(cls, Record)} == {cls for _, cls in found}
    assert {cls for name, cls in found if not name.startswith("_")} == {*RECORDS}


@in_one_test("cls", RECORDS, ids=name)
def test_a_record_is_plain_json(cls: type[Any]) -> None:
    record = structure(RECORDS[cls], cls)
    plain = record.to_dict(include_secrets=True)
    assert json.loads(json.dumps(plain)) == plain == json.loads(encode(record))
    assert cls.from_dict(plain) == record


@pytest.mark.slow
@patient
@given(st.sampled_from([*RECORDS]), st.data())
def test_a_record_comes_back_from_its_plain_values(cls: type[Any], data: st.DataObject) -> None:
    record = data.draw(records(cls))
    plain = record.to_dict(include_secrets=True)
    again = cls.from_dict(json.loads(json.dumps(plain)))
    assert again == record
    assert again.extra == record.extra
    assert again.to_dict() == record.to_dict()
    assert hash(again) == hash(record)


def test_times_are_written_as_the_service_writes_them() -> None:
    plain = structure(key_json(expires_at="2028-01-01T01:00:00+01:00"), Key).to_dict()
    assert plain["created_at"] == "2025-08-24T10:30:00Z"
    assert plain["updated_at"] == "2025-02-19T20:52:27.363244Z"
    assert plain["expires_at"] == "2028-01-01T00:00:00Z"
    assert key().to_dict()["updated_at"] is None


def test_what_is_left_out_is_not_there_and_null_is_none() -> None:
    newer = ("expires_at", "creator_user_id", "workspace_id", "external_user", "last_used_at")
    old = structure(old_key_json(), Key).to_dict()
    assert not {*newer} & old.keys()
    assert structure(key_json(limit=None, expires_at=None), Key).to_dict().items() >= {
        ("limit", None),
        ("expires_at", None),
    }
    for each in newer:
        plain = structure(without(key_json(), each), Key).to_dict()
        assert plain == without(KEY.to_dict(), each)


@in_one_test(
    "fields",
    [
        {"later": [1, {"deep": None}]},
        {"extra": 1, "http": 2},
        {"workspace_id": None},  # null where the service has none
        {"last_used_at": "yesterday"},  # unreadable
        {"usage_hourly": 0.5, "tags": ["a"]},
    ],
)
def test_unknown_fields_are_there_under_their_own_names(fields: dict[str, Any]) -> None:
    plain = structure(key_json(**fields), Key).to_dict()
    assert plain == KEY.to_dict() | fields
    assert next(iter(plain)) == "hash"  # what is known comes first


def test_the_exchange_on_the_wire_is_no_field() -> None:
    assert GetKeyResponse(data=KEY).to_dict() == {"data": KEY.to_dict()}
    assert DeleteKeysResponse(deleted=True).to_dict() == {"deleted": True}


# --- secrets ---


def test_a_new_keys_secret_is_there_only_by_name() -> None:
    created = CreateKeysResponse(data=KEY, key=SECRET)
    assert created.to_dict() == {"data": KEY.to_dict()}
    assert created.to_dict(include_secrets=True) == {"key": SECRET, "data": KEY.to_dict()}
    by_place: Any = created.to_dict
    with pytest.raises(TypeError):
        by_place(True)


@in_one_test(
    "fields",
    [
        {"name": OTHER_SECRET},
        {"label": OTHER_SECRET},
        {"secret": OTHER_SECRET},
        {"deep": [[{"a": f"curl -H 'Bearer {OTHER_SECRET}'"}]]},
        {OTHER_SECRET: 1},
        {"workspace_id": f"https://x/?key={OTHER_SECRET}"},
    ],
)
def test_what_looks_like_a_secret_is_masked_anywhere(fields: dict[str, Any]) -> None:
    record = structure(key_json(**fields), Key)
    for each in (record, ListResponse(data=[record]), CreateKeysResponse(data=record, key=SECRET)):
        shown = json.dumps(each.to_dict())
        assert OTHER_SECRET not in shown
        assert "sk-or-v1-0dd...0dd5" in shown
        assert OTHER_SECRET in json.dumps(each.to_dict(include_secrets=True))


def test_what_a_record_is_made_from_is_in_no_error() -> None:
    with pytest.raises(ResponseValidationError, match="no field 'data'") as refused:
        CreateKeysResponse.from_dict({"key": SECRET})
    assert SECRET not in repr(refused.value)
    assert refused.value.__traceback__ is not None
    frames = [frame.frame for frame in inspect.getinnerframes(refused.value.__traceback__)]
    ours = [each for each in frames if "/openrouter_keys/" in each.f_code.co_filename]
    assert not [each for each in ours if SECRET in repr(each.f_locals)]


# --- a page is a collection ---


def test_a_page_is_a_collection_of_its_keys() -> None:
    first, second, third = (key(f"{place:064}") for place in range(3))
    page = ListResponse(data=[first, second, third])
    assert (len(page), [*page], [*reversed(page)]) == (3, page.data, page.data[::-1])
    assert (page[0], page[-1], page[1:]) == (first, third, [second, third])
    assert second in page
    assert key("f" * 64) not in page
    with pytest.raises(IndexError):
        page[3]


def test_an_empty_page_is_false() -> None:
    assert not ListResponse(data=[])
    assert ListResponse(data=[KEY])


# --- hashes ---


@in_one_test("cls", RECORDS, ids=name)
def test_equal_records_have_equal_hashes(cls: type[Any]) -> None:
    one, another = (structure(RECORDS[cls], cls) for _ in range(2))
    later = attrs.evolve(one, extra={"later": [1]})
    assert len({one, another}) == 1
    assert len({one, later}) == 2


@in_one_test(
    "record",
    [
        ListResponse(data=[KEY, key("0" * 64)]),
        ListResponse(data=[]),
        GetKeyResponse(data=KEY),
        UpdateKeysResponse(data=KEY, extra={"a": {}}),
        GetCurrentKeyResponse(data=CURRENT),
        CURRENT,
        models.HTTPMeta(headers={"a": "b"}),
    ],
    ids=name,
)
def test_answers_are_hashed(record: Any) -> None:
    assert {record: 1}[record] == 1
    assert record != attrs.evolve(record, **CHANGES[type(record)])


CHANGES: dict[type[Any], dict[str, Any]] = {
    ListResponse: {"data": [key("f" * 64)]},
    GetKeyResponse: {"data": key("f" * 64)},
    UpdateKeysResponse: {"data": key("f" * 64)},
    GetCurrentKeyResponse: {"data": attrs.evolve(CURRENT, budgets=[])},
    CurrentKey: {"allowed_data_regions": ["us"]},
    models.HTTPMeta: {"status": 500},
}


# --- documentation ---


@in_one_test("cls", [each for each in RECORDS if "_Response" not in str(each.__mro__)], ids=name)
def test_every_field_is_documented_with_what_none_and_unset_are(cls: type[Any]) -> None:
    doc = inspect.getdoc(cls) or ""
    notes = dict(re.findall(r"^    (\w+): (.*(?:\n {8}.*)*)", doc, re.MULTILINE))
    assert notes.keys() == attrs.fields_dict(cls).keys()
    for field in attrs.fields(cls):
        kinds, note = get_args(field.type), " ".join(notes.pop(field.name).split())
        assert ("None:" in note) == (NoneType in kinds), field.name
        assert ("UNSET:" in note) == (Unset in kinds), field.name


def test_a_time_of_a_record_is_aware() -> None:
    assert Key.from_dict(KEY.to_dict()).created_at == datetime(2025, 8, 24, 10, 30, tzinfo=UTC)
