"""What bulk provisioning is asked to make: a create and the caller's own id for it. No I/O."""

import json
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from functools import cached_property
from typing import cast

from attrs import Attribute, Factory, evolve, field, fields_dict, frozen

from openrouter_keys._base.masking import hash_of
from openrouter_keys._base.unset import UNSET, OptionalNullable
from openrouter_keys._inputs import checks
from openrouter_keys._inputs.arguments import hides_fields
from openrouter_keys.converter import unstructure
from openrouter_keys.errors import JSON
from openrouter_keys.models import (
    CreateKeysRequest,
    External,
    LimitReset,
    external_of,
    limit_of,
)

_FIELDS = tuple(fields_dict(CreateKeysRequest))
#: The same plan must come out as the same text, today and in the next version.
canonical_plan: Callable[[object], str] = json.JSONEncoder(
    sort_keys=True, allow_nan=False, separators=(",", ":")
).encode


def _ref(_: object, attribute: "Attribute[str]", value: object) -> None:
    checks.ref(value, attribute.name)


def _request_of(spec: "KeySpec") -> CreateKeysRequest:
    return CreateKeysRequest(**{name: getattr(spec, name) for name in _FIELDS})


@hides_fields
@frozen(kw_only=True)
class KeySpec:
    """A key to be made, once.

    Args:
        ref: the caller's own id for it, unique in the journal: a customer's number, say.
        name: the key's name, at least 1 character.
        limit: US dollars, a number of any kind, such as a Decimal or one of numpy's; it becomes an
            `int` or a `float`. UNSET: the service's default; None: no limit.
        limit_reset: `daily`, `weekly` or `monthly`, at midnight UTC. UNSET: the service's default;
            None: never.
        include_byok_in_limit: whether spending on the user's own provider keys counts. None: the
            service's default.
        expires_at: an aware time. UNSET, None: never.
        creator_user_id: for organization-owned keys. UNSET, None: the key's own.
        workspace_id: None: the default workspace.
        external: a partner's identity for the key; its `api_key` is never in a journal. None: none.
        disabled: whether the key is to be disabled: only `apply` does that.
    """

    ref: str = field(validator=_ref)
    name: str
    limit: OptionalNullable[float] = field(default=UNSET, converter=limit_of)
    limit_reset: OptionalNullable[LimitReset] = UNSET
    include_byok_in_limit: bool | None = None
    expires_at: OptionalNullable[datetime] = UNSET
    creator_user_id: OptionalNullable[str] = UNSET
    workspace_id: str | None = None
    external: External | None = field(default=None, converter=external_of)
    disabled: bool = field(default=False, validator=checks.flag)
    # Made at once: it is what checks the fields.
    _request: CreateKeysRequest = field(
        init=False, repr=False, eq=False, default=Factory(_request_of, takes_self=True)
    )

    def request(self) -> CreateKeysRequest:
        """Return the body of the create."""
        return self._request

    @cached_property
    def plan(self) -> str:
        """What is asked for, but the ref, as canonical JSON; `external.api_key` as its SHA-256."""
        external = self.external
        shown = self._request if external is None else evolve(self._request, external=None)
        plain = cast("dict[str, JSON]", unstructure(shown))
        if isinstance(limit := plain.get("limit"), int | float):
            plain["limit"] = limit + 0.0  # 50 and 50.0 are the same plan, as 0.0 and -0.0 are
        if external is not None:
            plain["external"] = {"user": external.user}
        if external is not None and external.api_key is not None:
            hashed = hash_of(external.api_key)
            plain["external"] = {"user": external.user, "api_key_sha256": hashed}
        # The plan of a key that works is the text that it was before there was this field.
        return canonical_plan({**plain, "disabled": True} if self.disabled else plain)


def changed(old: str, new: str) -> tuple[str, ...]:
    """Return the fields in which two plans differ."""
    before: dict[str, JSON] = json.loads(old)
    after: dict[str, JSON] = json.loads(new)
    missing = object()
    return tuple(
        name
        for name in sorted(before.keys() | after.keys())
        if before.get(name, missing) != after.get(name, missing)
    )


def exact(limit: float) -> Decimal:
    """Return the limit that was written, and not the nearest binary fraction, to add it up."""
    return Decimal(repr(float(limit)))
