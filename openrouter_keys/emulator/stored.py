"""The service's workspaces, budgets and keys, and the sums of spending. No HTTP."""

from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Final, TypeVar

from attrs import Attribute, define, field

from openrouter_keys.emulator.times import PERIODS, period_start

T = TypeVar("T")


@define
class Moves:
    """Counts how often a key of any account may have moved between lists."""

    count: int = 0


moves: Final = Moves()


def _moved(_key: object, _attribute: "Attribute[Any]", value: T) -> T:
    moves.count += 1
    return value


def masked(secret: str) -> str:
    """Return the label of a secret, such as ``sk-or-v1-0e6...1c96``."""
    return f"{secret[:12]}...{secret[-4:]}"


def hash_of(secret: str) -> str:
    """Return the hash of a secret's key."""
    return sha256(secret.encode()).hexdigest()


@define
class Workspace:
    """A workspace, which holds keys."""

    id: str
    name: str = "Emulated workspace"


@define(kw_only=True)
class Budget:
    """A limit on the spending in some scope, as ``GET /key`` shows it.

    Args:
        scope: such as ``workspace``, ``member`` or ``key_limit``.
        limit_usd: the limit, in US dollars.
        spend_usd: what is spent, in US dollars.
        reset_interval: ``daily``, ``weekly`` or ``monthly``. None: never.
        include_byok: whether spending with the user's own provider keys counts.
        guardrail_id: the guardrail that defines it.
        budget_id: its own id.
    """

    scope: str
    limit_usd: float
    spend_usd: float = 0
    reset_interval: str | None = None
    include_byok: bool = False
    guardrail_id: str | None = None
    budget_id: str | None = None

    @property
    def remaining_usd(self) -> float:
        """The US dollars that are left to spend."""
        return max(self.limit_usd - self.spend_usd, 0)


@define(eq=False, kw_only=True)
class StoredKey:
    """A key as the service holds it; every attribute may be changed.

    ``counted_at`` is when the daily, weekly and monthly amounts were last brought up to date.
    """

    hash: str
    name: str
    secret: str | None = field(default=None, repr=False)
    label: str
    workspace_id: str = field(on_setattr=_moved)
    created_at: datetime
    counted_at: datetime
    updated_at: datetime | None = None
    expires_at: datetime | None = field(default=None, on_setattr=_moved)
    last_used_at: datetime | None = None
    disabled: bool = field(default=False, on_setattr=_moved)
    limit: float | None = None
    limit_reset: str | None = None
    include_byok_in_limit: bool = False
    usage: float = 0
    usage_daily: float = 0
    usage_weekly: float = 0
    usage_monthly: float = 0
    byok_usage: float = 0
    byok_usage_daily: float = 0
    byok_usage_weekly: float = 0
    byok_usage_monthly: float = 0
    creator_user_id: str | None = None
    external_user: str | None = None
    external_key_hash: str | None = field(default=None, repr=False)

    def expired(self, now: datetime) -> bool:
        """Return whether the key has expired."""
        return self.expires_at is not None and self.expires_at <= now

    @property
    def spent(self) -> float:
        """The US dollars that count towards the limit, as of ``counted_at``."""
        period = f"_{self.limit_reset}" if self.limit_reset in PERIODS else ""
        own: float = getattr(self, f"usage{period}")
        byok: float = getattr(self, f"byok_usage{period}") if self.include_byok_in_limit else 0
        return own + byok

    @property
    def budget(self) -> Budget | None:
        """The key's own limit as a budget; None without a limit."""
        if self.limit is None:
            return None
        return Budget(
            scope="key_limit",
            limit_usd=self.limit,
            spend_usd=self.spent,
            reset_interval=self.limit_reset,
            include_byok=self.include_byok_in_limit,
        )

    @property
    def limit_remaining(self) -> float | None:
        """The US dollars that are left to spend; None without a limit."""
        return None if self.limit is None else max(self.limit - self.spent, 0)

    def bring_up_to(self, now: datetime) -> None:
        """Reset the spending of days, weeks and months that have ended."""
        if now.astimezone(UTC).date() == self.counted_at.astimezone(UTC).date():
            return
        for period in PERIODS:
            if period_start(period, now) > period_start(period, self.counted_at):
                setattr(self, f"usage_{period}", 0)
                setattr(self, f"byok_usage_{period}", 0)
        self.counted_at = now

    def spend(self, usd: float, now: datetime, *, byok: bool) -> None:
        """Add spending at this time."""
        self.bring_up_to(now)
        self.last_used_at = now
        total = "byok_usage" if byok else "usage"
        for name in (total, *(f"{total}_{period}" for period in PERIODS)):
            setattr(self, name, getattr(self, name) + usd)
