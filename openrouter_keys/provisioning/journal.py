"""The earlier place of `openrouter_keys.Journal`; it goes with the next version."""

import warnings

from openrouter_keys.journal.journal import Journal

__all__ = ["Journal"]

warnings.warn(
    "openrouter_keys.provisioning.journal is now openrouter_keys.journal",
    DeprecationWarning,
    stacklevel=2,
)
