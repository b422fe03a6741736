"""What a caller of a rotation passes in, checked before anything is sent."""

from collections.abc import AsyncIterable, Iterable
from typing import Literal, TypeAlias

from openrouter_keys._inputs import checks

Hashes: TypeAlias = Iterable[str] | AsyncIterable[str]
#: What a twin may spend: what the old key has left, or the whole limit once more.
BudgetRule: TypeAlias = Literal["remaining", "full"]


async def distinct(hashes: Hashes) -> list[str]:
    """Read all hashes, each of which counts once, and refuse what is none."""
    kind = type(hashes).__name__
    # A text is an iterable of texts, and a mapping one of its names.
    if kind in ("str", "bytes", "dict") or not isinstance(hashes, Iterable | AsyncIterable):
        checks.refuse("hashes", f"must be an iterable or async iterable of hashes, not {kind}")
    if isinstance(hashes, AsyncIterable):
        read = [checks.key_hash(hash) async for hash in hashes]
    else:
        read = [checks.key_hash(hash) for hash in hashes]
    return [*dict.fromkeys(read)]


def check_budget(budget: object) -> None:
    """Refuse what is no way to choose a limit."""
    if budget not in ("remaining", "full"):
        checks.refuse("budget", f'must be "remaining" or "full", not {budget!r}')
