"""An import only goes down a floor: between folders, and from file to file inside of one."""

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

from tests.commands import Command

PACKAGE = Path(__file__).parents[1] / "openrouter_keys"

# From the ground up. A floor may import those before it, and nothing else of the package.
FLOORS = (
    "_base",
    "errors",
    "events",
    "_inputs",
    "converter",
    "_records",
    "models",
    "components",
    "results",
    "utils",
    "_protocol",
    "operations",
    "_transport",
    "_reconcile",
    "_blocking",
    "api_keys",
    "lease",
    "journal",
    "provisioning",
    "rotation",
    "ensuring",
    "adoption",
    "sweeping",
    "applying",
    "lifecycle",
    "client",
    "sync",
    "otel",
    "testing",
    "cli",
    "__main__",
)
# The same for the folders of the command.
COMMANDS = (
    "cli.exit_codes",
    "cli.values",
    "cli.terminal",
    "cli.secrets",
    "cli.app",
    "cli.options",
    "cli.keys",
    "cli.specs",
    "cli.journal",
    "cli.runs",
    "cli.ensure",
    "cli.adopt",
    "cli.sweep",
    "cli.provision",
    "cli.apply",
    "cli.rotate",
    "cli.usage",
    "cli.emulator",
    "cli.demo",
)
# A tower of its own: what it shared with the client could be wrong in both.
TOWER = "emulator"


def module_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


MODULES = {module_of(path): path for path in PACKAGE.rglob("*.py") if module_of(path)}


def imported(path: Path) -> set[str]:
    """The modules of the package that a file imports, at any depth of its code."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            package, _, module = f"{node.module}.".partition("openrouter_keys.")
            if not package:
                names = (f"{module}{alias.name}" for alias in node.names)
                found |= {name if name in MODULES else module[:-1] for name in names}
        elif isinstance(node, ast.Import):
            names = (alias.name for alias in node.names)
            assert not any(name.startswith("openrouter_keys.") for name in names), path
    return found - {module_of(path), ""}


IMPORTS = {module: imported(path) for module, path in MODULES.items()}


def ancestor(module: str, depth: int) -> str:
    return ".".join(module.split(".")[:depth])


@pytest.mark.parametrize(("floors", "depth"), [(FLOORS, 1), (COMMANDS, 2)])
def test_between_folders_an_import_only_goes_down(floors: tuple[str, ...], depth: int) -> None:
    up = [
        f"{module} imports {other}"
        for module, others in IMPORTS.items()
        for other in others
        if (here := ancestor(module, depth)) in floors
        and (there := ancestor(other, depth)) in floors
        and floors.index(there) > floors.index(here)
    ]
    assert not up


def test_each_folder_and_file_has_its_floor() -> None:
    assert {ancestor(module, 1) for module in MODULES} == {*FLOORS, TOWER}
    assert {ancestor(name, 2) for name in MODULES if name.startswith("cli.")} == {*COMMANDS}


def test_no_import_goes_round() -> None:
    # Raises `CycleError`, which names the files.
    assert len([*graphlib.TopologicalSorter(IMPORTS).static_order()]) == len(MODULES)


def test_what_everything_stands_on_imports_nothing_else() -> None:
    for module, others in IMPORTS.items():
        assert not module.startswith("_base") or all(name.startswith("_base") for name in others)


def test_the_emulator_shares_nothing_with_the_client() -> None:
    for module, others in IMPORTS.items():
        if ancestor(module, 1) == TOWER:
            assert {ancestor(other, 1) for other in others} <= {TOWER}, module
        elif ancestor(module, 1) not in ("testing", "cli", "__main__"):
            assert TOWER not in {ancestor(other, 1) for other in others}, module


def test_only_the_wire_knows_aiohttps_client() -> None:
    for module, path in MODULES.items():
        names = {
            alias.name if isinstance(node, ast.Import) else node.module
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.Import | ast.ImportFrom)
            for alias in node.names
        }
        # `sync` names the session's type, and no more; `testing` mends a mock of aiohttp.
        wire = ("_transport.whole_request", "_transport.wire")
        allowed = module in (*wire, "sync", "testing") or ancestor(module, 1) == TOWER
        assert allowed or "aiohttp" not in names, module


def test_importing_the_package_imports_no_client() -> None:
    script = "import sys, openrouter_keys; print([m for m in sys.modules if 'aiohttp' in m])"
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True,
        cwd=PACKAGE.parent,
    )  # fmt: skip
    assert run.stdout.strip() == "[]"


_ASYNC = """
import asyncio
from openrouter_keys import AsyncOpenRouter
async def call():
    async with AsyncOpenRouter() as client:
        await client.api_keys.list()
asyncio.run(call())
"""
_BLOCKING = """
from openrouter_keys import OpenRouter
with OpenRouter() as client:
    client.api_keys.list()
"""
_COMMAND = """
from openrouter_keys.__main__ import main
assert main(["list", "--json"]) == 0
"""


# It takes tens of milliseconds, which is much of a process that makes one call.
_UNUSED = (
    "anyio._backends",
    "sqlite3",
    "openrouter_keys._reconcile",
    "openrouter_keys.adoption",
    "openrouter_keys.applying",
    "openrouter_keys.ensuring",
    "openrouter_keys.journal",
    "openrouter_keys.provisioning",
    "openrouter_keys.rotation",
    "openrouter_keys.sweeping",
)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("call", "unused"),
    [(_ASYNC, (*_UNUSED, "cattrs")), (_BLOCKING, (*_UNUSED, "cattrs")), (_COMMAND, _UNUSED)],
    ids=["async", "sync", "command"],
)
def test_a_short_process_imports_only_what_it_uses(
    call: str, unused: tuple[str, ...], command: Command
) -> None:
    # What measures the coverage of processes has begun before.
    shown = f"[m for m in sys.modules if m not in before and m.startswith({unused})]"
    script = f"import sys\nbefore = set(sys.modules)\n{call}\nprint({shown})"
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True,
        cwd=PACKAGE.parent, env=command.environment(),
    )  # fmt: skip
    assert run.stdout.splitlines()[-1] == "[]"
