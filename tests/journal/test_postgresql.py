"""A journal in PostgreSQL: its URL, its schema, who may make it, and what is refused or hidden."""

import asyncio
import logging
import pickle
import sys
import traceback
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from openrouter_keys import AsyncOpenRouter
from openrouter_keys.emulator import Emulator
from openrouter_keys.errors import (
    InvalidArgumentError,
    JournalError,
    JournalLostError,
    JournalMismatchError,
    SecretNotKeptError,
)
from openrouter_keys.journal import engines, sessions
from openrouter_keys.journal.addresses import Address, is_url, place_of
from openrouter_keys.journal.journal import Journal
from openrouter_keys.journal.schema import VERSION
from openrouter_keys.journal.servers import Server, server_of
from tests.engines import sql
from tests.journals import AT, HASH, SECRET, spec
from tests.postgresql import PASSWORD, USER, PostgreSQL
from tests.provisions import JumpingTime, client_of

pytestmark = pytest.mark.slow


@pytest.fixture
def schema(postgresql: PostgreSQL) -> Iterator[str]:
    name = f"test_{uuid4().hex}"
    yield name
    sql(postgresql, f"DROP SCHEMA IF EXISTS {name} CASCADE")


@pytest.fixture
def url(postgresql: PostgreSQL, schema: str) -> str:
    return f"{postgresql.url()}?schema={schema}"


async def run(url: str) -> None:
    async with Journal.open(url) as journal:
        await journal.intend(spec(uuid4().hex), AT)


async def look(url: str) -> None:
    async with Journal.read(url) as journal:
        await journal.counts()


async def ensure(place: Any) -> None:
    async with AsyncOpenRouter("sk-or-v1-m", server_url="http://127.0.0.1:1") as client:
        await client.ensure(spec("r"), journal=place)


# --- the URL ---

HIDDEN = "p-canary"
#: URLs, each with its place and its schema.
URLS: dict[str, tuple[str, str]] = {
    "postgresql://u@h/d": ("postgresql://u@h/d", "openrouter_keys"),
    "postgres://u:p-canary@h:1234/d": ("postgresql://u@h:1234/d", "openrouter_keys"),
    "postgresql://u@h/d?password=p-canary": ("postgresql://u@h/d", "openrouter_keys"),
    "postgresql://u:p-canary@h/d?schema=keys": ("postgresql://u@h/d?schema=keys", "keys"),
    "postgresql://h/d?sslmode=require&schema=a%20b&sslpassword=p-canary": (
        "postgresql://h/d?schema=a%20b",
        "a b",
    ),
    "postgresql://u:%70-canary@/d?host=/run/pg&port=5": (
        "postgresql://u@/d?host=%2Frun%2Fpg&port=5",
        "openrouter_keys",
    ),
    "postgresql://u:p-canary@one:1,two:2/d": ("postgresql://u@one,two:1,2/d", "openrouter_keys"),
    "postgresql://u:p-canary@[::1]:5/d": ("postgresql://u@[::1]:5/d", "openrouter_keys"),
}


@pytest.mark.parametrize("text", URLS)
def test_a_url_is_shown_without_its_password(text: str) -> None:
    address = place_of(text)
    assert isinstance(address, Address)
    server = server_of(address)
    assert (server.place, server.schema) == URLS[text]
    assert HIDDEN not in repr((address, server)) + str(address)
    for holder in (address, server):
        with pytest.raises(TypeError, match="never"):
            pickle.dumps(holder)


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://u:p-canary%zz@h/d",
        "postgresql://u:5432/p-canary@h/d",
        "postgresql://u:p-canary/x@h/d",
        "postgresql://u:p@p-canary@h/d",
        "postgresql://u:p@p-canary@h:5/d?sslmode=require",
        "postgresql://u:p@p-canary@one:1,two:2/d",
        "postgresql://u:p@@p-canary@[::1]:5/d",
        "postgresql://u:p@p-canary@/d?host=/run/pg",
        "postgresql://u:p-canary@h/d?p-canary=1",
        "postgresql://u@h/d?schema=" + "p-canary" * 8,
        "postgresql://u:p-canary@h/d?schema=",
        "postgresql://u:p-canary@h/d?schema=pg_toast",
        "postgresql://u:p-canary@h/d?schema=information_schema",
    ],
)
@pytest.mark.parametrize("use", [run, look, Journal.purge])
async def test_a_url_that_cannot_be_read_is_refused_and_not_shown(
    text: str, use: Callable[[str], Awaitable[object]]
) -> None:
    with pytest.raises(JournalError, match="URL") as caught:
        await use(text)
    assert HIDDEN not in everything(caught.value)


def everything(error: BaseException) -> str:
    """Return all that a crash reporter would send of an error."""
    shown: list[str] = []
    seen: set[int] = set()
    left: list[BaseException | None] = [error]
    while left:
        one = left.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        left += [one.__cause__, one.__context__]
        shown += [repr(one), str(one), *traceback.format_exception(one)]
        for frame, _ in traceback.walk_tb(one.__traceback__):
            name = str(frame.f_globals.get("__name__"))
            if name.startswith(("openrouter_keys", "psycopg")):
                shown += [f"{name}.{key} = {value!r}" for key, value in frame.f_locals.items()]
    return "\n".join(shown)


@pytest.mark.parametrize("text", ["customers.journal", "/a/postgresql://x", "a/b:/c", ""])
def test_a_path_is_no_url(text: str) -> None:
    assert not is_url(text)
    assert place_of(text) == text


@pytest.mark.parametrize(
    "place",
    [
        "postgresql+psycopg://u:p-canary@h/d",
        "Postgresql://u:p-canary@h/d",
        "'postgresql://u:p-canary@h/d'",
        "mysql://u:p-canary@h/d",
        "sqlite:///p-canary",
        "postgresql:/u:p-canary@h/d",
        "postgresql//u:p-canary@h/d",
        "host=h password=p-canary dbname=d",
        "user=u\tdbname = p-canary",
        Path("postgresql://u:p-canary@h/d"),
        Path("sqlite:///p-canary"),
    ],
)
@pytest.mark.parametrize("use", [run, look, Journal.purge, Journal.accept, ensure])
async def test_a_url_of_another_scheme_is_no_file_and_not_shown(
    place: Any,
    use: Callable[[Any], Awaitable[object]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidArgumentError, match="begins with postgresql://") as caught:
        await use(place)
    assert HIDDEN not in everything(caught.value)
    assert not [*tmp_path.iterdir()]


# --- who may make it ---


@pytest.fixture
def role(postgresql: PostgreSQL, schema: str) -> Iterator[str]:
    """A role that may make no schema."""
    name = f"role_{uuid4().hex}"
    sql(postgresql, f"CREATE ROLE {name} LOGIN PASSWORD '{PASSWORD}'")
    yield name
    sql(postgresql, f"DROP SCHEMA IF EXISTS {schema} CASCADE")
    sql(postgresql, f"DROP OWNED BY {name}")
    sql(postgresql, f"DROP ROLE {name}")


async def test_a_role_that_may_not_make_it_is_shown_the_command_that_does(
    postgresql: PostgreSQL, url: str, role: str
) -> None:
    theirs = url.replace(f"{USER}:", f"{role}:")
    with pytest.raises(JournalError, match="--grant ROLE postgresql://OWNER@127") as caught:
        await run(theirs)
    assert PASSWORD not in everything(caught.value)
    assert engines.init(url) == server_of(Address(url)).place
    for use in (run, look, Journal.purge):
        with pytest.raises(JournalError, match="--grant ROLE postgresql://OWNER@127"):
            await use(theirs)
    assert engines.init(url, grant=role) == server_of(Address(url)).place
    await run(theirs)
    await look(theirs)
    with pytest.raises(JournalError, match="let its owner purge it again"):
        await Journal.purge(theirs)


async def test_an_empty_schema_of_somebody_else_is_used(
    postgresql: PostgreSQL, url: str, role: str, schema: str
) -> None:
    sql(postgresql, f"CREATE SCHEMA {schema} AUTHORIZATION {role}")
    await run(url.replace(f"{USER}:", f"{role}:"))


async def test_many_make_it_at_once(url: str) -> None:
    await asyncio.gather(*(run(url) for _ in range(8)))
    async with Journal.read(url) as journal:
        assert sum((await journal.counts()).values()) == 8


def test_only_a_url_is_made_beforehand(path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="PostgreSQL"):
        engines.init(str(path))


@pytest.mark.parametrize("password", [f"{HIDDEN}-wrong", ""])
@pytest.mark.parametrize("use", [run, look, Journal.purge])
async def test_a_password_that_is_refused_says_where_to_give_it(
    postgresql: PostgreSQL, password: str, use: Callable[[str], Awaitable[object]]
) -> None:
    url = postgresql.url().replace(f":{PASSWORD}@", f":{password}@" if password else "@")
    with pytest.raises(JournalError, match=r"PGPASSWORD or ~/\.pgpass") as caught:
        await use(url)
    assert HIDDEN not in everything(caught.value)


# --- what is refused ---


async def test_reading_makes_nothing(postgresql: PostgreSQL, url: str, schema: str) -> None:
    assert not engines.is_begun(url)
    for use in (look, Journal.purge):
        with pytest.raises(JournalError, match="has no journal yet: it is made on first use"):
            await use(url)
    assert sql(postgresql, "SELECT 1 FROM pg_namespace WHERE nspname = %s", schema) == []
    await run(url)
    assert engines.is_begun(url)


#: What is done to a schema, and how it is refused then.
MISFITS: dict[str, tuple[str, str]] = {
    "another program's table": ("CREATE TABLE {0}.t (x int)", "another program's schema"),
    "another program's meta": ("CREATE TABLE {0}.meta (version int)", "another program's schema"),
    "another program's view": ("CREATE VIEW {0}.keys AS SELECT 1", "another program's schema"),
    "a newer version": (f"UPDATE {{0}}.meta SET version = {VERSION + 1}", f"version {VERSION + 1}"),
    "an older version": ("UPDATE {0}.meta SET version = 4", "version 4"),
    "no version": ("DELETE FROM {0}.meta", "version None"),
}


@pytest.mark.parametrize("misfit", MISFITS)
@pytest.mark.parametrize("use", [run, look, Journal.purge])
async def test_what_is_no_journal_of_this_version_is_refused_and_left_as_it_is(
    misfit: str,
    use: Callable[[str], Awaitable[object]],
    postgresql: PostgreSQL,
    url: str,
    schema: str,
) -> None:
    change, problem = MISFITS[misfit]
    if "version" in misfit:
        await run(url)
    else:
        sql(postgresql, f"CREATE SCHEMA {schema}")
    sql(postgresql, change.format(schema))
    tables = "SELECT relname FROM pg_class WHERE relnamespace = %s::regnamespace ORDER BY 1"
    before = sql(postgresql, tables, schema)
    with pytest.raises(JournalMismatchError, match=problem) as caught:
        await use(url)
    assert caught.value.path == server_of(Address(url)).place
    assert sql(postgresql, tables, schema) == before


async def test_another_services_journal_is_refused(url: str) -> None:
    async with Journal.open(url, server_url="https://one"):
        pass
    with pytest.raises(JournalMismatchError, match="belongs to https://one, not to https://two"):
        async with Journal.open(url, server_url="https://two"):
            pass


@pytest.mark.parametrize("refused", ["backup", "accept"])
async def test_what_only_a_file_has_is_refused_with_what_to_do(
    url: str, refused: str, path: Path
) -> None:
    with pytest.raises(JournalError, match="PostgreSQL") as caught:
        await (Journal.backup(url, path) if refused == "backup" else Journal.accept(url))
    assert PASSWORD not in everything(caught.value)


async def test_without_psycopg_its_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    for name in [name for name in sys.modules if name.startswith("openrouter_keys.journal.postg")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(InvalidArgumentError, match=r"openrouter-keys\[postgresql\]") as caught:
        await run(url)
    assert PASSWORD not in everything(caught.value)


async def test_a_database_that_is_not_utf8_is_refused(postgresql: PostgreSQL) -> None:
    name = f"test_{uuid4().hex}"
    sql(postgresql, f"CREATE DATABASE {name} ENCODING 'LATIN1' TEMPLATE template0")
    with pytest.raises(JournalError, match="encoding LATIN1"):
        await run(postgresql.url(name))
    sql(postgresql, f"DROP DATABASE {name}")


# --- durable ---


async def test_a_commit_is_durable_whatever_the_role_has_set(
    postgresql: PostgreSQL, url: str
) -> None:
    for setting in ("off", "local", "remote_write"):
        sql(postgresql, f"ALTER ROLE {USER} SET synchronous_commit = {setting}")
        try:
            async with Journal.open(url) as journal:
                shown = await journal._rows("SELECT current_setting('synchronous_commit')")
        finally:
            sql(postgresql, f"ALTER ROLE {USER} RESET synchronous_commit")
        assert shown == [("on",)]


async def test_a_server_that_may_lose_commits_is_warned_of(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        await run(url)
    assert "fsync and full_page_writes must be on" in caplog.text
    assert PASSWORD not in caplog.text


async def test_a_purge_leaves_no_byte_in_the_table(
    postgresql: PostgreSQL, url: str, schema: str
) -> None:
    async with Journal.open(url) as journal:
        for ref in ("a", "b"):
            await journal.intend(spec(ref), AT)
            await journal.keep(ref, secret=SECRET, hash=HASH, settled=ref == "a")
        assert await journal.purgeable() == 1

    def written() -> bytes:
        sql(postgresql, "CHECKPOINT")
        name: str = sql(postgresql, f"SELECT pg_relation_filepath('{schema}.keys')")[0][0]
        return (postgresql.data / name).read_bytes()

    before = written().count(SECRET.encode())
    assert before >= 2
    assert await Journal.purge(url) == 1
    assert written().count(SECRET.encode()) == 1
    async with Journal.read(url) as journal:
        found = {entry.ref: entry.secret async for entry in journal.every()}
    assert found == {"a": None, "b": SECRET}


# --- values that it cannot store ---

UNSTORABLE = {
    "a NUL": spec("a\0b"),
    "a ref that no index holds": spec("".join(map(chr, range(0x4E00, 0x4E00 + 4000)))),
}


@pytest.mark.parametrize("problem", UNSTORABLE)
async def test_what_it_cannot_store_is_refused_alone(problem: str, url: str) -> None:
    async with Journal.open(url) as journal:
        done = await asyncio.gather(
            journal.intend(spec("before"), AT),
            journal.intend(UNSTORABLE[problem], AT),
            journal.intend(spec("after"), AT),
            return_exceptions=True,
        )
        assert [type(one) for one in (done[0], done[2])] == [type(None)] * 2
        assert isinstance(done[1], JournalError)
        assert "cannot store" in str(done[1])
        assert [entry.ref async for entry in journal.unfinished()] == ["before", "after"]


@pytest.mark.parametrize(
    "name", ["\\u0000", "\ud800", "\\ud800", "'; DROP TABLE keys; --", "%s ? :ref"]
)
async def test_hostile_names_and_records_are_stored_and_read(name: str, url: str) -> None:
    escaped = name.encode("ascii", "backslashreplace").decode()
    record = '{"workspace_id":"w","created_at":"2026-11-21T12:00:00Z","name":"' + escaped + '"}'
    async with Journal.open(url) as journal:
        await journal.intend(spec(name=name), AT)
        await journal.keep("r", secret=SECRET, hash=HASH, record=record, ended_at=AT)
        entry = await journal.find("r")
        assert entry is not None
        assert (entry.name, entry.record) == (name, record)
        assert await journal.known(None, AT) == {HASH: "w"}
        assert len(await journal.stamps()) == 1
        assert await journal.default_workspace() == "w"


async def test_sealed_secrets_are_stored_sealed(url: str) -> None:
    async with Journal.open(url, seal=lambda secret: b"\x00\xff" + secret[::-1]) as journal:
        await journal.intend(spec(), AT)
        await journal.keep("r", secret=SECRET, hash=HASH)
        entry = await journal.find("r")
    assert entry is not None
    assert (entry.secret, entry.sealed) == (None, b"\x00\xff" + SECRET.encode()[::-1])


# --- the password ---


async def wrong_password(url: str, _: PostgreSQL) -> None:
    await run(url.replace(PASSWORD, HIDDEN + PASSWORD[::-1]))


async def no_server(url: str, _: PostgreSQL) -> None:
    await run("postgresql://u:" + PASSWORD + "@127.0.0.1:1/d")


async def no_database(url: str, _: PostgreSQL) -> None:
    await run(url.replace("/postgres?", "/nowhere?"))


async def removed(url: str, server: PostgreSQL) -> None:
    async with Journal.open(url) as journal:
        sql(server, f"DROP SCHEMA {url.partition('schema=')[2]} CASCADE")
        with pytest.raises(JournalLostError, match="was removed"):
            await journal.counts()
        await journal.intend(spec(), AT)


async def unkept(url: str, server: PostgreSQL) -> None:
    async with Journal.open(url) as journal:
        await journal.intend(spec(), AT)
        sql(server, f"ALTER TABLE {url.partition('schema=')[2]}.keys ADD CHECK (secret IS NULL)")
        with suppress(SecretNotKeptError):
            await journal.keep("r", secret=SECRET, hash=HASH)
        raise JournalError("kept")


FAILURES = [wrong_password, no_server, no_database, removed, unkept]


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: failure.__name__)
async def test_no_error_and_no_line_of_the_log_shows_the_password(
    failure: Callable[[str, PostgreSQL], Awaitable[None]],
    url: str,
    postgresql: PostgreSQL,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.DEBUG), pytest.raises(JournalError) as caught:
        await failure(url, postgresql)
    shown = everything(caught.value) + caplog.text
    for secret in (PASSWORD, PASSWORD[::-1], SECRET):
        assert secret not in shown


def test_a_servers_text_is_shown_without_the_password() -> None:
    server = Server("place", "schema", {"password": "p-canary"})
    assert (
        server.shown(psycopg.OperationalError("a 'p-canary'\n\x1b[0m of it"))
        == "a '...' \\x1b[0m of it"
    )


#: What is asked of a client with a journal whose server is not there.
CALLS: dict[str, Callable[[AsyncOpenRouter, str], Awaitable[object]]] = {
    "ensure": lambda client, url: client.ensure(spec(), journal=url),
    "provision": lambda client, url: client.provision([spec()], journal=url),
    "release": lambda client, url: client.release("r", journal=url),
    "rotate": lambda client, url: client.rotate(["ab" * 32], journal=url),
}


@pytest.mark.parametrize("call", CALLS)
async def test_no_frame_of_a_call_shows_the_password(call: str, emulator: Emulator) -> None:
    url = f"postgresql://u:{PASSWORD}@127.0.0.1:1/d"
    async with client_of(emulator, JumpingTime()) as client:
        with pytest.raises(JournalError, match="cannot be reached") as caught:
            await CALLS[call](client, url)
    assert PASSWORD not in everything(caught.value)
    assert not emulator.count("create")


@pytest.mark.parametrize("logs", ["log_statement = 'all'", "log_min_duration_statement = 0"])
@pytest.mark.parametrize("right", [True, False])
async def test_a_server_that_logs_statements_logs_no_secret_if_the_role_may_turn_that_off(
    logs: str, postgresql: PostgreSQL, url: str, *, right: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not right:
        monkeypatch.setattr(sessions, "_HIDE", ("SELECT refused",))
    secret = f"sk-or-v1-{uuid4().hex}"
    log = postgresql.folder / "log"
    sql(postgresql, f"ALTER ROLE {USER} SET {logs}")
    try:
        async with Journal.open(url) as journal:
            await journal.intend(spec(), AT)
            await journal.keep("r", secret=secret, hash=HASH)
    finally:
        sql(postgresql, f"ALTER ROLE {USER} RESET ALL")
    assert "UPDATE keys SET" in log.read_text()
    assert (secret in log.read_text()) is not right
