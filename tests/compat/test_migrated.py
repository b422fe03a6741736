"""Programs of the official SDK's users run with another import, and do the same.

Each calls an operation as the SDK's documents do, those of 2025 and of 2026. It runs with the SDK
too, where that is installed. What differs on purpose is listed by name at the end.
"""

import asyncio
import json
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from textwrap import dedent
from typing import Any, Final

import pytest

from openrouter_keys import errors
from openrouter_keys.emulator import Emulator, Fault

pytestmark = pytest.mark.filterwarnings("ignore:.*DEPRECATED:DeprecationWarning")

OFFICIAL: Final = "openrouter"
SDKS: Final = ["openrouter_keys", *([OFFICIAL] if find_spec(OFFICIAL) else [])]

PREAMBLE: Final = """
import os
from openrouter import OpenRouter, components, errors, operations
from openrouter.utils import BackoffStrategy, RetryConfig, parse_datetime

client = OpenRouter(
    http_referer="https://example.com",
    x_open_router_title="mine",
    x_open_router_categories="cli-agent",
    api_key=os.getenv("OPENROUTER_API_KEY", ""),
    server_url=os.environ["SERVER"],
)
with client as open_router:
"""

#: A program of each kind, and what it finds; the account has one key, `old`.
PROGRAMS: Final[dict[str, tuple[str, object]]] = {
    "current": (
        "res = open_router.api_keys.get_current_key_metadata()\n"
        "found = res.data.is_management_key, isinstance(res.data, operations.GetCurrentKeyData)",
        (True, True),
    ),
    "list": ("found = [k.name for k in open_router.api_keys.list().data]", ["old"]),
    "list, with all that it takes": (
        "res = open_router.api_keys.list(include_disabled=False, offset=0)\n"
        "found = isinstance(res, operations.ListResponse), isinstance(\n"
        "    res.data[0], operations.ListData)",
        (True, True),
    ),
    "create, as in 2025": (
        "res = open_router.api_keys.create(name='n', limit=50, limit_reset='monthly',\n"
        "    include_byok_in_limit=True)\n"
        "found = res.key[:9], res.data.name, res.data.limit, res.data.limit_reset",
        ("sk-or-v1-", "n", 50.0, "monthly"),
    ),
    "create, as in 2026": (
        "res = open_router.api_keys.create(name='n', expires_at=parse_datetime(\n"
        "    '2099-12-31T23:59:59Z'), include_byok_in_limit=True, limit=50,\n"
        "    limit_reset='monthly')\n"
        "found = (res.data.expires_at.year, isinstance(res, operations.CreateKeysResponse),\n"
        "    isinstance(res.data, operations.CreateKeysData))",
        (2099, True, True),
    ),
    "create, with an unset field": (
        "from openrouter.types import UNSET\n"
        "res = open_router.api_keys.create(name='n', limit=UNSET, limit_reset=UNSET,\n"
        "    expires_at=UNSET, creator_user_id=UNSET, retries=UNSET)\n"
        "found = res.data.limit",
        None,
    ),
    "get": (
        "res = open_router.api_keys.get(hash=hash)\n"
        "found = res.data.hash == hash, isinstance(res.data, operations.GetKeyData)",
        (True, True),
    ),
    "update": (
        "res = open_router.api_keys.update(hash=hash, name='new', disabled=False, limit=75,\n"
        "    limit_reset='daily', include_byok_in_limit=True)\n"
        "found = res.data.name, res.data.limit, isinstance(res.data, operations.UpdateKeysData)",
        ("new", 75.0, True),
    ),
    "update to no limit": (
        "found = open_router.api_keys.update(hash=hash, limit=None).data.limit",
        None,
    ),
    "delete": (
        "res = open_router.api_keys.delete(hash=hash)\n"
        "found = res.DELETED, isinstance(res, operations.DeleteKeysResponse)",
        (True, True),
    ),
    "options of a call": (
        "res = open_router.api_keys.list(timeout_ms=5000, http_headers={'X-Mine': '1'},\n"
        "    retries=RetryConfig('backoff', BackoffStrategy(1, 50, 1.1, 100), False))\n"
        "found = len(res.data)",
        1,
    ),
    "an error": (
        "try:\n"
        "    open_router.api_keys.get(hash='0' * 64)\n"
        "except errors.NotFoundResponseError as error:\n"
        "    found = (error.status_code, error.raw_response.status_code,\n"
        "        error.raw_response.json()['error']['code'], error.data.error.code,\n"
        "        error.message == error.data.error.message,\n"
        "        isinstance(error.data, errors.NotFoundResponseErrorData),\n"
        "        isinstance(error.data.error, components.NotFoundResponseErrorData),\n"
        "        error.body == error.raw_response.text,\n"
        "        isinstance(error, errors.OpenRouterError))",
        (404, 404, 404, 404, True, True, True, True, True),
    ),
}


def run(program: str, sdk: str, emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run a program with an SDK: what it finds."""
    monkeypatch.setenv("OPENROUTER_API_KEY", emulator.api_key)
    monkeypatch.setenv("SERVER", emulator.base_url)
    key = emulator.account.add("old", limit=5.0)
    indented = "".join(f"    {line}\n" for line in program.splitlines())
    code = PREAMBLE + indented
    if "openrouter.types" in code:  # the SDK's own value, also for this client
        code = code.replace("from openrouter.types", "from the_sdk.types")
    code = code.replace("from openrouter", f"from {sdk}")
    code = code.replace("from the_sdk", f"from {OFFICIAL}")
    names: dict[str, Any] = {"hash": key.hash}
    exec(dedent(code), names)
    return names["found"]


@pytest.mark.parametrize("sdk", SDKS)
@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_finds_the_same_with_another_import(
    name: str, sdk: str, openrouter_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    program, expected = PROGRAMS[name]
    if "openrouter.types" in program:
        pytest.importorskip(OFFICIAL)
    assert run(program, sdk, openrouter_emulator, monkeypatch) == expected


# --- what differs on purpose ---


def _create_is_sent_once(emulator: Emulator) -> None:
    emulator.faults.append(Fault("create", status=502, times=None))
    client = import_module("openrouter_keys").OpenRouter(
        emulator.api_key, server_url=emulator.base_url
    )
    with client, pytest.raises(errors.CreateOutcomeUnknownError):
        client.api_keys.create(name="n")
    assert emulator.count("create") == 1


def _a_blocking_client_has_no_async_methods(emulator: Emulator) -> None:
    with import_module("openrouter_keys").OpenRouter("k") as client:
        for name in ("create_async", "list_async", "get_current_key_metadata_async"):
            assert not hasattr(client.api_keys, name)
            with pytest.raises(AttributeError, match=f"{name}.*AsyncOpenRouter"):
                getattr(client.api_keys, name)
        with pytest.raises(AttributeError, match=r"'made_up_async'$"):
            client.api_keys.made_up_async  # noqa: B018 - it is asked for


def _a_blocking_client_is_no_async_context(emulator: Emulator) -> None:
    async def enter() -> None:
        async with import_module("openrouter_keys").OpenRouter("k"):
            pytest.fail("it was entered")

    with pytest.raises(errors.ClientStateError, match="AsyncOpenRouter"):
        asyncio.run(enter())


def _a_naive_time_is_refused(emulator: Emulator) -> None:
    client = import_module("openrouter_keys").OpenRouter("k")
    with client, pytest.raises(errors.InvalidArgumentError, match="expires_at"):
        client.api_keys.create(name="n", expires_at="2099-12-31")


def _an_update_without_a_field_is_refused(emulator: Emulator) -> None:
    client = import_module("openrouter_keys").OpenRouter("k")
    with client, pytest.raises(errors.InvalidArgumentError):
        client.api_keys.update(hash="0" * 64)
    assert not emulator.requests


def _a_record_is_plain_by_to_dict(emulator: Emulator) -> None:
    api_key, url = emulator.api_key, emulator.base_url
    with import_module("openrouter_keys").OpenRouter(api_key, server_url=url) as client:
        created = client.api_keys.create(name="n")
    assert not hasattr(created, "model_dump")
    assert created.key not in json.dumps(created.to_dict())
    assert created.key not in repr(created)


def _no_answer_has_no_raw_response(emulator: Emulator) -> None:
    nothing = "http://127.0.0.1:9/api/v1"
    client = import_module("openrouter_keys").OpenRouter("k", server_url=nothing)
    with client, pytest.raises(errors.NoResponseError) as refused:
        client.api_keys.list(timeout_ms=300)
    assert refused.value.raw_response is None


DIFFERENT: Final[dict[str, Callable[[Emulator], None]]] = {
    "a create without an answer is sent once": _create_is_sent_once,
    "no create_async": _a_blocking_client_has_no_async_methods,
    "no async with OpenRouter": _a_blocking_client_is_no_async_context,
    "a textual or naive time is refused": _a_naive_time_is_refused,
    "an update without a field is refused": _an_update_without_a_field_is_refused,
    "to_dict() in place of model_dump()": _a_record_is_plain_by_to_dict,
    "a lost connection is an OpenRouterError": _no_answer_has_no_raw_response,
}


@pytest.mark.parametrize("what", DIFFERENT)
def test_what_differs_on_purpose(what: str, openrouter_emulator: Emulator) -> None:
    DIFFERENT[what](openrouter_emulator)
