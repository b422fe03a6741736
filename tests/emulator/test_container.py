"""The Containerfile: what it copies is there, and what it starts serves."""

import json
import signal
import subprocess
import sys
import urllib.request
from http.client import HTTPResponse
from pathlib import Path
from typing import cast

import pytest

from openrouter_keys.cli.app import app
from openrouter_keys.cli.emulator import emulator

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
LINES = (ROOT / "Containerfile").read_text().splitlines()
(ENTRYPOINT,) = (
    line.removeprefix("ENTRYPOINT ") for line in LINES if line.startswith("ENTRYPOINT")
)
COMMAND: list[str] = json.loads(ENTRYPOINT)
PATIENCE = 60


def test_its_command_line_listens_to_others_on_the_port_that_it_exposes() -> None:
    assert COMMAND[:3] == ["python", "-m", "openrouter_keys"]
    command, given, _ = app.parse_args(COMMAND[3:], exit_on_error=False)

    assert command is emulator
    assert (given.arguments["host"], given.arguments["allow_remote"]) == ("0.0.0.0", True)
    assert f"EXPOSE {given.arguments['port']}" in LINES


def test_its_command_serves() -> None:
    command = [sys.executable, "-W", "error", *COMMAND[1:], "--port", "0", "--json"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        headers = {"Authorization": f"Bearer {told['api_key']}"}
        request = urllib.request.Request(f"{told['base_url']}/key", headers=headers)
        with cast("HTTPResponse", urllib.request.urlopen(request, timeout=PATIENCE)) as response:
            assert response.status == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0


def test_what_it_copies_is_there() -> None:
    copied = [line.split()[1:-1] for line in LINES if line.startswith("COPY ")]

    assert all((ROOT / name).exists() for names in copied for name in names)
