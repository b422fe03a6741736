"""One row of a file of keys, made a spec; what is wrong with it has its field. No file."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import date, datetime, timedelta
from difflib import get_close_matches
from typing import Any, Final
from uuid import UUID

from attrs import Factory, define, field, fields_dict, frozen

from openrouter_keys._inputs.checks import EXTERNAL_API_KEY_MIN, EXTERNAL_USER_MAX
from openrouter_keys.cli.specs.problems import Place, Problem
from openrouter_keys.cli.values import read_moment, time_hint
from openrouter_keys.errors import InvalidArgumentError
from openrouter_keys.journal.specs import KeySpec
from openrouter_keys.models import CreateKeysRequest

#: What a row may say; only `name` must be there.
FIELDS: Final = ("ref", *fields_dict(CreateKeysRequest), "disabled")
_PREFIX: Final = "external_"
#: The parts of `external`, as lists of keys spell them.
EXTERNAL: Final = (f"{_PREFIX}user", f"{_PREFIX}api_key")
#: What the service takes null for.
NULLABLE: Final = frozenset(("limit", "limit_reset", "expires_at", "creator_user_id"))
# No name of a field has as many characters.
_LONGEST: Final = 40
# So many unknown fields of a row are named.
_MOST: Final = 10


@frozen
class Read:
    """What a row was read as.

    Attributes:
        spec: the key; with problems, one that has defaults in place of what is not usable.
        ref: its ref; None: it has none that is usable.
        lasts: whether its expiry was given as a duration.
        problems: what is wrong with the row.
    """

    spec: KeySpec | None
    ref: str | None = None
    lasts: bool = False
    problems: Sequence[Problem] = ()


@frozen
class Row:
    """What a file says of one key.

    Attributes:
        place: where it is in the file.
        fields: by the API's names: null is null, and what is not there is left out.
        problems: what is wrong with the row itself, whose fields are not read then.
    """

    place: Place
    fields: Mapping[str, object] = field(repr=False, factory=dict[str, object])  # maybe a secret
    problems: Sequence[Problem] = ()

    def read(self, now: datetime) -> Read:
        """Read it.

        Args:
            now: what a duration counts from.
        """
        if self.problems:
            return Read(None, problems=self.problems)
        return self._read(now)

    def _read(self, now: datetime) -> Read:
        reading = Reading(now)
        spec = reading.spec_of(self.fields)
        problems = [Problem(*found) for found in reading.problems("field")]
        return Read(spec, spec.ref if reading.has_ref else None, reading.lasts, problems)


@define
class Reading:
    """Reads the fields of one row, and collects what is wrong with them.

    Args:
        now: what a duration counts from.

    Attributes:
        has_ref: whether there is a ref that is usable, or a name in its place.
        lasts: whether the expiry is a duration.
    """

    _now: datetime
    has_ref: bool = True
    lasts: bool = False
    _has_own_ref: bool = False
    _refused: dict[str, str] = Factory(dict[str, str])

    def refuse(self, field: str, problem: str) -> None:
        """Note what is wrong with a field, the first time.

        Args:
            field: its name, or its number if there is no such field.
            problem: what, without its value.
        """
        self._refused.setdefault(field, problem)

    def problems(self, what: str) -> list[tuple[str, str]]:
        """Return each problem with its place, as `field limit`."""
        return [(problem, f"{what} {field}") for field, problem in self._refused.items()]

    def spec_of(self, fields: Mapping[str, object]) -> KeySpec:
        """Make a spec; one without a `ref` has its name for one."""
        given = dict[str, Any](self._with_external(self._known(fields)))
        given.setdefault("name", "")
        self._has_own_ref = "ref" in given
        given.setdefault("ref", given["name"] or "?")  # one without a name is refused for that
        for name, read in _READ.items():
            if name in given:
                self._convert(given, name, read)
        if isinstance(lasting := given.get("expires_at"), timedelta):
            self.lasts, given["expires_at"] = True, self._now + lasting
        return self._checked(given)

    def _known(self, fields: Mapping[str, object]) -> dict[str, object]:
        known = dict[str, object]()
        for number, (name, value) in enumerate(fields.items(), start=1):
            if name not in (*FIELDS, *EXTERNAL):
                hint = f"{likely(name, FIELDS)} fields are {', '.join(FIELDS)}"
                if len(self._refused) < _MOST:
                    self.refuse(str(number), f"there is no such field;{hint}")
            elif value is None and name not in NULLABLE:
                self.refuse(name, "cannot be null: leave it out")
            else:
                known[name] = value
        return known

    def _with_external(self, fields: Mapping[str, object]) -> Mapping[str, object]:
        """Return the fields with the parts of `external` in their place."""
        parts = {name.removeprefix(_PREFIX): fields[name] for name in EXTERNAL if name in fields}
        if not parts:
            return fields
        others = {name: value for name, value in fields.items() if name not in EXTERNAL}
        if "external" in others:
            self.refuse("external", f"is there beside {' and '.join(EXTERNAL)}: give one of them")
        elif "user" not in parts:
            self.refuse(EXTERNAL[0], f"must be there where there is an {EXTERNAL[1]}")
        else:
            others["external"] = parts
        return others

    def _convert(self, given: dict[str, Any], name: str, read: Callable[[str], object]) -> None:
        try:
            given[name] = read(given[name])
        except ValueError as error:
            del given[name]
            self.refuse(name, str(error))

    def _checked(self, given: dict[str, Any]) -> KeySpec:
        """Make the spec; what is not usable is noted, and a default takes its place."""
        while True:
            try:
                return KeySpec(**given)
            except InvalidArgumentError as error:
                # Its own text shows the value, which may be a secret in the wrong place.
                self.refuse(error.argument, _MUST[error.argument])
                self._replace(given, error.argument)

    def _replace(self, given: dict[str, Any], argument: str) -> None:
        field, _, part = argument.partition(".")
        if part:
            usable = {"user": "?"} if part == "user" else {"api_key": None}
            given["external"] = {**given["external"], **usable}
        elif field in ("ref", "name"):
            if field == "ref" or not self._has_own_ref:
                self.has_ref, given["ref"] = False, "?"
            given[field] = "?"
        else:
            del given[field]


def likely(name: str, known: Sequence[str]) -> str:
    """Return a hint on what is no name of a field, without that, since it may be a secret.

    Args:
        name: what a file says.
        known: the names that there are.
    """
    found = get_close_matches(name[:_LONGEST], known, n=1)
    return f" did you mean {found[0]}?" if found else ""


def _uuid(text: str) -> str:
    with suppress(ValueError):
        return str(UUID(text))
    raise ValueError(_MUST["workspace_id"])


def _moment(value: object) -> object:
    if isinstance(value, str):
        try:
            return read_moment(value)
        except ValueError as error:
            raise ValueError(f"{_MUST['expires_at']}{error}") from None
    # YAML has dates, and times without a zone.
    if isinstance(value, date) and (hint := time_hint(value.isoformat())):
        raise ValueError(f"{_MUST['expires_at']}{hint}")
    return value


_READ: Final[Mapping[str, Callable[[Any], object]]] = {
    "expires_at": _moment,
    "workspace_id": lambda value: _uuid(value) if isinstance(value, str) else value,
}
#: What each field must be, in the words of a file.
_MUST: Final[Mapping[str, str]] = {
    "ref": "must be a text of at least 1 character, without half of a surrogate pair",
    "name": "must be a text of at least 1 character",
    "limit": "must be a finite number of at least 0, or null",
    "limit_reset": "must be daily, weekly or monthly, or null",
    "include_byok_in_limit": "must be true or false",
    "expires_at": (
        "must be an ISO 8601 time with its zone, as 2027-12-31T23:59:59Z, a duration such as 30d, "
        "or null"
    ),
    "creator_user_id": "must be a text of at least 1 character, or null",
    "workspace_id": "must be a UUID",
    "external": "must be an object of `user` and maybe `api_key`",
    "external.user": (
        f"must be a text of 1 to {EXTERNAL_USER_MAX} characters, "
        "with no NUL and no white space around it"
    ),
    "disabled": "must be true or false",
    "external.api_key": f"must be a text of at least {EXTERNAL_API_KEY_MIN} characters",
}
