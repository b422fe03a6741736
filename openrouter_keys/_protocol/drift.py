"""Compares a key with the request for it. Pure."""

import math
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from operator import attrgetter

from openrouter_keys._base.identifiers import canonical
from openrouter_keys._base.unset import UNSET
from openrouter_keys.models import CreateKeysRequest, External, Key, UpdateKeysRequest

_OF_BOTH = ("name", "limit", "limit_reset", "include_byok_in_limit", "workspace_id")
_OF_CREATE = (*_OF_BOTH, "expires_at", "creator_user_id", "external")
_OF_UPDATE = (*_OF_BOTH, "disabled")
_VALUES: dict[tuple[str, ...], Callable[[object], Sequence[object]]] = {
    fields: attrgetter(*fields) for fields in (_OF_CREATE, _OF_UPDATE)
}
# The fields in which a request's null is a value; elsewhere, None leaves the field out.
_NULLS = {"limit", "limit_reset", "expires_at"}
# The fields in which a record's null may mean that the service does not show the value.
_MAY_BE_HIDDEN = {"workspace_id", "external_user"}
# The service changes a time by some seconds: 18:40:10 came back as 18:40:08.
_CHANGED = timedelta(seconds=120)
_CENT = 0.01


def disagreements(asked: CreateKeysRequest, key: Key) -> tuple[str, ...]:
    """Return the fields in which a key differs from its request.

    A field that the request leaves out, or that the record does not show, cannot differ.

    Args:
        asked: the create's body.
        key: the record that the service shows.
    """
    return _differing(_OF_CREATE, asked, key)


def mismatches(asked: CreateKeysRequest, made: Key) -> tuple[str, ...]:
    """Return the fields in which a new key differs from its request, or that make it useless.

    Args:
        asked: the create's body.
        made: the record in the create's answer.
    """
    found = disagreements(asked, made)
    if made.disabled:
        found += ("disabled",)
    if asked.expires_at is UNSET and _is_over(made):
        found += ("expires_at",)
    return found


def unchanged(hash: str, asked: UpdateKeysRequest, key: Key) -> str | None:
    """Return why an update counts as not done; None: the key's record shows the change.

    Args:
        hash: the key to change.
        asked: the update's body.
        key: the record in the answer.
    """
    if canonical(key.hash) != canonical(hash):
        return f"the update of the key {hash} was answered with another key"
    for name in _differing(_OF_UPDATE, asked, key):
        return f"the service says that the key {hash} was updated, and shows no change of {name}"
    return None


def is_amount(asked: float, shown: float) -> bool:
    """Whether a limit is the one that was asked for, which the service may have rounded.

    Less than a cent is rounding, unless whole cents were asked for: they need none.
    """
    if math.isclose(asked, shown, rel_tol=1e-9):
        return True
    return round(asked, 2) != asked and round(abs(asked - shown), 9) < _CENT


def _is_over(made: Key) -> bool:
    return isinstance(made.expires_at, datetime) and made.expires_at <= made.created_at


def _differing(
    fields: tuple[str, ...], asked: CreateKeysRequest | UpdateKeysRequest, key: Key
) -> tuple[str, ...]:
    values = _VALUES[fields](asked)
    return tuple(
        [
            name
            for name, value in zip(fields, values, strict=True)
            if value is not UNSET
            and (value is not None or name in _NULLS)
            and not _agrees(name, value, key)
        ]
    )


def _agrees(name: str, asked: object, key: Key) -> bool:
    if isinstance(asked, External):
        name, asked = "external_user", asked.user
    shown: object = getattr(key, name)
    if asked == shown or shown is UNSET or (shown is None and name in _MAY_BE_HIDDEN):
        return True
    if isinstance(asked, datetime) and isinstance(shown, datetime):
        return abs(asked - shown) <= _CHANGED
    if isinstance(asked, int | float) and isinstance(shown, int | float):
        return is_amount(asked, shown)
    return name == "workspace_id" and canonical(str(asked)) == canonical(str(shown))
