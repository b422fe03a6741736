"""The progress bar, through rich."""

from collections.abc import Iterable
from typing import Final

from attrs import frozen
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.progress import BarColumn, Progress, ProgressColumn, Task
from rich.table import Column
from rich.text import Text

from openrouter_keys.cli.terminal.tables import console

# Seconds after which a phase shows how long it takes.
_LONG: Final = 2.0
# What a terminal writes behind the bar at a Ctrl-C must not wrap.
_CTRL_C: Final = len("^C^C")


class _Phase(ProgressColumn):
    """What is done, and for how long if that is a wait."""

    def render(self, task: Task) -> Text:
        """Return it."""
        elapsed, waits = task.elapsed or 0.0, not task.description.startswith("creating")
        took = f" {elapsed:.0f} s" if waits and elapsed >= _LONG else ""
        return Text(f"{task.description}{took}", style="bold")


class _Facts(ProgressColumn):
    """How far it is; where there is no room, its end is left out."""

    def render(self, task: Task) -> Text:
        """Return it."""
        return Text(str(task.fields["facts"]), no_wrap=True, overflow="ellipsis")


@frozen
class _Narrower:
    """Something drawn in less than the whole width."""

    drawn: RenderableType

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from console.render(self.drawn, options.update_width(options.max_width - _CTRL_C))


class _Bar(Progress):
    def get_renderables(self) -> Iterable[RenderableType]:
        """Return what is drawn."""
        return [_Narrower(drawn) for drawn in super().get_renderables()]


def bar_of() -> Progress:
    """Return a bar on standard error, not started yet."""
    return _Bar(
        _Phase(table_column=Column(no_wrap=True, min_width=len("creating"))),
        BarColumn(bar_width=None, table_column=Column(min_width=6)),
        _Facts(table_column=Column(no_wrap=True)),
        console=console(stderr=True),
        transient=True,
        expand=True,
        # The bar leaves standard output alone.
        redirect_stdout=False,
        redirect_stderr=False,
    )
