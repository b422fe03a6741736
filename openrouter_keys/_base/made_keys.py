"""Which keys this process has made, and which creates are under way in it. No network.

Clients of one process know of each other's keys, if they have the same base URL: a hash is one
key's in the whole world, but stand-ins for the service may make the same keys again.
"""

import asyncio
import os
from collections import defaultdict
from collections.abc import Iterable
from typing import Final

from attrs import define, field, frozen
from yarl import URL

from openrouter_keys._base.identifiers import canonical
from openrouter_keys._base.masking import hash_of

#: So many keys are remembered at least: the last ones, of all clients together.
MOST: Final = 500_000
#: Seconds for which the creates of other event loops are waited for, at most.
ELSEWHERE: Final = 150.0
_POLL = 0.05
_LOCAL: Final = ("127.0.0.1", "::1", "localhost")


@frozen
class MadeKey:
    """A key that an answer tells to have been made, and what proves which it is.

    Attributes:
        hash: the key's hash, as the answer tells it.
        secret_hash: the SHA-256 of its secret, which its hash should be.
    """

    hash: str
    secret_hash: str

    @classmethod
    def of(cls, hash: str, secret: str) -> "MadeKey":
        """Return what is known of a key whose secret came; a hash may be told in capitals."""
        try:
            own = hash_of(secret)
        finally:
            del secret  # crash reporters send local variables home
        return cls(own if canonical(hash) == own else hash, own)

    @property
    def proven(self) -> bool:
        """Whether the hash is that of the secret: otherwise it may be another key's."""
        return self.hash == self.secret_hash

    @property
    def hashes(self) -> tuple[str, ...]:
        """What its hash can be."""
        return (self.hash,) if self.proven else (self.hash, self.secret_hash)


@define(eq=False)
class _Memory:
    """The last keys that were made, in two halves: a full one replaces the older one.

    Each takes 64 bits of its hash: that two of a million are the same is one in 30 million.
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
# By process: those of a parent never end in a forked child.
_UNDER_WAY: dict[int, set["asyncio.Future[None]"]] = defaultdict(set)


class MadeKeys:
    """What one client makes, told to all clients of the process: nobody takes it for lost.

    Args:
        server_url: its base URL.
    """

    def __init__(self, server_url: str) -> None:
        self._server_url = _address(server_url)
        self._told = _Memory()
        self._elsewhere = _Memory()
        self._under_way: set[asyncio.Future[None]] = set()

    def __contains__(self, hash: str) -> bool:
        return (self._server_url, hash) in _MEMORY

    def is_repeated(self, made: MadeKey) -> bool:
        """Whether an answer told this client this key before; it is remembered from now on.

        Each create makes a key of its own, so that such an answer is a copy of another create's.
        Where the hash is not the secret's own, nothing is said: the answers that tests make up are
        often so, and nothing is ever deleted by them.
        """
        key = (self._server_url, made.secret_hash)
        if not made.proven or key in self._told:
            return made.proven
        self._told.add(key)
        if key in _MEMORY:
            self._elsewhere.add(key)
        return False

    def is_of_another_client(self, made: MadeKey) -> bool:
        """Whether another client of this process had made a key before this one was told it."""
        return (self._server_url, made.secret_hash) in self._elsewhere

    def remember(self, hashes: Iterable[str]) -> None:
        """Remember keys that earlier runs were told, as `is_repeated` does."""
        for hash in hashes:
            self._told.add((self._server_url, hash))

    def add(self, made: MadeKey) -> None:
        """Remember a key, before its create has ended; an answer may tell another key's hash."""
        for hash in made.hashes:
            _MEMORY.add((self._server_url, hash))

    def discard(self, made: MadeKey) -> None:
        """Forget a key whose secret could not be kept."""
        # And not the hash that was told, which may be another key's.
        _MEMORY.discard((self._server_url, made.secret_hash))

    def begin(self) -> "asyncio.Future[None]":
        """A create is under way, until `end` gets what this returns."""
        ended = asyncio.get_running_loop().create_future()
        self._under_way.add(ended)
        _everywhere().add(ended)
        return ended

    def end(self, ended: "asyncio.Future[None]") -> None:
        """A create is under way no longer."""
        self._under_way.discard(ended)
        _everywhere().discard(ended)
        ended.set_result(None)

    async def settled(self) -> None:
        """Wait until this client's creates that are under way now have ended."""
        if self._under_way:
            await asyncio.wait(self._under_way)

    async def all_settled(self) -> bool:
        """Wait until all creates that are under way now in this process have ended.

        Returns:
            False: one of another event loop goes on for too long.
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
    """Return a base URL as it is compared: one service may be written in several ways."""
    url = URL(server_url)
    return str(url.with_host("localhost") if url.host in _LOCAL else url).rstrip("/")


def _everywhere() -> set["asyncio.Future[None]"]:
    return _UNDER_WAY[os.getpid()]


def _goes_on(ended: "asyncio.Future[None]") -> bool:
    """Whether a create of another loop can still be answered; nothing ends in a closed loop."""
    return not ended.done() and not ended.get_loop().is_closed()
