"""A create in doubt is repeated, and refused first: what somebody makes meanwhile stays."""

from pathlib import Path

import pytest
from attrs import evolve

from openrouter_keys import ProvisioningStoppedError
from tests.cases import new_case
from tests.journals import spec
from tests.misbehaving import Answer, Asked, refused

WAIT = 25


@pytest.mark.parametrize("outcome", ["502", "closed"])
@pytest.mark.parametrize("refusals", [1, 3])
@pytest.mark.parametrize("runs", [1, 2])
async def test_a_key_made_by_hand_while_a_repetition_is_refused_is_never_deleted(
    outcome: str, refusals: int, runs: int, tmp_path: Path
) -> None:
    async with new_case() as case:
        creates = 0

        def answer(asked: Asked) -> Answer | None:
            nonlocal creates
            if asked.method != "POST":
                return None
            creates += 1
            if creates == 1:
                case.service.outcomes.append(outcome)  # type: ignore[arg-type]  # a literal
                return None
            if creates == 2:
                case.time.slept.append(WAIT)
                case.service.add(spec().name)
                case.time.slept.append(WAIT)
            if creates > 1 + refusals:
                return None
            # A run stops for a long one.
            wait = 300 if runs > 1 and creates == 1 + refusals else WAIT
            return evolve(refused(429), headers={"Retry-After": str(wait)})

        case.service.answer = answer
        path = tmp_path / "customers.journal"
        for _ in range(runs):
            try:
                await case.client.provision([spec()], journal=path)
            except ProvisioningStoppedError:
                case.time.slept.append(300)

        (by_hand, *_) = case.service.keys
        assert by_hand["name"] == spec().name
        assert case.service.count("DELETE") == 0
