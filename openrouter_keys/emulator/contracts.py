"""The service's contract at three dates: what the older two lack. Pure."""

from collections.abc import Mapping
from typing import Final, Literal, TypeAlias, TypeVar, cast, get_args

from attrs import Factory, frozen

T = TypeVar("T")

ContractName: TypeAlias = Literal["2025-02", "2026-08", "2026-11"]
CONTRACT_NAMES: Final[tuple[ContractName, ...]] = get_args(ContractName)


@frozen(kw_only=True)
class Contract:
    """What a service of some date lacks, or does in another way than today's.

    Args:
        key: fields that a ``Key`` lacks.
        current: fields that a ``CurrentKey`` lacks.
        ignored: by operation, the unknown fields of bodies and queries, which it ignores.
        statuses: by operation and today's status, the status of that date.
    """

    key: frozenset[str] = frozenset()
    current: frozenset[str] = frozenset()
    ignored: Mapping[str, frozenset[str]] = Factory(dict[str, frozenset[str]])
    statuses: Mapping[tuple[str, int], int] = Factory(dict[tuple[str, int], int])

    def known(self, operation: str, value: T) -> T:
        """Return a body or query without the fields that an operation does not know."""
        ignored = self.ignored.get(operation)
        if not ignored or not isinstance(value, dict):
            return value
        fields = cast("dict[str, object]", value)
        return cast("T", {name: each for name, each in fields.items() if name not in ignored})

    def status(self, operation: str, status: int) -> int:
        """Return the status of an operation's refusal."""
        return self.statuses.get((operation, status), status)


_NEW_IN_2026_11: Final = frozenset(
    ("workspace_id", "organization_id", "allowed_data_regions", "free_model_daily_requests")
) | {"budgets", "effective_budget"}

CONTRACTS: Final[Mapping[ContractName, Contract]] = {
    "2025-02": Contract(
        key=frozenset(("expires_at", "creator_user_id", "workspace_id"))
        | {"external_user", "last_used_at"},
        current=_NEW_IN_2026_11 | {"creator_user_id", "expires_at"},
        ignored={
            "list": frozenset(("include_expired", "workspace_id")),
            "create": frozenset(("expires_at", "creator_user_id", "workspace_id", "external")),
            "update": frozenset(("workspace_id",)),
        },
    ),
    "2026-08": Contract(
        key=frozenset(("external_user", "last_used_at")),
        current=_NEW_IN_2026_11,
        ignored={
            "list": frozenset(("include_expired",)),
            "create": frozenset(("external",)),
            "update": frozenset(("workspace_id",)),
        },
        statuses={("list", 404): 400},
    ),
    "2026-11": Contract(),
}
NEWEST: Final = CONTRACTS["2026-11"]
