"""Ctrl-C, once and twice, in a real process that provisions: what it leaves can be gone on with."""

import asyncio
import signal
import sys
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from openrouter_keys import ProvisionResult
from openrouter_keys.emulator import Emulator, Fault
from tests.journals import written
from tests.processes import Process, environment, until
from tests.provisions import JumpingTime, client_of, counts, specs

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT to another process"),
]

PATIENCE = 60.0
COUNT = 40

# Keys and hashes are told, and no secret. The address and the key come from the environment.
_BOTH = f"""
import asyncio, os, signal, sys
from hashlib import sha256
from openrouter_keys import AsyncOpenRouter, OpenRouter
from tests.provisions import specs

def take(result):
    print("taken", result.ref, sha256(result.key.encode()).hexdigest(), flush=True)

def tell(progress):
    if progress.report is not None:
        print("ended", progress.report.created, flush=True)

def heard(*_):
    os.write(1, b"heard\\n")

given = dict(journal=sys.argv[1], concurrency=4, on_result=take, on_progress=tell)
wanted = specs({COUNT})
"""
# How the interpreter hears it, and tells us.
_HEARING = """
def interrupted(*given):
    heard()
    signal.default_int_handler(*given)

signal.signal(signal.SIGINT, interrupted)
"""
FACES = {
    "asyncio.run": f"""{_BOTH}
async def main():
    async with AsyncOpenRouter(grace=float(sys.argv[2])) as client:
        await client.provision(wanted, **given)

class Runner(asyncio.Runner):
    def _on_sigint(self, *given, **named):
        heard()
        super()._on_sigint(*given, **named)

with Runner() as runner:
    runner.run(main())
""",
    "blocking": f"""{_BOTH}{_HEARING}
with OpenRouter(grace=float(sys.argv[2])) as client:
    client.provision(wanted, **given)
""",
    "blocking, in hand": f"""{_BOTH}{_HEARING}
with OpenRouter(grace=float(sys.argv[2])) as client:
    try:
        client.provision(wanted, **given)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
""",
}


@pytest.fixture
def served() -> Iterator[Emulator]:
    """An emulator in a thread of its own."""
    with Emulator() as emulator:
        yield emulator


def start(face: str, emulator: Emulator, path: Path, grace: float = 5.0) -> Process:
    server = {"OPENROUTER_BASE_URL": emulator.base_url, "OPENROUTER_API_KEY": emulator.api_key}
    settings = environment(**server, OPENROUTER_DEBUG="1")
    return Process("-c", FACES[face], str(path), str(grace), environment=settings)


def taken_of(out: str) -> dict[str, str]:
    """Which key was handed over last for each ref."""
    told = [line.split() for line in out.splitlines() if line.startswith("taken")]
    return {f"customer-{ref}": hash for _, ref, hash in told}


def assert_interrupted(face: str, process: Process, out: str, err: str) -> None:
    if face == "blocking, in hand":
        assert (process.returncode, "interrupted" in out) == (0, True)
    else:
        assert process.returncode == -signal.SIGINT
        assert "KeyboardInterrupt" in err
    assert "Task exception was never retrieved" not in err


async def assert_completed(emulator: Emulator, path: Path, taken: dict[str, str]) -> None:
    """The next run makes it whole: each spec has one key, the one that was handed over last."""
    emulator.faults.clear()
    again: list[ProvisionResult] = []
    async with client_of(emulator, JumpingTime()) as client:
        report = await client.provision(specs(COUNT), journal=path, on_result=again.append)
    assert report.ok
    for result in again:
        taken[result.spec.name] = sha256(result.key.encode()).hexdigest()
    assert {key.name: key.hash for key in emulator.account.keys.values()} == taken
    assert len(emulator.account.keys) == COUNT
    assert await counts(path) == {"settled": COUNT}


@pytest.mark.parametrize("face", FACES)
async def test_ctrl_c_lets_what_is_under_way_end_and_sends_nothing_new(
    face: str, served: Emulator, path: Path
) -> None:
    served.faults.append(Fault("create", "slow", delay=2, skip=4, times=None))
    with start(face, served, path, grace=PATIENCE) as process:
        assert process.stdout is not None
        before = "".join(process.stdout.readline() for _ in range(4))
        until(lambda: served.count("create") >= 8)
        # While a key is handed over, a Ctrl-C would strike whoever takes it.
        while (await counts(path)).get("settled") != 4:
            await asyncio.sleep(0.01)
        sent = served.count("create")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE)
        out = before + out

    assert_interrupted(face, process, out, err)
    assert served.count("create") <= sent + 4
    made = len(served.account.keys)
    assert served.count("create") == made
    assert taken_of(out) == {key.name: key.hash for key in served.account.keys.values()}
    assert f"ended {made}" in out
    assert await counts(path) == {"settled": made}
    for secret in (served.api_key, *(str(key.secret) for key in served.account.keys.values())):
        assert secret not in out + err
    await assert_completed(served, path, taken_of(out))


@pytest.mark.parametrize("face", FACES)
async def test_ctrl_c_twice_leaves_what_can_be_gone_on_with(
    face: str, served: Emulator, path: Path
) -> None:
    served.faults.append(Fault("create", "stalled", phase="after", skip=4, times=None))
    before = ""
    with start(face, served, path) as process:
        until(lambda: len(served.account.keys) == 8)
        process.send_signal(signal.SIGINT)
        assert process.stdout is not None
        while (line := process.stdout.readline()) != "heard\n":
            before += line
        time.sleep(1)  # it is raised only then
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE)
        out = before + out

    assert_interrupted(face, process, out, err)
    for secret in (served.api_key, *(str(key.secret) for key in served.account.keys.values())):
        assert secret not in out + err
    found = await counts(path)
    assert found.get("intent", 0) + found.get("doubt", 0) == 4
    await assert_completed(served, path, taken_of(out))


async def test_a_terminated_process_leaves_what_can_be_gone_on_with(
    served: Emulator, path: Path
) -> None:
    served.faults.append(Fault("create", "stalled", phase="after", skip=4, times=None))
    with start("asyncio.run", served, path) as process:
        until(lambda: len(served.account.keys) == 8)
        process.terminate()
        out, _ = process.communicate(timeout=PATIENCE)

    assert process.returncode == -signal.SIGTERM
    assert served.api_key.encode() not in written(path)
    await assert_completed(served, path, taken_of(out))
