"""What the last rows of a journal show together. No thread, no transaction."""

import json
from collections.abc import Generator

from openrouter_keys._base.identifiers import canonical
from openrouter_keys.errors import JSON
from openrouter_keys.journal.store import Connection

# Those at its ends are enough: a journal may have a million that all name their workspace. The
# first ones count first: a management key of another account can only have made later ones.
_RECORDS = """
SELECT hash, record, plan, proven FROM keys
WHERE record IS NOT NULL AND hash IS NOT NULL ORDER BY id {} LIMIT 1000
"""
# What is known to be deleted, or is being deleted, need not be there.
_MADE = """
SELECT hash, record, plan FROM keys
WHERE hash IS NOT NULL AND state NOT IN ('intent', 'doubt', 'releasing') AND NOT EXISTS (
    SELECT 1 FROM rotations WHERE rotations.hash = keys.hash AND rotations.state = 'deleted'
)
ORDER BY id {} LIMIT 4
"""
_ROTATED = """
SELECT hash, NULL, plan FROM rotations WHERE state <> 'deleted' ORDER BY id DESC LIMIT 2
"""
_STAMPED = """
SELECT record, last_attempt_at, ended_at FROM keys
WHERE id > (SELECT max(id) FROM keys) - 1000 AND proven AND ended_at IS NOT NULL
ORDER BY id DESC LIMIT 32
"""
_PROVEN = """
SELECT id, hash, record, plan FROM keys
WHERE proven AND last_attempt_at >= :since AND id < :before ORDER BY id DESC LIMIT :most
"""
_MOST_KNOWN, _PAGE = 5000, 1000
_BEYOND = 2**62
# No create makes a key anew that is being rotated, either.
LAST = """
SELECT hash FROM (SELECT hash FROM keys WHERE proven ORDER BY id DESC LIMIT 10000) AS made
UNION ALL SELECT hash FROM (SELECT hash FROM rotations ORDER BY id DESC LIMIT 10000) AS rotated
"""


_HASHES = """
SELECT hash FROM keys WHERE hash IS NOT NULL
UNION ALL SELECT secret_hash FROM keys WHERE secret_hash IS NOT NULL
UNION ALL SELECT hash FROM rotations
"""


def among(connection: Connection, hashes: frozenset[str]) -> set[str]:
    """Return which of some canonical hashes a journal has; a reader has no index of them."""
    return {own for (hash,) in connection.execute(_HASHES) if (own := canonical(hash)) in hashes}


def members(text: object) -> dict[str, JSON] | None:
    """Return the members of a JSON object; None: the text is damaged."""
    try:
        found: JSON = json.loads(str(text))
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else {}


def text_in(text: object, name: str) -> str | None:
    """Return a member of a JSON object that is a text; None: it has none, or it is damaged."""
    found = (members(text) or {}).get(name)
    return found if isinstance(found, str) else None


def home(connection: Connection) -> tuple[str, str] | None:
    """Return where keys were made that named no workspace, and the first of them; None: unknown.

    A key whose hash its secret proves comes before others: an answer may be a copy.
    """
    for order in ("ASC", "DESC"):
        unproven: tuple[str, str] | None = None
        for hash, record, plan, proven in connection.execute(_RECORDS.format(order)):
            planned, found = members(plan), text_in(record, "workspace_id")
            if planned is None or planned.get("workspace_id") is not None or found is None:
                continue
            if proven:
                return found, str(hash)
            unproven = unproven or (found, str(hash))
        if unproven is not None:
            return unproven
    return None


def ends(connection: Connection) -> dict[str, str | None]:
    """Return some keys of a journal, the first and the last; see `Journal.ends`."""
    found: dict[str, str | None] = {}
    for query in (_MADE.format("ASC"), _MADE.format("DESC"), _ROTATED):
        if query == _ROTATED and not found:
            break  # `rotate` has looked at its old keys itself
        for hash, record, plan in connection.execute(query):
            shown = text_in(record, "workspace_id") or text_in(plan, "workspace_id")
            found.setdefault(str(hash), shown)
    return found


def stamps(connection: Connection) -> list[tuple[str, str, str]]:
    """Return when the last keys were made, each with when its create was sent and answered."""
    return [
        (created_at, str(sent), str(ended))
        for record, sent, ended in connection.execute(_STAMPED)
        if (created_at := text_in(record, "created_at")) is not None
    ]


def known(connection: Connection, workspace_id: str | None, since: str) -> dict[str, str | None]:
    """Return the last keys of a workspace that were made since a time; see `Journal.known`."""
    found: dict[str, str | None] = {}
    for hash, record, plan in _proven(connection, since):
        planned = members(plan)
        if planned is not None and planned.get("workspace_id") == workspace_id:
            found.setdefault(hash, text_in(record, "workspace_id"))
        if len(found) == _MOST_KNOWN:
            break
    return found


def _proven(connection: Connection, since: str) -> Generator[tuple[str, object, object]]:
    before = _BEYOND
    values = {"since": since, "most": _PAGE}
    while page := connection.execute(_PROVEN, values | {"before": before}).fetchall():
        for before, *row in page:  # noqa: B007 - the last one begins the next page
            hash, record, plan = row
            yield hash, record, plan
