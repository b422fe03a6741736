"""What users' own tests take from the package: clients, the environment, a mend of aioresponses."""

import os
import subprocess
import sys
from pathlib import Path

import aiohttp
import pytest
from aioresponses import aioresponses

from openrouter_keys import AsyncOpenRouter, OpenRouter
from openrouter_keys.emulator import Emulator
from openrouter_keys.testing import patch_aioresponses
from tests.emulator.test_plugin import run
from tests.processes import ROOT

BLOCKING = """
import os

import pytest
from openrouter_keys import OpenRouter, errors


def test_a_client(openrouter_client, openrouter_emulator):
    created = openrouter_client.api_keys.create(name="a")
    assert openrouter_emulator.account.keys.keys() == {created.data.hash}


def test_the_environment_leads_to_the_emulator(openrouter_environment):
    with OpenRouter() as client:
        client.api_keys.create(name="b")
    assert openrouter_environment.count("create") == 1


def test_the_environment_is_as_before():
    assert [name for name in os.environ if name.startswith("OPENROUTER_")] == ["OPENROUTER_API_KEY"]
    with OpenRouter("key", server_url="http://127.0.0.1:9", timeout_ms=50) as client:
        with pytest.raises(errors.OpenRouterError):
            client.api_keys.list()
"""
ASYNC = """
import pytest

seen = []
{mark}

async def test_an_async_client(async_openrouter_client, openrouter_emulator):
    seen.append(async_openrouter_client)
    created = await async_openrouter_client.api_keys.create(name="a")
    assert openrouter_emulator.account.keys.keys() == {{created.data.hash}}


class TestInAClass:
    @pytest.mark.parametrize("name", ["b", "c"])
    async def test_of_a_table(self, async_openrouter_client, name):
        seen.append(async_openrouter_client)
        assert (await async_openrouter_client.api_keys.create(name=name)).data.name == name


async def test_each_was_closed():
    assert len({{*map(id, seen)}}) == len(seen) >= 3
    assert all(client._transport._wire.closed for client in seen)
"""
ANYIO = """
@pytest.fixture
def anyio_backend():
    return "asyncio"
"""
SCOPE = ("-o", "asyncio_default_fixture_loop_scope=function")  # or pytest-asyncio warns
VARIANTS: dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    "no plugin": (BLOCKING, (), ()),
    "pytest-asyncio, strict": (
        ASYNC.format(mark="pytestmark = pytest.mark.asyncio"),
        ("-o", "asyncio_mode=strict", *SCOPE),
        ("asyncio",),
    ),
    "pytest-asyncio, auto": (
        ASYNC.format(mark=""),
        ("-o", "asyncio_mode=auto", *SCOPE),
        ("asyncio",),
    ),
    "anyio": (ASYNC.format(mark="pytestmark = pytest.mark.anyio" + ANYIO), (), ("anyio",)),
    "anyio beside pytest-asyncio": (
        ASYNC.format(mark="pytestmark = pytest.mark.anyio" + ANYIO),
        ("-o", "asyncio_mode=strict", *SCOPE),
        ("anyio", "asyncio"),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", VARIANTS)
def test_the_fixtures_work_with_every_plugin(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tests, words, plugins = VARIANTS[name]
    monkeypatch.setenv("OPENROUTER_API_KEY", "of the developer")
    said = run(tmp_path, tests, *words, beside=plugins)
    assert f"{3 if name == 'no plugin' else 4} passed" in said, said
    assert "warning" not in said, said


# The way of docs/testing.md: no pytest.
UNITTEST = """
import os
import unittest
from unittest.mock import patch

import django
from django.conf import settings
from django.test import SimpleTestCase
from openrouter_keys import AsyncOpenRouter, OpenRouter
from openrouter_keys.emulator import Emulator

settings.configure()
django.setup()


class Keys:
    def setUp(self):
        self.emulator = self.enterContext(Emulator())
        self.enterContext(patch.dict(os.environ, self.emulator.environment()))

    def test_a_create(self):
        with OpenRouter() as client:
            client.api_keys.create(name="a")
        self.assertEqual(self.emulator.count("create"), 1)


class OfUnittest(Keys, unittest.TestCase):
    pass


class OfDjango(Keys, SimpleTestCase):
    async def test_an_async_create(self):
        async with AsyncOpenRouter() as client:
            await client.api_keys.create(name="b")
        self.assertEqual(self.emulator.count("create"), 1)


class OfAsync(Keys, unittest.IsolatedAsyncioTestCase):
    async def test_an_async_create(self):
        async with AsyncOpenRouter() as client:
            await client.api_keys.create(name="c")
        self.assertEqual(self.emulator.count("create"), 1)
"""


@pytest.mark.slow
def test_the_emulator_works_in_unittest_and_django(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(UNITTEST)
    done = subprocess.run(
        [sys.executable, "-m", "unittest", "test_it"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Ran 5 tests" in done.stderr


def test_every_variable_of_the_key_and_the_url_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    with Emulator() as emulator:
        given = emulator.environment()
        assert given.pop("OPENROUTER_BASE_URL") == emulator.base_url
        assert {*given.values()} == {emulator.api_key}
        assert {"OPENROUTER_API_KEY", "OPENROUTER_MANAGEMENT_KEY"} < given.keys()
        for name, value in emulator.environment().items():
            monkeypatch.setenv(name, value)
        with OpenRouter() as client:
            assert client.api_keys.list().data == []


def test_an_emulator_without_a_port_has_no_environment() -> None:
    with pytest.raises(RuntimeError, match="no port yet"):
        Emulator().environment()


async def test_aioresponses_is_mended_once_and_again() -> None:
    patch_aioresponses()
    patch_aioresponses()
    with aioresponses() as mocked:
        mocked.get("https://openrouter.ai/api/v1/keys", payload={"data": []})
        mocked.get("https://example.org/", body="plain")
        async with AsyncOpenRouter("key") as client:
            assert (await client.api_keys.list()).data == []
        async with aiohttp.ClientSession() as session:
            answer = await session.get("https://example.org/")
            assert await answer.text() == "plain"
