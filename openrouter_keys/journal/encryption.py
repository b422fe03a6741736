"""Secrets sealed to an `age` recipient, and opened again, through `pyrage`. No journal, no file.

Whoever provisions then needs only the public half: the recipient.
"""

import base64
import textwrap
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib import import_module
from typing import Protocol, TypeVar, cast

from openrouter_keys._inputs import checks
from openrouter_keys.errors import InvalidArgumentError, JournalError

T = TypeVar("T")

_ARMOR = "AGE ENCRYPTED FILE"
_NO_RECIPIENT = "must be an age recipient (age1...) or an SSH public key (ssh-ed25519 or ssh-rsa)"
_NO_IDENTITY = (
    "must be the text of an age identity file (lines of AGE-SECRET-KEY-1...), or of an SSH private "
    "key (Ed25519 or RSA) without a passphrase"
)


# pyrage has no types of its own: this much of it is used.
class _Readable(Protocol):
    def from_str(self, text: str, /) -> object: ...
    def from_buffer(self, text: bytes, /) -> object: ...


class _Kind(Protocol):
    Recipient: _Readable
    Identity: _Readable


class _Pyrage(Protocol):
    x25519: _Kind
    ssh: _Kind
    RecipientError: type[Exception]
    IdentityError: type[Exception]
    DecryptError: type[Exception]

    def encrypt(self, plaintext: bytes, recipients: Sequence[object], /) -> bytes: ...
    def decrypt(self, ciphertext: bytes, identities: Sequence[object], /) -> bytes: ...


def sealing(recipient: str) -> Callable[[bytes], bytes]:
    """Return what encrypts secrets, so that only the recipient's identity opens them.

    Args:
        recipient: `age1…`, or an SSH public key (`ssh-ed25519 …`, `ssh-rsa …`).

    Raises:
        InvalidArgumentError: it is no recipient, or pyrage is not installed.
    """
    text = checks.nonempty("recipient", recipient).strip()
    pyrage = _pyrage("recipient")
    kind = pyrage.ssh if text.startswith("ssh-") else pyrage.x25519
    recipients: Sequence[object] = ()
    # Refused outside of an `except`: some errors hold the text, which may be an identity.
    with suppress(pyrage.RecipientError, UnicodeEncodeError):
        recipients = [kind.Recipient.from_str(text)]
    if not recipients:
        checks.refuse("recipient", _NO_RECIPIENT)
    return lambda secret: pyrage.encrypt(secret, recipients)


def armored(sealed: bytes) -> str:
    """Return what was sealed as text that `age` opens."""
    lines = textwrap.wrap(base64.b64encode(sealed).decode(), 64)
    return "\n".join((f"-----BEGIN {_ARMOR}-----", *lines, f"-----END {_ARMOR}-----"))


def is_armored(text: str) -> bool:
    """Whether a text is what `armored` returned."""
    return text.startswith(f"-----BEGIN {_ARMOR}-----\n")


def unsealing(identity: str) -> Callable[[bytes], bytes]:
    """Return what decrypts secrets; it raises a JournalError for those of other recipients.

    Args:
        identity: the text of an identity file: `AGE-SECRET-KEY-1…` lines and `#` comments; or of
            an SSH private key without a passphrase. It is never shown.

    Raises:
        InvalidArgumentError: it holds no identity, or something else, or pyrage is not installed.
    """
    identities: Sequence[object] = ()
    try:
        identity = checks.nonempty("identity", identity).strip()
        pyrage = _pyrage("identity")
        with suppress(pyrage.IdentityError, UnicodeEncodeError):
            identities = _identities(pyrage, identity)
    finally:
        del identity  # crash reporters send local variables home
    if not identities:
        checks.refuse("identity", _NO_IDENTITY)

    def unseal(sealed: bytes) -> bytes:
        try:
            return pyrage.decrypt(sealed, identities)
        except pyrage.DecryptError as error:
            problem = "cannot be decrypted: give the identity of the recipient it was sealed to"
            raise JournalError(f"the sealed secret {problem} ({error})") from error

    return unseal


def _identities(pyrage: _Pyrage, text: str) -> list[object]:
    if text.startswith("-----BEGIN"):
        return [pyrage.ssh.Identity.from_buffer(text.encode())]
    lines = [line.strip() for line in text.splitlines()]
    read = pyrage.x25519.Identity.from_str
    return [read(line) for line in lines if line and not line.startswith("#")]


def _pyrage(argument: str) -> _Pyrage:
    try:
        return cast("_Pyrage", import_module("pyrage"))
    except ImportError as error:
        message = 'encryption needs pyrage: pip install "openrouter-keys[age]"'
        raise InvalidArgumentError(message, argument) from error
