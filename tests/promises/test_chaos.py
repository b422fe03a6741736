"""Chaos: a misbehaving service, and what must hold all the same; and that it can be found not to.

More seeds than here: `nox -s chaos -- --seeds 5000`.
"""

import logging
from collections.abc import Callable, Sequence

import pytest

from openrouter_keys._reconcile import matching as doubts
from openrouter_keys._reconcile import reconcile
from openrouter_keys._reconcile.listing import Lister
from openrouter_keys._reconcile.reconcile import Reconciliation
from openrouter_keys._reconcile.single import Settler
from openrouter_keys._transport.deletion import Perform, Removal
from openrouter_keys.errors import CreateOutcomeUnknownError, OpenRouterError
from openrouter_keys.models import Key
from openrouter_keys.operations import delete
from openrouter_keys.provisioning import creator as making
from openrouter_keys.provisioning.reconciler import Reconciler
from openrouter_keys.provisioning.verdicts import Verdict, verdict
from openrouter_keys.results import attempt
from openrouter_keys.rotation import retirement as retiring
from tests.chaos import SCENARIOS, go, ledger

SEEDS = 10


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "asyncio")


@pytest.mark.slow
@pytest.mark.parametrize("name", SCENARIOS)
def test_no_key_is_live_unnamed_dead_in_hands_or_twice(name: str) -> None:
    for seed in range(SEEDS):
        world = go(name, seed)
        assert not world.wrong, ledger(world)


# --- it can fail ---

Break = Callable[[pytest.MonkeyPatch], None]


def unknown_is_not_made(broken: pytest.MonkeyPatch) -> None:
    """A create without an answer is sent again."""

    def wrong(error: OpenRouterError) -> Verdict:
        unknown = isinstance(error, CreateOutcomeUnknownError)
        return Verdict.LATER if unknown else verdict(error)

    broken.setattr(making, "verdict", wrong)


def any_answer_means_deleted(broken: pytest.MonkeyPatch) -> None:
    """Whatever a delete is answered with, the key counts as deleted."""

    async def wrong(perform: Perform, hash: str) -> Removal:
        await attempt(perform(delete(hash)))
        return Removal.DELETED

    broken.setattr(reconcile, "remove", wrong)


def a_name_is_a_proof(broken: pytest.MonkeyPatch) -> None:
    """Every key of a name in doubt is deleted."""

    def wrong(keys: Sequence[Key], *_: object) -> tuple[list[Key], list[Key]]:
        return [*keys], []

    broken.setattr(reconcile, "told_apart", wrong)  # by the list, and by the key itself


def one_look_is_a_proof(broken: pytest.MonkeyPatch) -> None:
    """What one look does not show is not there."""

    async def wrong(*_: object) -> None:
        return None

    broken.setattr(Lister, "_problem", wrong)


def nothing_lands_late(broken: pytest.MonkeyPatch) -> None:
    """Nothing is waited for, nor looked for once more."""

    async def due(*_: object) -> float:
        return 0

    broken.setattr(Reconciler, "due", due)
    broken.setattr(Reconciler, "_is_old", _agree)


def _agree(*_: object) -> bool:
    return True


def a_used_key_is_nobodys(broken: pytest.MonkeyPatch) -> None:
    """It does not matter whether a key was used, nor what it may spend."""
    broken.setattr(doubts, "_agrees", _agree)


def any_answer_means_retired(broken: pytest.MonkeyPatch) -> None:
    """Whatever its changes are answered with, an old key counts as disabled, and as deleted."""

    def unchanged(*_: object) -> None:
        return None

    async def remove(perform: Perform, hash: str) -> Removal:
        await attempt(perform(delete(hash)))
        return Removal.DELETED

    broken.setattr(retiring, "unchanged", unchanged)
    broken.setattr(retiring, "remove", remove)


def nothing_is_left_of_a_lost_create(broken: pytest.MonkeyPatch) -> None:
    """A single create without an answer is made anew, and nothing is looked for."""

    async def settle(*_: object) -> Reconciliation:
        return Reconciliation()

    broken.setattr(Settler, "settle", settle)


#: With the first seed that found it: so it is found at once, as long as it still does.
BREAKS: list[tuple[str, Break, int]] = [
    ("provisioning", unknown_is_not_made, 3),
    ("provisioning", any_answer_means_deleted, 3),
    ("provisioning", a_name_is_a_proof, 3),
    ("provisioning", one_look_is_a_proof, 25),
    ("provisioning", nothing_lands_late, 6),
    ("provisioning", a_used_key_is_nobodys, 3),
    ("rotating", a_name_is_a_proof, 9),
    ("rotating", any_answer_means_retired, 12),
    ("creating", a_name_is_a_proof, 23),
    ("creating", nothing_is_left_of_a_lost_create, 0),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "broken", "first"), BREAKS)
def test_a_promise_that_is_broken_is_found(
    name: str, broken: Break, first: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken(monkeypatch)
    assert any(go(name, seed).wrong for seed in (first, *range(4 * SEEDS)))
