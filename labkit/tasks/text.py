"""Real text, byte by byte: sleep on what came before, then predict what goes on."""

from __future__ import annotations

import functools
import zlib
from pydoc_data import topics

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .base import IGNORE, Batch, Exam, Task, whole

BYTES = 256


class Text(Task):
    r"""A byte-level language model's task: the bytes of a text, of which the last ones are to be predicted.

    The text is the language reference that comes with Python (``pydoc_data.topics``, 380 KB), which differs a little
    from one version of Python to the next. A hash keeps one paragraph in four for exams. A few of these differ from one
    of the lessons in their spaces only, and some phrases stand in both: 6% of the bytes of exams lie in strings of 64
    and more that the lessons have too.

    Tokens are bytes. Context: ``length`` of them. Then the text goes on, and in training each of the next ``queries``
    bytes is predicted from all before it. An exam asks for one byte of a text, the one after these. All questions have
    depth 1.

    Example (a space is written as ``\x20``):

    >>> task = Text(length=12, queries=3)
    >>> print(task.describe(task.batch(1, torch.Generator().manual_seed(3))))
    tokens q u e n c e \x20 T y p e s | \x0a = = =
    labels . . . . . .    . . . . . . |    = = = .
    depth  . . . . . .    . . . . . . |    1 1 1 .

    Args:
        length: bytes of a context.
        queries: bytes predicted after it.
        window: bytes per window, any number up to `length`; by default one window holds the context.

    Raises:
        TypeError: a size is not a whole number.
        ValueError: a parameter is out of range.
    """

    name = "text"

    def __init__(self, length: int = 256, queries: int = 64, window: int | None = None) -> None:
        whole("length", length, 1)
        whole("queries", queries, 1)
        window = length if window is None else whole("window", window, 1, length)
        params = {"length": length, "queries": queries, "window": window}
        super().__init__(params=params, vocab=BYTES, max_depth=1, window=window, context=length, queries=queries)
        self.length = length

    def chance(self, depth: int = 1) -> float:
        """1 / 256."""
        whole("depth", depth, 1, 1)
        return 1 / BYTES

    def floor(self, depth: int = 1) -> float:
        """The share of the commonest byte, a space."""
        whole("depth", depth, 1, 1)
        text = _bytes(held_out=False)
        return float(np.bincount(text).max() / len(text))

    def token_name(self, token: int) -> str:
        """Letters, digits and signs as themselves; what cannot be seen, and a bar, as ``\\x20``."""
        whole("token", token, 0, self.vocab - 1)
        return chr(token) if 33 <= token <= 126 and chr(token) not in ".|" else f"\\x{token:02x}"

    def encode(self, text: str) -> Tensor:
        """The bytes of a typed text: its last one is asked for, `queries` before it are the question.

        Raises:
            TypeError: text is not a string.
            ValueError: the text is too short.
        """
        if not isinstance(text, str):
            raise TypeError(f"What is typed should be text; this is {type(text).__name__}.")
        context = torch.tensor(list(text.encode("utf-8", "surrogateescape")), dtype=torch.int64)
        self._check_context(context)
        return context

    def decode(self, context: Tensor) -> str:
        """The text of these bytes, which `encode` turns back into them."""
        self._check_context(context)
        return bytes(context.tolist()).decode("utf-8", "surrogateescape")

    def _check_context(self, context: Tensor) -> None:
        if len(context) < self.queries + 2:
            raise ValueError(
                f"The text has {len(context)} bytes; it should have at least {self.queries + 2}: something to sleep "
                f"on, {self.queries} bytes before the question, and the byte that is asked for."
            )
        stranger = next((token for token in context.tolist() if not 0 <= token < BYTES), None)
        if stranger is not None:
            raise ValueError(f"Token {stranger} is unknown; bytes go from 0 to {BYTES - 1}.")

    def _contexts(self, n: int, generator: torch.Generator, *, held_out: bool) -> Tensor:
        """Texts with what is to be predicted behind them, ``[n, length + queries + 1]``."""
        source = torch.from_numpy(_bytes(held_out))
        size = self.length + self.queries + 1
        if size > len(source):
            raise ValueError(f"Contexts of {self.length} bytes are longer than the text, which has {len(source)}.")
        start = torch.randint(len(source) - size + 1, (n, 1), generator=generator)
        return source[start + torch.arange(size)]

    def _questions(self, context: Tensor) -> Exam:
        """The one question of a text: its last byte, asked after the `queries` bytes before it."""
        asked = context.shape[1] - self.queries - 1
        slept, question, answer = context.split([asked, self.queries, 1], dim=1)
        return Exam(slept, question.unsqueeze(1), answer, torch.ones_like(answer), window=self.window)

    def _sequences(self, context: Tensor, depth: int, extra: float, generator: torch.Generator) -> Batch:
        """The texts as they are; every byte after the context is predicted."""
        labels = torch.full_like(context, IGNORE)
        labels[:, self.length : -1] = context[:, self.length + 1 :]
        return Batch(context, labels, (labels != IGNORE).long(), context=self.length, window=self.window)


def paragraphs(*, held_out: bool) -> list[str]:
    """The paragraphs of the text that are for lessons, or held out for exams, each once."""
    found = dict.fromkeys(p for _, text in sorted(topics.topics.items()) for p in text.split("\n\n"))
    return [p for p in found if (zlib.crc32(p.encode()) % 4 == 0) == held_out]


def all_bytes(*, held_out: bool) -> Tensor:
    """The whole text that is for lessons, or held out for exams, as tokens ``[bytes]``."""
    return torch.from_numpy(_bytes(held_out).copy())


@functools.cache
def _bytes(held_out: bool) -> NDArray[np.int64]:
    text = "\n\n".join(paragraphs(held_out=held_out))
    return np.frombuffer(text.encode(), dtype=np.uint8).astype(np.int64)
