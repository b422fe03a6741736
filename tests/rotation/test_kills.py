"""A rotation that is killed at each boundary: the next call goes on, and the promise is kept."""

import asyncio
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from openrouter_keys import AsyncOpenRouter, RotationReport
from openrouter_keys.emulator import Emulator, Fault, StoredKey
from tests.processes import Process, environment, until
from tests.rotations import (
    Taker,
    assert_none_retired_too_early,
    assert_one_twin_each,
    hashes,
    live,
    old_keys,
    states,
)

pytestmark = pytest.mark.slow

PATIENCE = 60.0
COUNT = 8
QUIET = 0.3

# Hashes are told, and no secret. The address and the key come from the environment.
_ROTATE = f"""
import asyncio, sys
from hashlib import sha256
from openrouter_keys import AsyncOpenRouter

async def take(result):
    print(result.ref, sha256(result.key.encode()).hexdigest(), flush=True)
    if sys.argv[2] == "stuck":
        await asyncio.sleep(600)

async def main():
    async with AsyncOpenRouter() as client:
        await client.rotate(
            sys.argv[3:], journal=sys.argv[1], on_result=take, retire_after=0,
            concurrency=4, quiet_period={QUIET},
        )
asyncio.run(main())
"""


@pytest.fixture
def served() -> Iterator[Emulator]:
    """An emulator in a thread of its own."""
    with Emulator() as emulator:
        yield emulator


@contextmanager
def rotating(
    emulator: Emulator, path: Path, old: list[StoredKey], *, taker: str = "quick"
) -> Generator[Process]:
    """A process that rotates, killed at the end of the block."""
    server = environment(OPENROUTER_BASE_URL=emulator.base_url, OPENROUTER_API_KEY=emulator.api_key)
    with Process("-c", _ROTATE, str(path), taker, *hashes(old), environment=server) as process:
        try:
            yield process
        finally:
            process.kill()


def go_on(
    emulator: Emulator, path: Path, taker: Taker, given: list[str] | None = None
) -> RotationReport:
    """Rotate once more, in this process."""
    emulator.faults.clear()

    async def rotate() -> RotationReport:
        async with AsyncOpenRouter(emulator.api_key, server_url=emulator.base_url) as client:
            return await client.rotate(
                given or (), journal=path, on_result=taker, retire_after=0, quiet_period=QUIET
            )

    return asyncio.run(rotate())


def in_hand(process: Process) -> dict[str, str]:
    """The twins' hashes that a process has told, by the old key's."""
    assert process.stdout is not None
    return dict(line.split() for line in process.stdout.read().splitlines())


def assert_all_is_well(
    emulator: Emulator, path: Path, old: list[StoredKey], taken: dict[str, str]
) -> None:
    """Each old key is gone, and has one twin, whose secret was handed over."""
    assert taken.keys() == {*hashes(old)}
    assert {*emulator.account.keys} == {*taken.values()}
    assert not any(key.disabled for key in emulator.account.keys.values())
    assert asyncio.run(states(path)) == ["deleted"] * len(old)


def taken_by(taker: Taker) -> dict[str, str]:
    return {ref: sha256(secret.encode()).hexdigest() for ref, secret in taker.secrets.items()}


def test_killed_while_it_plans(served: Emulator, path: Path) -> None:
    old = old_keys(served, COUNT)
    served.faults.append(Fault("get", "stalled", skip=3, times=None))
    with rotating(served, path, old):
        until(lambda: served.count("get") >= 4)
    assert served.count("create") == 0
    taker = Taker(served)
    assert go_on(served, path, taker, hashes(old)).ok
    assert_one_twin_each(served, old, taker)


@pytest.mark.parametrize("phase", ["before", "after"])
def test_killed_while_twins_are_being_made(served: Emulator, path: Path, phase: Any) -> None:
    old = old_keys(served, COUNT, usage=0)  # unused and new, as their twins are
    served.faults.append(Fault("create", "stalled", phase=phase, times=None))
    with rotating(served, path, old):
        until(lambda: served.count("create") == 4)
    assert live(served, old) == [True] * COUNT
    taker = Taker(served)
    assert go_on(served, path, taker).ok
    assert_one_twin_each(served, old, taker)
    assert_none_retired_too_early(served, hashes(old), taker)


def test_killed_when_twins_are_made_and_not_handed_over(served: Emulator, path: Path) -> None:
    old = old_keys(served, COUNT)
    with rotating(served, path, old, taker="stuck") as process:
        assert process.stdout is not None
        told = dict([process.stdout.readline().split()])
        until(lambda: served.count("create") >= 4)
    assert live(served, old) == [True] * COUNT
    assert "made" in asyncio.run(states(path))
    before = len(served.requests)
    taker = Taker(served)

    assert go_on(served, path, taker).ok

    assert_one_twin_each(served, old, taker)
    assert told.items() <= taken_by(taker).items()  # handed over again, it is the same key
    assert all(count > before for count in taker.after.values())
    assert_none_retired_too_early(served, hashes(old), taker)


def test_killed_when_twins_are_handed_over_and_old_keys_not_disabled(
    served: Emulator, path: Path
) -> None:
    old = old_keys(served, COUNT)
    served.faults.append(Fault("update", "stalled", times=None))
    with rotating(served, path, old) as process:
        until(lambda: served.count("update") == 4)
        process.kill()
        taken = in_hand(process)
    assert live(served, old) == [True] * COUNT
    assert asyncio.run(states(path)) == ["handed_over"] * COUNT
    taker = Taker(served)
    assert go_on(served, path, taker).retired == COUNT
    assert taker.taken == []
    assert_all_is_well(served, path, old, taken)


@pytest.mark.parametrize("phase", ["before", "after"])
def test_killed_when_old_keys_are_disabled_and_not_deleted(
    served: Emulator, path: Path, phase: Any
) -> None:
    old = old_keys(served, COUNT)
    served.faults.append(Fault("delete", "stalled", phase=phase, times=None))
    with rotating(served, path, old) as process:
        until(lambda: served.count("delete") == 4)
        process.kill()
        taken = in_hand(process)
    assert asyncio.run(states(path)).count("disabled") >= 4
    taker = Taker(served)
    assert go_on(served, path, taker).retired == COUNT
    assert (taker.taken, served.count("create")) == ([], COUNT)
    assert_all_is_well(served, path, old, taken)


@pytest.mark.parametrize("phase", ["before", "after"])
def test_killed_while_a_twins_limit_is_being_lowered(
    served: Emulator, path: Path, phase: Any
) -> None:
    old = old_keys(served, 1)
    go_on_without_retiring(served, path, old)
    (twin,) = (key for key in served.account.keys.values() if key not in old)
    served.account.spend(old[0].hash, 2)
    served.faults.append(Fault("update", "stalled", phase=phase, skip=1))
    with rotating(served, path, old):
        until(lambda: served.count("update") == 2)
    assert old[0].hash in served.account.keys
    assert go_on(served, path, Taker(served)).retired == 1
    assert twin.limit == 5


def go_on_without_retiring(emulator: Emulator, path: Path, old: list[StoredKey]) -> None:
    async def rotate() -> None:
        async with AsyncOpenRouter(emulator.api_key, server_url=emulator.base_url) as client:
            await client.rotate(hashes(old), journal=path)

    asyncio.run(rotate())


def has_come_far(emulator: Emulator, process: Process, enough: int) -> bool:
    return len(emulator.requests) > enough or process.poll() is not None


@pytest.mark.parametrize("seed", range(3))
def test_killed_again_and_again_at_any_moment(served: Emulator, path: Path, seed: int) -> None:
    old = old_keys(served, 30)
    served.latency = 0.01
    taken: dict[str, str] = {}
    for number in range(6):
        begun = len(served.requests)
        with rotating(served, path, old) as process:
            enough = begun + 5 + (seed * 7 + number * 13) % 29
            until(partial(has_come_far, served, process, enough))
            process.kill()
            taken |= in_hand(process)
    taker = Taker(served)
    assert go_on(served, path, taker, hashes(old)).ok
    assert_all_is_well(served, path, old, taken | taken_by(taker))
