"""The options of runs that make many keys: how fast they go, and when they stop."""

from typing import Annotated, Final

from attrs import frozen
from cyclopts import Group, Parameter

from openrouter_keys.cli.values import Duration, Flag
from openrouter_keys.provisioning.pacing import CONCURRENCY
from openrouter_keys.settling import QUIET_PERIOD

_PACE: Final = Group("Pace", sort_key=60)
_SAFETY: Final = Group("Safety", sort_key=70)


@Parameter(name="*", group=_PACE)
@frozen(kw_only=True)
class Pace:
    """How fast to go."""

    concurrency: Annotated[
        int, Parameter(metavar="N", help="How many creates are under way at once, at most.")
    ] = CONCURRENCY
    rate: Annotated[
        float | None,
        Parameter(metavar="N", help="Creates a second, at most; else as the service accepts."),
    ] = None
    quiet_period: Annotated[
        Duration,
        Parameter(help="How long to wait for a create that was never answered to land after all."),
    ] = QUIET_PERIOD


@Parameter(name="*", group=_SAFETY)
@frozen(kw_only=True)
class Bounds:
    """When to stop, and what is stored."""

    max_failures: Annotated[
        int | None, Parameter(metavar="N", help="Stop once more keys than these are refused.")
    ] = None
    max_total_limit: Annotated[
        float | None,
        Parameter(metavar="USD", help="Stop before the limits of all keys add up to more."),
    ] = None
    recipient: Annotated[
        str | None,
        Parameter(metavar="AGE", help="Encrypt secrets in the journal to this age recipient."),
    ] = None
    no_store_secrets: Annotated[
        Flag, Parameter(help="Keep secrets out of the journal; they go where you say, or nowhere.")
    ] = False


#: What a command does whose user gave no option of these.
UNPACED: Final = Pace()
UNBOUNDED: Final = Bounds()
