"""How secrets are shown to people. No storage, no encryption."""

import re
from hashlib import sha256

# Whatever calls itself an OpenRouter key: created ones, management keys, prefixes yet to come.
# Labels such as `sk-or-v1-0e6...1c96` are masked already and too short to match. A name such as
# `task-or-else-other-names` has none; behind an escape (`\n`, `%20`, `\u0020`) there may be one.
SECRET = re.compile(
    r"(?:(?<![A-Za-z0-9])|(?<=\\[bfnrt])|(?<=%[0-9A-Fa-f]{2})|(?<=\\x[0-9A-Fa-f]{2})"
    r"|(?<=\\u[0-9A-Fa-f]{4}))sk-or-[A-Za-z0-9_-]{16,}|sk-or-v[0-9]+-[0-9A-Fa-f]{32}[A-Za-z0-9_-]*"
)
_SHORT = 20
# A known secret of fewer characters is masked only as a whole word, and never as the name of a
# JSON member: it may be a part of any word.
_WORD = 8
_HEAD, _TAIL = 12, 4

# Characters that control a terminal, forge a line of a log, or reverse a line's order: C0, DEL, C1,
# line separators, direction marks, half of a surrogate pair.
_STEERING = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def escaped(text: str) -> str:
    """Return a text that is safe in an error or a line of a log.

    Args:
        text: a server's or a library's; control characters are escaped as in Python's `repr`.
    """
    return _STEERING.sub(lambda found: repr(found.group())[1:-1], text)


def mask(secret: str | None) -> str:
    """Show a secret as the service's own labels do: `sk-or-v1-0e6...1c96`.

    Args:
        secret: the secret. Of one that is no OpenRouter key only the end is shown, of one that is
            too short nothing. None: "None".
    """
    if secret is None or len(secret) < _SHORT:
        return "None" if secret is None else "..."
    head = secret[:_HEAD] if secret.startswith("sk-or-") else ""
    return f"{head}...{secret[-_TAIL:]}"


def known_mask(secret: str) -> str:
    """Show a secret that was sent, which may be no OpenRouter key.

    Even the end of a partner's key or a proxy's password would reveal too much.
    """
    return mask(secret) if secret.startswith("sk-or-") else "..."


def hash_of(secret: str) -> str:
    """Return the hash that the service gives the key of a secret: its SHA-256, in hexadecimal."""
    try:
        # JSON can escape half a surrogate pair, which plain UTF-8 would refuse.
        return sha256(secret.encode(errors="surrogatepass")).hexdigest()
    finally:
        del secret  # crash reporters send local variables home


def _known(secret: str) -> str:
    form = re.escape(secret)
    return form if len(secret) >= _WORD else rf'(?<![A-Za-z0-9]){form}(?![A-Za-z0-9]|"\s*:)'


def scrub(text: str, *known: str) -> str:
    """Mask every secret in a text.

    Args:
        text: a server's or a library's.
        known: secrets that may be in it, and may not look like an OpenRouter key.
    """
    if found := {each for each in known if each in text and each}:
        # In one pass, the longest first: no mask is masked again, and no part is left.
        each_one = "|".join(map(_known, sorted(found, key=len, reverse=True)))
        text = re.sub(each_one, lambda one: known_mask(one[0]), text)
    return SECRET.sub(lambda found: mask(found.group()), text)
