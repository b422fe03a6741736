"""`release`: which key it deletes, and which it must leave."""

import pytest

from openrouter_keys.emulator import Emulator, Fault
from openrouter_keys.errors import (
    CreateOutcomeUnknownError,
    JournalError,
    OpenRouterError,
)
from openrouter_keys.journal.schema import State
from tests.ensuring.conftest import LIMITED
from tests.ensuring.rows import World, row, secrets, sent
from tests.journals import spec

STATES = [
    "intent", "doubt", "doubt-made", "failed", "made", "made-unread", "made-unlimited", "settled",
    "rejected", "wanted", "releasing", "released",
]  # fmt: skip


@pytest.mark.parametrize("state", STATES)
async def test_each_state(world: World, state: str) -> None:
    """No key and no row is left of any state, and the ref can be ensured anew."""
    await world.bring(state)
    world.emulator.account.add("another's")
    assert await world.release(wait=300)
    assert [key.name for key in world.emulator.account.keys.values()] == ["another's"]
    assert not [entry async for entry in world.journal.every()]
    assert not await world.release()
    assert (await world.ensure(LIMITED)).outcome == "created"


async def test_a_ref_that_is_not_known_costs_nothing(world: World) -> None:
    assert not await world.release("unknown")
    assert sent(world.emulator) == []


@pytest.mark.parametrize("settled", [True, False])
async def test_a_key_that_is_another_refs_too_is_left(world: World, *, settled: bool) -> None:
    """An answer that was a copy must not cost another ref its key."""
    first = await world.ensure(spec("other", limit=5))
    assert first.key is not None
    async with world.journal.begin() as run:
        await run.intend(LIMITED, world.client._transport.clockwork.now())
        await run.keep("r", secret=first.key, hash=first.data.hash, settled=settled)
    with pytest.raises(JournalError, match="is another ref's"):
        await world.release()
    assert secrets(world.emulator) == [first.key]
    assert (await world.ensure(spec("other", limit=5))).key == first.key


@pytest.mark.parametrize("is_there", [True, False])
async def test_a_hash_that_an_answer_only_claims_is_left(world: World, *, is_there: bool) -> None:
    """The key of the secret is deleted; that of the claimed hash may be somebody else's."""
    mine, theirs = (world.emulator.account.add(name) for name in ("customer-r", "theirs"))
    assert mine.secret is not None
    async with world.journal.begin() as run:
        await run.intend(LIMITED, world.client._transport.clockwork.now())
        await run.keep("r", secret=mine.secret, hash=theirs.hash, settled=True)
    if is_there:
        assert await world.release()
        assert await world.journal.find("r") is None
    else:
        del world.emulator.account.keys[mine.hash]
        with pytest.raises(JournalError, match="nothing proves"):
            await world.release()
        assert (await row(world.journal)).state is State.RELEASING
    assert secrets(world.emulator) == [theirs.secret]


FAULTS = {
    "not found, and lagging": Fault("delete", "status", status=404),
    "refused": Fault("delete", "status", status=403),
    "failing": Fault("delete", "status", status=502, times=None),
    "closed": Fault("delete", "closed", times=None),
    "closed after it": Fault("delete", "closed", phase="after", times=None),
    "no JSON": Fault("delete", "not_json"),
    "not done": Fault("delete", "body", body=b'{"deleted": false}'),
    "no look": Fault("get", "status", status=500, times=None),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_each_fault(world: World, emulator: Emulator, fault: str) -> None:
    """Whatever a delete meets, nobody gets the key's secret any more, and the next call goes on."""
    first = await world.ensure(LIMITED)
    emulator.account.add("another's")
    emulator.faults.append(FAULTS[fault])
    try:
        assert await world.release()
    except OpenRouterError:
        entry = await row(world.journal)
        assert (entry.state, entry.secret) == (State.RELEASING, None)
    emulator.faults.clear()
    second = await world.ensure(LIMITED)
    assert (second.outcome, second.key != first.key) == ("created", True)
    assert [key.name for key in emulator.account.keys.values()] == ["another's", "customer-r"]


async def test_a_doubt_that_takes_longer_than_the_caller_waits(world: World) -> None:
    await world.bring("doubt-made")
    with pytest.raises(CreateOutcomeUnknownError, match=r"^release: ") as caught:
        await world.release(wait=10)
    error = caught.value
    assert error.retry_after is not None
    assert 40 < error.retry_after <= 60
    assert (error.name, error.workspace_id) == (LIMITED.name, None)
    await world.client._transport.clockwork.sleep(error.retry_after)
    assert await world.release(wait=10)
    assert secrets(world.emulator) == []
