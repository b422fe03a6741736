"""Which requests other web sites have a browser send; the emulator does not answer those. Pure."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Final
from urllib.parse import urlsplit

from openrouter_keys.emulator.refusals import Refusal

# Last labels that nobody can register, so that no web site has such a name.
_PRIVATE: Final = frozenset({"localhost", "local", "internal", "test"})
# The browser's user, or the page itself.
_AT_HOME: Final = frozenset({"none", "same-origin"})


def turn_away(headers: Mapping[str, str], host: str, *, visit: bool) -> None:
    """Let no request pass that another web site may have a browser send.

    Programs pass: they send none of the headers by which a browser tells where a request is from.

    Args:
        headers: of the request.
        host: the address that the emulator was told to listen on.
        visit: whether following a link is meant, which any site may offer.

    Raises:
        Refusal: 421, it is for a name that may be any site's; 403, another site is behind it.
    """
    named = headers.get("Host", "")
    # A site whose name suddenly leads here (DNS rebinding) is at home here for its browser.
    if not _ours(named, host):
        raise Refusal(421, f"{named!r} may be any site's name: use the address, or listen on it")
    origin = headers.get("Origin")
    foreign = origin is not None and origin.partition("://")[2] != named
    if foreign or (headers.get("Sec-Fetch-Site", "none") not in _AT_HOME and not visit):
        raise Refusal(403, "The emulator answers no other web site's requests")


@lru_cache(256)
def _ours(named: str, host: str) -> bool:
    """Whether a ``Host`` header cannot be another site's: an address, a private name, our own."""
    try:
        name = (urlsplit(f"//{named}").hostname or "").rstrip(".")
    except ValueError:
        return False
    *parents, last = name.split(".")
    return not parents or last.isdecimal() or last in _PRIVATE or ":" in name or name == host
