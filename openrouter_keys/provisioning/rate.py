"""The rate at which a service that rejects can be asked. Pure: no clock, no waiting."""

import math

#: The slowest rate that rejections lead to, in requests a second.
FLOOR = 0.2
# What a rejection leaves of the rate that was measured; and of the rate before it, at most and at
# least: a measurement can be short.
_KEPT, _MOST, _LEAST = 0.95, 0.9, 0.5
# Fewer accepted requests than this measure nothing.
_ENOUGH = 5
# Where nothing is known yet, so much of the first rejected rate is taken for the limit.
_GUESS = 0.75
# Growth a second: up to the rate that is known to be accepted, then beyond it, there the faster the
# longer nothing was rejected (so many seconds add as much again).
_RETURN, _GROWTH, _PATIENCE = 1.0, 0.0015, 20.0
# Seconds that one accepted request may stand for: neither a pause nor a low rate makes it grow.
_LONGEST = 0.1
# Nothing is measured over less time than this.
_SHORTEST = 0.001


class Rate:
    """The rate that rejected and accepted requests lead to. Pure: the time is handed in.

    Unlimited until the first rejection, which brings it down to most of the *measured* rate of
    accepted requests; accepted ones bring it up again, slowly beyond what is known to be accepted.

    Attributes:
        now: requests a second; infinite: unlimited.

    Args:
        ceiling: the rate that is never passed; infinite: none.
    """

    def __init__(self, ceiling: float = math.inf) -> None:
        self.now: float = ceiling
        self._ceiling = self._known = ceiling
        self._floor = min(FLOOR, ceiling)
        self._used = False
        self._measure_after(math.nan)

    def _measure_after(self, cut: float) -> None:
        self._cut = cut
        self._resumed = self._first = self._last = math.nan
        self._accepted, self._quiet = 0, 0.0

    def sent(self, time: float, *, held_back: bool) -> None:
        """Note that a request was sent.

        Args:
            time: the time now, in seconds.
            held_back: whether it had to wait for this rate: one that is not used up must not grow,
                since it is not known whether the service would accept it.
        """
        self._used = held_back
        if math.isnan(self._resumed):
            self._resumed = time
        if math.isnan(self._cut):
            self._cut = time

    def accepted(self, time: float) -> None:
        """Count an accepted request that was sent since the rate came down."""
        if math.isnan(self._first):
            # Its way there and back is no low rate, so the measurement begins after it.
            self._first = self._last = time
            return
        self._accepted += 1
        passed, self._last = min(time - self._last, _LONGEST), time
        if self._used:
            self.now = min(self._grown(passed), self._ceiling)

    def _grown(self, passed: float) -> float:
        if self.now < self._known:
            return min(self._known, self.now * (1 + _RETURN * passed))
        self._quiet += passed
        return self.now * (1 + _GROWTH * (1 + self._quiet / _PATIENCE) * passed)

    def rejected(self, time: float, in_flight: int) -> None:
        """Lower the rate: a request was rejected that was sent since it came down.

        Args:
            time: the time now.
            in_flight: how many requests are on their way.
        """
        if math.isinf(self.now):
            self.now = self._start(time, in_flight)
        elif self._accepted < _ENOUGH:
            self._halve()
        else:
            self._lower(time)
        self.now = max(self.now, self._floor)
        self._measure_after(time)

    def _start(self, time: float, in_flight: int) -> float:
        # A first burst is accepted faster than any limit: too low a start is soon made up for.
        if self._accepted < _ENOUGH:
            return in_flight
        return _LEAST * self._accepted / max(time - self._resumed, _SHORTEST)

    def _halve(self) -> None:
        unknown = math.isinf(self._known)
        self._known = _GUESS * self.now if unknown else _MOST * self._known
        self.now *= _LEAST

    def _lower(self, time: float) -> None:
        active = max(time - self._first, _SHORTEST)
        whole = active + self._resumed - self._cut
        # What the service saved up for us in a pause makes the rate of the active time too high,
        # what it did not save makes that of the whole time too low: the truth is in between.
        likely, most = self._accepted / math.sqrt(active * whole), self._accepted / active
        before, self.now = self.now, self._within(self.now, likely * _KEPT)
        self._known = self._within(before, (likely + most) / 2 * _KEPT)

    @staticmethod
    def _within(before: float, lowered: float) -> float:
        return min(max(lowered, before * _LEAST), before * _MOST)
