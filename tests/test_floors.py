"""An import only goes down a floor."""

import ast
import subprocess
import sys
from pathlib import Path

from tests.tables import in_one_test

PACKAGE = Path(__file__).parents[1] / "openrouter_keys"

# From the ground up. A module may import what stands before it, and nothing else of the package.
FLOORS = (
    "unset",
    "version",
    "masking",
    "scrubbing",
    "pickling",
    "tracebacks",
    "errors",
    "checks",
    "proxies",
    "credentials",
    "clockwork",
    "deadlines",
    "greenlets",
    "errands",
    "loop_thread",
    "blocking",
    "retries",
    "quota",
    "models",
    "agreement",
    "options",
    "fast_reader",
    "converter",
    "results",
    "utils",
    "paging",
    "answers",
    "salvage",
    "bodies",
    "made_keys",
    "stamps",
    "operations",
    "removal",
    "wire",
    "call",
    "attempts",
    "transport",
    "service_clock",
    "doubts",
    "listing",
    "absence",
    "reconcile",
    "settling",
    "api_keys",
    "provisioning",
    "lifecycle",
    "client",
    "sync",
    "cli",
    "__main__",
)
# A tower of its own: what it shared with the client could be wrong in both.
TOWER = "emulator"
ABOVE_THE_TOWER = ("cli", "__main__")


def floor_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return parts[0]


def imported(path: Path) -> set[str]:
    """The floors that a file imports from, at any depth of its code."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            module = node.module or ""
            if module == "openrouter_keys":
                found |= {alias.name for alias in node.names}
            elif module.startswith("openrouter_keys."):
                found.add(module.split(".")[1])
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
            found |= {name.split(".")[1] for name in names if name.startswith("openrouter_keys.")}
    return found


FILES = [path for path in PACKAGE.rglob("*.py") if floor_of(path) not in ("__init__", TOWER)]


@in_one_test("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_an_import_only_goes_down(path: Path) -> None:
    floor = floor_of(path)
    allowed: set[str] = set(FLOORS[: FLOORS.index(floor)])
    if path.parent != PACKAGE:
        allowed.add(floor)  # the rooms of one floor know each other
    if floor in ABOVE_THE_TOWER:
        allowed.add(TOWER)
    assert imported(path) <= allowed


@in_one_test("path", sorted((PACKAGE / TOWER).glob("*.py")), ids=lambda path: path.name)
def test_the_emulator_shares_nothing_with_the_client(path: Path) -> None:
    assert imported(path) <= {TOWER}


@in_one_test("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_the_wire_knows_aiohttps_client(path: Path) -> None:
    names = {
        alias.name if isinstance(node, ast.Import) else node.module
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    if path.name not in ("wire.py", "sync.py"):  # sync names the session's type, and no more
        assert "aiohttp" not in names


def test_importing_the_package_imports_no_client() -> None:
    script = "import sys, openrouter_keys; print([m for m in sys.modules if 'aiohttp' in m])"
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True,
        cwd=PACKAGE.parent,
    )  # fmt: skip
    assert run.stdout.strip() == "[]"
