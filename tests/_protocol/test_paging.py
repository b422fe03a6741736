from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openrouter_keys._protocol import paging
from openrouter_keys._protocol.paging import (
    BARREN_AT_ONCE,
    ENOUGH_REPEATS,
    FIRST_WAIT,
    LONGEST_WAIT,
    MOST_BARREN,
    OVERLAP,
    Pager,
)
from openrouter_keys.errors import IncompleteListingError
from openrouter_keys.models import Key
from tests.records import key, patient
from tests.tables import in_one_test

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


@pytest.mark.slow
@settings(patient, max_examples=300)
@given(size=st.integers(0, 120), per_page=st.integers(2, 40), churn=CHURN)
def test_a_key_that_stays_comes_exactly_once_whatever_others_make_and_delete(
    size: int, per_page: int, churn: list[Change]
) -> None:
    shelf = Shelf(size, per_page, churn)
    found = list(walk(shelf.page))
    assert_complete(shelf, found)


@pytest.mark.slow
@patient
@given(size=st.integers(0, 30), made=st.lists(st.integers(0, 5), max_size=12))
def test_pages_of_one_key_are_complete_as_long_as_nobody_deletes(
    size: int, made: list[int]
) -> None:
    churn: list[Change] = [(number, []) for number in made]
    shelf = Shelf(size, 1, churn)
    found = list(walk(shelf.page))
    assert_complete(shelf, found)


@in_one_test("per_page", [1, 2, 3, 10, 11, 100])
@in_one_test("size", [0, 1, 2, 9, 10, 11, 99, 100, 101, 200, 250])
def test_a_list_that_nobody_changes_comes_in_its_own_order(size: int, per_page: int) -> None:
    shelf = Shelf(size, per_page)
    assert list(walk(shelf.page)) == shelf.keys


@in_one_test("size, pages", [(0, 1), (1, 2), (99, 2), (100, 2), (101, 3), (1000, 12)])
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


@pytest.mark.parametrize("size", [0, 1, 2, 5, 99])
def test_a_stand_in_that_ignores_the_offset_comes_to_an_end(size: int) -> None:
    keys = [key(f"old-{number}") for number in range(size)]
    asked: list[int] = []

    def same(offset: int) -> list[Key]:
        asked.append(offset)
        return keys

    assert list(walk(same)) == keys
    assert len(asked) <= len(keys) + ENOUGH_REPEATS + 1


@pytest.mark.parametrize("size", [0, 1, 2, 5, 99])
def test_a_stand_in_that_knows_only_its_first_page_comes_to_an_end(size: int) -> None:
    keys = [key(f"old-{number}") for number in range(size)]
    assert list(walk(lambda offset: [] if offset else keys)) == keys


# --- services that misbehave: all keys, or an error, and never on and on ---

#: Answers the n-th request, which skips so many of the keys.
Answers: TypeAlias = Callable[[list[Key], int, int], list[Key]]
KEYS = [key(f"old-{number}") for number in range(250)]

HEALED: dict[str, Answers] = {
    "an empty second page": lambda keys, at, n: [] if n == 1 else keys[at : at + 100],
    "an empty third page": lambda keys, at, n: [] if n == 2 else keys[at : at + 100],
    "every third page is empty": lambda keys, at, n: [] if n % 3 == 1 else keys[at : at + 100],
    "three empty pages in a row": lambda keys, at, n: [] if 0 < n < 4 else keys[at : at + 100],
    "a second page of one key": lambda keys, at, n: keys[at : at + (1 if n == 1 else 100)],
    "a second page of five keys": lambda keys, at, n: keys[at : at + (5 if n == 1 else 100)],
    "a second page of ten keys": lambda keys, at, n: keys[at : at + (10 if n == 1 else 100)],
    "five keys a page but for the first": lambda keys, at, n: keys[at : at + (5 if at else 100)],
    "ten keys a page but for the first": lambda keys, at, n: keys[at : at + (10 if at else 100)],
    "pages that halve": lambda keys, at, n: keys[at : at + max(2, 100 >> n)],
    "pages that shrink by a quarter": lambda keys, at, n: keys[at : at + max(2, 100 - 25 * n)],
    "the first page is the shortest": lambda keys, at, n: keys[at : at + (100 if n else 3)],
    "the second page is the first": lambda keys, at, n: (
        keys[:100] if n == 1 else keys[at : at + 100]
    ),
    "the third page is the second": lambda keys, at, n: (
        keys[91:191] if n == 2 else keys[at : at + 100]
    ),
}
HOPELESS: dict[str, Answers] = {
    "the offset is ignored": lambda keys, at, n: keys[:100],
    "the offset is ignored, and half a page new each time": lambda keys, at, n: (
        [*map(key, [f"new-{n}-{k}" for k in range(50)]), *keys[:50]] if n else keys[:100]
    ),
    "the offset is ignored, and the page is all there is": lambda keys, at, n: keys,
    "the offset is ignored, in another order each time": lambda keys, at, n: keys[n:100] + keys[:n],
    "the offset is ignored from the second page on": lambda keys, at, n: (
        keys[91:191] if n else keys[:100]
    ),
    "every page but the first is empty": lambda keys, at, n: [] if at else keys[:100],
    "every other page is empty": lambda keys, at, n: [] if n % 2 else keys[at : at + 100],
    "every page from the third on is empty": lambda keys, at, n: (
        keys[at : at + 100] if at < 150 else []
    ),
    "two pages in turn": lambda keys, at, n: keys[100:200] if n % 2 else keys[:100],
    "a short page again and again": lambda keys, at, n: keys[91:96] if n else keys[:100],
    "one key of each page": lambda keys, at, n: keys[at : at + 1] if at else keys[:100],
    "a page that fits nowhere": lambda keys, at, n: (
        [key(f"alien-{n}-{number}") for number in range(100)] if at else keys[:100]
    ),
    "a list without end": lambda keys, at, n: [
        key(f"endless-{number}") for number in range(at, at + 100)
    ],
    "a list without end, key by key": lambda keys, at, n: [key(f"endless-{at}")],
}


class Counted:
    """Hands a misbehaving service's pages out, and counts the requests and the waits."""

    def __init__(self, answers: Answers, keys: list[Key]) -> None:
        self.requests = 0
        self.waits: list[float] = []
        self._answers, self._keys = answers, keys

    def walk(self) -> Iterator[Key]:
        pager = Pager()
        while not pager.done:
            page = self._answers(self._keys, pager.offset, self.requests)
            self.requests += 1
            yield from pager.take(page)
            self.waits.append(pager.wait)


@in_one_test("answers", HEALED.values(), ids=HEALED)
def test_a_walk_finds_all_keys_of_a_service_that_slips(answers: Answers) -> None:
    service = Counted(answers, KEYS)
    found = [key.hash for key in service.walk()]
    assert sorted(found) == sorted(key.hash for key in KEYS)
    assert service.requests < 200


@pytest.mark.slow
@pytest.mark.parametrize("answers", HOPELESS.values(), ids=HOPELESS)
def test_a_walk_says_where_a_service_does_not_let_it_be_completed(
    answers: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paging, "MOST_PAGES", 300)
    service = Counted(answers, KEYS)
    found: list[Key] = []
    with pytest.raises(IncompleteListingError) as raised:
        found += service.walk()
    error = raised.value
    assert (error.pages, error.operation) == (service.requests, "list")
    assert error.pages <= 300
    assert error.seen >= len({key.hash for key in found})
    assert error.why in str(error)


def test_pages_that_bring_nothing_are_waited_for_longer_each_time() -> None:
    service = Counted(HOPELESS["two pages in turn"], KEYS)
    with pytest.raises(IncompleteListingError):
        list(service.walk())
    waits = [wait for wait in service.waits if wait]
    assert waits[:4] == [FIRST_WAIT, 2 * FIRST_WAIT, 4 * FIRST_WAIT, 8 * FIRST_WAIT]
    assert waits == sorted(waits)
    assert waits[-1] == LONGEST_WAIT
    assert len(waits) == MOST_BARREN - BARREN_AT_ONCE


@in_one_test("size", [0, 1, 99, 100, 101, 250, 1000])
def test_an_ordinary_walk_never_waits(size: int) -> None:
    keys = [key(f"old-{number}") for number in range(size)]
    service = Counted(lambda keys, at, n: keys[at : at + 100], keys)
    assert len([*service.walk()]) == size
    assert not any(service.waits)


def test_whoever_deletes_each_key_that_comes_gets_them_all() -> None:
    shelf = Shelf(350, 100)
    found: list[Key] = []
    for each in walk(shelf.page):
        found.append(each)
        shelf.keys.remove(each)
    assert (len(found), shelf.keys) == (350, [])


#: What may become of the n-th page: nothing, none of it, its first few keys, the first page again.
SLIPS = st.one_of(
    st.just("whole"), st.just("empty"), st.integers(0, 12), st.sampled_from(["first", "last"])
)


class Slipping(Shelf):
    """A shelf whose pages come out wrong at times.

    Attributes:
        given: the pages that came out.
    """

    def __init__(self, size: int, churn: Sequence[Change], slips: Sequence[str | int]) -> None:
        super().__init__(size, 100, churn)
        self._slips = iter(slips)
        self.given: list[list[Key]] = []

    def page(self, offset: int) -> list[Key]:
        whole = page = super().page(offset)
        slip = next(self._slips, "whole")
        if isinstance(slip, int):
            # Cut right behind a page's last key, it would be the list's end for all that one sees.
            ends = {given[-1].hash for given in self.given if given}
            while page[slip - 1 : slip] and page[slip - 1].hash in ends:
                slip += 1
            page = page[:slip]
        elif slip == "empty" and offset:
            page = []
        elif slip in ("first", "last") and self.given:
            again = self.given[0 if slip == "first" else -1]
            # One key that comes again, with nothing behind it, is how a list's end looks.
            page = page if len(again) == 1 else again
        if not offset:
            page = page or whole  # empty from its start on, and again: all are deleted
        self.given.append(page)
        return page


@pytest.mark.slow
@settings(patient, max_examples=100)
@given(
    size=st.integers(13, 250),
    churn=CHURN,
    slips=st.lists(SLIPS, max_size=9).map(lambda slips: ["whole", *slips]),
)
def test_a_walk_ends_with_every_key_that_stays_or_says_that_it_did_not(
    size: int, churn: list[Change], slips: list[str | int]
) -> None:
    shelf = Slipping(size, churn, slips)
    try:
        found = list(walk(shelf.page))
    except IncompleteListingError:
        return
    assert_complete(shelf, found)


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
