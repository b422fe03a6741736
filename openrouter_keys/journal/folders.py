"""Who else may replace a file: the folders on its path, checked as sshd does. No file."""

import errno
import os
import shlex
import stat
import sys
from typing import Final

from openrouter_keys.errors import JournalInsecureError

# As many as Linux follows.
_MOST_LINKS: Final = 40
_ELSEWHERE: Final = "put it into a folder that only you may write to"

if sys.platform == "win32":

    def refuse_shared(path: str) -> None:
        """Refuse nothing: who may write to a folder is not in its mode here."""

else:
    import grp
    import pwd

    def refuse_shared(path: str) -> None:
        """Refuse a file in a folder where others could put another one in its place.

        Args:
            path: the file, absolute.

        Raises:
            JournalInsecureError: a folder of its path belongs to another user, or others may
                write to it, and it is not sticky as `/tmp` is.
            OSError: there is no such folder.
        """
        folder, left, links = os.path.abspath(os.sep), _parts(os.path.dirname(path)), 0
        _refuse(folder, os.stat(folder))
        while left:
            each = os.path.normpath(os.path.join(folder, left.pop()))
            found = os.lstat(each)
            if not stat.S_ISLNK(found.st_mode):
                folder = each
                _refuse(folder, os.stat(folder))
                continue
            links += 1
            if links > _MOST_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
            # What a link is replaced with counts as well as what it leads to.
            _refuse_anothers(each, found)
            target = os.readlink(each)
            folder = os.sep if os.path.isabs(target) else folder
            left += _parts(target)

    def _parts(path: str) -> list[str]:
        """Return the names in a path, the first one last."""
        return [each for each in path.split(os.sep) if each][::-1]

    def _refuse_anothers(link: str, found: os.stat_result) -> None:
        if found.st_uid not in (0, os.geteuid()):
            problem = f"is a link of {_another(found)}, who could make it lead elsewhere"
            raise JournalInsecureError(
                link, f"{problem}: {_ELSEWHERE}, by a path without this link"
            )

    def _refuse(folder: str, found: os.stat_result) -> None:
        if found.st_uid not in (0, os.geteuid()):
            # A mount in a container may belong to a user of the host: root may own it, others not.
            problem = f"belongs to {_another(found)}, who could replace the journal in it"
            advice = f"chown {os.geteuid()} {shlex.quote(folder)}"
            advice = advice if os.geteuid() == 0 else f"sudo {advice}"
        elif found.st_mode & stat.S_ISVTX or not _others_may_write(found):
            return
        else:
            problem = "can be written to by others, who could replace the journal in it"
            advice = f"chmod go-w {shlex.quote(folder)}"
        raise JournalInsecureError(folder, f"{problem}: {_ELSEWHERE}, or {advice}")

    def _another(found: os.stat_result) -> str:
        """Return who owns a file; a container has no name for many a user of its host."""
        try:
            name = f"{pwd.getpwuid(found.st_uid).pw_name}, "
        except KeyError:
            name = ""
        return f"another user ({name}uid {found.st_uid})"

    def _others_may_write(found: os.stat_result) -> bool:
        if found.st_mode & stat.S_IWOTH:
            return True
        return bool(found.st_mode & stat.S_IWGRP) and not _is_ours_alone(found.st_gid)

    def _is_ours_alone(gid: int) -> bool:
        """Return whether a group is root's, or has no member but this user.

        Many systems give each user a group, and a umask of 002; a container's volume has a group
        that no other user has.
        """
        if gid == 0:
            return True
        ours = os.geteuid()
        try:
            members = {pwd.getpwnam(name).pw_uid for name in grp.getgrgid(gid).gr_mem}
        except KeyError:
            members = set[int]()  # there is no such group, or user
        primary = {user.pw_uid for user in pwd.getpwall() if user.pw_gid == gid}
        return members | primary <= {0, ours}
