"""Records in pydantic's models, and so in FastAPI. Imported when pydantic asks for it."""

import re
from collections.abc import Callable, Mapping
from functools import cache
from inspect import cleandoc
from types import NoneType, UnionType
from typing import Annotated, Any, Final, NotRequired, Union, cast, get_args, get_origin

import attrs
from pydantic import ConfigDict, Field, GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema
from typing_extensions import TypedDict

from openrouter_keys._base.unset import Unset
from openrouter_keys._records.plain import is_secret
from openrouter_keys.errors import JSON, ResponseValidationError

# `name: what it is`, of the docstring's `Attributes:`; more lines of it are set in further.
_FIELD: Final = re.compile(r"^    (\w+): (.*(?:\n {8}.*)*)", re.MULTILINE)


def core_schema_of(
    cls: "type[attrs.AttrsInstance]",
    handler: GetCoreSchemaHandler,
    read: Callable[[Mapping[str, JSON]], object] | None,
    write: Callable[[Any], object],
) -> CoreSchema:
    """Return how pydantic reads and writes a record.

    Args:
        cls: the record's class.
        handler: makes schemas of other types.
        read: makes a record of plain values; None: only a record itself is accepted.
        write: makes plain values of a record.
    """

    def validate(value: object, _: object) -> object:
        if isinstance(value, cls):
            return value
        if read is None or not isinstance(value, Mapping):
            more = "" if read is None else ", or an object with its fields"
            raise ValueError(f"must be a {cls.__name__}{more}")
        try:
            return read(cast("Mapping[str, JSON]", value))
        except ResponseValidationError as error:
            raise ValueError(error.message) from None

    # The fields are for the JSON Schema alone; our own decoder reads them.
    return core_schema.no_info_wrap_validator_function(
        validate,
        handler.generate_schema(_fields_of(cls)),
        serialization=core_schema.plain_serializer_function_ser_schema(write),
    )


@cache
def _fields_of(cls: "type[attrs.AttrsInstance]") -> object:
    """Return the fields of a record as a typed dictionary; those that are secrets are left out."""
    doc = cleandoc(cls.__doc__ or "")
    notes = {name: " ".join(said.split()) for name, said in _FIELD.findall(doc)}
    fields: dict[str, Any] = {}
    for field in attrs.fields(cls):
        if field.name in ("extra", "http") or is_secret(field):
            continue
        kind: Any = Annotated[_sent(field), Field(description=notes.get(field.name))]
        optional = field.default is not attrs.NOTHING
        fields[field.name] = NotRequired[kind] if optional else kind
    make = cast("Callable[[str, dict[str, Any]], Any]", TypedDict)  # which checkers know only fixed
    made = make(cls.__name__, fields)
    made.__module__, made.__doc__ = cls.__module__, doc.partition("\n")[0]
    made.__pydantic_config__ = ConfigDict(extra="allow")
    return made


def _sent(field: "attrs.Attribute[Any]") -> Any:
    """Return the type that is written for a field, without our marks for what is left out."""
    ours = (Unset, NoneType) if field.default is None else (Unset,)
    kinds = [kind for kind in get_args(field.type) if kind not in ours]
    if get_origin(field.type) not in (Union, UnionType):
        return field.type
    return Union[tuple(kinds)]  # noqa: UP007 - made at run time
