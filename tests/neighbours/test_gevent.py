"""After gevent's `patch_all`: the blocking client, in programs of their own."""

from pathlib import Path

from openrouter_keys.emulator import Emulator, Fault
from tests.neighbours.programs import run

BEGIN = """
from gevent import monkey; monkey.patch_all()
import gevent, os, threading, time
from openrouter_keys import KeySpec, OpenRouter, errors
from openrouter_keys.emulator import Emulator
from concurrent.futures import ThreadPoolExecutor
"""
PROGRAMS = {
    "many greenlets share two clients, and others go on": """
ticks = 0
def tick():
    global ticks
    while True:
        gevent.sleep(0.001)
        ticks += 1
ticking = gevent.spawn(tick)
with OpenRouter() as one, OpenRouter() as other:
    calls = [gevent.spawn(client.api_keys.list) for client in (one, other) for _ in range(20)]
    gevent.joinall(calls, raise_error=True)
assert ticks > 5, ticks
ticking.kill()
""",
    "many keys are made, and handed over in the greenlet that asked": """
here, seen = gevent.getcurrent(), set()
with OpenRouter() as client:
    specs = (KeySpec(ref=f"{n}", name=f"{n}") for n in range(20))
    report = client.provision(specs, on_result=lambda _: seen.add(gevent.getcurrent()))
    assert report.ok, report
    assert len([*client.api_keys.iterate()]) == 20
assert seen == {here}
""",
    "a client that is closed leaves no file open": """
def use():
    with OpenRouter() as client:
        client.api_keys.list()
use()
before = len(os.listdir("/proc/self/fd"))
for _ in range(5):
    use()
deadline = time.monotonic() + 10
while len(os.listdir("/proc/self/fd")) > before and time.monotonic() < deadline:
    gevent.sleep(0.01)
assert len(os.listdir("/proc/self/fd")) <= before
""",
    "a pool of its threads": """
with OpenRouter() as client, ThreadPoolExecutor(4) as pool:
    assert len([*pool.map(lambda _: client.api_keys.list(), range(8))]) == 8
""",
    "an error of the service reaches its caller": """
with OpenRouter() as client:
    try:
        client.api_keys.get("ab" * 32)
    except errors.NotFoundResponseError:
        pass
    else:
        raise AssertionError
""",
    "an emulator beside two clients": """
with Emulator() as emulator:
    for _ in range(2):
        with OpenRouter(emulator.api_key, server_url=emulator.base_url) as client:
            client.api_keys.create(name="new")
    assert len(emulator.account.keys) == 2
""",
    "a client that nobody closes ends with the program": """
client = OpenRouter()
client.api_keys.list()
""",
}


def test_it_works(openrouter_emulator: Emulator, tmp_path: Path) -> None:
    # One after the other in one process: to start it and to import all takes longer than they do.
    parts = [f"exec({code!r})\nprint({name!r})\n" for name, code in PROGRAMS.items()]
    told = "".join(f"{name}\n" for name in PROGRAMS)
    assert run(BEGIN + "".join(parts), openrouter_emulator, tmp_path) == (told, "", 0)


def test_gevents_timeout_takes_a_create_back(openrouter_emulator: Emulator, tmp_path: Path) -> None:
    openrouter_emulator.faults.append(Fault("create", "slow", delay=2, phase="after"))
    code = """
with OpenRouter() as client:
    try:
        with gevent.Timeout(1):
            client.api_keys.create(name="new")
    except gevent.Timeout:
        print("taken back")
    client.api_keys.list()
"""
    out, err, code_of_exit = run(BEGIN + code, openrouter_emulator, tmp_path)
    assert (out, code_of_exit) == ("taken back\n", 0)
    assert err.endswith("of a cancelled create was deleted, since its secret is lost\n")
    assert openrouter_emulator.count("create") == 1
    assert not openrouter_emulator.account.keys
