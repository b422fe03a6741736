"""How far long work is: a bar on a terminal, a line now and then elsewhere. On standard error."""

from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Final, Protocol

from openrouter_keys._base.masking import scrub
from openrouter_keys.cli.terminal.messages import redraws, say
from openrouter_keys.cli.terminal.text import printable
from openrouter_keys.provisioning.report import Phase, ProvisionProgress

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

#: Seconds between two lines within a phase.
EVERY: Final = 5.0
# Seconds over which a speed is measured.
_WINDOW: Final = 15.0


class Teller(AbstractContextManager["Teller", None], Protocol):
    """Tells people how far a run is."""

    def tell(self, progress: ProvisionProgress, /) -> None:
        """Tell how far it is."""

    def say(self, text: str, /) -> None:
        """Say something else meanwhile."""


def teller(*, quiet: bool = False, bar: bool = True) -> Teller:
    """Return what suits standard error.

    Args:
        quiet: say nothing of how far it is.
        bar: whether a bar would not get in the way.
    """
    if quiet:
        return Silence()
    if bar and redraws():
        return Bar()
    return Lines(say)


class Silence:
    """Tells nothing of how far it is."""

    def __enter__(self) -> "Silence":
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def tell(self, _: ProvisionProgress, /) -> None:
        """Tell nothing."""

    def say(self, text: str, /) -> None:
        """Say it."""
        say(text)


class Pace:
    """How fast a run was of late."""

    def __init__(self) -> None:
        self._seen = deque[tuple[float, int]]([(0.0, 0)])

    def see(self, progress: ProvisionProgress) -> None:
        """Look at how far it is."""
        self._seen.append((progress.elapsed, _made(progress)))
        while progress.elapsed - self._seen[0][0] > _WINDOW and len(self._seen) > 2:
            self._seen.popleft()

    @property
    def speed(self) -> float:
        """Keys a second."""
        (began, before), (now, made) = self._seen[0], self._seen[-1]
        return (made - before) / (now - began) if now > began else 0.0

    def left(self, progress: ProvisionProgress) -> float | None:
        """Return the seconds that are left if it goes on like this; None: nobody can say."""
        if progress.total is None or not self.speed:
            return None
        return (progress.total - progress.done) / self.speed


def _made(progress: ProvisionProgress) -> int:
    return progress.done - progress.settled_before


class Lines:
    """A line at each change of phase, and every few seconds within one.

    Args:
        say: says one.
    """

    def __init__(self, say: Callable[[str], object]) -> None:
        self._say = say
        self._pace = Pace()
        self._phase: Phase | None = None
        self._told_at = -EVERY

    def __enter__(self) -> "Lines":
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def tell(self, progress: ProvisionProgress, /) -> None:
        """Tell how far it is, if it is time."""
        self._pace.see(progress)
        due = progress.elapsed - self._told_at >= EVERY or progress.phase != self._phase
        if due and progress.phase != "ended":
            self._phase, self._told_at = progress.phase, progress.elapsed
            details = [
                counted(progress),
                *speed_of(self._pace, progress),
                *troubles(progress),
            ]
            self.say(f"{phase_of(progress)}: {', '.join(details)}")

    def say(self, text: str, /) -> None:
        """Say it."""
        self._say(text)


class Bar:
    """A bar, in place of which nothing is left in the end."""

    def __init__(self) -> None:
        # Loaded late: programs need no bar.
        from openrouter_keys.cli.terminal.bar import bar_of  # noqa: PLC0415

        self._bar: RichProgress = bar_of()
        self._task = self._bar.add_task("creating", total=None, facts="")
        self._pace = Pace()
        self._phase: Phase | None = None

    def __enter__(self) -> "Bar":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def tell(self, progress: ProvisionProgress, /) -> None:
        """Tell how far it is."""
        self._pace.see(progress)
        if progress.phase == "ended":
            return
        # A phase's clock starts anew: how long a wait takes so far.
        draw = self._bar.update if progress.phase == self._phase else self._bar.reset
        self._phase = progress.phase
        facts = [counted(progress), *speed_of(self._pace, progress), *troubles(progress)]
        draw(
            self._task,
            description=phase_of(progress),
            completed=progress.done,
            total=progress.total,
            facts=" · ".join(facts),
        )

    def say(self, text: str, /) -> None:
        """Say it above the bar."""
        self._bar.console.print(f"openrouter-keys: {printable(scrub(text))}", soft_wrap=True)


def phase_of(progress: ProvisionProgress) -> str:
    """Return what it does, for people."""
    if progress.phase != "waiting":
        return progress.phase
    # Once all are done, it is the last look that waits.
    if progress.in_doubt or progress.done == progress.total:
        return "waiting for late commits"
    return "waiting for the service"


def counted(progress: ProvisionProgress) -> str:
    """Return how many are done, of how many."""
    total = "" if progress.total is None else f"/{progress.total:,}"
    return f"{progress.done:,}{total}"


def speed_of(pace: Pace, progress: ProvisionProgress) -> list[str]:
    """Return how fast it is, and how long it still takes, as far as anybody can say."""
    if progress.phase != "creating" or not pace.speed:
        return []
    left = pace.left(progress)
    return [f"{pace.speed:,.0f} keys/s", *([] if left is None else [f"{clock(left)} left"])]


def troubles(progress: ProvisionProgress) -> list[str]:
    """Return what did not go well, each with its number."""
    told = {
        "in doubt": progress.in_doubt,
        "failed": progress.failed,
        "not as asked for": progress.mismatched,
    }
    return [f"{count:,} {what}" for what, count in told.items() if count]


def clock(seconds: float) -> str:
    """Return a duration as `0:05` or `1:02:03`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
