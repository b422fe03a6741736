"""Finds the keys of a list once for all its pages. No HTTP."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from attrs import define, field, frozen

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
    """A list's keys, newest first.

    All are found at once, whatever page is asked for, so that a page costs the same at any offset.

    Args:
        asked: which keys it has.
        keys: all keys of the account, oldest first.
        at: the time of the last page.
    """

    asked: Asked
    keys: list[StoredKey]
    at: datetime
    _moves: int = field(init=False, factory=lambda: moves.count)
    _found: list[StoredKey] = field(init=False)
    _until: datetime = field(init=False, default=_NEVER)

    def __attrs_post_init__(self) -> None:
        home, disabled = self.asked.workspace_id, self.asked.include_disabled
        # One expression, without a call for each key.
        self._found = [
            key
            for key in reversed(self.keys)
            if key.workspace_id == home and (disabled or not key.disabled)
        ]
        if self.asked.include_expired:
            return
        if any(key.expires_at is not None for key in self._found):
            self._found = [key for key in self._found if not key.expired(self.at)]
            later = (key.expires_at for key in self._found if key.expires_at is not None)
            self._until = min(later, default=_NEVER)

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
        return self._found[offset : offset + size]
