"""What SQLite's write-ahead log counts, read without SQLite, which would apply it to any file.

The format: https://sqlite.org/fileformat.html#the_write_ahead_log. A log has no mark of the file
that it belongs to: an older copy of that file, or another one, comes out half changed.
"""

import re
import struct
from collections.abc import Iterator

_HEADER, _FRAME = 32, 24
# A table's last page (13) with one row, which begins at that place.
_ONE_ROW = struct.Struct(">B2xH3xH")
# Of `marks`: sizes of the row and of its header, the types of its three columns, the instance.
_MARKS = re.compile(rb".\x01\x04\x2d([\x01-\x06\x08\x09])[\x01\x08\x09]([0-9a-f]{16})", re.DOTALL)
# How many bytes an integer of a type takes.
_WIDTH = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8, 8: 0, 9: 0}


def counted(path: str) -> list[tuple[str, int]]:
    """Return each count of commits in a log, with the journal's instance, in the order written."""
    with open(path, "rb") as log:
        header = log.read(_HEADER)
        if len(header) < _HEADER:
            return []
        size, salts = int.from_bytes(header[8:12], "big"), header[16:24]
        found: list[tuple[str, int]] = []
        # Frames of other salts are left of an earlier log.
        while len(frame := log.read(_FRAME + size)) == _FRAME + size and frame[8:16] == salts:
            found += _marks(frame[_FRAME:])
        return found


def _marks(page: bytes) -> Iterator[tuple[str, int]]:
    kind, rows, place = _ONE_ROW.unpack_from(page)
    row = _MARKS.match(page, place) if (kind, rows) == (13, 1) else None
    if row is not None:
        (kind,), instance = row.groups()
        width = _WIDTH[kind]
        commits = int.from_bytes(page[row.end() : row.end() + width], "big")
        yield instance.decode(), commits if width else kind - 8
