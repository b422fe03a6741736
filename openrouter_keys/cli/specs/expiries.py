"""The expiries of keys that a journal knows: a duration counts from the create, and stays so."""

from datetime import datetime

from openrouter_keys.journal.journal import Journal
from openrouter_keys.journal.schema import State
from openrouter_keys.utils import parse_datetime


async def known_expiries(journal: Journal) -> dict[str, datetime]:
    """Return when keys expire, by their refs; those that are being released are left out."""
    expiries = dict[str, datetime]()
    async for entry in journal.every():
        known = entry.plan.get("expires_at")
        if isinstance(known, str) and entry.state is not State.RELEASING:
            expiries[entry.ref] = parse_datetime(known)
    return expiries
