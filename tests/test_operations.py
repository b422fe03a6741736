import json
import logging
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openrouter_keys import operations
from openrouter_keys._base.made_keys import MadeKey
from openrouter_keys._base.unset import UNSET
from openrouter_keys._protocol.answers import Answer, ErrorInSuccessError
from openrouter_keys._protocol.retries import Effect
from openrouter_keys.errors import (
    JSON,
    CreatedKeyUnreadableError,
    MalformedBodyError,
    ResponseValidationError,
    SecretLostError,
)
from openrouter_keys.models import (
    CreateKeysRequest,
    CreateKeysResponse,
    HTTPMeta,
    Key,
    UpdateKeysRequest,
)
from openrouter_keys.operations import Operation
from tests.records import (
    HASH,
    PARTNER_SECRET,
    SECRET,
    answer,
    current_json,
    key_json,
    old_key_json,
    patient,
    without,
)
from tests.tables import in_one_test

CREATE = operations.create(CreateKeysRequest(name="customer-42", workspace_id="w-1"))
UPDATE = operations.update(HASH, UpdateKeysRequest(limit=None))
LATER = datetime(2028, 1, 1, 1, 59, 59, tzinfo=timezone(timedelta(hours=2)))


def asked(operation: Operation[Any]) -> tuple[str, str, bytes | None]:
    return operation.method, operation.path, operation.body


def body(value: JSON) -> bytes:
    return json.dumps(value).encode()


def read(operation: Operation[Any], value: JSON, status: int = 200) -> Any:
    return operation.read(answer(body(value), status))


# --- what is sent ---


def test_the_current_key_is_asked_for() -> None:
    assert asked(operations.current()) == ("GET", "/key", None)


@in_one_test(
    "arguments, path",
    [
        ({}, "/keys"),
        ({"include_disabled": None, "offset": None, "workspace_id": None}, "/keys"),
        ({"include_disabled": "false", "offset": "0"}, "/keys?include_disabled=false&offset=0"),
        ({"include_disabled": False, "offset": 0}, "/keys?include_disabled=false&offset=0"),
        ({"include_disabled": True}, "/keys?include_disabled=true"),
        ({"include_expired": True}, "/keys?include_expired=true"),
        ({"workspace_id": "a&b=c d/é"}, "/keys?workspace_id=a%26b%3Dc+d%2F%C3%A9"),
        (
            {"offset": 90, "workspace_id": "w-1", "include_expired": "true"},
            "/keys?include_expired=true&offset=90&workspace_id=w-1",
        ),
    ],
)
def test_a_list_is_asked_for(arguments: dict[str, Any], path: str) -> None:
    assert asked(operations.list_(**arguments)) == ("GET", path, None)


def test_a_key_is_asked_for() -> None:
    assert asked(operations.get(HASH)) == ("GET", f"/keys/{HASH}", None)


def test_a_key_is_deleted() -> None:
    assert asked(operations.delete(HASH)) == ("DELETE", f"/keys/{HASH}", None)


@in_one_test(
    "fields, sent",
    [
        ({}, b'{"name":"n"}'),
        ({"limit": None}, b'{"name":"n","limit":null}'),
        ({"limit": 50}, b'{"name":"n","limit":50}'),
        (
            {"limit": 0.5, "limit_reset": "monthly"},
            b'{"name":"n","limit":0.5,"limit_reset":"monthly"}',
        ),
        ({"limit_reset": None}, b'{"name":"n","limit_reset":null}'),
        ({"include_byok_in_limit": False}, b'{"name":"n","include_byok_in_limit":false}'),
        ({"include_byok_in_limit": None}, b'{"name":"n"}'),
        ({"expires_at": LATER}, b'{"name":"n","expires_at":"2027-12-31T23:59:59Z"}'),
        ({"expires_at": None}, b'{"name":"n","expires_at":null}'),
        ({"creator_user_id": "user_2"}, b'{"name":"n","creator_user_id":"user_2"}'),
        ({"creator_user_id": None}, b'{"name":"n","creator_user_id":null}'),
        ({"workspace_id": "w-1"}, b'{"name":"n","workspace_id":"w-1"}'),
        ({"external": {"user": "acme"}}, b'{"name":"n","external":{"user":"acme"}}'),
        (
            {"external": {"user": "acme", "api_key": "k" * 32}},
            b'{"name":"n","external":{"user":"acme","api_key":"' + b"k" * 32 + b'"}}',
        ),
    ],
)
def test_a_create_sends_what_is_given(fields: dict[str, Any], sent: bytes) -> None:
    operation = operations.create(CreateKeysRequest(name="n", **fields))
    assert asked(operation) == ("POST", "/keys", sent)


@in_one_test(
    "fields, sent",
    [
        ({"limit": None}, b'{"limit":null}'),
        ({"limit": 0}, b'{"limit":0}'),
        ({"limit_reset": None}, b'{"limit_reset":null}'),
        ({"limit_reset": "daily"}, b'{"limit_reset":"daily"}'),
        ({"name": "new", "limit": UNSET}, b'{"name":"new"}'),
        ({"disabled": False}, b'{"disabled":false}'),
        ({"include_byok_in_limit": True}, b'{"include_byok_in_limit":true}'),
        ({"workspace_id": "w-2", "name": None}, b'{"workspace_id":"w-2"}'),
    ],
)
def test_an_update_sends_what_is_given_and_nothing_else(
    fields: dict[str, Any], sent: bytes
) -> None:
    operation = operations.update("abc", UpdateKeysRequest(**fields))
    assert asked(operation) == ("PATCH", "/keys/abc", sent)


def test_a_partners_key_is_known_as_a_secret_and_does_not_show() -> None:
    external = {"user": "acme", "api_key": PARTNER_SECRET}
    operation = operations.create(CreateKeysRequest(name="n", external=external))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType] # attrs' converter takes it
    assert operation.secrets == (PARTNER_SECRET,)
    assert PARTNER_SECRET not in repr(operation)
    assert CREATE.secrets == ()


EFFECTS: list[tuple[Operation[Any], str, Effect]] = [
    (operations.current(), "get_current_key_metadata", Effect.READ),
    (operations.list_(), "list", Effect.READ),
    (operations.get(HASH), "get", Effect.READ),
    (CREATE, "create", Effect.CREATE),
    (UPDATE, "update", Effect.UPDATE),
    (operations.delete(HASH), "delete", Effect.DELETE),
]


@in_one_test("operation, name, effect", EFFECTS)
def test_an_operation_knows_its_name_and_what_it_does_to_the_account(
    operation: Operation[Any], name: str, effect: Effect
) -> None:
    assert (operation.name, operation.effect) == (name, effect)


def test_only_a_create_can_leave_a_key_that_nobody_knows_of() -> None:
    for operation, name, _ in EFFECTS:
        assert (operation.outcome_unknown is None) is (name != "create")
        assert (operation.made is None) is (name != "create")


def test_an_unknown_outcome_says_which_key_to_look_for() -> None:
    assert CREATE.outcome_unknown is not None
    error = CREATE.outcome_unknown("")
    assert (error.name, error.workspace_id, error.maybe_applied) == ("customer-42", "w-1", True)
    assert "'customer-42'" in str(error)


# --- successes ---


def test_a_page_of_keys_is_read() -> None:
    page = read(operations.list_(), {"data": [key_json(), old_key_json(hash="0" * 64)]})
    assert [key.hash for key in page.data] == [HASH, "0" * 64]


def test_one_key_is_read() -> None:
    assert read(operations.get(HASH), {"data": key_json()}).data.name == "customer-42"


def test_the_current_key_is_read() -> None:
    current = read(operations.current(), {"data": current_json()}).data
    assert current.is_management_key
    assert current.effective_budget.limit_usd == 100.0


@in_one_test("operation, name, effect", EFFECTS)
def test_an_answer_carries_what_happened_on_the_wire(
    operation: Operation[Any], name: str, effect: Effect
) -> None:
    data: dict[str, JSON] = {
        "get_current_key_metadata": current_json(),
        "list": [key_json()],
    }
    value: JSON = {"data": data.get(name, key_json()), "key": SECRET, "deleted": True, "later": 1}
    http = HTTPMeta(status=207, headers={"Date": "now"}, attempts=2, elapsed=0.5)
    result = operation.read(Answer(body(value), http))
    assert result.http is http
    assert result.extra["later"] == 1


def test_an_unreadable_update_is_read_back_by_a_get() -> None:
    get = UPDATE.read_back
    assert get is not None
    assert asked(get) == ("GET", f"/keys/{HASH}", None)
    assert (get.name, get.effect) == ("get", Effect.READ)
    assert type(read(get, {"data": key_json()})) is type(read(UPDATE, {"data": key_json()}))


def test_an_unreadable_delete_is_read_back_by_a_get() -> None:
    get = operations.delete(HASH).read_back
    assert get is not None
    assert asked(get) == ("GET", f"/keys/{HASH}", None)
    assert (get.name, get.effect) == ("get", Effect.READ)
    assert get.gone is not None
    assert get.gone(answer(b"", 404)).deleted is True
    with pytest.raises(ResponseValidationError, match="the key is there"):
        read(get, {"data": key_json()})


@pytest.mark.parametrize("other", [operations.get(HASH), operations.list_(), CREATE])
def test_nothing_else_is_read_back(other: Operation[Any]) -> None:
    assert other.read_back is None


@in_one_test("raw", [b"", b'{"data": {"hash": "', b"<html>", b"\xff"])
@in_one_test("operation", [operations.current(), operations.list_(), operations.get(HASH), UPDATE])
def test_a_cut_body_is_malformed(operation: Operation[Any], raw: bytes) -> None:
    with pytest.raises(MalformedBodyError):
        operation.read(answer(raw))


@pytest.mark.parametrize("raw", [b'{"deleted": true}', b'{"deleted": true, "error": {"code": 1}}'])
def test_a_delete_succeeds_by_its_word(raw: bytes) -> None:
    deleted = operations.delete(HASH).read(answer(raw, 202))
    assert (deleted.deleted, deleted.http.status) == (True, 202)


@in_one_test("raw", [b'{"deleted": tr', b"", b"<html>", b"{}", b"[]", b"true", b'{"deleted": 1}'])
def test_a_delete_succeeds_by_nothing_less(raw: bytes) -> None:
    with pytest.raises(ResponseValidationError, match="delete it again"):
        operations.delete(HASH).read(answer(raw, 200))


def test_a_delete_that_says_no_is_believed() -> None:
    assert read(operations.delete(HASH), {"deleted": False}).deleted is False


def test_a_key_that_is_gone_was_deleted() -> None:
    gone = operations.delete(HASH).gone
    assert gone is not None
    assert gone(answer(b"", 404)).deleted is True
    assert all(operation.gone is None for operation, name, _ in EFFECTS if name != "delete")


ERRORS: dict[str, JSON] = {
    "an object": {"code": 500, "message": "no"},
    "a text": "no",
    "without a code": {"message": "no"},
    "without a message": {"code": 500},
}


@in_one_test("error", ERRORS.values(), ids=ERRORS)
@in_one_test(
    "operation",
    [
        operations.current(),
        operations.list_(),
        operations.get(HASH),
        UPDATE,
        CREATE,
        operations.delete(HASH),
    ],
    ids=lambda operation: operation.name,
)
def test_an_error_under_the_status_of_a_success_is_one(
    operation: Operation[Any], error: JSON
) -> None:
    for beside in ({}, {"data": None}, {"deleted": False}):
        with pytest.raises(ErrorInSuccessError):
            read(operation, {"error": error, **beside})


def test_an_error_beside_what_was_asked_for_is_one() -> None:
    with pytest.raises(ErrorInSuccessError):
        read(operations.list_(), {"data": [], "error": {"code": 500, "message": "no"}})
    with pytest.raises(ErrorInSuccessError):
        read(operations.get(HASH), {"data": key_json(), "error": "no"})


@in_one_test("error", [None, False, "", {}, [], 0])
def test_an_error_that_says_nothing_is_none(error: JSON) -> None:
    assert read(operations.list_(), {"data": [], "error": error}).data == []


def test_a_secret_beside_an_error_is_not_lost() -> None:
    value: JSON = {"data": key_json(), "key": SECRET, "error": {"code": 500, "message": "no"}}
    assert read(CREATE, value).key == SECRET


# --- a create's secret ---


def created(value: JSON, status: int = 201) -> CreateKeysResponse:
    result = read(CREATE, value, status)
    assert isinstance(result, CreateKeysResponse)
    return result


@pytest.mark.parametrize("status", [200, 201, 202, 203, 207])
def test_any_success_gives_the_secret(status: int) -> None:
    answered = created({"data": key_json(), "key": SECRET}, status)
    assert (answered.key, answered.data.hash, answered.http.status) == (SECRET, HASH, status)


def test_a_key_made_is_known_by_its_hash() -> None:
    assert CREATE.made is not None
    assert CREATE.made(created({"data": key_json(), "key": SECRET})) == MadeKey(HASH, HASH)


@in_one_test(
    "value",
    [
        {"data": key_json(), "key": SECRET},
        {"data": key_json(key=SECRET)},
        {"data": key_json(key=SECRET), "key": SECRET},
        {"data": key_json(key=SECRET), "key": None},
        {"data": key_json(key=SECRET), "key": ""},
        {"data": key_json(key=None), "key": SECRET, "later": 1},
    ],
)
def test_a_secret_is_found_and_is_nowhere_else(value: dict[str, JSON]) -> None:
    answered = created(value)
    assert answered.key == SECRET
    assert "key" not in answered.extra
    assert "key" not in answered.data.extra
    assert SECRET not in repr(answered) + str(answered.extra) + str(answered.data.extra)


@pytest.mark.parametrize(
    "changes", [{"expires_at": 7}, {"workspace_id": None}, {"external_user": ["odd"]}]
)
def test_odd_newer_fields_do_not_matter(changes: dict[str, JSON]) -> None:
    answered = created({"data": key_json(**changes), "key": SECRET})
    assert answered.key == SECRET
    assert answered.data.extra == changes


def test_missing_newer_fields_do_not_matter() -> None:
    assert created({"data": old_key_json(), "key": SECRET}).data.expires_at is UNSET


def unreadable(raw: bytes) -> CreatedKeyUnreadableError:
    with pytest.raises(CreatedKeyUnreadableError) as caught:
        CREATE.read(answer(raw, 201))
    error = caught.value
    assert SECRET not in str(error) + repr(error)
    assert error.__context__ is None
    return error


@in_one_test(
    "value, hash",
    [
        ({"data": without(key_json(hash="ab"), "usage"), "key": SECRET}, "ab"),
        ({"data": without(key_json(), "hash", "name"), "key": SECRET}, HASH),
        ({"data": key_json(hash=7), "key": SECRET}, HASH),
        ({"data": key_json(name=None, key=SECRET)}, HASH),
        ({"data": None, "key": SECRET}, HASH),
        ({"data": [], "key": SECRET}, HASH),
        ({"key": SECRET}, HASH),
    ],
)
def test_a_record_that_does_not_read_leaves_the_secret_in_the_error(value: JSON, hash: str) -> None:
    error = unreadable(body(value))
    assert (error.key, error.hash, error.maybe_applied) == (SECRET, hash, True)


WHOLE = body({"data": key_json(), "key": SECRET})
END_OF_SECRET = WHOLE.index(SECRET.encode()) + len(SECRET) + 1


def test_a_cut_body_with_the_whole_secret_in_it_is_salvaged() -> None:
    for end in range(END_OF_SECRET, len(WHOLE)):
        error = unreadable(WHOLE[:end])
        assert (error.key, error.hash) == (SECRET, HASH)


def test_a_secret_that_comes_first_is_salvaged_with_its_own_hash() -> None:
    raw = body({"key": SECRET, "data": key_json()})
    error = unreadable(raw[: raw.index(b'"data"')])
    assert (error.key, error.hash) == (SECRET, HASH)


@pytest.mark.parametrize("gap", [b"", b" ", b" \n\t "])
def test_a_secret_is_salvaged_whatever_the_white_space(gap: bytes) -> None:
    raw = b'{"data": {}, "key"' + gap + b":" + gap + b'"' + SECRET.encode() + b'"'
    assert unreadable(raw).key == SECRET


def test_a_secret_is_salvaged_from_a_body_with_garbage_in_it() -> None:
    assert unreadable(b'{"later": NaN, ' + WHOLE[1:]).key == SECRET
    assert unreadable(b'{"later": "\xff", ' + WHOLE[1:]).key == SECRET
    deep = b'{"later": ' + b"[" * 100_000 + b', "key": "%s"' % SECRET.encode()
    assert unreadable(deep).key == SECRET


def lost(raw: bytes) -> SecretLostError:
    with pytest.raises(SecretLostError) as caught:
        CREATE.read(answer(raw, 201))
    error = caught.value
    assert (error.name, error.workspace_id) == ("customer-42", "w-1")
    assert error.maybe_applied
    assert error.__context__ is None
    return error


@pytest.mark.slow
def test_a_body_cut_before_the_end_of_the_secret_has_lost_it() -> None:
    for end in range(END_OF_SECRET):
        error = lost(WHOLE[:end])
        whole = WHOLE[:end].find(f'"{HASH}"'.encode()) >= 0
        assert error.hash == (HASH if whole else None)
        assert "fa4e" * 4 not in str(error) + repr(error)


@pytest.mark.parametrize(
    "value",
    [
        {"data": key_json()},
        {"data": key_json(), "key": None},
        {"data": key_json(), "key": ""},
        {"data": key_json(), "key": 7},
        {"data": key_json(key={"secret": "another"})},
    ],
)
def test_an_answer_without_a_secret_has_lost_it_and_tells_the_hash(value: JSON) -> None:
    error = lost(body(value))
    assert error.hash == HASH
    assert HASH in str(error)


@in_one_test("value", [None, [], "created", 7, {}, {"data": {"hash": 7}}])
def test_an_answer_of_another_shape_has_lost_the_secret(value: JSON) -> None:
    error = lost(body(value))
    assert error.hash is None
    assert "'customer-42'" in str(error)


def test_a_hash_that_is_not_that_of_the_secret_only_warns(
    caplog: pytest.LogCaptureFixture,
) -> None:
    data = key_json(hash="f01d52606dc8f0a8", workspace_id="w-1")
    answered = created({"data": data, "key": SECRET})
    assert (answered.key, answered.data.hash) == (SECRET, "f01d52606dc8f0a8")
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("openrouter_keys", logging.WARNING)
    assert "f01d52606dc8f0a8" in record.getMessage()
    assert SECRET not in caplog.text


def test_a_hash_cannot_forge_a_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    created({"data": key_json(hash="a\nWARNING b\ud800"), "key": SECRET})
    assert "\n" not in caplog.messages[0]
    assert caplog.messages[0].isascii()


def test_the_right_hash_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    created({"data": key_json(workspace_id="w-1"), "key": SECRET})
    assert caplog.records == []


def damaged(start: int, end: int, middle: bytes) -> bytes:
    return WHOLE[:start] + middle + WHOLE[end:]


RAW = st.binary() | st.builds(
    damaged,
    st.integers(0, len(WHOLE)),
    st.integers(0, len(WHOLE)),
    st.binary(max_size=6) | st.sampled_from([b"\\ud800", b"NaN", b"[" * 3000, b'"key":"k"']),
)


@pytest.mark.slow
@patient
@given(RAW)
def test_whatever_a_create_is_answered_its_secret_is_handed_over_or_told_lost(raw: bytes) -> None:
    try:
        key = CREATE.read(answer(raw, 201)).key
    except SecretLostError:
        key = None
    except CreatedKeyUnreadableError as error:
        key = error.key
    assert key != ""
    if f'"key": "{SECRET}"'.encode() in raw and raw.count(b'"key"') == 1:
        assert key == SECRET


def test_a_secret_of_half_a_surrogate_pair_is_handed_over_too() -> None:
    assert unreadable(b'{"key": "\\ud800"}').key == "\ud800"


@pytest.mark.slow
@patient
@given(
    st.sampled_from([operations.current(), operations.list_(), operations.get(HASH), UPDATE]),
    st.binary(),
)
def test_garbage_is_never_taken_for_an_answer(operation: Operation[Any], raw: bytes) -> None:
    with pytest.raises(ResponseValidationError):
        operation.read(answer(raw))


def test_reading_a_key_twice_gives_equal_records() -> None:
    first, second = (read(operations.get(HASH), {"data": key_json()}).data for _ in range(2))
    assert isinstance(first, Key)
    assert first == second
    assert first.created_at == datetime(2025, 8, 24, 10, 30, tzinfo=UTC)


WRONG: dict[str, tuple[dict[str, Any], dict[str, JSON], str]] = {
    "no limit": ({"limit": 5}, {"limit": None}, "limit"),
    "disabled": ({}, {"disabled": True}, "disabled"),
    "two": ({"limit_reset": "daily"}, {"name": "b", "limit_reset": None}, "name, limit_reset"),
    "another workspace": ({"workspace_id": "w"}, {}, "workspace_id"),
    "a steering hash": ({"limit": 5}, {"hash": "\x1b[2J", "limit": 6}, "limit"),
    "nothing": ({"limit": 5}, {"limit": 5}, ""),
    "nothing that was asked for": ({}, {"limit": 5, "limit_reset": "daily"}, ""),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_key_that_is_not_as_asked_for_is_warned_of_and_handed_over(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    asked, shown, fields = WRONG[name]
    operation = operations.create(CreateKeysRequest(name="customer-42", **asked))
    read = operation.read(answer(body({"data": key_json(**shown), "key": SECRET}), 201))
    assert read.key == SECRET
    told = [record.getMessage() for record in caplog.records if "asked" in record.msg]
    assert all("\x1b" not in each for each in told)
    assert [each.rpartition(": ")[2] for each in told] == ([fields] if fields else [])


def test_a_log_that_fails_takes_no_secret_away(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError

    monkeypatch.setattr("openrouter_keys.operations._log.warning", broken)
    operation = operations.create(CreateKeysRequest(name="another", limit=7))
    assert operation.read(answer(body({"data": key_json(), "key": SECRET}), 201)).key == SECRET
