"""The races, and what came of each as a row of a table."""

import asyncio
import json
import signal
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeAlias

from attrs import frozen

from openrouter_keys.emulator import Emulator, Fault
from openrouter_keys.journal.journal import Journal
from tests.postgresql import PostgreSQL
from tests.processes import PATIENCE, Process
from tests.races.harness import Race, Verdict, service
from tests.races.worker import specs


@frozen
class Arena:
    """Where a race takes place.

    Attributes:
        engine: of the journal.
        place: a new journal.
        server: its server, if it has one.
        seed: of all that is random.
        broken: what the processes break.
    """

    engine: str
    place: str
    server: PostgreSQL | None
    seed: int
    broken: tuple[str, ...] = ()


@frozen
class Row:
    """What came of a race."""

    processes: int
    refs: int
    kills: int
    crashes: int
    verdict: Verdict


# A client's time-out, in milliseconds, and the seconds after which a create lands meanwhile.
_LONG: Final = 1500
_LANDS: Final = 0.5
# Seconds for which creates are under way, and a time-out that is longer.
_SLOW: Final = 2.0
_PATIENT: Final = 5000

Case: TypeAlias = Callable[[Arena], Coroutine[Any, Any, Row]]


def racing(
    action: str, *, processes: int = 4, count: int = 200, kills: int = 0, crashes: int = 0
) -> Case:
    """Return the case of processes that all do the same at once."""

    async def race(arena: Arena) -> Row:
        async with service(arena.seed) as emulator:
            old = [
                emulator.account.add(f"old-{number}", limit=10.0).hash
                for number in range(count if action == "rotate" else 0)
            ]
            race = Race(
                emulator, arena.place, action, count, arena.seed, arena.server, arena.broken,
                may_stop=crashes > 0, old=frozenset(old),
            )  # fmt: skip
            await race.run(processes, kills=kills, crashes=crashes)
            verdict = await race.judge()
            return Row(processes, count, race.kills, race.crashes, verdict)

    return race


async def killed_at_once(arena: Arena, *, count: int = 8) -> Row:
    """A process is killed with creates under way, which land when the next ones are there."""
    async with service(arena.seed, faulty=False) as emulator:
        emulator.faults.append(Fault("create", "stalled", times=count))
        race = Race(
            emulator, arena.place, "provision", count, arena.seed, arena.server, arena.broken,
            timeout=_LONG,
        )  # fmt: skip
        first = race.start()
        await _asked(emulator, count)
        first.kill()
        await asyncio.to_thread(first.communicate)
        race.kills += 1
        racing = asyncio.ensure_future(race.run(2))
        if "waiting" in arena.broken:
            await asyncio.wait([racing])
        await asyncio.sleep(_LANDS)
        for one in specs(count):
            emulator.account.add(one.name)
        await racing
        return Row(3, count, race.kills, 0, await race.judge())


async def begun_later(arena: Arena, *, count: int = 8) -> Row:
    """A process begins when another one has all its creates under way."""
    async with service(arena.seed, faulty=False) as emulator:
        emulator.faults.append(Fault("create", "slow", delay=_SLOW, times=count))
        race = Race(
            emulator, arena.place, "provision", count, arena.seed, arena.server, arena.broken,
            timeout=_PATIENT,
        )  # fmt: skip
        first = race.start()
        await _asked(emulator, count)
        race.ended += await asyncio.gather(race.heard(first), race.heard(race.start()))
        verdict = await race.judge()
        if emulator.count("create") != count:
            verdict = verdict.but("creates of a process that lives were sent again")
        return Row(2, count, 0, 0, verdict)


async def stopped(arena: Arena, *, count: int = 8) -> Row:
    """A process stops with its answers unwritten, and writes when another has taken over."""
    async with service(arena.seed, faulty=False) as emulator:
        race = Race(
            emulator, arena.place, "provision", count, arena.seed, arena.server, arena.broken
        )
        late = race.start(stops=True)
        await _says(late, "stopped")
        if race.server is None:
            # A stopped process has its lock still: nobody takes its rows over in earnest.
            second = race.start("liveness", stops=True)
        else:
            race.end_sessions()
            second = race.start(stops=True)
        await _says(second, "stopped")
        before = await _dump(arena.place)
        late.send_signal(signal.SIGCONT)
        await _says(late, "written")
        after = await _dump(arena.place)
        second.send_signal(signal.SIGCONT)
        race.ended += await asyncio.gather(race.heard(second), race.heard(late))
        verdict = await race.judge()
        if before != after:
            verdict = verdict.but("what was written late changed the journal")
        if "taken" not in race.ended[-1]["log"]:
            verdict = verdict.but("the process that was woken says nothing of it")
        return Row(2, count, 0, race.crashes, verdict)


async def _asked(emulator: Emulator, count: int) -> None:
    async with asyncio.timeout(PATIENCE):
        while emulator.count("create") < count:
            await asyncio.sleep(0.02)


async def _says(process: Process, what: str) -> None:
    assert process.stdout is not None
    line = await asyncio.to_thread(process.stdout.readline)
    assert json.loads(line) == {what: True}, line


async def _dump(place: str) -> list[tuple[object, ...]]:
    async with Journal.read(place) as journal:
        return [(e.ref, e.state, e.hash, e.secret) async for e in journal.every()]
