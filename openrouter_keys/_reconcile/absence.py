"""Whether keys that the service does not find are gone. No delete.

Its 404, and a second one, do not say so: whoever answers may lag behind, or another account's
management key asks. Only a whole list of the keys' workspace does, which shows others and not them.
"""

from collections.abc import Collection
from datetime import UTC, datetime
from typing import Final

from openrouter_keys._base.identifiers import canonical
from openrouter_keys._reconcile.listing import Lister
from openrouter_keys._reconcile.service_clock import ServiceClock
from openrouter_keys._transport.transport import Transport
from openrouter_keys.models import Key
from openrouter_keys.results import Err, attempt

_EVER: Final = datetime.min.replace(tzinfo=UTC)
_MISSING: Final = "the service says that there is no such key, and {}: look again later"
_LISTED: Final = _MISSING.format("lists it")
_INCOMPLETE: Final = _MISSING.format("nothing proves that all of its workspace were listed ({})")
_NONE: Final = (
    "the service says that there is no such key, and lists none of its workspace: is this its "
    "account's management key?"
)


async def not_gone(
    transport: Transport, clock: ServiceClock, workspace_id: str | None, hashes: Collection[str]
) -> dict[str, str]:
    """Return why keys that are said to be missing may be there, by their hashes.

    Args:
        transport: what to ask.
        clock: learns the service's time from the answers.
        workspace_id: where they were; None: in the default workspace.
        hashes: the keys'.

    Returns:
        What is left out is proven to be gone.
    """
    listed = await attempt(Lister(transport, clock, {}).list(workspace_id, _EVER, {}))
    if isinstance(listed, Err):
        return dict.fromkeys(hashes, _INCOMPLETE.format(listed.error))
    if listed.value.problem is not None:
        return dict.fromkeys(hashes, _INCOMPLETE.format(listed.value.problem))
    keys = listed.value.keys
    if not any(_is_at_home(key, workspace_id) for key in keys.values()):
        return dict.fromkeys(hashes, _NONE)
    return {hash: _LISTED for hash in hashes if canonical(hash) in keys}


def _is_at_home(key: Key, workspace_id: str | None) -> bool:
    """Whether a key that is listed shows that the list is of this workspace."""
    if workspace_id is None or key.workspace_id is None:
        return True  # nobody can say
    return canonical(key.workspace_id) == canonical(workspace_id)
