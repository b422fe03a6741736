import copy
import inspect
import pickle
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import attrs
import pytest
from multidict import CIMultiDict

from openrouter_keys import models
from openrouter_keys._base.unset import UNSET
from openrouter_keys.converter import structure
from openrouter_keys.errors import InvalidArgumentError
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
    external_of,
)
from tests.records import (
    PARTNER_SECRET,
    SECRET,
    budget_json,
    current_json,
    free_requests_json,
    key,
    key_json,
    rate_limit_json,
)
from tests.tables import in_one_test

HTTP = HTTPMeta(status=200, headers=CIMultiDict({"Date": "now"}), attempts=2, elapsed=0.5)
KEY = structure(key_json(later="added"), Key)
CURRENT = structure(current_json(), CurrentKey)
EXTERNAL = External("acme", PARTNER_SECRET)

OPEN: list[Any] = [
    KEY,
    CURRENT,
    structure(budget_json(), Budget),
    structure(rate_limit_json(), RateLimit),
    structure(free_requests_json(), FreeModelDailyRequests),
    HTTP,
    ListResponse(data=[KEY], http=HTTP),
    GetKeyResponse(data=KEY, http=HTTP),
    UpdateKeysResponse(data=KEY, extra={"later": [1]}, http=HTTP),
    DeleteKeysResponse(deleted=True, http=HTTP),
    GetCurrentKeyResponse(data=CURRENT, http=HTTP),
    CreateKeysRequest(name="n", limit=None),
    UpdateKeysRequest(limit=None),
]
SECRETIVE: list[Any] = [
    CreateKeysResponse(data=KEY, key=SECRET, http=HTTP),
    EXTERNAL,
    CreateKeysRequest(name="n", external=EXTERNAL),
]


def name(record: object) -> str:
    return type(record).__name__


def test_every_public_record_is_looked_at_here() -> None:
    classes = {
        name for name, _ in inspect.getmembers(models, attrs.has) if not name.startswith("_")
    }
    assert classes == {type(record).__name__ for record in OPEN + SECRETIVE}


@in_one_test("record", OPEN + SECRETIVE, ids=name)
def test_a_record_is_frozen(record: Any) -> None:
    for field in attrs.fields(record.__class__):
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            setattr(record, field.name, None)
    with pytest.raises(AttributeError):
        record.limt = 5


@in_one_test("record", OPEN, ids=name)
@in_one_test("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_record_without_a_secret_survives_a_pickle(record: object, protocol: int) -> None:
    again = pickle.loads(pickle.dumps(record, protocol))  # our own
    assert again == record
    assert repr(again) == repr(record)


def test_what_happened_on_the_wire_survives_a_pickle_too() -> None:
    answer = GetKeyResponse(data=KEY, http=HTTP)
    again = pickle.loads(pickle.dumps(answer))  # our own
    assert again.http == HTTP
    assert again.http.headers["DATE"] == "now"


@in_one_test("record", SECRETIVE, ids=name)
@in_one_test("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_secret_is_never_pickled(record: object, protocol: int) -> None:
    with pytest.raises(TypeError, match="never pickled") as refused:
        pickle.dumps([record], protocol)
    assert "fa4e" * 16 not in str(refused.value)
    assert PARTNER_SECRET not in str(refused.value)


@in_one_test("record", OPEN + SECRETIVE, ids=name)
def test_a_copy_is_the_same(record: object) -> None:
    assert copy.copy(record) == record
    assert copy.deepcopy([record]) == [record]


@pytest.mark.parametrize("record", SECRETIVE, ids=name)
def test_a_secret_is_masked_wherever_a_record_shows(record: object) -> None:
    for shown in (repr(record), str(record), f"{[record]}"):
        assert SECRET not in shown
        assert PARTNER_SECRET not in shown


def test_the_mask_is_that_of_the_services_labels() -> None:
    assert "key=sk-or-v1-fa4...fa4e" in repr(SECRETIVE[0])


def test_the_secret_itself_is_there() -> None:
    assert (SECRETIVE[0].key, EXTERNAL.api_key) == (SECRET, PARTNER_SECRET)


def test_only_what_was_given_is_set() -> None:
    request = CreateKeysRequest(name="n")
    left_out = (request.limit, request.limit_reset, request.expires_at, request.creator_user_id)
    assert left_out == (UNSET,) * 4
    absent = (request.include_byok_in_limit, request.workspace_id, request.external)
    assert absent == (None,) * 3


def test_a_key_made_without_the_newer_fields_says_that_they_are_absent() -> None:
    old = key()
    newer = (old.expires_at, old.creator_user_id, old.external_user, old.last_used_at)
    assert newer == (UNSET,) * 4
    assert (old.workspace_id, dict(old.extra)) == (None, {})


def test_the_official_sdks_unset_is_ours() -> None:
    theirs: Any = type("Unset", (), {"__module__": "openrouter.types.basemodel"})()
    for cls, needed in ((CreateKeysRequest, "name"), (UpdateKeysRequest, "disabled")):
        given: dict[str, Any] = dict.fromkeys(attrs.fields_dict(cls), theirs)
        some: dict[str, Any] = {needed: "n" if needed == "name" else True}
        assert cls(**{**given, **some}) == cls(**some)
    another: Any = type("Unset", (), {})()
    with pytest.raises(InvalidArgumentError, match="limit"):
        CreateKeysRequest(name="n", limit=another)


def test_a_partners_identity_may_be_a_dictionary() -> None:
    request = CreateKeysRequest(name="n", external={"user": "acme", "api_key": PARTNER_SECRET})
    assert request.external == EXTERNAL
    assert external_of({"user": "acme"}) == External("acme")
    assert external_of(EXTERNAL) is EXTERNAL
    assert external_of(None) is None


@pytest.mark.parametrize("external", [{"users": "acme"}, {"user": "acme", "key": "k"}, "acme", 7])
def test_another_shape_of_a_partners_identity_is_refused(external: Any) -> None:
    with pytest.raises(InvalidArgumentError, match=r"external: .*`user`"):
        external_of(external)


@in_one_test("record", [r for r in OPEN + SECRETIVE if hasattr(r, "http")], ids=name)
def test_what_happened_on_the_wire_is_no_part_of_what_was_answered(record: Any) -> None:
    placed = attrs.evolve(record, http=HTTPMeta(status=201, attempts=1))
    assert placed.http != record.http
    assert placed == record


def test_headers_do_not_show() -> None:
    assert "now" not in repr(HTTP)


def test_two_answers_without_extras_share_nothing_that_could_be_changed() -> None:
    first, second = DeleteKeysResponse(deleted=True), DeleteKeysResponse(deleted=True)
    extra: Mapping[str, object] = first.extra
    assert extra is not second.extra


def test_times_of_a_key_are_in_utc() -> None:
    assert KEY.created_at == datetime(2025, 8, 24, 10, 30, tzinfo=UTC)
    assert KEY.created_at.tzinfo is UTC


def test_keys_go_into_a_set() -> None:
    assert len({key(), key(), key("other")}) == 2


def test_a_repr_begins_with_what_is_the_records_own() -> None:
    assert repr(key()).startswith("Key(hash=")
