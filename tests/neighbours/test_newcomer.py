"""`pip install openrouter-keys openai trio`, and the README's blocking example."""

from importlib import import_module
from pathlib import Path

import pytest

from openrouter_keys.emulator import Emulator, Fault
from tests.neighbours.programs import run
from tests.test_readme import PYTHON

EXAMPLE = next(code for code in PYTHON if "with OpenRouter() as client:\n    try:" in code)
IMPORTS = {
    "none": "",
    "openai": "import openai\n",
    "all": "import anthropic, gevent, openai, sentry_sdk, sniffio, trio, uvloop\n",
}


@pytest.mark.parametrize("imports", IMPORTS)
def test_the_blocking_example_works(
    imports: str, openrouter_emulator: Emulator, tmp_path: Path
) -> None:
    out, err, code = run(IMPORTS[imports] + EXAMPLE, openrouter_emulator, tmp_path)
    assert (err, code) == ("", 0)
    assert out.endswith("True\n")


def test_the_blocking_example_tells_of_a_create_without_an_answer(
    openrouter_emulator: Emulator, tmp_path: Path
) -> None:
    openrouter_emulator.faults.append(Fault("create", "closed", phase="after"))
    out, err, code = run(IMPORTS["all"] + EXAMPLE, openrouter_emulator, tmp_path)
    assert (err, code) == ("", 0)
    assert out.startswith("may exist, and nobody holds its secret: customer-43")


@pytest.mark.parametrize("name", ["anthropic", "openai", "sniffio"])
def test_what_brings_sniffio_is_here(name: str) -> None:
    import_module(name)
