"""How the service's `created_at` lies against the clock that we tell its time by. Pure."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from attrs import define, frozen

#: Seconds by which the clocks inside the service may differ from its `Date`, which has whole ones.
MARGIN: Final = 5.0
_MARGIN: Final = timedelta(seconds=MARGIN)
#: By how much earlier than its create a key may be stamped, against this machine's clock.
UNSEEN_HERE: Final = timedelta(hours=1)
_MINUTE: Final = timedelta(minutes=1)
# Whatever a time is cut to.
_UNITS: Final = (timedelta(hours=1), _MINUTE, timedelta(seconds=1))
_NONE: Final = timedelta(0)


@define  # frozen, it would take three times as long to make
class Sample:
    """A create that was answered, as its client saw it.

    Attributes:
        made_at: the key's `created_at`.
        date: the answer's `Date`; None: it had none.
        ended: when the answer came, by this machine's clock.
        seconds: since the create was sent.
    """

    made_at: datetime
    date: str | None
    ended: datetime
    seconds: float


@frozen
class Stamp:
    """A key's `created_at`, and between which times it was made, by the clock that we go by."""

    made_at: datetime
    sent: datetime
    ended: datetime


@frozen(kw_only=True)
class Skew:
    """How the `created_at` of a key may differ from when its create was carried out.

    Attributes:
        low: a key that is stamped earlier than by this is not proven to be its create's own.
        high: nor is one that is stamped later.
        earliest: one that is stamped earlier than by this cannot be its own; None: any may.
        certain: whether a stamp proves anything.
        may_be_cut: whether all stamps seen are whole minutes, so that others may be cut to them.
    """

    low: timedelta
    high: timedelta
    earliest: timedelta | None
    certain: bool = True
    may_be_cut: bool = False

    def dates(self, made_at: datetime) -> bool:
        """Whether a stamp shows when its key was made."""
        return self.certain and not (self.may_be_cut and _is_whole(made_at, _MINUTE))


def skew_of(stamps: Sequence[Stamp], unseen: timedelta | None) -> Skew:
    """Return what keys that are known to be made show.

    What a key is proven by is the one skew that fits all of them, and none if one fits; what it is
    reported by is the union of all that any stamp allows.

    Args:
        stamps: of some keys.
        unseen: by how much earlier a key may be stamped than they show; None: this machine's clock
            may be wrong by days, and nothing but stamps shows it.
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
    """What all stamps may be cut to."""
    whole = (unit for unit in _UNITS if all(_is_whole(stamp.made_at, unit) for stamp in stamps))
    return next(whole, _NONE)


def _is_whole(time: datetime, unit: timedelta) -> bool:
    within = timedelta(minutes=time.minute, seconds=time.second, microseconds=time.microsecond)
    return not within % unit
