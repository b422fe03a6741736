"""Programs of their own, for what would change the tests' process."""

import os
import subprocess
import sys
from pathlib import Path

from openrouter_keys.emulator import Emulator

ROOT = Path(__file__).parents[2]
PATIENCE = 50.0  # the tests share the machine


def environment(emulator: Emulator) -> dict[str, str]:
    """What a program needs to find the emulator."""
    return {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "OPENROUTER_API_KEY": emulator.api_key,
        "OPENROUTER_BASE_URL": emulator.base_url,
    }


def run(code: str, emulator: Emulator, cwd: Path) -> tuple[str, str, int]:
    """Run a program to its end: what it printed, what it complained about, how it ended."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=cwd,
        env=environment(emulator),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    return done.stdout, done.stderr, done.returncode
