"""The blocking client against a real socket: threads, running loops, real signals."""

import inspect
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import aiohttp
import pytest

from openrouter_keys import (
    APIKeys,
    AsyncAPIKeys,
    AsyncOpenRouter,
    CreateKeysResponse,
    OpenRouter,
    errors,
)
from openrouter_keys.emulator import Account, Emulator, Fault
from tests.clients import InterruptedFuture
from tests.processes import Process, environment
from tests.tables import in_one_test


def operations(cls: type) -> set[str]:
    return {name for name in dir(cls) if not name.startswith("_") and callable(getattr(cls, name))}


def test_every_operation_has_its_blocking_twin() -> None:
    assert operations(APIKeys) == operations(AsyncAPIKeys)
    assert operations(OpenRouter) == operations(AsyncOpenRouter)


@in_one_test("name", sorted(operations(AsyncAPIKeys)))
def test_twins_have_the_same_signature_and_docstring(name: str) -> None:
    ours, theirs = getattr(APIKeys, name), getattr(AsyncAPIKeys, name)
    own, other = inspect.signature(ours), inspect.signature(theirs)
    assert list(own.parameters.values()) == list(other.parameters.values())
    assert inspect.getdoc(ours) == inspect.getdoc(theirs)
    if name != "iterate":
        assert own == other


def test_the_clients_take_the_same_arguments() -> None:
    own, other = (
        {name: (p.kind, p.default) for name, p in inspect.signature(cls).parameters.items()}
        for cls in (OpenRouter, AsyncOpenRouter)
    )
    assert own == other


def test_the_six_operations_and_the_iterator() -> None:
    with (
        Emulator(page_size=10) as emulator,
        OpenRouter(emulator.api_key, server_url=emulator.base_url) as client,
    ):
        made = [client.api_keys.create(name=f"{n}", limit=n) for n in range(25)]
        first = made[0].data.hash
        assert len(client.api_keys.list().data) == 10
        assert [key.hash for key in client.api_keys.iterate()] == [
            created.data.hash for created in reversed(made)
        ]
        assert client.api_keys.get(first).data.name == "0"
        assert client.api_keys.update(first, limit=None).data.limit is None
        assert client.api_keys.delete(first).deleted
        with pytest.raises(errors.NotFoundResponseError):
            client.api_keys.get(first)
        assert client.api_keys.get_current_key_metadata().data.is_management_key


async def test_it_works_inside_a_running_loop() -> None:
    with Emulator() as emulator, OpenRouter(
        emulator.api_key, server_url=emulator.base_url
    ) as client:  # fmt: skip
        assert client.api_keys.list().data == []


def test_many_threads_share_a_client() -> None:
    with (
        Emulator() as emulator,
        OpenRouter(emulator.api_key, server_url=emulator.base_url) as client,
        ThreadPoolExecutor(8) as pool,
    ):

        def create(n: int) -> CreateKeysResponse:
            return client.api_keys.create(name=f"{n}")

        made = list(pool.map(create, range(64)))

    assert {created.data.hash for created in made} == set(emulator.account.keys)


def test_a_closed_client_says_so() -> None:
    with Emulator() as emulator:
        client = OpenRouter(emulator.api_key, server_url=emulator.base_url)
        client.api_keys.list()
        client.close()
        client.close()
        with pytest.raises(errors.ClientClosedError):
            client.api_keys.list()


def test_a_session_is_made_in_the_clients_loop_and_closed_with_it() -> None:
    made: list[aiohttp.ClientSession] = []

    def make() -> aiohttp.ClientSession:
        made.append(aiohttp.ClientSession(headers={"X-Team": "billing"}))
        return made[0]

    with Emulator() as emulator:
        with OpenRouter(emulator.api_key, server_url=emulator.base_url, session=make) as client:
            client.api_keys.list()
        assert emulator.requests[0].headers["x-team"] == "billing"
    assert made[0].closed


async def test_a_session_that_is_made_already_is_refused() -> None:
    async with aiohttp.ClientSession() as session:
        wrong: Any = session
        with pytest.raises(errors.InvalidArgumentError, match=r"session.*another event loop"):
            OpenRouter("key", session=wrong)


def run(emulator: Emulator, script: str) -> Process:
    server = environment(OPENROUTER_API_KEY=emulator.api_key, OPENROUTER_BASE_URL=emulator.base_url)
    return Process("-c", script, environment=server)


def interrupt(process: Process, emulator: Emulator) -> tuple[str, str]:
    while not [request for request in emulator.requests if request.operation != "current"]:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    return process.communicate(timeout=30)


@pytest.mark.slow
def test_ctrl_c_drops_the_request_and_leaves_the_client_usable() -> None:
    with Emulator(faults=[Fault("list", "stalled")]) as emulator:
        process = run(
            emulator,
            "from openrouter_keys import OpenRouter\n"
            "with OpenRouter() as client:\n"
            "    client.api_keys.get_current_key_metadata()\n"
            "    try:\n"
            "        client.api_keys.list()\n"
            "    except KeyboardInterrupt:\n"
            "        print('interrupted')\n"
            "    print(client.api_keys.get_current_key_metadata().data.is_management_key)\n",
        )
        out, err = interrupt(process, emulator)

    assert (out.split(), err, process.returncode) == (["interrupted", "True"], "", 0)
    assert emulator.count("list") == 1


@pytest.mark.slow
@pytest.mark.parametrize("handled", [True, False])
def test_a_create_that_ctrl_c_interrupts_leaves_no_key(handled: bool) -> None:
    handler = "except KeyboardInterrupt: print('interrupted')" if handled else "finally: pass"
    with Emulator(latency=0.3) as emulator:
        process = run(
            emulator,
            "from openrouter_keys import OpenRouter\n"
            "client = OpenRouter()\n"
            f"try: client.api_keys.create(name='new')\n{handler}\n",
        )
        interrupt(process, emulator)

    assert [request.operation for request in emulator.requests] == ["create", "delete"]
    assert emulator.account.keys == {}


@pytest.mark.parametrize("hidden", [(), ("name",), ("hash",), ("hash", "created_at")])
def test_a_created_key_that_ctrl_c_keeps_from_its_caller_is_deleted(
    hidden: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    account = Account(hidden_fields={*hidden})  # without some, the answer cannot be read
    with Emulator(account) as emulator:
        with OpenRouter(emulator.api_key, server_url=emulator.base_url) as client:
            client.api_keys.list()
            with monkeypatch.context() as patched:
                patched.setattr("openrouter_keys._blocking.loop_thread.Future", InterruptedFuture)
                with pytest.raises(KeyboardInterrupt):
                    client.api_keys.create(name="new")

        assert [request.operation for request in emulator.requests] == ["list", "create", "delete"]
        assert emulator.account.keys == {}
