"""The recipes of docs/recipes.md do what they say: real processes, one key for each customer.

The emulator judges. It fails three creates of ten: with a 502 before or after the key is made, or
by closing the connection after it.
"""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Final

import aiohttp
import pytest
from attrs import frozen

from openrouter_keys.emulator import Emulator, Fault
from tests.postgresql import PostgreSQL
from tests.processes import PATIENCE, ROOT, Process, environment, until

# Many processes start, beside other tests.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

RECIPES: Final = dict(
    re.findall(
        r"^## (A web|A cron|A Celery).*?```python\n(.*?)```",
        (ROOT / "docs" / "recipes.md").read_text(),
        re.DOTALL | re.MULTILINE,
    )
)
CUSTOMERS: Final = 50
REQUESTS: Final = 500
FAULTS: Final = (  # one create of ten each
    Fault("create", status=502, phase="after", times=None, probability=1 / 10),
    Fault("create", status=502, phase="before", times=None, probability=1 / 9),
    Fault("create", "closed", phase="after", times=None, probability=1 / 8),
)


def settings(emulator: Emulator, journal: str, **more: str) -> dict[str, str]:
    """The environment of a recipe."""
    return environment(
        OPENROUTER_API_KEY=emulator.api_key,
        OPENROUTER_BASE_URL=emulator.base_url,
        OPENROUTER_KEYS_JOURNAL=journal,
        **more,
    )


# --- a web service ---


@frozen
class Service:
    """The workers of uvicorn, and what they print."""

    url: str
    log: Path

    @property
    def workers(self) -> list[int]:
        """The processes that were started as workers, in that order."""
        return [int(pid) for pid in re.findall(r"Started server process \[(\d+)\]", self._shown())]

    def _shown(self) -> str:
        return self.log.read_text()


_LISTENING: Final = r"http://127\.0\.0\.1:\d+"


@contextmanager
def service(
    code: str, folder: Path, given: dict[str, str], *, workers: int = 4
) -> Generator[Service]:
    """Run a service until the block ends; then its log shows no traceback."""
    (folder / "service.py").write_text(code)
    log = folder / "log"
    words = ("-m", "uvicorn", "service:app", "--workers", str(workers), "--port", "0")
    patient = ("--timeout-worker-healthcheck", str(PATIENCE))  # the tests share the machine
    with (
        log.open("w") as file,
        subprocess.Popen(
            [sys.executable, *words, *patient], cwd=folder, env=given, stdout=file, stderr=file
        ) as server,
    ):
        try:
            until(
                lambda: (
                    server.poll() is not None
                    or (
                        log.read_text().count("Application startup complete") >= workers
                        and re.search(_LISTENING, log.read_text())
                    )
                )
            )
            listening = re.search(_LISTENING, log.read_text())
            assert listening is not None, log.read_text()
            yield Service(listening[0], log)
        finally:
            server.send_signal(signal.SIGTERM)
            ended = server.wait(PATIENCE)
    assert ended in (0, -signal.SIGTERM), log.read_text()
    assert "Traceback" not in log.read_text()


async def answered(
    session: aiohttp.ClientSession, method: str, url: str, customer: str
) -> dict[str, str]:
    """Ask until there is an answer, as a client that obeys `Retry-After`."""
    while True:
        try:
            async with session.request(method, f"{url}/customers/{customer}/key") as answer:
                if answer.status < 300:
                    body: dict[str, str] = json.loads(await answer.text() or "{}")
                    return body
                assert answer.status == 503, await answer.text()
                pause = float(answer.headers["Retry-After"])
        except aiohttp.ClientConnectionError:  # its worker was killed
            pause = 0.1
        await asyncio.sleep(pause)


async def asked(
    url: str,
    group: str,
    *,
    customers: int = CUSTOMERS,
    requests: int = REQUESTS,
    connections: int = REQUESTS,
) -> dict[str, set[tuple[str, str]]]:
    """Ask for many keys at once: for each customer, each key and hash that came.

    With few connections, each is for one request, so that no worker gets them all.
    """
    order = [f"{group} {number % customers}" for number in range(requests)]
    Random(0).shuffle(order)
    connector = aiohttp.TCPConnector(limit=connections, force_close=connections < requests)
    async with aiohttp.ClientSession(connector=connector) as session:
        asking = (answered(session, "POST", url, customer) for customer in order)
        answers = await asyncio.gather(*asking)
    found: dict[str, set[tuple[str, str]]] = {}
    for customer, body in zip(order, answers, strict=True):
        found.setdefault(customer, set()).add((body["key"], body["hash"]))
    return found


def live(emulator: Emulator, group: str) -> dict[str, str]:
    """The hash of each key of some customers, by its name; no name is there twice."""
    own = [k for k in emulator.account.keys.values() if k.name.startswith(f"customer {group}")]
    by_name = {key.name: key.hash for key in own}
    assert len(by_name) == len(own)
    return by_name


@frozen
class Running:
    """The service with four workers, and the emulator that it asks."""

    emulator: Emulator
    service: Service


@pytest.fixture(scope="module", params=["SQLite", "PostgreSQL"])
def running(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    """Four workers with one journal, for several tests: a start takes long."""
    folder = tmp_path_factory.mktemp("service")
    with ExitStack() as stack:
        journal = str(folder / "customers.journal")
        if request.param == "PostgreSQL":
            server: PostgreSQL = request.getfixturevalue("postgresql")
            journal = server.url(stack.enter_context(server.database()))
        emulator = stack.enter_context(Emulator(faults=FAULTS, latency=0.02))
        given = settings(emulator, journal, QUIET_PERIOD="0.2", TIMEOUT_MS="2000")
        yield Running(emulator, stack.enter_context(service(RECIPES["A web"], folder, given)))
        secrets = {str(key.secret) for key in emulator.account.keys.values()}
    assert secrets
    assert not [secret for secret in secrets if secret in (folder / "log").read_text()]


async def kill_one(service: Service, emulator: Emulator) -> None:
    """Kill a worker in the midst of the creates."""
    before = emulator.count("create")
    while emulator.count("create") < before + CUSTOMERS // 3:
        await asyncio.sleep(0.01)
    os.kill(service.workers[1], signal.SIGKILL)


@pytest.mark.parametrize("killed", [0, 1], ids=["all live", "one is killed"])
async def test_four_workers_make_one_key_for_each_customer(killed: int, running: Running) -> None:
    workers, emulator, group = running.service, running.emulator, f"killed{killed}"
    count = len(workers.workers)
    killing = [asyncio.create_task(kill_one(workers, emulator)) for _ in range(killed)]
    found = await asked(workers.url, group)
    await asyncio.gather(*killing)
    await asyncio.to_thread(until, lambda: len(workers.workers) == count + killed)
    assert len(found) == CUSTOMERS
    # Each customer got the same key ten times, and no other key is there.
    assert live(emulator, group) == {
        f"customer {customer}": hash for customer, keys in found.items() for _, hash in keys
    }
    for ((secret, hash),) in found.values():
        assert sha256(secret.encode()).hexdigest() == hash


async def test_a_released_key_is_deleted_and_the_next_one_is_another(running: Running) -> None:
    url = running.service.url
    async with aiohttp.ClientSession() as session:
        first = await answered(session, "POST", url, "released")
        assert await answered(session, "DELETE", url, "released") == {}
        assert live(running.emulator, "released") == {}
        second = await answered(session, "POST", url, "released")
    assert first["hash"] != second["hash"]
    assert live(running.emulator, "released") == {"customer released": second["hash"]}


CONTROLS: Final = {
    "a journal for each worker": (2, "Journal.open(JOURNAL)", "Journal.open(':memory:')"),
    "a create for each request": (
        1,
        ".ensure(\n        spec, journal=app.state.journal, quiet_period=QUIET_PERIOD",
        ".api_keys.create(\n        name=spec.name",
    ),
}


@pytest.mark.parametrize("control", CONTROLS)
async def test_without_the_shared_journal_there_are_more_keys(control: str, tmp_path: Path) -> None:
    workers, kept, broken = CONTROLS[control]
    assert kept in RECIPES["A web"]
    code = RECIPES["A web"].replace(kept, broken).replace("ensured.outcome", "None")
    with Emulator(latency=0.02) as emulator:
        given = settings(emulator, str(tmp_path / "customers.journal"))
        with service(code, tmp_path, given, workers=workers) as running:
            found = await asked(running.url, "control", customers=10, requests=100, connections=8)
        assert len(emulator.account.keys) > len(found) == 10


# --- a cron job ---


def keys_py(given: dict[str, str], *, at_once: int = 1) -> list[dict[str, str]]:
    """Run the cron job: what each of some says of each customer."""
    jobs = [Process("-c", RECIPES["A cron"], environment=given) for _ in range(at_once)]
    said = [job.communicate(timeout=PATIENCE) for job in jobs]
    assert [(job.wait(), err) for job, (_, err) in zip(jobs, said, strict=True)] == [
        (0, "")
    ] * at_once
    return [dict(line.split(": ") for line in out.splitlines()) for out, _ in said]


def test_a_cron_job_goes_on_where_the_last_one_could_not(tmp_path: Path) -> None:
    fault = Fault("create", "closed", phase="after", skip=1)
    with Emulator(faults=[fault]) as emulator:
        given = settings(emulator, str(tmp_path / "customers.journal"))
        (first,) = keys_py(given)
        assert first.pop("globex").startswith("the next run goes on")
        assert {text.split()[0] for text in first.values()} == {"created"}
        assert len(live(emulator, "")) == 3  # one of them is nobody's

        emulator.account.advance(minutes=10)
        (second,) = keys_py(given)
        assert second.pop("globex").startswith("created ")
        assert second == {
            customer: text.replace("created", "existing") for customer, text in first.items()
        }
        assert live(emulator, "").keys() == {"customer acme", "customer globex", "customer initech"}


def test_two_cron_jobs_at_once_make_one_key_for_each_customer(tmp_path: Path) -> None:
    with Emulator(latency=0.1) as emulator:
        given = settings(emulator, str(tmp_path / "customers.journal"))
        said = keys_py(given, at_once=4)
        assert len(live(emulator, "")) == 3
    for customer in said[0]:
        outcomes, hashes = zip(*(each[customer].split() for each in said), strict=True)
        assert sorted(outcomes) == ["created", "existing", "existing", "existing"]
        assert len({*hashes}) == 1


# --- a Celery task ---

WORKER: Final = """
import os
from tasks import app

folder = os.environ["BROKER"]
app.conf.broker_transport_options = {
    "data_folder_in": folder, "data_folder_out": folder, "control_folder": folder + "/control",
}
app.conf.result_backend = "file://" + folder
"""
CALLER: Final = """
from worker import app
from tasks import ensure_key

results = [ensure_key.delay(f"c{number % 5}") for number in range(20)]
for result in results:
    print(result.get(timeout=60))
"""


def test_celery_workers_make_one_key_for_each_customer(tmp_path: Path) -> None:
    (tmp_path / "tasks.py").write_text(RECIPES["A Celery"])
    (tmp_path / "worker.py").write_text(WORKER)
    broker = tmp_path / "broker"
    (broker / "control").mkdir(parents=True)
    words = ("-m", "celery", "-A", "worker", "worker", "--concurrency", "2", "--without-mingle")
    with Emulator(latency=0.05) as emulator, (tmp_path / "log").open("w") as log:
        given = settings(
            emulator, str(tmp_path / "j"), CELERY_BROKER_URL="filesystem://", BROKER=str(broker)
        )
        given["PYTHONPATH"] += f"{os.pathsep}{tmp_path}"
        with subprocess.Popen([sys.executable, *words], env=given, stdout=log, stderr=log) as both:
            done = subprocess.run(
                [sys.executable, "-c", CALLER], env=given, capture_output=True, text=True,
                check=False, timeout=PATIENCE,
            )  # fmt: skip
            both.send_signal(signal.SIGTERM)
        hashes = live(emulator, "")
        secrets = [str(key.secret) for key in emulator.account.keys.values()]
    told = (tmp_path / "log").read_text()
    assert done.returncode == 0, done.stderr + told
    assert done.stdout.split() == [hashes[f"customer c{number % 5}"] for number in range(20)]
    assert len(hashes) == 5
    assert not [secret for secret in secrets if secret in told]
