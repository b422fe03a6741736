"""Processes that are killed at random moments of `apply`, with all kinds of changes between them.

`APPLY_KILLS=20 pytest tests/applying/test_killed.py` kills more often.
"""

import asyncio
import json
import os
import signal
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

import pytest
from attrs import evolve

from openrouter_keys import AsyncOpenRouter, KeySpec
from openrouter_keys._reconcile import listing
from openrouter_keys.converter import encode, structure
from openrouter_keys.emulator import Emulator
from openrouter_keys.journal.journal import Journal
from openrouter_keys.models import CreateKeysRequest
from tests.clients import until
from tests.processes import Process, environment

KILLS = int(os.environ.get("APPLY_KILLS", "5"))
SEED = int(os.environ.get("APPLY_SEED", "7"))
#: Seconds between looks at a list.
QUICK = (0.05, 0.1, 0.2)
ENDS = [None, datetime(2090, 1, 1, tzinfo=UTC), datetime(2091, 1, 1, tzinfo=UTC)]
CHILD = """
import asyncio, sys
from openrouter_keys import AsyncOpenRouter
from openrouter_keys._reconcile import listing
from tests.applying.test_killed import QUICK, applied, specs_in

path, url, file, prune = sys.argv[1:]

listing.WAITS = QUICK

async def main():
    async with AsyncOpenRouter(server_url=url) as client:
        await applied(client, path, specs_in(file), prune)

asyncio.run(main())
"""


def write(file: Path, specs: list[KeySpec]) -> None:
    lines = [
        f"{spec.ref}\t{int(spec.disabled)}\t{encode(spec.request()).decode()}\n" for spec in specs
    ]
    file.write_text("".join(lines), encoding="utf-8")


def specs_in(file: str) -> list[KeySpec]:
    """The specs of a file."""
    return [spec_in(line) for line in Path(file).read_text(encoding="utf-8").splitlines()]


def spec_in(line: str) -> KeySpec:
    ref, disabled, body = line.split("\t")
    request = structure(json.loads(body), CreateKeysRequest)
    fields: dict[str, Any] = {
        name: getattr(request, name) for name in ("name", "limit", "expires_at")
    }
    return KeySpec(ref=ref, disabled=disabled == "1", **fields)


async def applied(client: AsyncOpenRouter, path: str, specs: list[KeySpec], prune: Any) -> Any:
    """Apply them, and write down each secret that is handed over."""

    def take(result: Any) -> None:
        with open(f"{path}.taken", "a", encoding="utf-8") as file:
            file.write(f"{result.ref} {result.key}\n")

    return await client.apply(
        specs,
        journal=path,
        prune=prune,
        recreate=True,
        replace=True,
        on_result=take,
        quiet_period=0.1,
    )


class World:
    """A file and an account, both of which somebody changes at random."""

    def __init__(self, emulator: Emulator, folder: Path, random: Random) -> None:
        self.emulator, self.random = emulator, random
        self.path, self.file = folder / "keys.journal", folder / "keys.txt"
        self.specs = {
            str(n): KeySpec(ref=str(n), name=f"customer-{n}", limit=5, expires_at=None)
            for n in range(24)
        }

    def change(self) -> None:
        """Change some rows, remove and add some, and change and delete some keys by hand."""
        for ref, spec in self.random.sample([*self.specs.items()], 6):
            self.specs[ref] = evolve(spec, limit=self.random.randint(1, 99))
        for ref, spec in self.random.sample([*self.specs.items()], 3):
            self.specs[ref] = evolve(spec, expires_at=self.random.choice(ENDS))
        for ref, spec in self.random.sample([*self.specs.items()], 2):
            self.specs[ref] = evolve(spec, disabled=not spec.disabled)
        for ref in self.random.sample([*self.specs], 3):
            del self.specs[ref]
        for n in self.random.sample(range(40), 5):  # new rows, and such that come back
            name = f"customer-{n}"
            new = KeySpec(ref=str(n), name=name, limit=7, expires_at=None)
            self.specs.setdefault(str(n), new)
        keys = self.emulator.account.keys
        # What somebody changed is not provably that of a create without an answer.
        taken = self.taken()
        ours = [hash for hash, key in keys.items() if key.secret in taken]
        for hash in self.random.sample(ours, min(len(ours), 3)):
            keys[hash].limit = 1000.0
        for hash in self.random.sample(ours, min(len(ours), 2)):
            del keys[hash]
        write(self.file, [*self.specs.values()])

    def taken(self) -> dict[str, str]:
        """The secrets that were handed over, each with its ref."""
        file = Path(f"{self.path}.taken")
        lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
        return {secret: ref for ref, secret in (line.split(" ") for line in lines)}

    async def killed(self, beside: int) -> None:
        """Apply in a process that is killed at a random moment, and in others at once."""
        prune = self.random.choice(["disable", "delete"])
        given = environment(OPENROUTER_API_KEY=self.emulator.api_key)
        words = (str(self.path), self.emulator.base_url, str(self.file), prune)
        moment = len(self.emulator.requests) + self.random.randint(1, 70)
        with ExitStack() as stack:
            processes = [
                stack.enter_context(Process("-c", CHILD, *words, environment=given))
                for _ in range(1 + beside)
            ]
            ended, *others = [
                asyncio.ensure_future(asyncio.to_thread(process.wait)) for process in processes
            ]
            await until(lambda: ended.done() or len(self.emulator.requests) >= moment)
            await asyncio.sleep(self.random.random() / 100)
            if not ended.done():
                os.kill(processes[0].pid, signal.SIGKILL)
            assert await ended in (0, -signal.SIGKILL)
            assert not any(await asyncio.gather(*others))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("beside", "kills"), [(0, KILLS), (1, 2)])
async def test_killed_at_random_moments(
    emulator: Emulator, tmp_path: Path, beside: int, kills: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the end the account is as the file says: no key twice, and no orphan."""
    world = World(emulator, tmp_path, Random(SEED))
    emulator.account.add("another's")  # an empty list proves nothing
    emulator.latency = 0.002
    monkeypatch.setattr(listing, "WAITS", QUICK)
    for _ in range(kills):
        world.change()
        await world.killed(beside)
    specs = [*world.specs.values()]
    async with AsyncOpenRouter(emulator.api_key, server_url=emulator.base_url) as client:
        # A replacement is ended as it began; if the file has changed since, there is another one.
        for _ in range(2):
            report = await applied(client, str(world.path), specs, "delete")
            assert report.ok, (report.failures, report.provision)
        keys = emulator.account.keys.values()
        made = {each.name: (each.limit, each.disabled, each.expires_at) for each in keys}
        wanted = {each.name: (each.limit, each.disabled, each.expires_at) for each in specs}
        assert made == {**wanted, "another's": (None, False, None)}
        assert len(made) == len(keys)
        secrets = {each.name: each.secret for each in keys}
        taken = world.taken()
        async with Journal.read(world.path) as journal:
            for spec in specs:
                assert taken[str(secrets[spec.name])] == spec.ref
                assert (await journal.succession(spec.ref))[-1].secret == secrets[spec.name]
        emulator.requests.clear()
        report = await applied(client, str(world.path), specs, "delete")
        assert (report.ok, report.plan.changes) == (True, ())
        assert {each.operation for each in emulator.requests} <= {"list", "get"}
