"""The PostgreSQL server that tests use: it starts, stops, crashes, recovers, and ends with us."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.postgresql import PASSWORD, PostgreSQL
from tests.processes import ROOT

pytestmark = pytest.mark.slow


def test_a_server_keeps_what_was_committed_through_a_stop_and_a_crash(
    postgresql: PostgreSQL,
) -> None:
    with postgresql.database() as name:
        assert postgresql.sql("SHOW server_version", name).split(".")[0] == "18"
        assert postgresql.sql("SHOW synchronous_commit", name) == "on"
        postgresql.sql("CREATE TABLE kept (number int); INSERT INTO kept VALUES (1)", name)

        postgresql.stop()
        assert not postgresql.is_running
        with pytest.raises(subprocess.CalledProcessError):
            postgresql.sql("SELECT 1", name)
        postgresql.start()
        postgresql.sql("INSERT INTO kept VALUES (2)", name)

        postgresql.stop("immediate")
        postgresql.start()
        assert postgresql.sql("SELECT number FROM kept ORDER BY 1", name) == "1\n2"
        assert "was not properly shut down" in (postgresql.folder / "log").read_text()


def test_a_database_is_dropped_although_somebody_is_connected(postgresql: PostgreSQL) -> None:
    with postgresql.database() as name:
        waiting = subprocess.Popen(
            [postgresql.bin / "psql", "-XAtqc", "SELECT pg_sleep(60)", postgresql.url(name)],
            stderr=subprocess.PIPE,
        )
        connected = f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{name}'"
        while postgresql.sql(connected) != "1":
            assert waiting.poll() is None
        postgresql.stop("immediate")  # and it is started again by then
    assert waiting.wait() != 0
    assert waiting.stderr is not None
    waiting.stderr.close()
    assert postgresql.sql(f"SELECT count(*) FROM pg_database WHERE datname = '{name}'") == "0"


def test_loopback_wants_the_password_and_the_socket_none(postgresql: PostgreSQL) -> None:
    def asked(url: str) -> int:
        words = [str(postgresql.bin / "psql"), "-XAtqw", "-c", "SELECT 1", url]
        return subprocess.run(words, capture_output=True, check=False).returncode

    assert asked(postgresql.url()) == asked(postgresql.url(by_socket=True)) == 0
    assert asked(postgresql.url().replace(PASSWORD, "another")) != 0
    assert (postgresql.folder.stat().st_mode & 0o077) == 0


SCRIPT = """
import sys, time
from tests.postgresql import server
with server() as made:
    print(made.folder, (made.data / "postmaster.pid").read_text().split()[0], flush=True)
    time.sleep(60)
"""


def test_a_server_ends_with_a_process_that_is_killed() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    folder, pid = process.stdout.readline().split()
    process.kill()
    process.communicate()
    while alive(int(pid)) or Path(folder).exists():
        time.sleep(0.01)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
