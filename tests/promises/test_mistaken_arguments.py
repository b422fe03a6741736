"""A secret in the place of another argument is in no traceback's local variables of ours."""

import asyncio
import traceback
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from openrouter_keys import (
    AsyncOpenRouter,
    BackoffStrategy,
    External,
    KeySpec,
    OpenRouter,
    RetryConfig,
    errors,
)
from openrouter_keys.emulator import Emulator
from openrouter_keys.models import CreateKeysRequest, UpdateKeysRequest
from tests._base.test_tracebacks import MANAGEMENT, chain

SECRET = "sk-or-v1-" + "5e" * 32
PARTNER = "canary-partner-key-of-more-than-32-characters"
HASH = "ab" * 32
#: A record of a create, where a hash or a spec belongs.
ANY: Any = SECRET
RECORD: Any = {"ref": "a", "name": "a", "external": {"user": "u", "api_key": PARTNER}}
CHEAP: Any = {**RECORD, "limit": -1}
WITH_A_KEY: Any = {**RECORD, "api_key": PARTNER}
NOWHERE = "http://127.0.0.1:1"


def generated(*values: object) -> Iterator[Any]:
    yield from values


async def generated_slowly(*values: object) -> AsyncIterator[Any]:
    for value in values:
        yield value


class Callers(list[Any]):
    """A caller's own sequence, whose items may cost a query: no error may ask for its `repr`."""

    def __repr__(self) -> str:
        raise AssertionError("asked for")


def entered(leasing: Any) -> Any:
    return leasing.__aenter__() if hasattr(leasing, "__aenter__") else leasing.__enter__()


Call = Callable[[Any, Path], Any]
CALLS: dict[str, Call] = {
    "get": lambda client, _: client.api_keys.get(SECRET),
    "get a record": lambda client, _: client.api_keys.get(RECORD),
    "get bytes": lambda client, _: client.api_keys.get(SECRET.encode()),
    "get two": lambda client, _: client.api_keys.get(HASH, SECRET),
    "get by a wrong name": lambda client, _: client.api_keys.get(HASH, api_key=PARTNER),
    "get with an option": lambda client, _: client.api_keys.get(HASH, server_url=SECRET),
    "get with a header": lambda client, _: client.api_keys.get(
        HASH, http_headers={"Authorization": PARTNER}
    ),
    "current": lambda client, _: client.api_keys.get_current_key_metadata(SECRET),
    "update": lambda client, _: client.api_keys.update(SECRET, limit=1),
    "update nothing": lambda client, _: client.api_keys.update(SECRET),
    "update by a wrong name": lambda client, _: client.api_keys.update(HASH, external=RECORD),
    "update a name, unsent": lambda client, _: client.api_keys.update(HASH, name=SECRET),
    "delete": lambda client, _: client.api_keys.delete(SECRET),
    "delete a list": lambda client, _: client.api_keys.delete([SECRET]),
    "create": lambda client, _: client.api_keys.create(name=SECRET, limit=-1),
    "create a record": lambda client, _: client.api_keys.create(name=RECORD),
    "create without a name": lambda client, _: client.api_keys.create(external=RECORD["external"]),
    "create, unsent": lambda client, _: client.api_keys.create(name=SECRET),
    "create with an odd partner": lambda client, _: client.api_keys.create(
        name="a", external={**RECORD["external"], "key": PARTNER}
    ),
    "create, else reconcile": lambda client, _: client.api_keys.create(name="a", on_unknown=SECRET),
    "lease": lambda client, _: client.lease(name=SECRET, limit=-1, expires_in=1),
    "lease a record": lambda client, _: client.lease(name=RECORD, limit=1, expires_in=1),
    "lease for": lambda client, _: client.lease(name="a", limit=1, expires_in=SECRET),
    "lease with an odd partner": lambda client, _: client.lease(
        name="a", limit=1, expires_in=1, external={**RECORD["external"], "key": PARTNER}
    ),
    "lease by a wrong name": lambda client, _: client.lease(name="a", external_key=PARTNER),
    "lease, unsent": lambda client, _: entered(client.lease(name=SECRET, limit=1, expires_in=1)),
    "reconcile": lambda client, _: client.api_keys.reconcile(SECRET),
    "reconcile for": lambda client, _: client.api_keys.reconcile(
        errors.CreateOutcomeUnknownError("?"), quiet_period=SECRET
    ),
    "list": lambda client, _: client.api_keys.list(offset=SECRET),
    "list, unsent": lambda client, _: client.api_keys.list(workspace_id=SECRET),
    "iterate": lambda client, _: client.api_keys.iterate(include_disabled=SECRET),
    "iterate, unsent": lambda client, _: client.api_keys.iterate(workspace_id=SECRET),
    "iterate by a wrong name": lambda client, _: client.api_keys.iterate(external=RECORD),
    "provision a text": lambda client, _: client.provision(SECRET),
    "provision a record": lambda client, _: client.provision(RECORD),
    "provision records": lambda client, _: client.provision([RECORD]),
    "provision a caller's own": lambda client, _: client.provision(Callers([RECORD])),
    "provision generated records": lambda client, _: client.provision(generated(RECORD)),
    "provision slow secrets": lambda client, _: client.provision(generated_slowly(SECRET)),
    "provision two": lambda client, _: client.provision([RECORD], [SECRET]),
    "provision, unsent": lambda client, _: client.provision([KeySpec(ref="a", name=SECRET)]),
    "provision into": lambda client, _: client.provision([], journal=object(), recipient=SECRET),
    "apply a text": lambda client, path: client.apply(SECRET, journal=path),
    "apply records": lambda client, path: client.apply([RECORD], journal=path),
    "apply generated": lambda client, path: client.apply(generated(RECORD), journal=path),
    "apply into": lambda client, _: client.apply([], journal=object(), recipient=SECRET),
    "apply by": lambda client, path: client.apply([], journal=path, prune=SECRET),
    "plan a record": lambda client, path: client.plan_apply(RECORD, journal=path),
    "plan slow secrets": lambda client, path: client.plan_apply(
        generated_slowly(SECRET), journal=path
    ),
    "plan by": lambda client, path: client.plan_apply([], journal=path, recreate=SECRET),
    "rotate": lambda client, path: client.rotate([SECRET], journal=path),
    "rotate a text": lambda client, path: client.rotate(SECRET, journal=path),
    "rotate records": lambda client, path: client.rotate([RECORD], journal=path),
    "rotate generated": lambda client, path: client.rotate(generated(SECRET), journal=path),
    "rotate slowly": lambda client, path: client.rotate(generated_slowly(SECRET), journal=path),
    "rotate without a journal": lambda client, _: client.rotate([SECRET]),
    "rotate later": lambda client, path: client.rotate([], journal=path, budget=SECRET),
    "plan a rotation": lambda client, _: client.plan_rotation([SECRET]),
    "plan one of a record": lambda client, _: client.plan_rotation(RECORD),
    "plan it fast": lambda client, _: client.plan_rotation([SECRET], rate=-1),
    "a client at": lambda client, _: type(client)(MANAGEMENT, server_url=SECRET),
    "a client of": lambda client, _: type(client)(MANAGEMENT, http_referer=f"{SECRET}\n"),
    "a client named": lambda client, _: type(client)(MANAGEMENT, user_agent=f"{SECRET}\n"),
    "a client through": lambda client, _: type(client)(MANAGEMENT, proxy=f"{SECRET}\n", grace=-1),
    "a record": lambda _, __: External(user="", api_key=PARTNER),
    "a short one": lambda _, __: External(user="u", api_key=PARTNER[:31]),
    "a spec": lambda _, __: KeySpec(**CHEAP),
    "a spec by name": lambda _, __: KeySpec(ref="", name=SECRET),
    "a spec of two": lambda _, __: KeySpec(**WITH_A_KEY),
    "a request": lambda _, __: CreateKeysRequest(name=SECRET, limit=-1),
    "a change": lambda _, __: UpdateKeysRequest(name=SECRET, limit=-1),
    "retries": lambda _, __: RetryConfig(ANY),
    "waits": lambda _, __: RetryConfig("backoff", ANY),
    "a wait": lambda _, __: BackoffStrategy(ANY),
}
FACES = {"async": AsyncOpenRouter, "blocking": OpenRouter}


def made(face: str) -> Any:
    return FACES[face](MANAGEMENT, server_url=NOWHERE, retry_config=RetryConfig(strategy="none"))


async def _awaited(call: Call, path: Path) -> None:
    async with made("async") as client:
        came = call(client, path)
        if hasattr(came, "__anext__"):
            await anext(came)
        elif asyncio.iscoroutine(came):
            await came


def _called(call: Call, path: Path) -> None:
    with made("blocking") as client:
        came = call(client, path)
        if hasattr(came, "__next__"):
            next(came)


def _taken(face: str, call: Call, path: Path) -> BaseException | None:
    try:
        asyncio.run(_awaited(call, path)) if face == "async" else _called(call, path)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is searched
        return error
    return None


def shown(error: BaseException) -> Iterator[tuple[str, str]]:
    """Go through the local variables of ours, and of others that we call, as they are shown."""
    for one in chain(error):
        entry, below = one.__traceback__, False
        while entry is not None:
            frame = entry.tb_frame
            module = str(frame.f_globals.get("__name__", ""))
            below = below or module.startswith("openrouter_keys")
            own = module == __name__
            for name, value in frame.f_locals.items():
                if not own and not module.startswith(("asyncio", "_pytest")):
                    with suppress(AssertionError, AttributeError):  # one of a record half made
                        yield f"{frame.f_code.co_qualname}:{name}", repr(value)
            entry = entry.tb_next


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("call", CALLS)
def test_no_frame_of_ours_holds_a_secret_in_the_wrong_place(
    call: str, face: str, tmp_path: Path
) -> None:
    error = _taken(face, CALLS[call], tmp_path / "journal")

    assert error is not None
    secrets = (SECRET, PARTNER, PARTNER[:31])
    assert {
        where for where, text in shown(error) if any(secret in text for secret in secrets)
    } == set()
    assert SECRET not in str(error)


async def _provision(client: AsyncOpenRouter, take: Callable[[object], None]) -> None:
    async with client:
        await client.provision([KeySpec(ref="a", name=SECRET)], on_result=take, quiet_period=0)


def _provision_blocking(client: OpenRouter, take: Callable[[object], None]) -> None:
    with client:
        client.provision([KeySpec(ref="a", name=SECRET)], on_result=take, quiet_period=0)


@pytest.mark.parametrize("face", FACES)
def test_the_frames_of_a_callers_own_function_stay(face: str) -> None:
    def take(_: object) -> None:
        raise LookupError("no more")

    def run(client: Any) -> None:
        _provision_blocking(client, take) if face == "blocking" else asyncio.run(
            _provision(client, take)
        )

    with Emulator() as emulator:
        client = FACES[face](emulator.api_key, server_url=emulator.base_url)
        with pytest.raises(errors.OpenRouterError) as caught:
            run(client)

    cause = caught.value.__cause__
    assert isinstance(cause, LookupError)
    assert "take" in {frame.name for frame in traceback.extract_tb(cause.__traceback__)}
