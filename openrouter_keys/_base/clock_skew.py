"""How far the service's `created_at` differs from the clock that the client uses. Pure."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from attrs import define, frozen

#: Seconds by which the clocks inside the service may differ from its `Date`, which has whole ones.
MARGIN: Final = 5.0
_MARGIN: Final = timedelta(seconds=MARGIN)
#: How much earlier than its create a key's `created_at` may be, by this machine's clock.
UNSEEN_HERE: Final = timedelta(hours=1)
_MINUTE: Final = timedelta(minutes=1)
# The units to which a service may cut its times.
_UNITS: Final = (timedelta(hours=1), _MINUTE, timedelta(seconds=1))
_NONE: Final = timedelta(0)


@define  # frozen, it would take three times as long to make
class Sample:
    """The times of an answered create.

    Attributes:
        made_at: the key's `created_at`.
        date: the answer's `Date`; None: it had none.
        ended: when the answer came, by this machine's clock.
        seconds: how long the answer took.
    """

    made_at: datetime
    date: str | None
    ended: datetime
    seconds: float


@frozen
class Stamp:
    """A key's `created_at`, and when its create was sent and ended by the client's clock."""

    made_at: datetime
    sent: datetime
    ended: datetime


@frozen(kw_only=True)
class Skew:
    """How far the `created_at` of a key may differ from the time of its create.

    Attributes:
        low: the smallest difference that proves a key to be the create's.
        high: the largest one.
        earliest: with a smaller difference, a key cannot be the create's; None: it always can.
        certain: whether a difference proves anything.
        may_be_cut: whether all known `created_at` are whole minutes, so that others may be cut.
    """

    low: timedelta
    high: timedelta
    earliest: timedelta | None
    certain: bool = True
    may_be_cut: bool = False

    def dates(self, made_at: datetime) -> bool:
        """Whether a `created_at` shows when its key was made."""
        return self.certain and not (self.may_be_cut and _is_whole(made_at, _MINUTE))


def skew_of(stamps: Sequence[Stamp], unseen: timedelta | None) -> Skew:
    """Return the skew that the times of known keys show.

    A key is proven by the one difference that fits all stamps, and by none if no difference fits
    all; it is reported as possible by the union of the differences that any stamp allows.

    Args:
        stamps: of some keys.
        unseen: how much earlier a `created_at` may be than the stamps show; None: this machine's
            clock may be wrong by days, and only stamps show it.
    """
    if not stamps:
        return _unstamped(unseen)
    # A clock that is behind by so much cannot have stamped all of them as it did.
    low = max(stamp.made_at - stamp.ended for stamp in stamps)
    high = min(stamp.made_at - stamp.sent for stamp in stamps)
    lowest = min(stamp.made_at - stamp.ended for stamp in stamps) - _unit(stamps) - _MARGIN
    skew = max(min(_NONE, high), low)
    return Skew(
        low=skew - _MARGIN,
        high=skew + _MARGIN,
        earliest=min(lowest, -(UNSEEN_HERE if unseen is None else unseen)),
        certain=low - high <= _MARGIN,
        may_be_cut=all(_is_whole(stamp.made_at, _MINUTE) for stamp in stamps),
    )


def _unstamped(unseen: timedelta | None) -> Skew:
    earliest = None if unseen is None else -unseen
    return Skew(low=-_MARGIN, high=_MARGIN, earliest=earliest, certain=unseen is not None)


def _unit(stamps: Sequence[Stamp]) -> timedelta:
    """Return the unit to which all stamps may be cut."""
    whole = (unit for unit in _UNITS if all(_is_whole(stamp.made_at, unit) for stamp in stamps))
    return next(whole, _NONE)


def _is_whole(time: datetime, unit: timedelta) -> bool:
    within = timedelta(minutes=time.minute, seconds=time.second, microseconds=time.microsecond)
    return not within % unit
