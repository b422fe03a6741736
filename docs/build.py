"""Builds the documentation's site in `site/`, of docs/, the README and the command's own help.

`python docs/build.py` builds it, and fails at a link that leads nowhere; `--serve` shows it while
you write. The pages are copied beside the tree first: some of them are made here.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

from openrouter_keys.cli.app import app

ROOT = Path(__file__).parents[1]
PAGES = ROOT / ".nox" / "pages"
#: Pages that are not in docs/, and what they are called on the site.
OUTSIDE = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security-policy.md",
}


def moved(text: str) -> str:
    """A page of the root, whose links lead to where the pages are on the site."""
    text = text.replace("](docs/", "](").replace("](decisions/)", "](decisions/index.md)")
    return re.sub(r"\]\((\w+\.md)", lambda link: f"]({OUTSIDE.get(link[1], link[1])}", text)


def main(*options: str) -> None:
    shutil.rmtree(PAGES, ignore_errors=True)
    shutil.copytree(ROOT / "docs", PAGES, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    for name, page in OUTSIDE.items():
        (PAGES / page).write_text(moved((ROOT / name).read_text()))
    command = app.generate_docs(output_format="markdown")
    # The site has such a table in its margin.
    command = re.sub(r"## Table of Contents\n.*?(?=\*\*Keys)", "", command, flags=re.DOTALL)
    (PAGES / "reference" / "command.md").write_text(command)
    way = ["serve"] if "--serve" in options else ["build", "--clean", "--strict"]
    zensical = [sys.executable, "-m", "zensical", *way]
    with subprocess.Popen(zensical, cwd=ROOT, stdout=subprocess.PIPE, text=True) as building:
        warned = False
        for line in building.stdout or ():
            sys.stdout.write(line)
            # What the reference's generator warns of does not count as strict there.
            warned |= line.startswith(("griffe:", "mkdocstrings:"))
    sys.exit(building.returncode or warned)


if __name__ == "__main__":
    main(*sys.argv[1:])
