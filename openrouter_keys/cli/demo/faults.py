"""Bulk provisioning through a server that fails, and the keys that are there in the end."""

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from openrouter_keys.cli.demo.transcript import Transcript
from openrouter_keys.client import AsyncOpenRouter
from openrouter_keys.emulator import Account, Emulator, Fault, Workspace
from openrouter_keys.journal.specs import KeySpec
from openrouter_keys.provisioning.report import ProvisionReport, ProvisionResult

# Some 30 % of the creates make their key, and their client gets no answer.
_FAULTS: Final = (
    Fault("create", "status", status=502, phase="after", probability=0.12, times=None),
    Fault("create", "reset", phase="after", probability=0.12, times=None),
    Fault("create", "late", delay=0.2, probability=0.04, times=None),
    Fault("create", "cut", phase="after", probability=0.04, times=None),
    Fault("create", "closed", phase="before", probability=0.04, times=None),
)
# Longer than the latest commit takes.
_QUIET_PERIOD: Final = 0.4


async def provision_through_faults(specs: Sequence[KeySpec], transcript: Transcript) -> None:
    """Make a key for each spec through faults, and check what is left by the emulator's state.

    Args:
        specs: what to make.
        transcript: where to write.
    """
    transcript.title("AsyncOpenRouter.provision")
    account = Account()
    for workspace_id in {spec.workspace_id for spec in specs} - {None}:
        account.workspaces[str(workspace_id)] = Workspace(str(workspace_id))
    async with Emulator(account, faults=_FAULTS, seed=len(specs)) as emulator:
        text = "about a third of all creates fail, most of them after the key is made"
        transcript.did("faults", text)
        handed_over: dict[str, ProvisionResult] = {}
        report = await _provision(emulator, specs, handed_over)
        transcript.did("provision", f"{report}; {report.deleted} keys of lost answers deleted")
        _check(emulator, specs, handed_over, transcript)


async def _provision(
    emulator: Emulator, specs: Sequence[KeySpec], handed_over: dict[str, ProvisionResult]
) -> ProvisionReport:
    def take(result: ProvisionResult) -> None:
        handed_over[result.ref] = result

    with TemporaryDirectory() as folder:
        async with AsyncOpenRouter(
            emulator.api_key, server_url=emulator.base_url, proxy=""
        ) as client:
            return await client.provision(
                specs,
                journal=Path(folder) / "customers.journal",
                on_result=take,
                quiet_period=_QUIET_PERIOD,
            )


def _check(
    emulator: Emulator,
    specs: Sequence[KeySpec],
    handed_over: dict[str, ProvisionResult],
    transcript: Transcript,
) -> None:
    asked, live = len(specs), emulator.account.keys.keys()
    hashes = {sha256(result.key.encode()).hexdigest() for result in handed_over.values()}
    transcript.did("asked", f"{asked} keys; {emulator.count('create')} creates were sent")
    transcript.check(f"live keys on the server: {len(live)}", holds=len(live) == asked)
    transcript.check(f"secrets in hand: {len(handed_over)}", holds=len(hashes & live) == asked)
    orphans = len(live - hashes)
    transcript.check(f"orphans, live keys whose secret is lost: {orphans}", holds=orphans == 0)
