"""All puzzles, by name and in order."""

from __future__ import annotations

from labkit.explore.puzzles import first, rules
from labkit.explore.puzzles.core import Puzzle

__all__ = ["PUZZLES", "get", "names"]

PUZZLES: dict[str, Puzzle] = {
    puzzle.name: puzzle
    for puzzle in (
        first.COPY, first.SCALE, first.NORMALISE, first.PRODUCT, rules.STEP, first.DECAY, first.INVERSE,
        rules.CHUNKED, rules.BACKWARD, rules.TITANS,
    )
}  # fmt: skip


def names() -> list[str]:
    """Names of all puzzles, in order."""
    return list(PUZZLES)


def get(name: str) -> Puzzle:
    """A puzzle by its name. Raises KeyError in a sentence for any other."""
    if name not in PUZZLES:
        raise KeyError(f"There is no puzzle {name!r}; there are {', '.join(PUZZLES)}.")
    return PUZZLES[name]
