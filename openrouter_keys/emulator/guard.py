"""Refuses requests that other web sites may cause a browser to send. Pure."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Final
from urllib.parse import urlsplit

from openrouter_keys.emulator.refusals import Refusal

# Nobody can register a name with these last labels, so no web site has one.
_PRIVATE: Final = frozenset({"localhost", "local", "internal", "test"})
# Sent by the browser's user, or by the page itself.
_AT_HOME: Final = frozenset({"none", "same-origin"})


def turn_away(headers: Mapping[str, str], host: str, *, visit: bool) -> None:
    """Refuse a request that another web site may have caused a browser to send.

    Programs pass: they send no header that says which site a request comes from.

    Args:
        headers: of the request.
        host: the address on which the emulator listens.
        visit: whether the request may follow a link, which any site may contain.

    Raises:
        Refusal: 421, its name may be any site's; 403, another site caused it.
    """
    named = headers.get("Host", "")
    # For a browser, a site whose name now resolves to here (DNS rebinding) is this site.
    if not _ours(named, host):
        raise Refusal(421, f"{named!r} may be any site's name: use the address, or listen on it")
    origin = headers.get("Origin")
    foreign = origin is not None and origin.partition("://")[2] != named
    if foreign or (headers.get("Sec-Fetch-Site", "none") not in _AT_HOME and not visit):
        raise Refusal(403, "The emulator answers no other web site's requests")


@lru_cache(256)
def _ours(named: str, host: str) -> bool:
    """Return whether a ``Host`` is no other site's: an address, a private name, our own."""
    try:
        name = (urlsplit(f"//{named}").hostname or "").rstrip(".")
    except ValueError:
        return False
    *parents, last = name.split(".")
    return not parents or last.isdecimal() or last in _PRIVATE or ":" in name or name == host
