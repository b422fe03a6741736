"""A row whose owner goes on with it, and ends, between a look at the row and its claim."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from openrouter_keys import AsyncOpenRouter
from openrouter_keys.emulator import Emulator
from openrouter_keys.errors import CreateOutcomeUnknownError
from openrouter_keys.journal.journal import Journal
from tests.ensuring.rows import Rows, World, opened, secrets
from tests.journals import spec

ASKED = spec(limit=5)


def just_before_a_claim(
    monkeypatch: pytest.MonkeyPatch, act: Callable[[], Awaitable[None]]
) -> None:
    """Do something once, when the next claim is asked for."""
    claim, done = Journal.claim, asyncio.Event()

    async def late(journal: Journal, *refs: str, **given: Any) -> Any:
        if refs and not done.is_set():
            done.set()
            await act()
        return await claim(journal, *refs, **given)

    monkeypatch.setattr(Journal, "claim", late)


@pytest.mark.parametrize(
    ("end", "outcome"),
    [("answered", "existing"), ("refused", "created"), ("forgotten", "created"), ("lost", None)],
)
async def test_what_its_owner_did_last_counts(
    end: str,
    outcome: str | None,
    *,
    client: AsyncOpenRouter,
    emulator: Emulator,
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with opened(path, emulator) as journal:
        other = journal.begin()
        run = await other.__aenter__()
        rows = Rows(run, client, emulator)
        await rows.bring("intent", ASKED)

        async def go_on_and_end() -> None:
            if end == "answered":
                await rows._answered(ASKED, settled=True)
            elif end == "refused":
                await run.fail(ASKED.ref, "refused")
            elif end == "forgotten":
                await run.forget_intent(ASKED.ref)
            else:
                await run.doubt(ASKED.ref, "no answer", ended_at=rows._now())
            await other.__aexit__(None, None, None)

        just_before_a_claim(monkeypatch, go_on_and_end)
        world = World(client, emulator, journal)
        if outcome is None:
            with pytest.raises(CreateOutcomeUnknownError):
                await world.ensure(ASKED, wait=1)
            return
        ensured = await world.ensure(ASKED, wait=1)
        assert (ensured.outcome, [ensured.key]) == (outcome, secrets(emulator))
