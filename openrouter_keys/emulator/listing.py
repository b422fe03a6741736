"""Finds the keys of a list once for all its pages. No HTTP."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from attrs import Factory, define, field, frozen

from openrouter_keys.emulator.stored import StoredKey, moves

_NEVER: Final = datetime.max.replace(tzinfo=UTC)


@frozen(kw_only=True)
class Asked:
    """Which keys a list has."""

    workspace_id: str
    include_disabled: bool
    include_expired: bool


@define(eq=False)
class Listing:
    """A list's keys, newest first, found as far as clients asked for its pages.

    Without it each page would begin with the newest key, and cost as much as all before it.

    Args:
        asked: which keys it has.
        keys: all keys of the account, oldest first.
        at: the time of the last page.
    """

    asked: Asked
    keys: list[StoredKey]
    at: datetime
    _moves: int = field(init=False, factory=lambda: moves.count)
    _found: list[StoredKey] = field(init=False, factory=list[StoredKey])
    _left: int = field(init=False, default=Factory(lambda self: len(self.keys), takes_self=True))
    _until: datetime = field(init=False, default=_NEVER)

    def goes_on(self, asked: Asked, keys: list[StoredKey], now: datetime) -> bool:
        """Return whether a new list would find the same: nothing moved, nothing expired."""
        return (
            asked == self.asked
            and self._moves == moves.count
            and self.at <= now < self._until
            and keys == self.keys
        )

    def page(self, offset: int, size: int, now: datetime) -> Sequence[StoredKey]:
        """Return the keys of one page."""
        self.at = now
        while self._left and len(self._found) < offset + size:
            self._left -= 1
            key = self.keys[self._left]
            if self._includes(key):
                self._found.append(key)
        return self._found[offset : offset + size]

    def _includes(self, key: StoredKey) -> bool:
        if key.workspace_id != self.asked.workspace_id:
            return False
        if key.disabled and not self.asked.include_disabled:
            return False
        if key.expires_at is None or self.asked.include_expired:
            return True
        if key.expired(self.at):
            return False
        self._until = min(self._until, key.expires_at)
        return True
