"""Where a journal may be: nobody else can read it, replace it, or put a file beside it."""

import asyncio
import errno
import grp
import os
import pwd
import re
import sqlite3
import sys
from collections.abc import Awaitable, Callable, Generator
from contextlib import AbstractAsyncContextManager, contextmanager, suppress
from pathlib import Path
from typing import TypeAlias

import pytest

from openrouter_keys import AsyncOpenRouter
from openrouter_keys.emulator import Emulator, Fault
from openrouter_keys.errors import (
    JournalError,
    JournalInsecureError,
    JournalInUseError,
    JournalLostError,
    JournalMismatchError,
    ResponseError,
)
from openrouter_keys.journal import folders, sqlite
from openrouter_keys.journal.journal import Journal
from tests.commands import Command
from tests.journals import AT, spec
from tests.provisions import specs, stopped

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="modes say nothing there")
needs_root = pytest.mark.skipif(
    sys.platform == "win32" or os.geteuid() != 0, reason="only root can give files away"
)
ANOTHER = 65534
PLANTED = b"SQLite format 3\0"
Act: TypeAlias = Callable[[Path], Awaitable[None]]
SUFFIXES = ("", "-wal", "-shm", ".lock", ".gate")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    folder = tmp_path / "outer" / "folder"
    folder.mkdir(parents=True)
    return folder / "customers.journal"


async def use(path: Path) -> None:
    async with Journal.open(path) as journal:
        await journal.intend(spec(), AT)


async def read(path: Path) -> None:
    async with Journal.read(path) as journal:
        await journal.counts()


async def purge(path: Path) -> None:
    await Journal.purge(path)


# --- folders ---


def shared_link(path: Path) -> None:
    """A folder of our own, by a link that others could replace."""
    own = path.parent.with_name("own")
    own.mkdir()
    path.parent.rmdir()
    path.parent.symlink_to(own)
    path.parent.parent.chmod(0o777)


FOLDERS: dict[str, Callable[[Path], object]] = {
    "writable by all": lambda path: path.parent.chmod(0o777),
    "writable by others, not by the group": lambda path: path.parent.chmod(0o702),
    "the one above is writable by all": lambda path: path.parent.parent.chmod(0o757),
    "a link that others could replace": shared_link,
}


def given_and_sticky(path: Path) -> None:
    path.parent.chmod(0o1777)
    os.chown(path.parent, ANOTHER, 0)


def for_another_group(path: Path) -> None:
    os.chown(path.parent, 0, 1)
    path.parent.chmod(0o770)


def for_a_group_of_its_own(path: Path) -> None:
    if os.geteuid() == 0:
        os.chown(path.parent, 0, 54_321)
    path.parent.chmod(0o2770 if os.geteuid() == 0 else 0o700)


GIVEN: dict[str, Callable[[Path], object]] = {
    "another user's": lambda path: os.chown(path.parent, ANOTHER, 0),
    "the one above is another user's": lambda path: os.chown(path.parent.parent, ANOTHER, 0),
    "another user's, and sticky": given_and_sticky,
    "another group's to write to": for_another_group,
}


@pytest.mark.parametrize("how", [*FOLDERS, *(pytest.param(how, marks=needs_root) for how in GIVEN)])
async def test_a_folder_in_which_others_could_replace_it_is_refused(how: str, path: Path) -> None:
    (FOLDERS | GIVEN)[how](path)
    with pytest.raises(JournalInsecureError, match="who could replace the journal in it"):
        await use(path)
    assert not any(path.parent.iterdir())


#: What a refusal says of each, for its reader to act on.
ADVICE: dict[str, str] = {
    "writable by all": "put it into a folder that only you may write to, or chmod go-w {}",
    "writable by others, not by the group": "chmod go-w {}",
    "another user's": f"uid {ANOTHER}), who could replace .*, or chown 0 {{}}",
    "another user's, and sticky": f"uid {ANOTHER}), .*chown 0 {{}}",
    "a user's with a name": "belongs to another user (daemon, uid 1), .*chown 0 {}",
    "a user's without a name": "belongs to another user (uid 54321), .*chown 0 {}",
    "another group's to write to": "chmod go-w {}",
}
NAMED: dict[str, Callable[[Path], object]] = {
    "a user's with a name": lambda path: os.chown(path.parent, 1, 1),
    "a user's without a name": lambda path: os.chown(path.parent, 54_321, 0),
}


@needs_root
@pytest.mark.parametrize("how", ADVICE)
async def test_a_refused_folder_is_told_with_its_owner_and_what_helps(how: str, path: Path) -> None:
    (FOLDERS | GIVEN | NAMED)[how](path)
    with pytest.raises(JournalInsecureError) as caught:
        await use(path)
    wanted = ADVICE[how].format(path.parent).replace("(", r"\(").replace(")", r"\)")
    assert re.search(f"{wanted}$", str(caught.value))


def chain(*places: str) -> Callable[[Path], Path]:
    """Return what leads to a journal's folder by links, each in one of the places."""

    def lead(folder: Path) -> Path:
        target = folder / "mine"
        target.mkdir()
        for number, place in enumerate(places):
            beside = folder / f"{number}-{place}"
            beside.mkdir()
            link = beside / "link"
            link.symlink_to(os.path.relpath(target, beside) if number % 2 else target)
            beside.chmod(0o777 if place == "shared" else 0o700)
            target = link
        return target / "journal"

    return lead


@pytest.mark.parametrize(
    "places",
    [
        ("shared",),
        ("shared", "mine"),
        ("mine", "shared"),
        ("mine", "shared", "mine"),
        ("shared", "mine", "mine", "mine"),
    ],
)
async def test_a_link_that_others_could_replace_is_found_anywhere_in_a_chain(
    places: tuple[str, ...], tmp_path: Path
) -> None:
    with pytest.raises(JournalInsecureError, match="who could replace the journal in it"):
        await use(chain(*places)(tmp_path))
    assert not any((tmp_path / "mine").iterdir())


async def test_a_chain_of_links_of_our_own_is_fine(tmp_path: Path) -> None:
    path = chain("mine", "mine", "mine")(tmp_path)
    await use(path)
    await read(path)


@needs_root
async def test_another_users_link_in_a_sticky_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir(0o700)
    sticky = tmp_path / "sticky"
    sticky.mkdir()
    sticky.chmod(0o1777)
    (sticky / "link").symlink_to(tmp_path / "mine")
    os.chown(sticky / "link", ANOTHER, ANOTHER, follow_symlinks=False)
    with pytest.raises(JournalInsecureError, match="is a link of another user"):
        await use(sticky / "link" / "journal")


async def test_a_circle_of_links_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    with pytest.raises(JournalError):
        await use(tmp_path / "a" / "journal")


@pytest.mark.parametrize("act", [use, read, purge])
async def test_a_journal_in_a_folder_that_became_shared_is_left_alone(act: Act, path: Path) -> None:
    await use(path)
    path.parent.chmod(0o777)
    before = path.read_bytes()
    with pytest.raises(JournalInsecureError) as caught:
        await act(path)
    assert caught.value.path == str(path.parent)
    assert path.read_bytes() == before


FINE: dict[str, Callable[[Path], object]] = {
    "private": lambda path: path.parent.chmod(0o700),
    "others may look": lambda path: path.parent.chmod(0o755),
    "sticky as /tmp": lambda path: path.parent.chmod(0o1777),
    "the one above is sticky": lambda path: path.parent.parent.chmod(0o1777),
    "a group that nobody else is in": for_a_group_of_its_own,
}


@pytest.mark.parametrize("how", FINE)
async def test_a_folder_that_only_we_may_change_is_fine(how: str, path: Path) -> None:
    FINE[how](path)
    await use(path)
    await read(path)


@needs_root
def test_a_group_is_ours_if_nobody_else_is_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    user, other = pwd.getpwuid(0), pwd.struct_passwd(("other", "x", 1234, 4321, "", "/", "/"))
    users = {"root": user, "other": other}
    groups = {7: ["root"], 8: ["root", "other"], 4321: list[str]()}

    def named(name: str) -> pwd.struct_passwd:
        return users[name]

    def group(gid: int) -> grp.struct_group:
        return grp.struct_group(("g", "x", gid, groups[gid]))

    monkeypatch.setattr(pwd, "getpwall", lambda: [user, other])
    monkeypatch.setattr(pwd, "getpwnam", named)
    monkeypatch.setattr(grp, "getgrgid", group)
    ours = {gid: folders._is_ours_alone(gid) for gid in (0, 7, 8, 4321)}
    assert ours == {0: True, 7: True, 8: False, 4321: False}


# --- files that others put there ---


def planted(path: Path, suffix: str) -> Path:
    bare = path.with_name(path.name + suffix)
    bare.write_bytes(PLANTED)
    bare.chmod(0o600)
    os.chown(bare, ANOTHER, ANOTHER)
    return bare


@needs_root
@pytest.mark.parametrize("suffix", SUFFIXES)
async def test_a_file_that_another_user_put_into_a_sticky_folder_is_refused(
    suffix: str, path: Path
) -> None:
    path.parent.chmod(0o1777)
    bare = planted(path, suffix)
    with pytest.raises(JournalInsecureError, match="another user") as caught:
        await use(path)
    assert caught.value.path == str(bare)
    assert bare.read_bytes() == PLANTED


@needs_root
@pytest.mark.parametrize("suffix", ["", "-wal", "-shm"])
async def test_a_file_that_is_planted_just_before_sqlite_opens_it_is_refused(
    suffix: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opening = sqlite.connect

    def plant(
        file: str | None, server_url: str | None, refuse: Callable[[sqlite3.Connection], None]
    ) -> sqlite3.Connection:
        connection = opening(file, server_url, refuse)
        bare = path.with_name(path.name + suffix)
        content = bare.read_bytes()
        bare.unlink()
        planted(path, suffix).write_bytes(content)
        return connection

    monkeypatch.setattr(sqlite, "connect", plant)
    with pytest.raises(JournalInsecureError, match="another user"):
        await use(path)


@pytest.mark.parametrize("suffix", ["-wal", "-shm"])
async def test_the_files_of_an_existing_journal_are_made_here_and_not_by_sqlite(
    suffix: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await use(path)
    made: list[str] = []
    opening = os.open

    def watched(file: str, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_EXCL:
            made.append(file)
        return opening(file, flags, mode)

    monkeypatch.setattr(os, "open", watched)
    await use_again(path)
    assert f"{path}{suffix}" in made


async def use_again(path: Path) -> None:
    async with Journal.open(path) as journal:
        await journal.intend(spec("again"), AT)


@pytest.mark.parametrize("act", [use, read, purge])
@pytest.mark.parametrize("suffix", SUFFIXES)
async def test_a_hard_link_is_refused(suffix: str, act: Act, path: Path) -> None:
    await use(path)
    bare = path.with_name(path.name + suffix)
    bare.touch(0o600)
    os.link(bare, path.with_name("another name"))
    with pytest.raises(JournalInsecureError, match="hard link") as caught:
        await act(path)
    assert caught.value.path == str(bare)


async def test_a_log_without_its_journal_is_not_thrown_away(path: Path) -> None:
    log = path.with_name(path.name + "-wal")
    log.touch(0o600)
    log.write_bytes(b"frames")
    with pytest.raises(JournalMismatchError, match="is missing, and"):
        await use(path)
    assert log.read_bytes() == b"frames"
    assert not path.exists()


# --- file systems ---


@pytest.fixture
def no_modes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that shows every file to all, as vfat does."""
    opening = os.open

    def shown(file: str, flags: int, mode: int = 0o777) -> int:
        opened = opening(file, flags, mode)
        if flags & os.O_CREAT:
            os.fchmod(opened, 0o755)
        return opened

    monkeypatch.setattr(os, "open", shown)


@pytest.mark.usefixtures("no_modes")
async def test_a_file_system_without_modes_is_refused_by_the_first_run_too(
    emulator: Emulator, path: Path
) -> None:
    async with AsyncOpenRouter(emulator.api_key, server_url=emulator.base_url) as client:
        for run in (
            lambda: client.provision(specs(2), journal=path),
            lambda: client.rotate((), journal=path),
            lambda: client.provision(specs(2), journal=path),
        ):
            with pytest.raises(JournalInsecureError, match="has no modes"):
                await run()
    assert emulator.requests == []
    assert not any(path.parent.iterdir())


@pytest.mark.usefixtures("no_modes")
def test_the_command_refuses_it_in_a_line(command: Command, path: Path) -> None:
    specs_file = path.with_name("customers.csv")
    specs_file.write_text("name\nAda\n")
    ended = command("provision", str(specs_file), "--journal", str(path), "--yes")
    assert "has no modes" in ended.err
    assert not path.exists()


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.ENOSYS])
async def test_a_folder_that_cannot_be_synced_is_good_enough(
    number: int, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", failing(number))
    for act in (use, use_again, read, purge):
        await act(path)


async def test_a_folder_whose_disk_fails_is_not_good_enough_by_the_second_run_either(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", failing(errno.EIO))
    for _ in range(2):
        with pytest.raises(JournalError, match="Input/output error"):
            await use(path)


def failing(number: int) -> Callable[[int], None]:
    def fsync(_: int) -> None:
        raise OSError(number, os.strerror(number))

    return fsync


# --- the lock ---


def forked(act: Callable[[], None]) -> int:
    """Fork; the child acts, and ends when what this returns is closed."""
    reading, writing = os.pipe()
    told, telling = os.pipe()
    pid = os.fork()
    if pid == 0:
        with suppress(BaseException):
            os.close(writing)
            act()
            os.write(telling, b"x")
            os.read(reading, 1)
        os._exit(0)
    os.close(reading)
    assert os.read(told, 1) == b"x"
    os.close(told)
    os.close(telling)
    return writing


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("act", [use_again, read, purge, Journal.accept])
async def test_a_forked_child_does_not_keep_the_lock(act: Act, path: Path) -> None:
    async with Journal.open(path) as journal:
        await journal.intend(spec(), AT)
        child = forked(lambda: None)
        with pytest.raises(JournalInUseError) as caught:
            await purge(path)
        assert caught.value.pid == os.getpid()
    await act(path)
    async with Journal.open(path) as journal:
        # Its run has ended, too.
        assert {ref: claim.new for ref, claim in (await journal.claim("r")).items()} == {"r": True}
    os.close(child)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
async def test_a_child_that_ends_leaves_its_parents_lock(path: Path) -> None:
    async with Journal.open(path) as journal:
        await journal.intend(spec(), AT)
        os.close(forked(lambda: None))
        await asyncio.sleep(0)
        for needs_it_alone in (purge, Journal.accept):
            with pytest.raises(JournalInUseError):
                await needs_it_alone(path)
        async with Journal.open(path) as other:
            assert [claim.ours for claim in (await other.claim("r")).values()] == [False]


@pytest.mark.parametrize("written", [b"4194304999", b"", b"not a number", b"0x10"])
async def test_a_holder_that_is_no_more_is_not_named(written: bytes, path: Path) -> None:
    async with Journal.open(path):
        for suffix in (".lock", ".run-1"):
            with path.with_name(path.name + suffix).open("r+b") as file:
                file.write(written.ljust(32))
        with pytest.raises(JournalInUseError, match="another process") as caught:
            await purge(path)
    assert caught.value.pid is None


# --- the end ---


@pytest.fixture
def closes_badly(monkeypatch: pytest.MonkeyPatch) -> None:
    """What closes a journal meets a process without a descriptor to spare."""

    @contextmanager
    def closing_badly(connection: sqlite3.Connection) -> Generator[sqlite3.Connection]:
        try:
            yield connection
        finally:
            connection.close()
            raise sqlite3.OperationalError("unable to open database file")

    monkeypatch.setattr(sqlite, "closing", closing_badly)


@pytest.mark.usefixtures("closes_badly")
@pytest.mark.parametrize("opening", [Journal.open, Journal.read])
async def test_what_goes_wrong_while_closing_hides_no_error(
    opening: Callable[[Path], AbstractAsyncContextManager[Journal]], path: Path
) -> None:
    async with Journal.open(path):
        pass
    with pytest.raises(ConnectionError, match="is away") as caught:
        async with opening(path):
            raise ConnectionError("the customers' database is away")
    assert any("could not be closed" in note for note in caught.value.__notes__)


@pytest.mark.usefixtures("closes_badly")
async def test_what_goes_wrong_while_closing_hides_no_stop_and_no_report(
    emulator: Emulator, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with AsyncOpenRouter(emulator.api_key, server_url=emulator.base_url) as client:
        report = await client.provision(specs(3), journal=path)
        assert "the journal could not be closed" in caplog.text
        emulator.faults.append(Fault("create", status=402))
        error = await stopped(client.provision([spec("new")], journal=path))
    assert report.created == 3
    assert isinstance(error.__cause__, ResponseError)


def test_a_lost_file_is_named() -> None:
    error = JournalLostError("a.journal-wal", "was removed or renamed")
    assert error.path == "a.journal-wal"
