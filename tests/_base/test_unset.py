import copy
import pickle

import pytest

from openrouter_keys._base.unset import UNSET, OptionalNullable, Unset
from tests.tables import in_one_test


def told_apart(limit: OptionalNullable[float] = UNSET) -> float | str:
    if limit is UNSET:
        return "left out"
    if limit is None:
        return "null"
    return limit + 1


def test_left_out_null_and_a_value_are_told_apart() -> None:
    assert (told_apart(), told_apart(None), told_apart(0)) == ("left out", "null", 1)


@in_one_test("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_comes_back_as_the_same_object(protocol: int) -> None:
    assert pickle.loads(pickle.dumps(UNSET, protocol)) is UNSET


def test_copies_are_the_same_object() -> None:
    assert copy.copy(UNSET) is UNSET
    assert copy.deepcopy({"limit": [UNSET]})["limit"][0] is UNSET


def test_its_truth_is_refused_with_what_to_ask_instead() -> None:
    with pytest.raises(TypeError, match="ask `is UNSET`"):
        bool(UNSET)


def test_it_shows_as_its_name_in_signatures() -> None:
    assert repr(UNSET) == "UNSET"


def test_it_is_the_only_one_of_its_type() -> None:
    assert list(Unset) == [UNSET]
