"""A journal that is taken away in mid-run: nothing more is sent, and its secrets are told."""

import asyncio
import os
import shutil
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest

from openrouter_keys import (
    AsyncOpenRouter,
    JournalLostError,
    OpenRouter,
    ProvisioningStoppedError,
    ProvisionProgress,
    SecretNotKeptError,
)
from openrouter_keys.emulator import Emulator
from openrouter_keys.journal.journal import Journal
from tests.provisions import specs, stopped
from tests.rotations import hashes, old_keys

AFTER, COUNT, CONCURRENCY = 20, 60, 4


@pytest.fixture
def path(tmp_path: Path) -> Path:
    folder = tmp_path / "folder"
    folder.mkdir()
    return folder / "customers.journal"


def beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def replaced(path: Path) -> None:
    shutil.copy(path, beside(path, ".new"))
    beside(path, ".new").replace(path)


def emptied(path: Path) -> None:
    path.unlink()
    path.touch(0o600)


def folder_renamed(path: Path) -> None:
    path.parent.rename(path.parent.with_name("elsewhere"))


def folder_made_anew(path: Path) -> None:
    folder_renamed(path)
    path.parent.mkdir()
    path.touch(0o600)


def all_removed(path: Path) -> None:
    shutil.rmtree(path.parent)


WAYS: dict[str, Callable[[Path], object]] = {
    "removed": Path.unlink,
    "replaced by a copy": replaced,
    "replaced by an empty file": emptied,
    "renamed": lambda path: path.rename(beside(path, ".old")),
    "its folder renamed": folder_renamed,
    "its folder made anew": folder_made_anew,
    "all removed": all_removed,
    "its log removed": lambda path: beside(path, "-wal").unlink(),
    "its log replaced": lambda path: replaced(beside(path, "-wal")),
    "its lock removed": lambda path: beside(path, ".lock").unlink(),
    "its index removed": lambda path: beside(path, "-shm").unlink(),
}
CUT: dict[str, Callable[[Path], object]] = {
    "cut short": lambda path: os.truncate(path, 0),
    "its log cut short": lambda path: os.truncate(beside(path, "-wal"), 0),
    "its log cut in half": lambda path: os.truncate(beside(path, "-wal"), 4096),
}


def after(emulator: Emulator, keys: int, act: Callable[[], object], *, again: bool = False) -> None:
    """Do something once, when the service has made so many keys; or again and again, from then."""
    clock: Callable[[], datetime] = emulator.account.clock
    done = False

    def now() -> datetime:
        nonlocal done
        if (again or not done) and len(emulator.account.keys) >= keys:
            done = True
            act()
        return clock()

    emulator.account.clock = now


def lives(emulator: Emulator) -> set[str]:
    return {str(key.secret) for key in emulator.account.keys.values()}


def told(error: ProvisioningStoppedError) -> set[str]:
    assert isinstance(error.__cause__, JournalLostError | SecretNotKeptError)
    assert "while it was in use" in str(error)
    assert not error.report.ok
    return {key.key for key in error.report.undelivered}


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
async def test_a_lost_journals_secrets_are_in_the_report_and_nothing_more_is_sent(
    way: str, emulator: Emulator, client: AsyncOpenRouter, path: Path
) -> None:
    after(emulator, AFTER, lambda: WAYS[way](path))
    error = await stopped(client.provision(specs(COUNT), journal=path, concurrency=CONCURRENCY))
    assert told(error) == lives(emulator)
    assert emulator.count("create") <= AFTER + 3 * CONCURRENCY


@pytest.mark.parametrize("way", CUT)
async def test_a_journal_that_is_cut_short_stops_the_run(
    way: str, emulator: Emulator, client: AsyncOpenRouter, path: Path
) -> None:
    # What is cut once is made long again by a write that was under way.
    after(emulator, AFTER, lambda: CUT[way](path), again=True)
    error = await stopped(client.provision(specs(COUNT), journal=path, concurrency=CONCURRENCY))
    assert told(error) <= lives(emulator)
    assert emulator.count("create") <= AFTER + 3 * CONCURRENCY


@pytest.mark.slow
@pytest.mark.parametrize("way", ["removed", "its folder renamed", "its log removed"])
async def test_what_was_handed_over_is_not_told_again(
    way: str, emulator: Emulator, client: AsyncOpenRouter, path: Path
) -> None:
    taken: list[str] = []
    after(emulator, AFTER, lambda: WAYS[way](path))
    run = client.provision(
        specs(COUNT),
        journal=path,
        concurrency=CONCURRENCY,
        on_result=lambda result: taken.append(result.key),
    )
    undelivered = told(await stopped(run))
    assert {*taken} | undelivered == lives(emulator)
    assert len(undelivered) <= 3 * CONCURRENCY


@pytest.mark.parametrize("way", ["removed", "all removed", "renamed"])
async def test_a_journal_that_is_lost_at_the_very_end_is_noticed(
    way: str, emulator: Emulator, client: AsyncOpenRouter, path: Path
) -> None:
    after(emulator, 5, lambda: WAYS[way](path))
    error = await stopped(client.provision(specs(5), journal=path))
    assert told(error) == lives(emulator)


@pytest.mark.slow
@pytest.mark.parametrize("way", ["removed", "its folder made anew", "its lock removed"])
async def test_a_rotations_twins_are_told_too(
    way: str, emulator: Emulator, client: AsyncOpenRouter, path: Path
) -> None:
    old = old_keys(emulator, 20)
    after(emulator, 25, lambda: WAYS[way](path))
    with pytest.raises(ProvisioningStoppedError) as caught:
        await client.rotate(hashes(old), journal=path)
    twins = lives(emulator) - {str(key.secret) for key in old}
    assert told(caught.value) == twins
    assert not any(key.disabled for key in emulator.account.keys.values())


@pytest.mark.slow
@pytest.mark.parametrize("way", ["removed", "replaced by a copy", "all removed"])
def test_the_blocking_face_tells_the_same(
    way: str, openrouter_emulator: Emulator, path: Path
) -> None:
    emulator = openrouter_emulator
    after(emulator, AFTER, lambda: WAYS[way](path))
    with (
        OpenRouter(emulator.api_key, server_url=emulator.base_url) as client,
        pytest.raises(ProvisioningStoppedError) as caught,
    ):
        client.provision(specs(COUNT), journal=path, concurrency=CONCURRENCY, quiet_period=0)
    assert told(caught.value) == lives(emulator)


async def test_a_cancelled_run_tells_them_too(
    emulator: Emulator, client: AsyncOpenRouter, path: Path
) -> None:
    reports: list[set[str]] = []

    def progress(progress: ProvisionProgress) -> None:
        if progress.report is not None:
            reports.append({key.key for key in progress.report.undelivered})

    run = asyncio.ensure_future(
        client.provision(specs(COUNT), journal=path, concurrency=CONCURRENCY, on_progress=progress)
    )

    def remove_and_cancel() -> None:
        path.unlink()
        run.cancel()

    after(emulator, AFTER, remove_and_cancel)
    with pytest.raises(asyncio.CancelledError):
        await run
    assert reports == [lives(emulator)]


@pytest.mark.slow
async def test_a_journal_that_is_brought_back_is_gone_on_with(
    emulator: Emulator, client: AsyncOpenRouter, path: Path
) -> None:
    after(emulator, AFTER, lambda: path.rename(beside(path, ".old")))
    await stopped(client.provision(specs(COUNT), journal=path, concurrency=CONCURRENCY))
    beside(path, ".old").rename(path)
    report = await client.provision(specs(COUNT), journal=path)
    assert report.ok
    assert len(emulator.account.keys) == COUNT
    async with Journal.read(path) as journal:
        secrets = {str(entry.secret) async for entry in journal.every()}
    assert secrets == lives(emulator)
