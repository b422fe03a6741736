"""OpenRouter's API keys from Python: async first, blocking too, and never a key made twice.

The names are resolved when they are first used, so that importing the package stays light.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from openrouter_keys._base.unset import UNSET, OptionalNullable, Unset
from openrouter_keys._base.version import __version__

if TYPE_CHECKING:
    from openrouter_keys import components, converter, errors, models, operations, utils
    from openrouter_keys._inputs.credentials import CachedKey
    from openrouter_keys._inputs.options import RequestOptions
    from openrouter_keys._inputs.retry_config import BackoffStrategy, RetryConfig
    from openrouter_keys._reconcile.reconcile import (
        Reconciliation,
    )
    from openrouter_keys.adoption.report import AdoptedKey, AdoptionReport
    from openrouter_keys.api_keys import AsyncAPIKeys
    from openrouter_keys.applying.report import (
        ApplyProgress,
        ApplyReport,
        ApplyStoppedError,
        Change,
        FieldChange,
        Limits,
        Plan,
        PruneExcess,
        TooManyPrunedError,
    )
    from openrouter_keys.client import AsyncOpenRouter
    from openrouter_keys.ensuring.report import Ensured
    from openrouter_keys.errors import (
        AccountChangedError,
        AllowanceExceededError,
        AnotherKeyError,
        DuplicateRefError,
        IncompleteListingError,
        JournalError,
        JournalFullError,
        JournalInsecureError,
        JournalInUseError,
        JournalLostError,
        JournalMismatchError,
        JournalOutdatedError,
        JournalUnavailableError,
        KeyGoneError,
        LeaseEndedError,
        LeaseMismatchError,
        NotAdoptedError,
        OpenRouterError,
        PlanChangedError,
        QuotaExhaustedError,
        SecretNotKeptError,
        ServiceOutageError,
        TakenOverError,
        TooManyFailuresError,
    )
    from openrouter_keys.events import Event
    from openrouter_keys.journal.journal import Journal
    from openrouter_keys.journal.specs import (
        KeySpec,
    )
    from openrouter_keys.lease import Lease
    from openrouter_keys.models import (
        Budget,
        CreateKeysResponse,
        CurrentKey,
        DeleteKeysResponse,
        External,
        FreeModelDailyRequests,
        GetCurrentKeyResponse,
        GetKeyResponse,
        HTTPMeta,
        Key,
        LimitReset,
        ListResponse,
        RateLimit,
        UpdateKeysResponse,
    )
    from openrouter_keys.provisioning.report import (
        ProvisioningStoppedError,
        ProvisionProblem,
        ProvisionProgress,
        ProvisionReport,
        ProvisionResult,
        UndeliveredKey,
    )
    from openrouter_keys.results import Err, Ok, attempt
    from openrouter_keys.rotation.report import Rotation, RotationReport
    from openrouter_keys.sweeping.report import SweepReport, SweptKey
    from openrouter_keys.sync import APIKeys, OpenRouter
    from openrouter_keys.utils import parse_datetime

__all__ = [
    "UNSET",
    "APIKeys",
    "AccountChangedError",
    "AdoptedKey",
    "AdoptionReport",
    "AllowanceExceededError",
    "AnotherKeyError",
    "ApplyProgress",
    "ApplyReport",
    "ApplyStoppedError",
    "AsyncAPIKeys",
    "AsyncOpenRouter",
    "BackoffStrategy",
    "Budget",
    "CachedKey",
    "Change",
    "CreateKeysResponse",
    "CurrentKey",
    "DeleteKeysResponse",
    "DuplicateRefError",
    "Ensured",
    "Err",
    "Event",
    "External",
    "FieldChange",
    "FreeModelDailyRequests",
    "GetCurrentKeyResponse",
    "GetKeyResponse",
    "HTTPMeta",
    "IncompleteListingError",
    "Journal",
    "JournalError",
    "JournalFullError",
    "JournalInUseError",
    "JournalInsecureError",
    "JournalLostError",
    "JournalMismatchError",
    "JournalOutdatedError",
    "JournalUnavailableError",
    "Key",
    "KeyGoneError",
    "KeySpec",
    "Lease",
    "LeaseEndedError",
    "LeaseMismatchError",
    "LimitReset",
    "Limits",
    "ListResponse",
    "NotAdoptedError",
    "Ok",
    "OpenRouter",
    "OpenRouterError",
    "OptionalNullable",
    "Plan",
    "PlanChangedError",
    "ProvisionProblem",
    "ProvisionProgress",
    "ProvisionReport",
    "ProvisionResult",
    "ProvisioningStoppedError",
    "PruneExcess",
    "QuotaExhaustedError",
    "RateLimit",
    "Reconciliation",
    "RequestOptions",
    "RetryConfig",
    "Rotation",
    "RotationReport",
    "SecretNotKeptError",
    "ServiceOutageError",
    "SweepReport",
    "SweptKey",
    "TakenOverError",
    "TooManyFailuresError",
    "TooManyPrunedError",
    "UndeliveredKey",
    "Unset",
    "UpdateKeysResponse",
    "__version__",
    "attempt",
    "components",
    "converter",
    "errors",
    "models",
    "operations",
    "parse_datetime",
    "utils",
]

_MODULES = {
    "adoption.report": ("AdoptedKey", "AdoptionReport"),
    "api_keys": ("AsyncAPIKeys",),
    "applying.report": (
        "ApplyProgress",
        "ApplyReport",
        "ApplyStoppedError",
        "Change",
        "FieldChange",
        "Limits",
        "Plan",
        "PruneExcess",
        "TooManyPrunedError",
    ),
    "client": ("AsyncOpenRouter",),
    "errors": (
        "AccountChangedError",
        "AllowanceExceededError",
        "AnotherKeyError",
        "DuplicateRefError",
        "IncompleteListingError",
        "JournalError",
        "JournalFullError",
        "JournalInUseError",
        "JournalInsecureError",
        "JournalLostError",
        "JournalMismatchError",
        "JournalOutdatedError",
        "JournalUnavailableError",
        "KeyGoneError",
        "LeaseEndedError",
        "LeaseMismatchError",
        "NotAdoptedError",
        "OpenRouterError",
        "PlanChangedError",
        "QuotaExhaustedError",
        "SecretNotKeptError",
        "ServiceOutageError",
        "TakenOverError",
        "TooManyFailuresError",
    ),
    "rotation.report": ("Rotation", "RotationReport"),
    "models": (
        "Budget",
        "CreateKeysResponse",
        "CurrentKey",
        "DeleteKeysResponse",
        "External",
        "FreeModelDailyRequests",
        "GetCurrentKeyResponse",
        "GetKeyResponse",
        "HTTPMeta",
        "Key",
        "LimitReset",
        "ListResponse",
        "RateLimit",
        "UpdateKeysResponse",
    ),
    "_inputs.credentials": ("CachedKey",),
    "_inputs.options": ("RequestOptions",),
    "provisioning.report": (
        "ProvisionProblem",
        "ProvisionProgress",
        "ProvisionReport",
        "ProvisionResult",
        "ProvisioningStoppedError",
        "UndeliveredKey",
    ),
    "ensuring.report": ("Ensured",),
    "events": ("Event",),
    "lease": ("Lease",),
    "journal.journal": ("Journal",),
    "journal.specs": ("KeySpec",),
    "_reconcile.reconcile": ("Reconciliation",),
    "results": ("Err", "Ok", "attempt"),
    "_inputs.retry_config": ("BackoffStrategy", "RetryConfig"),
    "sweeping.report": ("SweepReport", "SweptKey"),
    "sync": ("APIKeys", "OpenRouter"),
    "utils": ("parse_datetime",),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> object:
    if name in _HOMES:
        found: object = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    elif name in __all__:
        found = import_module(f"{__name__}.{name}")
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted(__all__)
