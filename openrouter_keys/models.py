"""The records of the API: requests and answers. No I/O, no JSON.

An optional field's default says *left out*: None where the service does not take null, UNSET where
it does. On a record that came from the service, a field
with a default is one that may be absent: added over time, or deprecated.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from operator import attrgetter
from typing import (
    Any,
    Final,
    Literal,
    NoReturn,
    NotRequired,
    Self,
    SupportsFloat,
    TypeAlias,
    TypedDict,
    cast,
    overload,
)

from attrs import NOTHING, Attribute, field, fields, fields_dict, frozen

from openrouter_keys._base.masking import mask
from openrouter_keys._base.unset import UNSET, OptionalNullable, Unset, left_out, ours
from openrouter_keys._inputs import checks
from openrouter_keys._inputs.arguments import hides_fields
from openrouter_keys._records.record import Record
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
    return left_out(value)


def _flag(value: bool | Unset | None) -> bool | None:
    return left_out(value)


def _reset(value: OptionalNullable[LimitReset]) -> OptionalNullable[LimitReset]:
    return ours(value)


def _time(value: OptionalNullable[datetime]) -> OptionalNullable[datetime]:
    return ours(value)


def _user(value: OptionalNullable[str]) -> OptionalNullable[str]:
    return ours(value)


def limit_of(value: OptionalNullable[SupportsFloat]) -> OptionalNullable[float]:
    """Return a caller's `limit`, a number of any kind, as one that JSON has."""
    return checks.plain_number("limit", ours(value))


def external_of(value: External | ExternalTypedDict | Unset | None) -> External | None:
    """Return a caller's `external` as a record that masks its key."""
    given: object = ours(value)  # what a caller without a type checker passes in
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


_RULES: Final = "rules"


def _as_given(_: type, fields: "list[Attribute[Any]]") -> "list[Attribute[Any]]":
    """Take a request's converters and validators out of its `__init__`: `_check` calls them."""
    return [each.evolve(converter=None, validator=None, metadata={_RULES: each}) for each in fields]


_Rules: TypeAlias = tuple[Callable[[object], Sequence[object]], Sequence[Any]]


def _rules_of(cls: type) -> _Rules:
    rules = [each.metadata[_RULES] for each in fields(cls)]
    return attrgetter(*(rule.name for rule in rules)), rules


def _check(request: object, rules: _Rules) -> None:
    """Convert and check the fields of a new request that were given, which are few of them."""
    for given, rule in zip(rules[0](request), rules[1], strict=True):
        if given is rule.default:
            continue
        value = given if rule.converter is None else rule.converter(given)
        if value is not given:
            object.__setattr__(request, rule.name, value)  # no other code has it yet
        is_nothing = value is None or value is UNSET
        if rule.validator is not None and (not is_nothing or rule.default is NOTHING):
            rule.validator(request, rule, value)


@hides_fields
@frozen(kw_only=True, field_transformer=_as_given)
class CreateKeysRequest:
    """The body of a create; its fields are the arguments of `AsyncAPIKeys.create`."""

    name: str = field(validator=checks.text)
    limit: OptionalNullable[float] = field(
        default=UNSET, converter=limit_of, validator=checks.amount
    )
    limit_reset: OptionalNullable[LimitReset] = field(
        default=UNSET, converter=_reset, validator=checks.limit_reset
    )
    include_byok_in_limit: bool | None = field(default=None, converter=_flag, validator=checks.flag)
    expires_at: OptionalNullable[datetime] = field(
        default=UNSET, converter=_time, validator=checks.aware
    )
    creator_user_id: OptionalNullable[str] = field(
        default=UNSET, converter=_user, validator=checks.text
    )
    workspace_id: str | None = field(default=None, converter=_text, validator=checks.text)
    external: External | None = field(default=None, converter=external_of)

    def __attrs_post_init__(self) -> None:
        _check(self, _OF_CREATE)


_OF_CREATE: Final = _rules_of(CreateKeysRequest)


@hides_fields
@frozen(kw_only=True, field_transformer=_as_given)
class UpdateKeysRequest:
    """The body of an update; its fields are the arguments of `AsyncAPIKeys.update`."""

    name: str | None = field(default=None, converter=_text, validator=checks.text)
    disabled: bool | None = field(default=None, converter=_flag, validator=checks.flag)
    limit: OptionalNullable[float] = field(
        default=UNSET, converter=limit_of, validator=checks.amount
    )
    limit_reset: OptionalNullable[LimitReset] = field(
        default=UNSET, converter=_reset, validator=checks.limit_reset
    )
    include_byok_in_limit: bool | None = field(default=None, converter=_flag, validator=checks.flag)
    workspace_id: str | None = field(default=None, converter=_text, validator=checks.text)

    def __attrs_post_init__(self) -> None:
        _check(self, _OF_UPDATE)
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


_OF_UPDATE: Final = _rules_of(UpdateKeysRequest)


# --- what comes back ---


def _nothing() -> dict[str, JSON]:
    return {}  # a fifth of what `dict[str, JSON]()` takes, a hundred times a page


def _no_headers() -> dict[str, str]:
    return {}


def _hashable(value: object) -> object:
    """Return what a field is compared by, and hashed: a list has no hash."""
    return tuple(cast("list[object]", value)) if isinstance(value, list) else value


def _own_first(cls: type, fields: "list[Attribute[Any]]") -> "list[Attribute[Any]]":
    """Order fields so that a `repr` begins with what is a record's own."""
    return sorted(fields, key=lambda field: field.name not in cls.__annotations__)


@frozen(kw_only=True)
class _Usage(Record):
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

    Money is in US dollars, as `float`; times are aware and in UTC. UNSET: the answer lacks the
    field, as answers from before the service had it do.

    Attributes:
        hash: the SHA-256 of the secret in hexadecimal, which names the key in each call.
        name: what its creator calls it; not unique.
        label: the secret, masked: `sk-or-v1-0e6...1c96`.
        disabled: whether requests with the key are refused until an update enables it.
        include_byok_in_limit: whether `byok_usage` counts towards the limit.
        limit: the most that the key may spend, in one period if the limit resets. None: no limit.
        limit_remaining: what is left of the limit, in this period if it resets. None: no limit.
        limit_reset: when the limit starts anew, at midnight UTC: `daily`, `weekly` (on Mondays),
            `monthly`, or a value that the service adds later. None: never.
        created_at: when the key was created.
        updated_at: when it was last changed. None: never.
        expires_at: when it stops working. None: never. UNSET: not in the answer.
        creator_user_id: the member of the organization who created it. None: not known. UNSET: not
            in the answer.
        workspace_id: the UUID of its workspace. None: not in the answer.
        external_user: a partner's name for its end user. None: it is no partner's key. UNSET: not
            in the answer.
        last_used_at: when a request was last made with it. None: never, or before the end of 2025.
            UNSET: not in the answer.
        usage: spent in the key's whole life, US dollars.
        usage_daily: spent today, by UTC.
        usage_weekly: spent this week, from Monday, by UTC.
        usage_monthly: spent this month, by UTC.
        byok_usage: spent with the account's own keys of providers (BYOK) in the key's whole life,
            US dollars.
        byok_usage_daily: as `usage_daily`, of `byok_usage`.
        byok_usage_weekly: as `usage_weekly`, of `byok_usage`.
        byok_usage_monthly: as `usage_monthly`, of `byok_usage`.
        extra: the fields that this version does not know, or cannot read.
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
class RateLimit(Record):
    """A key's rate limit; deprecated by the service.

    Attributes:
        interval: the period, as text such as `10s`.
        note: what the service says about it.
        requests: how many requests the key may make in a period; the service sends -1 for no limit.
        extra: the fields that this version does not know.
    """

    interval: str
    note: str
    requests: int
    extra: Mapping[str, JSON] = field(factory=_nothing, repr=False, hash=False)


@frozen(kw_only=True)
class FreeModelDailyRequests(Record):
    """How many requests to free models a key may make today, by UTC.

    Attributes:
        limit: how many in all.
        used: how many it has made.
        remaining: how many are left.
        extra: the fields that this version does not know.
    """

    limit: int
    used: int
    remaining: int
    extra: Mapping[str, JSON] = field(factory=_nothing, repr=False, hash=False)


@frozen(kw_only=True)
class Budget(Record):
    """A limit on spending.

    Money is in US dollars, as `float`. Once a budget is spent, the service answers requests with
    403.

    Attributes:
        scope: what it limits: `workspace_default_member`, `workspace_default_key`, `member`,
            `api_key`, `workspace`, `key_limit`, or a value that the service adds later.
        limit_usd: the most that may be spent, in one period if the budget resets.
        spend_usd: what was spent, in this period if it resets.
        remaining_usd: what is left; below zero if more was spent.
        reset_interval: `daily`, `weekly`, `monthly`, or a value that the service adds later. None:
            it never resets.
        resets_at: when the next period starts, aware and in UTC. None: it never resets.
        include_byok: whether spending with the account's own keys of providers (BYOK) counts.
        guardrail_id: the guardrail that sets it. None: no guardrail does.
        budget_id: its own id. None: it has none.
        extra: the fields that this version does not know, or cannot read.
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
    """The key that a request was made with, as it sees itself.

    Money is in US dollars, as `float`; times are aware and in UTC. UNSET: the answer lacks the
    field, as answers from before the service had it do.

    Attributes:
        label: the secret, masked: `sk-or-v1-0e6...1c96`.
        limit: the most that the key may spend, in one period if the limit resets. None: no limit.
        limit_remaining: what is left of the limit, in this period if it resets. None: no limit.
        limit_reset: when the limit starts anew, at midnight UTC: `daily`, `weekly` (on Mondays),
            `monthly`, or a value that the service adds later. None: never.
        include_byok_in_limit: whether `byok_usage` counts towards the limit.
        is_free_tier: whether the account has never bought credits.
        is_management_key: whether the key manages keys; it then makes no requests to models.
        is_provisioning_key: the older name of `is_management_key`. None: not in the answer.
        rate_limit: deprecated by the service. None: not in the answer.
        creator_user_id: the member of the organization who created it. None: not known. UNSET: not
            in the answer.
        expires_at: when it stops working. None: never. UNSET: not in the answer.
        workspace_id: the UUID of its workspace. None: it has none. UNSET: not in the answer.
        organization_id: the account's organization. None: the account is a person's. UNSET: not in
            the answer.
        allowed_data_regions: where its requests may be processed: `global`, `europe`, `us`, or a
            value that the service adds later. None: not in the answer.
        free_model_daily_requests: what is left of today's requests to free models. None: not in the
            answer.
        budgets: each budget that its spending counts towards. None: not in the answer.
        effective_budget: the budget that ends its spending first. None: there is none. UNSET: not
            in the answer.
        usage: spent in the key's whole life, US dollars.
        usage_daily: spent today, by UTC.
        usage_weekly: spent this week, from Monday, by UTC.
        usage_monthly: spent this month, by UTC.
        byok_usage: spent with the account's own keys of providers (BYOK) in the key's whole life,
            US dollars.
        byok_usage_daily: as `usage_daily`, of `byok_usage`.
        byok_usage_weekly: as `usage_weekly`, of `byok_usage`.
        byok_usage_monthly: as `usage_monthly`, of `byok_usage`.
        extra: the fields that this version does not know, or cannot read.
    """

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
    allowed_data_regions: list[str] | None = field(default=None, eq=_hashable)
    free_model_daily_requests: FreeModelDailyRequests | None = None
    budgets: list[Budget] | None = field(default=None, eq=_hashable)
    effective_budget: OptionalNullable[Budget] = UNSET
    extra: Mapping[str, JSON] = field(factory=_nothing, repr=False, hash=False)


# --- answers ---

#: What a table of keys shows.
_COLUMNS: Final = (
    *("name", "label", "disabled", "limit", "limit_remaining", "limit_reset", "usage"),
    *("created_at", "expires_at", "hash"),
)


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
    headers: Mapping[str, str] = field(factory=_no_headers, repr=False, hash=False)
    attempts: int = 0
    elapsed: float = 0.0
    body_seconds: float = field(default=0.0, repr=False)


@frozen(kw_only=True)
class _Response(Record):
    """The fields of every answer."""

    extra: Mapping[str, JSON] = field(factory=_nothing, repr=False, hash=False)
    http: HTTPMeta = field(factory=HTTPMeta, eq=False)


@frozen(kw_only=True, field_transformer=_own_first)
class ListResponse(_Response):
    """The answer of a list: one page of keys, newest first.

    It is a collection of its keys: `len(page)`, `for key in page`, `page[0]`, `key in page`; an
    empty page is false.

    Attributes:
        data: the keys.
    """

    data: list[Key] = field(eq=_hashable)

    def __len__(self) -> int:
        return len(self.data)

    def __iter__(self) -> Iterator[Key]:
        return iter(self.data)

    @overload
    def __getitem__(self, place: int) -> Key: ...
    @overload
    def __getitem__(self, place: slice) -> list[Key]: ...
    def __getitem__(self, place: int | slice) -> Key | list[Key]:
        return self.data[place]

    def _shown(self) -> tuple[JSON, Sequence[str]]:
        return self.to_dict()["data"], _COLUMNS


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
    """The answer of a delete.

    Attributes:
        deleted: whether the service says that the key is deleted.
    """

    deleted: bool

    @property
    def DELETED(self) -> bool:  # noqa: N802 - the official SDK's name
        """`deleted`, as the official SDK calls it."""
        return self.deleted


@frozen(kw_only=True, field_transformer=_own_first)
class GetCurrentKeyResponse(_Response):
    """The answer of `get_current_key_metadata`."""

    data: CurrentKey
