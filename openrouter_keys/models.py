"""The records of the API: requests and answers. No I/O, no JSON.

An optional field's default says *left out*: None where the service does not take null, UNSET where
it does. On a record that came from the service, a field
with a default is one that may be absent: added over time, or deprecated.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal, NoReturn, NotRequired, Self, SupportsFloat, TypeAlias, TypedDict

from attrs import Attribute, field, fields_dict, frozen

from openrouter_keys._base.masking import mask
from openrouter_keys._base.unset import UNSET, OptionalNullable, Unset
from openrouter_keys._inputs import checks
from openrouter_keys._inputs.arguments import hides_fields
from openrouter_keys.errors import JSON, InvalidArgumentError

LimitReset: TypeAlias = Literal["daily", "weekly", "monthly"]
CreateKeysLimitReset: TypeAlias = LimitReset
UpdateKeysLimitReset: TypeAlias = LimitReset


class HoldsSecret:
    """A record that can be copied, but not pickled."""

    __slots__ = ()

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, object]) -> Self:
        return self

    def __reduce__(self) -> NoReturn:
        message = (
            f"a {type(self).__name__} contains a secret and is never pickled: take it out first"
        )
        raise TypeError(message)


# --- what is sent ---


class ExternalTypedDict(TypedDict):
    """`External` as a plain dictionary."""

    user: str
    api_key: NotRequired[str]


@hides_fields
@frozen
class External(HoldsSecret):
    """A partner's identity for a key.

    Args:
        user: the partner's name for its end user: 1 to 512 characters, no NUL, no outer white
            space.
        api_key: the partner's own key, at least 32 characters; the service stores its hash and
            never returns it. None: left out.
    """

    user: str = field(validator=checks.external_user)
    api_key: str | None = field(
        default=None, validator=checks.given(checks.external_api_key), repr=mask
    )


def _text(value: str | Unset | None) -> str | None:
    return None if value is UNSET else value


def _flag(value: bool | Unset | None) -> bool | None:
    return None if value is UNSET else value


def limit_of(value: OptionalNullable[SupportsFloat]) -> OptionalNullable[float]:
    """Return a caller's `limit`, a number of any kind, as one that JSON has."""
    return checks.plain_number("limit", value)


def external_of(value: External | ExternalTypedDict | Unset | None) -> External | None:
    """Return a caller's `external` as a record that masks its key."""
    given: object = value  # what a caller without a type checker passes in
    if given is None or given is UNSET or isinstance(given, External):
        return given if isinstance(given, External) else None
    try:
        if not isinstance(given, dict) or not {"user"} <= given.keys() <= {"user", "api_key"}:
            checks.refuse(
                "external", "must be an External, or a dict of `user` and maybe `api_key`"
            )
        return External(**given)
    except InvalidArgumentError as error:
        refused = error.with_traceback(None)  # its frames hold the key
    finally:
        del value, given  # crash reporters send local variables home
    raise refused


@hides_fields
@frozen(kw_only=True)
class CreateKeysRequest:
    """The body of a create; its fields are the arguments of `AsyncAPIKeys.create`."""

    name: str = field(validator=checks.text)
    limit: OptionalNullable[float] = field(
        default=UNSET, converter=limit_of, validator=checks.given(checks.amount)
    )
    limit_reset: OptionalNullable[LimitReset] = field(
        default=UNSET, validator=checks.given(checks.limit_reset)
    )
    include_byok_in_limit: bool | None = field(
        default=None, converter=_flag, validator=checks.given(checks.flag)
    )
    expires_at: OptionalNullable[datetime] = field(
        default=UNSET, validator=checks.given(checks.aware)
    )
    creator_user_id: OptionalNullable[str] = field(
        default=UNSET, validator=checks.given(checks.text)
    )
    workspace_id: str | None = field(
        default=None, converter=_text, validator=checks.given(checks.text)
    )
    external: External | None = field(default=None, converter=external_of)


@hides_fields
@frozen(kw_only=True)
class UpdateKeysRequest:
    """The body of an update; its fields are the arguments of `AsyncAPIKeys.update`."""

    name: str | None = field(default=None, converter=_text, validator=checks.given(checks.text))
    disabled: bool | None = field(
        default=None, converter=_flag, validator=checks.given(checks.flag)
    )
    limit: OptionalNullable[float] = field(
        default=UNSET, converter=limit_of, validator=checks.given(checks.amount)
    )
    limit_reset: OptionalNullable[LimitReset] = field(
        default=UNSET, validator=checks.given(checks.limit_reset)
    )
    include_byok_in_limit: bool | None = field(
        default=None, converter=_flag, validator=checks.given(checks.flag)
    )
    workspace_id: str | None = field(
        default=None, converter=_text, validator=checks.given(checks.text)
    )

    def __attrs_post_init__(self) -> None:
        # The service answers 400 `No update fields provided`.
        if all(
            getattr(self, name) is known.default
            for name, known in fields_dict(UpdateKeysRequest).items()
        ):
            checks.refuse(
                "update",
                "nothing to update: give at least one of name, disabled, limit, limit_reset, "
                "include_byok_in_limit and workspace_id",
            )


# --- what comes back ---


def _nothing() -> dict[str, JSON]:
    return {}  # a fifth of what `dict[str, JSON]()` takes, a hundred times a page


def _no_headers() -> dict[str, str]:
    return {}


def _own_first(cls: type, fields: "list[Attribute[Any]]") -> "list[Attribute[Any]]":
    """Order fields so that a `repr` begins with what is a record's own."""
    return sorted(fields, key=lambda field: field.name not in cls.__annotations__)


@frozen(kw_only=True)
class _Usage:
    """The money that a key has spent, in US dollars."""

    usage: float
    usage_daily: float
    usage_weekly: float
    usage_monthly: float
    byok_usage: float
    byok_usage_daily: float
    byok_usage_weekly: float
    byok_usage_monthly: float


@frozen(kw_only=True, field_transformer=_own_first)
class Key(_Usage):
    """An API key, without its secret.

    Money is in US dollars, times are aware and in UTC. `limit` None: no limit. `limit_reset` None:
    never; else `daily`, `weekly`, `monthly`, or a value that the service adds later. Fields that
    the answer lacks are None (`workspace_id`) or UNSET (those that can be null). `extra` has the
    fields that this version does not know, or cannot read.
    """

    hash: str
    name: str
    label: str
    disabled: bool
    include_byok_in_limit: bool
    limit: float | None
    limit_remaining: float | None
    limit_reset: str | None
    created_at: datetime
    updated_at: datetime | None
    expires_at: OptionalNullable[datetime] = UNSET
    creator_user_id: OptionalNullable[str] = UNSET
    workspace_id: str | None = None
    external_user: OptionalNullable[str] = UNSET
    last_used_at: OptionalNullable[datetime] = UNSET
    extra: Mapping[str, JSON] = field(factory=_nothing, repr=False, hash=False)


@frozen(kw_only=True)
class RateLimit:
    """A key's rate limit; deprecated by the service."""

    interval: str
    note: str
    requests: int
    extra: Mapping[str, JSON] = field(factory=_nothing, repr=False, hash=False)


@frozen(kw_only=True)
class FreeModelDailyRequests:
    """How many requests to free models a key may make today."""

    limit: int
    used: int
    remaining: int
    extra: Mapping[str, JSON] = field(factory=_nothing, repr=False, hash=False)


@frozen(kw_only=True)
class Budget:
    """A limit on spending, in US dollars.

    `scope` is one of `workspace_default_member`, `workspace_default_key`, `member`, `api_key`,
    `workspace`, `key_limit`, or a value that the service adds later.
    """

    scope: str
    limit_usd: float
    spend_usd: float
    remaining_usd: float
    reset_interval: str | None
    resets_at: datetime | None
    include_byok: bool
    guardrail_id: str | None
    budget_id: str | None
    extra: Mapping[str, JSON] = field(factory=_nothing, repr=False, hash=False)


@frozen(kw_only=True, field_transformer=_own_first)
class CurrentKey(_Usage):
    """The key that a request was made with; fields as those of `Key`."""

    label: str
    limit: float | None
    limit_remaining: float | None
    limit_reset: str | None
    include_byok_in_limit: bool
    is_free_tier: bool
    is_management_key: bool
    is_provisioning_key: bool | None = None
    rate_limit: RateLimit | None = None
    creator_user_id: OptionalNullable[str] = UNSET
    expires_at: OptionalNullable[datetime] = UNSET
    workspace_id: OptionalNullable[str] = UNSET
    organization_id: OptionalNullable[str] = UNSET
    allowed_data_regions: list[str] | None = None
    free_model_daily_requests: FreeModelDailyRequests | None = None
    budgets: list[Budget] | None = None
    effective_budget: OptionalNullable[Budget] = UNSET
    extra: Mapping[str, JSON] = field(factory=_nothing, repr=False, hash=False)


# --- answers ---


@frozen(kw_only=True)
class HTTPMeta:
    """The HTTP exchange of an answer.

    Attributes:
        status: the HTTP status.
        headers: the answer's headers; their names are case-insensitive.
        attempts: how many times the request was sent, or tried.
        elapsed: seconds from the call's first attempt to the answer.
        body_seconds: seconds from the answer's headers, which have its `Date`, to its end.
    """

    status: int = 0
    headers: Mapping[str, str] = field(factory=_no_headers, repr=False)
    attempts: int = 0
    elapsed: float = 0.0
    body_seconds: float = field(default=0.0, repr=False)


@frozen(kw_only=True)
class _Response:
    """The fields of every answer."""

    extra: Mapping[str, JSON] = field(factory=_nothing, repr=False, hash=False)
    http: HTTPMeta = field(factory=HTTPMeta, eq=False)


@frozen(kw_only=True, field_transformer=_own_first)
class ListResponse(_Response):
    """The answer of a list: one page of keys, newest first."""

    data: list[Key]


@frozen(kw_only=True, field_transformer=_own_first)
class CreateKeysResponse(_Response, HoldsSecret):
    """The answer of a create.

    Attributes:
        data: the key's record.
        key: the secret, shown this once and never again; masked in `repr`, never pickled.
    """

    data: Key
    key: str = field(repr=mask)


@frozen(kw_only=True, field_transformer=_own_first)
class GetKeyResponse(_Response):
    """The answer of a get."""

    data: Key


@frozen(kw_only=True, field_transformer=_own_first)
class UpdateKeysResponse(_Response):
    """The answer of an update: the key as it is now."""

    data: Key


@frozen(kw_only=True, field_transformer=_own_first)
class DeleteKeysResponse(_Response):
    """The answer of a delete."""

    deleted: bool


@frozen(kw_only=True, field_transformer=_own_first)
class GetCurrentKeyResponse(_Response):
    """The answer of `get_current_key_metadata`."""

    data: CurrentKey
