"""gunicorn `--preload`: a client that a module makes before the fork works in every worker."""

import re
import signal
import subprocess
import sys
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from openrouter_keys.emulator import Emulator
from tests.neighbours.programs import PATIENCE, environment

OPTIONS = ("--preload", "--workers", "2", "--bind", "127.0.0.1:0")
APP = """
import os
from openrouter_keys import OpenRouter

client = OpenRouter()
parent = os.getpid()


def app(environ, start_response):
    keys = client.api_keys.list().data
    start_response("200 OK", [])
    return [f"{len(keys)} {os.getpid() == parent}".encode()]
"""


@pytest.mark.parametrize("workers", ["sync", "gthread"])
def test_a_client_of_a_module_works_in_every_worker(
    workers: str, openrouter_emulator: Emulator, tmp_path: Path
) -> None:
    (tmp_path / "service.py").write_text(APP)
    with subprocess.Popen(
        [sys.executable, "-m", "gunicorn", *OPTIONS, "--worker-class", workers, "service:app"],
        cwd=tmp_path,
        env=environment(openrouter_emulator),
        stderr=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stderr is not None
        try:
            told = ""
            while not (listening := re.search(r"http://127\.0\.0\.1:\d+", told)):
                line = server.stderr.readline()
                assert line, told
                told += line
            with ThreadPoolExecutor(4) as pool:
                answers = {*pool.map(ask, [listening[0]] * 8)}
        finally:
            server.send_signal(signal.SIGTERM)
        told += server.stderr.read()
        assert (answers, server.wait(PATIENCE)) == ({"0 False"}, 0), told
        assert "Traceback" not in told


def ask(url: str) -> str:
    with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
        text: bytes = answer.read()
    return text.decode()
