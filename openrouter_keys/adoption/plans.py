"""What a key that is adopted counts as asked for: what it is now, in the words of a spec. Pure."""

from attrs import evolve

from openrouter_keys._base.identifiers import canonical
from openrouter_keys._base.unset import UNSET
from openrouter_keys._protocol.drift import disagreements
from openrouter_keys.journal.specs import KeySpec
from openrouter_keys.models import External, Key

# What a spec leaves out, a key has not: the service gives none of it by itself.
_GIVEN = (
    "limit", "limit_reset", "include_byok_in_limit", "expires_at", "workspace_id", "external",
)  # fmt: skip


def spec_of(ref: str, key: Key, default_workspace: str | None) -> KeySpec:
    """Return the spec that a key is as asked for by; what is the service's default is left out.

    Args:
        ref: the caller's own id for it.
        key: its record.
        default_workspace: where keys are that name no workspace. None: not known.

    Raises:
        InvalidArgumentError: no create can ask for what the record shows.
    """
    home = key.workspace_id if isinstance(key.workspace_id, str) else None
    is_default = home and default_workspace and canonical(home) == canonical(default_workspace)
    fields: dict[str, object] = {
        "name": key.name,
        "limit": UNSET if key.limit is None else key.limit,
        "limit_reset": UNSET if key.limit_reset is None else key.limit_reset,
        "include_byok_in_limit": key.include_byok_in_limit or None,
        "expires_at": UNSET if key.expires_at is None else key.expires_at,
        "workspace_id": None if is_default else home,
        "external": External(key.external_user) if isinstance(key.external_user, str) else None,
    }
    return KeySpec(ref=ref, **fields)  # type: ignore[arg-type]  # checked by the record itself


def as_it_is(asked: KeySpec, key: Key, default_workspace: str | None) -> KeySpec:
    """Return a spec with what a key is in place of what it is not.

    Args:
        asked: the caller's.
        key: the key's record.
        default_workspace: as above.

    Raises:
        InvalidArgumentError: as above.
    """
    own = spec_of(asked.ref, key, default_workspace)
    differing = {*disagreements(asked.request(), key)}
    differing |= {
        name
        for name in _GIVEN
        if getattr(asked, name) in (None, UNSET) and getattr(own, name) not in (None, UNSET)
    }
    if "creator_user_id" in differing:  # a spec that leaves it out means whoever made the key
        own = evolve(own, creator_user_id=key.creator_user_id)
    is_disabled = asked.disabled and key.disabled
    return evolve(asked, disabled=is_disabled, **{name: getattr(own, name) for name in differing})
