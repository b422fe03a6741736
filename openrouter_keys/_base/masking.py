"""How secrets look wherever people may read them. No storage, no encryption."""

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

# What steers a terminal, forges a line of a log, or turns a line's order around: C0, DEL, C1, the
# separators of lines, marks of direction, half a surrogate pair.
_STEERING = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def escaped(text: str) -> str:
    """Return a text from elsewhere as it may stand in an error or a line of a log.

    Args:
        text: what a server or a library said; what steers is escaped as in Python's `repr`.
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
    """Show a secret that was sent, and need not be an OpenRouter key.

    Of a partner's key, or a proxy's password, even the end would tell.
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
    """Mask every secret in a text that came from elsewhere.

    Args:
        text: what a server or a library said.
        known: secrets that may stand in it and need not look like an OpenRouter key.
    """
    if found := {each for each in known if each in text and each}:
        # In one go, and the longest first: no mask is masked again, and no rest is left.
        each_one = "|".join(map(_known, sorted(found, key=len, reverse=True)))
        text = re.sub(each_one, lambda one: known_mask(one[0]), text)
    return SECRET.sub(lambda found: mask(found.group()), text)
