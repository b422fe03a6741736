"""Bytes that no run wrote in a journal's files: ignored or refused, and never a foreign error."""

import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from openrouter_keys import JournalError, JournalOutdatedError
from openrouter_keys.journal.journal import Journal
from openrouter_keys.journal.logs import counts
from openrouter_keys.journal.schema import State
from tests.journals import AT, HASH, SECRET, spec

FRAMES = 2 * (24 + 4096)
MAGIC = bytes.fromhex("377f0682002de218")
HEALTHY = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
SIZE = (4096).to_bytes(4, "big")
FILLS = {
    "zeros": bytes(32 + FRAMES),
    "a header of zeros": bytes(32),
    "chance": Random(7).randbytes(32 + FRAMES),
    "half a header": MAGIC,
    "no page size": MAGIC + bytes(24 + FRAMES),
    "an odd page size": MAGIC + (4095).to_bytes(4, "big") + bytes(20 + FRAMES),
    "frames of zeros": MAGIC + SIZE + bytes(20 + FRAMES),
    "half a frame": MAGIC + SIZE + bytes(20 + 24 + 100),
    "a page of ones": MAGIC + SIZE + bytes(20 + 24) + b"\xff" * 4096,
    "a row beyond its page": MAGIC + SIZE + bytes(20 + 24) + b"\x0d\0\0\0\1\0\0\0\xff\xff" * 410,
}


@pytest.fixture
async def path(tmp_path: Path) -> Path:
    path = tmp_path / "customers.journal"
    async with Journal.open(path) as journal:
        await journal.intend(spec(), AT)
        await journal.keep("r", secret=SECRET, hash=HASH, settled=True)
    return path


async def run(path: Path) -> None:
    async with Journal.open(path) as journal:
        await journal.plan([spec()])


async def read(path: Path) -> None:
    async with Journal.read(path) as journal:
        assert (await journal.counts())[State.SETTLED] == 1


async def backup(path: Path) -> None:
    copy = path.with_name("copy")
    await Journal.backup(path, copy)
    copy.unlink()


USES: tuple[Callable[[Path], Awaitable[object]], ...] = (
    run,
    read,
    Journal.purge,
    backup,
    Journal.accept,
)


@pytest.mark.parametrize("fill", FILLS)
async def test_a_log_that_is_none_is_ignored_as_sqlite_does(fill: str, path: Path) -> None:
    log = path.with_name(path.name + "-wal")
    for use in USES:
        log.write_bytes(FILLS[fill])
        log.chmod(0o600)
        await use(path)
    await read(path)


@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("suffix", ["", "-shm", ".lock"])
async def test_whatever_is_in_a_journals_files_the_error_is_the_journals(
    suffix: str, fill: str, path: Path
) -> None:
    file = path.with_name(path.name + suffix)
    for use in USES:
        file.write_bytes(FILLS[fill])
        file.chmod(0o600)
        try:
            await use(path)
        except JournalError as error:
            assert suffix == "", error


@pytest.mark.parametrize("fill", ["zeros", "a header of zeros", "chance"])
async def test_a_log_that_is_none_does_not_make_half_a_journal_whole(
    fill: str, path: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy.journal"
    async with Journal.open(path) as journal:
        await journal.intend(spec("second"), AT)
        shutil.copy(path, copy)
    log = copy.with_name(copy.name + "-wal")
    log.write_bytes(FILLS[fill])
    for file in (copy, log):
        file.chmod(0o600)
    with pytest.raises(JournalOutdatedError, match="without its log"):
        await run(copy)


@given(
    header=st.sampled_from([b"", MAGIC, MAGIC + SIZE, MAGIC + (512).to_bytes(4, "big")]),
    rest=st.binary(max_size=600),
    start=st.sampled_from([b"", bytes(20 + 24) + b"\x0d\0\0\0\1"]),
)
@settings(deadline=None, suppress_health_check=HEALTHY)
def test_no_bytes_of_a_log_raise(tmp_path: Path, header: bytes, start: bytes, rest: bytes) -> None:
    log = tmp_path / "log"
    log.write_bytes(header + start + rest)
    counts(str(log))
