"""Depo: follow a directed cycle k edges forward."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .base import Exam, Task, draw_split, kept_back, text_items, whole, whole_windows

SPLIT = range(7, 13)
"""Numbers of nodes at which cycles are held out: with fewer there are too few, with more training meets none twice."""

_EDGE = re.compile(r"([0-9]+|[a-zA-Z])\s*-?>\s*([0-9]+|[a-zA-Z])", re.ASCII)


@dataclass(frozen=True, eq=False)
class Truth:
    """What is true of one typed graph of m nodes.

    Attributes:
        nodes: [m] the nodes present, ascending.
        successor: [m] the node that each of them points to.
        answers: [m, hops]; answers[i, k - 1] is the node k hops on from nodes[i].
    """

    nodes: Tensor
    successor: Tensor
    answers: Tensor


def successors(context: Tensor, nodes: int) -> Tensor:
    """The node that each node points to, [n, nodes], of contexts [n, 2m]; 0 for nodes that are not there."""
    table = torch.zeros(context.shape[0], nodes, dtype=torch.int64, device=context.device)
    return table.scatter(1, context[:, 0::2], context[:, 1::2])


class Depo(Task):
    """The edges of a random directed cycle in random order, then questions "which node is k hops on from a?".

    Each hop has to be looked up where the one before it led, however well the edges are remembered: the task
    tells how much was kept (every edge) from how far it was thought through (k). After Depo in "Physics of
    Language Models: Part 4.1" and its use in "Do Language Models Need Sleep?" (arXiv 2605.26099), with one
    token per node and one window instead of four.

    Tokens: node i is i, "k hops" is nodes + k - 1. Context: each edge as two tokens, ``a next(a)``. Question:
    ``k-hops a``, asked at ``a``; in training the answer follows.

    Example (``+2`` is the token "2 hops"; 3>1, 1>2, 2>0 and 0>3 close the cycle, so 2 hops on from 2 lies 3):

    >>> task = Depo(nodes=4, hops=2, queries=2)
    >>> print(task.describe(task.batch(1, torch.Generator().manual_seed(3))))
    tokens 3 1 0 3 2 0 1 2 | +2 2 3 +1 2 0
    labels . . . . . . . . |  . 3 .  . 0 .
    depth  . . . . . . . . |  . 2 .  . 1 .

    The split: 16 nodes have 1.3e12 cycles, and training meets next to none twice. Of 7 to 12 nodes it would meet
    many or all (8 nodes have 5,040), so a hash of the cycle holds about one in 8 out, whatever the order of its
    edges. Graphs of fewer nodes are too few to be split.

    A ``window`` of 4 tokens would put two of these edges in each of two windows, so that what is asked has to
    be joined across a sleep.

    Args:
        nodes: size of a full cycle.
        hops: the deepest question. On a cycle of n nodes k hops forward are n - k hops back, so beyond half
            the cycle more hops are not deeper: nodes must be at least 2 * hops.
        queries: questions per training sequence.
        window: tokens per window; even and a divisor of 2 * nodes. By default one window holds the
            whole graph.

    Raises:
        TypeError: a parameter is not a whole number.
        ValueError: a parameter is out of range.
    """

    name = "depo"

    def __init__(self, nodes: int = 16, hops: int = 8, queries: int = 8, window: int | None = None) -> None:
        whole("nodes", nodes, 2)
        whole("hops", hops, 1)
        whole("queries", queries, 1)
        if nodes < 2 * hops:
            raise ValueError(
                f"nodes is {nodes} and hops is {hops}, but on {nodes} nodes in a cycle {hops} hops are "
                f"no deeper than {nodes // 2}; use at least {2 * hops} nodes or at most {nodes // 2} hops."
            )
        window = whole_windows(window, 2 * nodes, "edge")
        params = {"nodes": nodes, "hops": hops, "queries": queries, "window": window}
        super().__init__(
            params=params,
            vocab=nodes + hops,
            max_depth=hops,
            window=window,
            context=2 * nodes,
            queries=queries,
        )
        self.nodes, self.hops = nodes, hops

    def chance(self, depth: int) -> float:
        """1 / nodes: any node could be the answer."""
        whole("depth", depth, 1, self.hops)
        return 1 / self.nodes

    def floor(self, depth: int) -> float:
        """1 / (nodes - 1): whatever the graph, fewer hops than nodes never lead back to the start."""
        whole("depth", depth, 1, self.hops)
        return 1 / (self.nodes - 1)

    def token_name(self, token: int) -> str:
        """A node as its number, "k hops" as +k."""
        whole("token", token, 0, self.vocab - 1)
        return str(token) if token < self.nodes else f"+{token - self.nodes + 1}"

    def encode(self, text: str) -> Tensor:
        """Tokens [2m] of a typed graph: one edge ``a>b`` a line (commas and semicolons separate as well).

        Nodes are numbers from 0, or single letters from a (a is 0), not both in one graph. The edges must
        form one directed cycle over m nodes, 2 <= m <= nodes, and keep their order.

        Raises:
            TypeError: text is not a string.
            ValueError: a line is no edge, a node is unknown, or the edges are no single cycle; it says which.
        """
        written: list[str] = []
        for item in text_items(text, "0>1"):
            match = _EDGE.fullmatch(item)
            if match is None:
                raise ValueError(f"'{item}' is not an edge; type one edge a line, for example 0>1.")
            written += match.groups()
        letters = [name for name in written if name.isalpha()]
        if letters and len(letters) < len(written):
            number = next(name for name in written if not name.isalpha())
            raise ValueError(
                f"Nodes are either all numbers or all letters; here are both {number} and {letters[0]}."
            )
        nodes = [self._node(name) for name in written]
        edges = list(zip(nodes[::2], nodes[1::2], strict=True))
        self._check_cycle(edges, dict(zip(nodes, written, strict=True)))
        return torch.tensor(nodes, dtype=torch.int64)

    def decode(self, context: Tensor) -> str:
        """The text of a context [2m]: what ``encode`` turns back into it."""
        self._check_context(context)
        return self.decode_edges(context)

    @staticmethod
    def decode_edges(context: Tensor) -> str:
        """One edge ``a>b`` a line, whatever graph they make."""
        return "\n".join(f"{a}>{b}" for a, b in context.view(-1, 2).tolist())

    def encode_question(self, hops: int, start: int | str) -> Tensor:
        """Tokens [2] of "which node is ``hops`` hops on from ``start``?"; start: a number or a typed name."""
        whole("hops", hops, 1, self.hops)
        node = self._node(start) if isinstance(start, str) else whole("start", start, 0, self.nodes - 1)
        return torch.tensor([self.nodes + hops - 1, node], dtype=torch.int64)

    def truth(self, context: Tensor) -> Truth:
        """Successor table and all answers of one context [2m]; ValueError if that is not one cycle."""
        exam = self.questions(context)
        if exam.context.shape[0] != 1:
            raise ValueError(
                f"truth() takes one context; these are {exam.context.shape[0]}. Use questions() for many."
            )
        answers = exam.answers.view(self.hops, -1).T.contiguous()
        return Truth(nodes=exam.questions[0, : answers.shape[0], 1], successor=answers[:, 0], answers=answers)

    def _node(self, name: str) -> int:
        letter = len(name) == 1 and name.isascii() and name.isalpha()
        if not letter and not (name.isascii() and name.isdigit()):
            raise ValueError(f"'{name}' is not the name of a node; use a number from 0 to {self.nodes - 1}.")
        node = ord(name.lower()) - ord("a") if letter else int(name)
        if node >= self.nodes:
            last = chr(ord("a") + min(self.nodes, 26) - 1) if letter else self.nodes - 1
            raise ValueError(f"There is no node {name}; nodes go from {'a' if letter else 0} to {last}.")
        return node

    def _check_cycle(self, edges: list[tuple[int, int]], names: dict[int, str]) -> None:
        """Raise a ValueError that names what keeps the edges from being one directed cycle, if anything."""
        successor: dict[int, int] = {}
        targets: set[int] = set()
        for a, b in edges:
            if a == b:
                raise ValueError(
                    f"Node {names[a]} points to itself; in a cycle every edge leads to another node."
                )
            if successor.get(a) == b:
                raise ValueError(f"The edge {names[a]}>{names[b]} stands there twice; leave one of them out.")
            if a in successor:
                raise ValueError(
                    f"Node {names[a]} has two outgoing edges, to {names[successor[a]]} and to {names[b]}; "
                    "in a cycle it has one."
                )
            successor[a] = b
        for _, b in edges:
            if b in targets:
                raise ValueError(f"Node {names[b]} has two incoming edges; in a cycle it has one.")
            targets.add(b)
            if b not in successor:
                raise ValueError(f"Node {names[b]} has no outgoing edge; the edges must close to a cycle.")
        first = edges[0][0]
        node, length = successor[first], 1
        while node != first:
            node, length = successor[node], length + 1
        if length < len(edges):
            raise ValueError(
                f"The edges form more than one cycle: that of node {names[first]} has {length} of the "
                f"{len(edges)} edges. They must form a single one."
            )

    def _check_context(self, context: Tensor) -> None:
        nodes = context.tolist()
        if not nodes or len(nodes) % 2:
            raise ValueError(f"A graph has two tokens for each edge; this context has {len(nodes)} tokens.")
        stranger = next((token for token in nodes if not 0 <= token < self.nodes), None)
        if stranger is not None:
            raise ValueError(f"Token {stranger} is no node; nodes go from 0 to {self.nodes - 1}.")
        self._check_cycle(
            list(zip(nodes[::2], nodes[1::2], strict=True)), {node: str(node) for node in nodes}
        )

    def _contexts(self, n: int, generator: torch.Generator, *, held_out: bool) -> Tensor:
        if self.nodes not in SPLIT:
            return self._cycles(n, generator)
        return draw_split(n, lambda m: self._cycles(m, generator), self.held_out, from_held_out=held_out)

    def held_out(self, context: Tensor) -> Tensor:
        """Which contexts [n, 2 * nodes] are of cycles that exams draw from and training never shows: bool [n]."""
        successor = successors(context, self.nodes).numpy().astype(np.uint64)
        digits = np.arange(self.nodes, dtype=np.uint64) * np.uint64(4)  # a node takes four bits: at most 12 there are
        return kept_back((successor << digits).sum(axis=1, dtype=np.uint64), self.nodes)

    def _cycles(self, n: int, generator: torch.Generator) -> Tensor:
        """n random cycles [n, 2 * nodes], edges in random order."""
        # A random order of the nodes, walked in that order, is a random cycle.
        walk = torch.rand(n, self.nodes, generator=generator).argsort(dim=1, stable=True)
        order = torch.rand(n, self.nodes, generator=generator).argsort(dim=1, stable=True)
        edges = torch.stack([walk, walk.roll(-1, dims=1)], dim=-1)
        return edges.gather(1, order.unsqueeze(-1).expand(-1, -1, 2)).flatten(1)

    def _questions(self, context: Tensor) -> Exam:
        """Every start (ascending) for 1 hop, then for 2 hops, and so on."""
        n, size = context.shape[0], context.shape[1] // 2
        successor = successors(context, self.nodes)
        start = context[:, 0::2].sort(dim=1).values
        reached = [successor.gather(1, start)]
        for _ in range(self.hops - 1):
            reached.append(successor.gather(1, reached[-1]))
        hop = torch.arange(1, self.hops + 1, device=context.device).repeat_interleave(size).expand(n, -1)
        questions = torch.stack([self.nodes + hop - 1, start.repeat(1, self.hops)], dim=-1)
        return Exam(context, questions, torch.cat(reached, dim=1), hop, window=self.window)

    def _examine(self, exam: Exam, generator: torch.Generator) -> Exam:
        """Each graph is asked every hop count once, from a random start of its own."""
        size = exam.answers.shape[1] // self.hops
        start = torch.randint(size, (exam.answers.shape[0], self.hops), generator=generator)
        return exam.pick(start + size * torch.arange(self.hops))
