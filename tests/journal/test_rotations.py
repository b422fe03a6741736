"""Rotations in a journal: what it says of a twin, and when it was handed over."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from openrouter_keys import AsyncOpenRouter
from openrouter_keys.journal.journal import Journal
from openrouter_keys.rotation.stored import stored
from tests.engines import New
from tests.journals import AT, HASH, LATER, SECRET, spec
from tests.misbehaving import Answer, misbehaving
from tests.provisions import JumpingTime

KEY = "sk-or-mgmt-test-" + "0" * 32
STRANGER = "ab" * 32
NOW = "2026-11-21T12:00:00Z"

Way = Callable[[Journal], Awaitable[object]]


async def doubted(journal: Journal) -> None:
    await journal.doubt("r", "lost", told_hash=STRANGER)


async def made(journal: Journal) -> None:
    await journal.keep("r", secret=SECRET, hash=HASH)


async def handed_over(journal: Journal) -> None:
    await made(journal)
    await journal.acknowledge("r")


async def kept(journal: Journal) -> None:
    await journal.keep("r", secret=SECRET, hash=HASH, settled=True)


async def made_after_a_doubt(journal: Journal) -> None:
    await doubted(journal)
    await journal.again("r", LATER)
    await made(journal)


async def again(journal: Journal) -> None:
    await doubted(journal)
    await journal.again("r", LATER)


async def back_in_doubt(journal: Journal) -> None:
    await again(journal)
    await journal.forget_intent("r")


async def resolved(journal: Journal) -> None:
    await doubted(journal)
    await journal.resolve("r", "nothing is left")


async def refused(journal: Journal) -> None:
    await doubted(journal)
    await journal.fail("r", "refused")


async def rejected(journal: Journal) -> None:
    await made(journal)
    await journal.reject("r", "not as asked for")


async def nothing(_: Journal) -> None:
    pass


#: What happened to a create, the hash of its twin, and whether the twin was handed over.
WAYS: dict[Way, tuple[str | None, bool]] = {
    nothing: (None, False),
    doubted: (None, False),
    again: (None, False),
    back_in_doubt: (None, False),
    resolved: (None, False),
    refused: (None, False),
    made: (HASH, False),
    made_after_a_doubt: (HASH, False),
    rejected: (HASH, False),
    handed_over: (HASH, True),
    kept: (HASH, True),
}


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
async def test_a_twin_is_what_was_made_and_never_what_an_answer_merely_says(
    way: Way, new: New
) -> None:
    twin, acknowledged = WAYS[way]
    async with Journal.open(new()) as journal:
        await journal.plan_rotations([("r", spec().plan, "full", None, 0.0)])
        await journal.time_hand_overs(lambda: NOW)
        await journal.intend(spec(), AT)
        await way(journal)
        (entry,) = [each async for each in journal.rotations()]
        known = await journal.known_hashes([STRANGER, HASH])
        mixed_up = await journal.is_mixed_up(STRANGER, HASH)
    assert entry.twin == twin
    assert (entry.handed_over_at is not None) is acknowledged
    assert known.twins == {twin} - {None}
    assert not mixed_up


async def test_a_key_that_an_answer_in_doubt_named_is_no_twin(tmp_path: Path) -> None:
    path, time = tmp_path / "r.journal", JumpingTime()
    async with misbehaving(now=time.now) as service:
        keys = {name: service.add(name) for name in ("old", "stranger")}
        answers = [Answer(201, {"data": keys["stranger"]})]
        service.answer = lambda asked: answers.pop() if asked.method == "POST" and answers else None
        async with AsyncOpenRouter(KEY, server_url=service.url) as client:
            client._transport.clockwork = time.clockwork()
            first = await client.rotate([str(keys["old"]["hash"])], journal=path)
            async with Journal.read(path) as journal:
                twins = [rotation.twin async for rotation in stored(journal)]
            second = await client.rotate([str(keys["stranger"]["hash"])], journal=path)
    assert first.in_doubt == 1
    assert twins == [None]
    assert (second.skipped, second.rotated) == (0, 2)
