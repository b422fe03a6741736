"""The service's errors, as exceptions. No HTTP."""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

JSON: TypeAlias = "Mapping[str, JSON] | Sequence[JSON] | str | int | float | bool | None"


class Refusal(Exception):  # noqa: N818  the service refuses; the emulator has no error
    """The service answers with this error.

    Args:
        status: the HTTP status.
        message: the text at ``error.message``.
        error_type: the text at ``error.metadata.error_type``. None: no ``metadata``.
    """

    def __init__(self, status: int, message: str, error_type: str | None = None) -> None:
        super().__init__(status, message, error_type)
        self.status = status
        self.message = message
        self.error_type = error_type

    @property
    def body(self) -> JSON:
        """The JSON of the answer."""
        error: dict[str, JSON] = {"code": self.status, "message": self.message}
        if self.error_type is not None:
            error["metadata"] = {"error_type": self.error_type}
        return {"error": error}
