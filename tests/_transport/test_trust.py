"""Which certificates a session trusts by default."""

import ssl
import subprocess
import sys
from pathlib import Path

import pytest

from openrouter_keys._transport import trust


@pytest.fixture
def pem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that was named when aiohttp was imported."""
    pem = tmp_path / "ca.pem"
    pem.write_text("")
    monkeypatch.setenv("SSL_CERT_FILE", str(pem))
    monkeypatch.setattr(trust, "_READ_BY_AIOHTTP", trust._named())
    return pem


def test_what_aiohttp_has_read_is_not_read_once_more(pem: Path) -> None:
    assert trust.default_trust() is True


def test_a_file_that_has_changed_is_read(pem: Path) -> None:
    pem.write_text("\n")

    assert isinstance(trust.default_trust(), ssl.SSLContext)


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "SSL_CERT_DIR"])
def test_what_is_named_later_is_read(
    variable: str, pem: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, str(pem.parent))

    assert isinstance(trust.default_trust(), ssl.SSLContext)


def test_aiohttps_default_is_the_systems(pem: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")

    assert trust.default_trust() is True


@pytest.mark.slow
@pytest.mark.parametrize(("first", "is_default"), [("ssl", True), ("aiohttp", False)])
def test_what_aiohttp_read_is_known_if_it_was_imported_afterwards(
    first: str, pem: Path, *, is_default: bool
) -> None:
    script = (
        f"import {first}; from openrouter_keys._transport import trust, wire;"
        "print(trust.default_trust() is True)"
    )

    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert run.stdout.strip() == str(is_default)
