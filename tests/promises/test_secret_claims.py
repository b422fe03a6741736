"""Each claim of docs/secrets.md has a test that proves it."""

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
DOCUMENT = TESTS.parent / "docs" / "secrets.md"
ROWS = [
    line
    for line in DOCUMENT.read_text(encoding="utf-8").splitlines()
    if re.match(r"\| (?!---|claim)", line)
]
_PROOF = re.compile(r"`([\w/]+\.py)::(test_\w+)` \|$")


def functions_of(file: str) -> set[str]:
    tree = ast.parse((TESTS / file).read_text(encoding="utf-8"))
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in tree.body if isinstance(node, kinds)}


@pytest.mark.parametrize("row", ROWS)
def test_a_claim_names_a_test_that_is_there(row: str) -> None:
    proof = _PROOF.search(row)
    assert proof is not None
    assert row.count("|") == 4
    assert proof[2] in functions_of(proof[1])


def test_each_claim_has_a_proof_of_its_own() -> None:
    proofs = [found[0] for row in ROWS if (found := _PROOF.search(row))]
    assert len({*proofs}) == len(proofs) == len(ROWS) > 20


def test_the_readme_makes_no_claim_on_secrets_but_points_to_these() -> None:
    readme = (TESTS.parent / "README.md").read_text(encoding="utf-8")
    (row,) = [line for line in readme.splitlines() if line.startswith("| secrets |")]
    assert "(docs/secrets.md)" in row
