"""How long a run goes on while nothing succeeds. Pure."""

from openrouter_keys.errors import OpenRouterError

#: So many creates in a row without an answer, or that could not be sent, end a round.
OUTAGE = 20
#: So many rounds in a row without a key end the run.
FRUITLESS = 8
#: So many rejections in a row end the run, besides twice as many as go at once.
REJECTED = 100


class Patience:
    """Counts what went wrong since the last key was made.

    Args:
        concurrency: how many creates are under way at once, at most.

    Attributes:
        last: why the last create of this round had no answer; None: each had one.
    """

    def __init__(self, concurrency: int) -> None:
        self._most_rejected = REJECTED + 2 * concurrency
        self._unanswered = self._rejected = self._rounds = 0
        self.last: OpenRouterError | None = None

    def succeeded(self) -> None:
        """The service processed a create."""
        self._unanswered = self._rejected = self._rounds = 0
        self.last = None

    def unanswered(self, error: OpenRouterError | None = None) -> None:
        """A create had no answer that tells, or could not be sent."""
        self._unanswered += 1
        self.last = error

    def rejected(self) -> None:
        """A create met a rate limit."""
        self._rejected += 1

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
        return self._unanswered >= OUTAGE

    @property
    def is_over(self) -> bool:
        """Whether the run had better end."""
        return self._rounds >= FRUITLESS or self._rejected >= self._most_rejected
