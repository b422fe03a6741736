"""All races in full, and one table of what came of them. Exit code 1: a promise did not hold.

`python -m tests.races --seed 1 --engine sqlite postgresql --case ensure`
"""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Final

from tests.engines import ENGINES, New, new_places
from tests.postgresql import PostgreSQL, server
from tests.races.cases import Arena, Case, Row, begun_later, killed_at_once, racing, stopped

#: Each case with the number of its rounds.
CASES: Final[dict[str, tuple[Case, int]]] = {
    "provision the same 200": (racing("provision"), 1),
    "the same, killed": (racing("provision", kills=10), 3),
    "ensure the same 200": (racing("ensure"), 1),
    "ensure, killed": (racing("ensure", kills=10), 3),
    "rotate the same 40": (racing("rotate", processes=3, count=40), 1),
    "rotate, killed": (racing("rotate", processes=3, count=40, kills=5), 1),
    "killed with creates under way": (killed_at_once, 3),
    "begun with creates under way": (begun_later, 3),
    "stopped, then taken over": (stopped, 3),
}
CRASHES: Final[dict[str, tuple[Case, int]]] = {
    "provision, server crashes": (racing("provision", crashes=4), 2),
    "ensure, server crashes": (racing("ensure", crashes=4), 2),
    "ensure, all of it": (racing("ensure", kills=5, crashes=3), 1),
}
HEAD: Final = """
| case | engine | rounds | processes | refs | kills | crashes | live keys | secrets | orphans |
| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"""


def line(name: str, engine: str, rows: Sequence[Row]) -> str:
    """Return what came of the rounds of a case."""
    of = [
        (
            row.refs,
            row.kills,
            row.crashes,
            row.verdict.live,
            row.verdict.secrets,
            row.verdict.orphans,
        )
        for row in rows
    ]
    sums = [sum(column) for column in zip(*of, strict=True)]
    shown = [name, engine, len(rows), rows[0].processes, *sums]
    return f"| {' | '.join(map(str, shown))} |"


def race(
    new: New,
    engine: str,
    get: Callable[[], PostgreSQL],
    cases: dict[str, tuple[Case, int]],
    seed: int,
) -> tuple[list[str], list[str]]:
    """Run cases; return the lines of the table, and what is not as it was promised."""
    lines: list[str] = []
    wrong: list[str] = []
    for name, (case, rounds) in cases.items():
        rows: list[Row] = []
        for number in range(rounds):
            arena = Arena(engine, new(), get() if engine == "postgresql" else None, seed + number)
            rows.append(asyncio.run(case(arena)))
            wrong += [f"{name}, {engine}, {arena.seed}: {each}" for each in rows[-1].verdict.wrong]
        lines.append(line(name, engine, rows))
        print(lines[-1], *wrong, sep="\n", file=sys.stderr, flush=True)
    return lines, wrong


def main() -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--engine", nargs="*", choices=ENGINES, default=ENGINES)
    parser.add_argument("--case", help="only those with this word in their name", default="")
    asked = parser.parse_args()
    table: list[str] = []
    problems: list[str] = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for engine in asked.engine:
            cases = {**CASES, **(CRASHES if engine == "postgresql" else {})}
            chosen = {name: case for name, case in cases.items() if asked.case in name}
            running = stack.enter_context(server()) if engine == "postgresql" else None
            get = partial(_given, running)
            new = stack.enter_context(new_places(engine, folder, get))
            lines, wrong = race(new, engine, get, chosen, asked.seed)
            table += lines
            problems += wrong
    print(HEAD, *table, sep="\n")
    print(*problems, sep="\n")
    return 1 if problems else 0


def _given(running: PostgreSQL | None) -> PostgreSQL:
    assert running is not None
    return running


if __name__ == "__main__":
    sys.exit(main())
