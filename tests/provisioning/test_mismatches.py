"""Keys that are not as they were asked for: disabled, told, and never handed over."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from openrouter_keys import AsyncOpenRouter, ProvisionResult
from openrouter_keys.emulator import Emulator, Fault, Workspace
from tests.journals import spec
from tests.provisions import JumpingTime, assert_whole, client_of, counts, specs

END = datetime(2031, 12, 31, 23, 59, 59, tzinfo=UTC)
WORKSPACE = "e2e2e2e2-0000-4000-8000-00000000000a"


@pytest.fixture
async def client(emulator: Emulator) -> AsyncIterator[AsyncOpenRouter]:
    async with client_of(emulator, JumpingTime()) as client:
        emulator.account.workspaces[WORKSPACE] = Workspace(WORKSPACE)
        yield client


# What was asked for, what the service shows instead, and which fields are told.
WRONG: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "another name": ({}, {"name": "customer-8"}, "name"),
    "a higher limit": ({"limit": 5}, {"limit": 5.01}, "limit"),
    "no limit": ({"limit": 5}, {"limit": None}, "limit"),
    "no limit instead of none to spend": ({"limit": 0}, {"limit": None}, "limit"),
    "a limit that nobody wanted": ({"limit": None}, {"limit": 5}, "limit"),
    "another reset": ({"limit_reset": "daily"}, {"limit_reset": "weekly"}, "limit_reset"),
    "no reset": ({"limit_reset": "daily"}, {"limit_reset": None}, "limit_reset"),
    "a reset that nobody wanted": ({"limit_reset": None}, {"limit_reset": "daily"}, "limit_reset"),
    "never expires": ({"expires_at": END}, {"expires_at": None}, "expires_at"),
    "expires later": (
        {"expires_at": END},
        {"expires_at": (END + timedelta(seconds=121)).isoformat()},
        "expires_at",
    ),
    "counts otherwise": (
        {"include_byok_in_limit": True},
        {"include_byok_in_limit": False},
        "include_byok_in_limit",
    ),
    "another workspace": ({"workspace_id": WORKSPACE}, {"workspace_id": "w"}, "workspace_id"),
    "a key that does not work": ({}, {"disabled": True}, "disabled"),
    "a key that has expired": ({}, {"expires_at": "2000-01-01T00:00:00Z"}, "expires_at"),
    "a dead key": (
        {},
        {"expires_at": "2000-01-01T00:00:00Z", "disabled": True},
        "disabled, expires_at",
    ),
    "a disabled key of another limit": (
        {"limit": 5},
        {"disabled": True, "limit": 6},
        "limit, disabled",
    ),
    "two fields": ({"limit": 5}, {"limit": 6, "name": "b"}, "name, limit"),
}
# What is as good as what was asked for.
RIGHT: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "the service's own limit": ({}, {"limit": 10}),
    "the service's own reset": ({"limit": 5}, {"limit_reset": "monthly"}),
    "an integer": ({"limit": 5.0}, {"limit": 5}),
    "a fraction": ({"limit": 0.1 + 0.2}, {"limit": 0.3}),
    "another zone": ({"expires_at": END}, {"expires_at": "2032-01-01T01:59:59+02:00"}),
    "less of a second": (
        {"expires_at": END + timedelta(milliseconds=900)},
        {"expires_at": END.isoformat()},
    ),
    "expires two seconds sooner": (
        {"expires_at": END},
        {"expires_at": (END - timedelta(seconds=2)).isoformat()},
    ),
    "expires in the next minute": (
        {"expires_at": END},
        {"expires_at": (END + timedelta(seconds=1)).isoformat()},
    ),
    "capitals": ({"workspace_id": WORKSPACE.upper()}, {}),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", WRONG)
async def test_a_key_that_is_not_as_asked_for_is_disabled_told_and_not_handed_over(
    *,
    name: str,
    emulator: Emulator,
    client: AsyncOpenRouter,
    path: Path,
    taken: list[ProvisionResult],
) -> None:
    asked, shown, fields = WRONG[name]
    emulator.account.extra_fields |= shown

    report = await client.provision([spec("7", **asked)], journal=path, on_result=taken.append)

    (key,) = emulator.account.keys.values()
    (problem,) = report.mismatches
    assert key.disabled
    assert (problem.ref, problem.hashes) == ("7", (key.hash,))
    assert f"({fields}), and was disabled" in problem.reason
    assert (report.mismatched, report.created, report.ok) == (1, 0, False)
    assert str(report) == "1 not as asked for"
    assert taken == []
    assert await counts(path) == {"failed": 1}


@pytest.mark.slow
@pytest.mark.parametrize("name", RIGHT)
async def test_a_key_that_is_as_good_as_asked_for_is_handed_over(
    *,
    name: str,
    emulator: Emulator,
    client: AsyncOpenRouter,
    path: Path,
    taken: list[ProvisionResult],
) -> None:
    asked, shown = RIGHT[name]
    emulator.account.extra_fields |= shown

    report = await client.provision([spec("7", **asked)], journal=path, on_result=taken.append)

    assert (report.mismatches, report.created) == ((), 1)
    assert_whole(emulator, [spec("7", **asked)], taken)


@pytest.mark.parametrize("on_disk", [True, False])
async def test_the_secret_of_a_disabled_key_is_not_offered_to_be_taken(
    *,
    on_disk: bool,
    emulator: Emulator,
    client: AsyncOpenRouter,
    path: Path,
    taken: list[ProvisionResult],
) -> None:
    emulator.account.extra_fields["limit"] = 7

    report = await client.provision(
        specs(1, limit=5),
        journal=path if on_disk else None,
        on_result=taken.append,
        store_secrets=False,
    )

    assert (report.mismatched, report.undelivered, taken) == (1, (), [])


async def test_what_an_answer_does_not_tell_is_no_difference(
    emulator: Emulator, client: AsyncOpenRouter, path: Path, taken: list[ProvisionResult]
) -> None:
    emulator.account.hidden_fields = {"expires_at", "workspace_id"}
    wanted = specs(1, expires_at=END, workspace_id=WORKSPACE)

    report = await client.provision(wanted, journal=path, on_result=taken.append)

    assert (report.mismatches, report.created, len(taken)) == ((), 1, 1)


async def test_the_others_are_made_all_the_same(
    emulator: Emulator, client: AsyncOpenRouter, path: Path, taken: list[ProvisionResult]
) -> None:
    emulator.account.extra_fields["limit"] = 5
    wanted = [*specs(4, limit=5), spec("odd", limit=7)]

    report = await client.provision(wanted, journal=path, on_result=taken.append)

    assert (report.created, report.mismatched) == (4, 1)
    assert sorted(result.ref for result in taken) == ["0", "1", "2", "3"]
    assert [key.name for key in emulator.account.keys.values() if key.disabled] == ["customer-odd"]


@pytest.mark.slow
async def test_a_key_that_could_not_be_disabled_is_tried_again_by_the_next_run(
    emulator: Emulator, client: AsyncOpenRouter, path: Path, taken: list[ProvisionResult]
) -> None:
    emulator.account.extra_fields["limit"] = 5
    emulator.faults.append(Fault("update", status=403))
    first = await client.provision(specs(1, limit=7), journal=path, on_result=taken.append)
    assert "could not be disabled: update answered 403" in first.mismatches[0].reason
    assert await counts(path) == {"made": 1}

    report = await client.provision(specs(1, limit=7), journal=path, on_result=taken.append)

    assert (report.mismatched, report.resumed, taken) == (1, 0, [])
    assert [key.disabled for key in emulator.account.keys.values()] == [True]
    assert await counts(path) == {"failed": 1}


# --- an answer that cannot be read ---

# All but the last brace: the secret and the hash are in what is left.
CUT = Fault("create", "cut", phase="after", portion=0.999)


async def test_a_record_that_cannot_be_read_is_read_back(
    emulator: Emulator, client: AsyncOpenRouter, path: Path, taken: list[ProvisionResult]
) -> None:
    emulator.faults.append(CUT)

    report = await client.provision(specs(1, limit=7), journal=path, on_result=taken.append)

    assert (report.created, report.ok) == (1, True)
    assert taken[0].data.limit == 7
    assert_whole(emulator, specs(1), taken)
    done = [request.operation for request in emulator.requests]
    assert done == ["list", "create", "get"]


async def test_a_record_that_cannot_be_asked_for_just_now_is_asked_for_later(
    emulator: Emulator, client: AsyncOpenRouter, path: Path, taken: list[ProvisionResult]
) -> None:
    emulator.faults += [CUT, Fault("get", status=502, times=3)]

    report = await client.provision(specs(1, limit=7), journal=path, on_result=taken.append)

    assert (report.created, report.ok, emulator.count("create")) == (1, True, 1)
    assert_whole(emulator, specs(1), taken)


async def test_a_record_that_reads_otherwise_is_no_better(
    emulator: Emulator, client: AsyncOpenRouter, path: Path, taken: list[ProvisionResult]
) -> None:
    emulator.faults.append(CUT)
    emulator.account.extra_fields["limit"] = 5

    report = await client.provision(specs(1, limit=7), journal=path, on_result=taken.append)

    assert (report.mismatched, taken) == (1, [])
    assert [key.disabled for key in emulator.account.keys.values()] == [True]


async def test_a_record_that_stays_unreadable_is_not_handed_over(
    emulator: Emulator, client: AsyncOpenRouter, path: Path, taken: list[ProvisionResult]
) -> None:
    emulator.faults += [CUT, Fault("get", "body", body=b'{"data": {}}')]

    report = await client.provision(specs(1, limit=7), journal=path, on_result=taken.append)

    assert "unreadable" in report.mismatches[0].reason
    assert (report.mismatched, taken) == (1, [])
    assert [key.disabled for key in emulator.account.keys.values()] == [True]


@pytest.mark.slow
async def test_an_unreadable_record_of_an_earlier_run_is_read_back_when_it_is_handed_over(
    emulator: Emulator, client: AsyncOpenRouter, path: Path, taken: list[ProvisionResult]
) -> None:
    unreadable = Fault("get", "body", body=b'{"data": {}}')
    emulator.faults += [CUT, unreadable, Fault("update", status=403)]
    await client.provision(specs(1, limit=7), journal=path, on_result=taken.append)

    report = await client.provision(specs(1, limit=7), journal=path, on_result=taken.append)

    assert (report.resumed, report.ok) == (1, True)
    assert_whole(emulator, specs(1), taken)
