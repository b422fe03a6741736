"""Whether a key is as it was asked for. Pure."""

import math
from collections.abc import Callable, Mapping
from datetime import timedelta

from openrouter_keys.models import CreateKeysRequest, Key
from openrouter_keys.unset import UNSET

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


def _name(asked: CreateKeysRequest, key: Key) -> bool:
    return asked.name == key.name


def _limit(asked: CreateKeysRequest, key: Key) -> bool:
    if asked.limit is None or asked.limit is UNSET or key.limit is None:
        return asked.limit is UNSET or asked.limit is key.limit
    return math.isclose(asked.limit, key.limit, rel_tol=1e-9)


def _limit_reset(asked: CreateKeysRequest, key: Key) -> bool:
    return asked.limit_reset is UNSET or asked.limit_reset == key.limit_reset


def _include_byok_in_limit(asked: CreateKeysRequest, key: Key) -> bool:
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


def _workspace_id(asked: CreateKeysRequest, key: Key) -> bool:
    if asked.workspace_id is None or key.workspace_id is None:
        return True
    return asked.workspace_id.lower() == key.workspace_id.lower()


_AGREES: Mapping[str, Callable[[CreateKeysRequest, Key], bool]] = {
    "name": _name,
    "limit": _limit,
    "limit_reset": _limit_reset,
    "include_byok_in_limit": _include_byok_in_limit,
    "expires_at": _expires_at,
    "creator_user_id": _creator_user_id,
    "external": _external,
    "workspace_id": _workspace_id,
}
