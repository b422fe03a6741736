"""What may leave a process in a pickle, and what never does. No file, no secret."""

import pickle
from collections.abc import Mapping
from typing import NoReturn, TypeVar

E = TypeVar("E", bound=Exception)


class NeverPickled:
    """What holds a secret, or lives in one process: it refuses to be pickled or copied.

    Every pickler asks `__reduce__`: also `cloudpickle` and `dill`, which take functions with all
    that they refer to, and `copy`.
    """

    __slots__ = ()

    def __reduce__(self) -> NoReturn:
        message = (
            f"{type(self).__name__} objects hold a secret, or what belongs to one process, and are "
            "never pickled or copied: make another one where it is needed"
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
    """Return an error as a pickle; None: something in it cannot be pickled.

    In bytes, a cause is pickled once; as an object it would be for each error that it caused.
    """
    try:
        return pickle.dumps(error)
    except Exception:  # noqa: BLE001 - what others added to it raises what it likes
        return None
