"""One row of a file of keys, made a spec, or refused with its place and field. No file."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from difflib import get_close_matches
from typing import Any, Final
from uuid import UUID

from attrs import field, fields_dict, frozen

from openrouter_keys._inputs.checks import EXTERNAL_API_KEY_MIN, EXTERNAL_USER_MAX
from openrouter_keys.cli.exit_codes import UsageError
from openrouter_keys.errors import InvalidArgumentError
from openrouter_keys.journal.specs import KeySpec
from openrouter_keys.models import CreateKeysRequest
from openrouter_keys.utils import parse_datetime

#: What a row may say; only `name` must be there.
FIELDS: Final = ("ref", *fields_dict(CreateKeysRequest))
#: What the service takes null for.
NULLABLE: Final = frozenset(("limit", "limit_reset", "expires_at", "creator_user_id"))
# No name of a field has as many characters.
_LONGEST: Final = 40


class FieldError(ValueError):
    """A field is not usable.

    Attributes:
        field: which; one that there is none of: its number.
    """

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(problem)
        self.field = field


@frozen
class Row:
    """What a file says of one key.

    Attributes:
        where: the file and the place in it, as `keys.json, [3]`.
        fields: by the API's names: null is null, and what is not there is left out.
    """

    where: str
    fields: Mapping[str, object] = field(repr=False)  # they may hold a secret

    def spec(self) -> KeySpec:
        """Read it.

        Raises:
            CommandError: it is not usable.
        """
        try:
            return spec_of(self.fields)
        except FieldError as error:
            raise UsageError(f"{self.where}, field {error.field}: {error}") from None


def spec_of(fields: Mapping[str, object]) -> KeySpec:
    """Make a spec; one without a `ref` has its name for one.

    Raises:
        FieldError: a field is unknown, missing or not usable; no value is in its text.
    """
    for number, (name, value) in enumerate(fields.items(), start=1):
        _refuse_unknown(number, name, value)
    given: dict[str, Any] = {"name": "", **fields}
    given.setdefault("ref", given["name"] or "?")  # one without a name is refused for that
    try:
        for name, read in _READ.items():
            if isinstance(given.get(name), str):
                given[name] = read(given[name])
        return KeySpec(**given)
    except InvalidArgumentError as error:
        # Its own text shows the value, which may be a secret in the wrong place.
        field = _ARGUMENTS.get(error.argument, error.argument)
    raise FieldError(field, _MUST[field])


def _refuse_unknown(number: int, name: str, value: object) -> None:
    if name not in FIELDS:
        hint = f"{likely(name, FIELDS)} fields are {', '.join(FIELDS)}"
        raise FieldError(str(number), f"there is no such field;{hint}")
    if value is None and name not in NULLABLE:
        raise FieldError(name, "cannot be null: leave it out")


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
    raise InvalidArgumentError("must be a UUID", "workspace_id")


_READ: Final[Mapping[str, Callable[[str], object]]] = {
    "expires_at": parse_datetime,
    "workspace_id": _uuid,
}
# What `parse_datetime` calls its argument.
_ARGUMENTS: Final = {"text": "expires_at"}
#: What each field must be, in the words of a file.
_MUST: Final[Mapping[str, str]] = {
    "ref": "must be a text of at least 1 character, without half of a surrogate pair",
    "name": "must be a text of at least 1 character",
    "limit": "must be a finite number of at least 0, or null",
    "limit_reset": "must be daily, weekly or monthly, or null",
    "include_byok_in_limit": "must be true or false",
    "expires_at": "must be an ISO 8601 time with its zone, as 2027-12-31T23:59:59Z, or null",
    "creator_user_id": "must be a text of at least 1 character, or null",
    "workspace_id": "must be a UUID",
    "external": "must be an object of `user` and maybe `api_key`",
    "external.user": (
        f"must be a text of 1 to {EXTERNAL_USER_MAX} characters, "
        "with no NUL and no white space around it"
    ),
    "external.api_key": f"must be a text of at least {EXTERNAL_API_KEY_MIN} characters",
}
