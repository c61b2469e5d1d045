"""Nights: what is told today builds on what was told the day before."""

from __future__ import annotations

import re

import torch
from torch import Tensor

from .base import DEEPEST_EXTRA, Batch, Exam, Task, whole
from .thinking import Thinking, walked

_FACT = re.compile(r"([0-9]+)>([0-9]+)", re.ASCII)


class Nights(Task):
    """Every day tells of `width` new nodes to which node of the day before each of them leads; a sleep follows.

    So a question k hops deep joins the windows of k nights. After a day's facts there may be *notes*, a window of
    thoughts worth remembering: for every new node where it leads at last, to the nodes of the first day. With notes
    slept on, the first day is two look-ups away however many nights have passed: a fact, then a note.

    Tokens: nodes, then "k hops" (+k), then a filler that ends a fact. Names are shuffled, so that a name does not tell
    the night. Facts: ``x y _`` for every new node x, in random order. Notes of night t: ``+t x z`` in the same order.
    Question: ``+k x``, of a node of any night from the k-th on; the answer is the target of x.

    Example (two nights of two nodes; the notes between them say where 1 and 2 lead):

    >>> task = Nights(width=2, nights=2, queries=1)
    >>> print(task.describe(task.lesson(1, torch.Generator().manual_seed(4), 2)))
    tokens 1 4 _ 2 3 _ | +1 1 4 +1 2 3 | 0 2 _ 5 1 _ | +2 0 3
    labels . . . . . . |  . . .  . . . | . . . . . . |  . 3 .
    depth  . . . . . . |  . . .  . . . | . . . . . . |  . 2 .

    Args:
        width: nodes a day.
        nights: the most nights; lessons of a curriculum at depth d have up to d of them.
        queries: questions in a training sequence.

    Raises:
        TypeError, ValueError: a parameter is no whole number or out of range.
    """

    name = "nights"

    def __init__(self, width: int = 5, nights: int = 6, queries: int = 8) -> None:
        whole("width", width, 2)
        whole("nights", nights, 1)
        whole("queries", queries, 1)
        self.width, self.nights = width, nights
        self.nodes = width * (nights + 1)
        self.filler = self.nodes + nights  # with thought another filler comes behind, and this one stays unused
        super().__init__(
            params={"width": width, "nights": nights, "queries": queries}, vocab=self.filler + 1, max_depth=nights,
            window=3 * width, context=3 * width * nights, queries=queries,
        )  # fmt: skip

    def chance(self, depth: int) -> float:
        """1 / nodes: any node could be the answer."""
        whole("depth", depth, 1, self.nights)
        return 1 / self.nodes

    def floor(self, depth: int) -> float:
        """1 / (nodes - 1): no node leads to itself."""
        whole("depth", depth, 1, self.nights)
        return 1 / (self.nodes - 1)

    def token_name(self, token: int) -> str:
        """A node as its number, "k hops" as +k, the filler as an underscore."""
        whole("token", token, 0, self.vocab - 1)
        if token < self.nodes:
            return str(token)
        return "_" if token == self.filler else f"+{token - self.nodes + 1}"

    def encode(self, text: str) -> Tensor:
        """Facts of typed nights: one night a line, `width` facts ``x>y`` in it; see `decode`.

        Raises:
            TypeError: text is not a string.
            ValueError: it is no such text, or the nights do not build on one another; it says what is wrong.
        """
        if not isinstance(text, str):
            raise TypeError(f"What is typed should be text, such as 2>0 3>1; this is {type(text).__name__}.")
        told: list[int] = []
        for line in filter(None, map(str.strip, text.splitlines())):
            for item in re.split(r"[\s,;]+", line):
                if (match := _FACT.fullmatch(item)) is None:
                    raise ValueError(f"'{item}' is not a fact; type one night a line, for example 2>0 3>1.")
                told += [int(match[1]), int(match[2]), self.filler]
            if len(told) % self.window:
                raise ValueError(f"Every night has {self.width} facts; the night '{line}' has not.")
        context = torch.tensor(told, dtype=torch.int64)
        self._check_context(context)
        return context

    def decode(self, context: Tensor) -> str:
        """The facts of a context, one night a line; its notes are left out."""
        self._check_context(context)
        nights = self.facts(context[None])[0].tolist()
        return "\n".join(" ".join(f"{x}>{y}" for x, y in night) for night in nights)

    def facts(self, context: Tensor) -> Tensor:
        """``[n, nights, width, 2]`` every new node and where it leads, of contexts ``[n, C]`` with notes or without."""
        windows = context.unflatten(1, (-1, self.width, 3))
        return windows[:, windows[0, :, 0, 0] < self.nodes, :, :2]

    def asked(self, exam: Exam, night: int, hops: int) -> Exam:
        """Of everything that can be asked (`questions`): where the nodes of a night lead in so many hops.

        The nodes come in the order in which they were told; hops are `night` at most.
        """
        first = self.width * _every(int(exam.depth.max())).index((hops, night))
        return exam.pick(torch.arange(first, first + self.width).expand(len(exam.depth), -1))

    def notes(self, facts: Tensor, night: int, answers: Tensor) -> Tensor:
        """``[n, window]`` notes of a night: its nodes, and to which ``[n, width]`` they are said to lead at last."""
        new = facts[:, night - 1, :, 0]
        return torch.stack([torch.full_like(new, self.nodes + night - 1), new, answers], dim=-1).flatten(1)

    def lesson(self, batch_size: int, generator: torch.Generator, depth: int) -> Batch:
        """Up to `depth` nights, with notes after all but the last in one batch of two.

        One batch of two has `depth` nights and the others any number up to it, so that a reader knows what to make of
        the first nights as well. Depths are drawn as by any task, as far as there are nights.
        """
        context, nights = self._told(batch_size, generator, depth)
        return self._sequences(context, nights, DEEPEST_EXTRA, generator)

    def _told(self, batch_size: int, generator: torch.Generator, depth: int) -> tuple[Tensor, int]:
        """Contexts of a lesson, and how many nights they have."""
        self._check_draw("batch_size", batch_size, generator)
        whole("depth", depth, 1, self.nights)
        nights = min(depth, int(torch.randint(1, 2 * depth + 1, (), generator=generator)))
        context = self._drawn_nights(batch_size, nights, generator)
        return self.with_notes(context) if torch.rand((), generator=generator) < 0.5 else context, nights

    def with_notes(self, context: Tensor) -> Tensor:
        """Contexts of facts ``[n, C]`` with true notes after every night but the last."""
        facts, parts = self.facts(context), []
        for night, told in enumerate(context.split(self.window, dim=1), 1):
            parts.append(told)
            if night < facts.shape[1]:
                parts.append(self.notes(facts, night, self._ancestors(facts)[night, night]))
        return torch.cat(parts, dim=1)

    def _contexts(self, n: int, generator: torch.Generator, *, held_out: bool) -> Tensor:
        return self._drawn_nights(n, self.nights, generator)  # too many for training to meet one twice

    def _drawn_nights(self, n: int, nights: int, generator: torch.Generator) -> Tensor:
        """Facts of so many nights: names shuffled, who leads to whom, and the order of telling."""
        names = torch.rand(n, self.nodes, generator=generator).argsort(dim=1, stable=True)
        days = names[:, : self.width * (nights + 1)].unflatten(1, (-1, self.width))
        told = []
        for before, new in zip(days[:, :-1].unbind(1), days[:, 1:].unbind(1), strict=True):
            leads = torch.rand(n, self.width, generator=generator).argsort(dim=1, stable=True)
            told.append(torch.stack([new, before.gather(1, leads), torch.full_like(new, self.filler)], dim=-1))
        return torch.stack(told, dim=1).flatten(1)

    def _leads(self, facts: Tensor) -> Tensor:
        """``[n, nodes]`` to which node each one leads; those of the first day to node 0, where no question goes on."""
        leads = torch.zeros(len(facts), self.nodes, dtype=torch.int64)
        return leads.scatter(1, facts[..., 0].flatten(1), facts[..., 1].flatten(1))

    def _ancestors(self, facts: Tensor) -> dict[tuple[int, int], Tensor]:
        """``[n, width]`` where the nodes of every night lead in every number of hops, in the order of telling."""
        leads = self._leads(facts)
        there = {(0, night): facts[:, night - 1, :, 0] for night in range(1, facts.shape[1] + 1)}
        for hops, night in _every(facts.shape[1]):
            there[hops, night] = leads.gather(1, there[hops - 1, night])
        return there

    def _questions(self, context: Tensor) -> Exam:
        """By depth, then by night, then in the order of telling."""
        facts = self.facts(context)
        there, every = self._ancestors(facts), _every(facts.shape[1])
        depth = torch.tensor([hops for hops, _ in every]).repeat_interleave(self.width).expand(len(facts), -1)
        start = torch.cat([there[0, night] for _, night in every], dim=1)
        answers = torch.cat([there[cell] for cell in every], dim=1)
        return Exam(context, torch.stack([self.nodes + depth - 1, start], dim=-1), answers, depth, window=self.window)

    def _examine(self, exam: Exam, generator: torch.Generator) -> Exam:
        """Each context is asked every depth once, from a random node of the last night."""
        nights = int(exam.depth.max())
        start = torch.randint(self.width, (len(exam.depth), nights), generator=generator)
        # the last night's nodes are the last of each depth
        ends = (exam.depth[0][None] <= torch.arange(1, nights + 1)[:, None]).sum(dim=1)
        return exam.pick(start + ends - self.width)

    def _check_context(self, context: Tensor) -> None:
        size = len(context)
        if not size or size % self.window or size > (2 * self.nights - 1) * self.window:
            raise ValueError(
                f"A night has {self.window} tokens, and there are at most {self.nights}; this context of {size} "
                "tokens is no such text."
            )
        if not ((context >= 0) & (context < self.vocab)).all():
            raise ValueError(f"Tokens go from 0 to {self.vocab - 1}; this context has others.")
        self._check_windows(context.unflatten(0, (-1, self.width, 3)))
        known: set[int] = set()
        latest: set[int] = set()
        for night, pairs in enumerate(self.facts(context[None])[0].tolist(), 1):
            new, before = {x for x, _ in pairs}, {y for _, y in pairs}
            if len(new) < self.width or len(before) < self.width or max(new | before) >= self.nodes:
                raise ValueError(f"Night {night} needs {self.width} different nodes, each leading to one of its own.")
            if new & (known | before):
                raise ValueError(f"Node {min(new & (known | before))} is told of twice; every night has new nodes.")
            if known and not before <= latest:
                raise ValueError(f"Night {night} leads to node {min(before - latest)}, not one of the night before.")
            known, latest = known | new | before, new

    def _check_windows(self, windows: Tensor) -> None:
        """Each is a day's facts, ended by fillers, or the notes of the day before it."""
        noted = windows[:, 0, 0] >= self.nodes
        days = (~noted).cumsum(0)
        hops = windows[..., 0] - self.nodes + 1
        ended = (windows[..., 2] == self.filler).all(dim=1)
        named = (windows[..., 1:] < self.nodes).all(dim=2).all(dim=1)
        sound = torch.where(noted, (hops == days[:, None]).all(dim=1) & named, ended)
        if noted[0] or (noted[1:] & noted[:-1]).any() or not sound.all():
            raise ValueError(
                "A context has a window of facts for each night, each fact ended by a filler, and behind it its notes "
                "or none, each with the hops of that night; this one has not."
            )


class NightsThinking(Thinking, Nights):
    """`Nights` with R steps of thought before each answer, see `Thinking`.

    Example (the thought is 1, one hop on from 4):

    >>> task = NightsThinking(width=2, nights=2, queries=1, thoughts=1)
    >>> print(task.describe(task.lesson(1, torch.Generator().manual_seed(1), 2, thought=1)))
    tokens 5 0 _ 1 3 _ | 2 5 _ 4 1 _ | !1 +2 4 1 3
    labels . . . . . . | . . . . . . |  .  . 1 3 .
    depth  . . . . . . | . . . . . . |  .  . 2 2 .

    Args:
        width, nights, queries: of `Nights`; `queries` is how many there are at R = 0.
        trace: what a step of thought is, one of `TRACES`.
        thoughts: the largest R.

    Raises:
        TypeError, ValueError: a parameter is of the wrong type or out of range.
    """

    name = "nights-thinking"

    def __init__(
        self, width: int = 5, nights: int = 6, queries: int = 8, trace: str = "single", thoughts: int = 1
    ) -> None:
        super().__init__(width, nights, queries)
        self._think(trace, thoughts, piece=1)

    def lesson(self, batch_size: int, generator: torch.Generator, depth: int, thought: int = 0) -> Batch:
        """As that of `Nights`, with R steps of thought before each answer."""
        context, nights = self._told(batch_size, generator, depth)
        return self._sequences(context, nights, DEEPEST_EXTRA, generator, thought)

    def _at_depth(self, exam: Exam, depth: Tensor) -> Tensor:
        return walked(self._leads(self.facts(exam.context)), exam, depth)


def _every(nights: int) -> list[tuple[int, int]]:
    """Every number of hops with every night that lies at least as many after the first day."""
    return [(hops, night) for hops in range(1, nights + 1) for night in range(hops, nights + 1)]
