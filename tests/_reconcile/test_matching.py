"""Which keys can each have a create of their own: exact, and quick for a thousand of one name."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from openrouter_keys._base.clock_skew import Skew
from openrouter_keys._reconcile.matching import Doubt, told_apart
from openrouter_keys.models import CreateKeysRequest, Key
from tests import records

AT = datetime(2026, 11, 21, 12, tzinfo=UTC)
EXACT = Skew(low=timedelta(0), high=timedelta(0), earliest=timedelta(0))


def key(second: int, byok: bool = False) -> Key:
    unused = evolve(
        records.key("h"), name="n", usage=0, byok_usage=0, last_used_at=None, external_user=None
    )
    plain = evolve(unused, limit=None, limit_reset=None, expires_at=None)
    return evolve(plain, created_at=AT + timedelta(seconds=second), include_byok_in_limit=byok)


def doubt(begins: int, lasts: int, creates: int = 1, *, byok: bool = False) -> Doubt:
    since = AT + timedelta(seconds=begins)
    request = CreateKeysRequest(name="n", include_byok_in_limit=byok or None)
    until = since + timedelta(seconds=lasts)
    return Doubt(request=request, since=since, until=until, creates=creates)


def every_way(keys: Sequence[Key], slots: Sequence[Doubt]) -> bool:
    """Whether each key can have a slot of its own, by trying all."""
    if not keys:
        return True
    return any(
        slot.proves(keys[0], EXACT) and every_way(keys[1:], [*slots[:place], *slots[place + 1 :]])
        for place, slot in enumerate(slots)
    )


SECONDS = st.integers(0, 12)
DOUBTS = st.lists(
    st.builds(doubt, SECONDS, st.integers(0, 6), st.integers(1, 2), byok=st.booleans()),
    max_size=4,
)
KEYS = st.lists(st.builds(key, SECONDS, st.booleans()), max_size=5)


@pytest.mark.slow
@records.patient
@given(keys=KEYS, doubts=DOUBTS)
def test_keys_are_ours_if_and_only_if_each_can_have_a_create_of_its_own(
    keys: list[Key], doubts: list[Doubt]
) -> None:
    possible = [one for one in keys if any(each.proves(one, EXACT) for each in doubts)]
    slots = [each for each in doubts for _ in range(each.creates)]
    proven = every_way(possible, slots)

    ours, unclear = told_apart(keys, doubts, EXACT)

    assert ours == (possible if proven else [])
    assert sorted(map(id, [*ours, *unclear])) == sorted(map(id, keys))


@pytest.mark.slow
def test_thousands_of_doubts_of_one_name_are_quick() -> None:
    doubts = [doubt(number, 50) for number in range(3000)]
    keys = [key(number + 50) for number in range(3000)]
    begun = time.process_time()
    ours, unclear = told_apart(keys, doubts, EXACT)
    assert (len(ours), unclear) == (3000, [])
    # Looking at all nine million pairs takes many times as long.
    assert time.process_time() - begun < 1
