"""The pytest plugin in a project of its own, found as pytest finds it: by what pyproject says."""

import os
import subprocess
import sys
import tomllib
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DECLARED: dict[str, str] = PROJECT["entry-points"]["pytest11"]
# Each takes its time to be imported.
OTHERS = {each.name for each in entry_points(group="pytest11")} - DECLARED.keys()


def run(folder: Path, tests: str, *arguments: str, beside: tuple[str, ...] = ()) -> str:
    """What pytest says of these tests, in a project that has this package and few other plugins."""
    installed = folder / "site" / "openrouter_keys-0.dist-info"
    installed.mkdir(parents=True)
    (installed / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: openrouter-keys\nVersion: 0\n"
    )
    lines = [f"{name} = {module}" for name, module in DECLARED.items()]
    (installed / "entry_points.txt").write_text("\n".join(["[pytest11]", *lines]))
    (folder / "test_it.py").write_text(tests)
    (folder / "pytest.ini").touch()
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-v", "-W", "error", "-p", "no:cacheprovider"),
            *(word for name in OTHERS - {*beside} for word in ("-p", f"no:{name}")),
            *arguments,
        ],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(installed.parent), str(ROOT)])},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stdout + done.stderr


def test_the_entry_point_leads_to_the_plugin() -> None:
    (module,) = DECLARED.values()
    plugin = EntryPoint("it", module, "pytest11").load()

    assert isinstance(plugin, ModuleType)
    assert plugin.pytest_plugins == ["openrouter_keys.emulator.plugin"]
    assert {"openrouter_client", "async_openrouter_client"} <= {*vars(plugin)}


PROJECT_TESTS = """
import json
import sys
import urllib.request

import pytest


def test_what_does_not_ask_for_it_does_not_import_it():
    assert "openrouter_keys.emulator.plugin" in sys.modules
    assert not {"aiohttp", "openrouter_keys.emulator.app"} & {*sys.modules}


def test_a_create_that_fails(openrouter_emulator):
    from openrouter_keys import OpenRouter, errors
    from openrouter_keys.emulator import Fault

    openrouter_emulator.faults.append(Fault("create", status=502, phase="after"))
    with OpenRouter(
        openrouter_emulator.api_key, server_url=openrouter_emulator.base_url
    ) as client, pytest.raises(errors.CreateOutcomeUnknownError):
        client.api_keys.create(name="customer-42")
    assert openrouter_emulator.count("create") == len(openrouter_emulator.account.keys) == 1


def test_with_nothing_but_the_standard_library(openrouter_emulator):
    request = urllib.request.Request(
        f"{openrouter_emulator.base_url}/keys",
        headers={"Authorization": f"Bearer {openrouter_emulator.api_key}"},
    )
    with urllib.request.urlopen(request) as response:
        assert json.load(response) == {"data": []}
    assert openrouter_emulator.count("create") == 0


def test_leaves_a_key(session_openrouter_emulator):
    session_openrouter_emulator.account.add("left")


def test_finds_the_key(session_openrouter_emulator, openrouter_emulator):
    assert len(session_openrouter_emulator.account.keys) == 1
    assert openrouter_emulator.account.keys == {}
    session_openrouter_emulator.reset()


def test_finds_nothing(session_openrouter_emulator):
    assert session_openrouter_emulator.account.keys == {}
"""


def test_it_is_imported_when_asked_for_and_serves_a_test_or_a_whole_session(tmp_path: Path) -> None:
    said = run(tmp_path, PROJECT_TESTS)

    assert "6 passed" in said, said


def test_pytest_tells_what_the_fixtures_are_for(tmp_path: Path) -> None:
    said = run(tmp_path, "", "--fixtures")

    assert "An emulator of OpenRouter's key endpoints, new for each test." in said
    assert "One emulator for all tests that use it" in said
    assert "A blocking client of this test's emulator" in said
    assert "An async client of this test's emulator" in said
