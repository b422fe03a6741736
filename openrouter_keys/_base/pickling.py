"""Objects that are never pickled, and errors that can be. No file, no secret."""

import pickle
from collections.abc import Mapping
from typing import NoReturn, TypeVar

E = TypeVar("E", bound=Exception)


class NeverPickled:
    """Refuses to be pickled or copied: it holds a secret, or belongs to one process.

    Every pickler calls `__reduce__`, also `copy`, `cloudpickle` and `dill`; the last two pickle
    functions with everything that they refer to.
    """

    __slots__ = ()

    def __reduce__(self) -> NoReturn:
        message = (
            f"{type(self).__name__} objects hold a secret, or belong to one process, and are never "
            "pickled or copied: make another one where it is needed"
        )
        raise TypeError(message)


def restored(
    cls: type[E], args: tuple[object, ...], facts: Mapping[str, object], cause: bytes | None
) -> E:
    """Return an error that was pickled or copied.

    Its `__init__` is not called: `args` has only the finished text.
    """
    error = cls.__new__(cls)
    error.args = args
    vars(error).update(facts)
    if cause is not None:
        error.__cause__ = pickle.loads(cause)  # noqa: S301 - as trusted as what it came in
    return error


def pickled(error: BaseException) -> bytes | None:
    """Return an error as a pickle; None: it cannot be pickled.

    Errors with the same cause share its bytes; a cause object would be pickled for each of them.
    """
    try:
        return pickle.dumps(error)
    except Exception:  # noqa: BLE001 - attributes of other code may raise anything
        return None
