"""Where tests keep files: in memory, if there is room; on a disk, each commit waits for it."""

import os
from pathlib import Path
from typing import Final

_MEMORY: Final = Path("/dev/shm")
_ROOM: Final = 2 * 2**30


def _has_room() -> bool:
    # A container's is small by default, and runs no program.
    if not os.access(_MEMORY, os.W_OK):
        return False
    held = os.statvfs(_MEMORY)
    return held.f_bavail * held.f_frsize > _ROOM and not held.f_flag & os.ST_NOEXEC


#: A short path, for sockets, that every user may enter.
FOLDER: Final = _MEMORY if _has_room() else Path("/tmp")
