"""What `adopt` and `adopt_all` return."""

from collections.abc import Mapping
from typing import Literal, TypeAlias

from attrs import frozen

from openrouter_keys.models import Key
from openrouter_keys.provisioning.report import ProvisionProblem

AdoptionOutcome: TypeAlias = Literal["adopted", "existing"]


@frozen(kw_only=True)
class AdoptedKey:
    """A key that the journal has under a ref.

    Attributes:
        ref: the caller's own id for it.
        data: the key's record, as the service shows it now.
        outcome: `adopted`: in this call. `existing`: the ref had this key before.
    """

    ref: str
    data: Key
    outcome: AdoptionOutcome


@frozen(kw_only=True)
class AdoptionReport:
    """What came of the adoption of many keys.

    Attributes:
        adopted: the hashes of the keys that joined the journal in this call, by ref.
        existing: how many refs had a key in the journal before.
        missing: the refs of specs whose name no key has: `provision` or `ensure` makes their keys.
        refused: which keys did not join the journal, and why. If several keys have the name, none
            does, and `hashes` has all of them.
    """

    adopted: Mapping[str, str]
    existing: int
    missing: tuple[str, ...]
    refused: tuple[ProvisionProblem, ...]

    @property
    def ok(self) -> bool:
        """Whether the journal has a key for each spec now."""
        return not (self.missing or self.refused)
