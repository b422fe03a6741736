"""What can be asked of this tree; `nox` asks it all, `nox -s tests` one thing."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nox

nox.needs_version = ">=2025.5.1"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.sessions = [
    "lint",
    "types",
    "docs",
    "tests",
    "coverage",
    "lowest",
    "compat",
    "neighbours",
    "bench",
]

# uv trusts the certificates that the system trusts, as pip does.
os.environ.setdefault("UV_SYSTEM_CERTS", "1")

# Compiled once, not by each of the many processes that the tests start; and beside the tree.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
os.environ.setdefault("PYTHONPYCACHEPREFIX", str(Path(__file__).parent / ".nox" / "bytecode"))

OLDEST = (3, 11)
# Many tests wait for a process or a server: more of them than cores can run at once.
WORKERS = str((os.cpu_count() or 1) * 2)


def interpreters() -> list[str]:
    """Every Python from the oldest supported one up that works here, one for each version."""
    # pyenv and uv lay out their Pythons side by side, and put only one of them on the path.
    siblings = Path(sys.base_prefix).parent.glob("*/bin/python3")
    candidates = [sys.executable, *(f"python3.{minor}" for minor in range(OLDEST[1], 20))]
    found: dict[tuple[int, int], str] = {}
    for candidate in [*candidates, *sorted(map(str, siblings))]:
        path = shutil.which(candidate)
        version = version_of(path) if path else None
        if path and version and version >= OLDEST:
            found.setdefault(version, path)
    return [found[version] for version in sorted(found)]


def version_of(python: str) -> tuple[int, int] | None:
    """The version that a Python says it is; None: it does not run."""
    asked = subprocess.run([python, "-V"], capture_output=True, text=True, check=False)
    told = re.match(r"Python (\d+)\.(\d+)\.", asked.stdout)
    return (int(told[1]), int(told[2])) if told and asked.returncode == 0 else None


FOUND = interpreters()
PYTHONS = [nox.param(path, id="{}.{}".format(*(version_of(path) or ()))) for path in FOUND]


# What can break with an old dependency: each of them is used here, in both faces.
LOWEST = [
    f"tests/{name}.py"
    for name in (
        *("test_client", "test_sync", "test_converter", "_transport/test_transport"),
        *("_transport/test_mocking", "_blocking/test_facade", "emulator/test_app"),
        *("journal/test_journal", "journal/test_encryption", "provisioning/test_provision"),
        *("provisioning/test_resume", "rotation/test_rotation", "cli/test_spec_file"),
        *("cli/test_keys", "cli/test_provision", "cli/test_usage"),
    )
]

# What another Python can break: loops, threads, files, SQLite, texts, tracebacks and types; and a
# file of each other part. The rest is the same logic, which the oldest and the newest run.
BETWEEN = [
    *LOWEST,
    *map(str, sorted(Path("tests").glob("test_*.py"))),
    *(
        f"tests/{name}"
        for name in (
            *("_base", "_blocking", "_inputs", "_records", "_transport", "emulator", "journal"),
            *("_reconcile/test_reconcile.py", "provisioning/test_cancel.py"),
            *("provisioning/test_callers.py", "provisioning/test_full_disk.py"),
            *(
                "promises/test_frames.py",
                "promises/test_hostile_logs.py",
                "promises/test_matrix.py",
            ),
            *("promises/test_pickling.py", "promises/test_secrets.py", "adoption/test_adopt.py"),
            *("applying/test_plan.py", "ensuring/test_ensure.py", "sweeping/test_sweep.py"),
            *("cli/test_csv.py", "cli/test_files.py", "cli/test_hostile.py", "cli/test_main.py"),
            *("cli/test_terminal.py", "cli/test_values.py", "cli/test_widths.py"),
        )
    ),
]

# What can break where other libraries are installed: threads, loops, and what a request meets.
BESIDE = [
    "tests/_blocking",
    "tests/test_sync.py",
    "tests/_transport/test_transport.py",
    "tests/provisioning/test_provision.py",
    "tests/provisioning/test_callers.py",
]


def install(session: nox.Session, *groups: str) -> None:
    project = nox.project.load_toml("pyproject.toml")
    session.install("-q", "-e", ".", *nox.project.dependency_groups(project, *groups))


def run_tests(session: nox.Session, *words: str, **settings: str) -> None:
    """Run tests, and those that fail once more, by themselves, as CPython's own test runner does.

    A test of real processes, signals and sockets may fail where a machine is busy. It is named, and
    to be mended; one that fails again fails the session.
    """
    cache = ("-o", f"cache_dir={Path(session.bin).parent / 'pytest'}")
    try:
        session.run("pytest", "-n", WORKERS, *cache, *words, env=settings)
    except nox.command.CommandFailed:
        session.warn("once more, what failed: what passes now is not steady, mend it")
        again = ("--last-failed", "--last-failed-no-failures=none", "--cov-append", "-rfEp")
        kept = [word for word in words if not word.startswith("--dist")]
        session.run("pytest", *cache, *again, *kept, env=settings)


def counts(session: nox.Session) -> str:
    """The file of what the newest Python's tests ran, for the session that reads it."""
    folder = Path(session.cache_dir) / "coverage"
    folder.mkdir(parents=True, exist_ok=True)
    return str(folder / ".coverage")


@nox.session
def lint(session: nox.Session) -> None:
    """Is it written as we write?"""
    project = nox.project.load_toml("pyproject.toml")
    session.install("-q", *nox.project.dependency_groups(project, "lint"))
    session.run("ruff", "format", "--check", ".")
    session.run("ruff", "check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Do four type checkers agree with it, and find the mistakes that callers make?"""
    install(session, "typing", "test")
    pyright = ("pyright", "--pythonpath", str(Path(session.bin) / "python"))
    # Is the type of each public name written, so that no checker has to guess?
    whole = ("pyright", "--verifytypes", "openrouter_keys", "--ignoreexternal")
    with ThreadPoolExecutor() as pool:  # each of them uses one core
        for done in [pool.submit(session.run, *words) for words in (("mypy",), pyright, whole)]:
            done.result()
    session.run("python", "tests/typing/check.py")


@nox.session
def docs(session: nox.Session) -> None:
    """Does the documentation's site build, in `site/`? `-- --serve` shows it while you write."""
    project = nox.project.load_toml("pyproject.toml")
    session.install("-q", "-e", ".[cli,postgresql]")
    session.install("-q", *nox.project.dependency_groups(project, "docs"))
    session.run("python", "docs/build.py", *session.posargs)


@nox.session
@nox.parametrize("python", PYTHONS)
def tests(session: nox.Session) -> None:
    """Does it work, on every Python that is here? `-- --durations=10` shows the slowest tests.

    All tests run on the oldest and the newest Python, and what another Python can break on each.
    """
    install(session, "test")
    whole = session.python in (FOUND[0], FOUND[-1])
    named = any(Path(word.partition("::")[0]).exists() for word in session.posargs)
    chosen = [] if whole else ["-m", "not slow", "--hypothesis-profile=few"]
    chosen += [] if whole or named else BETWEEN
    # Counted once: that costs time, least of all on 3.14 and later.
    counted = ["--cov", "--cov-report="] if session.python == FOUND[-1] else []
    # The slow tests of a folder lie side by side: a worker that is done takes some of the others'.
    words = ("--dist=worksteal", *chosen, *counted, *session.posargs)
    run_tests(session, *words, COVERAGE_FILE=counts(session))


@nox.session
def coverage(session: nox.Session) -> None:
    """Is at least 95 % of it, branches counted, run by the tests?"""
    session.install("-q", "coverage")
    session.run("coverage", "report", f"--data-file={counts(session)}", "--fail-under=95")


@nox.session
@nox.parametrize("python", PYTHONS[:1])
def lowest(session: nox.Session) -> None:
    """Does it work with the oldest dependencies that pyproject.toml allows?"""
    project = nox.project.load_toml("pyproject.toml")
    extras = project["project"]["optional-dependencies"].values()
    wanted = [*project["project"]["dependencies"], *(each for extra in extras for each in extra)]
    wanted += nox.project.dependency_groups(project, "test")
    session.install("-q", "-e", ".", *(each.replace(">=", "==") for each in wanted if ">=" in each))
    chosen = ["-m", "not slow", "--hypothesis-profile=few"]
    run_tests(session, *chosen, *LOWEST, *session.posargs)


@nox.session
def chaos(session: nox.Session) -> None:
    """Does no key get lost, whatever the service does? `-- --seeds 5000` asks for longer."""
    install(session, "test")
    session.run("python", "-m", "tests.chaos", *session.posargs)


@nox.session
def races(session: nox.Session) -> None:
    """Do processes on one journal make two keys, or lose one? In full, with a table."""
    install(session, "test")
    session.run("python", "-m", "tests.races", *session.posargs)


@nox.session
def breaks(session: nox.Session) -> None:
    """Does a test notice each promise that is broken on purpose? `-- --only WORD` breaks less."""
    install(session, "test")
    session.run("python", "-m", "tests.breaks", *session.posargs)


@nox.session
def compat(session: nox.Session) -> None:
    """Do other people's programs find the emulator as its service is documented?"""
    install(session, "test", "compat")
    run_tests(session, "tests/compat", *session.posargs)


@nox.session
@nox.parametrize("python", PYTHONS[-1:])
def neighbours(session: nox.Session) -> None:
    """Does it work beside openai, trio, gevent and others, all of them installed?"""
    install(session, "test", "neighbours")
    chosen = ("-m", "not slow", "--timeout=60", *session.posargs)
    every = {"ALL_NEIGHBOURS": "1"}  # one that is missing is an error
    run_tests(session, *chosen, "tests/neighbours", *BESIDE, **every)
    on_uvloop = ("-p", "tests.neighbours.on_uvloop", "tests/_transport/test_transport.py")
    run_tests(session, *chosen, *on_uvloop, **every)


@nox.session
def release(session: nox.Session) -> None:
    """Is `dist/` fit to be published? Builds it, checks it, and tries the wheel by itself."""
    project = nox.project.load_toml("pyproject.toml")
    session.install("-q", *nox.project.dependency_groups(project, "release"))
    shutil.rmtree("dist", ignore_errors=True)
    session.run("python", "-m", "build", silent=True)
    (source,), (wheel,) = Path("dist").glob("*.tar.gz"), Path("dist").glob("*.whl")
    session.run("twine", "check", "--strict", str(source), str(wheel))
    session.run("check-wheel-contents", str(wheel))
    said = session.run("pyroma", str(source), silent=True, success_codes=[0, 2])
    complaints = [line for line in str(said).splitlines() if line.startswith("Your package")]
    # There are no addresses yet, of people or of the repository.
    if any(not re.search("author-email|'url' field", line) for line in complaints):
        session.error("\n".join(complaints))
    session.notify("released")


@nox.session(default=False)
def released(session: nox.Session) -> None:
    """Does the wheel of `dist/` work in an environment of its own, without the source?"""
    project = nox.project.load_toml("pyproject.toml")
    (source,), (wheel,) = Path("dist").glob("*.tar.gz"), Path("dist").glob("*.whl")
    session.install("-q", str(wheel), *nox.project.dependency_groups(project, "test"))
    folder = Path(session.create_tmp())
    shutil.rmtree(folder)
    with tarfile.open(source) as archive:
        archive.extractall(folder, filter="data")
    (tree,) = folder.iterdir()
    shutil.rmtree(tree / "openrouter_keys")
    session.chdir(tree)
    session.run("pytest", "-n", WORKERS, "-m", "not slow", *LOWEST, *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Is a request still about as fast as bare aiohttp's? `-- all` asks every question of speed."""
    if "all" not in session.posargs:
        session.install("-q", "-e", ".")
        session.run("python", "benchmarks/cpu_per_request.py", "--short")
        return
    install(session, "bench")
    session.install("-q", "-e", ".[cli]")
    for question in sorted(Path("benchmarks").glob("*.py")):
        if "__main__" in question.read_text(encoding="utf-8"):
            session.run("python", str(question))
