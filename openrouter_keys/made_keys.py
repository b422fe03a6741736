"""Which keys a client has made, and which creates are under way. No network."""

import asyncio

#: How many keys are remembered: the last ones.
MOST = 10_000


class MadeKeys:
    """Remembers keys whose creates were answered, so that nobody takes them for lost ones."""

    def __init__(self) -> None:
        self._hashes: dict[str, None] = {}
        self._under_way: set[asyncio.Future[None]] = set()

    def __contains__(self, hash: str) -> bool:
        return hash in self._hashes

    def add(self, hash: str) -> None:
        """Remember a key."""
        self._hashes[hash] = None
        if len(self._hashes) > MOST:
            del self._hashes[next(iter(self._hashes))]

    def begin(self) -> "asyncio.Future[None]":
        """A create is under way, until `end` gets what this returns."""
        ended = asyncio.get_running_loop().create_future()
        self._under_way.add(ended)
        return ended

    def end(self, ended: "asyncio.Future[None]") -> None:
        """A create is under way no longer."""
        self._under_way.discard(ended)
        ended.set_result(None)

    async def settled(self) -> None:
        """Wait until the creates that are under way now have ended."""
        if self._under_way:
            await asyncio.wait(self._under_way)
