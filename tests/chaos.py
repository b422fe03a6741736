"""Seeds of chaos: a client beside a service that misbehaves at random, in virtual time.

Whatever happens, and whatever a report says, at the end the service's own keys are compared with
what somebody holds, and with what was told. `python -m tests.chaos --help` runs any seed.
"""

import argparse
import asyncio
import logging
import shutil
import ssl
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Coroutine, Generator, Iterable, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any, Final, Literal, TypeAlias

from attrs import Factory, define, field

from openrouter_keys import (
    AsyncOpenRouter,
    KeySpec,
    ProvisioningStoppedError,
    ProvisionProblem,
    ProvisionReport,
    ProvisionResult,
)
from openrouter_keys._base import made_keys
from openrouter_keys._base.clock import Clockwork
from openrouter_keys.errors import (
    CreatedKeyUnreadableError,
    CreateOutcomeUnknownError,
    OpenRouterError,
    SecretLostError,
)
from openrouter_keys.journal.journal import Journal
from openrouter_keys.journal.schema import State
from openrouter_keys.rotation import rotations
from openrouter_keys.rotation.report import RotationState
from tests.chaotic import Chaotic, habits_of
from tests.misbehaving import hash_of, served
from tests.virtual_time import run

KEY: Final = "sk-or-mgmt-test-" + "0" * 32
WORKSPACE: Final = "0df9e665-d932-5740-b2c7-b52af166bc11"
NOON: Final = datetime(2026, 11, 21, 12, tzinfo=UTC)
QUIET: Final = 30.0
TIMEOUT: Final = 20.0
#: Seconds after which nothing of an earlier run can land, nor be taken for its own.
LONG: Final = 400.0
# To read the system's certificates takes longer than all the rest.
_SSL: Final = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
# Runs that are disturbed, and then such that nothing disturbs.
_RUNS, _CALM_RUNS = 3, 3

Scenario: TypeAlias = Callable[["World"], Coroutine[Any, Any, None]]


@define
class World:
    """A service, its clients, and whoever holds keys.

    Attributes:
        seed: what all is drawn from.
        service: what the clients ask.
        chance: what the clients, and whoever else is there, do at random.
        folder: for journals.
        held: who holds each key, by its hash.
        texts: whatever was told: reports, errors, notes, warnings.
        in_doubt: the names that were told to be in doubt, by the last report of each journal.
        retired: old keys that may be retired.
        wrong: what is not as it was promised.
    """

    seed: int
    chance: Random
    service: Chaotic
    folder: Path
    ahead: float = 0.0
    held: dict[str, str] = Factory(dict[str, str])
    texts: list[str] = Factory(list[str])
    in_doubt: dict[str, set[str]] = Factory(dict[str, set[str]])
    retired: set[str] = Factory(set[str])
    gone: set[str] = Factory(set[str])
    wrong: list[str] = Factory(list[str])
    kills: int = 0
    orphans: int = 0
    cancels: int = 0
    _titles: int = field(default=0)

    def __attrs_post_init__(self) -> None:
        self.service.ended = self._ended
        if "no date" in self.service.habits:
            self.ahead = self.chance.uniform(-60, 60)

    # --- clients ---

    def client(self) -> tuple[str, AsyncOpenRouter]:
        """Return another client, and its title."""
        self._titles += 1
        title = f"run-{self._titles}"
        client = AsyncOpenRouter(
            KEY,
            server_url=self.service.url,
            timeout_ms=TIMEOUT * 1000,
            x_open_router_title=title,
            ssl=_SSL,
        )
        client._transport.clockwork = Clockwork(
            monotonic=asyncio.get_running_loop().time,
            now=lambda: now() + timedelta(seconds=self.ahead),
            sleep=asyncio.sleep,
            random=Random(f"{self.seed} {title}").random,
        )
        return title, client

    # --- what is held, and told ---

    def hold(self, secret: str, who: str) -> None:
        """Somebody holds a secret from now on."""
        hash = hash_of(secret)
        self.held[hash] = who
        if hash not in self.service.hashes and hash not in self.gone:
            self.wrong.append(f"{who} gets a secret of a key that is not there: {hash[:8]}")
        if Random(hash).random() < 0.2:
            self.use(hash)

    def use(self, hash: str) -> None:
        """Somebody uses a key."""
        for record in self.service.keys:
            if record["hash"] == hash:
                record["usage"] = record["usage_daily"] = 0.5

    def tell(self, told: object) -> None:
        """Somebody is told this."""
        self.texts.append(str(told))
        self.service.tell(f"told: {told}")

    def tell_error(self, error: BaseException) -> None:
        """Somebody gets an error, with its notes, and with what caused it."""
        seen: BaseException | None = error
        while seen is not None:
            self.tell(f"{type(seen).__name__}: {seen}")
            for note in getattr(seen, "__notes__", ()):
                self.tell(note)
            if isinstance(seen, CreatedKeyUnreadableError):
                self.hold(seen.key, "who got the error")
            seen = seen.__cause__

    def tell_problems(self, kind: str, problems: Iterable[ProvisionProblem]) -> None:
        for problem in problems:
            self.tell(f"{kind}: {problem.ref}: {problem.reason} {' '.join(problem.hashes)}")

    def _ended(self, hash: str, how: str) -> None:
        who = self.held.get(hash)
        if who is not None and hash not in self.retired:
            self.wrong.append(f"{hash[:8]} is {how}, and {who} holds it")

    # --- others ---

    async def strangers(self, names: list[str], workspace: str) -> None:
        """Somebody else makes, uses and deletes keys of the same names, now and then."""
        for _ in range(self.chance.choice((0, 0, 1, 5))):
            await asyncio.sleep(self.chance.expovariate(1 / 30))
            name = self.chance.choice(names)
            # Those that look like ours, and are made in the same seconds, cannot be told apart.
            other = self.chance.choice(({"limit": 999.0}, {"usage": 1.5}))
            record = self.service.add(name, workspace_id=workspace, **other)
            self.held[record["hash"]] = "somebody else"
            if self.chance.random() < 0.3 and len(self.held) > 3:
                self.delete(self.chance.choice([*self.held]))

    def delete(self, hash: str) -> None:
        """Somebody deletes a key by hand."""
        self.service.tell(f"somebody deletes {hash[:8]}")
        self.service.keys[:] = [key for key in self.service.keys if key["hash"] != hash]
        self.gone.add(hash)

    def add_old(self, names: Iterable[str], workspace: str) -> None:
        """Somebody else made keys of these names long ago."""
        for name in names:
            record = self.service.add(name, workspace_id=workspace)
            record["created_at"] = (now() - timedelta(hours=3)).isoformat()
            self.held[record["hash"]] = "somebody else"

    # --- the check ---

    def check(self) -> None:
        """Compare what the service holds with what is held, and with what was told."""
        told = "\n".join(self.texts)
        live = {key["hash"] for key in self.service.keys if not key["disabled"]}
        doubtful = set[str]().union(*self.in_doubt.values())
        for hash, made in self.service.made.items():
            named = hash in told or made.name in doubtful
            if hash in live and hash not in self.held and not named:
                self.wrong.append(f"{hash[:8]} of {made.name!r} is live, and nothing names it")
        for hash, who in self.held.items():
            if hash not in live | self.gone | self.retired:
                self.wrong.append(f"{hash[:8]} is not live, and {who} holds it")


def now() -> datetime:
    """The right time."""
    return NOON + timedelta(seconds=asyncio.get_running_loop().time() % 1_000_000)


# --- provisioning ---


@define
class Customer:
    """Somebody who provisions the same specs with the same journal until all are there.

    Attributes:
        took: the secrets that were handed over for each ref.
    """

    world: World
    name: str
    wanted: list[KeySpec]
    alone: bool = True
    took: dict[str, set[str]] = Factory(lambda: defaultdict(set))
    ok: bool = False
    doubtful: set[str] = Factory(set[str])

    @property
    def journal(self) -> Path:
        return self.world.folder / self.name / "journal"

    async def go(self, title: str, client: AsyncOpenRouter) -> None:
        """Run once."""
        try:
            async with client:
                await self.run(client, title)
        except ProvisioningStoppedError as stopped:
            if title not in self.world.service.dead:
                self.world.tell_error(stopped)
                self.told(stopped.report)
        except asyncio.CancelledError as cancelled:
            if title not in self.world.service.dead:
                self.world.tell_error(cancelled)
                self.ok = False
            raise
        except OpenRouterError as error:
            if title not in self.world.service.dead:
                self.world.tell_error(error)
                self.ok = False

    async def run(self, client: AsyncOpenRouter, title: str) -> None:
        """Ask for what is wanted."""
        report = await client.provision(
            self.wanted,
            journal=self.journal,
            concurrency=Random(f"{self.world.seed} {title}").randint(1, 5),
            on_result=lambda result: self._take(title, result),
            quiet_period=QUIET,
        )
        self.told(report)

    async def _take(self, title: str, result: ProvisionResult) -> None:
        hash = hash_of(result.key)
        chance = Random(hash)
        await asyncio.sleep(chance.choice((0, 0, 2 * chance.random())))
        if title in self.world.service.dead:
            raise ConnectionAbortedError
        self.world.hold(result.key, f"{self.name} {result.ref}")
        self.took[result.ref].add(hash)
        await asyncio.sleep(chance.choice((0, 0, 2 * chance.random())))

    def told(self, report: ProvisionReport) -> None:
        """Note what a report tells."""
        world = self.world
        world.tell(f"{self.name}: {report}, ok={report.ok}")
        for kind in ("failures", "mismatches", "doubts", "unproven"):
            world.tell_problems(kind, getattr(report, kind))
        names = {spec.ref: spec.name for spec in self.wanted}
        told = (*report.doubts, *report.unproven)
        self.doubtful = {hash for problem in told for hash in problem.hashes}
        world.in_doubt[self.name] = {names[problem.ref] for problem in report.doubts}
        for key in report.undelivered:
            world.hold(key.key, f"{self.name} {key.ref}, undelivered")
            world.use(hash_of(key.key))
            self.took[key.ref].add(hash_of(key.key))
        self.ok = report.ok

    async def disturbed(self) -> None:
        """Run once, and be disturbed, or not."""
        world = self.world
        title, client = world.client()
        chance = Random(f"{world.seed} {title} disturbed")
        running = asyncio.create_task(self.go(title, client))
        # A key that another process made with the same name and fields cannot be told apart.
        ways = ("through", "through", "cancelled", "killed")
        way = chance.choice(ways[: 4 if self.alone else 3])
        if way != "through":
            within = chance.choice((1.0, 10.0, 60.0, 120.0))
            await asyncio.wait({running}, timeout=chance.uniform(0, within))
        if way == "killed" and not running.done():
            await self._kill(title, running)
        elif way == "cancelled" and not running.done():
            world.cancels += 1
            world.service.tell(f"{title} is cancelled")
            running.cancel()
            if chance.random() < 0.3:
                await asyncio.wait({running}, timeout=chance.uniform(0, 3))
                running.cancel()
        await asyncio.wait({running})
        if not running.cancelled():
            running.result()

    async def _kill(self, title: str, running: "asyncio.Task[None]") -> None:
        """End a run as a kill does: nothing that it does from now on counts."""
        world = self.world
        world.kills += 1
        world.service.tell(f"{title} is killed")
        world.service.dead.add(title)
        saved = world.folder / f"{self.name} {title}"
        shutil.copytree(self.journal.parent, saved)
        running.cancel()
        await asyncio.wait({running}, timeout=1)
        running.cancel()
        await asyncio.wait({running})
        shutil.rmtree(self.journal.parent)
        saved.rename(self.journal.parent)
        _forget()

    def look_after_doubts(self) -> None:
        """Delete what the last report told to be in doubt, and nobody holds."""
        for hash in [*self.doubtful]:
            if hash in self.world.service.made and hash not in self.world.held:
                self.world.delete(hash)
                self.world.orphans += 1

    async def check(self) -> None:
        """Look into the journal, too, and at how many keys each ref has."""
        world = self.world
        live = {key["hash"] for key in world.service.keys if not key["disabled"]}
        if self.journal.exists():
            async with Journal.open(self.journal) as journal:
                async for entry in journal.unfinished(State.MADE):
                    if entry.secret is not None:
                        world.held.setdefault(hash_of(entry.secret), "the journal")
        for ref, hashes in self.took.items():
            if len(hashes & live) > 1:
                world.wrong.append(f"{self.name} {ref} has {len(hashes & live)} live keys")
        if not self.ok:
            return
        for spec in self.wanted:
            taken = self.took[spec.ref]
            if spec.ref not in world.gone and not taken & (live | world.gone):
                world.wrong.append(f"{self.name} says ok, and {spec.ref} has no key")


def _forget() -> None:
    """Go on as another process, which does not know what keys were made."""
    made_keys._MEMORY.young.clear()
    made_keys._MEMORY.old.clear()


def _names(chance: Random, count: int) -> list[str]:
    odd = ("Zoe\u0308 {}", "customer {} ", "CUSTOMER {}", "customer-{}", "customer-{}", "cust {}")
    return [chance.choice(odd).format(number) for number in range(count)]


def _specs(chance: Random, workspace: str | None) -> list[KeySpec]:
    count = chance.randint(2, 10)
    names = _names(chance, count)
    if chance.random() < 0.2:
        names = [chance.choice(names) for _ in names]
    given: list[dict[str, Any]] = [
        {}, {"limit": 5.0}, {"limit": 5.0, "limit_reset": "daily"},
        {"expires_at": NOON + timedelta(days=90)},
    ]  # fmt: skip
    at: dict[str, Any] = {} if workspace is None else {"workspace_id": workspace}
    return [
        KeySpec(ref=f"r{number}", name=name, **at, **chance.choice(given))
        for number, name in enumerate(names)
    ]


async def provisioning(world: World) -> None:
    """One customer, or two at once who want the same, with runs that are disturbed."""
    chance = world.chance
    workspace = chance.choice((None, WORKSPACE))
    wanted = _specs(chance, workspace)
    customers = [Customer(world, "first", wanted)]
    if chance.random() < 0.2:
        customers[0].alone = False
        customers.append(Customer(world, "second", wanted, alone=False))
    names = [spec.name for spec in wanted]
    await _lived_through(world, customers, names, workspace or "default")


async def _lived_through(
    world: World, customers: Sequence[Customer], names: list[str], workspace: str
) -> None:
    """Let customers run, disturbed at first, until all is well or nothing changes any more."""
    chance, service = world.chance, world.service
    for customer in customers:
        customer.journal.parent.mkdir(mode=0o700)
    world.add_old(names[::3], workspace)
    await asyncio.sleep(chance.uniform(0, 100))
    others = asyncio.create_task(world.strangers(names, workspace))
    for _ in range(chance.randint(1, _RUNS)):
        await _at_once(customer.disturbed() for customer in customers)
        await asyncio.sleep(chance.choice((1.0, 10.0, LONG)))
    others.cancel()
    await asyncio.sleep(LONG)
    service.calm = True
    for _ in range(_CALM_RUNS):
        service.tell("calm")
        if service.quota <= 0:
            await asyncio.sleep(24 * 3600)
            service.quota = 1000
        # Nothing of an earlier run can be taken for these.
        world.add_old(names[1::3], workspace)
        await _at_once(customer.go(*world.client()) for customer in customers)
        await asyncio.sleep(LONG)
        if all(customer.ok for customer in customers):
            break
        for customer in customers:
            customer.look_after_doubts()
    for customer in customers:
        await customer.check()


async def _at_once(each: Iterable[Coroutine[Any, Any, None]]) -> None:
    async with asyncio.TaskGroup() as group:
        for one in each:
            group.create_task(one)


# --- rotation ---


@define
class Rotator(Customer):
    """Somebody who rotates keys that others use, until all are rotated."""

    old: list[str] = Factory(list[str])

    async def run(self, client: AsyncOpenRouter, title: str) -> None:
        report = await client.rotate(
            self.old,
            journal=self.journal,
            on_result=lambda result: self._take(title, result),
            retire_after=0,
            concurrency=Random(f"{self.world.seed} {title}").randint(1, 5),
            quiet_period=QUIET,
        )
        if report.provision is not None:
            self.told(report.provision)
        self.world.tell_problems("failures", report.failures)
        self.world.tell(f"{self.name}: {report}, ok={report.ok}")
        self.ok = report.ok

    async def _take(self, title: str, result: ProvisionResult) -> None:
        await super()._take(title, result)
        self.world.retired.add(result.ref)  # its twin is there

    async def check(self) -> None:
        """Look whether what is told to be deleted is."""
        await super().check()
        live = {key["hash"] for key in self.world.service.keys if not key["disabled"]}
        if self.journal.exists():
            async for rotation in rotations(self.journal):
                if rotation.state is RotationState.DELETED and rotation.hash in live:
                    self.world.wrong.append(f"{rotation.hash[:8]} is told to be deleted, and lives")


async def rotating(world: World) -> None:
    """One customer rotates keys, and old ones are retired at once."""
    chance, service = world.chance, world.service
    workspace = chance.choice((None, WORKSPACE)) or "default"
    names = _names(chance, chance.randint(2, 8))
    old = [service.add(name, workspace_id=workspace, limit=9.0, usage=2.0) for name in names]
    for record in old:
        record["created_at"] = (now() - timedelta(days=9)).isoformat()
        record["limit_remaining"] = 7.0
        world.held[record["hash"]] = "who uses it"
    hashes = [record["hash"] for record in old]
    wanted = [KeySpec(ref=record["hash"], name=record["name"]) for record in old]
    await _lived_through(world, [Rotator(world, "first", wanted, old=hashes)], names, workspace)


# --- single creates ---


async def creating(world: World) -> None:
    """Some create keys one by one, several at once, and are cancelled now and then."""
    chance, service = world.chance, world.service
    names = [f"{name} {number}" for number, name in enumerate(_names(chance, 6))]
    world.add_old(names[::3], "default")
    title, client = world.client()
    others = asyncio.create_task(world.strangers(names, "default"))
    async with client:
        await _at_once(_create(world, client, name) for name in names)
        others.cancel()
    await asyncio.sleep(LONG)
    service.tell(f"{title} is done")


async def _create(world: World, client: AsyncOpenRouter, name: str) -> None:
    chance = Random(f"{world.seed} {name}")
    await asyncio.sleep(chance.uniform(0, 100))
    way: Literal["raise", "reconcile"] = "raise" if chance.random() < 0.3 else "reconcile"
    creating = asyncio.create_task(
        client.api_keys.create(name=name, on_unknown=way, quiet_period=QUIET)
    )
    if chance.random() < 0.3:
        await asyncio.wait({creating}, timeout=chance.uniform(0, chance.choice((0.01, 30.0, 90.0))))
        world.cancels += creating.cancel()
    await asyncio.wait({creating})
    try:
        created = creating.result()
    except (CreateOutcomeUnknownError, SecretLostError) as unknown:
        world.tell_error(unknown)
        world.in_doubt[name] = {name}
    except asyncio.CancelledError as cancelled:
        world.tell_error(cancelled)
        if "".join(getattr(cancelled, "__notes__", ())):
            world.in_doubt[name] = {name}
    except OpenRouterError as error:
        world.tell_error(error)
    else:
        world.hold(created.key, f"who created {name!r}")
        live = [made for made in world.service.made.values() if made.name == name]
        world.service.tell(f"{name!r} is there, of {len(live)} that were made")


# --- a seed ---

SCENARIOS: Final[dict[str, Scenario]] = {
    "provisioning": provisioning,
    "rotating": rotating,
    "creating": creating,
}


@contextmanager
def _warnings_of(world: World) -> Generator[None]:
    """Whatever is logged as a warning is told."""

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            world.tell(record.getMessage())

    log, handler = logging.getLogger("openrouter_keys"), Handler(logging.WARNING)
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)


def go(name: str, seed: int) -> World:
    """Go through a scenario with a seed, and return what came of it."""

    async def main(folder: Path) -> World:
        drawn = f"{name} {seed}"
        service = Chaotic(now=now, seed=drawn, habits=habits_of(Random(f"habits of {drawn}")))
        async with served(service):
            world = World(seed, Random(f"{name} {seed}"), service, folder)
            with _warnings_of(world):
                await SCENARIOS[name](world)
            world.check()
        return world

    _forget()
    with tempfile.TemporaryDirectory() as folder:
        return run(main(Path(folder)))


def ledger(world: World) -> str:
    """Return what happened with a seed, in order."""
    return "\n".join([*world.service.lines, *(f"WRONG: {wrong}" for wrong in world.wrong)])


@define
class Totals:
    """What some seeds came to."""

    counts: Counter[str] = Factory(Counter[str])
    failed: list[int] = Factory(list[int])

    def add(self, world: World) -> None:
        service = world.service
        live = {key["hash"] for key in service.keys if not key["disabled"]}
        named = {hash for hash in service.made if hash in live and hash not in world.held}
        self.counts.update(
            seeds=1,
            creates=service.creates,
            faults=service.struck.total(),
            kills=world.kills,
            cancels=world.cancels,
            held=len(world.held),
            orphans_named=len(named) + world.orphans,
            live=len(live),
            held_keys_deleted=sum(" holds it" in wrong for wrong in world.wrong),
        )
        self.counts["wrong"] += len(world.wrong)
        if world.wrong:
            self.failed.append(world.seed)


def main() -> None:
    """Run seeds of a scenario, and print the first that fails."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenario", choices=SCENARIOS, action="append")
    parser.add_argument("--seeds", type=int, default=150)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--keep-going", action="store_true")
    parser.add_argument("--ledger", action="store_true")
    given = parser.parse_args()
    for name in given.scenario or SCENARIOS:
        totals = Totals()
        for seed in range(given.first, given.first + given.seeds):
            world = go(name, seed)
            totals.add(world)
            if given.ledger or (world.wrong and not given.keep_going):
                _say(ledger(world))
            elif world.wrong:
                _say("\n    ".join([f"seed {seed}:", *world.wrong]))
            if world.wrong and not given.keep_going:
                _say(f"python -m tests.chaos --scenario {name} --seeds 1 --first {seed}")
                sys.exit(1)
        counts = [f"{count:,} {what}" for what, count in totals.counts.items()]
        _say(f"{name}: {', '.join(counts)}; failed: {totals.failed}")


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
