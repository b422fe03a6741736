"""Progress of a run on standard error: a bar on a terminal, a line every few seconds elsewhere."""

import time
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

from openrouter_keys._base.masking import scrub
from openrouter_keys.cli.terminal.messages import redraws, say
from openrouter_keys.cli.terminal.text import printable, without_passwords
from openrouter_keys.provisioning.report import Phase, ProvisionProgress

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

#: Seconds between two lines within a phase.
EVERY: Final = 5.0
# Seconds over which a speed is measured.
_WINDOW: Final = 15.0


class Progress:
    """The progress of a run; this class shows none, and only passes messages on.

    Args:
        say: writes a message.
    """

    def __init__(self, say: Callable[[str], object] = say) -> None:
        self._say = say

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def show(self, progress: ProvisionProgress, /) -> None:
        """Show the progress of the run."""

    def say(self, text: str, /) -> None:
        """Write a message."""
        self._say(text)


class Later(Progress):
    """A progress that is not shown before there is some: a question may come first.

    Args:
        make: makes what is shown.
    """

    def __init__(self, make: Callable[[], Progress]) -> None:
        super().__init__()
        self._make = make
        self._shown = ExitStack()
        self._progress: Progress | None = None
        self._step, self._said_at = "", 0.0

    def __exit__(self, *_: object) -> None:
        self._shown.close()

    def show(self, progress: ProvisionProgress, /) -> None:
        """Show the progress of a run."""
        if self._progress is None:
            self._progress = self._shown.enter_context(self._make())
        self._progress.show(progress)

    def step(self, name: str, done: int, total: int) -> None:
        """Say how far something else is, every few seconds."""
        now = time.monotonic()
        if name != self._step:
            self._step, self._said_at = name, now
        elif now - self._said_at >= EVERY:
            self._said_at = now
            self.say(f"{name}: {done:,}/{total:,}")

    def say(self, text: str, /) -> None:
        """Write a message."""
        if self._progress is None:
            super().say(text)
        else:
            self._progress.say(text)


def progress_of(*, quiet: bool = False, bar: bool = True) -> Progress:
    """Return what suits standard error.

    Args:
        quiet: show nothing.
        bar: whether a bar may be shown.
    """
    if quiet:
        return Progress()
    return Bar() if bar and redraws() else Lines()


class Speed:
    """The recent speed of a run."""

    def __init__(self) -> None:
        self._seen = deque[tuple[float, int]]([(0.0, 0)])

    def see(self, progress: ProvisionProgress) -> None:
        """Note the progress of the run."""
        made = progress.done - progress.settled_before
        self._seen.append((progress.elapsed, made))
        while progress.elapsed - self._seen[0][0] > _WINDOW and len(self._seen) > 2:
            self._seen.popleft()

    @property
    def per_second(self) -> float:
        """Keys a second."""
        (began, before), (now, made) = self._seen[0], self._seen[-1]
        return (made - before) / (now - began) if now > began else 0.0

    def left(self, progress: ProvisionProgress) -> float | None:
        """Return the seconds that are left at this speed; None: not known."""
        if progress.total is None or not self.per_second:
            return None
        return (progress.total - progress.done) / self.per_second

    def facts(self, progress: ProvisionProgress) -> list[str]:
        """Return how many are done, how fast, how long it still takes, and what went wrong."""
        total = "" if progress.total is None else f"/{progress.total:,}"
        facts = [f"{progress.done:,}{total}"]
        if progress.phase == "creating" and self.per_second:
            left = self.left(progress)
            facts.append(f"{self.per_second:,.0f} keys/s")
            facts += [] if left is None else [f"{clock(left)} left"]
        counts = {
            "in doubt": max(progress.in_doubt - progress.elsewhere, 0),
            "failed": progress.failed,
            "not as asked for": progress.mismatched,
        }
        return facts + [f"{count:,} {what}" for what, count in counts.items() if count]


class Lines(Progress):
    """A line at each change of phase, and every few seconds within one."""

    def __init__(self, say: Callable[[str], object] = say) -> None:
        super().__init__(say)
        self._speed = Speed()
        self._phase: Phase | None = None
        self._shown_at = -EVERY

    def show(self, progress: ProvisionProgress, /) -> None:
        """Write a line, if it is time for one."""
        self._speed.see(progress)
        due = progress.elapsed - self._shown_at >= EVERY or progress.phase != self._phase
        if due and progress.phase != "ended":
            self._phase, self._shown_at = progress.phase, progress.elapsed
            self.say(f"{_phase_of(progress)}: {', '.join(self._speed.facts(progress))}")


class Bar(Progress):
    """A bar that is removed at the end."""

    def __init__(self) -> None:
        # Loaded late: programs need no bar.
        from openrouter_keys.cli.terminal.bar import bar_of  # noqa: PLC0415

        super().__init__(self._above)
        self._bar: RichProgress = bar_of()
        self._task = self._bar.add_task("creating", total=None, facts="")
        self._speed = Speed()
        self._phase: Phase | None = None

    def __enter__(self) -> "Bar":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def show(self, progress: ProvisionProgress, /) -> None:
        """Draw the bar."""
        self._speed.see(progress)
        if progress.phase == "ended":
            return
        # The clock of a phase starts anew: it shows how long a wait takes so far.
        draw = self._bar.update if progress.phase == self._phase else self._bar.reset
        self._phase = progress.phase
        draw(
            self._task,
            description=_phase_of(progress),
            completed=progress.done,
            total=progress.total,
            facts=" · ".join(self._speed.facts(progress)),
        )

    def _above(self, text: str) -> None:
        self._bar.console.print(
            f"openrouter-keys: {printable(scrub(without_passwords(text)))}", soft_wrap=True
        )


def _phase_of(progress: ProvisionProgress) -> str:
    if progress.phase != "waiting":
        return progress.phase
    if progress.elsewhere:
        return "waiting for another process"
    # Once all are done, the last look at the service waits.
    if progress.in_doubt or progress.done == progress.total:
        return "waiting for late commits"
    return "waiting for the service"


def clock(seconds: float) -> str:
    """Return a duration as `0:05` or `1:02:03`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
