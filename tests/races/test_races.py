"""The races in short, and controls: each can fail. `nox -s races` runs them in full."""

import asyncio
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Final

import pytest

from tests.engines import ENGINES, new_places
from tests.postgresql import PostgreSQL
from tests.races.cases import Arena, Case, Row, begun_later, killed_at_once, racing, stopped

pytestmark = pytest.mark.slow

SEED: Final = 1
SHORT: Final[dict[str, Case]] = {
    "provision": racing("provision", count=40),
    "provision, killed": racing("provision", count=24, kills=2),
    "ensure": racing("ensure", count=24, kills=1),
    "rotate": racing("rotate", processes=3, count=8),
    "killed with creates under way": killed_at_once,
    "begun with creates under way": begun_later,
    "stopped, then taken over": stopped,
}
CONTROLS: Final[dict[str, tuple[Case, tuple[str, ...]]]] = {
    "no fencing": (stopped, ("fencing",)),
    "no waiting": (killed_at_once, ("waiting",)),
    "nobody lives": (begun_later, ("liveness", "waiting")),
}

Run = Callable[..., Row]


@pytest.fixture(params=ENGINES)
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[Run]:
    """Runs a case on a new journal."""
    engine: str = request.param

    def server() -> PostgreSQL:
        found: PostgreSQL = request.getfixturevalue("postgresql")
        return found

    with new_places(engine, tmp_path, server) as new:

        def run_case(case: Case, *broken: str) -> Row:
            given = server() if engine == "postgresql" else None
            return asyncio.run(case(Arena(engine, new(), given, SEED, broken)))

        yield run_case


@pytest.mark.parametrize("case", SHORT)
def test_no_ref_gets_two_keys_and_no_secret_is_lost(case: str, run: Run) -> None:
    row = run(SHORT[case])
    assert row.verdict.wrong == (), f"seed {SEED}"
    assert (row.verdict.live, row.verdict.secrets, row.verdict.orphans) == (row.refs, row.refs, 0)


@pytest.mark.parametrize("control", CONTROLS)
def test_a_race_can_fail(control: str, run: Run) -> None:
    case, broken = CONTROLS[control]
    assert run(case, *broken).verdict.wrong


def test_a_server_that_crashes_loses_nothing(postgresql: PostgreSQL, tmp_path: Path) -> None:
    case = racing("ensure", processes=3, count=24, crashes=2)
    with new_places("postgresql", tmp_path, lambda: postgresql) as new:
        row = asyncio.run(case(Arena("postgresql", new(), postgresql, SEED)))
    assert (row.verdict.wrong, row.crashes) == ((), 2)
