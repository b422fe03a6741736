"""Records in pydantic's models, and in a FastAPI app over its own test client."""

import io
import json
import re
import subprocess
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Annotated, Any, Optional

import fastapi
import pydantic
import pytest
from attrs import evolve
from rich.console import Console

from openrouter_keys.converter import structure
from openrouter_keys.emulator import Emulator
from openrouter_keys.models import (
    Budget,
    CreateKeysResponse,
    CurrentKey,
    GetCurrentKeyResponse,
    GetKeyResponse,
    Key,
    ListResponse,
)
from tests.processes import ROOT
from tests.records import SECRET, current_json, key_json, old_key_json
from tests.tables import in_one_test
from tests.test_converter import RECORDS

testclient = pytest.importorskip("fastapi.testclient", reason="its test client is not here")

KEY = structure(key_json(later={"deep": [1]}), Key)
CURRENT = structure(current_json(), CurrentKey)
CREATED = CreateKeysResponse(data=KEY, key=SECRET, extra={"secret": SECRET})


def name(cls: type[Any]) -> str:
    return cls.__name__


# --- pydantic ---


@in_one_test("cls", RECORDS, ids=name)
def test_pydantic_writes_a_record_as_its_plain_values(cls: type[Any]) -> None:
    record, adapter = structure(RECORDS[cls], cls), pydantic.TypeAdapter(cls)
    assert adapter.validate_python(record) is record
    assert adapter.dump_python(record) == record.to_dict()
    assert json.loads(adapter.dump_json(record)) == record.to_dict()


@in_one_test("cls", [cls for cls in RECORDS if cls is not CreateKeysResponse], ids=name)
def test_pydantic_reads_plain_values_as_a_record(cls: type[Any]) -> None:
    adapter = pydantic.TypeAdapter(cls)
    plain: Any = RECORDS[cls] | {"later": [1]}
    read = adapter.validate_python(plain)
    assert read == structure(plain, cls)
    assert adapter.validate_json(json.dumps(read.to_dict())) == read


@in_one_test(
    "wrong, said",
    [
        (key_json(limit="50"), r"is not a number @ \$\.limit"),
        (key_json(created_at="2025-08-24"), r"is not a timestamp"),
        ({"name": SECRET}, "no field 'hash'"),
        ([], "must be a Key, or an object"),
        ("a key", "must be a Key, or an object"),
        (None, "must be a Key, or an object"),
        (CURRENT, "must be a Key, or an object"),
    ],
)
def test_what_is_no_record_is_refused_by_the_names_of_its_fields(wrong: Any, said: str) -> None:
    with pytest.raises(pydantic.ValidationError, match=said) as refused:
        pydantic.TypeAdapter(Key).validate_python(wrong)
    (error,) = refused.value.errors(include_input=False, include_url=False)
    assert SECRET not in str(error)


def test_a_new_key_is_read_from_no_input() -> None:
    adapter = pydantic.TypeAdapter(CreateKeysResponse)
    for given in (CREATED.to_dict(), CREATED.to_dict(include_secrets=True), SECRET):
        with pytest.raises(pydantic.ValidationError, match="must be a CreateKeysResponse"):
            adapter.validate_python(given)


def test_a_model_holds_records() -> None:
    class Customer(pydantic.BaseModel):
        keys: list[Key]
        current: Optional[CurrentKey] = None  # noqa: UP045 - as users write it
        created: CreateKeysResponse

    customer = Customer(keys=[KEY], created=CREATED)
    assert customer.keys == [KEY]
    plain = {"keys": [KEY.to_dict()], "current": None, "created": CREATED.to_dict()}
    assert json.loads(customer.model_dump_json()) == customer.model_dump() == plain
    assert customer.model_copy(deep=True) == customer
    for shown in (repr(customer), customer.model_dump_json(), str(Customer.model_json_schema())):
        assert SECRET not in shown


@in_one_test("mode", ["validation", "serialization"])
@in_one_test("cls", RECORDS, ids=name)
def test_the_schema_says_what_is_written(cls: type[Any], mode: Any) -> None:
    schema = pydantic.TypeAdapter(cls).json_schema(mode=mode)
    plain = structure(RECORDS[cls], cls).to_dict()
    assert {*schema["required"]} <= {*plain} <= {*schema["properties"]}
    assert schema["additionalProperties"] is True


def test_the_schema_has_each_field_with_its_documentation() -> None:
    schema = pydantic.TypeAdapter(Key).json_schema()
    assert schema["title"] == "Key"
    assert {*schema["properties"]} == {*KEY.to_dict()} - {"later"}
    assert {*schema["required"]} == {*old_key_json()}
    limit = schema["properties"]["limit"]
    assert limit["anyOf"] == [{"type": "number"}, {"type": "null"}]
    assert limit["description"].endswith("None: no limit.")
    assert schema["properties"]["workspace_id"]["type"] == "string"
    assert {"type": "string", "format": "date-time"} in schema["properties"]["expires_at"]["anyOf"]
    assert "key" not in pydantic.TypeAdapter(CreateKeysResponse).json_schema()["properties"]


# --- FastAPI ---


def app() -> Any:
    """A service that returns what the client returned."""
    service = fastapi.FastAPI()
    page = ListResponse(data=[KEY, structure(old_key_json(), Key)])

    @service.get("/keys", response_model=list[Key])
    def keys() -> object:
        return page.data

    @service.get("/page")
    def listed() -> ListResponse:
        return page

    @service.get("/keys/{hash}", response_model=Key)
    def one(hash: str) -> object:
        return evolve(KEY, hash=hash)

    @service.post("/keys", response_model=CreateKeysResponse)
    def create() -> object:
        return CREATED

    @service.get("/current", response_model=GetCurrentKeyResponse)
    async def current() -> object:
        return GetCurrentKeyResponse(data=CURRENT)

    @service.get("/budget")
    def budget() -> Budget | None:
        return None if CURRENT.budgets is None else CURRENT.budgets[0]

    @service.put("/keys", response_model=GetKeyResponse)
    def put(key: Annotated[Key, fastapi.Body()]) -> object:
        assert isinstance(key, Key)
        return GetKeyResponse(data=key)

    return service


def in_rich(record: object) -> str:
    console = Console(file=io.StringIO(), record=True, width=1000)
    console.print(record)
    return console.export_text()


def adapter_of(record: object) -> "pydantic.TypeAdapter[Any]":
    return pydantic.TypeAdapter(type(record))


SHOW: dict[str, Callable[[Any], str]] = {
    "to_dict": lambda record: str(record.to_dict()),
    "HTML": lambda record: str(record._repr_html_()),
    "rich": in_rich,
    "pydantic": lambda record: str(adapter_of(record).dump_json(record)),
    "schema": lambda record: str(adapter_of(record).json_schema()),
}


@in_one_test("how", SHOW)
@in_one_test("field", ["name", "label", "external_user", "later", SECRET])
def test_nothing_that_shows_a_record_shows_a_secret(field: str, how: str) -> None:
    key = structure(key_json(**{field: f"x {SECRET}"}), Key)
    for record in (key, ListResponse(data=[key]), GetKeyResponse(data=key), CREATED):
        assert SECRET not in SHOW[how](record)
    assert SECRET not in SHOW[how](CreateKeysResponse(data=key, key=SECRET))


def guide() -> str:
    """The service of docs/records.md."""
    text = (ROOT / "docs" / "records.md").read_text()
    found = re.search(r"^## FastAPI\n.*?```python\n(.*?)```", text, re.DOTALL | re.MULTILINE)
    assert found is not None
    return found[1]


@pytest.mark.slow
def test_the_service_of_the_guide_returns_keys(
    openrouter_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENROUTER_API_KEY", openrouter_emulator.api_key)
    monkeypatch.setenv("OPENROUTER_BASE_URL", openrouter_emulator.base_url)
    key = openrouter_emulator.account.add("customer-42", limit=5.0)
    service = ModuleType("service")
    exec(guide(), vars(service))
    with testclient.TestClient(service.app) as client:
        listed = client.get("/keys").json()
        assert [(each["name"], each["limit"]) for each in listed] == [("customer-42", 5.0)]
        assert client.get(f"/keys/{key.hash}").json() == listed[0]


@pytest.mark.slow
def test_a_service_returns_records() -> None:
    with testclient.TestClient(app()) as client:
        assert client.get("/keys").json()[0] == KEY.to_dict()
        assert len(client.get("/page").json()["data"]) == 2
        assert client.get("/keys/abc").json() == KEY.to_dict() | {"hash": "abc"}
        assert client.get("/current").json() == {"data": CURRENT.to_dict()}
        assert client.get("/budget").json()["scope"] == "workspace_default_member"

        made = client.post("/keys")
        assert (made.status_code, made.json()) == (200, CREATED.to_dict())
        assert SECRET not in made.text

        assert client.put("/keys", json=KEY.to_dict()).json() == {"data": KEY.to_dict()}
        refused = client.put("/keys", json=key_json(usage="much"))
        assert refused.status_code == 422
        assert "is not a number @ $.usage" in refused.json()["detail"][0]["msg"]

        document = client.get("/openapi.json")
    schemas = document.json()["components"]["schemas"]
    assert {"Key", "CurrentKey", "Budget", "CreateKeysResponse"} <= {*schemas}
    assert schemas["CreateKeysResponse"]["properties"].keys() == {"data"}
    assert SECRET not in document.text


@pytest.mark.slow
def test_pydantic_and_rich_are_imported_by_nothing_here() -> None:
    script = (
        "import sys; from openrouter_keys.models import Key, CreateKeysResponse, ListResponse\n"
        "ListResponse(data=[]).to_dict(), ListResponse(data=[])._repr_html_()\n"
        "print([each for each in ('pydantic', 'pydantic_core', 'rich') if each in sys.modules])"
    )
    words = [sys.executable, "-c", script]
    run = subprocess.run(words, capture_output=True, text=True, check=True, cwd=ROOT)
    assert run.stdout.strip() == "[]"
