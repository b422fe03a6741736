"""The options of runs that make many keys: how fast they go, and when they stop."""

from collections.abc import Callable
from typing import Annotated, Final

from attrs import frozen
from cyclopts import Group, Parameter

from openrouter_keys._inputs import checks
from openrouter_keys._inputs.options import CONCURRENCY, QUIET_PERIOD
from openrouter_keys.cli.exit_codes import UsageError
from openrouter_keys.cli.specs.totals import Totals, dollars
from openrouter_keys.cli.terminal.messages import keys
from openrouter_keys.cli.values import Flag, QuietPeriod, Recipient
from openrouter_keys.errors import InvalidArgumentError
from openrouter_keys.journal.encryption import sealing
from openrouter_keys.journal.specs import exact

_PACE: Final = Group("Pace", sort_key=60)
_SAFETY: Final = Group("Safety", sort_key=70)


@Parameter(name="*", group=_PACE)
@frozen(kw_only=True)
class Pace:
    """How fast to go."""

    concurrency: Annotated[
        int, Parameter(metavar="N", help="Send at most this many creates at once.")
    ] = CONCURRENCY
    rate: Annotated[
        float | None,
        Parameter(
            metavar="N",
            help="Send at most this many creates a second; else what the service accepts.",
        ),
    ] = None
    quiet_period: QuietPeriod = QUIET_PERIOD

    def __attrs_post_init__(self) -> None:
        _check(lambda: checks.count("--concurrency", self.concurrency))
        _check_bound("--rate", self.rate)
        if self.rate == 0:
            raise UsageError("--rate: must be more than 0 creates a second")


@Parameter(name="*", group=_SAFETY)
@frozen(kw_only=True)
class Bounds:
    """When to stop, and what is stored."""

    max_failures: Annotated[
        int | None, Parameter(metavar="N", help="Stop when more keys than this are refused.")
    ] = None
    max_total_limit: Annotated[
        float | None,
        Parameter(metavar="USD", help="Do not start if the limits of all keys add up to more."),
    ] = None
    recipient: Recipient = None
    no_store_secrets: Annotated[
        Flag,
        Parameter(help="Keep secrets out of the journal: give --secret-file or --to-command, too."),
    ] = False

    def __attrs_post_init__(self) -> None:
        _check_bound("--max-failures", self.max_failures)
        _check_bound("--max-total-limit", self.max_total_limit)
        check_recipient(self.recipient)

    def excess(self, totals: Totals) -> str | None:
        """Return what exceeds `--max-total-limit`, as the library counts; None: nothing.

        Args:
            totals: what all specs ask for, also those of keys that exist already.
        """
        if self.max_total_limit is None:
            return None
        bound = exact(self.max_total_limit)
        most = f"--max-total-limit {bound.normalize():f}"
        if totals.without_limit:
            have = "has" if totals.without_limit == 1 else "have"
            return f"{keys(totals.without_limit)} {have} no limit, and {most} needs one of each"
        if totals.total <= bound:
            return None
        added = f"the limits of the file's {keys(totals.count)} add up to {dollars(totals.total)}"
        return f"{added}, beyond {most}, where keys made before count too"


def check_recipient(recipient: str | None) -> None:
    """Refuse what is no recipient before anything is sent.

    Raises:
        CommandError: it is no recipient, or pyrage is not installed.
    """
    if recipient is not None:
        _check(lambda: sealing(recipient))


def _check_bound(name: str, bound: float | None) -> None:
    if bound is not None:
        _check(lambda: checks.seconds(name, bound))


def _check(check: Callable[[], object]) -> None:
    """Refuse by the name of the option, and not of the library's argument."""
    try:
        check()
    except InvalidArgumentError as error:
        problem = str(error)
        raise UsageError(problem if problem.startswith("--") else f"--{problem}") from None
