"""What a caller sets for a rotation, checked before anything is sent."""

from collections.abc import AsyncIterable, Iterable
from datetime import datetime
from typing import Literal, TypeAlias

from attrs import field, frozen

from openrouter_keys._base.unset import UNSET, OptionalNullable
from openrouter_keys._inputs import checks
from openrouter_keys.provisioning.settings import Pace, RunSettings

Hashes: TypeAlias = Iterable[str] | AsyncIterable[str]
#: What a replacement may spend: what the old key has left, or the whole limit once more.
BudgetRule: TypeAlias = Literal["remaining", "full"]

_NO_TAKER = (
    "nothing would have the replacements' secrets when their old keys stop working: give "
    "on_result=, or rotate without retire_after=, export the secrets from the journal, and then "
    "confirm: rotate((), journal=…, retire_after=0)"
)


def _budget(_: object, attribute: checks.Named, value: BudgetRule) -> None:
    if value not in ("remaining", "full"):
        checks.refuse(attribute.name, f'must be "remaining" or "full", not {value!r}')


@frozen(kw_only=True)
class Terms:
    """What a replacement has otherwise than its old key.

    Attributes:
        budget: how its limit is chosen.
        limit: its limit, in US dollars; None: no limit. UNSET: as `budget` says.
        expires_at: when it expires; None: never. UNSET: with the old key.
    """

    budget: BudgetRule = field(default="remaining", validator=_budget)
    limit: OptionalNullable[float] = field(default=UNSET, validator=checks.given(checks.amount))
    expires_at: OptionalNullable[datetime] = field(
        default=UNSET, validator=checks.given(checks.aware)
    )

    @property
    def rule(self) -> BudgetRule:
        """The rule that is kept with a plan: a limit that was given is lowered by nothing."""
        return self.budget if self.limit is UNSET else "full"


@frozen(kw_only=True)
class PlanSettings(Pace):
    """The settings of a plan; `AsyncOpenRouter.plan_rotation` says what each means."""

    terms: Terms = Terms()


@frozen(kw_only=True)
class RotationSettings(RunSettings):
    """The settings of a rotation; `AsyncOpenRouter.rotate` says what each means."""

    terms: Terms = Terms()
    retire_after: float | None = field(default=None, validator=checks.given(checks.amount))

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        if self.journal is None:
            checks.refuse(
                "journal",
                "must be an open Journal, a file's path or a database's URL: else none is resumed",
            )

    @property
    def confirms(self) -> bool:
        """Whether the call makes no key, and retires those whose replacements are in use."""
        return self.retire_after is not None and self.on_result is None

    async def read(self, hashes: Hashes) -> list[str]:
        """Read the hashes as `distinct` does, and refuse any in a call that confirms."""
        wanted = await distinct(hashes)
        if wanted and self.confirms:
            checks.refuse("on_result", _NO_TAKER)
        return wanted


async def distinct(hashes: Hashes) -> list[str]:
    """Read all hashes, each once, and refuse an invalid one."""
    kind = type(hashes).__name__
    # A text is an iterable of its characters, and a mapping of its names.
    if kind in ("str", "bytes", "dict") or not isinstance(hashes, Iterable | AsyncIterable):
        checks.refuse("hashes", f"must be an iterable or async iterable of hashes, not {kind}")
    if isinstance(hashes, AsyncIterable):
        read = [checks.key_hash(hash) async for hash in hashes]
    else:
        read = [checks.key_hash(hash) for hash in hashes]
    return [*dict.fromkeys(read)]
