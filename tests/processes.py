"""Python processes for tests that are there at once: forked from one that has imported everything.

Each is real: it has its own pid, signals, files, environment and perhaps a terminal, and it ends as
any Python does. Only its imports are done before, once for all. The process that forks has no
threads, which pytest's own has.
"""

import atexit
import contextlib
import fcntl
import functools
import gc
import importlib
import io
import json
import os
import pkgutil
import runpy
import select
import signal
import socket
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import IO, Any, Self

import openrouter_keys
from openrouter_keys.cli import app

ROOT = Path(__file__).parent.parent


#: Seconds within which another process does something; it takes a fraction of one.
PATIENCE = 60


def until(happened: Callable[[], object]) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def environment(**settings: str) -> dict[str, str]:
    """What a process finds in its environment: ours, but for what would change what it does."""
    others = ("OPENROUTER_", "NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES")
    own = {name: text for name, text in os.environ.items() if not name.startswith(others)}
    return {**own, "PYTHONPATH": str(ROOT), **settings}


class Process:
    """A Python process, driven as a `subprocess.Popen` of texts is.

    Args:
        words: what follows `python -W error`: `-m`, a module and its arguments, or `-c` and so on.
        folder: where it runs.
        environment: all of its environment.
        stdin: as `Popen` has it; None: it is empty.
        stdout: as `Popen` has it; None: a pipe.
        stderr: as `Popen` has it; None: a pipe.
        terminal: whether standard input is a terminal, to be its controlling one.
    """

    def __init__(
        self,
        *words: str,
        environment: Mapping[str, str],
        folder: Path = ROOT,
        stdin: int | None = None,
        stdout: int | None = None,
        stderr: int | None = None,
        terminal: bool = False,
    ) -> None:
        self.args = words
        self.returncode: int | None = None
        given: list[int] = []
        self.stdin = _end(subprocess.DEVNULL if stdin is None else stdin, given, "w")
        self.stdout = _end(subprocess.PIPE if stdout is None else stdout, given, "r")
        self.stderr = _end(subprocess.PIPE if stderr is None else stderr, given, "r")
        # Nobody else holds the other end: it is closed when the process ends, however it does.
        self._ended, alive = os.pipe()
        order = {"words": words, "folder": str(folder), "terminal": terminal}
        try:
            self.pid = _launcher().ask(order | {"environment": {**environment}}, [*given, alive])
        finally:
            for number in (alive, *given):
                if number not in (stdin, stdout, stderr):
                    os.close(number)

    def poll(self) -> int | None:
        """Return its exit code if it has ended; below 0, a signal ended it."""
        return self._waited(0)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for it to end; return its exit code."""
        code = self._waited(timeout)
        if code is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return code

    def _waited(self, timeout: float | None) -> int | None:
        if self.returncode is None and select.select([self._ended], [], [], timeout)[0]:
            os.close(self._ended)
            self.returncode = _launcher().ask({"ended": self.pid}, [])
        return self.returncode

    def communicate(self, text: str = "", timeout: float | None = None) -> tuple[str, str]:
        """Write to its standard input, wait for it to end, and return what it wrote."""
        with ThreadPoolExecutor() as pool:
            told = [pool.submit(stream.read) if stream is not None and not stream.closed else None
                    for stream in (self.stdout, self.stderr)]  # fmt: skip
            try:
                if self.stdin is not None:
                    with contextlib.suppress(BrokenPipeError), self.stdin:
                        self.stdin.write(text)
                self.wait(timeout)
            except BaseException:
                self.kill()
                raise
        self._close()
        out, err = ("" if each is None else each.result() for each in told)
        return out, err

    def send_signal(self, number: int) -> None:
        """Send it a signal unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _close(self) -> None:
        for stream in (self.stdin, self.stdout, self.stderr):
            if stream is not None:
                stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()
        self.wait()


def run(*words: str, timeout: float = 60, **given: Any) -> "subprocess.CompletedProcess[str]":
    """Run a Python process to its end; it is given as `Process` is."""
    process = Process(*words, **given)
    out, err = process.communicate(timeout=timeout)
    return subprocess.CompletedProcess(words, process.wait(), out, err)


def _end(wanted: int, given: list[int], mode: str) -> IO[str] | None:
    """Add what a process is given to a list; return our end of it if it is a pipe."""
    if wanted == subprocess.DEVNULL:
        given.append(os.open(os.devnull, os.O_RDWR))
    elif wanted == subprocess.PIPE:
        reading, writing = os.pipe()
        ours, theirs = (reading, writing) if mode == "r" else (writing, reading)
        given.append(theirs)
        return open(ours, mode, encoding="utf-8")
    else:
        given.append(wanted)
    return None


_LAUNCHING = Lock()


class _Launcher:
    """The process that forks, as its user sees it; it ends with us."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            line = [sys.executable, "-W", "error", "-m", "tests.processes", str(theirs.fileno())]
            self._process = subprocess.Popen(
                line, cwd=ROOT, pass_fds=[theirs.fileno()], start_new_session=True,
                stdin=subprocess.DEVNULL,
            )  # fmt: skip
        self._requests, self._answers, self._lock = ours, ours.makefile(), Lock()
        atexit.register(self._end)

    def ask(self, what: Mapping[str, object], given: Sequence[int]) -> int:
        with self._lock:
            socket.send_fds(self._requests, [b"\n"], given)
            self._requests.sendall(f"{json.dumps(what)}\n".encode())
            return int(self._answers.readline())

    def _end(self) -> None:
        self._answers.close()
        self._requests.close()
        self._process.wait()


@functools.cache
def _launched() -> _Launcher:
    return _Launcher()


def _launcher() -> _Launcher:
    with _LAUNCHING:  # threads that ask at once get the same one
        return _launched()


# --- the process that forks ---


def _serve(requests: socket.socket) -> "tuple[dict[str, Any], list[int]] | None":
    """Fork whenever somebody asks; return, in the new process, what it is to be."""
    with requests, requests.makefile() as lines:
        while (asked := socket.recv_fds(requests, 1, 4))[0]:
            what, given = json.loads(lines.readline()), asked[1]
            if "ended" in what:
                answer = os.waitstatus_to_exitcode(os.waitpid(what["ended"], 0)[1])
            elif (answer := os.fork()) == 0:
                return what, given
            for number in given:
                os.close(number)
            requests.sendall(f"{answer}\n".encode())
    return None


def _become(what: Mapping[str, Any], given: Sequence[int]) -> None:
    """Be the process that is asked for; what this raises ends it."""
    *standard, alive = given
    os.set_inheritable(alive, False)
    for number, file in enumerate(standard):
        os.dup2(file, number)
        os.close(file)
    if what["terminal"]:
        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    os.chdir(what["folder"])
    os.environ.clear()
    os.environ.update(what["environment"])
    time.tzset()
    encoding, _, errors = os.environ.get("PYTHONIOENCODING", "").partition(":")
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        stream = open(  # noqa: SIM115 - it stays open
            number, "w" if number else "r", 1 if number == 2 else -1, closefd=False,
            encoding=encoding or None,
            errors="backslashreplace" if number == 2 else errors or None,
        )  # fmt: skip
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    how, where, *sys.argv[1:] = what["words"]
    if how == "-m":
        runpy.run_module(where, run_name="__main__", alter_sys=True)
    else:
        sys.argv[0] = how
        exec(where, {"__name__": "__main__"})


def _load() -> None:
    """Import what any process here may need, so that none does it again."""
    for module in pkgutil.walk_packages(openrouter_keys.__path__, "openrouter_keys."):
        if not module.name.endswith(("__main__", ".plugin", ".lifecycle", "provisioning.journal")):
            importlib.import_module(module.name)
    for name in ("anyio._backends._asyncio", "rich._emoji_codes", "tests.provisioners"):
        importlib.import_module(name)
    with contextlib.redirect_stdout(io.StringIO()):
        app.run(["list", "--help"])
    gc.collect()
    gc.freeze()


if __name__ == "__main__":
    _load()
    if (mine := _serve(socket.socket(fileno=int(sys.argv[1])))) is not None:
        _become(*mine)
