"""Lists that are not whole: nothing is concluded from them, and what may be missing is told."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeAlias
from unicodedata import normalize

import pytest

from openrouter_keys import UNSET, AsyncOpenRouter, ProvisioningStoppedError
from openrouter_keys.errors import CreateOutcomeUnknownError, OpenRouterError
from openrouter_keys.journal.specs import KeySpec
from tests.cases import Case
from tests.journals import spec
from tests.misbehaving import Answer, Asked, Outcome, Record, hash_of, refused
from tests.provisions import specs
from tests.records import key_json

WORKSPACE = "0df9e665-d932-5740-b2c7-b52af166bc11"
PAGE, COUNT = 20, 40


Page: TypeAlias = Callable[[list[Record], int], Sequence[Record] | Answer]


def page(keys: list[Record], offset: int) -> list[Record]:
    return keys[offset : offset + PAGE]


def gone(keys: list[Record], _: int) -> Sequence[Record] | Answer:
    return refused(404, "Workspace not found") if keys else []


def gone_later(keys: list[Record], offset: int) -> Sequence[Record] | Answer:
    return page(keys, offset) if offset == 0 else refused(404, "Workspace not found")


def no_offset(keys: list[Record], _: int) -> list[Record]:
    return keys[:PAGE]


def empty(_: list[Record], __: int) -> list[Record]:
    return []


def empty_later(keys: list[Record], offset: int) -> list[Record]:
    return page(keys, offset) if offset < PAGE // 2 else []


def short(keys: list[Record], offset: int) -> list[Record]:
    return keys[offset : offset + (PAGE if offset == 0 else 4)]


def with_a_hole(keys: list[Record], offset: int) -> list[Record]:
    return page(keys[:18] + keys[28:], offset)


def sometimes_empty(keys: list[Record], _: int) -> list[Record]:
    return keys[: len(keys) // 2] if len(keys) % 2 else []


def without_the_last(keys: list[Record], offset: int) -> list[Record]:
    return page(keys[:-8], offset)


def without_the_first(keys: list[Record], offset: int) -> list[Record]:
    return page(keys[30:], offset)


#: They lie about keys that other keys, which must be listed, stand beside.
LIES: dict[str, Page] = {
    "a 404 of the workspace": gone,
    "a 404 of a later page": gone_later,
    "a page for every offset": no_offset,
    "an empty list": empty,
    "an empty page in the middle": empty_later,
    "keys left out in the middle": with_a_hole,
    "the oldest keys left out": without_the_last,
    "a list that lags behind": without_the_first,
}
#: They are true, and not as documented.
TRUTHS: dict[str, Page] = {
    "as documented": page,
    "short pages": short,
    "an old key on top": lambda keys, offset: page([*keys[-1:], *keys[:-1]], offset),
    "the oldest first": lambda keys, offset: page(keys[::-1], offset),
    "three old keys on top": lambda keys, offset: page([*keys[-3:], *keys[:-3]], offset),
}


def many(count: int = COUNT, **given: Any) -> list[KeySpec]:
    return specs(count, workspace_id=WORKSPACE, **given)


def add_old(case: Case, count: int) -> None:
    """Keys of long ago, made by hand."""
    for number in range(count):
        case.service.add(f"old-{number}", workspace_id=WORKSPACE)
    case.time.slept.append(7 * 86400)


async def provisioned(case: Case, path: Path, *, lost: Sequence[int]) -> None:
    """Provision through a list of any kind, then through a true one, and leave no key untold."""
    outcomes: list[Outcome] = ["lost" if number in lost else "told" for number in range(COUNT)]
    case.service.outcomes.extend(outcomes)
    taken: dict[str, str] = {}

    async def run() -> bool:
        report = await case.client.provision(
            many(), journal=path, on_result=lambda one: taken.update({one.ref: hash_of(one.key)})
        )
        told = {hash for doubt in (*report.doubts, *report.unproven) for hash in doubt.hashes}
        held = {*taken.values()}
        old = {key["hash"] for key in case.service.keys if key["name"].startswith("old-")}
        assert held <= case.service.hashes
        if report.ok:
            assert case.service.hashes == held | old | told
        return report.ok

    first = await run()
    case.service.page = page
    assert await run()
    assert len(taken) == COUNT
    case.looks = first


@pytest.mark.slow
@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
async def test_nothing_is_concluded_from_a_list_that_is_not_whole(
    lie: Page, case: Case, path: Path
) -> None:
    add_old(case, 6)
    case.service.page = lie
    await provisioned(case, path, lost=range(12, 24, 2))
    assert not case.looks


def other_people(case: Case, offset: int, count: int = PAGE, *, later: int = 1) -> list[Record]:
    """Keys that somebody else makes, as many as one asks for."""
    made = (case.time.now() + timedelta(hours=later)).isoformat()
    return [
        key_json(hash=f"{number:064x}", name="other", created_at=made)
        for number in range(offset, offset + count)
    ]


ENDLESS: dict[str, Callable[[Case, int], Sequence[Record]]] = {
    "newer ones": other_people,
    "older ones, and one that is newer": lambda case, offset: [
        *other_people(case, offset, PAGE - 1, later=-99),
        *other_people(case, offset + PAGE - 1, 1),
    ],
    "few at a time": lambda case, offset: other_people(case, offset, 2 + offset % 2),
    "the first ones again and again": lambda case, offset: [
        *other_people(case, 0, 2),
        *other_people(case, offset),
    ],
}


@pytest.mark.parametrize("kind", ENDLESS)
async def test_a_list_without_an_end_is_given_up(kind: str, case: Case) -> None:
    def forever(_: list[Record], offset: int) -> Sequence[Record]:
        case.looks += 1
        case.time.slept.append(10)  # each page takes so many seconds
        return ENDLESS[kind](case, offset)

    case.service.page = forever
    case.service.outcomes.append("lost")
    began = case.time.monotonic()
    with pytest.raises(CreateOutcomeUnknownError) as caught:
        await case.client.api_keys.create(name="new", on_unknown="reconcile")
    assert "did not come within 600 seconds" in "".join(caught.value.__notes__)
    assert case.time.monotonic() - began < 700
    assert case.looks <= 62


@pytest.mark.slow
@pytest.mark.parametrize("truth", TRUTHS.values(), ids=TRUTHS)
@pytest.mark.parametrize("old", [0, 3, 30])
async def test_a_whole_list_is_believed_however_it_is_ordered(
    truth: Page, old: int, case: Case, path: Path
) -> None:
    add_old(case, old)
    case.service.page = truth
    await provisioned(case, path, lost=[0, 10, 39])
    assert case.looks


@pytest.mark.slow
async def test_a_list_that_lags_for_a_moment_is_waited_for(case: Case, path: Path) -> None:
    looks: list[int] = []

    def lags(keys: list[Record], offset: int) -> list[Record]:
        looks.append(offset)
        return page(keys[30:] if len(looks) < 6 else keys, offset)

    case.service.page = lags
    await provisioned(case, path, lost=[38])
    assert case.looks


@pytest.mark.slow
async def test_keys_that_were_deleted_meanwhile_are_not_missed(case: Case, path: Path) -> None:
    case.service.outcomes.extend(("told", "told", "told", "told", "told", "lost"))

    def take(_: object) -> None:
        if len(case.service.keys) > 3:
            case.service.keys.pop(0)  # somebody deletes what was handed over

    report = await case.client.provision(specs(6), journal=path, on_result=take, concurrency=1)
    assert (report.created, report.deleted, report.ok) == (6, 1, True)


# --- without a key that must be listed ---

EMPTY_AT_FIRST: dict[str, list[Page]] = {
    "empty": [empty],
    "a 404": [gone],
    "empty twice": [empty, page, empty],
    "another key each time": [
        lambda keys, offset: page(keys[1:], offset),
        lambda keys, offset: page(keys[:1] + keys[2:], offset),
    ],
}


@pytest.mark.parametrize("pages", EMPTY_AT_FIRST.values(), ids=EMPTY_AT_FIRST)
@pytest.mark.parametrize("workspace_id", [None, WORKSPACE])
async def test_a_single_create_is_settled_by_looks_that_agree(
    pages: list[Page], workspace_id: str | None, case: Case
) -> None:
    error = await lost(case, workspace_id)
    left = [*pages]
    if workspace_id is None and gone in left:
        return  # a default workspace that is not there is an error
    first = case.service.count("GET")

    def changing(keys: list[Record], offset: int) -> Sequence[Record] | Answer:
        # The first one is asked for the time only.
        asked = case.service.count("GET") - first
        return left.pop(0)(keys, offset) if asked > 1 and left else page(keys, offset)

    case.service.page = changing
    found = await case.client.api_keys.reconcile(error)
    assert found.settled
    assert [key.name for key in found.deleted] == ["n"]
    assert [key["name"] for key in case.service.keys] == ["a", "b"]


@pytest.mark.slow
@pytest.mark.parametrize("lie", [gone, no_offset, sometimes_empty])
async def test_a_single_create_that_cannot_be_settled_is_told(lie: Page, case: Case) -> None:
    for number in range(30):
        case.service.add(f"another-{number}", workspace_id=WORKSPACE)
    case.service.outcomes.append("lost")
    turns: list[int] = []

    def turning(keys: list[Record], offset: int) -> Sequence[Record] | Answer:
        turns.append(offset)
        return lie(keys[len(turns) % 2 :], offset)

    case.service.page = turning
    with pytest.raises(CreateOutcomeUnknownError) as caught:
        await case.client.api_keys.create(name="n", workspace_id=WORKSPACE, on_unknown="reconcile")
    assert "nothing proves that all keys were listed" in "".join(caught.value.__notes__)
    assert len(case.service.keys) == 31


async def lost(case: Case, workspace_id: str | None) -> CreateOutcomeUnknownError:
    given = {} if workspace_id is None else {"workspace_id": workspace_id}
    for name in ("a", "b"):
        case.service.add(name, **given)
    case.service.outcomes.append("lost")
    with pytest.raises(CreateOutcomeUnknownError) as caught:
        await case.client.api_keys.create(name="n", workspace_id=workspace_id)
    return caught.value


# --- keys that must be listed ---


async def doubtful(case: Case, path: Path, count: int, **given: Any) -> None:
    """A run that ends with so many keys in hand, and one more create in doubt."""
    told: list[Outcome] = ["told"] * count
    case.service.outcomes.extend([*told, "lost"])

    def answer(asked: Asked) -> Answer | None:
        is_over = case.service.count("POST") > count and asked.method == "GET"
        return refused(401) if is_over else None

    case.service.answer = answer
    with pytest.raises(ProvisioningStoppedError):
        await case.client.provision(
            specs(count + 1, **given), journal=path, quiet_period=2, concurrency=1
        )
    case.service.answer = lambda _: None


@pytest.mark.parametrize("workspace_id", [None, WORKSPACE])
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("listed", [empty, gone])
async def test_an_empty_list_without_a_key_that_was_made_there_proves_nothing(
    listed: Page, count: int, workspace_id: str | None, case: Case, path: Path
) -> None:
    if workspace_id is None and listed is gone:
        return  # a default workspace that is not there is an error
    await doubtful(case, path, count, workspace_id=workspace_id)
    theirs = [*case.service.keys]  # another account's management key from now on
    case.service.keys.clear()
    case.service.page = listed
    time = case.time
    wanted = specs(count + 1, workspace_id=workspace_id)
    async with AsyncOpenRouter("another", server_url=case.service.url) as client:
        client._transport.clockwork = time.clockwork()
        report = await client.provision(wanted, journal=path, quiet_period=2)
    assert (report.ok, report.in_doubt, case.service.keys) == (False, 1, [])

    case.service.page = page
    case.service.keys.extend(theirs)
    report = await case.client.provision(wanted, journal=path, quiet_period=2)
    assert (report.ok, report.created, report.deleted) == (True, 1, 1)
    assert len(case.service.keys) == count + 1


LAGS: dict[str, Page] = {
    "all": empty,
    "the newest": lambda keys, offset: page(keys[2:], offset),
    "all but what is made by hand": lambda keys, offset: page(
        [key for key in keys if key["name"] == "by hand"], offset
    ),
    "a first page": lambda keys, offset: [] if offset == 0 else page(keys, offset),
}


@pytest.mark.parametrize("workspace_id", [None, WORKSPACE])
@pytest.mark.parametrize("lag", LAGS.values(), ids=LAGS)
async def test_a_list_without_a_key_that_this_client_made_a_moment_ago_proves_nothing(
    lag: Page, workspace_id: str | None, case: Case
) -> None:
    given: dict[str, Any] = {"workspace_id": workspace_id}
    case.service.add("by hand", **({} if workspace_id is None else given))
    case.time.slept.append(3600)
    made = await case.client.api_keys.create(name="a", **given)
    case.time.slept.append(5)
    case.service.page = lag
    case.service.outcomes.append("lost")
    with pytest.raises(CreateOutcomeUnknownError) as caught:
        await case.client.api_keys.create(name="b", on_unknown="reconcile", **given)
    assert made.data.hash in "".join(caught.value.__notes__)
    assert [key["name"] for key in case.service.keys] == ["by hand", "a", "b"]

    await case.client.api_keys.delete(hash=made.data.hash)  # then it need not be listed
    case.service.page = page
    assert (await case.client.api_keys.reconcile(caught.value)).settled
    assert [key["name"] for key in case.service.keys] == ["by hand"]


async def test_what_this_client_deleted_need_not_be_listed(case: Case) -> None:
    for number in range(40):
        made = await case.client.api_keys.create(name=f"a-{number}")
        await case.client.api_keys.delete(hash=made.data.hash)
    case.service.outcomes.append("lost")
    await case.client.api_keys.create(name="b", on_unknown="reconcile")
    assert [key["name"] for key in case.service.keys] == ["b"]
    assert len(case.client._transport.recent) == 32


@pytest.mark.parametrize("over", [1, 3])
@pytest.mark.parametrize("count", [0, 2])
async def test_a_service_need_not_list_a_key_that_is_over(
    over: int, count: int, case: Case, path: Path
) -> None:
    def current(keys: list[Record], offset: int) -> list[Record]:
        now = case.time.now()

        def is_over(key: Record) -> bool:
            end = key["expires_at"]
            return end is not None and datetime.fromisoformat(end) <= now

        return page([key for key in keys if not is_over(key)], offset)

    soon = case.time.now() + timedelta(seconds=20)
    case.service.page = current
    told: list[Outcome] = ["told"] * (over + count)
    case.service.outcomes.extend([*told, "lost"])
    wanted = [
        spec(str(number), expires_at=soon if number < over else UNSET)
        for number in range(over + count + 1)
    ]
    report = await case.client.provision(wanted, journal=path, concurrency=1)
    assert (report.ok, report.deleted, len(case.service.keys)) == (True, 1, over + count + 1)


@pytest.mark.parametrize("cut", [0, 1, 60])
@pytest.mark.parametrize("hidden", [1, 5])
async def test_others_may_make_keys_between_two_looks(cut: int, hidden: int, case: Case) -> None:
    def busy(keys: list[Record], offset: int) -> list[Record]:
        if offset == 0:
            for _ in range(hidden):
                case.service.add("other")
        return page(keys, offset)

    def stamp(now: datetime) -> datetime:
        return now if cut == 0 else datetime.fromtimestamp(now.timestamp() // cut * cut, UTC)

    case.service.stamp, case.service.page = stamp, busy
    case.service.outcomes.append("lost")
    error = None
    try:
        await case.client.api_keys.create(name="n", limit=5, on_unknown="reconcile")
    except CreateOutcomeUnknownError as unknown:
        error = "".join(unknown.__notes__)
    # Stamps that are cut to minutes prove nothing about a key, and nothing against the list.
    assert error is None or "listed" not in error


@pytest.mark.parametrize("hides", [{2, 4}, {3, 5}, {2, 5}], ids=str)
@pytest.mark.parametrize("count", [1, 3])
async def test_a_run_whose_last_look_settles_a_spec_says_that_its_key_is_not_made(
    hides: set[int], count: int, case: Case, path: Path
) -> None:
    looks = 0

    def unsteady(keys: list[Record], offset: int) -> list[Record]:
        nonlocal looks
        looks += offset == 0
        return [] if looks in hides else page(keys, offset)

    case.service.page = unsteady
    lost: list[Outcome] = ["lost"] * count
    case.service.outcomes.extend(lost)
    reports = [
        await case.client.provision(specs(count), journal=path, quiet_period=2) for _ in range(2)
    ]
    for report in reports:
        made = report.created + report.settled_before
        assert made + report.in_doubt == count
        assert report.ok == (made == count)
    assert (reports[1].ok, len(case.service.keys)) == (True, count)


# --- how names are written ---

NAMES: dict[str, tuple[str, Callable[[str], str]]] = {
    "trimmed": (" customer 7  ", str.strip),
    "in lower case": ("Customer 7", str.lower),
    "in NFC": (normalize("NFD", "Müller & Söhne"), lambda name: normalize("NFC", name)),
    "in NFD": ("Müller & Söhne", lambda name: normalize("NFD", name)),
    "in NFKC": ("№ 7 ﬁnance", lambda name: normalize("NFKC", name)),
    "without double spaces": ("customer  7", lambda name: " ".join(name.split())),
    "cut": ("customer " + "7" * 100, lambda name: name[:64]),
    "cut and trimmed": ("c" * 63 + "   7", lambda name: name[:64].strip()),
    "cut in bytes": ("ü" * 100, lambda name: name.encode()[:63].decode(errors="ignore")),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
async def test_a_key_whose_name_was_written_otherwise_is_told(
    name: str, case: Case, path: Path
) -> None:
    asked, case.service.name = NAMES[name]
    case.service.add("another")
    case.service.outcomes.append("lost")

    report = await case.client.provision([spec("7", name=asked)], journal=path)

    (orphan,) = case.service.keys[1:]
    assert orphan["name"] != asked
    assert [doubt.hashes for doubt in report.doubts] == [(orphan["hash"],)]
    assert not report.ok


@pytest.mark.parametrize("name", NAMES)
async def test_a_single_key_whose_name_was_written_otherwise_is_told(name: str, case: Case) -> None:
    asked, case.service.name = NAMES[name]
    case.service.outcomes.append("lost")
    with pytest.raises(CreateOutcomeUnknownError) as caught:
        await case.client.api_keys.create(name=asked)
    found = await case.client.api_keys.reconcile(caught.value)
    assert {key.hash for key in found.unproven} == case.service.hashes
    assert not found.settled


@pytest.mark.parametrize("other", ["customer-7", "customer-", "a", "customer-700"])
@pytest.mark.parametrize("longer", ["somebody's key with a long name", "customer-8000"])
async def test_a_shorter_name_is_another_one_where_longer_ones_are_not_cut(
    other: str, longer: str, case: Case, path: Path
) -> None:
    case.service.add(longer)
    case.service.add(other)
    case.service.outcomes.append("lost")
    report = await case.client.provision([spec("70")], journal=path)
    assert (report.created, report.deleted, report.ok) == (1, 1, True)


async def test_a_name_is_no_cut_of_one_that_is_a_character_longer_than_the_longest(
    case: Case, path: Path
) -> None:
    for name in ("customer-7", "customer-80"):
        case.service.add(name)
    case.service.outcomes.append("lost")
    report = await case.client.provision([spec("70")], journal=path)
    assert (report.created, report.deleted, report.ok) == (1, 1, True)


async def test_names_of_which_one_begins_with_another_are_told_apart(
    case: Case, path: Path
) -> None:
    case.service.outcomes.extend("lost" for _ in range(20))
    report = await case.client.provision(specs(20), journal=path)
    assert (report.created, report.deleted, report.ok) == (20, 20, True)


async def test_a_list_that_cannot_be_had_stops_the_run_as_ever(case: Case, path: Path) -> None:
    case.service.page = lambda _, __: refused(403)
    with pytest.raises(OpenRouterError):
        await case.client.provision(specs(1), journal=path)
