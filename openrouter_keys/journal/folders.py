"""Who else may replace a file: the folders on its path, checked as sshd does. No file."""

import os
import stat
import sys

from openrouter_keys.errors import JournalInsecureError

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
        folder = os.path.dirname(path)
        # What a link is replaced with counts as well as what it leads to.
        for each in {folder: None, os.path.realpath(folder): None}:
            while True:
                _refuse(each, os.stat(each))
                if each == os.path.dirname(each):
                    break
                each = os.path.dirname(each)  # noqa: PLW2901

    def _refuse(folder: str, found: os.stat_result) -> None:
        if found.st_uid not in (0, os.geteuid()):
            problem = "belongs to another user, who could replace the journal in it"
        elif found.st_mode & stat.S_ISVTX or not _others_may_write(found):
            return
        else:
            problem = "can be written to by others, who could replace the journal in it"
        hint = "put it into a folder that only you may write to (chmod go-w)"
        raise JournalInsecureError(folder, f"{problem}: {hint}")

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
