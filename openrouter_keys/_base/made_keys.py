"""Which keys this process has made, and which creates are under way in it. No network.

The clients of one process share them, if they have the same base URL: a hash is unique, but test
servers may make the same keys again.
"""

import asyncio
import os
from collections import defaultdict
from collections.abc import Iterable
from typing import Final

from attrs import define, field
from yarl import URL

from openrouter_keys._base.identifiers import canonical
from openrouter_keys._base.masking import hash_of

#: At least this many keys are remembered: the newest ones of all clients together.
MOST: Final = 500_000
#: The most seconds of waiting for the creates of other event loops.
ELSEWHERE: Final = 150.0
_POLL = 0.05
_LOCAL: Final = ("127.0.0.1", "::1", "localhost")


@define  # a frozen one takes three times as long to make
class MadeKey:
    """A key that a create's answer holds.

    Attributes:
        hash: the key's hash in the answer.
        secret_hash: the SHA-256 of its secret, which should be the same.
    """

    hash: str
    secret_hash: str

    @classmethod
    def of(cls, hash: str, secret: str) -> "MadeKey":
        """Return the key of an answer, whose hash may be in capitals."""
        try:
            own = hash_of(secret)
        finally:
            del secret  # crash reporters send local variables home
        return cls(own if canonical(hash) == own else hash, own)

    @property
    def proven(self) -> bool:
        """Whether the hash is the secret's; otherwise, it may be another key's."""
        return self.hash == self.secret_hash

    @property
    def hashes(self) -> tuple[str, ...]:
        """The hashes that the key can have."""
        return (self.hash,) if self.proven else (self.hash, self.secret_hash)


@define(eq=False)
class _Memory:
    """The newest keys, in two sets: a full set replaces the older one.

    A key takes 64 bits of a hash; the chance that two of a million are equal is 1 in 30 million.
    """

    young: set[int] = field(factory=set[int])
    old: set[int] = field(factory=set[int])

    def add(self, key: tuple[str, str]) -> None:
        self.young.add(hash(key))
        if len(self.young) >= MOST:
            self.young, self.old = set(), self.young

    def discard(self, key: tuple[str, str]) -> None:
        self.young.discard(hash(key))
        self.old.discard(hash(key))

    def __contains__(self, key: tuple[str, str]) -> bool:
        return hash(key) in self.young or hash(key) in self.old


_MEMORY = _Memory()
# By process: in a forked child, the parent's creates never end.
_UNDER_WAY: dict[int, set["asyncio.Future[None]"]] = defaultdict(set)


class MadeKeys:
    """The keys that one client makes, shared with all clients of the process.

    No reconcile of another client then takes such a key for a lost one.

    Args:
        server_url: its base URL.
    """

    def __init__(self, server_url: str) -> None:
        self._server_url = _address(server_url)
        self._answered = _Memory()
        self._elsewhere = _Memory()
        self._under_way: set[asyncio.Future[None]] = set()

    def __contains__(self, hash: str) -> bool:
        return (self._server_url, hash) in _MEMORY

    def is_repeated(self, made: MadeKey) -> bool:
        """Whether an earlier answer had this key; it is remembered from now on.

        Each create makes a new key, so a repeated key means a copy of another create's answer.
        False if the hash is not the secret's: answers that tests make up are often so, and no key
        is deleted because of them.
        """
        key = (self._server_url, made.secret_hash)
        if not made.proven or key in self._answered:
            return made.proven
        self._answered.add(key)
        if key in _MEMORY:
            self._elsewhere.add(key)
        return False

    def is_of_another_client(self, made: MadeKey) -> bool:
        """Whether another client of this process made a key before this client's answer came."""
        return (self._server_url, made.secret_hash) in self._elsewhere

    def remember(self, hashes: Iterable[str]) -> None:
        """Remember the keys of earlier runs, as `is_repeated` does."""
        for hash in hashes:
            self._answered.add((self._server_url, hash))

    def add(self, made: MadeKey) -> None:
        """Remember a key, before its create has ended; the answer may have another key's hash."""
        for hash in made.hashes:
            _MEMORY.add((self._server_url, hash))

    def discard(self, made: MadeKey) -> None:
        """Forget a key whose secret could not be kept."""
        # Not the answer's hash, which may be another key's.
        _MEMORY.discard((self._server_url, made.secret_hash))

    def begin(self) -> "asyncio.Future[None]":
        """Note that a create is under way; `end` takes the returned future."""
        ended = asyncio.get_running_loop().create_future()
        self._under_way.add(ended)
        _everywhere().add(ended)
        return ended

    def end(self, ended: "asyncio.Future[None]") -> None:
        """Note that a create has ended."""
        self._under_way.discard(ended)
        _everywhere().discard(ended)
        ended.set_result(None)

    async def settled(self, within: float) -> None:
        """Wait until this client's creates that are under way now have ended.

        Args:
            within: the seconds to wait at most.
        """
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=within)

    async def all_settled(self) -> bool:
        """Wait until all creates that are under way now in this process have ended.

        Returns:
            False: a create of another event loop takes too long.
        """
        loop = asyncio.get_running_loop()
        everywhere = [*_everywhere()]
        here = {ended for ended in everywhere if ended.get_loop() is loop}
        if here:
            await asyncio.wait(here)
        elsewhere = [ended for ended in everywhere if ended not in here]
        give_up = loop.time() + ELSEWHERE
        while any(map(_goes_on, elsewhere)):
            if loop.time() >= give_up:
                return False
            await asyncio.sleep(_POLL)
        return True


def _address(server_url: str) -> str:
    """Return the form of a base URL to compare by: a URL can be written in several ways."""
    url = URL(server_url)
    return str(url.with_host("localhost") if url.host in _LOCAL else url).rstrip("/")


def _everywhere() -> set["asyncio.Future[None]"]:
    return _UNDER_WAY[os.getpid()]


def _goes_on(ended: "asyncio.Future[None]") -> bool:
    """Whether a create of another loop can still end; in a closed loop, none does."""
    return not ended.done() and not ended.get_loop().is_closed()
