"""Tasks whose questions may be thought over: between a question and its answer come R steps of thought."""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from .base import DEEPEST_EXTRA, IGNORE, Batch, Exam, Task, whole, whole_windows
from .depo import Depo, successors
from .rule110 import Rule110

TRACES = ("even", "single", "filler", "loops")
"""What a step of thought is.

even: written, the i-th of R stands at depth ceil(k i / (R + 1)) of a question of depth k, so that all leaps are alike.
single: written, the i-th stands at depth min(i, k); the last leap, to the answer, is what is left.
filler: a token without content: more computation, and nothing written.
loops: nothing is written; the model reads the question R times more before it answers.
"""


def written_depths(trace: str, depth: Tensor, thought: int) -> Tensor:
    """``[..., R]`` at which depths the R steps of thought of questions of these depths ``[...]`` stand."""
    step = torch.arange(1, thought + 1, device=depth.device)
    if trace == "single":
        return torch.minimum(step.expand(*depth.shape, -1), depth[..., None])
    return -((-depth[..., None] * step) // (thought + 1))


def leaps(trace: str, depth: int, thought: int) -> list[int]:
    """How long the leaps are, from one written step to the next and at last to the answer."""
    stands = [0, *written_depths(trace, torch.tensor(depth), thought).tolist(), depth]
    return [after - before for before, after in pairwise(stands)]


def walked(successor: Tensor, exam: Exam, depth: Tensor) -> Tensor:
    """``[n, Q, w, 1]`` the nodes so many hops ``[n, Q, w]`` on from those that an exam asks about.

    `successor` ``[n, nodes]`` says to which node each one leads.
    """
    there = [torch.arange(successor.shape[1], device=successor.device).expand_as(successor)]
    for _ in range(int(depth.max()) if depth.numel() else 0):
        there.append(successor.gather(1, there[-1]))
    rows = torch.arange(len(successor), device=successor.device)[:, None, None]
    return torch.stack(there)[depth, rows, exam.questions[..., -1:]][..., None]


class Thinking(Task):
    """What `DepoThinking` and `Rule110Thinking` share: how thoughts are announced, written and laid out.

    Question: ``think_R`` and the question's own tokens; then, for a written trace, R steps of thought of `piece`
    tokens each, for fillers R filler tokens, for loops nothing; in training the answer follows. All written tokens
    and the answer are asked for. Sequences of one task have one length, whatever R: with more thought they hold
    fewer questions, and what is left at the end is filled up.

    Attributes:
        trace: one of `TRACES`.
        thoughts: the largest R.
        piece: tokens of one written step.
        filler: the token without content.
    """

    trace: str
    piece: int

    def _think(self, trace: str, thoughts: int, piece: int) -> None:
        """Add thinking to a task that is otherwise made: its tokens come after all others."""
        if trace not in TRACES:
            raise ValueError(f"trace is {trace!r}; it should be one of {', '.join(TRACES)}.")
        whole("thoughts", thoughts, 0)
        self.trace, self.thoughts, self.piece = trace, thoughts, piece if trace in ("even", "single") else 1
        self.first = self.vocab  # think_0
        self.filler = self.first + thoughts + 1
        self.vocab = self.filler + 1
        self.params |= {"trace": trace, "thoughts": thoughts}

    @abstractmethod
    def _at_depth(self, exam: Exam, depth: Tensor) -> Tensor:
        """``[n, Q, w, piece]`` what stands at these depths ``[n, Q, w]`` of the exam's questions."""

    @property
    def writes(self) -> bool:
        """Whether steps of thought are tokens with content."""
        return self.trace in ("even", "single")

    def token_name(self, token: int) -> str:
        """As without thinking; "think R" is !R and the filler an underscore."""
        whole("token", token, 0, self.vocab - 1)
        if token < self.first:
            return super().token_name(token)  # type: ignore[safe-super]
        return "_" if token == self.filler else f"!{token - self.first}"

    def announced(self, exam: Exam, thought: int) -> Exam:
        """The same exam with R announced in every question: what stands in front of a written trace."""
        whole("thought", thought, 0, self.thoughts)
        questions = exam.questions.clone()
        questions[..., 0] = self.first + thought
        return dataclasses.replace(exam, questions=questions)

    def written(self, exam: Exam, thought: int) -> Tensor:
        """``[n, Q, R, piece]`` the right steps of thought for each question; fillers where nothing is written.

        For loops R is 0: no token stands for them.
        """
        whole("thought", thought, 0, self.thoughts)
        if self.trace == "loops":
            return exam.questions[:, :, :0, None]
        if self.trace == "filler":
            return torch.full_like(exam.questions[:, :, :1], self.filler)[..., None].expand(-1, -1, thought, 1)
        return self._at_depth(exam, written_depths(self.trace, exam.depth, thought))

    def _questions(self, context: Tensor) -> Exam:
        exam = super()._questions(context)  # type: ignore[safe-super]
        head = torch.full_like(exam.questions[..., :1], self.first)
        return dataclasses.replace(exam, questions=torch.cat([head, exam.questions], dim=-1))

    def lesson(self, batch_size: int, generator: torch.Generator, depth: int, thought: int = 0) -> Batch:
        """As every task's, with R steps of thought before each answer; fewer questions, equally many tokens."""
        self._check_draw("batch_size", batch_size, generator)
        whole("depth", depth, 1, self.max_depth)
        context = self._contexts(batch_size, generator, held_out=False)
        return self._sequences(context, depth, DEEPEST_EXTRA, generator, thought)

    def _sequences(
        self, context: Tensor, depth: int, extra: float, generator: torch.Generator, thought: int = 0
    ) -> Batch:
        whole("thought", thought, 0, self.thoughts)
        asks = self._questions(context[:1]).questions.shape[-1]
        each = asks + 1 + (0 if self.trace == "loops" else thought * self.piece)
        count = min(self.queries, self._tail(asks) // each)
        asked = self.announced(self._drawn(context, depth, extra, generator, count), thought)
        return self._laid_out(context, asked, thought)

    def _tail(self, asks: int) -> int:
        """How long questions of `asks` tokens with all that follows them may be, in a training sequence."""
        return max(self.queries * (asks + 1), asks + self.thoughts * self.piece + 1)

    def _laid_out(self, context: Tensor, asked: Exam, thought: int) -> Batch:
        """Contexts, then these questions, announced, with thoughts and answers; what is left is filled up."""
        asks = asked.questions.shape[-1]
        tail = torch.cat([asked.questions, self.written(asked, thought).flatten(2), asked.answers[..., None]], dim=-1)
        labels, depths = torch.full_like(tail, IGNORE), torch.zeros_like(tail)
        first = asks - 1 if self.writes else tail.shape[-1] - 2  # from there on the next token is asked for
        labels[..., first:-1] = tail[..., first + 1 :]
        depths[..., first:-1] = asked.depth[..., None]

        def joined(front: Tensor, part: Tensor, empty: int) -> Tensor:
            part = part.flatten(1)
            return torch.cat([front, F.pad(part, (0, self._tail(asks) - part.shape[1]), value=empty)], dim=1)

        return Batch(
            joined(context, tail, self.filler),
            joined(torch.full_like(context, IGNORE), labels, IGNORE),
            joined(torch.zeros_like(context), depths, 0),
            context=context.shape[1],
            window=self.window,
            loops=thought if self.trace == "loops" else 0,
        )


class DepoThinking(Thinking, Depo):
    """`Depo` with R steps of thought before each answer: nodes on the way, fillers, or further loops.

    Example (``!1`` announces one step of thought; 2 hops on from 2 lies 3, and the thought is 0, halfway):

    >>> task = DepoThinking(nodes=4, hops=2, queries=1, thoughts=1, ended=False)
    >>> print(task.describe(task.lesson(1, torch.Generator().manual_seed(3), 2, thought=1)))
    tokens 3 1 0 3 2 0 1 2 | !1 +2 2 0 3
    labels . . . . . . . . |  .  . 0 3 .
    depth  . . . . . . . . |  .  . 2 2 .

    Args:
        nodes, hops, queries, window: of `Depo`; `queries` is how many there are at R = 0, and a window holds whole
            edges.
        trace: what a step of thought is, one of `TRACES`.
        thoughts: the largest R.
        ended: whether a filler follows every edge. Without it the first thing to find out is where edges begin, at
            which a reader of two blocks fails three times in ten after one pass, however many hops are asked.

    Raises:
        TypeError, ValueError: a parameter is of the wrong type or out of range.
    """

    name = "depo-thinking"

    def __init__(
        self,
        nodes: int = 16,
        hops: int = 8,
        queries: int = 8,
        window: int | None = None,
        trace: str = "even",
        thoughts: int = 3,
        ended: bool = True,
    ) -> None:
        if not isinstance(ended, bool):
            raise TypeError(f"ended is {ended!r}; it should be True or False.")
        super().__init__(nodes, hops, queries)
        self.edge = 2 + ended
        self.context = self.edge * nodes
        self.window = whole_windows(window, self.context, "edge", self.edge)
        self._think(trace, thoughts, piece=1)
        self.params |= {"window": self.window, "ended": ended}

    def encode(self, text: str) -> Tensor:
        """As `Depo.encode`, with the ends of edges where there are such."""
        return self._ended(super().encode(text))

    def decode(self, context: Tensor) -> str:
        """As `Depo.decode`."""
        self._check_context(context)
        return Depo.decode_edges(self._edges(context))

    def held_out(self, context: Tensor) -> Tensor:
        """As `Depo.held_out`, of contexts with the ends of their edges or without."""
        return super().held_out(context if context.shape[-1] == 2 * self.nodes else self._edges(context))

    def _ended(self, edges: Tensor) -> Tensor:
        """``[..., 2m]`` to ``[..., edge * m]``."""
        pairs = edges.unflatten(-1, (-1, 2))
        return F.pad(pairs, (0, self.edge - 2), value=self.filler).flatten(-2)

    def _edges(self, context: Tensor) -> Tensor:
        """The other way round than `_ended`."""
        return context.unflatten(-1, (-1, self.edge))[..., :2].flatten(-2)

    def _contexts(self, n: int, generator: torch.Generator, *, held_out: bool) -> Tensor:
        return self._ended(super()._contexts(n, generator, held_out=held_out))

    def _check_context(self, context: Tensor) -> None:
        self._check_edges(context)

    def _check_edges(self, context: Tensor) -> None:
        size = len(context)
        if size == 0 or size % self.edge or ((context[2 :: self.edge] != self.filler).any() and self.edge == 3):
            raise ValueError(
                f"A graph has {self.edge} tokens for each edge{', the last a filler' if self.edge == 3 else ''}; this "
                f"context of {size} tokens has not."
            )
        super()._check_context(context.unflatten(-1, (-1, self.edge))[..., :2].flatten(-2))

    def _questions(self, context: Tensor) -> Exam:
        exam = super()._questions(self._edges(context))
        return dataclasses.replace(exam, context=context)

    def _at_depth(self, exam: Exam, depth: Tensor) -> Tensor:
        return walked(successors(self._edges(exam.context), self.nodes), exam, depth)


class Rule110Thinking(Thinking, Rule110):
    """`Rule110` with R steps of thought before each answer: whole rows on the way, fillers, or further loops.

    Its exams ask about one cell of each step, and not about all: every question is thought over anew.

    Example (the thought is the row after one step, and cell 4 is asked for after two):

    >>> task = Rule110Thinking(width=6, steps=2, queries=2, thoughts=1)
    >>> print(task.describe(task.lesson(1, torch.Generator().manual_seed(4), 2, thought=1)))
    tokens s0 0 0 1 1 1 0 | !1 s0 t2 c4 0 1 1 0 1 0 1
    labels  . . . . . . . |  .  .  .  0 1 1 0 1 0 1 .
    depth   . . . . . . . |  .  .  .  2 2 2 2 2 2 2 .

    Args:
        width, steps, strings, queries: of `Rule110`; `queries` is how many there are at R = 0.
        trace: what a step of thought is, one of `TRACES`; a written one is a row of `width` cells.
        thoughts: the largest R.

    Raises:
        TypeError, ValueError: a parameter is of the wrong type or out of range.
    """

    name = "rule110-thinking"

    def __init__(
        self,
        width: int = 16,
        steps: int = 8,
        strings: int = 1,
        queries: int = 24,
        trace: str = "even",
        thoughts: int = 3,
    ) -> None:
        super().__init__(width, steps, strings, queries)
        self._think(trace, thoughts, piece=width)

    def _examine(self, exam: Exam, generator: torch.Generator) -> Exam:
        """Each instance is asked about every step once, about a random cell of a random string."""
        cells = self.strings * self.width
        which = torch.randint(cells, (len(exam.depth), self.steps), generator=generator)
        # of one string all steps come one after another, and of one step all cells
        string, cell = which // self.width, which % self.width
        return exam.pick((string * self.steps + torch.arange(self.steps)) * self.width + cell)

    def _at_depth(self, exam: Exam, depth: Tensor) -> Tensor:
        pictures = self._pictures(exam.context.view(len(exam.context), self.strings, -1)[:, :, 1:])
        rows = torch.arange(len(pictures), device=pictures.device)[:, None, None]
        return pictures[rows, exam.questions[..., 1:2] - 2, depth]
