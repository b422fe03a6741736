"""A key that was made, on its way to the caller: journaled, compared, handed over. No create."""

import inspect

from openrouter_keys.agreement import disagreements
from openrouter_keys.converter import encode
from openrouter_keys.errors import OpenRouterError
from openrouter_keys.models import Key, UpdateKeysRequest
from openrouter_keys.operations import get, update
from openrouter_keys.provisioning.journal import Journal
from openrouter_keys.provisioning.report import (
    OnResult,
    ProvisionProblem,
    ProvisionResult,
    UndeliveredKey,
)
from openrouter_keys.provisioning.specs import KeySpec
from openrouter_keys.provisioning.tally import Tally
from openrouter_keys.transport import Transport


class Delivery:
    """Hands keys over, each once its secret is durable and it is found to be as asked for.

    Args:
        transport: what to read back, and to disable with.
        journal: where secrets become durable.
        tally: what to count in.
        on_result: whom to hand over to; None: the journal is enough.
        keeps: whether the journal outlives the process, with the secrets.
    """

    def __init__(
        self,
        transport: Transport,
        journal: Journal,
        tally: Tally,
        *,
        on_result: OnResult | None,
        keeps: bool,
    ) -> None:
        self._transport = transport
        self._journal = journal
        self._tally = tally
        self._on_result = on_result
        self._keeps = keeps

    async def keep(self, spec: KeySpec, key: str, hash: str, data: Key | None) -> bool:
        """Write a new key down, then hand it over, as `deliver` does.

        Raises:
            SecretNotKeptError: it could not be written down; the report has the secret.
        """
        self._tally.held[spec.ref] = UndeliveredKey(ref=spec.ref, key=key, hash=hash)
        # Without anybody to take it, what is as asked for is settled by being written down.
        settled = self._on_result is None and data is not None and not _wrong(spec, data)
        record = None if data is None else encode(data).decode()
        await self._journal.keep(spec.ref, secret=key, hash=hash, record=record, settled=settled)
        if self._keeps:
            del self._tally.held[spec.ref]
        return settled or await self.deliver(spec, key, hash, data)

    async def deliver(self, spec: KeySpec, key: str, hash: str, data: Key | None) -> bool:
        """Hand a key over that is written down, if it is as it was asked for.

        Args:
            spec: what was asked for.
            key: the secret.
            hash: the key's hash.
            data: the key's record; None: the create's answer could not be read.

        Returns:
            Whether it was handed over.
        """
        found = data or await self._read_back(hash)
        wrong = _wrong(spec, found)
        if found is None or wrong:
            await self._reject(spec.ref, hash, wrong)
            return False
        if self._on_result is not None:
            result = ProvisionResult(ref=spec.ref, spec=spec, key=key, data=found)
            took = self._on_result(result)
            if inspect.isawaitable(took):
                await took
            self._tally.held.pop(spec.ref, None)
        await self._journal.acknowledge(spec.ref)
        return True

    async def _read_back(self, hash: str) -> Key | None:
        try:
            return (await self._transport.perform(get(hash), {})).data
        except OpenRouterError:
            return None

    async def _reject(self, ref: str, hash: str, wrong: tuple[str, ...]) -> None:
        """Disable a key that nobody asked for in this form: one without its limit is a risk."""
        reason = f"the key is not as it was asked for ({', '.join(wrong)})"
        try:
            await self._transport.perform(update(hash, UpdateKeysRequest(disabled=True)), {})
        except OpenRouterError as error:
            # Left as made, so that the next run tries again.
            reason = f"{reason}, and could not be disabled: {error}"
        else:
            reason = f"{reason}, and was disabled"
            await self._journal.reject(ref, reason)
        self._tally.mismatched.add(ProvisionProblem(ref=ref, reason=reason, hashes=(hash,)))


def _wrong(spec: KeySpec, data: Key | None) -> tuple[str, ...]:
    return ("unreadable",) if data is None else disagreements(spec.request(), data)
