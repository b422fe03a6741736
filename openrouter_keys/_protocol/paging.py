"""Chooses the next page, so that no key is lost while others create and delete. No I/O.

A page's offset is a number of keys, newest first. A deleted key moves all older ones up by one, so
that the next page begins too late; a new key moves them down, so that it begins too early. Hence
pages overlap, and a page counts only if it shares a key with earlier ones: then no key can lie
between them. This holds whenever a page was requested, so that `_transport/pages.py` may request
some pages before the walk gets to them.

Every walk ends: the number of pages is bounded, and so is that of pages without a new key. If the
end of the list was not seen, `IncompleteListingError` is raised.
"""

from collections.abc import Sequence

from openrouter_keys.errors import IncompleteListingError
from openrouter_keys.models import Key

#: How many keys the next page repeats; as many may be deleted meanwhile without a repeated page.
#: Not a round number: a service that limits its pages to this size would seem to be at the end.
OVERLAP = 9
#: How often in a row the same page may come back before a page far away is requested: only a
#: server that ignores the offset, such as a test's, returns the same page there too.
ENOUGH_REPEATS = 3
FAR = 1_000_000
#: How many keys a page holds, by the service's documents. A server that ignores the offset and
#: returns fewer keys has returned all of them.
FULL_PAGE = 100
#: How many pages in a row may have neither a new key nor the end.
MOST_BARREN = 20
#: This many of them are requested without a wait; before each further one, the wait doubles, in
#: seconds.
BARREN_AT_ONCE = 5
FIRST_WAIT, LONGEST_WAIT = 0.1, 2.0
#: The most pages of a walk: some 900,000 keys of a service with 100 a page.
MOST_PAGES = 10_000
#: How often the end is requested again in a list that was inconsistent.
_LOOKS = 2
#: How often an empty list is requested, if there were keys before.
_EMPTIES = 2


class Pager:
    """Walks through all pages of a list; it learns the size of a page.

    Attributes:
        offset: how many keys the next page skips.
        wait: the seconds to wait before its request.
        done: whether everything was seen.
        full: how many keys the last page had, if it was full and fitted, so that more such pages
            may follow; 0: what follows depends on the next page.
        is_gaining: whether it had new keys, too.
    """

    def __init__(self) -> None:
        self.offset = 0
        self.wait = 0.0
        self.done = False
        self.full = 0
        self.is_gaining = False
        self._pages = 0
        self._seen: set[str] = set()
        self._oldest = ""
        self._largest = 0
        self._back = OVERLAP
        self._overlap = 0
        self._first: list[str] = []
        self._one_page = True
        self._last: list[str] = []
        self._repeats = 0
        self._probed_from: int | None = None
        self._barren = 0
        self._empties = 0
        self._size_at_end = 0
        self._doubted = False
        self._looks = 0

    @property
    def stride(self) -> int:
        """How many keys further each page begins, as long as they are `full`."""
        return self.full - min(OVERLAP, self.full - 1)

    def fits(self, page: Sequence[Key]) -> bool:
        """Whether no key can lie between a page from `offset` and those taken."""
        hashes = [key.hash for key in page]
        return self._joins(hashes, [hash for hash in hashes if hash not in self._seen])

    def take(self, page: Sequence[Key]) -> list[Key]:
        """Return the keys of the page at `offset` that are new, and move on.

        Args:
            page: what the service answered.

        Raises:
            IncompleteListingError: the walk ends without the end of the list.
        """
        self._pages += 1
        self.wait, self.full, self.is_gaining = 0.0, 0, False
        hashes = [key.hash for key in page]
        if self._probed_from is not None:
            self._probed(hashes, self._probed_from)
            return []
        self._first = self._first or hashes
        self._one_page = self._one_page and hashes in ([], self._first)
        fresh = list({key.hash: key for key in page if key.hash not in self._seen}.values())
        if not self._joins(hashes, fresh):
            self._step_back()
            return []
        self._seen.update(key.hash for key in fresh)
        if hashes:
            self._move_on(hashes, fresh)
        else:
            self._emptied()
        if self._pages >= MOST_PAGES and not self.done:
            raise self.incomplete(f"its end did not come within {MOST_PAGES:,} pages")
        return fresh

    def _joins(self, hashes: Sequence[str], fresh: Sequence[object]) -> bool:
        if self._looks == _LOOKS:
            return not fresh  # a page behind the end has no overlap
        # A page of one key has no room for an overlap.
        return self.offset == 0 or len(fresh) < len(hashes) or self._overlap == 0

    def _move_on(self, hashes: list[str], fresh: list[Key]) -> None:
        self._back, self._empties, expected = OVERLAP, 0, self._largest or FULL_PAGE
        self._largest = max(self._largest, len(hashes))
        if fresh and fresh[-1].hash == hashes[-1]:
            # Keys follow a page that was not full: this service shortens pages.
            self._doubted = self._doubted or 0 < self._size_at_end < self._largest
            self._oldest, self._size_at_end, self._barren = hashes[-1], len(hashes), 0
        elif self._is_stand_in() and self._doubted and hashes == self._first:
            self.done = True
        elif self.offset >= len(self._seen):
            self._wait()
        repeated, self._last = hashes == self._last, hashes
        if not fresh and len(hashes) < self._largest:
            self._end(hashes, repeated=repeated)
            return
        self._looks = 0
        self._overlap = min(OVERLAP, len(hashes) - 1)
        self.offset += len(hashes) - self._overlap
        self._repeats = self._repeats + 1 if repeated else 0
        if self._repeats >= ENOUGH_REPEATS:
            self._probed_from = self.offset
            self.offset += FAR
        elif len(hashes) >= max(expected, 2):  # pages of one key have no overlap
            self.full, self.is_gaining = len(hashes), bool(fresh)

    def _end(self, hashes: list[str], *, repeated: bool) -> None:
        """Judge a page with room for more and no new key: it is the end, unless signs differ."""
        if repeated and (len(hashes) > 1 or self._looks == _LOOKS):
            self._step_back()  # the same page from another offset proves nothing
            return
        if hashes[-1] != self._oldest:  # deleted meanwhile, or a shortened page
            self._doubted, self._oldest, self._looks = True, hashes[-1], 0
        if not self._doubted or self._looks == _LOOKS:
            self.done = True
            return
        # Request the last key again, then what follows it.
        self._looks = self._looks % _LOOKS + 1
        self._overlap = 1
        self.offset += len(hashes) - (_LOOKS - self._looks)

    def _emptied(self) -> None:
        self._empties += 1
        self.done = (
            not self._seen
            or self._looks == _LOOKS
            or self._empties == _EMPTIES
            or (self.offset > 0 and not self._doubted)
        )
        if not self.done:
            self._wait()

    def _probed(self, hashes: list[str], origin: int) -> None:
        """Distinguish a server that ignores the offset from creates as fast as the walk."""
        if hashes == self._last:
            self._give_up("every offset is answered by the same page")
        self.offset, self._probed_from, self._repeats = origin, None, 0

    def _step_back(self) -> None:
        self._doubted, self._looks = True, 0
        self.offset = max(0, self.offset - self._back)
        self._back *= 2
        self._last = []  # a different page: the server uses the offset
        self._wait()

    def _wait(self) -> None:
        """Wait before the next page, longer each time, since this one had no new key."""
        self._barren += 1
        if self._barren > MOST_BARREN:
            self._give_up(f"{MOST_BARREN} pages in a row did not go on where the ones before ended")
        elif self._barren > BARREN_AT_ONCE:
            self.wait = min(LONGEST_WAIT, FIRST_WAIT * 2 ** (self._barren - BARREN_AT_ONCE - 1))

    def _is_stand_in(self) -> bool:
        """Whether only one page ever came, with room for more: it holds all keys."""
        return self._one_page and self._largest < FULL_PAGE

    def _give_up(self, why: str) -> None:
        if not self._is_stand_in():
            raise self.incomplete(why)
        self.done = True

    def incomplete(self, why: str) -> IncompleteListingError:
        """Return the error of a walk that ends early."""
        error = IncompleteListingError(
            f"the list of keys could not be completed: {why} "
            f"({len(self._seen):,} keys seen on {self._pages:,} pages, the last one from "
            f"{self.offset:,} on); list again later"
        )
        error.operation = "list"
        error.seen, error.pages, error.offset, error.why = (
            len(self._seen), self._pages, self.offset, why,
        )  # fmt: skip
        return error
