"""Other people's programs against the emulator: `nox -s compat` installs them all."""

from importlib.util import find_spec

# Each is asked where it is installed, and its file is named after it.
collect_ignore = [
    f"test_{package}.py" for package in ("openrouter", "schemathesis") if find_spec(package) is None
]
