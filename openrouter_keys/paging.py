"""Which page to ask for next, so that no key is lost while others create and delete. No I/O.

A list is skipped into by a number of keys, newest first. A key that somebody deletes moves all
older ones up by one, so that the next page would begin too late; a key that somebody creates moves
them down, so that it begins too early. Hence pages overlap, and a page counts only if it shares a
key with what was seen before: then nothing can lie between them.
"""

from collections.abc import Sequence

from openrouter_keys.models import Key

#: How many keys the next page repeats; so many may be deleted meanwhile without a second look.
OVERLAP = 10
#: How often in a row the same page may come back before a page far away is asked for: only
#: somebody who knows no offset, such as a stand-in for the service, gives the same one there too.
ENOUGH_REPEATS = 3
FAR = 1_000_000


class Pager:
    """Walks through all pages of a list; its size of a page is learned, not assumed.

    Attributes:
        offset: how many keys the page to ask for next skips.
        done: whether everything was seen.
    """

    def __init__(self) -> None:
        self.offset = 0
        self.done = False
        self._seen: set[str] = set()
        self._largest = 0
        self._back = OVERLAP
        self._overlap = 0
        self._last: list[str] = []
        self._repeats = 0
        self._probed_from: int | None = None

    def take(self, page: Sequence[Key]) -> list[Key]:
        """Return the keys of the page at `offset` that are new, and move on.

        Args:
            page: what the service answered.
        """
        if self._probed_from is not None:
            return self._probed(page, self._probed_from)
        fresh = list({key.hash: key for key in page if key.hash not in self._seen}.values())
        if self._joins(page, fresh):
            self._move_on(page, fresh)
            self._seen.update(key.hash for key in fresh)
            return fresh
        self._step_back()
        return []

    def _joins(self, page: Sequence[Key], fresh: list[Key]) -> bool:
        # A page of one key leaves no room for an overlap: then there is nothing to prove it by.
        return self.offset == 0 or len(fresh) < len(page) or self._overlap == 0

    def _move_on(self, page: Sequence[Key], fresh: list[Key]) -> None:
        self._back = OVERLAP
        self._largest = max(self._largest, len(page))
        # Nothing new on a page that had room for more: that was the end.
        self.done = not fresh and (not page or len(page) < self._largest)
        self._overlap = max(0, min(OVERLAP, len(page) - 1))
        self.offset += len(page) - self._overlap
        hashes = [key.hash for key in page]
        self._repeats = self._repeats + 1 if hashes == self._last else 0
        self._last = hashes
        if self._repeats >= ENOUGH_REPEATS:
            self._probed_from = self.offset
            self.offset += FAR

    def _probed(self, page: Sequence[Key], origin: int) -> list[Key]:
        """Tell a stand-in that knows no offset from others who create as fast as we go on."""
        self.done = [key.hash for key in page] == self._last
        self.offset, self._probed_from, self._repeats = origin, None, 0
        return []

    def _step_back(self) -> None:
        self.offset = max(0, self.offset - self._back)
        self._back *= 2
        self._last = []  # a page of its own: whoever answers knows the offset
