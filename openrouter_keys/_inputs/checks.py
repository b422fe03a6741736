"""Validators of arguments: each raises an error that names the argument, and shows no secret.

They are attrs validators (`field(validator=…)`); any object with a `name` serves as the attribute.
"""

import math
import re
import sys
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from inspect import iscoroutinefunction
from numbers import Integral, Rational, Real
from typing import Any, Final, NoReturn, Protocol, SupportsFloat, TypeAlias
from urllib.parse import SplitResult, urlsplit

from attrs import frozen

from openrouter_keys._base.masking import scrub
from openrouter_keys._base.unset import UNSET, OptionalNullable, left_out
from openrouter_keys.errors import InvalidArgumentError
from openrouter_keys.events import OnEvent, Telemetry

_NUMBERS = (int, float)
_MOST = sys.float_info.max
LIMIT_RESETS = ("daily", "weekly", "monthly")
EXTERNAL_USER_MAX = 512
EXTERNAL_API_KEY_MIN = 32

# RFC 3986's unreserved characters: a hash made of them is one path segment as it stands.
_SEGMENT = re.compile(r"[A-Za-z0-9._~-]+")
# Enough digits for any list, and few enough for int().
_DECIMAL = re.compile(r"[0-9]{1,18}")
# RFC 9110: a field value holds no control characters but tabs; a name is a token.
# Half a surrogate pair is no character, and cannot be sent.
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f\ud800-\udfff]")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


class Named(Protocol):
    """Anything with the argument's name, such as an attrs attribute."""

    @property
    def name(self) -> str:
        """The argument's name."""
        ...


# attrs' own type for a validator's instance and value.
Check: TypeAlias = Callable[[Any, Named, Any], None]


def refuse(argument: str, message: str) -> NoReturn:
    """Raise the error for an argument."""
    raise InvalidArgumentError(scrub(message), argument)


def given(check: Check) -> Check:
    """Return a check that None and UNSET pass."""

    def check_given(instance: object, attribute: Named, value: object) -> None:
        if value is not None and value is not UNSET:
            check(instance, attribute, value)

    return check_given


def text(_: object, attribute: Named, value: Any) -> None:
    """A string of at least one character."""
    if not isinstance(value, str):
        refuse(attribute.name, f"must be a string, not {_kind(value)}")
    if not value:
        refuse(attribute.name, "must have at least 1 character")


def flag(_: object, attribute: Named, value: Any) -> None:
    """A `bool`, and not a number."""
    if not isinstance(value, bool):
        refuse(attribute.name, f"must be True or False, not {_kind(value)}")


def limit_reset(_: object, attribute: Named, value: Any) -> None:
    """One of the resets that the service knows."""
    if value not in LIMIT_RESETS:
        known = ", ".join(repr(reset) for reset in LIMIT_RESETS)
        refuse(attribute.name, f"must be one of {known} or None (never resets), not {value!r}")


def aware(_: object, attribute: Named, value: Any) -> None:
    """A time with a zone."""
    if not isinstance(value, datetime):
        refuse(attribute.name, f"must be a datetime (see parse_datetime), not {_kind(value)}")
    if value.utcoffset() is None:
        refuse(attribute.name, f"must have a time zone (tzinfo=UTC, say): {value} is naive")
    try:
        value.astimezone(UTC)
    except OverflowError:
        refuse(attribute.name, f"must be a time that UTC can express, not {value}")


def external_user(_: object, attribute: Named, value: Any) -> None:
    """The partner's name for its user."""
    if not isinstance(value, str) or not 1 <= len(value) <= EXTERNAL_USER_MAX:
        refuse(_external(attribute), f"must be a string of 1 to {EXTERNAL_USER_MAX} characters")
    if "\0" in value or value != value.strip():
        refuse(_external(attribute), "must have no NUL and no white space around it")


def external_api_key(_: object, attribute: Named, value: Any) -> None:
    """The partner's own key."""
    if not isinstance(value, str) or len(value) < EXTERNAL_API_KEY_MIN:
        refuse(
            _external(attribute), f"must be a string of at least {EXTERNAL_API_KEY_MIN} characters"
        )


def at_least(least: float) -> Check:
    """A finite number from `least` up."""

    def check_least(_: object, attribute: Named, value: Any) -> None:
        if isinstance(value, bool) or not isinstance(value, _NUMBERS):
            refuse(attribute.name, f"must be a number, not {_kind(value)}")
        if not least <= value <= _MOST:
            number = _float(value)
            refuse(attribute.name, f"must be a finite number of at least {least:g}, not {number}")

    return check_least


#: A finite number that is not negative: NaN would be sent as null, which means no limit.
amount: Final = at_least(0)


def plain_number(argument: str, value: OptionalNullable[SupportsFloat]) -> OptionalNullable[float]:
    """Return a number of any kind, such as a Decimal or one of numpy's, as an `int` or a `float`.

    None, UNSET and what is no number are returned as they are.

    Raises:
        InvalidArgumentError: a float cannot express it exactly.
    """
    if value is None or value is UNSET or type(value) is int or type(value) is float:
        return value  # the classes below take ten times as long to ask
    number: Any = value
    if isinstance(number, bool) or not isinstance(number, Real | Decimal):
        return number
    if isinstance(number, Integral):
        return int(number)
    found = _float(number)
    if math.isfinite(found) and not _is_exactly(number, found):
        refuse(argument, "has more digits than JSON keeps: round it, such as to cents")
    return found


def _is_exactly(number: Any, found: float) -> bool:
    """Whether a float, as JSON writes it, is a number."""
    if isinstance(number, Decimal):
        return Decimal(repr(found)) == number
    return bool((Fraction(repr(found)) if isinstance(number, Rational) else found) == number)


def key_hash(hash: object) -> str:
    """Return a hash that is safe in a path: `../credits` must not reach another route."""
    if not isinstance(hash, str):
        refuse("hash", f"must be a string, not {_kind(hash)}")
    if hash.startswith("sk-or-"):
        refuse(
            "hash", "must be a key's hash: not its label, nor its secret, but the secret's SHA-256"
        )
    if hash in ("", ".", "..") or not _SEGMENT.fullmatch(hash):
        refuse("hash", f"must be a key's hash, one path segment, not {hash!r}")
    return hash


def nonempty(argument: str, value: object) -> str:
    """Return a string of at least one character."""
    text(None, _Name(argument), value)
    return str(value)


def ref(value: object, argument: str = "ref") -> str:
    """Return a caller's own id for a key."""
    found = nonempty(argument, value)
    try:
        found.encode()
    except UnicodeEncodeError:
        refuse(argument, "holds half a surrogate pair, which no journal can store")
    return found


def offset(value: object) -> int:
    """Return how many keys to skip; the older SDK's decimal strings count too."""
    number = int(value) if isinstance(value, str) and _DECIMAL.fullmatch(value) else value
    if isinstance(number, bool) or not isinstance(number, int) or number < 0:
        refuse("offset", f"must be an integer of at least 0, not {value!r}")
    return number


def switch(argument: str, value: object) -> str:
    """Return `true` or `false` as the query has it; the older SDK's strings count too."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if value not in ("true", "false"):
        refuse(argument, f'must be True, False, "true" or "false", not {value!r}')
    return str(value)


def server_url(argument: str, value: object) -> str:
    """Return a base URL without the slash at its end."""
    if not isinstance(value, str):
        refuse(argument, f"must be a string, not {_kind(value)}")
    # Not in an `except`: what `urlsplit` says of a URL may show a password that stands in it.
    parts = _split(value)
    if parts is None:
        refuse(argument, "is not a URL")
    usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    # Looked for in the text: an empty query leaves no trace in the parts, nor does a tab.
    if not usable or not value.isprintable() or not {" ", "?", "#"}.isdisjoint(value):
        refuse(argument, "must be http(s)://host[:port][/path], without a query or a fragment")
    if parts.username is not None or parts.password is not None:
        refuse(argument, "must hold no credentials: give the key as api_key")
    return value.rstrip("/")


def _split(url: str) -> SplitResult | None:
    with suppress(ValueError):
        parts = urlsplit(url)
        _ = parts.port  # is read, and refused, only when asked for
        return parts
    return None


def listener(argument: str, value: OnEvent | None) -> OnEvent | None:
    """Return a function that is called and not awaited; None: there is none."""
    value = left_out(value)
    if value is not None and not callable(value):
        refuse(argument, f"must be a function or None, not {_kind(value)}")
    if iscoroutinefunction(value) or iscoroutinefunction(getattr(value, "__call__", None)):  # noqa: B004
        refuse(argument, "must be a plain function: it is called, and not awaited")
    return value


def telemetry(argument: str, value: Telemetry | None) -> Telemetry | None:
    """Return what observes calls; None: nothing does."""
    value = left_out(value)
    methods = (getattr(value, name, None) for name in ("operation", "event"))
    if value is not None and (isinstance(value, type) or not all(map(callable, methods))):
        known = "OpenTelemetry() of openrouter_keys.otel"
        refuse(argument, f"must have the methods operation and event, as {known} has")
    return value


def on_unknown(value: object) -> None:
    """Refuse what is no way to treat a create without an answer."""
    if value not in ("raise", "reconcile"):
        refuse("on_unknown", f'must be "raise" or "reconcile", not {value!r}')


def count(argument: str, value: object) -> int:
    """Return an integer of at least 1."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        refuse(argument, f"must be an integer of at least 1, not {value!r}")
    return value


def seconds(argument: str, value: float) -> float:
    """Return a number of seconds, at least 0."""
    amount(None, _Name(argument), value)
    return value


def aware_time(argument: str, value: datetime) -> datetime:
    """Return a time that has a zone."""
    aware(None, _Name(argument), value)
    return value


def timeout_ms(argument: str, value: object) -> float:
    """Return a time in milliseconds as seconds."""
    amount(None, _Name(argument), value)
    if not value:
        refuse(argument, "must be more than 0 milliseconds")
    return float(str(value)) / 1000


def header(argument: str, name: object, value: object) -> None:
    """Refuse a header that cannot be sent, or that would inject another one."""
    if not isinstance(name, str) or not _TOKEN.fullmatch(name):
        refuse(argument, f"{name!r} is not a header name")
    if not isinstance(value, str) or _CONTROL.search(value):
        refuse(argument, f"the value of {name} must be a string without control characters")


@frozen
class _Name:
    name: str


def api_key_problem(key: object) -> str | None:
    """Return what is wrong with a key, without showing it; None: nothing."""
    if not isinstance(key, str):
        return f"is not a string but {_kind(key)}"
    if not key:
        return "is empty"
    if key[0] == key[-1] and key[0] in "\"'":
        return "is wrapped in quotes"
    if not key.isascii() or not key.isprintable() or " " in key:
        return "contains white space, or characters that a header cannot"
    return None


def _external(attribute: Named) -> str:
    return f"external.{attribute.name}"


def _float(number: Any) -> float:
    try:
        return float(number)
    except OverflowError:  # beyond every float
        return math.inf if number > 0 else -math.inf
    except ValueError:  # a Decimal's signalling NaN
        return math.nan


def _kind(value: object) -> str:
    return "None" if value is None else type(value).__name__
