"""The spec of a puzzle, as it runs, in colours where a notebook shows it."""

from __future__ import annotations

from typing import Any

from labkit.explore.puzzles.registry import get

__all__ = ["Code", "spec"]


class Code:
    """Python source that a notebook shows highlighted, and everything else as text.

    Attributes:
        source: the text.
    """

    def __init__(self, source: str) -> None:
        self.source = source.rstrip()

    def __repr__(self) -> str:
        return self.source

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, str]:
        return {"text/plain": self.source, "text/markdown": f"```python\n{self.source}\n```"}


def spec(name: str) -> Code:
    """What a puzzle asks for, in PyTorch: the source of the very function that `check` compares with.

    Args:
        name: of the puzzle.

    Raises KeyError for an unknown name.
    """
    return Code(get(name).code())
