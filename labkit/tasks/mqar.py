"""MQAR: multi-query associative recall."""

from __future__ import annotations

import re

import torch
from torch import Tensor

from .base import Batch, Exam, Task, text_items, whole, whole_windows

_PAIR = re.compile(r"k?([0-9]+)\s*-?>\s*v?([0-9]+)", re.ASCII | re.IGNORECASE)


def _quarters(pairs: int) -> list[int]:
    """All pairs, a quarter, a quarter of that, as long as one is left."""
    return [pairs >> shift for shift in range(0, pairs.bit_length(), 2)]


class MQAR(Task):
    """Key-value pairs, then questions "which value came with this key?".

    Nothing is to be worked out, everything is to be kept: a limit met here is one of memory size, not of
    thought. After Zoology (arXiv 2312.04927). As there, keys and values are two
    disjoint sets of tokens, the keys of one context differ, its values differ, and each pair is asked at most
    once. Two things are otherwise. Between pairs and questions lies a sleep, so how far back a pair was tells
    nothing, and questions follow one another in random order instead of at gaps with a power law. And the
    answer follows its question, where the published generator puts a random token (which can be a key that
    nobody asks for).

    With ``fewer=True`` a lesson holds all the pairs, or a quarter of them, or a quarter of that ..., each as likely,
    and asks as much fewer questions: many pairs at once are hard to begin with (data/LOG.md).

    Tokens: key i is i, value j is keys + j. Context: ``key value`` for each pair. Question: ``key``, asked
    there; in training the value follows. All questions have depth 1.

    Example (``k3`` is a key, ``v5`` a value):

    >>> task = MQAR(pairs=4, keys=8, values=8, queries=2)
    >>> print(task.describe(task.batch(1, torch.Generator().manual_seed(0))))
    tokens k2 v4 k3 v5 k4 v6 k6 v2 | k6 v2 k3 v5
    labels  .  .  .  .  .  .  .  . | v2  . v5  .
    depth   .  .  .  .  .  .  .  . |  1  .  1  .

    Args:
        pairs: pairs in a context.
        keys, values: how many different keys and values there are, each at least ``pairs``.
        queries: questions per training sequence, at most ``pairs``.
        window: tokens per window; even and a divisor of 2 * pairs. By default one window holds all pairs.
        fewer: lessons may hold fewer pairs, a quarter, again and again, as long as one is left.

    Raises:
        TypeError: a size is not a whole number, or `fewer` not True or False.
        ValueError: a parameter is out of range.
    """

    name = "mqar"

    def __init__(
        self,
        pairs: int = 8,
        keys: int = 32,
        values: int = 32,
        queries: int = 8,
        window: int | None = None,
        *,
        fewer: bool = False,
    ) -> None:
        whole("pairs", pairs, 1)
        for key, value in (("keys", keys), ("values", values)):
            whole(key, value, 1)
            if value < pairs:
                raise ValueError(
                    f"{pairs} pairs need {pairs} different {key}, and there are {value}; raise {key}."
                )
        whole("queries", queries, 1)
        if queries > pairs:
            raise ValueError(f"Each pair is asked at most once, so {pairs} pairs allow no {queries} queries.")
        window = whole_windows(window, 2 * pairs, "pair")
        if not isinstance(fewer, bool):
            raise TypeError(f"fewer is {fewer!r}; it should be True or False.")
        params = {"pairs": pairs, "keys": keys, "values": values, "queries": queries, "window": window}
        params |= {"fewer": fewer}
        cut = next((few for few in _quarters(pairs) if fewer and 2 * few > window and 2 * few % window), None)
        if cut is not None:
            raise ValueError(
                f"Lessons of fewer pairs would hold {cut}, whose {2 * cut} tokens are no whole windows of {window}; "
                "take a number of pairs or a window that is a power of two."
            )
        super().__init__(
            params=params, vocab=keys + values, max_depth=1, window=window, context=2 * pairs, queries=queries
        )
        self.pairs, self.keys, self.values, self.fewer = pairs, keys, values, fewer

    def chance(self, depth: int = 1) -> float:
        """1 / values."""
        whole("depth", depth, 1, 1)
        return 1 / self.values

    def floor(self, depth: int = 1) -> float:
        """1 / values: without the context every value is as likely."""
        return self.chance(depth)

    def token_name(self, token: int) -> str:
        """Keys as k0, values as v0."""
        whole("token", token, 0, self.vocab - 1)
        return f"k{token}" if token < self.keys else f"v{token - self.keys}"

    def encode(self, text: str) -> Tensor:
        """Context tokens of typed pairs: one a line, ``3>5`` or ``k3>v5``; at most ``pairs``.

        Two keys may have the same value. Commas and semicolons separate as well.

        Raises:
            TypeError: text is not a string.
            ValueError: a line is no pair, a key or value is unknown, or a key comes twice; it says which.
        """
        tokens: list[int] = []
        for item in text_items(text, "3>5"):
            match = _PAIR.fullmatch(item)
            if match is None:
                raise ValueError(f"'{item}' is not a pair; type one key>value a line, for example 3>5.")
            key, value = int(match[1]), int(match[2])
            if key >= self.keys:
                raise ValueError(f"There is no key {key}; keys go from 0 to {self.keys - 1}.")
            if value >= self.values:
                raise ValueError(f"There is no value {value}; values go from 0 to {self.values - 1}.")
            tokens += [key, self.keys + value]
        context = torch.tensor(tokens, dtype=torch.int64)
        self._check_context(context)
        return context

    def decode(self, context: Tensor) -> str:
        """The pairs of a context as text: what ``encode`` turns back into it."""
        self._check_context(context)
        return "\n".join(f"{key}>{value - self.keys}" for key, value in context.view(-1, 2).tolist())

    def encode_question(self, key: int) -> Tensor:
        """Tokens [1] of "which value came with this key?"."""
        return torch.tensor([whole("key", key, 0, self.keys - 1)], dtype=torch.int64)

    def _check_context(self, context: Tensor) -> None:
        tokens = context.tolist()
        if not tokens or len(tokens) % 2:
            raise ValueError(f"A pair has two tokens; this context has {len(tokens)}.")
        if len(tokens) > self.context:
            raise ValueError(f"There are {len(tokens) // 2} pairs; at most {self.pairs} fit.")
        seen: set[int] = set()
        for key, value in zip(tokens[::2], tokens[1::2], strict=True):
            if not 0 <= key < self.keys or not self.keys <= value < self.vocab:
                raise ValueError(f"Tokens {key} and {value} are no pair of a key and a value.")
            if key in seen:
                raise ValueError(f"Key {key} stands there twice; a key has one value.")
            seen.add(key)

    def lesson(self, batch_size: int, generator: torch.Generator, depth: int) -> Batch:
        """A training batch; with ``fewer`` of all pairs, a quarter, a quarter of that ..., each as likely."""
        if not self.fewer:
            return super().lesson(batch_size, generator, depth)
        self._check_draw("batch_size", batch_size, generator)
        sizes = _quarters(self.pairs)
        pairs = sizes[int(torch.randint(len(sizes), (), generator=generator))]
        queries = max(1, self.queries * pairs // self.pairs)
        few = MQAR(pairs, self.keys, self.values, queries, min(self.window, 2 * pairs))
        return few.lesson(batch_size, generator, depth)

    def _contexts(self, n: int, generator: torch.Generator, *, held_out: bool) -> Tensor:
        # No split is needed: pairs are drawn anew for every context.
        keys = torch.rand(n, self.keys, generator=generator).argsort(dim=1, stable=True)[:, : self.pairs]
        values = torch.rand(n, self.values, generator=generator).argsort(dim=1, stable=True)[:, : self.pairs]
        return torch.stack([keys, self.keys + values], dim=-1).flatten(1)

    def _questions(self, context: Tensor) -> Exam:
        """Every pair, in the order of the context."""
        keys, values = context[:, 0::2], context[:, 1::2]
        return Exam(context, keys.unsqueeze(-1), values, torch.ones_like(keys), window=self.window)
