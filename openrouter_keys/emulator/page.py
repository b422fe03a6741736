"""The page that shows an emulator in a browser, and the data that it polls. No sockets.

The page holds no key and no data: the browser adds both.
"""

import re
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import cache
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import quote

from openrouter_keys.emulator import openapi
from openrouter_keys.emulator.answers import Answer, json_answer
from openrouter_keys.emulator.contracts import ContractName
from openrouter_keys.emulator.faults import Fault
from openrouter_keys.emulator.guard import turn_away
from openrouter_keys.emulator.ledger import Request, request_json
from openrouter_keys.emulator.limits import RateLimit
from openrouter_keys.emulator.refusals import JSON, Refusal
from openrouter_keys.emulator.state import Account
from openrouter_keys.emulator.stored import StoredKey
from openrouter_keys.emulator.times import offset_form

# More than a person reads; each costs time every second.
_KEYS_SHOWN: Final = 1000
_REQUESTS_SHOWN: Final = 200


class Watched(Protocol):
    """The parts of an emulator that the page shows."""

    account: Account
    requests: list[Request]
    dropped: Counter[str]
    faults: list[Fault]
    latency: float
    rate_limit: RateLimit | None
    contract: ContractName


def page_url(control_url: str, api_key: str) -> str:
    """Return the page's URL; the key is in the fragment, which no browser sends."""
    return f"{control_url}/#key={quote(api_key, safe='')}"


def open_to_all(method: str, target: str, headers: Mapping[str, str], host: str) -> Answer | None:
    """Return the answer to a request that needs no key; None: it needs one.

    Args:
        method: of the request.
        target: its raw path and query.
        headers: its headers; the case of their names does not matter.
        host: the address on which the emulator listens.
    """
    path = target.partition("?")[0] if method == "GET" else ""
    try:
        turn_away(headers, host, visit=path == _PAGE)
    except Refusal as refusal:
        return json_answer(refusal.status, refusal.body)
    return _OPEN[path]() if path in _OPEN else None


@cache
def page() -> Answer:
    """Return the page, which holds no key and no data."""
    html = Path(__file__).with_name("page.html").read_text(encoding="utf-8")
    headers = {
        "Content-Type": "text/html; charset=utf-8",
        "Content-Security-Policy": _policy(html),
        "Cache-Control": "no-store",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }
    return Answer(status=200, headers=headers, body=html.encode())


def _document() -> Answer:
    return json_answer(200, openapi.DOCUMENT)


_PAGE: Final = "/_emulator/"
_OPEN: Final[Mapping[str, Callable[[], Answer]]] = {_PAGE: page, "/openapi.json": _document}


def view(emulator: Watched) -> JSON:
    """Return what the page shows: the newest keys and requests, and the settings; no secret."""
    account, requests = emulator.account, [*emulator.requests]
    keys, now = [*account.keys.values()], account.clock()
    limit = emulator.rate_limit
    return {
        "now": offset_form(now),
        "keys": [_shown_key(key, account, now) for key in islice(reversed(keys), _KEYS_SHOWN)],
        "keys_held": len(keys),
        "usage": sum(key.usage + key.byok_usage for key in keys),
        "requests": [
            request_json(request) for request in islice(reversed(requests), _REQUESTS_SHOWN)
        ],
        "requests_seen": len(requests) + emulator.dropped.total(),
        "requests_struck": sum(request.fault is not None for request in requests),
        "faults": _shown_faults([*emulator.faults]),
        "contract": emulator.contract,
        "latency": emulator.latency,
        "rate_limit": None if limit is None else {"rate": limit.rate, "burst": limit.burst},
    }


def _shown_key(key: StoredKey, account: Account, now: datetime) -> JSON:
    key.bring_up_to(now)
    workspace = account.workspaces.get(key.workspace_id)
    return {
        "hash": key.hash,
        "name": key.name,
        "label": key.label,
        "state": "disabled" if key.disabled else "expired" if key.expired(now) else "active",
        "workspace": key.workspace_id if workspace is None else workspace.name,
        "spent": key.spent,
        "limit": key.limit,
        "limit_reset": key.limit_reset,
        "created_at": offset_form(key.created_at),
        "last_used_at": offset_form(key.last_used_at),
    }


def _shown_faults(faults: Sequence[Fault]) -> JSON:
    names = ("operation", "kind", "phase", "status", "times", "probability", "skip")
    return [{name: getattr(fault, name) for name in names} for fault in faults]


def _policy(html: str) -> str:
    """Return a policy that lets a browser run and load only what is in this page."""
    hashes = {
        f"{tag}-src": b64encode(sha256(text.encode()).digest()).decode()
        for tag, text in re.findall(r"<(script|style)>(.*?)</\1>", html, re.DOTALL)
    }
    inline = "".join(f"{source} 'sha256-{hash}'; " for source, hash in hashes.items())
    return (
        f"default-src 'none'; {inline}connect-src 'self'; img-src data:; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
    )
