"""`completion`: what a shell needs to complete this command's words."""

import sys
from typing import Literal

from openrouter_keys.cli.app import app


def completion(shell: Literal["bash", "zsh", "fish", "powershell"], /) -> None:
    """Print the completion script of a shell: `source <(openrouter-keys completion bash)`.

    Args:
        shell: The shell.
    """
    sys.stdout.write(app.generate_completion(shell=shell))
