"""What do reading and writing JSON cost?

Method: no server. This client and `json` read a page of 100 keys, the same page with a field on
each key that this version does not know, and one key, into records and dicts; they write a create's
body, and a page of records. The official SDK (`pip install openrouter`; skipped if it is missing)
reads the page and the key into models. In turn, in several rounds; the figure is CPU time. Ratios
are against `json`: medians of the rounds, in brackets the middle half of the rounds.

Last figures (2026-11-29, 2 cores without other work, Python 3.11, msgspec 0.22, openrouter
1.3.84):

===============  ============  ========  ================
work             by            CPU       against json
===============  ============  ========  ================
read a page      json          217.6 us  1.00 (1.00-1.00)
read a page      this client   124.4 us  0.57 (0.57-0.57)
read a page      official SDK  224.0 us  1.03 (1.02-1.04)
read new fields  json          223.0 us  1.00 (1.00-1.00)
read new fields  this client   158.5 us  0.71 (0.71-0.72)
read a key       json          4.0 us    1.00 (1.00-1.00)
read a key       this client   2.9 us    0.73 (0.72-0.73)
read a key       official SDK  4.5 us    1.14 (1.14-1.15)
write a create   json          1.5 us    1.00 (1.00-1.00)
write a create   this client   0.8 us    0.57 (0.57-0.58)
write a page     json          322.6 us  1.00 (1.00-1.00)
write a page     this client   626.5 us  1.94 (1.93-1.96)
===============  ============  ========  ================

    python benchmarks/json_records.py
"""

import json
import statistics
import time
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from canned import HASH, ONE, page, ratio
from tables import print_table

from openrouter_keys._protocol.answers import Answer
from openrouter_keys.converter import encode
from openrouter_keys.models import CreateKeysRequest, HTTPMeta
from openrouter_keys.operations import get, list_

ROUNDS, SECONDS = 15, 0.05

Work = Callable[[], object]


def works() -> dict[str, dict[str, Work]]:
    body, http = page(), HTTPMeta(status=200)
    keys: list[dict[str, object]] = json.loads(body)["data"]
    newer = json.dumps({"data": [{**key, "a_new_field": 1} for key in keys]}).encode()
    listed, got = list_(), get(HASH)
    plain = {"name": "customer-42", "limit": 50}
    request = CreateKeysRequest(name="customer-42", limit=50)
    read, dicts = listed.read(Answer(body, http)), json.loads(body)
    found: dict[str, dict[str, Work]] = {
        "read a page": {
            "json": lambda: json.loads(body),
            "this client": lambda: listed.read(Answer(body, http)),
        },
        "read new fields": {
            "json": lambda: json.loads(newer),
            "this client": lambda: listed.read(Answer(newer, http)),
        },
        "read a key": {
            "json": lambda: json.loads(ONE),
            "this client": lambda: got.read(Answer(ONE, http)),
        },
        "write a create": {
            "json": lambda: json.dumps(plain).encode(),
            "this client": lambda: encode(request),
        },
        "write a page": {
            "json": lambda: json.dumps(dicts).encode(),
            "this client": lambda: encode(read),
        },
    }
    if find_spec("openrouter"):
        models: Any = import_module("openrouter.operations")
        found["read a page"]["official SDK"] = lambda: models.ListResponse.model_validate_json(body)
        found["read a key"]["official SDK"] = lambda: models.GetKeyResponse.model_validate_json(ONE)
    return found


def cpu(work: Work) -> float:
    """Return the microseconds of CPU, over as many runs as fit into a short time."""
    times, begun = 0, time.process_time()
    while (passed := time.process_time() - begun) < SECONDS:
        for _ in range(10):
            work()
        times += 10
    return passed / times * 1e6


def rows(name: str, sides: Mapping[str, Work]) -> list[tuple[object, ...]]:
    rounds = [{side: cpu(work) for side, work in sides.items()} for _ in range(ROUNDS)]
    figures = {side: [each[side] for each in rounds] for side in sides}
    return [
        (name, side, f"{statistics.median(told):,.1f} us", ratio(told, figures["json"]))
        for side, told in figures.items()
    ]


def main() -> None:
    table = [row for name, sides in works().items() for row in rows(name, sides)]
    print_table(("work", "by", "CPU", "against json"), *table)


if __name__ == "__main__":
    main()
