"""What a journal holds, in version 5: its states and its tables. No I/O.

A row is a ref that was planned and at least intended once. Its states::

    intend ─▶ intent ─ keep ─▶ made ─ acknowledge ─▶ settled
              │ ▲  └── fail ─▶ failed ◀─ reject ─ made
        doubt ▼ │ again  (also from failed without a key, and from made without a secret)
              doubt ─ resolve ─▶ failed ◀─ discard ─ made

`intent`: a create may have been sent. `made`: the key exists and its secret is here, and the caller
has not acknowledged it. `settled`: it has. `failed`: the service refused or, where there is a hash,
made another key than was asked for; a key that is gone is discarded. `doubt`: a key may have
been made; a reconcile has to find out. `releasing`: the key is being deleted, its secret is gone,
and its row goes when it is: from `made`, `settled`, and `failed` with a key.
A key that exists is adopted as `settled`, without a secret.
An intent whose create is proven not to have been sent or carried out is forgotten: its row goes, or
goes back to `doubt` where an earlier create of it was written off. `transitions` has them all.
"""

import enum

VERSION = 5
#: What can be read: an older one is brought up to date by the first run that goes on with it.
READABLE = (2, 3, 4, VERSION)
#: `PRAGMA application_id`, by which a journal is known from other databases: "ORKJ".
APPLICATION = 0x4F524B4A


class State(enum.StrEnum):
    """What is known of a key: see the module's text."""

    INTENT = "intent"
    MADE = "made"
    SETTLED = "settled"
    FAILED = "failed"
    DOUBT = "doubt"
    RELEASING = "releasing"


class OldKey(enum.StrEnum):
    """What became of a key that is rotated."""

    PLANNED = "planned"
    DISABLED = "disabled"
    DELETED = "deleted"


#: A key may exist, and the journal has no secret of it.
DOUBTFUL = (State.INTENT, State.DOUBT)


# Times are ISO 8601 in UTC, as the caller gives them. A secret is in `secret`, or in `sealed` if it
# was encrypted.
# `written_off` counts the creates that were never answered, and left no key that a reconcile found:
# one can still land, so a reconcile looks at such rows once more.
# `run` is the run that first met the ref: met again in the same run, it is a duplicate.
# `owner` is the run that may change the row; 0, or a run that is gone: any may, once it has claimed
# it. `runs` has those that have not ended.
# `wanted` is the plan that an update is changing the key to; NULL: none is under way.
# `longest_timeout` is how many seconds a create of any run could be under way.
# `ended_at` is when the exchange of the last create ended; NULL: it may have been under way when
# its run ended. `earlier` has the times of each create that was written off, as JSON: when it was
# sent, and when it ended; a third value: that was between the two, at a time that is not known.
# A key that was made between two creates is neither's.
# `proven` is whether the hash is the SHA-256 of the secret; NULL: no key was made. Where it is
# not, `secret_hash` is.
# A CHECK of the state would cost a third of all that a key costs here.
# `unfinished` lets a resume over a million settled rows read none of them, and so does `unretired`.
# `rotations` has a row for each key that is replaced by a twin, whose ref in `keys` is the old
# key's hash: `planned`, then `disabled`, then `deleted` is what became of the old key. Money is in
# US dollars. `handed_over_at` is when the caller acknowledged the twin's secret; NULL: not yet.
# The twin's hash is in `keys` alone, where its state says whether it is proven to be the twin's.
TABLES = """
CREATE TABLE meta (
    version INTEGER NOT NULL,
    created_at TEXT NOT NULL,
    server_url TEXT,
    runs INTEGER NOT NULL,
    longest_timeout REAL NOT NULL
);
INSERT INTO meta VALUES (5, strftime('%Y-%m-%dT%H:%M:%SZ', 'now'), NULL, 0, 0);
CREATE TABLE keys (
    id INTEGER PRIMARY KEY,
    ref TEXT NOT NULL UNIQUE,
    plan TEXT NOT NULL,
    state TEXT NOT NULL,
    run INTEGER NOT NULL,
    written_off INTEGER NOT NULL DEFAULT 0,
    first_attempt_at TEXT NOT NULL,
    last_attempt_at TEXT NOT NULL,
    hash TEXT,
    secret TEXT,
    sealed BLOB,
    record TEXT,
    reason TEXT,
    ended_at TEXT,
    proven BOOLEAN,
    secret_hash TEXT,
    earlier TEXT,
    owner INTEGER NOT NULL DEFAULT 0,
    wanted TEXT
);
CREATE TABLE runs (id INTEGER PRIMARY KEY);
CREATE INDEX secret_hashes ON keys (secret_hash) WHERE secret_hash IS NOT NULL;
CREATE INDEX unfinished ON keys (id) WHERE state <> 'settled';
CREATE INDEX written_off ON keys (id) WHERE written_off > 0;
CREATE TABLE rotations (
    id INTEGER PRIMARY KEY,
    hash TEXT NOT NULL UNIQUE,
    plan TEXT NOT NULL,
    budget TEXT NOT NULL,
    old_limit REAL,
    spent REAL NOT NULL,
    state TEXT NOT NULL,
    handed_over_at TEXT,
    reason TEXT
);
CREATE INDEX unretired ON rotations (handed_over_at, id) WHERE state <> 'deleted';
PRAGMA application_id = 0x4F524B4A;
"""

#: How a journal of an older version is brought to the next one.
UPGRADES = {
    2: """
DROP INDEX twins;
ALTER TABLE rotations DROP COLUMN twin;
UPDATE meta SET version = 3
""",
    # Version 3 had two times for all creates of a ref that were written off: each of them was sent
    # between the two, which proves nothing of a key that was made between them.
    3: """
ALTER TABLE keys ADD COLUMN earlier TEXT;
UPDATE keys SET
    earlier = '[' || substr(replace(hex(zeroblob(written_off)), '00', ',' || json_array(
        first_attempt_at, coalesce(iif(state = 'intent', ended_at, NULL), last_attempt_at), 1
    )), 2) || ']',
    ended_at = iif(state = 'intent', NULL, ended_at)
WHERE written_off > 0;
UPDATE meta SET version = 4
""",
    4: """
ALTER TABLE keys ADD COLUMN owner INTEGER NOT NULL DEFAULT 0;
ALTER TABLE keys ADD COLUMN wanted TEXT;
ALTER TABLE keys ADD COLUMN sealed BLOB;
UPDATE keys SET sealed = secret, secret = NULL WHERE typeof(secret) = 'blob';
CREATE TABLE runs (id INTEGER PRIMARY KEY);
UPDATE meta SET version = 5
""",
}
