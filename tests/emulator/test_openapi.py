"""The emulator's OpenAPI document: served to anybody, whole in itself, and true."""

import json
from collections.abc import Iterable, Iterator
from typing import Any, cast

import aiohttp
import pytest

from openrouter_keys.emulator import Emulator, Fault
from openrouter_keys.emulator.answers import parse
from openrouter_keys.emulator.bodies import changes, creation, list_query
from openrouter_keys.emulator.openapi import DOCUMENT
from openrouter_keys.emulator.records import current_record, key_record
from openrouter_keys.emulator.refusals import Refusal
from tests.tables import in_one_test

WHOLE = cast("dict[str, Any]", json.loads(json.dumps(DOCUMENT)))
SCHEMAS = WHOLE["components"]["schemas"]
OPERATIONS = {
    told["operationId"]: (method.upper(), path, told)
    for path, item in WHOLE["paths"].items()
    for method, told in item.items()
    if method != "parameters"
}
# As the service's own documents have them.
STATUSES = {
    "getCurrentKey": {200, 401, 500},
    "list": {200, 400, 401, 404, 429, 500},
    "createKeys": {201, 400, 401, 403, 429, 500},
    "getKey": {200, 401, 404, 429, 500},
    "updateKeys": {200, 400, 401, 403, 404, 409, 429, 500},
    "deleteKeys": {200, 401, 404, 429, 500},
}
WRONG: dict[str, list[object]] = {
    "string": [1, ""],
    "boolean": ["true", 1],
    "number": ["1", -1],
    "object": [[], {}],
}


def inside(value: object) -> Iterator[dict[str, Any]]:
    """Every object in a JSON value."""
    nested: Iterable[object] = ()
    if isinstance(value, dict):
        told = cast("dict[str, Any]", value)
        yield told
        nested = told.values()
    elif isinstance(value, list):
        nested = cast("list[object]", value)
    for each in nested:
        yield from inside(each)


async def test_anybody_gets_the_document_and_nothing_strikes_it(emulator: Emulator) -> None:
    emulator.faults.append(Fault())
    async with (
        aiohttp.ClientSession() as session,
        session.get(emulator.base_url.removesuffix("/api/v1") + "/openapi.json?x") as response,
    ):
        assert response.status == 200
        assert await response.json() == WHOLE

    assert (emulator.requests, len(emulator.faults)) == ([], 1)


async def test_the_document_is_only_to_be_looked_at(emulator: Emulator) -> None:
    url = emulator.base_url.removesuffix("/api/v1") + "/openapi.json"
    async with aiohttp.ClientSession() as session, session.post(url) as response:
        assert response.status == 404


def test_what_it_refers_to_is_there() -> None:
    for told in inside(WHOLE):
        if "$ref" in told:
            found: Any = WHOLE
            for name in told["$ref"].removeprefix("#/").split("/"):
                found = found[name]
        for link in told.get("links", {}).values():
            assert link["operationId"] in OPERATIONS


@in_one_test("id", STATUSES)
def test_each_operation_has_the_statuses_that_the_service_documents(id: str) -> None:
    assert {*map(int, OPERATIONS[id][2]["responses"])} == STATUSES[id]


def test_its_operations_are_those_of_the_emulator() -> None:
    assert OPERATIONS.keys() == STATUSES.keys()
    routes = [parse(method, f"/api/v1{path}")[0] for method, path, _ in OPERATIONS.values()]
    assert sorted(routes) == ["create", "current", "delete", "get", "list", "update"]


def test_its_records_have_the_fields_that_the_emulator_answers(emulator: Emulator) -> None:
    key = emulator.account.add(limit=1.0)
    current = current_record(key, emulator.account)

    (budget,) = cast("list[dict[str, object]]", current["budgets"])
    assert {*SCHEMAS["Key"]["properties"]} == {*key_record(key, emulator.account)}
    assert {*SCHEMAS["CurrentKey"]["properties"]} == {*current}
    assert {*SCHEMAS["Budget"]["properties"]} == {*budget}


def kinds(schema: dict[str, Any]) -> list[str]:
    """The types that a schema lets be."""
    told = schema.get("type") or [part["type"] for part in schema["anyOf"]]
    return [told] if isinstance(told, str) else cast("list[str]", told)


@in_one_test("field", SCHEMAS["CreateKey"]["properties"])
def test_the_emulator_reads_each_field_that_a_create_is_said_to_have(field: str) -> None:
    check_field(creation, {"name": "x"}, field, SCHEMAS["CreateKey"]["properties"][field])


@in_one_test("field", SCHEMAS["UpdateKey"]["properties"])
def test_the_emulator_reads_each_field_that_an_update_is_said_to_have(field: str) -> None:
    check_field(changes, {}, field, SCHEMAS["UpdateKey"]["properties"][field])


def check_field(read: Any, others: dict[str, object], field: str, schema: dict[str, Any]) -> None:
    """It is refused when it is wrong, and null exactly where the document says so."""
    kind, *null = kinds(schema)
    for wrong in WRONG[kind] + ([] if null else [None]):
        with pytest.raises(Refusal):
            read(others | {field: wrong})
    if null:
        assert read(others | {field: None})[field] is None


@pytest.mark.parametrize("parameter", OPERATIONS["list"][2]["parameters"], ids=lambda p: p["name"])
def test_the_emulator_reads_each_parameter_that_a_list_is_said_to_have(
    parameter: dict[str, Any],
) -> None:
    name, values = parameter["name"], {"boolean": "true", "integer": "7", "string": "w"}
    value = values[parameter["schema"]["type"]]

    assert getattr(list_query({name: value}), name) != getattr(list_query({}), name)


def test_an_offset_may_be_as_large_as_it_is_said_to_be() -> None:
    (offset,) = (each for each in OPERATIONS["list"][2]["parameters"] if each["name"] == "offset")
    largest = offset["schema"]["maximum"]

    assert list_query({"offset": str(largest)}).offset == largest
    with pytest.raises(Refusal):
        list_query({"offset": str(largest + 1)})


@pytest.mark.parametrize(
    ("user", "taken"),
    [
        ("u", True),
        ("a b\u0085", True),
        ("\u001cu", True),
        (" u", False),
        ("u\ufeff", False),
        ("u\u2003", False),
        ("\u0000", False),
        ("u" * 512, True),
        ("u" * 513, False),
    ],
)
def test_an_external_users_white_space_is_what_json_schema_says(user: str, *, taken: bool) -> None:
    body = {"name": "x", "external": {"user": user}}
    if taken:
        assert creation(body)["external_user"] == user
    else:
        with pytest.raises(Refusal):
            creation(body)
