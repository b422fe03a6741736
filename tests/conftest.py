"""Fixtures for all tests."""

import os
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from openrouter_keys import AsyncOpenRouter, ProvisionResult
from openrouter_keys._inputs.options import warn_unencrypted
from openrouter_keys.emulator import Emulator
from openrouter_keys.provisioning import spec_source as sources
from openrouter_keys.testing import patch_aioresponses
from tests.browsers import Tab, chromium, new_tab
from tests.cases import Case, new_case
from tests.clients import FakeTime
from tests.commands import Command
from tests.engines import New, new_places
from tests.leftovers import none_left
from tests.memory import FOLDER
from tests.postgresql import PostgreSQL, server
from tests.provisions import SMALL_BATCH, JumpingTime, client_of

# What a script starts by `pytest &` ignores Ctrl-C, and so does all that it starts.
signal.signal(signal.SIGINT, signal.default_int_handler)

# pytest's folders, and those of the processes that tests start.
os.environ.setdefault("TMPDIR", str(FOLDER))
tempfile.tempdir = None

# What runs on the Pythons in between: `nox` asks for it.
settings.register_profile("few", max_examples=20)

patch_aioresponses()


@pytest.fixture
async def emulator() -> AsyncIterator[Emulator]:
    """An emulator in the test's own loop."""
    async with Emulator() as emulator:
        yield emulator


@pytest.fixture
def command(
    openrouter_emulator: Emulator,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Command:
    """The command, against an emulator of its own, in an empty folder."""
    return Command(openrouter_emulator, tmp_path, monkeypatch, capsys)


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address at which a browser is told what to do; it starts once for all tests."""
    with chromium(tmp_path_factory.mktemp("chromium")) as debugger:
        yield debugger


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQL]:
    """A PostgreSQL server; a test that stops it starts it again."""
    with server() as made:
        yield made


@pytest.fixture(params=[pytest.param("sqlite"), pytest.param("postgresql", marks=pytest.mark.slow)])
def new(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[New]:
    """What gives the place of a new journal, in each engine."""
    with new_places(request.param, tmp_path, lambda: request.getfixturevalue("postgresql")) as new:
        yield new


@pytest.fixture
async def tab(browser: str) -> AsyncIterator[Tab]:
    """A tab of the browser."""
    async with new_tab(browser) as tab:
        yield tab


@pytest.fixture
def fake_time() -> FakeTime:
    """A clock that only sleeping moves beyond the real one."""
    return FakeTime()


@pytest.fixture
def time() -> JumpingTime:
    """A time of day and a clock that only sleeping moves beyond the real ones."""
    return JumpingTime()


@pytest.fixture
async def client(emulator: Emulator, time: JumpingTime) -> AsyncIterator[AsyncOpenRouter]:
    """A client of the emulator, in a time that both live by."""
    async with client_of(emulator, time) as client:
        yield client


@pytest.fixture
async def case() -> AsyncIterator[Case]:
    """A client of a service that misbehaves, in a time that jumps."""
    async with new_case() as case:
        yield case


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a journal is to be."""
    return tmp_path / "customers.journal"


@pytest.fixture
def taken() -> list[ProvisionResult]:
    """What a run hands over."""
    return []


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run takes few specs at a time, so that few make several batches."""
    monkeypatch.setattr(sources, "BATCH", SMALL_BATCH)


@pytest.fixture(autouse=True)
def _no_leftovers() -> Iterator[None]:
    """No test changes what the tests after it in its process find."""
    with none_left():
        yield


@pytest.fixture(autouse=True)
def _no_environment(_no_leftovers: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the settings of whoever runs it.

    Its folder comes first, so that it is removed when all that a test patched is as it was.
    """
    for name in (
        "API_KEY",
        "MANAGEMENT_KEY",
        "PROVISIONING_KEY",
        "BASE_URL",
        "DEBUG",
        "HTTP_REFERER",
        "X_OPEN_ROUTER_TITLE",
        "X_OPEN_ROUTER_CATEGORIES",
    ):
        monkeypatch.delenv(f"OPENROUTER_{name}", raising=False)
    warn_unencrypted.cache_clear()
    for name in [*os.environ]:
        if name.lower().endswith("_proxy") or name in ("NETRC", "SSL_CERT_FILE", "SSL_CERT_DIR"):
            monkeypatch.delenv(name)
