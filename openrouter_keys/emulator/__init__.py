"""An emulator of the service: its key endpoints on a real local socket, with faults on request.

It shares no code with the client, so that the two can only agree on what the service documents.
A name is imported at its first use, so that an unused pytest plugin costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from openrouter_keys.emulator.app import Emulator
    from openrouter_keys.emulator.faults import Fault
    from openrouter_keys.emulator.ledger import Request
    from openrouter_keys.emulator.limits import DailyQuota, RateLimit
    from openrouter_keys.emulator.refusals import Refusal
    from openrouter_keys.emulator.state import Account
    from openrouter_keys.emulator.store import StateError
    from openrouter_keys.emulator.stored import Budget, StoredKey, Workspace

__all__ = [
    "Account",
    "Budget",
    "DailyQuota",
    "Emulator",
    "Fault",
    "RateLimit",
    "Refusal",
    "Request",
    "StateError",
    "StoredKey",
    "Workspace",
]

_MODULES = {
    "Account": "state",
    "Budget": "stored",
    "DailyQuota": "limits",
    "Emulator": "app",
    "Fault": "faults",
    "RateLimit": "limits",
    "Refusal": "refusals",
    "Request": "ledger",
    "StateError": "store",
    "StoredKey": "stored",
    "Workspace": "stored",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found: object = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted(__all__)
