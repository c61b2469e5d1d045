"""Depo with thought, read in other ways: the question known before sleep, or windows opened again at wake."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from .base import DEEPEST_EXTRA, IGNORE, Batch, Exam, whole
from .thinking import DepoThinking

__all__ = ["DepoArchive", "DepoForetold"]


class DepoForetold(DepoThinking):
    """`DepoThinking` with room for a question in front of the graph, so that sleep may know what it is for.

    The room holds fillers where the question comes after sleep, as in all other tasks, and the question itself, with
    its announced R, where it comes before; then it is asked once more awake. Lessons are of both kinds, by turns of a
    coin, and a foretold one has one question.

    Example (a foretold one):

    >>> task = DepoForetold(nodes=4, hops=2, queries=1, thoughts=0)
    >>> print(task.describe(task.lesson(1, torch.Generator().manual_seed(1), 2)))
    tokens !0 +2 1 0 1 _ 2 3 _ 1 2 _ 3 0 _ | !0 +2 1 3
    labels  .  . . . . . . . . . . . . . . |  .  . 3 .
    depth   .  . . . . . . . . . . . . . . |  .  . 2 .

    Args:
        nodes, hops, queries, trace, thoughts: of `DepoThinking`; the graph is one window, and its edges are ended.
    """

    name = "depo-foretold"
    ROOM = 3  # tokens of a question

    def __init__(
        self, nodes: int = 16, hops: int = 8, queries: int = 8, trace: str = "even", thoughts: int = 3
    ) -> None:
        super().__init__(nodes, hops, queries, trace=trace, thoughts=thoughts)
        self.context = self.window = self.context + self.ROOM
        self.params = {key: self.params[key] for key in ("nodes", "hops", "queries", "trace", "thoughts")}

    def foretold(self, exam: Exam, which: int) -> Exam:
        """The same contexts with question number `which` in front, and asked only that one."""
        whole("which", which, 0, exam.questions.shape[1] - 1)
        one = exam.pick(torch.full_like(exam.answers[:, :1], which))
        return dataclasses.replace(one, context=self._fronted(one))

    def lesson(self, batch_size: int, generator: torch.Generator, depth: int, thought: int = 0) -> Batch:
        """As every thinking task's in one case of two; else one question, which stands in front as well."""
        self._check_draw("batch_size", batch_size, generator)
        whole("depth", depth, 1, self.max_depth)
        if torch.rand((), generator=generator) < 0.5:
            return super().lesson(batch_size, generator, depth, thought)
        context = self._contexts(batch_size, generator, held_out=False)
        asked = self.announced(self._drawn(context, depth, DEEPEST_EXTRA, generator, 1), thought)
        return self._laid_out(self._fronted(asked), asked, thought)

    def _fronted(self, one: Exam) -> Tensor:
        return torch.cat([one.questions[:, 0], one.context[:, self.ROOM :]], dim=1)

    def _ended(self, edges: Tensor) -> Tensor:
        room = torch.full((*edges.shape[:-1], self.ROOM), self.filler, dtype=edges.dtype)
        return torch.cat([room, super()._ended(edges)], dim=-1)

    def _edges(self, context: Tensor) -> Tensor:
        return super()._edges(context[..., self.ROOM :])

    def _check_context(self, context: Tensor) -> None:
        room = context[: self.ROOM].tolist()
        asked = len(room) == self.ROOM and (
            self.first <= room[0] < self.filler and self.nodes <= room[1] < self.first and 0 <= room[2] < self.nodes
        )
        if not asked and room != [self.filler] * self.ROOM:
            raise ValueError(f"A context begins with {self.ROOM} tokens, all of them fillers or together a question.")
        self._check_edges(context[self.ROOM :])


class DepoArchive(DepoThinking):
    """`DepoThinking` in several windows that stay in an archive: awake, some of them may be opened again.

    What is opened is read once more in front of the questions, and is in the cache while they are answered. Lessons
    open 0 to `lookups` windows, any of them with equal right.

    Example (two windows were slept on, and the second is open again):

    >>> task = DepoArchive(nodes=4, hops=2, queries=1, window=6, thoughts=0, lookups=1)
    >>> print(task.describe(task.lesson(1, torch.Generator().manual_seed(2), 2)))
    tokens 2 1 _ 0 2 _ | 3 0 _ 1 3 _ | 3 0 _ 1 3 _ !0 +2 2 3
    labels . . . . . . | . . . . . . | . . . . . .  .  . 3 .
    depth  . . . . . . | . . . . . . | . . . . . .  .  . 2 .

    Args:
        nodes, hops, queries, window, trace, thoughts: of `DepoThinking`.
        lookups: the most windows opened again, at most all.
    """

    name = "depo-archive"

    def __init__(
        self,
        nodes: int = 16,
        hops: int = 8,
        queries: int = 8,
        window: int | None = None,
        trace: str = "even",
        thoughts: int = 3,
        lookups: int = 1,
    ) -> None:
        super().__init__(nodes, hops, queries, window, trace, thoughts)
        whole("lookups", lookups, 0, self.context // self.window)
        self.lookups = lookups
        del self.params["ended"]
        self.params["lookups"] = lookups

    def opened(self, context: Tensor, which: Tensor) -> Tensor:
        """``[n, B * window]`` the windows ``which [n, B]`` of contexts ``[n, C]``, one after another."""
        windows = context.unflatten(1, (-1, self.window))
        return windows.gather(1, which[..., None].expand(-1, -1, self.window)).flatten(1)

    def window_of(self, context: Tensor, node: Tensor) -> Tensor:
        """``[n, q]`` the window in which the edge of each node ``[n, q]`` stands."""
        start = context[:, :: self.edge]
        place = (start[:, None] == node[..., None]).int().argmax(dim=-1)
        return place * self.edge // self.window

    def path(self, exam: Exam) -> Tensor:
        """``[n, Q, hops]`` the nodes whose edges lead from each question to its answer; beyond its depth further on."""
        steps = torch.arange(self.hops).expand(*exam.depth.shape, -1)
        return self._at_depth(exam, steps)[..., 0]

    def _sequences(
        self, context: Tensor, depth: int, extra: float, generator: torch.Generator, thought: int = 0
    ) -> Batch:
        batch = super()._sequences(context, depth, extra, generator, thought)
        count = int(torch.randint(self.lookups + 1, (), generator=generator))
        order = torch.rand(len(context), context.shape[1] // self.window, generator=generator).argsort(dim=1)
        opened, at = self.opened(context, order[:, :count]), batch.context

        def wider(row: Tensor, middle: Tensor) -> Tensor:
            return torch.cat([row[:, :at], middle, row[:, at:]], dim=1)

        return dataclasses.replace(
            batch,
            tokens=wider(batch.tokens, opened),
            labels=wider(batch.labels, torch.full_like(opened, IGNORE)),
            depth=wider(batch.depth, torch.zeros_like(opened)),
        )
