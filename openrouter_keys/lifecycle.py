"""The earlier name of `openrouter_keys.rotation`; it goes with the next version."""

import warnings

from openrouter_keys.rotation import rotations

__all__ = ["rotations"]

warnings.warn(
    "openrouter_keys.lifecycle is now openrouter_keys.rotation", DeprecationWarning, stacklevel=2
)
