"""A record that is read back from a journal is the one that was written."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openrouter_keys.converter import decode, encode, structure
from openrouter_keys.journal.records import text_of
from openrouter_keys.models import Key
from tests.records import Object, key_json, without

TEXTS = st.text(st.characters(codec=None), max_size=5)
TIMES = st.datetimes().map(lambda time: f"{time.isoformat()}Z")
NEWER = ["expires_at", "creator_user_id", "workspace_id", "external_user", "last_used_at"]
CHANGED = st.fixed_dictionaries(
    {},
    optional={
        "name": TEXTS,
        "limit": st.none() | st.floats(0, 1e300),
        "usage": st.floats(0, 1e300) | st.integers(0, 2**70),
        "created_at": TIMES,
        "expires_at": TIMES | st.none(),
        "workspace_id": TEXTS | st.none(),
        "later": st.recursive(st.none() | TEXTS | st.integers(), st.lists, max_leaves=3),
    },
)


@given(changed=CHANGED, left_out=st.sets(st.sampled_from(NEWER)))
def test_a_record_comes_back_as_it_was(changed: Object, left_out: set[str]) -> None:
    key = structure(without(key_json(**changed), *left_out), Key)
    text = text_of(key)
    read = decode(text.encode(), Key)
    assert read == key
    assert read.extra == key.extra
    assert json.loads(text) == json.loads(encode(key))


@pytest.mark.parametrize("odd", ["\ud83d", {"a": "\udc00"}])
def test_what_utf_8_cannot_say_is_escaped(odd: Any) -> None:
    key = structure(key_json(later=odd), Key)
    assert decode(text_of(key).encode(), Key).extra == {"later": odd}
