"""Whether a key is as it was asked for. Pure."""

import math
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import TypeAlias

from openrouter_keys._base.identifiers import canonical
from openrouter_keys._base.unset import UNSET
from openrouter_keys.models import CreateKeysRequest, Key, UpdateKeysRequest

_Request: TypeAlias = CreateKeysRequest | UpdateKeysRequest

# The service changes a time by some seconds: 18:40:10 came back as 18:40:08.
_CHANGED = timedelta(seconds=120)


def disagreements(asked: CreateKeysRequest, key: Key) -> tuple[str, ...]:
    """Return the fields in which a key differs from what was asked for.

    What was left out, and what the answer does not tell, cannot differ.

    Args:
        asked: the create's body.
        key: the record that the service shows.
    """
    return tuple(name for name, agrees in _AGREES.items() if not agrees(asked, key))


def mismatches(asked: CreateKeysRequest, made: Key) -> tuple[str, ...]:
    """Return the fields in which a new key is not as asked for, a dead one included.

    Args:
        asked: the create's body.
        made: the record that the create was answered with.
    """
    dead = {"disabled": made.disabled, "expires_at": asked.expires_at is UNSET and _is_over(made)}
    return (*disagreements(asked, made), *(name for name, is_so in dead.items() if is_so))


def unchanged(hash: str, asked: UpdateKeysRequest, key: Key) -> str | None:
    """Return why an update cannot be taken for done; None: the key's record shows it.

    Args:
        hash: the key that was to be changed.
        asked: the update's body.
        key: the record that the service answered with.
    """
    if canonical(key.hash) != canonical(hash):
        return f"the update of the key {hash} was answered with another key"
    missed = [name for name, agrees in _CHANGED_SO.items() if not agrees(asked, key)]
    if not missed:
        return None
    return f"the service says that the key {hash} was updated, and shows no change of {missed[0]}"


def _is_over(made: Key) -> bool:
    return isinstance(made.expires_at, datetime) and made.expires_at <= made.created_at


def _name(asked: _Request, key: Key) -> bool:
    return asked.name in (None, key.name)


def _limit(asked: _Request, key: Key) -> bool:
    if asked.limit is None or asked.limit is UNSET or key.limit is None:
        return asked.limit is UNSET or asked.limit is key.limit
    return math.isclose(asked.limit, key.limit, rel_tol=1e-9)


def _limit_reset(asked: _Request, key: Key) -> bool:
    return asked.limit_reset is UNSET or asked.limit_reset == key.limit_reset


def _include_byok_in_limit(asked: _Request, key: Key) -> bool:
    return asked.include_byok_in_limit in (None, key.include_byok_in_limit)


def _expires_at(asked: CreateKeysRequest, key: Key) -> bool:
    if asked.expires_at is UNSET or key.expires_at is UNSET:
        return True
    if asked.expires_at is None or key.expires_at is None:
        return asked.expires_at is key.expires_at
    return abs(asked.expires_at - key.expires_at) <= _CHANGED


def _creator_user_id(asked: CreateKeysRequest, key: Key) -> bool:
    if asked.creator_user_id is UNSET or key.creator_user_id is UNSET:
        return True
    return asked.creator_user_id in (None, key.creator_user_id)


def _external(asked: CreateKeysRequest, key: Key) -> bool:
    if asked.external is None or not isinstance(key.external_user, str):
        return True
    return asked.external.user == key.external_user


def _workspace_id(asked: _Request, key: Key) -> bool:
    if asked.workspace_id is None or key.workspace_id is None:
        return True
    return canonical(asked.workspace_id) == canonical(key.workspace_id)


def _disabled(asked: UpdateKeysRequest, key: Key) -> bool:
    return asked.disabled in (None, key.disabled)


_BOTH: Mapping[str, Callable[[_Request, Key], bool]] = {
    "name": _name,
    "limit": _limit,
    "limit_reset": _limit_reset,
    "include_byok_in_limit": _include_byok_in_limit,
    "workspace_id": _workspace_id,
}
_CHANGED_SO: Mapping[str, Callable[[UpdateKeysRequest, Key], bool]] = {
    **_BOTH,
    "disabled": _disabled,
}
_AGREES: Mapping[str, Callable[[CreateKeysRequest, Key], bool]] = {
    **_BOTH,
    "expires_at": _expires_at,
    "creator_user_id": _creator_user_id,
    "external": _external,
}
