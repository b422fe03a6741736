"""Checks request bodies and queries as the service does; a wrong one is a 400. Pure."""

import re
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from hashlib import sha256
from typing import Final, TypeAlias, cast
from uuid import UUID

from attrs import frozen

from openrouter_keys.emulator.refusals import Refusal
from openrouter_keys.emulator.times import PERIODS

Check: TypeAlias = Callable[[str, object], object]

# UTC with seconds: other zones and minute precision are refused.
_TIMESTAMP: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", re.ASCII)
_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_OFFSET: Final = re.compile(r"[0-9]{1,18}")  # Python cannot count more items
_LONGEST_USER: Final = 512
# White space of JavaScript, and so of \s in a JSON schema: neither U+0085 nor U+001C to U+001F.
_WHITE: Final = "\t\n\v\f\r \u00a0\u1680\u2028\u2029\u202f\u205f\u3000\ufeff" + "".join(
    map(chr, range(0x2000, 0x200B))
)
_SHORTEST_KEY: Final = 32


def _invalid(field: str, expected: str) -> Refusal:
    return Refusal(400, f"{field}: expected {expected}")


def _text(field: str, value: object) -> str:
    if not isinstance(value, str) or not value:
        raise _invalid(field, "a string of at least 1 character")
    return value


def _boolean(field: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise _invalid(field, "a boolean")
    return value


def _amount(field: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _invalid(field, "a number")
    if not 0 <= value <= sys.float_info.max:  # NaN is in no range
        raise _invalid(field, "a finite number of at least 0")
    return value


def _interval(field: str, value: object) -> str:
    if not isinstance(value, str) or value not in PERIODS:
        raise _invalid(field, "daily, weekly or monthly")
    return value


def _timestamp(field: str, value: object) -> datetime:
    try:
        if isinstance(value, str) and _TIMESTAMP.fullmatch(value):
            return datetime.fromisoformat(value).astimezone(UTC)
    except ValueError:  # such as 30 February
        pass
    raise _invalid(field, "an ISO 8601 timestamp in UTC, such as 2027-12-31T23:59:59Z")


def _uuid(field: str, value: object) -> str:
    if not isinstance(value, str) or not _UUID.fullmatch(value):
        raise _invalid(field, "a UUID")
    return str(UUID(value))


def _user(field: str, value: object) -> str:
    user = _text(field, value)
    if len(user) > _LONGEST_USER or "\0" in user or user != user.strip(_WHITE):
        raise _invalid(field, "1 to 512 characters, no NUL, no outer white space")
    return user


def _hashed_key(field: str, value: object) -> str:
    if not isinstance(value, str) or len(value) < _SHORTEST_KEY:
        raise _invalid(field, "a string of at least 32 characters")
    # Half of a surrogate pair is valid JSON but has no UTF-8.
    return sha256(value.encode(errors="surrogatepass")).hexdigest()


def _nullable(check: Check) -> Check:
    return lambda field, value: None if value is None else check(field, value)


_BOTH: Final[dict[str, Check]] = {
    "name": _text,
    "limit": _nullable(_amount),
    "limit_reset": _nullable(_interval),
    "include_byok_in_limit": _boolean,
    "workspace_id": _uuid,
}
_CREATE: Final = {
    **_BOTH,
    "expires_at": _nullable(_timestamp),
    "creator_user_id": _nullable(_text),
}
_UPDATE: Final = {**_BOTH, "disabled": _boolean}
_EXTERNAL: Final[dict[str, tuple[str, Check]]] = {
    "user": ("external_user", _user),
    "api_key": ("external_key_hash", _hashed_key),
}


def _object(field: str, value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        raise _invalid(field, "a JSON object")
    return cast("dict[str, object]", value)


def _required(fields: Mapping[str, object], field: str) -> None:
    if field not in fields:
        raise Refusal(400, f"{field}: required")


def _checked(fields: Mapping[str, object], checks: Mapping[str, Check]) -> dict[str, object]:
    return {name: check(name, fields[name]) for name, check in checks.items() if name in fields}


def _external(value: object) -> dict[str, object]:
    fields = _object("external", value)
    _required(fields, "user")
    return {
        attribute: check(f"external.{name}", fields[name])
        for name, (attribute, check) in _EXTERNAL.items()
        if name in fields
    }


def creation(body: object) -> dict[str, object]:
    """Return the attributes that a create body sets on the new key.

    Raises:
        Refusal: 400, the service would refuse this body.
    """
    fields = _object("body", body)
    _required(fields, "name")
    attributes = _checked(fields, _CREATE)
    return attributes | (_external(fields["external"]) if "external" in fields else {})


def changes(body: object) -> dict[str, object]:
    """Return the attributes that an update body changes.

    Raises:
        Refusal: 400, the service would refuse this body.
    """
    attributes = _checked(_object("body", body), _UPDATE)
    if not attributes:
        raise Refusal(400, "No update fields provided")
    return attributes


@frozen(kw_only=True)
class ListQuery:
    """The parsed query of a list request."""

    include_disabled: bool
    include_expired: bool
    offset: int
    workspace_id: str | None


def list_query(query: Mapping[str, str]) -> ListQuery:
    """Parse a list request's query.

    Raises:
        Refusal: 400, the service would refuse this query.
    """
    return ListQuery(
        include_disabled=_flag(query, "include_disabled"),
        include_expired=_flag(query, "include_expired"),
        offset=_offset(query),
        workspace_id=query.get("workspace_id"),
    )


def _flag(query: Mapping[str, str], name: str) -> bool:
    value = query.get(name, "false")
    if value not in {"true", "false"}:
        raise _invalid(name, "true or false")
    return value == "true"


def _offset(query: Mapping[str, str]) -> int:
    value = query.get("offset", "0")
    if not _OFFSET.fullmatch(value):
        raise _invalid("offset", "an integer of at least 0")
    return int(value)
