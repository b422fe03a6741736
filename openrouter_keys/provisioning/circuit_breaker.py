"""When a run pauses, and when it ends, while no create succeeds. The time is handed in."""

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


class CircuitBreaker:
    """Counts the failures since the last create that the service processed.

    Args:
        concurrency: how many creates are under way at once, at most.
        clock: seconds that never go back.
        timeout: seconds that a create can take.
        quiet_period: seconds between two rounds.

    Attributes:
        rounds: how many rounds in a row began without a key.
        last: why the last create of this round had no answer; None: each had one.
        rejection: the last rejection, if all failures were rejections; None: they were not.
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
        self._since = 0.0
        self.succeeded()

    def succeeded(self) -> None:
        """Count a create that the service processed."""
        self._unanswered = self._rejected = self._failures = 0
        self.rounds: int = 0
        self.last: OpenRouterError | None = None
        self.rejection: OpenRouterError | None = None

    def unanswered(self, error: OpenRouterError | None = None) -> None:
        """Count a create whose answer says nothing, or that could not be sent."""
        self._unanswered += 1
        self.last, self.rejection = error, None
        self._failed()

    def rejected(self, error: OpenRouterError | None = None) -> None:
        """Count a create that met a rate limit."""
        self._rejected += 1
        self._failed()
        self.rejection = error if self._rejected == self._failures else None

    def _failed(self) -> None:
        if not self._failures:
            self._since = self._clock()
        self._failures += 1

    def next_round(self) -> None:
        """Begin another round."""
        self._unanswered = 0
        self.rounds += 1
        self.last = None

    @property
    def is_open(self) -> bool:
        """Whether this round has to end."""
        return self._unanswered >= OUTAGE or self._is_too_long

    @property
    def is_final(self) -> bool:
        """Whether the run has to end."""
        many = self.rounds >= FRUITLESS or self._rejected >= self._most_rejected
        return many or self._is_too_long

    @property
    def _is_too_long(self) -> bool:
        return self._failures >= ENOUGH and self._clock() - self._since >= self._longest
