"""Computes a key's replacement: the same fields, and the limit that the budget leaves. Pure."""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Final, cast

from attrs import asdict

from openrouter_keys._base.masking import escaped
from openrouter_keys._base.unset import UNSET
from openrouter_keys._protocol.drift import is_amount
from openrouter_keys.converter import structure
from openrouter_keys.errors import JSON, InvalidArgumentError
from openrouter_keys.journal.rotations import RotationEntry
from openrouter_keys.journal.specs import KeySpec, canonical_plan
from openrouter_keys.models import CreateKeysRequest, External, Key
from openrouter_keys.rotation.report import Rotation, RotationState
from openrouter_keys.rotation.settings import BudgetRule, Terms

_CENT = 0.01
# What an update changes of a key, and a replacement that is planned follows.
_FOLLOWED: Final = ("name", "limit", "limit_reset", "include_byok_in_limit")

_PERIODS: Mapping[str | None, str] = {
    "daily": "_daily",
    "weekly": "_weekly",
    "monthly": "_monthly",
}


def planned(key: Key, terms: Terms, now: datetime) -> Rotation:
    """Return a key's rotation, or why it cannot be rotated.

    Args:
        key: the old key.
        terms: what its replacement has otherwise.
        now: the time of day.
    """
    spec, problem = None, _refusal(key, terms, now)
    if problem is None:
        try:
            spec = _spec(key, terms)
        except InvalidArgumentError as error:
            problem = f"no replacement of it can be asked for: {error}"
    return Rotation(
        hash=key.hash,
        name=key.name,
        limit=key.limit,
        spent=spent(key),
        spec=spec,
        twin=None,
        state=RotationState.REFUSED if spec is None else RotationState.PLANNED,
        problem=problem,
        created_at=key.created_at,
    )


def refused(hash: str, problem: str) -> Rotation:
    """Return the rotation of a key whose record could not be read."""
    return Rotation(
        hash=hash,
        name=None,
        limit=None,
        spent=0.0,
        spec=None,
        twin=None,
        state=RotationState.REFUSED,
        problem=problem,
    )


def _refusal(key: Key, terms: Terms, now: datetime) -> str | None:
    if key.disabled:
        return "is disabled: enable it first, if it is to have a replacement that works"
    expires_at = key.expires_at if terms.expires_at is UNSET else terms.expires_at
    if isinstance(expires_at, datetime) and expires_at <= now:
        return "has expired: a replacement would have expired too; give it another expires_at"
    if key.workspace_id is None:
        return "shows no workspace: its replacement might be made in another one"
    return None


def _spec(key: Key, terms: Terms) -> KeySpec:
    reset: object = key.limit_reset
    fields: dict[str, object] = {
        "ref": key.hash,
        "name": key.name,
        "limit": _limit(key, terms.budget) if terms.limit is UNSET else terms.limit,
        "limit_reset": reset,
        "include_byok_in_limit": key.include_byok_in_limit,
        "expires_at": key.expires_at if terms.expires_at is UNSET else terms.expires_at,
        # A null means the same as no value, and only organizations may send one.
        "creator_user_id": UNSET if key.creator_user_id is None else key.creator_user_id,
        "workspace_id": key.workspace_id,
        "external": External(key.external_user) if isinstance(key.external_user, str) else None,
    }
    return KeySpec(**fields)  # type: ignore[arg-type]  # checked by the record itself


def _limit(key: Key, budget: BudgetRule) -> float | None:
    # The service renews a limit that resets.
    return key.limit if budget == "full" or key.limit_reset is not None else left(key)


def left(key: Key) -> float | None:
    """Return what a key may still spend, in US dollars; None: it has no limit."""
    if key.limit is None:
        return None
    reckoned = key.limit - spent(key)
    # No replacement may spend more than its key could, whatever `limit_remaining` is.
    shown = reckoned if key.limit_remaining is None else min(key.limit_remaining, reckoned)
    return max(shown, 0.0)


def contradiction(key: Key) -> str | None:
    """Return a warning if a key's record shows more left than its limit and usage leave."""
    if key.limit is None or key.limit_remaining is None:
        return None
    if key.limit_remaining - (key.limit - spent(key)) <= _CENT:
        return None
    return (
        f"the key {escaped(key.hash)} has ${key.limit_remaining:,.2f} left, says the service, of "
        f"a limit of ${key.limit:,.2f} of which ${spent(key):,.2f} are spent: the lower is taken"
    )


def spent(key: Key) -> float:
    """Return what a key has spent of its limit, in US dollars: in this period, if that resets."""
    period = _PERIODS.get(key.limit_reset, "")
    own: float = getattr(key, f"usage{period}")
    byok: float = getattr(key, f"byok_usage{period}") if key.include_byok_in_limit else 0.0
    return own + byok


def lowered(entry: RotationEntry, old: Key, twin: Key) -> float | None:
    """Return a replacement's new limit, if the old key has spent more since it was planned.

    Args:
        entry: the plan.
        old: the old key, which is disabled.
        twin: the replacement.

    Returns:
        US dollars. None: the limit stays unchanged.
    """
    given, rest = stored_spec(entry.hash, entry.plan).limit, left(old)
    if entry.budget != "remaining" or old.limit_reset is not None or rest is None:
        return None
    if given is None or given is UNSET or twin.limit is None or twin.limit_reset is not None:
        return None
    return rest if is_amount(given, twin.limit) and rest < given else None


def replanned(entry: RotationEntry, fields: Mapping[str, JSON]) -> tuple[str, float | None] | None:
    """Return a replacement's plan, and its old key's limit, for an update of the old key.

    What the old key spends after the first plan is subtracted when it is retired, as ever.

    Args:
        entry: the plan.
        fields: what the update changes.

    Returns:
        None: as before.
    """
    if entry.budget not in ("remaining", "full"):
        return None  # `apply` makes it, as its own spec says
    old = json.loads(entry.plan)
    limit = cast("float | None", fields.get("limit", entry.limit))
    plan = {**old, **{name: fields[name] for name in _FOLLOWED if name in fields}}
    if entry.budget == "full" and old["limit"] != entry.limit:
        plan["limit"] = old["limit"]  # it was given for the replacement alone
    elif entry.budget == "full" or limit is None or plan["limit_reset"] is not None:
        plan["limit"] = limit
    else:
        plan["limit"] = max(limit - entry.spent, 0.0)
    return stored_spec(entry.hash, canonical_plan(plan)).plan, limit


def stored_spec(hash: str, plan: str) -> KeySpec:
    """Return the spec of a journal's plan; its own `plan` is the same text."""
    request = structure(json.loads(plan), CreateKeysRequest)
    return KeySpec(ref=hash, **asdict(request, recurse=False))
