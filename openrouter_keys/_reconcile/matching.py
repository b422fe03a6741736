"""Creates without an answer, and which keys are provably theirs. Pure."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from heapq import heappop, heappush
from itertools import accumulate, islice, takewhile
from typing import Final
from unicodedata import normalize

from attrs import evolve, field, frozen

from openrouter_keys._base.clock_skew import Skew
from openrouter_keys._base.unset import UNSET
from openrouter_keys._inputs import checks
from openrouter_keys._protocol.drift import disagreements
from openrouter_keys.converter import structure
from openrouter_keys.errors import JSON, InvalidArgumentError
from openrouter_keys.models import CreateKeysRequest, External, Key

# Bytes of a character in UTF-8, at most.
_CHARACTER: Final = 4
_FIRST = datetime.min.replace(tzinfo=UTC)


def hash_in(text: str | None) -> str | None:
    """Return the hash that an answer gave without its secret; None: what it gave cannot be one."""
    try:
        return None if text is None else checks.key_hash(text)
    except InvalidArgumentError:
        return None


@frozen(kw_only=True)
class Doubt:
    """Creates of one key that were never answered.

    Attributes:
        request: what was asked for.
        since: when the first of them was sent at the earliest, by the service's clock.
        sent: when it was sent at the latest, by the same clock; None: then.
        until: when the last of them can have been carried out, by the same clock.
        creates: how many they are.
        given: the hash that an answer gave without its secret; None: none did, or what it gave
            cannot be a hash. It may be another key's, and the list may not have it yet: it is
            looked at by itself.
    """

    request: CreateKeysRequest = field(repr=False)
    since: datetime
    sent: datetime | None = None
    until: datetime
    creates: int = 1
    given: str | None = field(default=None, converter=hash_in)

    @property
    def place(self) -> tuple[str | None, str]:
        """The workspace and the name, by which its keys are looked for."""
        return self.request.workspace_id, self.request.name

    def begins(self, skew: Skew) -> datetime:
        """Return before what time no key can be its own, as keys are stamped."""
        return _FIRST if skew.earliest is None else moved(self.since, skew.earliest)

    def window(self, skew: Skew) -> tuple[datetime, datetime]:
        """Return between which times, as keys are stamped, a key is provably its own."""
        return moved(self.sent or self.since, skew.low), moved(self.until, skew.high)

    def proves(self, key: Key, skew: Skew) -> bool:
        """Whether a key of its name without a known holder can only be its own."""
        begins, ends = self.window(skew)
        in_time = skew.dates(key.created_at) and begins <= key.created_at <= ends
        return in_time and _agrees(self.request, key)


def request_of(asked: Mapping[str, JSON]) -> CreateKeysRequest:
    """Return what was asked for, of what was written down of it: no `external.api_key`."""
    fields = dict(asked)
    # No key shows the partner's key, nor its hash, which a plan has.
    external = fields.pop("external", None)
    user = external.get("user") if isinstance(external, dict) else None
    request = structure(fields, CreateKeysRequest)
    return evolve(request, external=External(user)) if isinstance(user, str) else request


def moved(time: datetime, by: timedelta) -> datetime:
    """Return a time so much later; the time itself where no such time can be written."""
    try:
        return time + by
    except OverflowError:
        return time


def _agrees(asked: CreateKeysRequest, key: Key) -> bool:
    """Whether a key is as it was asked for, and unused."""
    differs = disagreements(asked, key) or _has_more(asked, key)
    return not (_is_used(key) or differs or _is_another_users(asked, key))


def _has_more(asked: CreateKeysRequest, key: Key) -> bool:
    """Whether it has a limit or an end that was not asked for: the service gives none by itself."""
    return (
        (asked.limit is UNSET and key.limit is not None)
        or (asked.limit_reset is UNSET and key.limit_reset is not None)
        or (asked.expires_at is UNSET and isinstance(key.expires_at, datetime))
    )


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
        self._longest = max((_size(key.name) for key in listed), default=0)
        self._sorted = sorted(self._plain)

    def meant_by(self, name: str) -> Sequence[str]:
        """Return the names asked for that a key's name can stand for."""
        if name in self._asked:
            return (name,)
        plain = _plain(name)
        if plain in self._plain:
            return self._plain[plain]
        if not plain:
            return ()
        start = bisect_left(self._sorted, plain)
        longer = takewhile(lambda one: one.startswith(plain), islice(self._sorted, start, None))
        size = _size(name)
        return [
            asked
            for one in longer
            for asked in self._plain[one]
            # One character more is in no listed name; a cut may go through a character.
            if size + (1 if asked.isascii() else _CHARACTER) > self._longest
        ]


def _size(name: str) -> int:
    # JSON can escape half a surrogate pair, which plain UTF-8 would refuse.
    return len(name.encode(errors="surrogatepass"))


def _plain(name: str) -> str:
    """A name without what services change: its form in Unicode, its case, its white space."""
    return " ".join(normalize("NFKC", name).casefold().split())


def told_apart(
    keys: Sequence[Key], doubts: Iterable[Doubt], skew: Skew
) -> tuple[list[Key], list[Key]]:
    """Return which keys of a name are provably those of creates without an answer, and which not.

    Each key must have a create of its own that can have made it. If there are not enough, somebody
    else made some of the keys, and nothing shows which.

    Args:
        keys: the keys of one name and workspace without a known holder.
        doubts: the creates of that name and workspace.
        skew: how the service stamps its keys.
    """
    kinds = _kinds(doubts)
    covers = [_Cover(kind, skew) for kind in kinds.values()]
    makers = [
        frozenset(
            place
            for place, request in enumerate(kinds)
            if covers[place].has(key.created_at) and _agrees(request, key)
        )
        for key in keys
    ]
    found = [(key, places) for key, places in zip(keys, makers, strict=True) if places]
    if not _enough(found, [*kinds.values()], skew):
        return [], [*keys]
    ours = [key for key, _ in found]
    return ours, [key for key, places in zip(keys, makers, strict=True) if not places]


def _kinds(doubts: Iterable[Doubt]) -> dict[CreateKeysRequest, list[Doubt]]:
    """Put together those that asked for the same."""
    kinds: dict[CreateKeysRequest, list[Doubt]] = {}
    for doubt in doubts:
        kinds.setdefault(doubt.request, []).append(doubt)
    return kinds


class _Cover:
    """The stamps that provably lie in one of many windows."""

    def __init__(self, doubts: Iterable[Doubt], skew: Skew) -> None:
        self._skew = skew
        windows = sorted(doubt.window(skew) for doubt in doubts)
        self._begins = [begins for begins, _ in windows]
        self._ends = [*accumulate((ends for _, ends in windows), max)]

    def has(self, time: datetime) -> bool:
        place = bisect_right(self._begins, time)
        return place > 0 and time <= self._ends[place - 1] and self._skew.dates(time)


def _enough(
    found: Sequence[tuple[Key, frozenset[int]]], kinds: Sequence[Sequence[Doubt]], skew: Skew
) -> bool:
    """Whether each key can have a create of its own.

    Args:
        found: keys, each with the kinds of creates that can have made it.
        kinds: the creates, by what they asked for.
        skew: how the service stamps its keys.
    """
    together: dict[frozenset[int], list[Key]] = {}
    for key, places in found:
        together.setdefault(places, []).append(key)
    if sum(map(len, together)) == len(frozenset[int]().union(*together)):
        # No kind is shared by keys that differ: each has keys and windows to itself.
        return all(
            _each_in_a_window(keys, [doubt for place in places for doubt in kinds[place]], skew)
            for places, keys in together.items()
        )
    doubts = [doubt for kind in kinds for doubt in kind]
    able = [
        [place for place, doubt in enumerate(doubts) if doubt.proves(key, skew)] for key, _ in found
    ]
    return _matched([doubt.creates for doubt in doubts], able)


def _each_in_a_window(keys: Iterable[Key], doubts: Iterable[Doubt], skew: Skew) -> bool:
    """Whether each key can have a create of its own of these, any of which can have made it.

    In the order of time, each key takes the window that ends first: that is exact for intervals.
    """
    waiting = sorted(((*doubt.window(skew), doubt.creates) for doubt in doubts), reverse=True)
    opened: list[tuple[datetime, int]] = []
    for time in sorted(key.created_at for key in keys):
        while waiting and waiting[-1][0] <= time:
            _, ends, creates = waiting.pop()
            heappush(opened, (ends, creates))
        while opened and opened[0][0] < time:
            heappop(opened)
        if not opened:
            return False
        ends, creates = heappop(opened)
        if creates > 1:
            heappush(opened, (ends, creates - 1))
    return True


def _matched(creates: Sequence[int], makers: Sequence[Sequence[int]]) -> bool:
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
