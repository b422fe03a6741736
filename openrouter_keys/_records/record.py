"""What every record of the service can do. Nothing is imported for it before it is used."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Self, cast

from openrouter_keys._inputs.arguments import hides_arguments
from openrouter_keys._records.plain import has_secret, without_secrets
from openrouter_keys.errors import JSON

if TYPE_CHECKING:
    from attrs import AttrsInstance
    from pydantic import GetCoreSchemaHandler
    from pydantic_core import CoreSchema


class Record:
    """A record that came from the service."""

    __slots__ = ()

    def to_dict(self, *, include_secrets: bool = False) -> dict[str, JSON]:
        """Return the record as plain JSON values, by the API's names.

        Times are text such as `2027-12-31T23:59:59Z`. A field that the answer lacks is left out,
        null is None, and fields that this version does not know are there as they came; `http` is
        not.

        Args:
            include_secrets: True: all of it, with the secret of a new key. False: a field that is a
                secret is left out, and a text that looks like a key of OpenRouter is masked.

        Returns:
            A new dictionary, which `json.dumps` takes.
        """
        from openrouter_keys.converter import unstructure  # noqa: PLC0415 - it takes long to import

        plain = cast("dict[str, JSON]", unstructure(self))
        return plain if include_secrets else without_secrets(type(self), plain)

    @classmethod
    @hides_arguments
    def from_dict(cls, values: Mapping[str, JSON]) -> Self:
        """Make a record of what `to_dict` returned, or of the API's JSON.

        Args:
            values: plain JSON values. Fields that this version does not know go to `extra`.

        Raises:
            ResponseValidationError: they are no such record; the message names the fields.
        """
        from openrouter_keys.converter import structure  # noqa: PLC0415 - as above

        return structure(dict(values), cls)

    def _shown(self) -> tuple[JSON, Sequence[str]]:
        """Return what a table shows, and which fields of a list of records; none: all."""
        return self.to_dict(), ()

    def _repr_html_(self) -> str:
        """Return a table for a notebook."""
        from openrouter_keys._records.tables import html  # noqa: PLC0415 - for notebooks alone

        return html(*self._shown())

    def __rich__(self) -> object:
        """Return a table for rich."""
        from openrouter_keys._records.tables import terminal  # noqa: PLC0415 - for rich alone

        return terminal(*self._shown())

    @classmethod
    def __get_pydantic_core_schema__(
        cls, _: object, handler: "GetCoreSchemaHandler"
    ) -> "CoreSchema":
        """Return how pydantic reads and writes the record, without its secrets."""
        from openrouter_keys._records.schemas import core_schema_of  # noqa: PLC0415 - for pydantic

        record = cast("type[AttrsInstance]", cls)
        read = None if has_secret(cls) else cls.from_dict
        return core_schema_of(record, handler, read, cls.to_dict)
