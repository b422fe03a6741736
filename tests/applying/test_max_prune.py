"""How many keys are pruned at most: specs may be half of a file."""

from collections.abc import Sequence
from typing import Any

import pytest

from openrouter_keys import KeySpec, TooManyPrunedError
from tests.applying.sites import Site
from tests.journals import spec


def specs(count: int) -> list[KeySpec]:
    return [spec(str(number), limit=5) for number in range(count)]


async def refused(site: Site, wanted: Sequence[KeySpec], **given: Any) -> TooManyPrunedError:
    """Nothing is changed, and the plan shows what would have been."""
    before = {hash: key.disabled for hash, key in site.emulator.account.keys.items()}
    with pytest.raises(TooManyPrunedError) as caught:
        await site.apply(wanted, **given)
    assert before == {hash: key.disabled for hash, key in site.emulator.account.keys.items()}
    assert not site.writes
    assert await site.plan(wanted, **given) == caught.value.plan
    return caught.value


@pytest.mark.parametrize(
    ("have", "left", "most", "permitted"),
    [
        # Few keys, of which any may go; then half of them.
        (1, 0, None, True),
        (2, 1, None, True),
        (3, 0, None, True),
        (4, 1, None, True),
        (4, 0, None, False),
        (5, 1, None, False),
        (8, 4, None, True),
        (9, 4, None, False),
        # A number, which may be more or less than that.
        (9, 4, 5, True),
        (9, 4, 4, False),
        (2, 1, 0, False),
        # A share of the keys that work.
        (9, 4, 0.6, True),
        (9, 4, 0.5, False),
        (2, 1, 0.0, False),
        (9, 0, 1.0, True),
        (9, 8, 1 / 9, True),
        (9, 8, 0.1, False),
    ],
)
@pytest.mark.parametrize("way", ["disable", "delete"])
async def test_the_most(
    site: Site, way: Any, have: int, left: int, most: float | None, *, permitted: bool
) -> None:
    await site.applied(specs(have))
    wanted = [*specs(left), spec("new")]
    given = {"prune": way, "max_prune": most}
    if permitted:
        assert (await site.plan(wanted, **given)).excess is None
        assert (await site.apply(wanted, **given)).pruned == have - left
        return
    error = await refused(site, wanted, **given)
    assert (error.excess.pruned, error.excess.working) == (have - left, have)
    assert f"give max_prune={have - left} if" in str(error)
    report = await site.apply(wanted, **{**given, "max_prune": have - left})
    assert (report.ok, report.pruned) == (True, have - left)


@pytest.mark.parametrize("have", [1, 2, 5])
@pytest.mark.parametrize("way", ["disable", "delete"])
async def test_no_specs_at_all(site: Site, way: Any, have: int) -> None:
    """Whatever they come from gave none; to prune all keys is asked for by a number."""
    await site.applied(specs(have))
    error = await refused(site, [], prune=way)
    assert "there are no specs, and" in str(error)
    report = await site.apply([], prune=way, max_prune=1.0)
    assert (report.ok, report.pruned) == (True, have)
    await site.assert_as([], prune="disable")


async def test_no_specs_and_keys_that_are_disabled(site: Site) -> None:
    await site.applied(specs(2))
    await site.apply([], prune="disable", max_prune=2)
    site.emulator.requests.clear()
    await refused(site, [], prune="delete")
    assert (await site.apply([], prune="delete", max_prune=2)).pruned == 2


async def test_what_is_disabled_already_does_not_count(site: Site) -> None:
    """First disabled, then deleted, as careful people do: the second step cuts nobody off."""
    await site.applied(specs(9))
    await site.apply(specs(1), prune="disable", max_prune=8)
    report = await site.apply(specs(1), prune="delete")
    assert (report.ok, report.pruned) == (True, 8)


@pytest.mark.parametrize("given", [{}, {"prune": None, "max_prune": 0}, {"max_prune": 0.0}])
async def test_without_prune_nothing_is_refused(site: Site, given: Any) -> None:
    await site.applied(specs(9))
    report = await site.apply([], **given)
    assert (report.ok, report.changed, len(report.plan.left)) == (True, 0, 9)


async def test_a_journal_without_keys(site: Site) -> None:
    assert (await site.apply([], prune="delete")).ok


@pytest.mark.parametrize("most", [-1, 1.5, -0.1, float("nan"), True, "half", "50%"])
async def test_what_is_no_bound(site: Site, most: Any) -> None:
    for call in (site.plan, site.apply):
        with pytest.raises(ValueError, match=r"^max_prune: must be"):
            await call([], prune="delete", max_prune=most)
    assert not site.emulator.requests
