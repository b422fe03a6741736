"""How the service's `created_at` lies against the clock that we tell its time by. Pure."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from attrs import define, frozen

#: Seconds by which the clocks inside the service may differ from its `Date`, which has whole ones.
MARGIN: Final = 5.0
_MARGIN: Final = timedelta(seconds=MARGIN)
# Whatever a time is cut to.
_UNITS: Final = (timedelta(hours=1), timedelta(minutes=1), timedelta(seconds=1))
_EPOCH: Final = timedelta(0)


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
    """By how much the `created_at` of a create's key may differ from when it was carried out.

    Attributes:
        low: a key that is stamped earlier than by this is not proven to be its own.
        high: nor is one that is stamped later.
        earliest: one that is stamped earlier than by this cannot be its own; None: any may.
    """

    low: timedelta
    high: timedelta
    earliest: timedelta | None


def skew_of(stamps: Sequence[Stamp], unseen: timedelta | None) -> Skew:
    """Return what keys that are known to be made show.

    Args:
        stamps: of some keys.
        unseen: by how much earlier a key may be stamped where no stamp shows it; None: by any.
    """
    if not stamps:
        earliest = None if unseen is None else -unseen
        return Skew(low=-_MARGIN, high=_MARGIN, earliest=earliest)
    unit = _unit(stamps)
    # A clock that is behind by so much cannot have stamped all of them as it did.
    low = max(stamp.made_at - stamp.ended for stamp in stamps) - unit
    high = min(stamp.made_at - stamp.sent for stamp in stamps) + unit
    lowest = min(stamp.made_at - stamp.ended for stamp in stamps) - unit
    return Skew(
        low=min(low, high, _EPOCH) - _MARGIN,
        high=max(low, high, _EPOCH) + _MARGIN,
        earliest=min(lowest, _EPOCH) - _MARGIN,
    )


def _unit(stamps: Sequence[Stamp]) -> timedelta:
    """What all stamps are cut to, for all that is seen."""
    times = [timedelta(minutes=at.minute, seconds=at.second, microseconds=at.microsecond)
             for at in (stamp.made_at for stamp in stamps)]  # fmt: skip
    return next((unit for unit in _UNITS if not any(time % unit for time in times)), _EPOCH)
