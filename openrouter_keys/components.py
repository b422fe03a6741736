"""What the official SDK has under this name, so that a migration changes one import."""

from openrouter_keys.errors import ErrorDetail
from openrouter_keys.models import Budget

__all__ = [
    "BadRequestResponseErrorData",
    "ConflictResponseErrorData",
    "ForbiddenResponseErrorData",
    "InternalServerResponseErrorData",
    "KeyBudget",
    "NotFoundResponseErrorData",
    "TooManyRequestsResponseErrorData",
    "UnauthorizedResponseErrorData",
]

KeyBudget = Budget
BadRequestResponseErrorData = UnauthorizedResponseErrorData = ErrorDetail
ForbiddenResponseErrorData = NotFoundResponseErrorData = ErrorDetail
ConflictResponseErrorData = TooManyRequestsResponseErrorData = ErrorDetail
InternalServerResponseErrorData = ErrorDetail
