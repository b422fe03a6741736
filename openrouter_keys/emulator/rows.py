"""The rows of a state file: an account, its keys and its requests. No transactions."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from operator import attrgetter
from sqlite3 import Connection
from typing import Any, Final

from attrs import asdict, fields_dict

from openrouter_keys.emulator.answers import parse
from openrouter_keys.emulator.ledger import Request, request_json
from openrouter_keys.emulator.state import Account
from openrouter_keys.emulator.stored import Budget, StoredKey, Workspace

TABLES: Final = """
CREATE TABLE IF NOT EXISTS account (id INTEGER PRIMARY KEY, record TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS keys (hash TEXT PRIMARY KEY, record TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS requests (number INTEGER PRIMARY KEY, record TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS dropped (
    operation TEXT PRIMARY KEY, requests INTEGER NOT NULL
) WITHOUT ROWID;
"""
_KEY: Final = tuple(fields_dict(StoredKey))
_taken: Final = attrgetter(*_KEY)
_dump: Final = json.JSONEncoder(default=datetime.isoformat, separators=(",", ":")).encode


def read_account(connection: Connection) -> Account | None:
    """Return the account with its keys; None: none was written yet."""
    row = connection.execute("SELECT record FROM account").fetchone()
    if row is None:
        return None
    record: dict[str, Any] = json.loads(row[0])
    workspaces = {id: Workspace(id, name) for id, name in record.pop("workspaces").items()}
    members, ahead = record.pop("members", None), timedelta(seconds=record.pop("ahead", 0))
    rows = connection.execute("SELECT record FROM keys ORDER BY rowid")
    account = Account(
        keys={key.hash: key for key in map(_key, rows)},
        workspaces=workspaces,
        members=None if members is None else {*members},
        budgets=[Budget(**budget) for budget in record.pop("budgets", [])],
        **record,
    )
    account.ahead = ahead
    return account


def write_account(connection: Connection, account: Account) -> None:
    """Replace the account in the file."""
    record = {
        "management_key": account.management_key,
        "default_workspace": account.default_workspace,
        "organization_id": account.organization_id,
        "workspaces": {each.id: each.name for each in [*account.workspaces.values()]},
        "members": None if account.members is None else sorted(account.members),
        "budgets": [asdict(budget) for budget in account.budgets],
        "ahead": account.ahead.total_seconds(),
    }
    connection.execute("REPLACE INTO account VALUES (1, ?)", (_dump(record),))
    connection.execute("DELETE FROM keys")
    rows = _rows([*account.keys.values()])
    connection.executemany("INSERT INTO keys VALUES (?, ?)", rows)


def write_key(connection: Connection, hash: str, key: StoredKey | None) -> None:
    """Write one key, or remove it."""
    if key is None:
        connection.execute("DELETE FROM keys WHERE hash=?", (hash,))
    else:  # REPLACE would make the row the newest
        connection.executemany(
            "INSERT INTO keys VALUES (?, ?)"
            " ON CONFLICT (hash) DO UPDATE SET record=excluded.record",
            _rows([key]),
        )


def read_requests(connection: Connection) -> Iterator[Request]:
    """Return the ledger, without headers and bodies."""
    return map(_request, connection.execute("SELECT record FROM requests ORDER BY number"))


def write_request(connection: Connection, request: Request) -> None:
    """Write or update a request."""
    connection.execute(
        "INSERT INTO requests VALUES (?, ?)"
        " ON CONFLICT (number) DO UPDATE SET record=excluded.record",
        (request.number, _dump(request_json(request))),
    )


def read_dropped(connection: Connection) -> Counter[str]:
    """Return how many requests were dropped, by operation."""
    return Counter(dict(connection.execute("SELECT operation, requests FROM dropped")))


def drop_requests(connection: Connection, last: int, dropped: Counter[str]) -> None:
    """Remove the oldest requests.

    Args:
        connection: to the file.
        last: the number of the newest one to remove.
        dropped: how many are removed then, by operation.
    """
    connection.execute("DELETE FROM requests WHERE number <= ?", (last,))
    connection.executemany("REPLACE INTO dropped VALUES (?, ?)", dropped.items())


def remove_requests(connection: Connection) -> None:
    """Remove all requests, and the counts."""
    connection.execute("DELETE FROM requests")
    connection.execute("DELETE FROM dropped")


def _rows(keys: Iterable[StoredKey]) -> Iterator[tuple[str, str]]:
    return ((key.hash, _dump(dict(zip(_KEY, _taken(key), strict=True)))) for key in keys)


def _key(row: tuple[str]) -> StoredKey:
    record: dict[str, Any] = json.loads(row[0])
    moments = {
        name: datetime.fromisoformat(value)
        for name, value in record.items()
        if name.endswith("_at") and value is not None
    }
    record.update(moments)
    return StoredKey(**record)


def _request(row: tuple[str]) -> Request:
    record: dict[str, Any] = json.loads(row[0])
    _, _, query = parse(record["method"], record["path"])
    return Request(**record, query=query, headers={})
