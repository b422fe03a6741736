"""How many requests does the emulator answer in a second, and what does its fixture cost?

Run: ``python benchmarks/emulator.py`` (in an environment that has openrouter_keys).

Method: the emulator has its own process and, where the system allows, its own core. Sixteen plain
sockets here send a request each, and the next one as soon as the answer is there. The figure is the
median of several rounds, with their range; the CPU time of a request shows what a busy machine
hides. Then pages of 100 of all keys made so far, some 28,000, each after one more create, so that
none is found where the last list left off; at offset 9,000 against 0, pair by pair, in brackets the
middle half. The fixture's cost is that of entering and leaving an emulator in a thread, as the
pytest plugin does, after all imports; the import is listed by itself.

Last figures (2 shared cores, Python 3.11, aiohttp 3.14.5):

======  ================  ========
call    a second          CPU
======  ================  ========
create  4821 (3687-5569)  0.159 ms
get     6106 (4407-7823)  0.122 ms
======  ================  ========

A page at offset 9,000 against one at 0: 0.96 (0.81-1.21), on 2026-11-29 on a very busy machine.

Entering 0.41 ms, leaving 0.33 ms; the first import 245 ms.
"""

import json
import multiprocessing
import os
import selectors
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from http.client import HTTPConnection
from multiprocessing.connection import Connection

from canned import ratio

from openrouter_keys.emulator import Emulator

ROUNDS, CALLS, SOCKETS, FIXTURES, PAGES = 7, 4000, 16, 50, 60


def serve(caller: "Connection[object, object]") -> None:
    if sys.platform == "linux":
        os.sched_setaffinity(0, {0})
    with Emulator() as emulator:
        caller.send((int(emulator.base_url.split(":")[2].split("/")[0]), emulator.api_key))
        while caller.recv():
            caller.send(time.process_time())


def request(key: str, method: str, path: str, body: bytes = b"") -> bytes:
    head = (
        f"{method} /api/v1{path} HTTP/1.1\r\nHost: emulator\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def ask(port: int, sent: bytes, calls: int) -> tuple[float, bytes]:
    """Return the seconds for this many calls, and the last answer."""
    selector, answer = selectors.DefaultSelector(), b""
    for _ in range(SOCKETS):
        connection = socket.create_connection(("127.0.0.1", port))
        selector.register(connection, selectors.EVENT_READ, bytearray())
        connection.sendall(sent)
    begun, left = time.perf_counter(), calls - SOCKETS
    while selector.get_map():
        for key, _ in selector.select():
            assert isinstance(key.fileobj, socket.socket)
            connection, received = key.fileobj, key.data
            received.extend(connection.recv(65536))
            if not received.endswith(b"\r\n0\r\n\r\n"):
                continue
            answer = bytes(received)
            received.clear()
            if left > 0:
                left -= 1
                connection.sendall(sent)
            else:
                selector.unregister(connection)
                connection.close()
    return time.perf_counter() - begun, answer


def rate(port: int, sent: bytes, cpu: Callable[[], float]) -> str:
    rounds: list[tuple[float, float]] = []
    for _ in range(ROUNDS):
        begun = cpu()
        rounds.append((CALLS / ask(port, sent, CALLS)[0], (cpu() - begun) / CALLS * 1000))
    rates, times = zip(*rounds, strict=True)
    return f"{spread(rates, '.0f')}  {spread(times, '.3f')} ms"


def spread(figures: Sequence[float], form: str) -> str:
    middle, low, high = statistics.median(figures), min(figures), max(figures)
    return f"{middle:{form}} ({low:{form}}-{high:{form}})"


def pages(port: int, key: str) -> None:
    took: dict[int, list[float]] = {0: [], 9000: []}
    with closing(HTTPConnection("127.0.0.1", port)) as connection:
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        for _ in range(PAGES):
            for offset, times in took.items():
                connection.request("POST", "/api/v1/keys", b'{"name":"one-more"}', headers)
                connection.getresponse().read()
                begun = time.perf_counter()
                connection.request("GET", f"/api/v1/keys?offset={offset}", headers=headers)
                connection.getresponse().read()
                times.append((time.perf_counter() - begun) * 1000)
    for offset, times in took.items():
        print(f"page at {offset:,}: {statistics.median(times):.1f} ms")
    print(f"against 0: {ratio(took[9000], took[0])}")


def fixtures() -> None:
    entering: list[float] = []
    leaving: list[float] = []
    for _ in range(FIXTURES):
        begun = time.perf_counter()
        with Emulator():
            entered = time.perf_counter()
        entering.append((entered - begun) * 1000)
        leaving.append((time.perf_counter() - entered) * 1000)
    print(f"entering {spread(entering, '.2f')} ms, leaving {spread(leaving, '.2f')} ms")


def importing() -> None:
    script = "import time; t = time.perf_counter(); from openrouter_keys.emulator import Emulator; "
    script += "print((time.perf_counter() - t) * 1000)"
    runs = [float(subprocess.check_output([sys.executable, "-c", script])) for _ in range(ROUNDS)]
    print(f"the first import {spread(runs, '.0f')} ms")


def main() -> None:
    emulator, end = multiprocessing.Pipe()
    server = multiprocessing.Process(target=serve, args=(end,))
    server.start()
    port, key = emulator.recv()

    def cpu() -> float:
        emulator.send(True)
        return float(emulator.recv())

    create = request(key, "POST", "/keys", b'{"name":"customer-42","limit":50}')
    _, answer = ask(port, create, SOCKETS)
    made = json.loads(answer[answer.index(b"{") : answer.rindex(b"}") + 1])
    get = request(key, "GET", "/keys/" + made["data"]["hash"])
    print(f"create  {rate(port, create, cpu)}")
    print(f"get     {rate(port, get, cpu)}")
    pages(port, key)
    emulator.send(False)
    server.join()
    fixtures()
    importing()


if __name__ == "__main__":
    main()
