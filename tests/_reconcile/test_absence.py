"""What proves that a key is gone: no 404, but a whole list of its workspace that shows others."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from openrouter_keys import (
    AsyncOpenRouter,
    OpenRouterError,
    ProvisioningStoppedError,
    ProvisionReport,
    ProvisionResult,
    RotationReport,
)
from tests.clients import begun, time_is_up, until
from tests.journals import spec
from tests.misbehaving import Answer, Asked, Misbehaving, hash_of, misbehaving, refused
from tests.provisions import JumpingTime, specs
from tests.rotations import states

MISSING = refused(404, "API key not found")
ELSEWHERE = "99999999-2222-4333-8444-555555555555"
Hook = Callable[[Misbehaving], Callable[[Asked], Answer | None]]
OnResult: TypeAlias = Callable[[ProvisionResult], None]
Report: TypeAlias = ProvisionReport | RotationReport


@pytest.fixture
async def service() -> AsyncIterator[Misbehaving]:
    async with misbehaving() as service:
        yield service


@pytest.fixture
async def client(service: Misbehaving) -> AsyncIterator[AsyncOpenRouter]:
    time = JumpingTime()
    async with AsyncOpenRouter("key", server_url=service.url) as client:
        client._transport.clockwork, service.now = time.clockwork(), time.now
        yield client


def take(_: ProvisionResult) -> None:
    pass


def die(_: ProvisionResult) -> None:
    raise ConnectionError("away")


def is_list(asked: Asked) -> bool:
    return asked.method == "GET" and asked.path.endswith("/keys")


def missing_and(lists: Callable[[Misbehaving, Asked], Answer | None]) -> Hook:
    """No key is found by its hash, and this is listed; None: what is true."""

    def hook(service: Misbehaving) -> Callable[[Asked], Answer | None]:
        def answer(asked: Asked) -> Answer | None:
            if asked.method == "POST":
                return refused(402)
            return lists(service, asked) if is_list(asked) else MISSING

        return answer

    return hook


def others(service: Misbehaving, _: Asked) -> Answer:
    return Answer(
        200, {"data": [{**service.keys[0], "hash": "ab" * 32, "workspace_id": ELSEWHERE}]}
    )


def others_by_default(service: Misbehaving, asked: Asked) -> Answer:
    return MISSING if "workspace_id" in asked.query else others(service, asked)


def one_after_the_other(service: Misbehaving, _: Asked) -> Answer:
    """A list that is never whole: each look shows another key."""
    place = len(service.asked) % len(service.keys)
    return Answer(200, {"data": [service.keys[place]]})


LISTS: dict[str, Callable[[Misbehaving, Asked], Answer | None]] = {
    "another account's keys": others,
    "another account's keys, and no such workspace": others_by_default,
    "no such workspace at all": lambda _, __: MISSING,
    "nothing": lambda _, __: Answer(200, {"data": []}),
    "them all, for those who answer lag behind": lambda _, __: None,
    "each time others": one_after_the_other,
    "an error": lambda _, asked: refused(500) if "workspace_id" in asked.query else None,
}


@pytest.mark.slow
@pytest.mark.parametrize("confirms", [False, True])
@pytest.mark.parametrize("lists", LISTS)
async def test_no_rotation_is_written_off_while_its_key_may_be_there(
    *, lists: str, confirms: bool, service: Misbehaving, client: AsyncOpenRouter, path: Path
) -> None:
    old = [service.add(f"customer-{number}", limit=10)["hash"] for number in range(3)]
    service.answer = lambda asked: refused(402) if asked.method == "POST" else None
    taken: list[ProvisionResult] = []
    given: dict[str, Any] = {"journal": path, "quiet_period": 0.0}
    with pytest.raises(ProvisioningStoppedError):
        await client.rotate(old, on_result=taken.append, **given)

    service.answer = missing_and(LISTS[lists])(service)
    try:
        report = await client.rotate(
            (), on_result=None if confirms else taken.append, retire_after=0, **given
        )
    except OpenRouterError:
        pass  # nothing was begun
    else:
        assert (report.ok, report.waiting) == (False, 3)
    assert await states(path) == ["planned"] * 3

    service.answer = lambda _: None
    report = await client.rotate((), on_result=taken.append, retire_after=0, **given)
    assert (report.ok, report.rotated, report.retired) == (True, 3, 3)
    assert not service.hashes & {*old}


@pytest.mark.slow
@pytest.mark.parametrize("lists", LISTS)
async def test_no_old_key_counts_as_retired_while_it_may_be_there(
    lists: str, service: Misbehaving, client: AsyncOpenRouter, path: Path
) -> None:
    old = [service.add(f"customer-{number}", limit=10)["hash"] for number in range(3)]
    given: dict[str, Any] = {"journal": path, "quiet_period": 0.0}
    await client.rotate(old, on_result=take, **given)
    hide = missing_and(LISTS[lists])(service)

    def lagging(asked: Asked) -> Answer | None:
        """What was disabled is not found from then on; its twin is."""
        seen = asked.path.rpartition("/")[2] not in old or asked.method == "PATCH"
        return None if seen and not is_list(asked) else hide(asked)

    service.answer = lagging
    try:
        report = await client.rotate((), retire_after=0, **given)
    except OpenRouterError:
        assert "account" in lists or "workspace" in lists
    else:
        assert (report.ok, report.retired, report.waiting, report.failed) == (False, 0, 3, 3)
    assert "deleted" not in await states(path)

    service.answer = lambda _: None
    report = await client.rotate((), retire_after=0, **given)
    assert (report.ok, report.retired, report.waiting) == (True, 3, 0)
    assert not service.hashes & {*old}


@pytest.mark.slow
@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("lists", LISTS)
async def test_no_key_without_a_stored_secret_is_forgotten_while_it_may_be_there(
    *, lists: str, named: bool, service: Misbehaving, client: AsyncOpenRouter, path: Path
) -> None:
    taken: list[ProvisionResult] = []
    given: dict[str, Any] = {"journal": path, "store_secrets": False, "quiet_period": 0.0}
    wanted = [spec(workspace_id="default") if named else spec()]
    service.add("another")
    with pytest.raises(ProvisioningStoppedError):
        await client.provision(wanted, on_result=die, **given)
    (_, lost) = service.keys

    service.answer = missing_and(LISTS[lists])(service)
    try:
        report = await client.provision(wanted, on_result=taken.append, **given)
    except ProvisioningStoppedError:
        pass  # the account was found to be another
    else:
        (problem,) = report.failures
        assert problem.hashes == (lost["hash"],)
    service.answer = lambda _: None
    report = await client.provision(wanted, on_result=taken.append, **given)
    assert (report.ok, report.created, len(service.keys)) == (True, 1, 2)
    assert lost["hash"] not in service.hashes


@pytest.mark.slow
async def test_what_was_deleted_by_hand_is_over_once_the_list_shows_others(
    service: Misbehaving, client: AsyncOpenRouter, path: Path
) -> None:
    old = [service.add(f"customer-{number}", limit=10) for number in range(2)]
    given: dict[str, Any] = {"journal": path, "on_result": take, "quiet_period": 0.0}
    service.answer = lambda asked: refused(402) if asked.method == "POST" else None
    with pytest.raises(ProvisioningStoppedError):
        await client.rotate([record["hash"] for record in old], **given)
    service.answer = lambda _: None
    service.keys.clear()
    report = await client.rotate((), **given)
    assert (report.ok, report.waiting, report.failed) == (False, 2, 2)
    assert (
        "create a key there (openrouter-keys create NAME --workspace-id default)"
        in report.failures[0].reason
    )
    service.add("another")
    report = await client.rotate((), **given)
    assert (report.waiting, report.failed) == (0, 2)
    assert (await client.rotate((), **given)).ok
    assert [record["name"] for record in service.keys] == ["another"]


# --- what an earlier run made, with its secret, and did not hand over ---


async def made_and_not_taken(client: AsyncOpenRouter, count: int, **given: Any) -> None:
    async def refuse(_: ProvisionResult) -> None:
        await asyncio.sleep(0.2)  # all are made meanwhile
        raise ConnectionError("away")

    with pytest.raises(ProvisioningStoppedError):
        await client.provision(specs(count), on_result=refuse, concurrency=count, **given)


@pytest.mark.parametrize("gone", [{0}, {2}, {0, 1, 2}, set[int]()], ids=str)
async def test_no_secret_of_a_key_that_is_gone_is_handed_over(
    gone: set[int], service: Misbehaving, client: AsyncOpenRouter, path: Path
) -> None:
    given: dict[str, Any] = {"journal": path, "quiet_period": 2}
    service.add("another")
    await made_and_not_taken(client, 3, **given)
    names = {f"customer-{number}" for number in gone}
    service.keys = [record for record in service.keys if record["name"] not in names]
    taken: list[ProvisionResult] = []
    before = len(service.asked)
    report = await client.provision(specs(3), on_result=taken.append, **given)
    assert (report.ok, report.created, report.resumed) == (True, len(gone), 3 - len(gone))
    assert {hash_of(one.key) for one in taken} | {service.keys[0]["hash"]} == service.hashes
    assert len(service.keys) == 4
    # One workspace is listed once for all, by two looks of two pages, besides the first request.
    assert sum(map(is_list, service.asked[before:])) == (5 if gone else 1)


@pytest.mark.slow
@pytest.mark.parametrize("lists", LISTS)
async def test_a_secret_whose_key_may_be_gone_stays_until_that_is_known(
    lists: str, service: Misbehaving, client: AsyncOpenRouter, path: Path
) -> None:
    taken: list[ProvisionResult] = []
    given: dict[str, Any] = {"journal": path, "quiet_period": 2}
    service.add("another")
    await made_and_not_taken(client, 2, **given)
    made = {*service.hashes}
    service.answer = missing_and(LISTS[lists])(service)
    try:
        report = await client.provision(specs(2), on_result=taken.append, **given)
    except ProvisioningStoppedError:
        pass  # the account was found to be another
    else:
        assert (report.ok, report.failed, report.pending) == (False, 2, 2)
    assert taken == []

    service.answer = lambda _: None
    report = await client.provision(specs(2), on_result=taken.append, **given)
    assert (report.ok, report.resumed, service.hashes) == (True, 2, made)


def unreadable(_: Asked) -> Answer:
    return Answer(200, {"data": {"hash": 1}})


def cached(_: Asked) -> Answer:
    return Answer(200, b"{}", {"Age": "9"})


NO_LOOKS: dict[str, Callable[[Asked], Answer | None]] = {
    "a 503": lambda _: Answer(503, b"", closes=True),
    "a 500": lambda _: refused(500),
    "a 403": lambda _: refused(403),
    "a 404 of a proxy": lambda _: Answer(404, b"<html>not here</html>"),
    "an odd record": unreadable,
    "a cache's": cached,
}


@pytest.mark.slow
@pytest.mark.parametrize("look", NO_LOOKS.values(), ids=NO_LOOKS)
async def test_where_no_key_can_be_looked_at_the_secrets_are_handed_over(
    look: Callable[[Asked], Answer | None],
    service: Misbehaving,
    client: AsyncOpenRouter,
    path: Path,
) -> None:
    given: dict[str, Any] = {"journal": path, "quiet_period": 2}
    count = 40
    await made_and_not_taken(client, count, **given)
    service.answer = lambda asked: None if is_list(asked) else look(asked)
    taken: list[ProvisionResult] = []
    report = await client.provision(specs(count), on_result=taken.append, **given)
    assert (report.ok, report.resumed) == (True, count)
    assert {hash_of(one.key) for one in taken} == service.hashes


# --- the only key of its workspace ---

HOME = "aaaaaaaa-2222-4333-8444-555555555555"


def lost(status: int | None) -> Hook:
    """The first DELETE deletes its key, and is answered so; None: its connection is closed."""

    def hook(service: Misbehaving) -> Callable[[Asked], Answer | None]:
        def answer(asked: Asked) -> Answer | None:
            if asked.method != "DELETE" or service.count("DELETE") > 1:
                return None
            service._of_one(asked, asked.path.rpartition("/")[2])
            return Answer(status or 200, b"", {"Content-Length": "9"} if status is None else {})

        return answer

    return hook


def lagging(service: Misbehaving) -> Callable[[Asked], Answer | None]:
    """The first DELETE deletes its key, and says that there is none."""

    def answer(asked: Asked) -> Answer | None:
        if asked.method != "DELETE":
            return None
        service._of_one(asked, asked.path.rpartition("/")[2])
        return MISSING

    return answer


UNSURE: dict[str, Hook] = {
    "a 502": lost(502),
    "a 500": lost(500),
    "half an answer": lost(None),
    "a 404": lagging,
}


@pytest.mark.parametrize("workspace_id", [None, HOME])
@pytest.mark.parametrize("how", UNSURE)
async def test_an_empty_list_proves_it_to_a_run_that_saw_the_only_key_before_its_delete(
    how: str,
    workspace_id: str | None,
    service: Misbehaving,
    client: AsyncOpenRouter,
    path: Path,
) -> None:
    given: dict[str, Any] = {"journal": path, "store_secrets": False}
    wanted = [spec(workspace_id=workspace_id)]
    with pytest.raises(ProvisioningStoppedError):
        await client.provision(wanted, on_result=die, **given)
    cut_short: list[Asked] = []

    async def end_the_silence(asked: Asked) -> None:
        if how == "half an answer" and asked.method == "DELETE" and not cut_short:
            cut_short.append(asked)
            await until(lambda: begun(client.api_keys))
            await time_is_up(client.api_keys)

    service.answer, service.dawdle = UNSURE[how](service), end_the_silence
    report = await client.provision(wanted, on_result=take, **given)
    assert (report.ok, report.created, len(service.keys)) == (True, 1, 1)
    assert len(cut_short) == (how == "half an answer")


@pytest.mark.parametrize("workspace_id", [None, HOME])
@pytest.mark.parametrize("way", ["provision", "rotate"])
async def test_where_nothing_proves_it_the_reason_says_how_to_end_it(
    way: str, workspace_id: str | None, service: Misbehaving, client: AsyncOpenRouter, path: Path
) -> None:
    home = {} if workspace_id is None else {"workspace_id": workspace_id}

    async def run(hashes: Sequence[str] = (), *, on_result: OnResult = take) -> Report:
        try:
            if way == "rotate":
                return await client.rotate(hashes, journal=path, on_result=on_result)
            return await client.provision(
                [spec(workspace_id=workspace_id)],
                journal=path,
                store_secrets=False,
                on_result=on_result,
            )
        except ProvisioningStoppedError as error:
            return error.report

    if way == "rotate":
        service.answer = lambda asked: refused(402) if asked.method == "POST" else None
        await run([service.add("old", **home)["hash"]])
        service.answer = lambda _: None
    else:
        await run(on_result=die)
    service.keys.clear()  # by hand, and no other key is there
    for _ in range(2):
        report = await run()
        assert not report.ok
        assert "create a key there (openrouter-keys create NAME" in report.failures[0].reason
        assert not service.keys
    await client.api_keys.create(name="another", workspace_id=workspace_id)
    await run()
    assert (await run()).ok


async def test_a_key_is_looked_for_no_further_back_than_it_was_made(
    service: Misbehaving, client: AsyncOpenRouter, path: Path
) -> None:
    for number in range(1000):
        service.add(f"old-{number}")
    time: Any = client._transport.clockwork
    await time.sleep(86400)
    given: dict[str, Any] = {"journal": path, "store_secrets": False}
    with pytest.raises(ProvisioningStoppedError):
        await client.provision([spec()], on_result=die, **given)
    service.answer = lagging(service)
    before = len(service.asked)
    assert (await client.provision([spec()], on_result=take, **given)).ok
    assert sum(map(is_list, service.asked[before:])) <= 6
