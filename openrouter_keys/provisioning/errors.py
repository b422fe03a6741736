"""What can go wrong with a run and its journal; each is an `OpenRouterError`. No secret is shown.

::

    AllowanceExceededError      a spec would hand out more than `max_total_limit`
    TooManyFailuresError        more keys were refused than `max_failures`
    ServiceOutageError          no create succeeded, or nothing was settled, for too long
    JournalError
    ├── JournalInUseError       another process, or this one, is writing to it
    ├── JournalInsecureError    others could read or replace it, or it is no plain file
    ├── JournalMismatchError    no journal, a newer version's, or another server's
    │   └── JournalOutdatedError    an older copy of it, or half of one
    ├── AccountChangedError     its keys belong to another account
    ├── JournalFullError        it cannot be written, so nothing more is sent
    ├── JournalLostError        its file was taken away from under a run
    ├── PlanChangedError        a known ref came with other fields
    ├── DuplicateRefError       a ref came twice in one run
    └── SecretNotKeptError      a key was made and could not be written down: `.key`
"""

from typing import NoReturn

from openrouter_keys.errors import OpenRouterError
from openrouter_keys.masking import mask


class AllowanceExceededError(OpenRouterError):
    """A spec would hand out more than `max_total_limit`, or no amount that can be added up.

    Attributes:
        ref: the caller's own id; no key was made for it.
    """

    def __init__(self, ref: str, problem: str) -> None:
        super().__init__(f"the spec {ref!r} {problem}: no key was made for it")
        self.ref = ref


class TooManyFailuresError(OpenRouterError):
    """More keys were refused, or not as asked for, than the caller bears."""

    def __init__(self, most: int) -> None:
        super().__init__(f"more than {most} keys were refused, or are not as asked for")


class ServiceOutageError(OpenRouterError):
    """Round after round, no create succeeded, or nothing of what it left could be settled."""

    def __init__(
        self, rounds: int, last: OpenRouterError | None = None, obstacle: str | None = None
    ) -> None:
        # Of an unknown outcome, what made it so.
        why = None if last is None else last.__cause__ or last
        said = "" if why is None else f" (the last one: {why})"
        what = obstacle or f"no create succeeded: is the service up?{said}"
        super().__init__(f"{rounds} rounds went by without a key: {what}")
        self.__cause__ = last


class JournalError(OpenRouterError):
    """The journal cannot do what was asked of it."""


class JournalInUseError(JournalError):
    """Somebody else is writing to the journal.

    Attributes:
        path: the journal.
        pid: the number of the process that holds it; None where it could not be read.
    """

    def __init__(self, path: str, pid: int | None) -> None:
        who = "another process" if pid is None else f"process {pid}"
        super().__init__(f"{path} is in use by {who}: wait until it is done, or stop it")
        self.path, self.pid = path, pid


class JournalInsecureError(JournalError):
    """The journal, or a file beside it, is not this user's own private file.

    Attributes:
        path: the file.
    """

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path} {problem}")
        self.path = path


class JournalMismatchError(JournalError):
    """The file is not a journal that this run can go on with.

    Attributes:
        path: the file.
    """

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path} {problem}")
        self.path = path


class JournalOutdatedError(JournalMismatchError):
    """The file is an older copy of the journal, or lacks its log: it knows less than was sent.

    What it does not know would be made once more.
    """

    def __init__(self, path: str, problem: str) -> None:
        way = f"openrouter-keys journal accept {path}"
        super().__init__(
            path,
            f"{problem}; keys that it does not know would be made twice. Bring the newest one "
            f"back, or go on with this one: {way}",
        )


class AccountChangedError(JournalError):
    """The management key's default workspace is not the one that the journal's keys are in.

    Attributes:
        known: the workspace that the journal's keys were made in.
        found: the default workspace of the management key; None: it shows none.
    """

    def __init__(self, known: str, found: str | None) -> None:
        super().__init__(
            f"the journal's keys are in the workspace {known}, and this management key lists "
            f"{found or 'no key of it'}: give the key of the account that they belong to, or "
            "another journal"
        )
        self.known, self.found = known, found


class JournalFullError(JournalError):
    """The journal could not be written: what it was to hold has not been sent."""


class JournalLostError(JournalError):
    """A file of the journal was removed, renamed, replaced or cut short while it was in use.

    Attributes:
        path: the file.
    """

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(
            f"{path} {problem} while it was in use: nothing more is sent; bring it back, then run "
            "again"
        )
        self.path = path


class PlanChangedError(JournalError):
    """A spec is not the one that the journal knows by its ref.

    Attributes:
        ref: the caller's own id.
        changed: the fields that differ.
    """

    def __init__(self, ref: str, changed: tuple[str, ...]) -> None:
        super().__init__(
            f"the spec {ref!r} changed since the journal began ({', '.join(changed)}): give it "
            "another ref, go back to the old fields, or begin another journal"
        )
        self.ref, self.changed = ref, changed


class DuplicateRefError(JournalError):
    """Two specs of one run have the same ref.

    Attributes:
        ref: the caller's own id.
    """

    def __init__(self, ref: str) -> None:
        super().__init__(f"the ref {ref!r} came twice: each spec needs one of its own")
        self.ref = ref


class SecretNotKeptError(JournalError):
    """A key was made and the journal could not hold it: take the secret from here.

    It refuses to be pickled, since the secret must not be written anywhere unasked.

    Attributes:
        ref: the caller's own id.
        key: the secret.
        hash: the key's hash.
        problem: why the journal could not hold it.
    """

    maybe_applied = True

    def __init__(self, ref: str, key: str, hash: str, problem: str) -> None:
        super().__init__(
            f"the key {mask(key)} of {ref!r} was made and is not in the journal ({problem}): it is "
            "only in `error.key`"
        )
        self.ref, self.key, self.hash, self.problem = ref, key, hash, problem

    def __reduce__(self) -> NoReturn:
        message = "a created key's secret is never pickled: take `error.key` out first"
        raise TypeError(message)
