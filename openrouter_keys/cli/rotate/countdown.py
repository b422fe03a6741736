"""The countdown of the grace period, in which old and new keys work side by side."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Final

from openrouter_keys.cli.options.journal import Place
from openrouter_keys.cli.terminal.messages import redraws, rewrite, say
from openrouter_keys.journal.journal import Journal
from openrouter_keys.journal.schema import OldKey

_UNITS: Final = {"d": 86_400, "h": 3600, "min": 60, "s": 1}
_MESSAGE: Final = "the old keys go on working for {}; Ctrl-C keeps them"


async def last_due(journal: Place, grace: float) -> datetime | None:
    """Return when the last old key is due whose new key was handed over; None: there is none.

    Args:
        journal: of the rotation.
        grace: seconds from the hand-over of a new key on.
    """
    last: datetime | None = None
    async with Journal.read(journal.given) as reading:
        async for entry in reading.rotations():
            at = entry.handed_over_at
            if at is not None and entry.old_key is not OldKey.DELETED:
                last = at if last is None else max(last, at)
    return None if last is None else last + timedelta(seconds=grace)


@asynccontextmanager
async def counted_down(until: datetime | None, *, quiet: bool) -> AsyncGenerator[None]:
    """Show how long it is until then: each second on a terminal, once elsewhere.

    Args:
        until: the time; None: there is nothing to wait for.
        quiet: show nothing.
    """
    left = 0.0 if until is None else _left(until)
    if until is None or quiet or left < 1:
        yield
    elif redraws():
        shown = asyncio.create_task(_count_down(until))
        try:
            yield
        finally:
            shown.cancel()
            with suppress(asyncio.CancelledError):
                await shown
    else:
        say(_MESSAGE.format(in_words(left)))
        yield


def in_words(seconds: float) -> str:
    """Return a duration such as `3 s`, `59 min 50 s`, `1 h 30 min` or `7 d`."""
    rest, parts = round(seconds), list[str]()
    for unit, length in _UNITS.items():
        count, rest = divmod(rest, length)
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2]) or "0 s"


def _left(until: datetime) -> float:
    return (until - datetime.now(UTC)).total_seconds()


async def _count_down(until: datetime) -> None:
    try:
        while (left := _left(until)) > 0:
            rewrite(_MESSAGE.format(in_words(left)))
            await asyncio.sleep(min(left, 1))
    finally:
        rewrite("")
