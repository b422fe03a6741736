"""One row of a file of keys, made a spec, or refused with its place and field. No file."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from attrs import field, fields_dict, frozen

from openrouter_keys.cli import USAGE, CommandError
from openrouter_keys.errors import InvalidArgumentError
from openrouter_keys.models import CreateKeysRequest
from openrouter_keys.provisioning.specs import KeySpec
from openrouter_keys.utils import parse_datetime

#: What a row may say; only `name` must be there.
FIELDS: Final = ("ref", *fields_dict(CreateKeysRequest))
#: What the service takes null for.
NULLABLE: Final = frozenset(("limit", "limit_reset", "expires_at", "creator_user_id"))


class FieldError(ValueError):
    """A field is not usable.

    Attributes:
        field: which.
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
            message = f"{self.where}, field {error.field}: {error}"
            raise CommandError(message, USAGE) from None


def spec_of(fields: Mapping[str, object]) -> KeySpec:
    """Make a spec; one without a `ref` has its name for one.

    Raises:
        FieldError: a field is unknown, missing or not usable.
    """
    for name, value in fields.items():
        _refuse_unknown(name, value)
    given: dict[str, Any] = {"name": "", **fields}
    given.setdefault("ref", given["name"] or "?")  # one without a name is refused for that
    try:
        if isinstance(given.get("expires_at"), str):
            given["expires_at"] = _time(given["expires_at"])
        if isinstance(given.get("workspace_id"), str):
            given["workspace_id"] = _uuid(given["workspace_id"])
        return KeySpec(**given)
    except InvalidArgumentError as error:
        problem = str(error).removeprefix(f"{error.argument}: ")
        raise FieldError(error.argument, problem) from None


def _refuse_unknown(name: str, value: object) -> None:
    if name not in FIELDS:
        raise FieldError(name, f"there is no such field; fields are {', '.join(FIELDS)}")
    if value is None and name not in NULLABLE:
        raise FieldError(name, "cannot be null: leave it out")


def _time(text: str) -> datetime:
    try:
        return parse_datetime(text)
    except InvalidArgumentError as error:
        problem = str(error).removeprefix(f"{error.argument}: ")
        raise FieldError("expires_at", problem) from None


def _uuid(text: str) -> str:
    try:
        return str(UUID(text))
    except ValueError:
        raise FieldError("workspace_id", f"must be a UUID, not {text!r}") from None
