"""The service as it was at three dates: which fields it has, takes and refuses, over a socket."""

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import cast

import aiohttp
import pytest
from attrs import define

from openrouter_keys.emulator import Account, Emulator, Workspace
from openrouter_keys.emulator.contracts import CONTRACT_NAMES, ContractName

OTHER = "11111111-2222-4333-8444-555555555555"
NOWHERE = "99999999-2222-4333-8444-555555555555"


def words(text: str) -> set[str]:
    return set(text.split())


FIRST_KEY = words(
    """hash name label disabled include_byok_in_limit limit limit_remaining limit_reset
    usage usage_daily usage_weekly usage_monthly
    byok_usage byok_usage_daily byok_usage_weekly byok_usage_monthly created_at updated_at
    """
)
KEY: dict[ContractName, set[str]] = {
    "2025-02": FIRST_KEY,
    "2026-08": FIRST_KEY | words("expires_at creator_user_id workspace_id"),
    "2026-11": FIRST_KEY
    | words("expires_at creator_user_id workspace_id external_user last_used_at"),
}
FIRST_CURRENT = words(
    """label limit limit_remaining limit_reset include_byok_in_limit
    usage usage_daily usage_weekly usage_monthly
    byok_usage byok_usage_daily byok_usage_weekly byok_usage_monthly
    is_free_tier is_management_key is_provisioning_key rate_limit
    """
)
CURRENT: dict[ContractName, set[str]] = {
    "2025-02": FIRST_CURRENT,
    "2026-08": FIRST_CURRENT | words("creator_user_id expires_at"),
    "2026-11": FIRST_CURRENT
    | words("creator_user_id expires_at workspace_id organization_id allowed_data_regions")
    | words("free_model_daily_requests budgets effective_budget"),
}
of_every_contract = pytest.mark.parametrize("contract", CONTRACT_NAMES)


@define
class Service:
    """An emulator that follows a contract, and a client that knows nothing of the package's."""

    emulator: Emulator
    session: aiohttp.ClientSession

    async def __call__(
        self, method: str, path: str, body: object = None, key: str | None = None
    ) -> tuple[int, dict[str, object]]:
        headers = {"Authorization": f"Bearer {key or self.emulator.api_key}"}
        url = self.emulator.base_url + path
        async with self.session.request(method, url, json=body, headers=headers) as response:
            return response.status, cast("dict[str, object]", json.loads(await response.text()))

    async def data(self, method: str, path: str, body: object = None) -> dict[str, object]:
        _, answer = await self(method, path, body)
        return cast("dict[str, object]", answer["data"])


@asynccontextmanager
async def service(contract: ContractName) -> AsyncGenerator[Service, None]:
    account = Account()
    account.workspaces[OTHER] = Workspace(OTHER)
    async with (
        Emulator(account, contract=contract) as emulator,
        aiohttp.ClientSession() as session,
    ):
        yield Service(emulator, session)


@of_every_contract
async def test_every_answer_with_a_key_has_the_fields_of_its_time(contract: ContractName) -> None:
    async with service(contract) as ask:
        made = await ask.data("POST", "/keys", {"name": "x"})
        path = f"/keys/{made['hash']}"
        got = await ask.data("GET", path)
        changed = await ask.data("PATCH", path, {"name": "y"})
        _, listed = await ask("GET", "/keys")

    (one,) = cast("list[dict[str, object]]", listed["data"])
    for record in (made, got, changed, one):
        assert record.keys() == KEY[contract]


@of_every_contract
async def test_the_current_key_has_the_fields_of_its_time(contract: ContractName) -> None:
    async with service(contract) as ask:
        assert (await ask.data("GET", "/key")).keys() == CURRENT[contract]


# field of a create -> its value -> the contracts that know it
CREATES: dict[str, tuple[object, set[ContractName]]] = {
    "limit_reset": ("daily", {*CONTRACT_NAMES}),
    "expires_at": ("2027-12-31T23:59:59Z", {"2026-08", "2026-11"}),
    "creator_user_id": ("user_1", {"2026-08", "2026-11"}),
    "workspace_id": (OTHER, {"2026-08", "2026-11"}),
    "external": ({"user": "u"}, {"2026-11"}),
}
STORED = {"external": "external_user"}


@of_every_contract
@pytest.mark.parametrize("field", CREATES)
async def test_a_create_takes_what_its_time_knows_and_ignores_the_rest(
    contract: ContractName, field: str
) -> None:
    value, known_to = CREATES[field]
    async with service(contract) as ask:
        status, _ = await ask("POST", "/keys", {"name": "x", field: value})
        wrong, _ = await ask("POST", "/keys", {"name": "x", field: 7})
        plain = getattr(ask.emulator.account.add(), STORED.get(field, field))
        stored = getattr(next(iter(ask.emulator.account.keys.values())), STORED.get(field, field))

    assert status == 201
    assert (stored != plain, wrong) == ((True, 400) if contract in known_to else (False, 201))


@of_every_contract
async def test_a_key_is_moved_by_an_update_only_in_the_newest(contract: ContractName) -> None:
    async with service(contract) as ask:
        key = ask.emulator.account.add()
        status, answer = await ask("PATCH", f"/keys/{key.hash}", {"workspace_id": OTHER})

    if contract == "2026-11":
        assert (status, key.workspace_id) == (200, OTHER)
    else:
        error = {"code": 400, "message": "No update fields provided"}
        assert (status, answer) == (400, {"error": error})
        assert key.workspace_id == ask.emulator.account.default_workspace


@pytest.mark.parametrize(
    ("contract", "status"), [("2025-02", 200), ("2026-08", 400), ("2026-11", 404)]
)
async def test_an_unknown_workspace_is_ignored_then_refused_then_not_found(
    contract: ContractName, status: int
) -> None:
    async with service(contract) as ask:
        got, answer = await ask("GET", f"/keys?workspace_id={NOWHERE}")

    assert got == status
    if status != 200:
        assert answer == {"error": {"code": status, "message": "Workspace not found"}}


@pytest.mark.parametrize(
    ("contract", "statuses"), [("2025-02", 200), ("2026-08", 200), ("2026-11", 400)]
)
async def test_expired_keys_can_be_asked_for_only_in_the_newest(
    contract: ContractName, statuses: int
) -> None:
    async with service(contract) as ask:
        assert (await ask("GET", "/keys?include_expired=perhaps"))[0] == statuses


async def test_the_contract_can_be_another_while_it_serves() -> None:
    async with service("2026-11") as ask:
        ask.emulator.contract = "2025-02"

        assert (await ask.data("POST", "/keys", {"name": "x"})).keys() == FIRST_KEY


def test_a_contract_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="contract"):
        Emulator(contract="2024-01")  # type: ignore[arg-type]  # that is the test
