"""What a release holds: each file of the project, and nothing that merely lies about."""

import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest
from hatchling.builders.sdist import SdistBuilder
from hatchling.builders.wheel import WheelBuilder

ROOT = Path(__file__).parents[1]
# Not released: how the repository itself is kept.
OURS = {".ci/run", ".gitignore", "Containerfile"}
STRAYS = (
    "secrets.csv",
    "customers.csv.journal",
    "customers.csv.journal-wal",
    ".env",
    "openrouter_keys/secrets.csv",
    "openrouter_keys/cli/specs.yaml",
    "openrouter_keys/.env",
    "tests/keys.json",
    "tests/customers.journal",
    "docs/key.txt",
    "benchmarks/secrets.jsonl",
)


def tracked() -> set[str]:
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("not a repository")
    return set(listed.stdout.split())


@pytest.fixture
def littered(tmp_path: Path) -> Path:
    """A copy of the project in which secrets lie about."""
    for name in tracked():
        if (ROOT / name).exists():
            copy = tmp_path / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes((ROOT / name).read_bytes())
    for name in STRAYS:
        (tmp_path / name).write_text("sk-or-v1-canary")
    return tmp_path


@pytest.mark.slow
def test_a_source_release_holds_what_is_tracked_and_no_more(littered: Path) -> None:
    (built,) = SdistBuilder(str(littered)).build(directory=str(littered / "dist"))
    with tarfile.open(built) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert names - {"PKG-INFO"} == tracked() - OURS | {".gitignore"} & names


@pytest.mark.slow
def test_a_wheel_holds_the_package_and_no_more(littered: Path) -> None:
    (built,) = WheelBuilder(str(littered)).build(
        directory=str(littered / "dist"), versions=["standard"]
    )
    with zipfile.ZipFile(built) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert names == {name for name in tracked() if name.startswith("openrouter_keys/")}
