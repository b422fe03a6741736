"""What SQLite's write-ahead log counts, read without SQLite, which would apply it to any file.

The format: https://sqlite.org/fileformat.html#the_write_ahead_log. A log has no mark of the file
that it belongs to: an older copy of that file, or another one, comes out half changed.
"""

import re
import struct

from attrs import evolve, frozen

_HEADER, _FRAME = 32, 24
_MAGIC = (b"\x37\x7f\x06\x82", b"\x37\x7f\x06\x83")
_PAGE_SIZES = tuple(2**power for power in range(9, 17))
# A table's last page (13) with one row, which begins at that place.
_ONE_ROW = struct.Struct(">B2xH3xH")
# Of `marks`: sizes of the row and of its header, the types of its three columns, the instance.
_MARKS = re.compile(rb".\x01\x04\x2d([\x01-\x06\x08\x09])[\x01\x08\x09]([0-9a-f]{16})", re.DOTALL)
# How many bytes an integer of a type takes.
_WIDTH = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8, 8: 0, 9: 0}


@frozen
class Counts:
    """The commits of a journal that a log has.

    Attributes:
        instance: which journal it is.
        first: the number of the first one.
        last: the number of the last one.
    """

    instance: str
    first: int
    last: int


def begins(path: str) -> bool:
    """Return whether a file begins as a log does, however short it was cut."""
    with open(path, "rb") as log:
        begin = log.read(4)
    return bool(begin) and any(magic.startswith(begin) for magic in _MAGIC)


def counts(path: str) -> Counts | None:
    """Return what a log counts; None: nothing, or it is no log, which SQLite ignores as well."""
    with open(path, "rb") as log:
        header = log.read(_HEADER)
        size = int.from_bytes(header[8:12], "big")
        if header[:4] not in _MAGIC or size not in _PAGE_SIZES:
            return None
        found: Counts | None = None
        salts = header[16:24]
        # Frames of other salts are left of an earlier log.
        while len(frame := log.read(_FRAME + size)) == _FRAME + size and frame[8:16] == salts:
            if (marks := _marks(frame[_FRAME:])) is not None:
                instance, commits = marks
                found = evolve(found or Counts(instance, commits, commits), last=commits)
    return found


def _marks(page: bytes) -> tuple[str, int] | None:
    kind, rows, place = _ONE_ROW.unpack_from(page)
    row = _MARKS.match(page, place) if (kind, rows) == (13, 1) else None
    if row is None:
        return None
    (kind,), instance = row.groups()
    width = _WIDTH[kind]
    commits = int.from_bytes(page[row.end() : row.end() + width], "big")
    return instance.decode(), commits if width else kind - 8
