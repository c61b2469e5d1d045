"""What every task offers: batches to train on, exams to be judged by, an ear for what a person types.

A sequence has two parts. The *context* (edges of a graph, rows of an automaton, key-value pairs) is what a
model sleeps on, window by window. The *questions* after it are answered awake.

Every draw comes from the ``torch.Generator`` that the caller hands in. No global random state is read or
moved, so equal seeds give bit-equal data.
"""

from __future__ import annotations

import dataclasses
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

IGNORE = -100
"""The label of a position where nothing is asked (what ``torch.nn.functional.cross_entropy`` ignores)."""

HELD_OUT = 8
"""Where a task has so few contexts that training would meet them all, a hash holds one in this many out for exams."""

DEEPEST_EXTRA = 0.25
"""The share of a lesson's questions set aside for its deepest depth, before all share the rest evenly."""


def whole(name: str, value: object, low: int, high: int | None = None) -> int:
    """``value`` if it is an int in ``low..high``; a sentence otherwise (TypeError for bool and float)."""
    expected = f"a whole number of at least {low}" if high is None else f"a whole number from {low} to {high}"
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} is {value!r}; it should be {expected}.")
    if value < low or (high is not None and value > high):
        raise ValueError(f"{name} is {value}; it should be {expected}.")
    return value


def whole_windows(window: int | None, context: int, piece: str, size: int = 2) -> int:
    """The window asked for, or ``context`` for None; refused if it would cut a piece of `size` tokens."""
    if window is None:
        return context
    whole("window", window, size, context)
    if window % size or context % window:
        fits = "even" if size == 2 else f"a multiple of {size}"
        raise ValueError(
            f"window is {window}; it should be {fits}, so that no {piece} is cut, and divide the "
            f"{context} tokens of a context."
        )
    return window


def text_items(text: object, example: str) -> list[str]:
    """What stands on the lines of a typed text (commas and semicolons separate as well), blanks left out."""
    if not isinstance(text, str):
        raise TypeError(f"What is typed should be text, such as {example}; this is {type(text).__name__}.")
    items = [item.strip() for item in re.split(r"[\n,;]", text) if item.strip()]
    if not items:
        raise ValueError(f"Nothing is typed; type one a line, for example {example}.")
    return items


def kept_back(number: NDArray[np.uint64], kind: int) -> Tensor:
    """Which of these numbers (uint64, any shape), each naming a context, are held out for exams: bool.

    A fixed hash of number and kind (multiply, fold the upper half down, twice; uint64 wraps round) decides. So the
    split is the same on every machine and needs no table.
    """
    mixed = number + np.uint64(kind << 56)
    for odd in (0x9E3779B97F4A7C15, 0xD6E8FEB86659FD93):
        mixed = mixed * np.uint64(odd)
        mixed = mixed ^ (mixed >> np.uint64(32))
    return torch.from_numpy(mixed % np.uint64(HELD_OUT) == 0)


def draw_split(
    n: int, draw: Callable[[int], Tensor], held_out: Callable[[Tensor], Tensor], *, from_held_out: bool
) -> Tensor:
    """n rows of what draw(m) gives, only those of one side of a split; held_out(rows) says which are on the other."""
    kept: list[Tensor] = []
    missing = n
    share = 1 / HELD_OUT if from_held_out else 1 - 1 / HELD_OUT
    while missing > 0:
        tried = draw(int(missing / share * 1.1) + 16)
        kept.append(tried[held_out(tried) == from_held_out][:missing])
        missing -= len(kept[-1])
    return torch.cat(kept)


@dataclass(frozen=True, eq=False)
class Batch:
    """Training sequences whose questions follow one another.

    Attributes:
        tokens: [B, T] int64.
        labels: [B, T] int64, not shifted: labels[t] is the target of logits[t]; ``IGNORE`` where nothing is
        asked.
        depth: [B, T] int64, hops or steps of an asked position, else 0.
        context: how many tokens in front are context.
        window: how many tokens at most are read before a sleep.
        loops: how many times more the questions are read before they are answered.
    """

    tokens: Tensor
    labels: Tensor
    depth: Tensor
    context: int
    window: int
    loops: int = 0

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on another device."""
        return dataclasses.replace(
            self, tokens=self.tokens.to(device), labels=self.labels.to(device), depth=self.depth.to(device)
        )


@dataclass(frozen=True, eq=False)
class Exam:
    """Contexts with questions, each of which is to be asked alone, from the same slept state.

    All contexts of an exam are asked at the same depths in the same order: depth[0] speaks for every row.

    Attributes:
        context: [n, C] int64.
        questions: [n, Q, Tq] int64; the answer is the target of the logits at a question's last token.
        answers: [n, Q] int64.
        depth: [n, Q] int64, hops or steps of each question.
        window: how many tokens at most are read before a sleep.
    """

    context: Tensor
    questions: Tensor
    answers: Tensor
    depth: Tensor
    window: int

    def to(self, device: torch.device | str) -> Exam:
        """The same exam on another device."""
        return self._each(lambda t: t.to(device))

    def rows(self, start: int, stop: int) -> Exam:
        """The contexts from `start` up to `stop`, with their questions."""
        return self._each(lambda t: t[start:stop])

    def _each(self, change: Callable[[Tensor], Tensor]) -> Exam:
        tensors = ("context", "questions", "answers", "depth")
        changed: dict[str, Any] = {name: change(getattr(self, name)) for name in tensors}
        return dataclasses.replace(self, **changed)

    def pick(self, index: Tensor) -> Exam:
        """The same contexts asked only some of their questions, index [n, q] int64 into Q, row by row."""
        wide = index.unsqueeze(-1).expand(-1, -1, self.questions.shape[-1])
        return dataclasses.replace(
            self,
            questions=self.questions.gather(1, wide),
            answers=self.answers.gather(1, index),
            depth=self.depth.gather(1, index),
        )

    def at(self, depths: Iterable[int]) -> Exam:
        """The same contexts asked only the questions of these depths, in the order they have here."""
        wanted = torch.tensor(list(depths), dtype=torch.int64, device=self.depth.device)
        index = torch.isin(self.depth[0], wanted).nonzero().squeeze(1)
        return self.pick(index.expand(self.depth.shape[0], -1))


class Task(ABC):
    """A source of sequences whose answers are known.

    A subclass says how contexts are drawn (``_contexts``) and what can be asked of one (``_questions``); from
    these two come training batches, lessons of a curriculum and exams, so that all three mean the same by a
    question.

    Attributes:
        params: the parameters it was made of, as a recipe or a checkpoint's card holds them.
        vocab: number of different tokens.
        max_depth: the deepest question (hops, steps; 1 where questions do not differ in depth).
        window: how many tokens at most are read before a sleep.
        context: length of a full context in tokens.
        queries: questions per training sequence.
        thoughts: the most steps of thought a question may be given; 0 where none can.
    """

    name: ClassVar[str]
    thoughts = 0

    def __init__(
        self, *, params: dict[str, Any], vocab: int, max_depth: int, window: int, context: int, queries: int
    ):
        self.params = params
        self.vocab = vocab
        self.max_depth = max_depth
        self.window = window
        self.context = context
        self.queries = queries

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{key}={value!r}' for key, value in self.params.items())})"

    # What a subclass supplies.

    @abstractmethod
    def chance(self, depth: int) -> float:
        """Accuracy of a uniform guess among the tokens that can be an answer."""

    @abstractmethod
    def floor(self, depth: int) -> float:
        """Best accuracy at this depth of one who knows the rules of the task but has not seen the context."""

    @abstractmethod
    def encode(self, text: str) -> Tensor:
        """Context tokens [C] of what a person typed; a ValueError with a sentence where it does not parse."""

    @abstractmethod
    def decode(self, context: Tensor) -> str:
        """The text of one context [C], which ``encode`` turns back into it."""

    @abstractmethod
    def token_name(self, token: int) -> str:
        """How ``describe`` writes one token."""

    @abstractmethod
    def _contexts(self, n: int, generator: torch.Generator, *, held_out: bool) -> Tensor:
        """n full-size contexts [n, C]; held_out says from which side of the split, where a task has one."""

    @abstractmethod
    def _questions(self, context: Tensor) -> Exam:
        """Everything that can be asked of the contexts [n, C], which are taken to be sound."""

    @abstractmethod
    def _check_context(self, context: Tensor) -> None:
        """Raise a ValueError with a sentence unless the one context [C] could have come from ``encode``."""

    # What all tasks share.

    def questions(self, context: Tensor) -> Exam:
        """Everything that can be asked of contexts [n, C] or of one context [C] (then n is 1).

        Raises:
            TypeError: context is not an int64 tensor.
            ValueError: a row of it is no context of this task.
        """
        if not isinstance(context, Tensor) or context.dtype != torch.int64:
            kind = context.dtype if isinstance(context, Tensor) else type(context).__name__
            raise TypeError(
                f"A context is a tensor of int64 tokens, such as encode() returns; this is {kind}."
            )
        rows = context.unsqueeze(0) if context.dim() == 1 else context
        if rows.dim() != 2 or rows.shape[0] == 0:
            raise ValueError(
                f"Contexts have the shape [C] or [n, C] with n >= 1; this one has {list(context.shape)}."
            )
        for row in rows.cpu():
            self._check_context(row)
        return self._questions(rows)

    def batch(self, batch_size: int, generator: torch.Generator) -> Batch:
        """A training batch of full-size contexts with questions of all depths, evenly."""
        self._check_draw("batch_size", batch_size, generator)
        context = self._contexts(batch_size, generator, held_out=False)
        return self._sequences(context, self.max_depth, 0.0, generator)

    def lesson(self, batch_size: int, generator: torch.Generator, depth: int) -> Batch:
        """A training batch for a curriculum that has come to ``depth``.

        A question has the lesson's depth with probability e + (1 - e) / depth and each shallower one with (1
        - e) / depth, e being ``DEEPEST_EXTRA``: the newest depth is what there is to learn, and the older
        ones must not be forgotten. (Where a context offers too few questions to keep these shares, they
        bend.)
        """
        self._check_draw("batch_size", batch_size, generator)
        whole("depth", depth, 1, self.max_depth)
        context = self._contexts(batch_size, generator, held_out=False)
        return self._sequences(context, depth, DEEPEST_EXTRA, generator)

    def exam(self, n: int, generator: torch.Generator, depths: Sequence[int] | None = None) -> Exam:
        """n held-out instances, drawn with replacement, with every question to be asked alone.

        ``depths`` leaves only the questions of these depths. It changes nothing else: for one seed the
        contexts and the questions that remain are those of the whole exam.
        """
        self._check_draw("n", n, generator)
        for depth in depths or ():
            whole("A depth", depth, 1, self.max_depth)
        if depths is not None and not depths:
            raise ValueError("depths is empty; name at least one depth, or leave it out to ask all of them.")
        context = self._contexts(n, generator, held_out=True)
        exam = self._examine(self._questions(context), generator)
        return exam if depths is None else exam.at(depths)

    def describe(self, batch: Batch, row: int = 0, width: int = 100) -> str:
        """One sequence of a batch in three lines: tokens, labels below, depths below those ('.': none).

        A bar stands between windows and in front of the questions. Lines longer than ``width`` characters are
        folded.
        """
        whole("row", row, 0, batch.tokens.shape[0] - 1)
        lines, folded = ["tokens", "labels", "depth "], []
        tokens, labels, depth = (getattr(batch, name)[row].tolist() for name in ("tokens", "labels", "depth"))
        for t, (token, label, deep) in enumerate(zip(tokens, labels, depth, strict=True)):
            asked = label != IGNORE
            cells = [
                self.token_name(token),
                self.token_name(label) if asked else ".",
                str(deep) if deep else ".",
            ]
            size = max(map(len, cells))
            bar = 0 < t <= batch.context and (t == batch.context or t % batch.window == 0)
            if len(lines[0]) + size + 4 > width:
                folded += [*lines, ""]
                lines = ["      "] * 3
            lines = [
                f"{line}{' |' if bar else ''} {cell:>{size}}" for line, cell in zip(lines, cells, strict=True)
            ]
        return "\n".join([*folded, *lines])

    def _check_draw(self, name: str, count: int, generator: torch.Generator) -> None:
        whole(name, count, 1)
        if not isinstance(generator, torch.Generator) or generator.device.type != "cpu":
            raise TypeError(
                f"generator is {generator!r}; it should be a torch.Generator on the CPU, "
                "for example torch.Generator().manual_seed(0)."
            )

    def _examine(self, exam: Exam, generator: torch.Generator) -> Exam:
        """Which of all questions an exam asks; a task that does not ask them all overrides this."""
        return exam

    def _sequences(self, context: Tensor, depth: int, extra: float, generator: torch.Generator) -> Batch:
        """Contexts [B, C], then ``queries`` questions with their answers, none twice while others are left.

        A question that came twice in a sequence could be answered by looking back at the first answer instead
        of into memory, so questions are drawn without replacement.
        """
        asked = self._drawn(context, depth, extra, generator, self.queries)
        tail = torch.cat([asked.questions, asked.answers.unsqueeze(-1)], dim=-1)  # [B, queries, Tq + 1]
        tokens = torch.cat([context, tail.flatten(1)], dim=1)
        labels, depths = torch.full_like(tokens, IGNORE), torch.zeros_like(tokens)
        length = tail.shape[-1]
        at = slice(context.shape[1] + length - 2, None, length)  # the last token of each question
        labels[:, at] = asked.answers
        depths[:, at] = asked.depth
        return Batch(tokens, labels, depths, context=context.shape[1], window=self.window)

    def _drawn(self, context: Tensor, depth: int, extra: float, generator: torch.Generator, queries: int) -> Exam:
        """So many of the questions down to `depth` for every context, none twice while others are left."""
        everything = self._questions(context).at(range(1, depth + 1))
        count = everything.answers.shape[1]
        shares = torch.full((depth,), (1 - extra) / depth)
        shares[-1] += extra
        group = everything.depth[0] - 1
        weights = (shares / torch.bincount(group, minlength=depth))[group]
        rounds, left = [], queries
        while left:
            take = min(left, count)
            rows = weights.expand(context.shape[0], -1)
            rounds.append(torch.multinomial(rows, take, replacement=False, generator=generator))
            left -= take
        return everything.pick(torch.cat(rounds, dim=1))
