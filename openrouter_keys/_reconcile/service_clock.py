"""The service's time of day, by the `Date` of its answers. No waiting."""

import time
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Final

from openrouter_keys._base.clock_skew import MARGIN, UNSEEN_HERE, Sample, Stamp
from openrouter_keys._protocol.answers import is_cached
from openrouter_keys._protocol.retries import read_date
from openrouter_keys.models import HTTPMeta

#: A `Date` that is further from this machine's clock is not believed.
PLAUSIBLE: Final = timedelta(days=1)
#: By how much earlier than its create a key may be stamped, against a `Date`.
UNSEEN: Final = timedelta(minutes=2)
_MARGIN = timedelta(seconds=MARGIN)
_HALF = timedelta(seconds=0.5)


class ServiceClock:
    """The service's time, as its answers show it; until then, this machine's.

    Somebody who sets this machine's clock does not change it.

    Args:
        now: this machine's time of day, in UTC.
        monotonic: seconds that never go back.
    """

    def __init__(
        self, now: Callable[[], datetime], monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._now = now
        self._monotonic = monotonic
        self._known = now(), monotonic()
        self._dated = False
        self._disputed = False
        self._apart = timedelta(0)

    def now(self) -> datetime:
        """Return the service's time, in UTC."""
        time, at = self._known
        return time + timedelta(seconds=self._monotonic() - at)

    def learn(self, http: HTTPMeta) -> None:
        """Learn from an answer that has just come to its end."""
        self.observe(http.headers, http.body_seconds)

    def observe(self, headers: Mapping[str, str], seconds: float = 0.0) -> None:
        """Learn from an answer's headers, if their `Date` can be right.

        A cached answer shows nothing: some caches keep its `Date` and some renew it.

        Args:
            headers: its headers.
            seconds: since they came.
        """
        date = read_date(headers.get("Date"))
        if date is None or is_cached(headers):
            return
        since = timedelta(seconds=seconds)
        if self._is_plausible(date, self._now() - since):
            self._known, self._dated = (date + since + _HALF, self._monotonic()), True
            # Keys may be stamped by a clock that is right, as this machine's, where `Date` is not.
            self._apart = max(self._apart, abs(date - (self._now() - since)))
        else:
            self._disputed = True

    @property
    def disputed(self) -> bool:
        """Whether a `Date` and this machine's clock were days apart: one of them is wrong."""
        return self._disputed

    @property
    def unseen(self) -> timedelta | None:
        """By how much earlier a key may be stamped where none shows it; None: by any time.

        If a `Date` and this machine's clock are days apart, either may be wrong.
        """
        if self._disputed:
            return None
        return max(UNSEEN, self._apart + _MARGIN) if self._dated else UNSEEN_HERE

    def stamps(self, samples: Iterable[Sample]) -> list[Stamp]:
        """Return what samples tell by this clock."""
        found: list[Stamp] = []
        for sample in samples:
            date = read_date(sample.date)
            if self._dated and date is not None and self._is_plausible(date, sample.ended):
                ended = date + _HALF
            elif self._dated:
                continue
            else:
                ended = sample.ended
            found.append(Stamp(sample.made_at, ended - timedelta(seconds=sample.seconds), ended))
        return found

    @staticmethod
    def _is_plausible(date: datetime, now: datetime) -> bool:
        return abs(date - now) <= PLAUSIBLE
