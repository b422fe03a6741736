"""The service in a box: OpenRouter's key endpoints on a real local socket, with faults on request.

It shares no code with the client, so that the two can only agree on what the service documents.
"""

from openrouter_keys.emulator.app import Emulator
from openrouter_keys.emulator.faults import Fault
from openrouter_keys.emulator.ledger import Request
from openrouter_keys.emulator.limits import RateLimit
from openrouter_keys.emulator.refusals import Refusal
from openrouter_keys.emulator.state import Account
from openrouter_keys.emulator.store import StateError
from openrouter_keys.emulator.stored import StoredKey, Workspace

__all__ = [
    "Account",
    "Emulator",
    "Fault",
    "RateLimit",
    "Refusal",
    "Request",
    "StateError",
    "StoredKey",
    "Workspace",
]
