"""How much memory do 10,000 keys take?

Method: no server. This client reads 100 different pages of 100 keys into records, `json` into
dicts, and the official SDK (`pip install openrouter`; skipped if it is missing) into models. The
figure is the memory that `tracemalloc` finds afterwards, for one key.

Last figures (2026-11-29, Python 3.11, msgspec 0.22, openrouter 1.3.84):

============  ===========  ===========  =============
by            10,000 keys  a key        against dicts
============  ===========  ===========  =============
json, dicts   16.7 MB      1,669 bytes  1.00
this client   11.3 MB      1,129 bytes  0.68
official SDK  35.9 MB      3,586 bytes  2.15
============  ===========  ===========  =============

    python benchmarks/records_memory.py
"""

import gc
import json
import tracemalloc
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from canned import page
from tables import print_table

from openrouter_keys._protocol.answers import Answer
from openrouter_keys.models import HTTPMeta
from openrouter_keys.operations import list_

KEYS = 10_000

Read = Callable[[bytes], list[Any]]


def readers() -> dict[str, Read]:
    operation, http = list_(), HTTPMeta(status=200)
    found: dict[str, Read] = {
        "json, dicts": lambda body: json.loads(body)["data"],
        "this client": lambda body: list(operation.read(Answer(body, http)).data),
    }
    if find_spec("openrouter"):
        models: Any = import_module("openrouter.operations")
        found["official SDK"] = lambda body: models.ListResponse.model_validate_json(body).data
    return found


def held(read: Read) -> int:
    """Return the bytes that the keys take."""
    pages = [page(offset) for offset in range(0, KEYS, 100)]
    read(pages[0])  # what is made once does not count
    gc.collect()
    tracemalloc.start()
    keys = [key for body in pages for key in read(body)]
    gc.collect()
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(keys) == KEYS
    return taken


def main() -> None:
    figures = {side: held(read) for side, read in readers().items()}
    base = figures["json, dicts"]
    print_table(
        ("by", f"{KEYS:,} keys", "a key", "against dicts"),
        *(
            (side, f"{taken / 1e6:.1f} MB", f"{taken / KEYS:,.0f} bytes", f"{taken / base:.2f}")
            for side, taken in figures.items()
        ),
    )


if __name__ == "__main__":
    main()
