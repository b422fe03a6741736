"""A process that is forked behaves as one that is started."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import ROOT, Process, run
from tests.terminals import Terminal

pytestmark = pytest.mark.slow

SCRIPTS = {
    "what it writes": "import sys; print('é'); sys.stderr.write('\\udc80')",
    "what it reads": "print(input())",
    "where it is": "import os; print(os.getcwd(), os.environ['HERE'], 'HOME' in os.environ)",
    "its arguments": "import sys; print(sys.argv, __name__)",
    "its encoding": "import sys; print(sys.stdin.encoding, sys.stdout.encoding, sys.stdout.errors)",
    "its files": "import os; print([os.isatty(number) for number in range(3)])",
    "its signals": """
import signal
print([signal.getsignal(number) for number in signal.Signals
       if number not in (signal.SIGKILL, signal.SIGSTOP)])
""",
    "its warnings": "import warnings; warnings.warn('told', UserWarning)",
    "its time": "import time; print(time.tzname)",
    "an exit code": "import sys; sys.exit(4)",
    "a text for an exit code": "import sys; sys.exit('why')",
    "an error": "1 / 0",
    "an interrupt": "raise KeyboardInterrupt",
    "a signal": "import os; os.kill(os.getpid(), 15)",
    "an end at once": "import os; os._exit(3)",
    "what it does at its end": "import atexit; atexit.register(print, 'bye')",
    "a full disk": "import sys; sys.stdout = open('/dev/full', 'w'); print('lost')",
    "threads": "import threading; threading.Timer(0.01, print, ['late']).start()",
}


@pytest.mark.parametrize("what", SCRIPTS)
def test_it_is_as_one_that_is_started(what: str, tmp_path: Path) -> None:
    own = {name: text for name, text in os.environ.items() if name not in ("HOME", "PYTHONPATH")}
    environment = {**own, "HERE": "here", "TZ": "Pacific/Auckland", "PYTHONIOENCODING": "utf-8"}
    words = ("-c", SCRIPTS[what], "one", "two words")

    forked = run(*words, folder=tmp_path, environment=environment, stdin=subprocess.PIPE)

    started = subprocess.run(
        [sys.executable, "-W", "error", *words], cwd=tmp_path, env=environment, input="",
        capture_output=True, encoding="utf-8", check=False,
    )  # fmt: skip
    assert (forked.returncode, forked.stdout) == (started.returncode, started.stdout)
    assert forked.stderr.splitlines()[-1:] == started.stderr.splitlines()[-1:]


def test_it_hears_signals_and_tells_that_they_ended_it() -> None:
    with Process("-c", "import time; print(flush=True); time.sleep(60)", environment={}) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert process.poll() is None
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == process.poll() == -signal.SIGTERM
        process.kill()  # nobody else is killed


def test_a_terminal_is_its_own() -> None:
    ask = "import os; print(os.isatty(2), os.getsid(0) == os.getpid()); open('/dev/tty').read()"
    shown = Terminal("-c", ask, folder=ROOT, environment={})
    shown.expect("True True")
    shown.interrupt()
    assert shown.wait() == -signal.SIGINT
