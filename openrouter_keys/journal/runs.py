"""The runs of a journal, and which rows are whose: a run changes only rows of its own. No thread.

A run that is gone left its rows to those that claim them. Whoever still writes for it, since its
process was stopped or cut off meanwhile, finds that they are not its own any more.
"""

import json
from collections.abc import Sequence

from attrs import frozen

from openrouter_keys.errors import JournalMismatchError
from openrouter_keys.journal.schema import State
from openrouter_keys.journal.store import Connection, Store

# The first version of a journal that runs share.
_SHARED = 5
_BEGIN = """
UPDATE meta SET runs = runs + 1, longest_timeout =
CASE WHEN longest_timeout < :timeout THEN :timeout ELSE longest_timeout END
RETURNING runs, longest_timeout
"""
# No create is under way: neither of a run nor of what a run left.
_FORGET_TIMEOUT = """
UPDATE meta SET longest_timeout = 0
WHERE NOT EXISTS (SELECT 1 FROM runs)
AND NOT EXISTS (SELECT 1 FROM keys INDEXED BY written_off WHERE written_off > 0)
AND NOT EXISTS (
    SELECT 1 FROM keys INDEXED BY unfinished
    WHERE state <> 'settled' AND state IN ('intent', 'doubt', 'releasing')
)
"""
_FACTS = "SELECT owner, state FROM keys WHERE ref = :ref"
_OTHERS = """
SELECT owner, plan FROM keys INDEXED BY unfinished
WHERE state <> 'settled' AND state IN ('intent', 'doubt') AND owner NOT IN (0, :run)
"""
_MADE = """
SELECT owner, count(*) FROM keys INDEXED BY unfinished
WHERE state <> 'settled' AND state = 'made' GROUP BY owner
"""
_OWN = "UPDATE keys SET owner = :run WHERE ref = :ref"


def begin(store: Store, server_url: str | None, timeout: float) -> tuple[int, float]:
    """Begin a run: return its number, and the seconds that a create of any run could take."""
    connection = store.connection
    refuse_other_service(connection, store.place, server_url)
    run, longest = connection.execute(_BEGIN, {"timeout": timeout}).fetchone()
    connection.execute("INSERT INTO runs (id) VALUES (?)", (run,))
    store.begin(run)
    return run, longest


def begin_first(store: Store, timeout: float) -> tuple[int, float]:
    """Begin the run of a process that opens the journal, which forgets a time-out of before."""
    # Elsewhere, a run that seems gone may be cut off, and send another create.
    if store.ends_with_process:
        store.connection.execute(_FORGET_TIMEOUT)
    return begin(store, None, timeout)


def refuse_other_service(connection: Connection, place: str, server_url: str | None) -> None:
    """Refuse a journal whose keys are made at another service, and remember this one.

    Raises:
        JournalMismatchError: they are.
    """
    if known_service(connection, place, server_url) is None and server_url is not None:
        connection.execute("UPDATE meta SET server_url = ?", (server_url,))


def known_service(connection: Connection, place: str, server_url: str | None) -> str | None:
    """Return the service that a journal's keys are made at; None: not known.

    Raises:
        JournalMismatchError: it is another one than this.
    """
    known: str | None
    (known,) = connection.execute("SELECT server_url FROM meta").fetchone()
    if server_url is not None and known not in (None, server_url):
        problem = f"belongs to {known}, not to {server_url}: each service has its own journal"
        raise JournalMismatchError(place, problem)
    return known


def end(store: Store, run: int) -> None:
    """End a run: others may claim its rows."""
    store.connection.execute("DELETE FROM runs WHERE id = ?", (run,))
    store.end(run)


@frozen
class Claim:
    """What came of claiming a row.

    Attributes:
        state: the row's.
        ours: whether the row is the run's own now.
        new: whether it was not before.
        is_cut_off: whether a process may still be at its create, cut off from the journal.
    """

    state: State
    ours: bool
    new: bool
    is_cut_off: bool = False


def claim(
    store: Store, run: int, refs: Sequence[str], *, settled: bool
) -> tuple[dict[str, Claim], float]:
    """Make rows a run's own unless another run that lives has them.

    Returns:
        Those refs that have a row, each with what came of it; and the seconds that a create of any
        run could take.
    """
    free: dict[int, bool] = {run: True, 0: True}
    claims: dict[str, Claim] = {}
    for ref in refs:
        row = store.connection.execute(_FACTS, {"ref": ref}).fetchone()
        if row is None:
            continue
        owner, state = row[0], State(row[1])
        if owner not in free:
            free[owner] = not store.lives(owner)
        ours = free[owner] and (settled or state is not State.SETTLED)
        if ours and owner != run:
            store.connection.execute(_OWN, {"run": run, "ref": ref})
        new = ours and owner != run
        is_cut_off = new and owner != 0 and not store.ends_with_process
        claims[ref] = Claim(state, ours, new=new, is_cut_off=is_cut_off)
    (longest,) = store.connection.execute("SELECT longest_timeout FROM meta").fetchone()
    return claims, longest


def pending(store: Store, run: int) -> int:
    """Return how many keys were made and not handed over, but for those of other runs that live."""
    rows = store.connection.execute(_MADE).fetchall()
    return sum(count for owner, count in rows if owner == run or not store.lives(owner))


def others(store: Store, run: int) -> tuple[int, int]:
    """Return how many other runs live, and how many keys they may be making."""
    (version,) = store.connection.execute("SELECT version FROM meta").fetchone()
    if version < _SHARED:
        return 0, 0  # it is read, and brought up to date by the next run
    runs = store.connection.execute("SELECT id FROM runs WHERE id <> :run", {"run": run}).fetchall()
    living = sum(store.lives(each) for (each,) in runs)
    return living, len(names_of_others(store, run)) if living else 0


def names_of_others(store: Store, run: int) -> list[str]:
    """Return the names of keys that other runs which live may be making."""
    rows = store.connection.execute(_OTHERS, {"run": run}).fetchall()
    living = {owner for owner in {owner for owner, _ in rows} if store.lives(owner)}
    return [str(json.loads(plan)["name"]) for owner, plan in rows if owner in living]
