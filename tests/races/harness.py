"""Starts processes on one journal, disturbs them, and judges by the keys that the service has."""

import asyncio
import json
import subprocess
from collections.abc import Sequence, Set
from hashlib import sha256
from random import Random
from typing import Any, Final

from attrs import define, evolve, field, frozen

from openrouter_keys.emulator import Emulator, Fault
from openrouter_keys.journal.journal import Journal
from openrouter_keys.journal.schema import State
from tests.engines import sql
from tests.postgresql import PostgreSQL
from tests.processes import PATIENCE, Process, environment

#: Seconds after which a create lands whose client has gone.
LATE: Final = 0.1
_LATENCY: Final = 0.02
_END_SESSIONS: Final = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'
"""
#: How often a process is started again that ended since its journal was away.
_AGAIN: Final = 10


def service(seed: int, *, faulty: bool = True) -> Emulator:
    """Return a service; 30 % of its creates have no answer that says anything, or land late."""
    faults = [
        Fault("create", status=502, phase="after", times=None, probability=0.075),
        Fault("create", status=502, times=None, probability=0.075 / 0.925),
        Fault("create", "closed", phase="after", times=None, probability=0.075 / 0.85),
        Fault("create", "late", delay=LATE, times=None, probability=0.075 / 0.775),
    ]
    return Emulator(seed=seed, latency=_LATENCY, faults=faults if faulty else ())


@frozen
class Verdict:
    """What came of a race.

    Attributes:
        live: how many keys live that were to be made.
        secrets: how many of them have their secret in the journal.
        orphans: live keys that the journal does not know.
        wrong: all that is not as it was promised.
    """

    live: int
    secrets: int
    orphans: int
    wrong: tuple[str, ...]

    def but(self, problem: str) -> "Verdict":
        """Return it with one more problem."""
        return evolve(self, wrong=(*self.wrong, problem))


@define
class Race:
    """Processes on one journal.

    Args:
        emulator: the service.
        place: the journal: a path, or a URL.
        action: what each process does; see `worker.ACTIONS`.
        count: how many refs there are.
        seed: of all that is random.
        server: the journal's server, if it has one.
        broken: what the processes break; see `worker.BREAKS`.
        may_stop: whether a process may end early since its journal is away, and is started again.
        old: the hashes of keys that were there before.
        timeout: the clients', in milliseconds.

    Attributes:
        ended: what each process said in the end.
        kills: how many processes were killed.
        crashes: how often the server was stopped or ended a session.
    """

    emulator: Emulator
    place: str
    action: str
    count: int
    seed: int
    server: PostgreSQL | None = None
    broken: Sequence[str] = ()
    may_stop: bool = False
    old: Set[str] = frozenset()
    timeout: int = 1000
    ended: list[dict[str, Any]] = field(factory=list[dict[str, Any]])
    kills: int = 0
    crashes: int = 0

    def start(self, *broken: str, stops: bool = False, waits: bool = False) -> Process:
        """Start a process.

        Args:
            broken: what it breaks more than the others.
            stops: whether it stops before it keeps its keys.
            waits: whether it begins when it reads a line.
        """
        arguments = {
            "action": self.action, "url": self.emulator.base_url, "key": self.emulator.api_key,
            "place": self.place, "count": self.count, "old": sorted(self.old),
            "broken": [*self.broken, *broken], "stops": stops, "waits": waits,
            "timeout": self.timeout,
        }  # fmt: skip
        words = ("-m", "tests.races.worker", json.dumps(arguments))
        return Process(*words, environment=environment(), stdin=subprocess.PIPE)

    async def run(self, processes: int, *, kills: int = 0, crashes: int = 0) -> None:
        """Let processes race, and disturb them at random moments.

        Args:
            processes: how many there are at once.
            kills: how many of them are killed, and started again.
            crashes: how often their server stops or ends a session.
        """
        chance = Random(self.seed)
        at_the_start = [self.start(waits=True) for _ in range(processes)]
        await asyncio.to_thread(_begin, at_the_start)
        racing = [asyncio.ensure_future(self._to_its_end(process)) for process in at_the_start]
        for what in chance.sample(["kill"] * kills + ["crash"] * crashes, kills + crashes):
            await asyncio.sleep(0.1 + chance.random() * 0.8)
            if what == "crash":
                await asyncio.to_thread(self._crash, chance)
                continue
            place = chance.randrange(processes)
            racing[place].cancel()
            await asyncio.wait([racing[place]])
            racing[place] = asyncio.ensure_future(self._to_its_end(self.start()))
        self.ended += await asyncio.gather(*racing)

    async def _to_its_end(self, process: Process) -> dict[str, Any]:
        ended = await self.heard(process)
        for _ in range(_AGAIN if self.may_stop else 0):
            if ended["ok"]:
                break
            ended = await self.heard(self.start())
        return ended

    async def heard(self, process: Process) -> dict[str, Any]:
        """Wait for a process to end, and return what it said; cancelled, kill it."""
        talking = asyncio.ensure_future(
            asyncio.to_thread(process.communicate, timeout=PATIENCE * 2)
        )
        try:
            out, err = await asyncio.shield(talking)
        except asyncio.CancelledError:
            process.kill()
            await talking
            self.kills += 1
            raise
        lines = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
        return (lines[-1] if lines else {"ok": False, "why": err[-2000:]}) | {"log": err}

    def _crash(self, chance: Random) -> None:
        assert self.server is not None
        self.crashes += 1
        if chance.random() < 0.5:
            self.server.stop("immediate")
            self.server.start()
        else:
            self.end_sessions()

    def end_sessions(self) -> None:
        """End all sessions of the journal's database, as an administrator may."""
        assert self.server is not None
        sql(self.server, _END_SESSIONS)

    async def judge(self) -> Verdict:
        """Compare the keys that live with what the journal and each process say."""
        await asyncio.sleep(3 * LATE)  # nothing may land after all have ended
        async with Journal.read(self.place) as journal:
            entries = [entry async for entry in journal.every()]
        live = self.emulator.account.keys.keys() - self.old
        # A key whose asker was killed is there for the next one who asks.
        done = (State.SETTLED, State.MADE) if self.action == "ensure" else (State.SETTLED,)
        known = {entry.hash for entry in entries if entry.hash}
        kept = {
            entry.hash for entry in entries if entry.secret and _hash(entry.secret) == entry.hash
        }
        found: dict[str, set[str]] = {
            "keys that the journal does not know": {*live} - known,
            "keys of the journal that are not there": known - live,
            "keys without their secret": {*live} - kept,
            "refs that are not settled": {e.ref for e in entries if e.state not in done},
        }
        wrong = [f"{len(those)} {what}" for what, those in found.items() if those]
        if len(entries) != self.count:
            wrong.append(f"{len(entries)} refs")
        wrong += [f"a process: {one['why']}" for one in self.ended if not one["ok"]]
        wrong += [f"half a report: {one['why']}" for one in self.ended if not one.get("whole")]
        if len({one.get("secrets") for one in self.ended}) > 1:
            wrong.append("processes with different secrets")
        created = sum(one.get("created", 0) for one in self.ended)
        if not (self.kills or self.crashes) and created != self.count:
            wrong.append(f"{created} keys that were reported as created")
        return Verdict(len(live), len(live & kept), len({*live} - known), tuple(wrong))


def _begin(processes: Sequence[Process]) -> None:
    """Let processes begin at the same moment: on a busy machine, one could be done before."""
    for process in processes:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline()) == {"ready": True}
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()


def _hash(secret: str) -> str:
    return sha256(secret.encode()).hexdigest()
