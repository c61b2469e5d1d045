"""A needle in a haystack: a fact or a few, hidden in much text, to be recalled at the end."""

from __future__ import annotations

import functools
import re
import zlib
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .base import Batch, Exam, Task, whole
from .text import paragraphs

WORDS, KEYS, VALUES = 256, 256, 64
"""Ids of haystack words, keys and values. A word's id is a hash of it, so any text can be read; some share one."""

HAYS = {"passkey": ("noise", "number"), "number": ("text", "number"), "word": ("text", "word")}
"""For each variant what it is hidden in, and what its value is; after S-NIAH as in Titans' table 2."""

_NOISE = "The lake lies still . The hill is steep . A boat comes home . Rain is near . We wait and then we go on ."
PIECE_OF_TEXT = r"[A-Za-z]+|[0-9]+|[^\sA-Za-z0-9]+"
"""What is one word of a haystack: letters, digits, or other signs in a row."""
_PIECE = re.compile(rf"(?P<fact>\bk[0-9]+=v[0-9]+\b|\bw[0-9]+=w[0-9]+\b)|(?P<id>\bw[0-9]+\b)|{PIECE_OF_TEXT}")


class Needle(Task):
    """Facts "this key, this value" hidden in a haystack, then the question "what was the value of this key?".

    The variants are those of S-NIAH (RULER, arXiv 2404.06654) as Titans (arXiv 2501.00663, table 2) uses them, at the
    scale of one token for a key and for a value. "passkey": a few sentences repeated over and over, and a number.
    "number": real text, and a number. "word": real text, and keys and values that are words of that text too. The text
    is the language reference that comes with Python (``pydoc_data.topics``), which differs a little from one version of
    Python to the next; a hash keeps one paragraph in four for exams, so that training does not meet their text. Facts
    are drawn anew for every context, and the noise is the same for all.

    Lessons may mix variants: with "passkey+number" every row is of one or the other. With ``shorter=True`` a lesson
    is one window long, or two, four, ... up to the whole length: there are short texts to begin with. With
    ``fewer=True`` it holds all the facts, or a quarter of them, or a quarter of that ...: a memory that was taught with
    sixteen facts alone can lose a single one (data/LOG.md).

    Tokens: haystack word i is i; then the mark that begins a fact; then keys (k0 ...) and values (v0 ...). Context:
    haystack with facts ``mark key value`` at random places. Question: ``mark key``, asked at the key; in training the
    value follows. All questions have depth 1.

    Example (``w`` and a number is a word of the haystack, ``!`` the mark):

    >>> task = Needle(length=12, needles=2, variant="passkey")
    >>> print(task.describe(task.batch(1, torch.Generator().manual_seed(1))))
    tokens w66 w230 w135 ! k25 v45 w151 ! k47 v3 w220 w66 | ! k25 v45 ! k47 v3
    labels   .    .    . .   .   .    . .   .  .    .   . | . v45   . .  v3  .
    depth    .    .    . .   .   .    . .   .  .    .   . | .   1   . .   1  .

    Args:
        length: tokens of a context, facts included.
        needles: facts in it.
        variant: "passkey", "number" or "word"; for lessons also several of them, joined by "+".
        shorter: lessons may be shorter, by half, again and again, down to one window.
        fewer: lessons may hold fewer facts, a quarter, again and again, as long as one is left.
        queries: questions per training sequence, at most `needles` and by default as many.
        window: tokens per window, any number up to `length`; by default one window holds everything.

    Raises:
        TypeError: a size is not a whole number.
        ValueError: a parameter is out of range.
    """

    name = "needle"

    def __init__(
        self,
        length: int = 256,
        needles: int = 4,
        variant: str = "passkey",
        queries: int | None = None,
        window: int | None = None,
        *,
        shorter: bool = False,
        fewer: bool = False,
    ) -> None:
        whole("length", length, 3)
        whole("needles", needles, 1, min(KEYS, length // 3))
        self.variants = variant.split("+") if isinstance(variant, str) else []
        if not self.variants or not set(self.variants) <= set(HAYS):
            raise ValueError(
                f"variant is {variant!r}; it should be one of {', '.join(HAYS)}, or for lessons some joined by +."
            )
        window = length if window is None else whole("window", window, 1, length)
        for name, value in (("shorter", shorter), ("fewer", fewer)):
            if not isinstance(value, bool):
                raise TypeError(f"{name} is {value!r}; it should be True or False.")
        if shorter and (window << (length // window).bit_length() - 1 != length or 3 * needles > window):
            raise ValueError(
                f"For shorter lessons length={length} must be window={window} times 1, 2, 4, 8 ..., and the {needles} "
                "facts must fit into one window."
            )
        queries = needles if queries is None else whole("queries", queries, 1, needles)
        params = {"length": length, "needles": needles, "variant": variant, "queries": queries, "window": window}
        params |= {"shorter": shorter, "fewer": fewer}
        vocab = WORDS + 1 + KEYS + VALUES
        super().__init__(params=params, vocab=vocab, max_depth=1, window=window, context=length, queries=queries)
        self.length, self.needles, self.variant, self.shorter, self.fewer = length, needles, variant, shorter, fewer
        self.mark, self.first_key, self.first_value = WORDS, WORDS + 1, WORDS + 1 + KEYS

    def chance(self, depth: int = 1) -> float:
        """1 / the number of values, or of words where values are words; of several variants the mean."""
        whole("depth", depth, 1, 1)
        chances = [1 / (WORDS if HAYS[variant][1] == "word" else VALUES) for variant in self.variants]
        return sum(chances) / len(chances)

    def floor(self, depth: int = 1) -> float:
        """The same: without the context every value is as likely."""
        return self.chance(depth)

    def token_name(self, token: int) -> str:
        """Words as w0, keys as k0, values as v0, the mark as an exclamation mark."""
        whole("token", token, 0, self.vocab - 1)
        if token < WORDS:
            return f"w{token}"
        if token == self.mark:
            return "!"
        return f"k{token - self.first_key}" if token < self.first_value else f"v{token - self.first_value}"

    def encode(self, text: str) -> Tensor:
        """Context tokens of a typed text of any length, with facts anywhere in it: ``k3=v5``, or ``w3=w5`` of words.

        ``w17`` is the word with that id; any other word gets its own.

        Raises:
            TypeError: text is not a string.
            ValueError: there is no fact in it, or a key, value or word is unknown; it says which.
        """
        if not isinstance(text, str):
            raise TypeError(f"What is typed should be text, such as It rains k3=v5; this is {type(text).__name__}.")
        tokens: list[int] = []
        for piece in _PIECE.finditer(text):
            if piece["fact"]:
                tokens += [self.mark, *map(self._named, piece["fact"].split("="))]
            else:
                tokens.append(self._named(piece["id"]) if piece["id"] else word_id(piece[0]))
        if self.mark not in tokens:
            raise ValueError("There is no fact in this text; type one, such as k3=v5, anywhere in it.")
        return torch.tensor(tokens, dtype=torch.int64)

    def decode(self, context: Tensor) -> str:
        """The text of a context, words as ``w17``: what ``encode`` turns back into it."""
        self._check_context(context)
        names = [self.token_name(int(token)) for token in context]
        return re.sub(r"! (\S+) (\S+)", r"\1=\2", " ".join(names))

    def _named(self, name: str) -> int:
        first, count = {"w": (0, WORDS), "k": (self.first_key, KEYS), "v": (self.first_value, VALUES)}[name[0]]
        if int(name[1:]) >= count:
            raise ValueError(f"There is no {name}; they go from {name[0]}0 to {name[0]}{count - 1}.")
        return first + int(name[1:])

    def encode_question(self, key: int) -> Tensor:
        """Tokens [2] of "what was the value of this key?"."""
        return torch.tensor([self.mark, self.first_key + whole("key", key, 0, KEYS - 1)], dtype=torch.int64)

    def _check_context(self, context: Tensor) -> None:
        tokens = context.tolist()
        stranger = next((token for token in tokens if not 0 <= token < self.vocab), None)
        if stranger is not None:
            raise ValueError(f"Token {stranger} is unknown; tokens go from 0 to {self.vocab - 1}.")
        if self.mark not in tokens or self.mark in tokens[-2:]:
            raise ValueError("There is no whole fact (mark, key, value) in this context, so nothing can be asked.")
        keys = [key for token, key in pairwise(tokens) if token == self.mark]
        if len(set(keys)) < len(keys):
            twice = next(key for key in keys if keys.count(key) > 1)
            raise ValueError(f"The key {self.token_name(twice)} has two facts; a key has one value.")

    def at_length(self, length: int, needles: int | None = None, variant: str | None = None) -> Needle:
        """The same task with another haystack: longer, with other facts in it, of another variant."""
        needles = self.needles if needles is None else needles
        return Needle(length, needles, self.variant if variant is None else variant, window=min(self.window, length))

    def haystack(self, *, held_out: bool) -> Tensor:
        """All the text there is to hide needles in, of training or of exams, as tokens."""
        return torch.from_numpy(_text(HAYS[self.variants[0]][0], held_out).copy())

    def lesson(self, batch_size: int, generator: torch.Generator, depth: int) -> Batch:
        """A training batch; with ``shorter`` of one window, two, four ..., with ``fewer`` of all facts, a quarter ...,
        each as likely."""
        if not self.shorter and not self.fewer:
            return super().lesson(batch_size, generator, depth)
        self._check_draw("batch_size", batch_size, generator)
        length, needles = self.length, self.needles
        if self.shorter:
            doublings = (self.length // self.window).bit_length()
            length = self.window << int(torch.randint(doublings, (), generator=generator))
        if self.fewer:
            quarterings = (self.needles.bit_length() + 1) // 2
            needles = self.needles >> 2 * int(torch.randint(quarterings, (), generator=generator))
        part = Needle(length, needles, self.variant, min(self.queries, needles), self.window)
        return part.lesson(batch_size, generator, depth)

    def _contexts(self, n: int, generator: torch.Generator, *, held_out: bool) -> Tensor:
        if held_out and len(self.variants) > 1:
            raise ValueError(f"{self.variant} is for lessons; examine one variant at a time, with task.at_length(...).")
        each = [self._hidden(n, generator, *HAYS[variant], held_out) for variant in self.variants]
        if len(each) == 1:
            return each[0]
        drawn = torch.randint(len(each), (n,), generator=generator)
        return torch.stack(each)[drawn, torch.arange(n)]

    def _hidden(self, n: int, generator: torch.Generator, hay: str, value: str, held_out: bool) -> Tensor:
        """Contexts ``[n, C]`` with this kind of value in this haystack."""
        rest = self.length - 3 * self.needles
        source = torch.from_numpy(_text(hay, held_out))
        start = torch.randint(len(source), (n, 1), generator=generator)
        words = source[(start + torch.arange(rest)) % len(source)]
        spread = torch.randint(rest + 1, (n, self.needles), generator=generator).sort(dim=1).values
        first = spread + 3 * torch.arange(self.needles)
        keys = _different(n, self.needles, WORDS if value == "word" else KEYS, generator)
        if value == "word":
            values = torch.randint(WORDS, (n, self.needles), generator=generator)
        else:
            keys = keys + self.first_key
            values = self.first_value + torch.randint(VALUES, (n, self.needles), generator=generator)
        context = torch.full((n, self.length), -1)
        for offset, tokens in enumerate((torch.full_like(keys, self.mark), keys, values)):
            context.scatter_(1, first + offset, tokens)
        context[context < 0] = words.flatten()  # row by row, in order
        return context

    def _questions(self, context: Tensor) -> Exam:
        """Every fact, in the order of the context; all contexts hold equally many."""
        places = (context == self.mark).nonzero()[:, 1].view(len(context), -1)
        keys, values = (context.gather(1, places + offset) for offset in (1, 2))
        questions = torch.stack([torch.full_like(keys, self.mark), keys], dim=-1)
        return Exam(context, questions, values, torch.ones_like(keys), window=self.window)


def documents(n: int, count: int, length: int, generator: torch.Generator) -> Exam:
    """Streams of short documents, one fact in each, of held-out text; a window is a document.

    Args:
        n: streams.
        count: documents in each, at most 256, since every fact has a key of its own; values are numbers.
        length: tokens of a document, its fact included.

    Returns:
        Contexts ``[n, count * length]``; question and answer i are about document i, and all of depth 1.
    """
    task = Needle(whole("length", length, 3), needles=1, variant="number")
    whole("count", count, 1, KEYS)
    text = torch.from_numpy(_text("text", held_out=True))
    rest = length - 3
    start = torch.randint(len(text), (n, 1), generator=generator)
    words = text[(start + torch.arange(count * rest)) % len(text)].view(n, count, rest)
    keys = task.first_key + _different(n, count, KEYS, generator)
    values = task.first_value + torch.randint(VALUES, (n, count), generator=generator)
    facts = torch.stack([torch.full_like(keys, task.mark), keys, values], dim=-1)
    place = torch.randint(rest + 1, (n, count, 1), generator=generator)
    here = torch.arange(length).expand(n, count, -1)
    inside = (here >= place) & (here < place + 3)
    context = torch.empty(n, count, length, dtype=torch.int64)
    context[inside], context[~inside] = facts.flatten(), words.flatten()
    return Exam(context.flatten(1), facts[..., :2], values, torch.ones_like(keys), window=length)


def word_id(word: str) -> int:
    """The id of a haystack word: a hash that is the same on every machine."""
    return zlib.crc32(word.lower().encode()) % WORDS


@functools.cache
def _text(hay: str, held_out: bool) -> NDArray[np.int64]:
    """The haystack to cut from, as ids."""
    if hay == "noise":
        return np.array([word_id(word) for word in _NOISE.split()], dtype=np.int64)
    words = (word for paragraph in paragraphs(held_out=held_out) for word in re.findall(PIECE_OF_TEXT, paragraph))
    return np.fromiter(map(word_id, words), dtype=np.int64)


def _different(n: int, count: int, kinds: int, generator: torch.Generator) -> Tensor:
    """``[n, count]`` whole numbers below `kinds`, all different in a row."""
    return torch.rand(n, kinds, generator=generator).argsort(dim=1, stable=True)[:, :count]
