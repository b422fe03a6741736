"""What must hold after any run of `provision`, and a process that provisions, to be killed."""

import asyncio
import json
import sqlite3
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from datetime import UTC, datetime
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

from attrs import asdict, frozen

from openrouter_keys import (
    UNSET,
    AsyncOpenRouter,
    KeySpec,
    ProvisioningStoppedError,
    ProvisionProgress,
    ProvisionResult,
)
from openrouter_keys.emulator import Emulator, Request
from openrouter_keys.journal.journal import Journal
from tests.processes import Process, environment

FAR = datetime(2100, 1, 1, tzinfo=UTC)
#: What a process tells last if all went well.
WHOLE = "whole"
# After these the service has certainly not made a key.
NOT_PROCESSED = {429, 521, 523}
_AUDIT = """
CREATE TABLE intents (ref TEXT NOT NULL);
CREATE TRIGGER intended AFTER INSERT ON keys
BEGIN INSERT INTO intents VALUES (new.ref); END;
CREATE TRIGGER intended_again AFTER UPDATE OF last_attempt_at ON keys WHEN new.state = 'intent'
BEGIN INSERT INTO intents VALUES (new.ref); END;
"""


def customers(
    count: int, seed: int, *, names: int | None = None, workspaces: Sequence[str | None] = (None,)
) -> list[KeySpec]:
    """Specs of all sorts, the same ones for the same seed.

    Args:
        count: how many.
        seed: of what they ask for.
        names: how many names they share; None: each has its own.
        workspaces: where they may be.
    """
    chance = Random(seed)
    return [
        KeySpec(
            ref=f"ref-{number}",
            name=f"customer-{number % (names or count)}",
            limit=chance.choice([UNSET, None, 0, 0.1, 5, 1e6]),
            limit_reset=chance.choice([UNSET, None, "daily", "monthly"]),
            include_byok_in_limit=chance.choice([None, True]),
            expires_at=FAR if chance.random() < 0.5 else UNSET,
            workspace_id=chance.choice(workspaces),
        )
        for number in range(count)
    ]


# --- what must hold ---


@frozen
class Row:
    """What a journal's file holds of a key."""

    ref: str
    state: str
    hash: str
    secret: str | None


async def audited(path: Path) -> Path:
    """Make a journal that counts its intents, in the transactions that write them."""
    async with Journal.open(path):
        pass
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(_AUDIT)
    return path


def rows(path: Path) -> list[Row]:
    return [Row(*row) for row in _read(path, "SELECT ref, state, hash, secret FROM keys")]


def intents(path: Path) -> Counter[str]:
    return Counter(ref for (ref,) in _read(path, "SELECT ref FROM intents"))


def _read(path: Path, query: str) -> list[tuple[str, ...]]:
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
        return connection.execute(query).fetchall()


def hash_of(secret: str) -> str:
    return sha256(secret.encode()).hexdigest()


def orphans(emulator: Emulator, path: Path) -> set[str]:
    """The hashes of the keys that are live and that a journal does not hold."""
    return {*emulator.account.keys} - {row.hash for row in rows(path)}


def assert_one_key_each(emulator: Emulator, wanted: Iterable[KeySpec]) -> None:
    """The service holds a live key for each spec, as asked for, and no other key."""
    live = [(key.name, key.limit, key.disabled) for key in emulator.account.keys.values()]
    limits = [None if spec.limit is UNSET else spec.limit for spec in wanted]
    asked = [(spec.name, limit, False) for spec, limit in zip(wanted, limits, strict=True)]
    assert Counter(live) == Counter(asked)


def assert_journaled(
    emulator: Emulator, wanted: Sequence[KeySpec], path: Path, *, stored: bool = True
) -> None:
    """The journal holds each key that is live, by its own ref, and the secret if it may."""
    found = rows(path)
    assert [row.state for row in found] == ["settled"] * len(wanted)
    names = {row.ref: emulator.account.keys[row.hash].name for row in found}
    assert names == {spec.ref: spec.name for spec in wanted}
    assert orphans(emulator, path) == set()
    if stored:
        assert [hash_of(row.secret or "") for row in found] == [row.hash for row in found]
    else:
        assert {row.secret for row in found} == {None}


def assert_handed_over(
    emulator: Emulator, wanted: Sequence[KeySpec], taken: Sequence[tuple[str, str]]
) -> None:
    """The last secret that a caller took for each ref is that of a live key of its own."""
    hashes = {ref: hash_of(secret) for ref, secret in taken}
    names = {ref: emulator.account.keys[hash].name for ref, hash in hashes.items()}
    assert names == {spec.ref: spec.name for spec in wanted}
    assert {*hashes.values()} == {*emulator.account.keys}


def assert_sent_as_intended(emulator: Emulator, wanted: Iterable[KeySpec], path: Path) -> None:
    """No create was sent without an intent of its own."""
    of = {spec.ref: spec.name for spec in wanted}
    intended = Counter[str]()
    for ref, count in intents(path).items():
        intended[of[ref]] += count
    sent = Counter(request.name or "" for request in _creates(emulator))
    assert not sent - intended


def assert_none_sent_blindly(emulator: Emulator) -> None:
    """After a create that may have made a key, none of its name came before a look for it.

    Every name is of one spec.
    """
    looks = [request.number for request in emulator.requests if _is_look(request)]
    deleted = {request.hash for request in emulator.requests if request.operation == "delete"}
    by_name: dict[str | None, list[Request]] = {}
    for request in _creates(emulator):
        by_name.setdefault(request.name, []).append(request)
    for before, after in (pair for creates in by_name.values() for pair in pairwise(creates)):
        if before.status not in NOT_PROCESSED:
            looked = any(before.number < look < after.number for look in looks)
            assert looked or before.hash in deleted
        assert before.hash not in emulator.account.keys


def _creates(emulator: Emulator) -> list[Request]:
    return [request for request in emulator.requests if request.operation == "create"]


def _is_look(request: Request) -> bool:
    """Whether a reconcile asked, and learned the truth."""
    told = request.applied and request.fault in (None, "status") and request.status in (200, 202)
    return request.operation == "list" and "include_disabled" in request.query and told


# --- a process that provisions ---


@frozen(kw_only=True)
class Order:
    """What a process is to provision.

    Args:
        journal: its path.
        taken: the file that secrets are appended to as they are handed over.
        count: how many specs.
        seed: of the specs, and of how long each hand-over takes.
        quiet_period: seconds.
        concurrency: how many creates at once.
        store_secrets: whether the journal has the secrets.
    """

    journal: str
    taken: str
    count: int
    seed: int
    quiet_period: float
    concurrency: int
    store_secrets: bool = True

    def specs(self) -> list[KeySpec]:
        return customers(self.count, self.seed)

    def start(self, base_url: str, api_key: str) -> Process:
        """Begin; each line of standard output tells a phase or a hand-over."""
        return Process(
            *("-c", "from tests.provisioners import main; main()", json.dumps(asdict(self))),
            environment=environment(OPENROUTER_BASE_URL=base_url, OPENROUTER_API_KEY=api_key),
        )

    def handed_over(self) -> list[tuple[str, str]]:
        """The refs and secrets that were handed over, in this order."""
        lines = Path(self.taken).read_text().splitlines()
        return [(ref, secret) for ref, secret in map(str.split, lines)]

    async def fulfil(self, tell: Callable[[str], object], **client: Any) -> None:
        """Provision in this process, and tell each phase and each hand-over."""
        chance = Random(self.seed)

        async def take(result: ProvisionResult) -> None:
            await asyncio.sleep(0.02 * chance.random())  # whoever takes it takes a while
            file.write(f"{result.ref} {result.key}\n".encode())
            tell("handed over")

        with open(self.taken, "ab", buffering=0) as file:
            async with AsyncOpenRouter(**client) as openrouter:
                report = await openrouter.provision(
                    self.specs(),
                    journal=self.journal,
                    concurrency=self.concurrency,
                    on_result=take,
                    on_progress=_phases(tell),
                    quiet_period=self.quiet_period,
                    store_secrets=self.store_secrets,
                )
        tell(WHOLE if report.ok else f"not whole: {report}")


def _phases(tell: Callable[[str], object]) -> Callable[[ProvisionProgress], None]:
    last: list[str] = []

    def on_progress(progress: ProvisionProgress) -> None:
        if last != [progress.phase]:
            last[:] = [progress.phase]
            tell(progress.phase)

    return on_progress


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> None:
    try:
        asyncio.run(Order(**json.loads(sys.argv[1])).fulfil(_say))
    except ProvisioningStoppedError as stopped:
        _say(f"stopped: {stopped}")
