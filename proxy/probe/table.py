"""Plain text tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def render(
    heads: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: frozenset[str] = frozenset()
) -> str:
    """Lay out `rows` under `heads`; columns whose head is in `numbers` are aligned to the right."""
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        return "  ".join(
            cell.rjust(width) if head in numbers else cell.ljust(width)
            for head, cell, width in zip(heads, cells, widths, strict=True)
        ).rstrip()

    return "\n".join([line(heads), "  ".join("-" * width for width in widths), *map(line, rows)])


def tally(counts: dict[str, int]) -> str:
    """Write counts as `1000 x98, 1011 x2`."""
    return ", ".join(f"{name} x{count}" for name, count in counts.items()) or "-"
