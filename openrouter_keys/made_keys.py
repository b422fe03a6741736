"""Which keys this process has made, and which creates are under way in it. No network.

Clients of one process know of each other's keys, if they have the same base URL: a hash is one
key's in the whole world, but stand-ins for the service may make the same keys again.
"""

import asyncio
import os
from collections import defaultdict
from typing import Final

from attrs import define, field, frozen

from openrouter_keys.masking import hash_of

#: So many keys are remembered at least: the last ones, of all clients together.
MOST: Final = 500_000
#: Seconds for which the creates of other event loops are waited for, at most.
ELSEWHERE: Final = 150.0
_POLL = 0.05


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
        """Return what is known of a key whose secret came."""
        try:
            return cls(hash, hash_of(secret))
        finally:
            del secret  # crash reporters send local variables home

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
        self._server_url = server_url
        self._under_way: set[asyncio.Future[None]] = set()

    def __contains__(self, hash: str) -> bool:
        return (self._server_url, hash) in _MEMORY

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


def _everywhere() -> set["asyncio.Future[None]"]:
    return _UNDER_WAY[os.getpid()]


def _goes_on(ended: "asyncio.Future[None]") -> bool:
    """Whether a create of another loop can still be answered; nothing ends in a closed loop."""
    return not ended.done() and not ended.get_loop().is_closed()
