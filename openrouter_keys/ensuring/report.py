"""What `ensure` returns. No `repr` shows a secret."""

from typing import Literal, TypeAlias

from attrs import field, frozen

from openrouter_keys._base.masking import mask
from openrouter_keys.models import HoldsSecret, Key

Outcome: TypeAlias = Literal["created", "existing", "updated"]


def _masked(key: str | None) -> str:
    return "None" if key is None else mask(key)


@frozen(kw_only=True)
class Ensured(HoldsSecret):
    """The one key of a ref.

    Attributes:
        ref: the caller's own id for it.
        key: the secret; masked in `repr`, never pickled. None: the journal has none that can be
            read: it was not stored, it was purged, the key was adopted, or it is sealed and there
            is no `identity`.
        data: the key's record, as the service showed it last.
        outcome: `created`: in this call. `existing`: before it, and the journal has it as it is
            asked for. `updated`: it was changed to what is asked for.
    """

    ref: str
    key: str | None = field(repr=_masked)
    data: Key
    outcome: Outcome
