import copy
import hashlib
import inspect
import json
import pickle
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openrouter_keys import UNSET
from openrouter_keys.converter import encode
from openrouter_keys.errors import InvalidArgumentError
from openrouter_keys.journal.specs import KeySpec, changed
from openrouter_keys.models import CreateKeysRequest, External
from tests.tables import in_one_test

PARTNER_KEY = "partner-canary-0123456789abcdef0123456789"
NOON = datetime(2027, 12, 31, 12, tzinfo=UTC)


def spec(**given: Any) -> KeySpec:
    wanted: dict[str, Any] = {"ref": "42", "name": "customer-42", **given}
    return KeySpec(**wanted)


def test_it_has_the_fields_of_a_create_a_ref_and_what_only_an_update_can_do() -> None:
    ours = {f.name: f.default for f in attrs.fields(KeySpec) if f.init}
    theirs = {f.name: f.default for f in attrs.fields(CreateKeysRequest)}
    assert ours == {"ref": attrs.NOTHING, **theirs, "disabled": False}
    assert list(inspect.signature(KeySpec).parameters) == ["ref", *theirs, "disabled"]


def test_its_request_has_what_was_given_and_nothing_else() -> None:
    request = spec(limit=None, workspace_id="w").request()
    assert json.loads(encode(request)) == {
        "name": "customer-42",
        "limit": None,
        "workspace_id": "w",
    }


@in_one_test(
    "given, argument",
    [
        ({"ref": ""}, "ref"),
        ({"ref": 42}, "ref"),
        ({"ref": "\ud800"}, "ref"),
        ({"name": ""}, "name"),
        ({"limit": float("nan")}, "limit"),
        ({"limit_reset": "hourly"}, "limit_reset"),
        ({"expires_at": datetime(2027, 1, 1)}, "expires_at"),
        ({"creator_user_id": ""}, "creator_user_id"),
        ({"external": {"user": "u", "api_key": "short"}}, "external.api_key"),
    ],
)
def test_bad_input_is_refused_when_the_spec_is_made(
    given: Mapping[str, object], argument: str
) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        spec(**given)
    assert caught.value.argument == argument


def test_the_plan_holds_a_hash_in_place_of_the_partners_key() -> None:
    planned = spec(external={"user": "u", "api_key": PARTNER_KEY})
    hashed = hashlib.sha256(PARTNER_KEY.encode()).hexdigest()
    assert json.loads(planned.plan)["external"] == {"user": "u", "api_key_sha256": hashed}
    assert PARTNER_KEY not in planned.plan + repr(planned) + repr(planned.request())


def test_a_changed_partner_key_is_a_changed_plan() -> None:
    one = spec(external={"user": "u", "api_key": PARTNER_KEY})
    other = spec(external={"user": "u", "api_key": PARTNER_KEY + "!"})
    assert changed(one.plan, other.plan) == ("external",)


def test_the_plan_is_without_the_ref() -> None:
    assert spec(ref="1").plan == spec(ref="2").plan
    assert spec().plan == '{"name":"customer-42"}'


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"limit": 50}, {"limit": 50.0}),
        ({"limit": 0.0}, {"limit": -0.0}),
        (
            {"expires_at": NOON},
            {"expires_at": NOON.astimezone(timezone(timedelta(hours=5, minutes=30)))},
        ),
        ({"external": {"user": "u"}}, {"external": External(user="u")}),
        ({"limit": UNSET}, {}),
    ],
)
def test_the_same_wish_in_other_words_is_the_same_plan(
    one: Mapping[str, object], other: Mapping[str, object]
) -> None:
    assert spec(**one).plan == spec(**other).plan


@in_one_test(
    "field, values",
    [
        ("name", ("a", "b")),
        ("limit", (UNSET, None, 0, 50)),
        ("limit_reset", (UNSET, None, "daily")),
        ("include_byok_in_limit", (None, True, False)),
        ("expires_at", (UNSET, None, NOON)),
        ("creator_user_id", (UNSET, None, "user")),
        ("workspace_id", (None, "w")),
        ("external", (None, {"user": "u"})),
    ],
)
def test_each_field_is_part_of_the_plan(field: str, values: tuple[object, ...]) -> None:
    assert len({spec(**{field: value}).plan for value in values}) == len(values)


def test_a_change_is_told_by_its_fields() -> None:
    before, after = spec(limit=5, workspace_id="w"), spec(limit=6, limit_reset=None)
    assert changed(before.plan, after.plan) == ("limit", "limit_reset", "workspace_id")
    assert changed(before.plan, before.plan) == ()


@pytest.mark.slow
@given(st.text(min_size=1), st.one_of(st.none(), st.floats(0, 1e300), st.integers(0, 2**70)))
def test_any_plan_reads_back_as_what_was_asked(name: str, limit: float | None) -> None:
    plan = json.loads(spec(name=name, limit=limit).plan)
    assert plan == {"limit": limit if limit is None else float(limit), "name": name}


def test_it_can_be_copied_and_pickled_but_not_with_a_partners_key() -> None:
    plain = spec(limit=5)
    _ = plain.plan
    assert copy.deepcopy(plain) == plain == pickle.loads(pickle.dumps(plain))
    with pytest.raises(TypeError, match="never pickled"):
        pickle.dumps(spec(external={"user": "u", "api_key": PARTNER_KEY}))
