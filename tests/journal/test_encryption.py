import subprocess
import sys
import traceback
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1
from cryptography.hazmat.primitives.asymmetric.ec import generate_private_key as ecdsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from openrouter_keys.errors import InvalidArgumentError, JournalError
from openrouter_keys.journal.encryption import sealing, unsealing
from openrouter_keys.journal.journal import Journal
from tests.journals import AT, HASH, SECRET, entries, spec, written
from tests.tables import in_one_test

ROOT = Path(__file__).parents[2]
PLAIN = SECRET.encode()


def age_keys() -> tuple[str, str]:
    """An identity and its recipient."""
    identity = import_module("pyrage").x25519.Identity.generate()
    return str(identity), str(identity.to_public())


IDENTITY, RECIPIENT = age_keys()
OTHER, _ = age_keys()


def ssh_keys() -> tuple[str, str]:
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    return private.decode(), public.decode()


def ecdsa_recipient() -> str:
    public = ecdsa(SECP256R1()).public_key()
    return public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


# --- there and back ---


def test_what_is_sealed_is_an_age_file_that_its_identity_opens() -> None:
    sealed = sealing(RECIPIENT)(PLAIN)
    assert sealed.startswith(b"age-encryption.org/v1\n")
    assert PLAIN not in sealed
    assert unsealing(IDENTITY)(sealed) == PLAIN


def test_an_identity_file_may_hold_comments_and_several_identities() -> None:
    text = f"# created: today\n# public key: {RECIPIENT}\n\n{OTHER}\r\n  {IDENTITY}\n"
    assert unsealing(text)(sealing(f" {RECIPIENT}\n")(PLAIN)) == PLAIN


def test_an_ssh_key_is_a_recipient_and_an_identity() -> None:
    identity, recipient = ssh_keys()
    assert unsealing(f"\n{identity}")(sealing(f"{recipient} someone@somewhere")(PLAIN)) == PLAIN


async def test_a_journal_keeps_secrets_that_only_the_identity_opens(tmp_path: Path) -> None:
    path = tmp_path / "customers.journal"
    async with Journal.open(path, seal=sealing(RECIPIENT)) as journal:
        await journal.intend(spec(), AT)
        await journal.keep("r", secret=SECRET, hash=HASH)
        entry = (await entries(journal))["r"]
        assert PLAIN not in written(path)
    assert entry.secret is None
    assert entry.sealed is not None
    assert unsealing(IDENTITY)(entry.sealed) == PLAIN


# --- what is refused ---


def refused(seal: Callable[[Any], object], argument: Any) -> InvalidArgumentError:
    with pytest.raises(InvalidArgumentError) as caught:
        seal(argument)
    shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value)
    assert IDENTITY not in shown
    assert IDENTITY.lower() not in shown
    assert caught.value.__context__ is None
    return caught.value


@in_one_test(
    "recipient",
    [
        *("", " ", "nobody", RECIPIENT[:-1], f"{RECIPIENT}\n{RECIPIENT}", "ssh-ed25519 AAAA"),
        *(ecdsa_recipient(), IDENTITY, IDENTITY + "\ud800", None, RECIPIENT.encode()),
    ],
    ids=range(11),
)
def test_what_is_no_recipient_is_refused(recipient: object) -> None:
    assert refused(sealing, recipient).argument == "recipient"


@in_one_test(
    "identity",
    [
        *("", " ", "# nothing but a comment", RECIPIENT, f"{IDENTITY}\nand so on", IDENTITY[:-1]),
        *(IDENTITY + "\ud800", f"{IDENTITY} {OTHER}", None, IDENTITY.encode()),
        *(ssh_keys()[1], f"-----BEGIN nothing\n{IDENTITY}", "-----BEGIN \ud800"),
    ],
    ids=range(13),
)
def test_what_is_no_identity_is_refused_without_being_shown(identity: object) -> None:
    assert refused(unsealing, identity).argument == "identity"


@pytest.mark.parametrize(
    "sealed",
    [sealing(age_keys()[1])(PLAIN), sealing(RECIPIENT)(PLAIN)[:-1]],
    ids=["another's", "cut short"],
)
def test_a_secret_that_cannot_be_opened_is_told_with_what_to_do(sealed: bytes) -> None:
    with pytest.raises(JournalError, match="give the identity of the recipient") as caught:
        unsealing(IDENTITY)(sealed)
    assert IDENTITY not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    ("seal", "argument"),
    [(sealing, RECIPIENT), (unsealing, IDENTITY)],
    ids=["sealing", "unsealing"],
)
def test_without_pyrage_the_error_says_what_to_install(
    seal: Callable[[str], object], argument: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyrage", None)
    with pytest.raises(InvalidArgumentError, match=r'pip install "openrouter-keys\[age\]"'):
        seal(argument)


@pytest.mark.slow
def test_nothing_needs_pyrage_until_something_is_sealed() -> None:
    modules = "openrouter_keys.__main__, openrouter_keys.journal.encryption"
    script = f"import sys, {modules}; assert 'pyrage' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True)
