"""How long a run goes on while nothing succeeds. The time is handed in."""

from collections.abc import Callable

from openrouter_keys.errors import OpenRouterError

#: So many creates in a row without an answer, or that could not be sent, end a round.
OUTAGE = 20
#: So many rounds in a row without a key end the run.
FRUITLESS = 8
#: So many rejections in a row end the run, besides twice as many as go at once.
REJECTED = 100
#: So many seconds in a row without a create that the service processed end the run, if there were
#: so many others meanwhile; or two time-outs, or eight quiet periods, where those are longer.
FRUITLESS_SECONDS = 600.0
ENOUGH = 5


class Patience:
    """Counts what went wrong since the last key was made.

    Args:
        concurrency: how many creates are under way at once, at most.
        clock: seconds that never go back.
        timeout: seconds that a create can take.
        quiet_period: seconds between two rounds.

    Attributes:
        last: why the last create of this round had no answer; None: each had one.
    """

    def __init__(
        self,
        concurrency: int,
        *,
        clock: Callable[[], float],
        timeout: float = 0.0,
        quiet_period: float = 0.0,
    ) -> None:
        self._most_rejected = REJECTED + 2 * concurrency
        self._clock = clock
        self._longest = max(FRUITLESS_SECONDS, 2 * timeout, FRUITLESS * quiet_period)
        self._unanswered = self._rejected = self._rounds = self._failures = 0
        self._since = 0.0
        self.last: OpenRouterError | None = None

    def succeeded(self) -> None:
        """The service processed a create."""
        self._unanswered = self._rejected = self._rounds = self._failures = 0
        self.last = None

    def unanswered(self, error: OpenRouterError | None = None) -> None:
        """A create had no answer that tells, or could not be sent."""
        self._unanswered += 1
        self.last = error
        self._failed()

    def rejected(self) -> None:
        """A create met a rate limit."""
        self._rejected += 1
        self._failed()

    def _failed(self) -> None:
        if not self._failures:
            self._since = self._clock()
        self._failures += 1

    def next_round(self) -> None:
        """Another round begins."""
        self._unanswered = 0
        self._rounds += 1
        self.last = None

    @property
    def rounds(self) -> int:
        """How many rounds in a row began without a key."""
        return self._rounds

    @property
    def needs_a_pause(self) -> bool:
        """Whether this round had better end."""
        return self._unanswered >= OUTAGE or self._is_too_long

    @property
    def is_over(self) -> bool:
        """Whether the run had better end."""
        many = self._rounds >= FRUITLESS or self._rejected >= self._most_rejected
        return many or self._is_too_long

    @property
    def _is_too_long(self) -> bool:
        return self._failures >= ENOUGH and self._clock() - self._since >= self._longest
