"""Flat records: msgspec and the converter's own way come to the same, whatever is sent."""

import json
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openrouter_keys import converter
from openrouter_keys.errors import ResponseValidationError
from openrouter_keys.flat import is_flat
from openrouter_keys.models import (
    CreateKeysResponse,
    CurrentKey,
    GetKeyResponse,
    HTTPMeta,
    Key,
    ListResponse,
    UpdateKeysResponse,
)
from tests.records import key_json, patient

TIMES = ("created_at", "updated_at", "expires_at", "last_used_at")
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


@contextmanager
def without_msgspec() -> Generator[None]:
    readers = [
        hook
        for cls in (Key,)
        if isinstance(hook := converter._converter.get_structure_hook(cls), converter._RecordReader)
    ]
    flat = [reader.flat for reader in readers]
    try:
        for reader in readers:
            reader.flat = None
        yield
    finally:
        for reader, was in zip(readers, flat, strict=True):
            reader.flat = was


def outcome(value: Any) -> tuple[str, object]:
    try:
        read = converter.structure(value, Key)
    except ResponseValidationError as error:
        return "refused", error.message
    times = [getattr(read, name, None) for name in TIMES]
    return repr(read), (read.extra, repr(times), converter.unstructure(read))


@patient
@given(
    changed=st.dictionaries(st.sampled_from([*key_json(), "a_new_field"]), ODD, max_size=4),
    left_out=st.sets(st.sampled_from([*key_json()]), max_size=3),
)
def test_both_ways_come_to_the_same(changed: dict[str, Any], left_out: set[str]) -> None:
    value = {name: item for name, item in {**key_json(), **changed}.items() if name not in left_out}
    fast = outcome(value)
    with without_msgspec():
        slow = outcome(value)
    assert fast == slow


HTTP = HTTPMeta(status=200)


def told(answer: GetKeyResponse) -> tuple[object, ...]:
    times = [repr(getattr(answer.data, name, None)) for name in TIMES]
    return repr(answer), answer.extra, answer.data.extra, times, answer.http


@patient
@given(
    changed=st.dictionaries(st.sampled_from([*key_json(), "a_new_field"]), ODD, max_size=2),
    left_out=st.sets(st.sampled_from([*key_json()]), max_size=2),
    beside=st.dictionaries(st.sampled_from(["extra", "http", "a_new_field"]), ODD, max_size=1),
)
def test_an_answer_that_is_read_at_once_is_what_it_would_be_otherwise(
    changed: dict[str, Any], left_out: set[str], beside: dict[str, Any]
) -> None:
    key = {name: item for name, item in {**key_json(), **changed}.items() if name not in left_out}
    body = json.dumps({"data": key, **beside}).encode()
    at_once = converter.decode_ordinary(body, GetKeyResponse, HTTP)
    if at_once is not None:
        with without_msgspec():
            assert told(at_once) == told(converter.decode(body, GetKeyResponse).over(HTTP))


@pytest.mark.parametrize(
    ("cls", "answer"),
    [
        (GetKeyResponse, {"data": key_json()}),
        (UpdateKeysResponse, {"data": key_json()}),
        (ListResponse, {"data": [key_json(), key_json()]}),
        (CreateKeysResponse, {"data": key_json(), "key": "sk-or-v1-5e"}),
    ],
)
def test_an_ordinary_answer_is_read_at_once(cls: type, answer: dict[str, Any]) -> None:
    body = json.dumps(answer).encode()
    assert converter.decode_ordinary(body, cls, HTTP) == converter.structure(answer, cls)


@pytest.mark.parametrize(
    "answer",
    [
        {"data": {**key_json(), "a_new_field": 1}},
        {"data": {**key_json(), "extra": {}}},
        {"data": {**key_json(), "expires_at": "2025-08-24T12:30:00+02:00"}},
        {"data": key_json(), "a_new_field": 1},
        {"data": key_json(), "http": {}},
    ],
)
def test_what_is_out_of_the_ordinary_is_left_to_the_converter(answer: dict[str, Any]) -> None:
    assert converter.decode_ordinary(json.dumps(answer).encode(), GetKeyResponse, HTTP) is None


def test_a_page_is_read_as_its_keys_are() -> None:
    odd = {**key_json(), "a_new_field": 1, "created_at": "2025-08-24T12:30:00+02:00"}
    for page in ([key_json()] * 3, [key_json(), odd]):
        listed: Any = {"data": page}
        read = converter.structure(listed, ListResponse)
        assert read.data == [converter.structure(key, Key) for key in page]


@pytest.mark.parametrize(("cls", "flat"), [(Key, True), (CurrentKey, False)])
def test_only_records_without_records_inside_are_flat(cls: type, flat: bool) -> None:
    assert is_flat(cls, ("extra",)) is flat


def test_the_annotations_are_as_they_were_written() -> None:
    assert "Unset" in str(Key.__annotations__["expires_at"])
