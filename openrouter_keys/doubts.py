"""Creates without an answer, and which keys are provably theirs. Pure."""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice, takewhile
from typing import Final
from unicodedata import normalize

from attrs import field, frozen

from openrouter_keys.agreement import disagreements
from openrouter_keys.models import CreateKeysRequest, Key
from openrouter_keys.stamps import Skew

# Bytes of a character in UTF-8, but one.
_CUT_THROUGH: Final = 3
_FIRST = datetime.min.replace(tzinfo=UTC)


@frozen(kw_only=True)
class Doubt:
    """Creates of one key that were never answered.

    Attributes:
        request: what was asked for.
        since: when the first of them was sent, by the service's clock.
        until: when the last of them can have been carried out, by the same clock.
        creates: how many they are.
    """

    request: CreateKeysRequest = field(repr=False)
    since: datetime
    until: datetime
    creates: int = 1

    @property
    def place(self) -> tuple[str | None, str]:
        """The workspace and the name, by which its keys are looked for."""
        return self.request.workspace_id, self.request.name

    def begins(self, skew: Skew) -> datetime:
        """Return before what time no key can be its own, as keys are stamped."""
        return _FIRST if skew.earliest is None else _moved(self.since, skew.earliest)

    def proves(self, key: Key, skew: Skew) -> bool:
        """Whether a key of its name, that nobody is known to hold, can only be its own."""
        return (
            _moved(self.since, skew.low) <= key.created_at <= _moved(self.until, skew.high)
            and not _is_used(key)
            and not disagreements(self.request, key)
            and not _is_another_users(self.request, key)
        )


def _moved(time: datetime, by: timedelta) -> datetime:
    try:
        return time + by
    except OverflowError:
        return time


def _is_used(key: Key) -> bool:
    return bool(key.usage or key.byok_usage) or isinstance(key.last_used_at, datetime)


def _is_another_users(asked: CreateKeysRequest, key: Key) -> bool:
    user = None if asked.external is None else asked.external.user
    return isinstance(key.external_user, str) and key.external_user != user


class Names:
    """Finds which of the names asked for a key's name can stand for, however it was written.

    Args:
        asked: the names asked for.
        listed: keys of the same workspace: one with a longer name shows that none was cut to less.
    """

    def __init__(self, asked: Iterable[str], listed: Iterable[Key]) -> None:
        self._asked = frozenset(asked)
        self._plain: dict[str, list[str]] = {}
        for name in self._asked:
            self._plain.setdefault(_plain(name), []).append(name)
        self._longest = max((len(key.name.encode()) for key in listed), default=0)
        self._sorted = sorted(self._plain)

    def meant_by(self, name: str) -> Sequence[str]:
        """Return the names asked for that a key's name can stand for."""
        if name in self._asked:
            return (name,)
        plain = _plain(name)
        if plain in self._plain:
            return self._plain[plain]
        # A cut may go through a character.
        if not plain or len(name.encode()) < self._longest - _CUT_THROUGH:
            return ()
        start = bisect_left(self._sorted, plain)
        cut = takewhile(lambda one: one.startswith(plain), islice(self._sorted, start, None))
        return [asked for one in cut for asked in self._plain[one]]


def _plain(name: str) -> str:
    """A name without what services change: its form in Unicode, its case, its white space."""
    return " ".join(normalize("NFKC", name).casefold().split())


def told_apart(
    keys: Sequence[Key], doubts: Iterable[Doubt], skew: Skew
) -> tuple[list[Key], list[Key]]:
    """Return which keys of a name are provably those of creates without an answer, and which not.

    Each key must have a create of its own that can have made it. If there are not enough, somebody
    else made some of the keys, and nobody can say which.

    Args:
        keys: the keys of one name and workspace that nobody is known to hold.
        doubts: the creates of that name and workspace.
        skew: how the service stamps its keys.
    """
    kinds = _kinds(doubts)
    makers = [
        [
            place
            for place, kind in enumerate(kinds)
            if any(doubt.proves(key, skew) for doubt in kind)
        ]
        for key in keys
    ]
    creates = [sum(doubt.creates for doubt in kind) for kind in kinds]
    proven = _enough(creates, [places for places in makers if places])
    ours = [key for key, places in zip(keys, makers, strict=True) if places and proven]
    return ours, [key for key, places in zip(keys, makers, strict=True) if not (places and proven)]


def _kinds(doubts: Iterable[Doubt]) -> list[list[Doubt]]:
    """Put together those that asked for the same: their keys cannot be told apart."""
    kinds: dict[CreateKeysRequest, list[Doubt]] = {}
    for doubt in doubts:
        kinds.setdefault(doubt.request, []).append(doubt)
    return [*kinds.values()]


def _enough(creates: Sequence[int], makers: Sequence[Sequence[int]]) -> bool:
    """Whether each key can have a create of its own (a bipartite matching, by augmenting paths)."""
    taken: dict[int, list[int]] = {place: [] for place in range(len(creates))}

    def find(key: int, seen: set[int]) -> bool:
        for place in makers[key]:
            if place in seen:
                continue
            seen.add(place)
            if len(taken[place]) < creates[place]:
                taken[place].append(key)
                return True
            for other in taken[place]:
                if find(other, seen):
                    taken[place][taken[place].index(other)] = key
                    return True
        return False

    try:
        return all(find(key, set()) for key in range(len(makers)))
    except RecursionError:
        return False  # too many that could be each other's: nothing is proven
