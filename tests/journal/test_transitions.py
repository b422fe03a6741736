"""Which transition each state of a key allows, and where it leads: all of them, in a table."""

from collections.abc import Awaitable, Callable, Mapping
from functools import partial

import pytest

from openrouter_keys.errors import JSON, JournalError
from openrouter_keys.journal.journal import Journal
from openrouter_keys.journal.rotations import RotationEntry
from openrouter_keys.journal.schema import State
from tests.engines import New
from tests.journals import AT, HASH, LATER, SECRET, spec

Step = Callable[[Journal], Awaitable[object]]

STEPS: dict[str, Step] = {
    "keep": lambda journal: journal.keep("r", secret=SECRET, hash=HASH),
    "keep settled": lambda journal: journal.keep("r", secret=SECRET, hash=HASH, settled=True),
    "acknowledge": lambda journal: journal.acknowledge("r"),
    "doubt": lambda journal: journal.doubt("r", "lost", told_hash="ab"),
    "fail": lambda journal: journal.fail("r", "refused"),
    "reject": lambda journal: journal.reject("r", "not as asked for"),
    "discard": lambda journal: journal.discard("r", "gone"),
    "again": lambda journal: journal.again("r", LATER),
    "forget": lambda journal: journal.forget_intent("r"),
    "resolve": lambda journal: journal.resolve("r", "nothing is left"),
    "clear": lambda journal: journal.clear("r"),
    "renew": lambda journal: journal.again("r", LATER, spec(limit=7).plan),
    "want": lambda journal: journal.want("r", spec(limit=7).plan),
    "update": lambda journal: journal.update("r", spec(limit=7).plan, None),
    "release": lambda journal: journal.release("r"),
    "gone": lambda journal: journal.gone("r"),
    "forget released": lambda journal: journal.forget_released("r"),
}
#: The steps to each kind of row, whether secrets are stored, and where each step leads from there:
#: the state, how many creates are written off, and whether a hash is there; all else is refused.
KINDS: dict[str, tuple[tuple[str, ...], bool, dict[str, str]]] = {
    "intent": (
        (),
        True,
        {
            "keep": "made 0 hash",
            "keep settled": "settled 0 hash",
            "doubt": "doubt 0 hash",
            "fail": "failed 0",
            "again": "intent 1",
            "forget": "gone",
            "resolve": "failed 0",
            "clear": "intent 0",
            "renew": "intent 1",
        },
    ),
    "doubt": (
        ("doubt",),
        True,
        {
            "keep": "made 0 hash",
            "keep settled": "settled 0 hash",
            "doubt": "doubt 0 hash",
            "fail": "failed 0",
            "again": "intent 1",
            "resolve": "failed 0",
            "clear": "doubt 0 hash",
            "renew": "intent 1",
        },
    ),
    "intent, one written off": (
        ("doubt", "again"),
        True,
        {
            "keep": "made 1 hash",
            "keep settled": "settled 1 hash",
            "doubt": "doubt 1 hash",
            "fail": "failed 1",
            "again": "intent 2",
            "forget": "doubt 0",
            "resolve": "failed 0",
            "clear": "intent 0",
            "renew": "intent 2",
        },
    ),
    "made": (
        ("keep",),
        True,
        {
            "acknowledge": "settled 0 hash",
            "reject": "failed 0 hash",
            "discard": "failed 0",
            "resolve": "made 0 hash",
            "clear": "made 0 hash",
            "want": "made 0 hash",
            "update": "made 0 hash",
            "release": "releasing 0 hash",
        },
    ),
    "made, its secret not stored, one written off": (
        ("doubt", "again", "keep"),
        False,
        {
            "acknowledge": "settled 1 hash",
            "reject": "failed 1 hash",
            "discard": "failed 1",
            "again": "intent 1",
            "resolve": "made 0 hash",
            "clear": "made 0 hash",
            "renew": "intent 1",
            "want": "made 1 hash",
            "update": "made 1 hash",
            "release": "releasing 1 hash",
        },
    ),
    "settled": (
        ("keep settled",),
        True,
        {
            "resolve": "settled 0 hash",
            "clear": "settled 0 hash",
            "want": "settled 0 hash",
            "update": "settled 0 hash",
            "release": "releasing 0 hash",
        },
    ),
    "failed": (
        ("fail",),
        True,
        {
            "again": "intent 0",
            "resolve": "failed 0",
            "clear": "failed 0",
            "renew": "intent 0",
            "release": "releasing 0",
        },
    ),
    "failed, made otherwise than asked for": (
        ("keep", "reject"),
        True,
        {
            "resolve": "failed 0 hash",
            "clear": "failed 0 hash",
            "release": "releasing 0 hash",
        },
    ),
    "releasing": (
        ("keep settled", "release"),
        True,
        {
            "resolve": "releasing 0 hash",
            "clear": "releasing 0 hash",
            "renew": "intent 0",
            "release": "releasing 0 hash",
            "gone": "releasing 0",
        },
    ),
    "releasing, its key gone": (
        ("keep settled", "release", "gone"),
        True,
        {
            "resolve": "releasing 0",
            "clear": "releasing 0",
            "renew": "intent 0",
            "release": "releasing 0",
            "gone": "releasing 0",
            "forget released": "gone",
        },
    ),
    "releasing, its key gone, one written off": (
        ("doubt", "again", "keep settled", "release", "gone"),
        True,
        {
            "resolve": "releasing 0",
            "clear": "releasing 0",
            "renew": "intent 1",
            "release": "releasing 1",
            "gone": "releasing 1",
        },
    ),
}


@pytest.mark.parametrize("kind", KINDS)
async def test_each_state_allows_its_transitions_and_no_other(kind: str, new: New) -> None:
    before, store_secrets, leads = KINDS[kind]
    led: dict[str, str] = {}
    for name, step in STEPS.items():
        async with Journal.open(new(), store_secrets=store_secrets) as journal:
            await journal.intend(spec(), AT)
            for earlier in before:
                await STEPS[earlier](journal)
                await journal.claim("r", settled=True)
            was = await journal.find("r")
            try:
                await step(journal)
            except JournalError as error:
                assert "the state of 'r' does not allow it" in str(error)
                assert await journal.find("r") == was
                continue
            entry = await journal.find("r")
        led[name] = "gone"
        if entry is not None:
            kept = " hash" if entry.hash is not None else ""
            led[name] = f"{entry.state} {entry.written_off}{kept}"
    assert led == leads


@pytest.mark.parametrize("refused", [True, False])
async def test_a_windows_begin_is_the_first_create_that_was_never_answered(
    new: New, *, refused: bool
) -> None:
    async with Journal.open(new()) as journal:
        await journal.intend(spec(), AT)
        await STEPS["fail" if refused else "doubt"](journal)
        await journal.claim("r")
        await journal.again("r", LATER)
        entry = await journal.find("r")
    assert entry is not None
    assert entry.first_attempt_at == (LATER if refused else AT)
    assert entry.last_attempt_at == LATER


async def test_a_released_key_gets_no_replacement(new: New) -> None:
    async with Journal.open(new()) as journal:
        await journal.intend(spec(), AT)
        await journal.keep("r", secret=SECRET, hash=HASH, settled=True)
        await journal.plan_rotations([(HASH, spec(HASH).plan, "full", None, 0.0)])
        await journal.claim("r", settled=True)
        await journal.release("r")
        with pytest.raises(JournalError, match="was released meanwhile"):
            await journal.intend(spec(HASH), AT)
        assert await journal.find(HASH) is None


@pytest.mark.parametrize("limit", [None, 7.5])
@pytest.mark.parametrize("made", [None, "refused", "intended"])
async def test_a_planned_replacement_follows_an_update(
    new: New, limit: float | None, made: str | None
) -> None:
    planned, wanted = spec(HASH, limit=2), spec(HASH, limit=limit)

    def replan(_: RotationEntry, __: Mapping[str, JSON]) -> tuple[str, float | None]:
        return wanted.plan, limit

    async with Journal.open(new()) as journal:
        await journal.intend(spec(), AT)
        await journal.keep("r", secret=SECRET, hash=HASH, settled=True)
        await journal.claim("r", settled=True)
        known = await journal.known_hashes([HASH])
        await journal.plan_rotations([(HASH, planned.plan, "full", 5.0, 0.0)], known.own)
        if made is not None:
            assert await journal.intend(planned, AT) is None
        if made == "refused":
            await journal.fail(HASH, "refused")
        found = await journal.succession("r", unmade=True)
        want = partial(journal.want_all, plan="{}", fields={}, replan=replan)
        assert not await want([found[0], found[0]])
        assert await want(found)
        (entry,) = [each async for each in journal.rotations()]
        if made == "intended":
            assert (entry.plan, entry.limit) == (planned.plan, 5.0)
            return
        assert (entry.plan, entry.limit) == (wanted.plan, limit)
        if made is None:
            with pytest.raises(JournalError, match="was changed meanwhile"):
                await journal.intend(planned, AT)
            assert await journal.intend(wanted, AT) is None
        else:
            assert await journal.states([wanted]) == [State.FAILED]
        again = await journal.plan_rotations([], known.own)
        assert {*again} == {HASH}


@pytest.mark.parametrize("limits", [[6, 5], [6, 7, 5], [5], [6]])
async def test_a_rotation_notices_each_update_since_it_looked(limits: list[int], new: New) -> None:
    """Also those that lead there and back: each writes a record of its own."""
    asked = spec(limit=5)
    async with Journal.open(new()) as journal:
        await journal.intend(asked, AT)
        await journal.keep("r", secret=SECRET, hash=HASH, record='{"updated_at":0}', settled=True)
        own = (await journal.known_hashes([HASH])).own
        planned = [(HASH, spec(HASH, limit=5).plan, "full", 5.0, 0.0)]
        for number, limit in enumerate(limits, 1):
            await journal.claim("r", settled=True)
            await journal.want("r", spec(limit=limit).plan)
            await journal.update("r", spec(limit=limit).plan, f'{{"updated_at":{number}}}')
        assert {*await journal.plan_rotations(planned, own)} == {HASH}
        own = (await journal.known_hashes([HASH])).own
        assert not await journal.plan_rotations(planned, own)
