from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openrouter_keys.models import Key
from openrouter_keys.paging import ENOUGH_REPEATS, OVERLAP, Pager
from tests.records import key, patient

#: More pages than any list in here could need.
TOO_MANY = 2_000


def walk(page_at: Callable[[int], list[Key]]) -> Iterator[Key]:
    """Every key that the pager finds new; fails where it does not come to an end."""
    pager = Pager()
    for _ in range(TOO_MANY):
        yield from pager.take(page_at(pager.offset))
        if pager.done:
            return
    pytest.fail("the pager asks on and on")


#: What happens between two pages: so many keys are made, then those at some places deleted.
Change: TypeAlias = tuple[int, list[int]]
QUIET: Change = (0, [])


class Shelf:
    """A list of keys, newest first, that others change after every look at it.

    Args:
        size: how many keys there are at first.
        per_page: how many a page holds at most.
        churn: what happens after each page.
    """

    def __init__(self, size: int, per_page: int, churn: Sequence[Change] = ()) -> None:
        self.keys = [key(f"old-{number}") for number in range(size)]
        self.deleted: set[str] = set()
        self.pages: list[list[str]] = []
        self._per_page = per_page
        self._churn = iter(churn)
        self._made = 0

    def page(self, offset: int) -> list[Key]:
        page = self.keys[offset : offset + self._per_page]
        self.pages.append([key.hash for key in page])
        self._change(*next(self._churn, QUIET))
        return page

    def _change(self, made: int, places: list[int]) -> None:
        for _ in range(made):
            self._made += 1
            self.keys.insert(0, key(f"new-{self._made}"))
        for place in places:
            if self.keys:
                self.deleted.add(self.keys.pop(place % len(self.keys)).hash)


def assert_complete(shelf: Shelf, found: list[Key]) -> None:
    hashes = [key.hash for key in found]
    assert len(hashes) == len(set(hashes)), "a key came twice"
    stayed = {key.hash for key in shelf.keys if key.hash.startswith("old-")}
    assert stayed <= set(hashes), "a key was missed"


CHURN = st.lists(
    st.tuples(st.integers(0, 12), st.lists(st.integers(0, 200), max_size=25)), max_size=12
)


@settings(patient, max_examples=300)
@given(size=st.integers(0, 120), per_page=st.integers(2, 40), churn=CHURN)
def test_a_key_that_stays_comes_exactly_once_whatever_others_make_and_delete(
    size: int, per_page: int, churn: list[Change]
) -> None:
    shelf = Shelf(size, per_page, churn)
    found = list(walk(shelf.page))
    assert_complete(shelf, found)


@patient
@given(size=st.integers(0, 30), made=st.lists(st.integers(0, 5), max_size=12))
def test_pages_of_one_key_are_complete_as_long_as_nobody_deletes(
    size: int, made: list[int]
) -> None:
    churn: list[Change] = [(number, []) for number in made]
    shelf = Shelf(size, 1, churn)
    found = list(walk(shelf.page))
    assert_complete(shelf, found)


@pytest.mark.parametrize("per_page", [1, 2, 3, 10, 11, 100])
@pytest.mark.parametrize("size", [0, 1, 2, 9, 10, 11, 99, 100, 101, 200, 250])
def test_a_list_that_nobody_changes_comes_in_its_own_order(size: int, per_page: int) -> None:
    shelf = Shelf(size, per_page)
    assert list(walk(shelf.page)) == shelf.keys


@pytest.mark.parametrize(
    ("size", "pages"), [(0, 1), (1, 2), (99, 2), (100, 2), (101, 3), (1000, 12)]
)
def test_pages_of_a_hundred_take_few_requests(size: int, pages: int) -> None:
    shelf = Shelf(size, 100)
    assert len(list(walk(shelf.page))) == size
    assert len(shelf.pages) == pages


def test_a_page_that_joins_nothing_is_asked_for_again_from_further_back() -> None:
    shelf = Shelf(300, 100, [(0, list(range(50)))])
    found = list(walk(shelf.page))
    assert_complete(shelf, found)
    assert len(found) == 300


def test_a_page_that_comes_again_after_a_step_back_is_no_stand_in() -> None:
    shelf = Shelf(10, 2, [(1, []), (0, [3, 17, 0]), (0, []), (1, [])])
    assert_complete(shelf, list(walk(shelf.page)))


def test_a_list_whose_seen_keys_are_all_deleted_is_still_complete() -> None:
    shelf = Shelf(300, 100, [(0, [0] * 100)])
    assert_complete(shelf, list(walk(shelf.page)))


def test_a_list_that_shrinks_below_the_offset_is_still_complete() -> None:
    shelf = Shelf(250, 100, [(0, []), (0, [0] * 180)])
    assert_complete(shelf, list(walk(shelf.page)))


def test_a_key_that_moves_down_between_pages_does_not_come_twice() -> None:
    thirty_made: Change = (30, [])
    shelf = Shelf(250, 100, [thirty_made] * 5)
    assert_complete(shelf, list(walk(shelf.page)))


@pytest.mark.parametrize("size", [0, 1, 2, 5, 99, 100, 101])
def test_a_stand_in_that_ignores_the_offset_comes_to_an_end(size: int) -> None:
    keys = [key(f"old-{number}") for number in range(size)]
    asked: list[int] = []

    def same(offset: int) -> list[Key]:
        asked.append(offset)
        return keys

    assert list(walk(same)) == keys
    assert len(asked) <= len(keys) + ENOUGH_REPEATS + 1


def test_a_page_that_holds_a_key_twice_gives_it_once() -> None:
    page = [key("one"), key("two"), key("one")]
    assert [key.hash for key in Pager().take(page)] == ["one", "two"]


def test_nothing_is_asked_for_before_the_first_page() -> None:
    assert (Pager().offset, Pager().done) == (0, False)


def test_others_who_create_as_fast_as_pages_are_read_do_not_pass_for_a_stand_in() -> None:
    # Exactly a page less its overlap each time: the same page comes again and again.
    churn: list[Change] = [QUIET, *[(100 - OVERLAP, [])] * 5]
    shelf = Shelf(300, 100, churn)
    assert_complete(shelf, list(walk(shelf.page)))
