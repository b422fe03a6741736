"""Prints a table for a benchmark's docstring; this is no benchmark."""

from collections.abc import Sequence


def print_table(*rows: Sequence[object]) -> None:
    """Print rows; the first one has the heads of the columns."""
    texts = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    rule = "  ".join("=" * width for width in widths)
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in texts]
    print(rule, lines[0], rule, *lines[1:], rule, sep="\n")
