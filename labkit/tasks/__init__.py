"""Tasks: data with known answers, one file each. Nothing in here knows a model."""

from __future__ import annotations

import difflib
import inspect
from typing import Any

from .base import IGNORE, Batch, Exam, Task
from .depo import Depo
from .mqar import MQAR
from .needle import Needle
from .nights import Nights, NightsThinking
from .reading import DepoArchive, DepoForetold
from .rule110 import Rule110
from .text import Text
from .thinking import DepoThinking, Rule110Thinking, Thinking

_ALL = (
    Depo, DepoThinking, DepoForetold, DepoArchive, Rule110, Rule110Thinking, MQAR, Needle, Nights, NightsThinking, Text,
)  # fmt: skip
KINDS: dict[str, type[Task]] = {kind.name: kind for kind in _ALL}
"""The kinds that ``make`` and a recipe's [task] table know."""


def make(kind: str, **params: Any) -> Task:
    """The task of this kind: ``make("depo", nodes=16)`` is ``Depo(nodes=16)``.

    Raises:
        ValueError: an unknown kind or parameter (the nearest known one is named), or a parameter out of
        range.
        TypeError: a parameter of the wrong type.
    """
    if kind not in KINDS:
        raise ValueError(f"There is no task {kind!r}; {_nearest(kind, list(KINDS))}")
    known = list(inspect.signature(KINDS[kind]).parameters)
    for key in params:
        if key not in known:
            raise ValueError(f"The task {kind} has no parameter {key!r}; {_nearest(key, known)}")
    return KINDS[kind](**params)


def _nearest(word: object, known: list[str]) -> str:
    close = difflib.get_close_matches(str(word), known, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known)}."


__all__ = [
    "IGNORE", "KINDS", "MQAR", "Batch", "Depo", "DepoArchive", "DepoForetold", "DepoThinking", "Exam", "Needle",
    "Nights", "NightsThinking", "Rule110", "Rule110Thinking", "Task", "Text", "Thinking", "make",
]  # fmt: skip
