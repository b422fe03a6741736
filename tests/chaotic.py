"""A service that misbehaves at random, in every way that a seed chooses; it has its own truth.

Each way has a name. A seed draws which of them there are, and how often they strike.
"""

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from random import Random
from typing import Any, Final
from unicodedata import normalize

from attrs import Factory, define, field

from tests.misbehaving import (
    PAGE,
    Answer,
    Asked,
    Misbehaving,
    Record,
    Silence,
    hash_of,
    refused,
)

#: Seconds after the end of a create's exchange in which it can still be carried out.
LATE: Final = 25.0
#: Seconds for which a key that was just made is not listed, at most.
LAG: Final = 12.0

_LOGIN = b"<!doctype html><title>Log in</title>"
_MADE = (500, 502, 503, 504, 520, 522, 524, 529, 599)
_ODD = (101, 301, 302, 303, 304, 307, 308, 425, 499)
_UNTOUCHED = (521, 523, 525, 526, 530)

CREATES: Final = (
    "made, and a 5xx",
    "not made, and a 5xx",
    "never reached",
    "made, and closed",
    "not made, and closed",
    "made, and cut",
    "made, and an odd status",
    "not made, and an odd status",
    "made, and an error in a 200",
    "not made, and an error in a 200",
    "made, and no secret told",
    "other keys before the secret",
    "other keys before the secret, and cut",
    "another key's hash",
    "closed, and made late",
    "made, and silent",
    "silent, and made late",
    "made otherwise",
)
LISTS: Final = (
    "the workspace is not found",
    "the offset is ignored",
    "an empty page",
    "a short page",
    "an old key on top",
    "the first page again",
    "a list fails",
)
_LIES: Final = frozenset(LISTS) - {"the workspace is not found", "a list fails"}
GETS: Final = ("not found", "not found, in HTML", "another record", "a get fails")
DELETES: Final = (
    "kept, and deleted: false",
    "kept, and an empty 202",
    "kept, and success: false",
    "kept, and a login page",
    "kept, and not found",
    "kept, and not found, in HTML",
    "kept, and an error in a 200",
    "kept, and a 5xx",
    "deleted, and a 5xx",
    "deleted, and closed",
)
PATCHES: Final = (
    "unchanged, and an empty 202",
    "unchanged, and its record",
    "unchanged, and another record",
    "unchanged, and a login page",
    "unchanged, and not found",
    "unchanged, and not found, in HTML",
    "unchanged, and a 5xx",
    "changed, and a 5xx",
    "changed, and closed",
)
#: How the whole service is, all the time.
HABITS: Final = (
    "stamps behind",
    "stamps ahead",
    "stamps cut to minutes",
    "stamps cut to seconds, in any order",
    "no date",
    "a date of the year 9999",
    "names without outer white space",
    "names in another form",
    "names cut short",
    "expiries some seconds off",
    "keys are listed late",
    "a small page",
    "a daily quota",
)
_BY_METHOD = {"POST": CREATES, "GET": GETS, "DELETE": DELETES, "PATCH": PATCHES}


def habits_of(chance: Random) -> frozenset[str]:
    """Draw how a service is."""
    return frozenset(habit for habit in HABITS if chance.random() < 0.15)


@define
class Made:
    """A key that a create made, or is to make."""

    record: Record
    secret: str
    name: str
    sent_by: str

    @property
    def hash(self) -> str:
        return str(self.record["hash"])


@define(eq=False, kw_only=True)
class Chaotic(Misbehaving):
    """The service.

    Attributes:
        seed: what is drawn from: by each request for itself, in whatever order they come.
        habits: how it is all the time.
        calm: whether it has stopped to misbehave, but for its habits.
        made: the keys that creates made, by their hashes.
        dead: the titles of clients that were killed: nothing that they send is heard.
        struck: how often each way struck.
        lines: what happened.
        ended: called with a hash when a client deletes or disables that key.
    """

    seed: str
    habits: frozenset[str]
    calm: bool = False
    made: dict[str, Made] = Factory(dict[str, Made])
    dead: set[str] = Factory(set[str])
    struck: Counter[str] = Factory(Counter[str])
    lines: list[str] = Factory(list[str])
    ended: Callable[[str, str], object] = lambda _, __: None
    quota: float = float("inf")
    creates: int = 0
    _chance: Random = field(init=False)
    _key: str = field(init=False, default="")
    _odds: dict[str, float] = field(init=False)
    _asked: Counter[tuple[str, ...]] = field(init=False, factory=Counter[tuple[str, ...]])
    _lied: dict[str, int] = field(init=False, factory=dict[str, int])
    _listed_at: dict[str, datetime] = field(init=False, factory=dict[str, datetime])
    _off: timedelta = field(init=False)

    def __attrs_post_init__(self) -> None:
        chance = self._chance = Random(self.seed)
        self._odds = {}
        for kinds, share in ((CREATES, 0.6), (LISTS, 0.9), (GETS, 0.3), (DELETES, 0.7),
                             (PATCHES, 0.6)):  # fmt: skip
            chosen = [kind for kind in kinds if chance.random() < 0.4]
            drawn = share * chance.random()
            self._odds |= {kind: drawn / len(chosen) for kind in chosen}
        self._off = timedelta(seconds=chance.uniform(1, 100))
        if "a daily quota" in self.habits:
            self.quota = chance.randint(5, 40)
        if "no date" in self.habits:
            self.date = lambda _: None
        elif "a date of the year 9999" in self.habits:
            self.date = lambda _: "Fri, 31 Dec 9999 23:59:59 GMT"
        self.stamp = self._stamp
        self.name = self._name

    def tell(self, line: str) -> None:
        """Write down what happened."""
        self.lines.append(f"{self.now():%H:%M:%S.%f} {line}")

    # --- habits ---

    def _stamp(self, now: datetime) -> datetime:
        if "stamps behind" in self.habits:
            now -= self._off
        elif "stamps ahead" in self.habits:
            now += self._off
        if "stamps cut to minutes" in self.habits:
            return now.replace(second=0, microsecond=0)
        if "stamps cut to seconds, in any order" in self.habits:
            return now.replace(microsecond=0)
        return now

    def _name(self, name: str) -> str:
        if "names without outer white space" in self.habits:
            name = name.strip()
        if "names in another form" in self.habits:
            name = normalize("NFC", name).lower()
        if "names cut short" in self.habits:
            name = name[:12]
        return name

    def _is_listed(self, record: Record) -> bool:
        return self._listed_at.get(record["hash"], self.now()) <= self.now()

    # --- what is drawn ---

    def _strikes(self, kinds: tuple[str, ...]) -> str | None:
        """Draw what goes wrong with a request; None: nothing."""
        at = self._chance.random()
        if self.calm:
            return None
        for kind in kinds:
            at -= self._odds.get(kind, 0)
            if at < 0:
                self.struck[kind] += 1
                return kind
        return None

    def _answer(self, asked: Asked) -> Answer | Silence | None:
        title = asked.headers.get("x-openrouter-title", "")
        if title in self.dead:
            return None
        what = asked.body.get("name", "") if asked.method == "POST" else asked.path
        request = (title, asked.method, what, asked.query.get("offset", ""))
        self._asked[request] += 1
        self._chance = Random(f"{self.seed} {request} {self._asked[request]}")
        kinds = _BY_METHOD[asked.method]
        one = "/keys/" in asked.path
        if asked.method == "GET" and not one:
            kinds = LISTS
        kind = self._strikes(kinds)
        if asked.method != "GET" and (over := self._over_quota(kind)) is not None:
            return over
        if not one:
            return self._created(asked, title, kind) if asked.method == "POST" else (
                self._listed(asked, title, kind)
            )  # fmt: skip
        hash = asked.path.rpartition("/keys/")[2]
        answer = self._one(asked, hash, kind)
        status = None if answer is None else answer.status
        if asked.method != "GET":
            body = "" if asked.method == "DELETE" else json.dumps(asked.body)
            self.tell(f"{title} {asked.method} {hash[:8]} {body} -> {status} ({kind})")
        return answer

    def _over_quota(self, kind: str | None) -> Answer | None:
        self.quota -= 1
        if self.quota >= 0 or kind is not None:
            return None
        self.struck["the quota is used up"] += 1
        midnight = (self.now() + timedelta(days=1)).replace(hour=0, minute=0, second=0)
        name = "keys-modify-api-rpd-v2"
        error = {
            "code": 429,
            "message": f"Rate limit exceeded: {name}",
            "metadata": {"limit_name": name, "error_type": "rate_limit_exceeded"},
        }
        reset = str(int(midnight.timestamp() * 1000))
        headers = {"X-RateLimit-Reset": reset, "X-RateLimit-Limit": "1000"}
        return Answer(429, {"error": error}, headers | {"X-RateLimit-Remaining": "0"})

    # --- creates ---

    def _secret(self) -> str:
        return f"sk-or-v1-{hash_of(self._key)}"

    def add(self, name: str, **fields: Any) -> Record:
        self._key = f"{self.seed} by hand {self._made}"
        record = super().add(name, **fields)
        self.tell(f"somebody makes {name!r} = {record['hash'][:8]} {fields}")
        return record

    def _created(self, asked: Asked, title: str, kind: str | None) -> Answer | Silence | None:
        made = self._to_make(asked, title, kind)
        late = kind in ("closed, and made late", "silent, and made late")
        if not late and (kind is None or not kind.startswith(("not made", "never"))):
            self._land_one(made)
        answer = self._told(made, kind)
        if kind == "closed, and made late":
            self._land_later(made)
        status = None if answer is None else answer.status
        self.tell(f"{title} POST {made.name!r} = {made.hash[:8]} -> {status} ({kind})")
        if kind == "made, and silent":
            return Silence(lambda: None)
        if kind == "silent, and made late":
            return Silence(lambda: self._land_later(made))
        return answer

    def _to_make(self, asked: Asked, title: str, kind: str | None) -> Made:
        self.creates += 1
        self._key = str(self._chance.random())
        fields = {"workspace_id": "default", **asked.body}
        if kind == "made otherwise":
            fields["limit"] = None if fields.get("limit") else 7.0
        record = self._record(fields)
        if "expiries some seconds off" in self.habits and record["expires_at"]:
            at = datetime.fromisoformat(record["expires_at"])
            record["expires_at"] = (at - self._off).isoformat()
        return Made(record, self._secret(), asked.body["name"], title)

    def _land_one(self, made: Made) -> None:
        now = self.now()
        made.record["created_at"] = self.stamp(now).isoformat().replace("+00:00", "Z")
        self.keys.append(made.record)
        self.made[made.hash] = made
        if "keys are listed late" in self.habits:
            self._listed_at[made.hash] = now + timedelta(seconds=self._chance.uniform(0, LAG))

    def _land_later(self, made: Made) -> None:
        def land() -> None:
            self._land_one(made)
            self.tell(f"{made.hash[:8]} is made, late")

        asyncio.get_running_loop().call_later(self._chance.uniform(0, LATE), land)

    def _told(self, made: Made, kind: str | None) -> Answer | None:
        """Return what a create is answered with."""
        whole = {"data": made.record, "key": made.secret}
        if kind in ("other keys before the secret", "other keys before the secret, and cut"):
            tags: list[Any] = [{"key": "env", "value": "prod"}, {"key": f"sk-{made.hash[:20]}"}]
            whole = {"tags": tags, "meta": {"key": "other"}, **whole}
        if kind == "another key's hash" and self.keys:
            victim = self._chance.choice(self.keys)["hash"]
            return Answer(201, whole | {"data": made.record | {"hash": victim}})
        if kind in (None, "other keys before the secret", "made otherwise", "another key's hash"):
            return Answer(201, whole)
        if kind.endswith("cut"):
            body = json.dumps(whole).encode()
            length = {"Content-Length": str(len(body))}
            return Answer(201, body[: self._chance.randrange(len(body))], length, closes=True)
        error = {"error": {"code": 500, "message": "Internal Server Error"}}
        odd, failed, untouched = map(self._chance.choice, (_ODD, _MADE, _UNTOUCHED))
        answers = {
            "no secret told": Answer(201, {"data": made.record}),
            "an error in a 200": Answer(200, error),
            "an odd status": Answer(odd, b"", closes=True),
            "a 5xx": refused(failed),
            "never reached": refused(untouched),
        }
        return next((answer for end, answer in answers.items() if kind.endswith(end)), None)

    # --- lists ---

    def _listed(self, asked: Asked, title: str, kind: str | None) -> Answer:
        workspace = asked.query.get("workspace_id") or "default"
        offset = int(asked.query.get("offset", 0))
        # What is hidden from every look, nobody can know: after a lie, one whole look is true.
        if offset == 0 and self._lied.get(title, 0):
            self._lied[title] -= 1
        if kind is not None and self._lied.get(title):
            kind = None
        elif kind in _LIES:
            self._lied[title] = 2
        if kind is not None:
            self.tell(f"{title} list, from {offset} on ({kind})")
        keys = [key for key in reversed(self.keys)
                if key["workspace_id"] == workspace and self._is_listed(key)]  # fmt: skip
        if "stamps cut to seconds, in any order" in self.habits:
            self._chance.shuffle(keys)
            keys.sort(key=lambda key: str(key["created_at"]), reverse=True)
        if kind == "the workspace is not found" and workspace != "default":
            return refused(404, "Workspace not found")
        if kind == "a list fails":
            return refused(self._chance.choice((500, 502, 503)))
        return Answer(200, {"data": self._shown(keys, offset, kind)})

    def _shown(self, keys: list[Record], offset: int, kind: str | None) -> list[Record]:
        """Return the page that is shown."""
        if kind in ("the offset is ignored", "the first page again"):
            offset = 0
        size = 4 if "a small page" in self.habits else PAGE
        page = keys[offset : offset + size]
        if kind == "an empty page":
            return []
        if kind == "a short page":
            return page[: self._chance.randint(0, len(page))]
        return [keys[-1], *page] if kind == "an old key on top" and keys else page

    # --- one key ---

    def _one(self, asked: Asked, hash: str, kind: str | None) -> Answer | None:
        record = next((key for key in self.keys if key["hash"] == hash), None)
        if record is None:
            return refused(404, "Resource not found")
        if kind is not None and kind.startswith(("kept", "unchanged", "not found", "another", "a")):
            return self._undone(record, kind)
        if asked.method == "GET":
            return Answer(200, {"data": record})
        if asked.method == "DELETE":
            self.keys.remove(record)
            self.ended(hash, "deleted")
        else:
            record.update(asked.body)
            if asked.body.get("disabled"):
                self.ended(hash, "disabled")
        if kind is not None:
            return refused(502) if kind.endswith("5xx") else None
        return Answer(200, {"deleted": True} if asked.method == "DELETE" else {"data": record})

    def _undone(self, record: Record, kind: str) -> Answer:
        """Return the answer of a request that did nothing."""
        other = self._chance.choice(self.keys)
        return next(answer for end, answer in (
            ("deleted: false", Answer(200, {"deleted": False})),
            ("success: false", Answer(200, {"success": False})),
            ("an empty 202", Answer(202, b"")),
            ("a login page", Answer(200, _LOGIN, {"Content-Type": "text/html"})),
            ("not found", refused(404, "Resource not found")),
            ("in HTML", Answer(404, b"<html>404</html>", {"Content-Type": "text/html"})),
            ("an error in a 200", Answer(200, {"error": {"code": 500, "message": "failed"}})),
            ("its record", Answer(200, {"data": record})),
            ("another record", Answer(200, {"data": other})),
            ("a 5xx", refused(502)),
            ("a get fails", refused(503)),
        ) if kind.endswith(end))  # fmt: skip
